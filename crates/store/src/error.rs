//! What can go wrong with the database and the log.

use std::path::PathBuf;
use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use sqlx::postgres::PgDatabaseError;

use crate::database::Uncommitted;
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
    /// An address of a PostgreSQL database that is none.
    #[error(
        "address of the tables {what}; expected postgres://USER@HOST:PORT/DATABASE, and the password apart from it"
    )]
    Address {
        /// What is wrong with it; shows no password.
        what: String,
    },
    /// No connection to the server of the tables.
    #[error("tables at {place}")]
    Unreachable {
        /// User, server and database.
        place: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// Tables that this release cannot use.
    #[error("tables at {place}: {what}")]
    Schema {
        /// Where.
        place: String,
        /// What is met and what would do.
        what: String,
    },
    /// The connection was lost while a change was stored, and the server could not be asked since what became of it.
    #[error(
        "the database went away in the middle of a commit: it is not known whether the change was stored"
    )]
    Unanswered {
        /// How it was noticed.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database does not answer.
    #[error("the database is away; nothing was stored")]
    Away {
        /// How it was noticed.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// Tables that were opened without a log take rows only.
    #[error("records and positions cannot be stored: the tables were opened without a log")]
    NoLog,
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
            Self::Database { source, .. } | Self::Unreachable { source, .. } => may_pass(source),
            Self::Unanswered { .. } | Self::Away { .. } => true,
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
            | Self::Address { .. }
            | Self::Schema { .. }
            | Self::NoLog
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

impl From<Uncommitted> for StoreError {
    fn from(why: Uncommitted) -> Self {
        match why {
            Uncommitted::Refused(source) => Self::Database {
                what: "commit",
                source,
            },
            Uncommitted::Unanswered(_, source) => Self::Unanswered {
                source: Arc::new(source),
            },
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

/// True if the same statement may succeed later: the server is away or full, the other side of a deadlock has gone on. What a
/// server says about the statement itself it will say again.
pub(crate) fn may_pass(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(refused) = error {
        let Some(refused) = refused.try_downcast_ref::<PgDatabaseError>() else {
            // SQLite refuses for a full disk and a held file.
            return true;
        };
        // Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html; 25P03: the session slept in its
        // transaction; 23514: a partition was dropped in between.
        return is_away(error)
            || matches!(refused.code().get(..2), Some("40" | "55"))
            || matches!(refused.code(), "25P03" | "23514");
    }
    !matches!(
        error,
        sqlx::Error::Configuration(_)
            | sqlx::Error::InvalidArgument(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Migrate(_)
    )
}

/// True if a server cannot be asked at all, whatever the statement: no connection (class 08), no resources (53), it is being
/// stopped or started (57), it has lost its disk (58).
pub(crate) fn is_away(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(refused) = error {
        let refused = refused.try_downcast_ref::<PgDatabaseError>();
        let class = refused.and_then(|refused| refused.code().get(..2));
        return matches!(class, Some("08" | "53" | "57" | "58"));
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
    )
}

/// Names what was tried when the database refuses.
pub(crate) fn db(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { what, source }
}
