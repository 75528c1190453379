//! One process at a time over a folder of the embedded log.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::cli::CliError;

/// Name of the file that is locked; it stays, empty.
const LOCK: &str = "serve.lock";

/// A folder that is ours until this is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct Folder {
    _lock: File,
}

impl Folder {
    /// Takes `dir`, made if absent.
    ///
    /// # Errors
    /// Status 1 if another process has it or it cannot be used.
    pub(crate) fn claim(dir: &Path) -> Result<Self, CliError> {
        let refused = |error: &dyn std::fmt::Display| {
            CliError::Failed(format!(
                "store.dir: {} cannot be used: {error}",
                dir.display()
            ))
        };
        std::fs::create_dir_all(dir).map_err(|e| refused(&e))?;
        let mut open = File::options();
        open.create(true).truncate(false).write(true);
        let lock = open.open(dir.join(LOCK)).map_err(|e| refused(&e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(refused(&"another process serves from it")),
            Err(TryLockError::Error(error)) => Err(refused(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("new");
        let first = Folder::claim(&inner).unwrap();
        let refused = Folder::claim(&inner).unwrap_err();
        assert_eq!(refused.status(), 1);
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(first);
        Folder::claim(&inner).unwrap();
    }
}
