//! What the library tells on the side: its log, its figures, and which partitions are held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::bearings::Bearings;
use super::{locked, next};
use crate::{Position, Topic};

/// A client that tells only its log, and whether it knows a broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quiet {
    pub(crate) bearings: Arc<Bearings>,
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        erred(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.bearings.read(statistics);
    }
}

/// Lost connections are the library's business: it asks again. They count, and whoever waits too long gets an error.
fn tell(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "kafka: {message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::info!(facility, "kafka: {message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, "kafka: {message}");
        }
    }
}

fn erred(error: &KafkaError, reason: &str) {
    metrics::counter!("shoal_log_connection_errors_total").increment(1);
    tracing::info!(%error, "kafka: {reason}");
}

/// One partition in the hands of a subscription.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    /// Offset of the last record handed out.
    pub(crate) position: u64,
    /// Offset committed by this holder.
    pub(crate) committed: u64,
    /// Offset asked to be committed.
    pub(crate) asked: u64,
    /// Newest offset heard of.
    pub(crate) newest: u64,
    /// Where reading begins, as far as it is known: what the group committed.
    pub(crate) begins: u64,
    /// True until the tables were asked how far its last holder came.
    pub(crate) fresh: bool,
    /// Which time it was given.
    pub(crate) given: u64,
}

impl Part {
    /// What was asked to be committed and is not.
    pub(crate) fn open(&self) -> Option<u64> {
        (self.asked > self.committed).then_some(self.asked)
    }
}

/// What a subscription holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) parts: BTreeMap<u32, Part>,
    /// Times that partitions were given.
    given: u64,
}

impl Held {
    pub(crate) fn position(&self) -> Position {
        let mut position = Position::default();
        for (partition, part) in &self.parts {
            position.advance(*partition, part.position);
        }
        position
    }

    /// Partitions of which it is not known where they begin, and which time each was given.
    pub(crate) fn fresh(&self) -> Vec<(u32, u64)> {
        let fresh = self.parts.iter().filter(|(_, part)| part.fresh);
        fresh
            .map(|(partition, part)| (*partition, part.given))
            .collect()
    }

    pub(crate) fn lag(&self) -> u64 {
        let behind = |part: &Part| part.newest.saturating_sub(part.position.max(part.begins));
        self.parts.values().map(behind).sum()
    }
}

/// Keeps up which partitions a subscription holds.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) topic: Topic,
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) held: Mutex<Held>,
    pub(crate) bearings: Bearings,
}

impl Watch {
    fn given(&self, list: &TopicPartitionList) {
        let mut held = locked(&self.held);
        held.given += 1;
        for element in list.elements() {
            let part = Part {
                fresh: true,
                given: held.given,
                ..Part::default()
            };
            held.parts.insert(element.partition().unsigned_abs(), part);
        }
        tracing::info!(topic = %self.topic, group = self.group, "given {} partitions of {}, holding {}", list.count(), self.topic, held.parts.len());
    }

    /// Commits what was asked for and could not be while the group was shared out, before the partitions go.
    fn settle(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let mut open = TopicPartitionList::new();
        {
            let held = locked(&self.held);
            for element in list.elements() {
                let part = held.parts.get(&element.partition().unsigned_abs());
                if let Some(asked) = part.and_then(Part::open) {
                    let _ = open.add_partition_offset(&self.name, element.partition(), next(asked));
                }
            }
        }
        if open.count() == 0 || self.group.is_none() {
            return;
        }
        if let Err(error) = consumer.commit(&open, CommitMode::Sync) {
            metrics::counter!("shoal_log_commits_lost_total").increment(1);
            tracing::info!(topic = %self.topic, group = self.group, %error, "partitions of {} went before they were committed", self.topic);
        }
    }

    fn taken(&self, list: &TopicPartitionList) {
        let mut held = locked(&self.held);
        for element in list.elements() {
            held.parts.remove(&element.partition().unsigned_abs());
        }
        tracing::info!(topic = %self.topic, group = self.group, "gave back {} partitions of {}, holding {}", list.count(), self.topic, held.parts.len());
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tell(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        erred(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let brokers = statistics.brokers.values();
        self.bearings.look(brokers.map(|b| b.source.as_str()));
        let Some(topic) = statistics.topics.get(&self.name) else {
            return;
        };
        let mut held = locked(&self.held);
        for (partition, part) in &mut held.parts {
            let told = i32::try_from(*partition).ok();
            let Some(told) = told.and_then(|p| topic.partitions.get(&p)) else {
                continue;
            };
            // Negative while it is not known.
            part.newest = part.newest.max(told.hi_offset.max(0).unsigned_abs());
            let begins = told.committed_offset.max(told.lo_offset).max(0);
            part.begins = part.begins.max(begins.unsigned_abs());
        }
    }
}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => {
                self.settle(consumer, list);
                self.taken(list);
            }
            Rebalance::Assign(list) => self.given(list),
            Rebalance::Error(error) => {
                tracing::warn!(topic = %self.topic, group = self.group, "partitions of {} could not be shared out: {error}", self.topic);
            }
        }
    }
}
