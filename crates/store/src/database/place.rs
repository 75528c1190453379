//! Where the tables are.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::error::StoreError;

/// Where the tables are kept.
#[derive(Debug, Clone)]
pub enum TablesIn {
    /// `shoal.db` in this folder, made if absent.
    Folder(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresOptions),
}

impl From<&Path> for TablesIn {
    fn from(dir: &Path) -> Self {
        Self::Folder(dir.to_owned())
    }
}

impl From<&PathBuf> for TablesIn {
    fn from(dir: &PathBuf) -> Self {
        Self::Folder(dir.clone())
    }
}

impl From<PostgresOptions> for TablesIn {
    fn from(options: PostgresOptions) -> Self {
        Self::Postgres(options)
    }
}

/// A database of a PostgreSQL server and who we are there. Printed without the password.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) connect: Box<PgConnectOptions>,
    shown: String,
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresOptions").field(&self.shown).finish()
    }
}

impl std::fmt::Display for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PostgresOptions {
    /// The database at `url`: `postgres://USER@HOST:PORT/DATABASE`, with `?sslmode=verify-full&sslrootcert=FILE` where the way to
    /// it is not trusted. The password is given apart: an address is shown in messages.
    ///
    /// # Errors
    /// [`StoreError::Address`] if it is not such an address, or holds a password.
    pub fn new(url: &str, password: Option<&str>) -> Result<Self, StoreError> {
        let wrong = |what: String| StoreError::Address { what };
        let address = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or_else(|| wrong("does not begin with postgres://".to_owned()))?;
        let (authority, rest) = address.split_at(address.find(['/', '?']).unwrap_or(address.len()));
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) || rest.contains("password=") {
            return Err(wrong("holds a password".to_owned()));
        }
        let mut connect =
            PgConnectOptions::from_str(url).map_err(|refused| wrong(refused.to_string()))?;
        if user.is_none_or(str::is_empty) && !rest.contains("user=") {
            return Err(wrong("names no user".to_owned()));
        }
        let Some(database) = connect.get_database().map(str::to_owned) else {
            return Err(wrong("names no database".to_owned()));
        };
        if let Some(password) = password {
            connect = connect.password(password);
        }
        let host = connect.get_socket().map_or_else(
            || format!("{}:{}", connect.get_host(), connect.get_port()),
            |socket| socket.display().to_string(),
        );
        let shown = format!("postgres://{}@{host}/{database}", connect.get_username());
        Ok(Self {
            connect: Box::new(connect),
            shown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_is_secret() {
        let options =
            PostgresOptions::new("postgres://shoal@db:5433/pool?sslmode=require", Some("s3"))
                .unwrap();
        assert_eq!(options.to_string(), "postgres://shoal@db:5433/pool");
        let printed = format!("{:?}", TablesIn::from(options));
        assert!(!printed.contains("s3"), "{printed}");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        for (url, expected) in [
            ("mysql://a@b/c", "does not begin with postgres://"),
            ("postgres://a:s3@b/c", "holds a password"),
            ("postgres://a@b/c?password=s3", "holds a password"),
            ("postgres://b/c", "names no user"),
            ("postgres://a@b:x/c", "invalid port"),
        ] {
            let said = PostgresOptions::new(url, None).unwrap_err().to_string();
            assert!(said.contains(expected), "{url}: {said}");
            assert!(!said.contains("s3"), "{url}: {said}");
        }
    }
}
