//! The event log on Apache Kafka.
//!
//! Offsets are Kafka's plus one: they start at 1, as those of the embedded log, and what a group commits is the same number
//! as in Kafka, where it names the next record.

mod admin;
mod bearings;
mod context;
mod producer;
mod reader;
mod subscription;
mod taking;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureRecord;
use rdkafka::topic_partition_list::Offset;
use units::Clock;

use self::producer::{Delivery, Producer};
use crate::database::Pool;
use crate::error::{LogError, StoreError};
use crate::topic::{self, Spec};
use crate::{NewRecord, Position, Topic, progress};

pub use self::admin::TopicFound;
pub(crate) use self::admin::made;
pub(crate) use self::subscription::Subscription;

/// How long an append waits for brokers before it is an error: a broker that is started again is not noticed.
const APPEND_WITHIN: Duration = Duration::from_secs(60);

/// How long a question to the cluster waits for its answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Wait for room in the producer's queue of [`QUEUED_RECORDS`].
const ROOM: Duration = Duration::from_millis(2);

/// Records that wait in the producer: a set-point for each of 100 000 EVSEs fits at once.
const QUEUED_RECORDS: &str = "200000";

/// Kibibytes that wait in the producer.
const QUEUED_KIB: &str = "262144";

/// Longest wait for more records to a partition before they are sent. What belongs together is appended together, so that little
/// is won by waiting.
const LINGER_MS: &str = "1";

/// Partitions of a wide topic: a prime-rich number that 2, 3, 4, 6, 8, 12 and 24 replicas share evenly.
const PARTITIONS: u32 = 24;

/// Where Kafka is and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Brokers to begin with, `host:port,host:port`.
    pub brokers: String,
    /// Put before the name of each topic and group, so that several installations share a cluster.
    pub prefix: String,
    /// Partitions of a topic that is spread ([`topic::Spread::Wide`]).
    pub partitions: u32,
    /// Copies of each record; an append waits for all but one of them.
    pub replication: u32,
    /// Topics that there are.
    pub topics: Vec<Spec>,
}

impl KafkaOptions {
    /// The platform's topics on `brokers`, in three copies.
    #[must_use]
    pub fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            prefix: String::new(),
            partitions: PARTITIONS,
            replication: 3,
            topics: topic::ALL.to_vec(),
        }
    }

    fn name(&self, topic: Topic) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Settings that all clients share.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "shoal")
            .set("allow.auto.create.topics", "false")
            // A broker that is started again is back within seconds: ask it that often.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        config
    }
}

/// The log on Kafka. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Kafka(Arc<Inner>);

struct Inner {
    producer: Producer,
    options: KafkaOptions,
    /// Partitions of each topic, as there are.
    partitions: HashMap<Topic, u32>,
    clock: Arc<dyn Clock>,
    /// Where groups commit together with rows.
    tables: Pool,
    held: Mutex<Fences>,
}

/// What this process knows of groups.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// Epoch of each partition that it took. Whoever took it over since has a higher one; one that the group only lost sight of for
    /// a while, as of a broker that was away, is still ours.
    epochs: HashMap<(Topic, String, u32), i64>,
    /// How far their rows say that they have handled a topic.
    committed: HashMap<(Topic, String), Position>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

