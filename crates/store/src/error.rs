//! What can go wrong with the database.

use std::path::PathBuf;

use crate::Topic;

/// A database that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder of the database cannot be made.
    #[error("folder {} for the database", dir.display())]
    Folder {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The schema cannot be brought up to date.
    #[error("migration of the database")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement was refused.
    #[error("database: {what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Why it was refused.
        #[source]
        source: sqlx::Error,
    },
    /// A stored value that no program of ours writes.
    #[error("table {table} holds {value:?} in {column}, which is not a {expected}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// As stored.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// True if the same call may succeed later: the disk was full or the database busy.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database { .. })
    }
}

/// An append, a read or a commit that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Records could not be stored; none of them was.
    #[error("append to the log")]
    Append(#[source] StoreError),
    /// Records could not be read.
    #[error("read of topic {topic} after offset {after}")]
    Read {
        /// Which.
        topic: Topic,
        /// Offset of the last record read before.
        after: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An offset could not be committed.
    #[error("commit of offset {offset} of topic {topic} for group {group}")]
    Commit {
        /// Which.
        topic: Topic,
        /// Whose.
        group: String,
        /// Offset.
        offset: u64,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A subscription without a group has nothing to commit.
    #[error("a subscription to {topic} without a group cannot commit")]
    NoGroup {
        /// Which.
        topic: Topic,
    },
}

impl LogError {
    /// True if the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Append(source) | Self::Read { source, .. } | Self::Commit { source, .. } => {
                source.is_retryable()
            }
            Self::NoGroup { .. } => false,
        }
    }
}

/// Names what was tried when the database refuses.
pub(crate) fn db(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { what, source }
}
