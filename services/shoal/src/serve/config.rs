//! The one file that all services read: a section per service beside what every process has.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::telemetry::Logging;
use serde::Deserialize;

use super::Role;
use crate::cli::CliError;

/// Port of health and metrics, beside that of charge points.
const ADMIN_PORT: u16 = 9221;
/// Longer than any service needs to close its connections, shorter than the half minute after which schedulers kill.
const GRACE_SECONDS: u64 = 20;
/// A longer one is a typing error: nobody waits an hour for a restart.
const LONGEST_GRACE_SECONDS: u64 = 3_600;

/// Settings of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(super) process: Process,
    pub(super) admin: Admin,
    pub(super) store: Embedded,
    pub(super) logging: Logging,
    pub(super) edge: shoal_edge::Config,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Process {
    /// Real time that services get to finish what is in hand.
    pub(super) grace_seconds: u64,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            grace_seconds: GRACE_SECONDS,
        }
    }
}

impl Process {
    pub(super) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    /// Address of `/livez`, `/readyz` and `/metrics`; port 0 takes a free one.
    pub(super) listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)),
        }
    }
}

/// The embedded log and tables. One process at a time has them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Embedded {
    /// Folder of the database, made if absent.
    pub(super) dir: PathBuf,
}

impl Default for Embedded {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("shoal-data"),
        }
    }
}

/// Reads the file and the environment and checks everything that `roles` will use.
///
/// # Errors
/// Status 2 with the file and the key.
pub(super) fn load(file: Option<&Path>, roles: &[Role]) -> Result<Config, CliError> {
    let config: Config = runtime::config::load(file).map_err(|e| input(&e))?;
    let origin = file.map_or_else(|| "configuration".to_owned(), |f| f.display().to_string());
    let refuse = |text: String| Err(CliError::Input(format!("{origin}: {text}")));
    let grace = config.process.grace_seconds;
    if !(1..=LONGEST_GRACE_SECONDS).contains(&grace) {
        return refuse(format!(
            "process.grace_seconds: met {grace}, expected 1 to {LONGEST_GRACE_SECONDS}"
        ));
    }
    for role in roles {
        match role {
            Role::Edge => {
                if let Err(wrong) = config.edge.validate() {
                    let (key, value, expected) = (wrong.key, wrong.value, wrong.expected);
                    return refuse(format!("edge.{key}: met {value}, expected {expected}"));
                }
            }
        }
    }
    Ok(config)
}

/// A refused configuration, with its cause in the text.
fn input(error: &runtime::config::ConfigError) -> CliError {
    CliError::Input(super::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn refused(text: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = load(Some(file.path()), &[Role::Edge]).unwrap_err();
        assert_eq!(error.status(), 2);
        let name = file.path().display().to_string();
        error
            .to_string()
            .strip_prefix(&name)
            .unwrap_or_else(|| panic!("{error} names {name}"))
            .to_owned()
    }

    #[test]
    fn what_cannot_work_is_refused_by_file_and_key() {
        for (text, expected) in [
            ("[edge]\nlisen = 1\n", ": edge.lisen: "),
            (
                "[edge]\nping_seconds = 0\n",
                ": edge.ping_seconds: met 0, expected at least 1",
            ),
            (
                "[process]\ngrace_seconds = 0\n",
                ": process.grace_seconds: met 0, expected 1 to 3600",
            ),
            ("[admin]\nlisten = \"here\"\n", ": admin.listen: "),
            ("[edge\n", ":1: "),
        ] {
            let said = refused(text);
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_the_reason() {
        let error = load(Some(Path::new("nowhere.toml")), &[Role::Edge]).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("nowhere.toml: not readable: "), "{said}");
    }
}
