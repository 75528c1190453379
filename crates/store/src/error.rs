//! What can go wrong with the database and the log.

use std::path::PathBuf;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{Position, Topic};

/// A database or a log that cannot be opened, read or written.
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
    /// A call to Kafka was refused or not answered in time.
    #[error("kafka: {what}")]
    Kafka {
        /// What was tried.
        what: &'static str,
        /// Why it was refused.
        #[source]
        source: Box<KafkaError>,
    },
    /// Topics that are missing or have a number of partitions that does not do.
    #[error("topics of the log: {0}")]
    Topics(String),
    /// A topic that Kafka does not make.
    #[error("topic {name} cannot be made")]
    Topic {
        /// Its full name.
        name: String,
        /// Why not.
        #[source]
        source: Box<KafkaError>,
    },
    /// A topic that is not among those the log was opened with.
    #[error("topic {topic} is not declared")]
    Undeclared {
        /// Which.
        topic: Topic,
    },
    /// A record that is larger than what is declared for its topic; none of its batch after it was appended.
    #[error("record {key:?} for {topic} has {bytes} bytes, expected at most {largest}")]
    TooLarge {
        /// Which.
        topic: Topic,
        /// Which record.
        key: String,
        /// Bytes of its payload.
        bytes: usize,
        /// Most that the topic takes.
        largest: u32,
    },
    /// Another process has taken over the partition: nothing of the change was stored.
    #[error(
        "partition {partition} of {topic} was taken over by another member of {group}; nothing was stored"
    )]
    Fenced {
        /// Which.
        topic: Topic,
        /// Which part of it.
        partition: u32,
        /// Whose.
        group: String,
    },
    /// The log ends before what a group has handled of it: it is not the same log.
    #[error(
        "{group} has handled {topic} up to {partition}:{handled}, but it ends at {end}: the topic was made anew or lost records"
    )]
    Rewritten {
        /// Which.
        topic: Topic,
        /// Which part of it.
        partition: u32,
        /// Whose.
        group: String,
        /// Offset handled.
        handled: u64,
        /// Newest offset.
        end: u64,
    },
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// True if the same call may succeed later: the disk was full, the database busy, a broker away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Database { .. } => true,
            Self::Kafka { source, .. } => !matches!(
                source.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::MessageSizeTooLarge
                        | RDKafkaErrorCode::InvalidRecord
                        | RDKafkaErrorCode::InvalidConfig
                        | RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::ClusterAuthorizationFailed
                        | RDKafkaErrorCode::Fatal
                )
            ),
            Self::Folder { .. }
            | Self::Migrate(_)
            | Self::Corrupt { .. }
            | Self::Topics(_)
            | Self::Topic { .. }
            | Self::Undeclared { .. }
            | Self::TooLarge { .. }
            | Self::Fenced { .. }
            | Self::Rewritten { .. }
            | Self::Closed => false,
        }
    }
}

/// An append, a read or a commit that did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Records could not be stored; the embedded log then holds none of them.
    #[error("append to the log")]
    Append(#[source] StoreError),
    /// Records could not be read.
    #[error("read of topic {topic} after {after}")]
    Read {
        /// Which.
        topic: Topic,
        /// The last records read before.
        after: Position,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An offset could not be committed.
    #[error("commit of {position} of topic {topic} for group {group}")]
    Commit {
        /// Which.
        topic: Topic,
        /// Whose.
        group: String,
        /// Up to where.
        position: Position,
        /// Why.
        #[source]
        source: Box<StoreError>,
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
            Self::Append(source) | Self::Read { source, .. } => source.is_retryable(),
            Self::Commit { source, .. } => source.is_retryable(),
            Self::NoGroup { .. } => false,
        }
    }
}

/// Names what was tried when the database refuses.
pub(crate) fn db(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { what, source }
}
