#![doc = include_str!("../README.md")]

mod alone;
mod change;
mod database;
mod decode;
mod embedded;
mod error;
mod kafka;
mod lease;
mod log;
mod open;
mod outbox;
mod position;
mod progress;
mod retain;
mod rows;
mod tables;
mod tail;
pub mod term;
pub mod topic;
mod upsert;
mod writer;

pub use change::Change;
pub use database::{PostgresOptions, TablesIn};
pub use error::{LogError, StoreError};
pub use kafka::{KafkaOptions, TopicFound};
pub use lease::{Candidate, Lease, Tenure};
pub use log::{Log, Subscription};
pub use open::{Keep, Options, Store, migrate, migrate_tables};
pub use position::Position;
pub use rows::ForecastRow;
pub use tables::Tables;
pub use topic::Topic;

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// A record to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to.
    pub topic: Topic,
    /// What it is about (an EVSE, a bid): records of one key stay in order; compaction keeps the newest of each.
    pub key: String,
    /// Contents; nothing here looks inside.
    pub payload: Bytes,
}

/// A record as appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic it was read from.
    pub topic: Topic,
    /// What it is about.
    pub key: String,
    /// Contents.
    pub payload: Bytes,
    /// Part of the topic that its key belongs to; always 0 in the embedded log.
    pub partition: u32,
    /// Place in the partition, from 1, rising.
    pub offset: u64,
    /// When it was appended, by the clock of the store; to the millisecond in Kafka.
    pub appended_at: DateTime<Utc>,
}
