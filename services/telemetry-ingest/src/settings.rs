//! Settings of the service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Records taken from the log at once: large enough that a backlog of 20 000 a second is no work for the database, small
/// enough that a state is published within tens of milliseconds.
const BATCH: usize = 4_096;

/// Longest time between an event and the table rows that follow from it.
const CHECKPOINT_MS: u64 = 200;

/// Records after which a checkpoint is due whatever the time: bounds what a restart folds again.
const CHECKPOINT_RECORDS: usize = 50_000;

/// Settings of the service, section `[telemetry_ingest]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Records taken from the log at once, at least 1.
    pub batch: usize,
    /// Real milliseconds between checkpoints, 1 to 60 000.
    pub checkpoint_ms: u64,
    /// Records between checkpoints at most, at least 1.
    pub checkpoint_records: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: BATCH,
            checkpoint_ms: CHECKPOINT_MS,
            checkpoint_records: CHECKPOINT_RECORDS,
        }
    }
}

impl Config {
    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first key that cannot work.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |key, what: &str| {
            Err(Error::Config {
                key,
                what: what.to_owned(),
            })
        };
        if self.batch == 0 {
            return refused("batch", "0, expected at least 1");
        }
        if !(1..=60_000).contains(&self.checkpoint_ms) {
            return refused("checkpoint_ms", "expected 1 to 60000");
        }
        if self.checkpoint_records == 0 {
            return refused("checkpoint_records", "0, expected at least 1");
        }
        Ok(())
    }

    pub(crate) fn checkpoint(&self) -> Duration {
        Duration::from_millis(self.checkpoint_ms)
    }
}