/// Names what was tried when Kafka refuses.
fn broker(what: &'static str) -> impl FnOnce(KafkaError) -> StoreError {
    move |source| StoreError::Kafka {
        what,
        source: Box::new(source),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kafka {
    /// Asks the cluster for its topics.
    ///
    /// # Errors
    /// [`StoreError::Kafka`] if no broker answers, [`StoreError::Topics`] if one is missing or has too few partitions.
    pub(crate) async fn connect(
        options: KafkaOptions,
        clock: Arc<dyn Clock>,
        tables: Pool,
    ) -> Result<Self, StoreError> {
        let mut config = options.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", APPEND_WITHIN.as_millis().to_string())
            .set("linger.ms", LINGER_MS)
            .set("compression.type", "lz4")
            // As Java's clients do, so that other programs find a key where we put it.
            .set("partitioner", "murmur2_random")
            .set(
                "message.max.bytes",
                (topic::LARGE + admin::OVERHEAD).to_string(),
            )
            .set("queue.buffering.max.messages", QUEUED_RECORDS)
            .set("queue.buffering.max.kbytes", QUEUED_KIB);
        let producer = Producer::new(config)?;
        let asked = (producer.client()?, options.clone());
        let partitions = blocking(move || admin::partitions(asked.0.library(), &asked.1)).await??;
        Ok(Self(Arc::new(Inner {
            producer,
            options,
            partitions,
            clock,
            tables,
            held: Mutex::default(),
        })))
    }

    pub(crate) async fn append(&self, records: &[NewRecord]) -> Result<(), LogError> {
        let now = self.0.clock.now();
        self.start(records, now)
            .await
            .done()
            .await
            .map_err(LogError::Append)
    }

    /// Hands `records` to the producer in their order, stamped with `at`.
    pub(crate) async fn start(&self, records: &[NewRecord], at: DateTime<Utc>) -> Started {
        let mut started = Started::default();
        if let Err(refused) = self.send(records, at, &mut started.waiting).await {
            started.refused = Some(refused);
        }
        started
    }

    async fn send(
        &self,
        records: &[NewRecord],
        at: DateTime<Utc>,
        waiting: &mut Vec<Delivery>,
    ) -> Result<(), StoreError> {
        let client = self.0.producer.client()?;
        for record in records {
            self.fits(record)?;
            let name = self.0.options.name(record.topic);
            let next = FutureRecord::to(&name)
                .key(&record.key)
                .payload(record.payload.as_ref())
                .timestamp(at.timestamp_millis());
            waiting.push(client.send(next).await?);
        }
        metrics::counter!("shoal_log_records_total").increment(records.len() as u64);
        Ok(())
    }

    /// Checks what Kafka would check by the size after compression.
    fn fits(&self, record: &NewRecord) -> Result<(), StoreError> {
        let topic = record.topic;
        let spec = self.0.options.topics.iter().find(|s| s.topic == topic);
        let largest = spec.ok_or(StoreError::Undeclared { topic })?.largest;
        let bytes = record.payload.len();
        if u32::try_from(bytes).is_ok_and(|bytes| bytes <= largest) {
            return Ok(());
        }
        Err(StoreError::TooLarge {
            topic,
            key: record.key.clone(),
            bytes,
            largest,
        })
    }

    pub(crate) fn subscribe(&self, topic: Topic, group: &str) -> Result<Subscription, LogError> {
        Subscription::of_group(self, topic, group)
    }

    pub(crate) fn replay(&self, topic: Topic, from: &Position) -> Result<Subscription, LogError> {
        Subscription::of_all(self, topic, from)
    }

    pub(crate) async fn newest(&self, topic: Topic) -> Result<Position, LogError> {
        self.reach(topic, |(_, newest)| newest).await
    }

    pub(crate) async fn beginning(&self, topic: Topic) -> Result<Position, LogError> {
        self.reach(topic, |(before, _)| before).await
    }

    /// One end of each partition ([`admin::ends`]).
    async fn reach(&self, topic: Topic, of: fn((u64, u64)) -> u64) -> Result<Position, LogError> {
        let (name, partitions) = self.named(topic)?;
        let client = self.0.producer.client();
        let client = client.map_err(|error| reading(topic, error))?;
        let asked = blocking(move || {
            let mut reached = Position::default();
            for partition in 0..partitions {
                let ends = admin::ends(client.library(), &name, partition)?;
                reached.advance(partition, of(ends));
            }
            Ok::<_, KafkaError>(reached)
        });
        let reached = asked.await.map_err(|error| reading(topic, error))?;
        reached.map_err(|error| reading(topic, broker("ends of a topic")(error)))
    }

    /// The further of what Kafka and the tables say.
    pub(crate) async fn committed(&self, topic: Topic, group: &str) -> Result<Position, LogError> {
        let stored = progress::stored(&self.0.tables, topic, group).await;
        let mut position = stored.map_err(|error| reading(topic, error))?;
        let (name, partitions) = self.named(topic)?;
        let mut config = self.0.options.client();
        config.set("group.id", format!("{}{group}", self.0.options.prefix));
        let asked = blocking(move || admin::committed(&config, &name, partitions));
        let in_kafka = asked.await.map_err(|error| reading(topic, error))?;
        position.join(&in_kafka.map_err(|error| reading(topic, error))?);
        Ok(position)
    }

    /// Name and number of partitions of a topic.
    fn named(&self, topic: Topic) -> Result<(String, u32), LogError> {
        let partitions = self.0.partitions.get(&topic);
        let partitions =
            partitions.ok_or_else(|| reading(topic, StoreError::Undeclared { topic }))?;
        Ok((self.0.options.name(topic), *partitions))
    }

    /// Epoch with which this process took a partition for a group.
    pub(crate) fn epoch(&self, topic: Topic, group: &str, partition: u32) -> Option<i64> {
        let key = (topic, group.to_owned(), partition);
        locked(&self.0.held).epochs.get(&key).copied()
    }

    /// A group's rows say that it has handled `topic` up to `position`: its subscription tells Kafka, for those who watch lags.
    pub(crate) fn stored(&self, topic: Topic, group: &str, position: &Position) {
        let mut held = locked(&self.0.held);
        let committed = held.committed.entry((topic, group.to_owned())).or_default();
        committed.join(position);
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    /// The declared topic of that name.
    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        let mut topics = self.0.partitions.keys().copied();
        topics.find(|topic| topic.name() == name)
    }
}

/// Records on their way.
#[derive(Default)]
pub(crate) struct Started {
    waiting: Vec<Delivery>,
    refused: Option<StoreError>,
}

impl Started {
    /// Waits until each is stored or refused; the first refusal.
    pub(crate) async fn done(self) -> Result<(), StoreError> {
        let mut refused = self.refused;
        for delivery in self.waiting {
            if let Err(failed) = delivery.done().await {
                refused.get_or_insert(failed);
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

fn reading(topic: Topic, source: StoreError) -> LogError {
    LogError::Read {
        topic,
        after: Position::default(),
        source,
    }
}

/// Partitions count from 0 and are few.
fn id(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Kafka's name for what follows `offset`.
fn next(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// Calls of the library that wait.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|_| StoreError::Closed)
}
