//! SQLite: one file, one writer.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Pool, schema};
use crate::error::{StoreError, db};

/// Connections that read at the same time.
const READERS: u32 = 4;

/// How long a statement waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(10);

/// Name of the database in its folder.
pub(crate) const FILE: &str = "shoal.db";

impl Pool {
    /// Writes and reads of `dir/shoal.db`, made if absent, with the schema brought up to date.
    pub(crate) async fn in_folder(dir: &Path) -> Result<(Self, Self), StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Folder {
            dir: dir.to_owned(),
            source,
        })?;
        let file = SqliteConnectOptions::new()
            .filename(dir.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY);
        let writer = pool(1)
            .connect_with(file.clone())
            .await
            .map_err(db("open"))?;
        schema::sqlite(&writer).await?;
        let readers = pool(READERS)
            .connect_with(file.read_only(true))
            .await
            .map_err(db("open for reading"))?;
        Ok((Self::Sqlite(writer), Self::Sqlite(readers)))
    }

    /// A database that is gone with its last clone; one connection.
    pub(crate) async fn in_memory() -> Result<Self, StoreError> {
        let shared = pool(1)
            .connect("sqlite::memory:")
            .await
            .map_err(db("open"))?;
        schema::sqlite(&shared).await?;
        Ok(Self::Sqlite(shared))
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    // A database in memory is gone with its connection: it is never closed for age or idleness.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}
