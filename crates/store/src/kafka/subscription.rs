//! One reader of one topic in Kafka.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use futures_util::FutureExt as _;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::bearings::{Bearings, FIGURES_MS};
use super::context::{Held, Part, Watch};
use super::reader::Reader;
use super::taking::Taking;
use super::{Kafka, broker, id, locked, next, reading};
use crate::error::{LogError, StoreError};
use crate::{Position, Record, Topic};

/// A reader that died is replaced by the others of its group after this time.
const SESSION_MS: &str = "10000";

/// Signs of life within that time: three.
const HEARTBEAT_MS: &str = "3000";

/// Wait before the next attempt to read, or to ask where to begin.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Kibibytes read ahead of the reader; one plan of a large fleet may be larger and passes.
const AHEAD_KIB: &str = "32768";

/// Attempts to commit while the group shares out its partitions anew, and the wait between them. What is still open then is
/// committed with what comes next, or before the partition goes.
const COMMIT_ATTEMPTS: u32 = 5;
const COMMIT_AGAIN: Duration = Duration::from_millis(100);

/// How long a commit is waited for. A broker answers what one connection asks in turn, and our rejoining of the group only when each
/// other reader has rejoined: a commit behind it waits for the slowest of them, for minutes if that one does not read.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Subscription {
    log: Kafka,
    topic: Topic,
    name: String,
    group: Option<String>,
    consumer: Arc<Reader>,
    /// Read and not handed out: the tables are being asked where to begin.
    ready: VecDeque<Record>,
    /// Where partitions begin is being asked for.
    asking: Option<AbortOnDropHandle<Result<(), LogError>>>,
    /// A commit that the broker has not answered.
    committing: Option<Committing>,
}

/// A commit on its way.
struct Committing {
    told: Position,
    answer: oneshot::Receiver<Result<(), KafkaError>>,
    /// True once it was waited for in vain: others go on without it.
    late: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// Shares the partitions of `topic` with the other subscriptions of `group`.
    pub(super) fn of_group(log: &Kafka, topic: Topic, group: &str) -> Result<Self, LogError> {
        let this = Self::new(log, topic, Some(group))?;
        this.consumer
            .subscribe(&[&this.name])
            .map_err(|refused| reading(topic, broker("subscription")(refused)))?;
        Ok(this)
    }

    /// Reads all partitions after `from`.
    pub(super) fn of_all(log: &Kafka, topic: Topic, from: &Position) -> Result<Self, LogError> {
        let this = Self::new(log, topic, None)?;
        let (_, partitions) = log.named(topic)?;
        let mut list = TopicPartitionList::new();
        {
            let mut held = locked(&this.consumer.context().held);
            for partition in 0..partitions {
                let position = from.of(partition);
                list.add_partition_offset(&this.name, id(partition), next(position))
                    .map_err(|refused| reading(topic, broker("position")(refused)))?;
                let part = Part {
                    position,
                    newest: position,
                    ..Part::default()
                };
                held.parts.insert(partition, part);
            }
        }
        this.consumer
            .assign(&list)
            .map_err(|refused| reading(topic, broker("position")(refused)))?;
        Ok(this)
    }

    fn new(log: &Kafka, topic: Topic, group: Option<&str>) -> Result<Self, LogError> {
        let (name, _) = log.named(topic)?;
        let mut config = log.0.options.client();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A reader that fell behind further than what is kept goes on with the oldest record left.
            .set("auto.offset.reset", "earliest")
            // A byte that changed on the way or on a broker's disk is an error, not a record.
            .set("check.crcs", "true")
            .set("statistics.interval.ms", FIGURES_MS)
            .set("queued.max.messages.kbytes", AHEAD_KIB)
            // Reading ahead goes on as soon as there is room.
            .set("fetch.queue.backoff.ms", "10");
        let named = group.map(|group| format!("{}{group}", log.0.options.prefix));
        if let Some(group) = &named {
            config
                .set("group.id", group)
                // Whoever keeps a partition reads on without a break while others come and go.
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", SESSION_MS)
                .set("heartbeat.interval.ms", HEARTBEAT_MS);
        } else {
            // The library asks for a name though it never uses it: partitions are taken by hand.
            config.set("group.id", format!("{name}.reader"));
        }
        let watch = Watch {
            topic,
            name: name.clone(),
            group: group.map(str::to_owned),
            held: std::sync::Mutex::new(Held::default()),
            bearings: Bearings::default(),
        };
        let consumer = config
            .create_with_context(watch)
            .map_err(|refused| reading(topic, broker("reader")(refused)))?;
        Ok(Self {
            log: log.clone(),
            topic,
            name,
            group: group.map(str::to_owned),
            consumer: Arc::new(Reader::new(consumer)),
            ready: VecDeque::new(),
            asking: None,
            committing: None,
        })
    }

    /// Waits for brokers, and for the tables, as long as they are away.
    pub(crate) async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        self.tell_stored();
        loop {
            let consumer = Arc::clone(&self.consumer);
            let read = tokio::select! {
                biased;
                read = self.batch(max) => read,
                () = consumer.context().bearings.lost() => {
                    self.begin_anew()?;
                    continue;
                }
            };
            match read {
                Err(error) if error.is_retryable() => {
                    metrics::counter!("shoal_log_reads_again_total").increment(1);
                    tracing::warn!(topic = %self.topic, %error, "{} is read again: {error}", self.topic);
                    tokio::time::sleep(READ_AGAIN).await;
                }
                done => return done,
            }
        }
    }

    /// Reads on with a new client; a group as after any absence, from where it has stored or committed. What was handed out and is
    /// neither is handed out again.
    fn begin_anew(&mut self) -> Result<(), LogError> {
        let position = self.position();
        *self = match &self.group {
            Some(group) => Self::of_group(&self.log, self.topic, group)?,
            None => Self::of_all(&self.log, self.topic, &position)?,
        };
        Ok(())
    }

    async fn batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            if self.ready.is_empty() {
                self.read(max).await?;
            }
            self.begin_fresh().await?;
            let records = self.hand_out(max)?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
    }

    /// Waits for a record, and takes what else is there.
    async fn read(&mut self, max: usize) -> Result<(), LogError> {
        let consumer = Arc::clone(&self.consumer);
        let topic = self.topic;
        let mut next = Some(consumer.recv().await);
        while let Some(met) = next.take() {
            match met {
                Ok(message) => self.ready.extend(record(topic, &message)),
                Err(error) if is_passing(&error) => {
                    tracing::debug!(topic = %topic, %error, "reading of {topic} waits for the broker");
                }
                Err(error) => {
                    return Err(LogError::Read {
                        topic,
                        after: self.position(),
                        source: broker("read")(error),
                    });
                }
            }
            if self.ready.len() < max {
                next = consumer.recv().now_or_never();
            }
        }
        Ok(())
    }

    /// Waits until it is known where partitions begin that were given since the last call. Who stops waiting loses nothing: asking goes
    /// on meanwhile.
    async fn begin_fresh(&mut self) -> Result<(), LogError> {
        let Some(group) = self.group.clone() else {
            return Ok(());
        };
        let consumer = Arc::clone(&self.consumer);
        loop {
            if let Some(asking) = &mut self.asking {
                let asked = asking.await;
                self.asking = None;
                asked.map_err(|_| reading(self.topic, StoreError::Closed))??;
            }
            let fresh = locked(&consumer.context().held).fresh();
            if fresh.is_empty() {
                return Ok(());
            }
            let taking = Taking {
                log: self.log.clone(),
                topic: self.topic,
                name: self.name.clone(),
                group: group.clone(),
                consumer: Arc::clone(&consumer),
            };
            let asking = tokio::spawn(async move { taking.take(&fresh).await });
            self.asking = Some(AbortOnDropHandle::new(asking));
        }
    }

    /// What was read, without what is not ours any more or was handled before.
    fn hand_out(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        let consumer = Arc::clone(&self.consumer);
        let mut held = locked(&consumer.context().held);
        let count = self.ready.len().min(max);
        let mut records = Vec::with_capacity(count);
        for record in self.ready.drain(..count) {
            let Some(part) = held.parts.get_mut(&record.partition) else {
                continue;
            };
            part.newest = part.newest.max(record.offset);
            if record.offset <= part.position {
                continue;
            }
            let expected = part.position.max(part.begins) + 1;
            if record.offset > expected && part.position > 0 {
                let lost = record.offset - expected;
                tracing::debug!(topic = %self.topic, "{lost} records of {} before {}:{} are no longer kept", self.topic, record.partition, record.offset);
            }
            part.position = record.offset;
            records.push(record);
        }
        Ok(records)
    }

    /// Tells Kafka what the tables have stored, for those who watch lags; nothing depends on it.
    fn tell_stored(&self) {
        let Some(group) = &self.group else { return };
        let stored = {
            let fences = locked(&self.log.0.held);
            fences.committed.get(&(self.topic, group.clone())).cloned()
        };
        if let Some((list, told)) = stored.and_then(|position| self.news(&position)) {
            match self.consumer.commit(&list, CommitMode::Async) {
                Ok(()) => self.note(&told),
                Err(error) => tracing::debug!(%error, "Kafka was not told how far {group} is"),
            }
        }
    }

    /// What of `position` is held and not committed.
    fn news(&self, position: &Position) -> Option<(TopicPartitionList, Position)> {
        let held = locked(&self.consumer.context().held);
        self.list(position.partitions().filter(|(partition, offset)| {
            let part = held.parts.get(partition);
            part.is_some_and(|part| part.committed < *offset)
        }))
    }

    /// What was asked to be committed, is held, and is not.
    fn open(&self) -> Option<(TopicPartitionList, Position)> {
        let held = locked(&self.consumer.context().held);
        let open = held.parts.iter();
        self.list(open.filter_map(|(id, part)| Some((*id, part.open()?))))
    }

    /// Offsets as the library takes them, and as a position; none if there are none.
    fn list(
        &self,
        offsets: impl Iterator<Item = (u32, u64)>,
    ) -> Option<(TopicPartitionList, Position)> {
        let mut list = TopicPartitionList::new();
        let mut told = Position::default();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.name, id(partition), next(offset))
                .ok()?;
            told.advance(partition, offset);
        }
        (!told.is_start()).then_some((list, told))
    }

    fn ask(&self, position: &Position) {
        let mut held = locked(&self.consumer.context().held);
        for (partition, offset) in position.partitions() {
            if let Some(part) = held.parts.get_mut(&partition) {
                part.asked = part.asked.max(offset);
            }
        }
    }

    fn note(&self, told: &Position) {
        let mut held = locked(&self.consumer.context().held);
        for (partition, offset) in told.partitions() {
            if let Some(part) = held.parts.get_mut(&partition) {
                part.committed = part.committed.max(offset);
            }
        }
    }

    pub(crate) async fn commit(&mut self, position: &Position) -> Result<(), LogError> {
        let topic = self.topic;
        let Some(group) = self.group.clone() else {
            return Err(LogError::NoGroup { topic });
        };
        self.ask(position);
        for attempt in 1..=COMMIT_ATTEMPTS {
            let Some((told, answer)) = self.committed().await else {
                return Ok(());
            };
            let failed = |source| LogError::Commit {
                topic,
                group: group.clone(),
                position: told.clone(),
                source: Box::new(source),
            };
            match answer.map_err(failed)? {
                // Perhaps an earlier one: what was asked for since is still open.
                Ok(()) => self.note(&told),
                Err(error) => match error.rdkafka_error_code() {
                    Some(
                        RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::OperationTimedOut,
                    ) if attempt < COMMIT_ATTEMPTS => tokio::time::sleep(COMMIT_AGAIN).await,
                    Some(RDKafkaErrorCode::RebalanceInProgress) => return Ok(()),
                    // Thrown out of the group: what was held has other readers.
                    Some(
                        RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::AssignmentLost,
                    ) => {
                        metrics::counter!("shoal_log_commits_lost_total").increment(1);
                        tracing::info!(topic = %topic, group, "partitions of {topic} went to another reader before {told} was committed");
                        return Ok(());
                    }
                    _ => return Err(failed(broker("commit")(error))),
                },
            }
        }
        Ok(())
    }

    /// Commits what is open, and waits for the answer of what is on its way, [`COMMIT_WITHIN`] at most and once. None if nothing is open
    /// or the answer is late.
    async fn committed(
        &mut self,
    ) -> Option<(Position, Result<Result<(), KafkaError>, StoreError>)> {
        let mut committing = match self.committing.take() {
            Some(committing) => committing,
            None => self.open().map(|(list, told)| self.begin(list, told))?,
        };
        let within = if committing.late {
            Duration::ZERO
        } else {
            COMMIT_WITHIN
        };
        if let Ok(answer) = tokio::time::timeout(within, &mut committing.answer).await {
            return Some((committing.told, answer.map_err(|_| StoreError::Closed)));
        }
        if !committing.late {
            metrics::counter!("shoal_log_commits_late_total").increment(1);
            tracing::info!(topic = %self.topic, group = self.group, "a commit of {} for {} waits for the broker; reading goes on", committing.told, self.topic);
            committing.late = true;
        }
        self.committing = Some(committing);
        None
    }

    /// Commits on a thread of its own, so that a process can end while the library waits.
    fn begin(&self, list: TopicPartitionList, told: Position) -> Committing {
        let (done, answer) = oneshot::channel();
        let consumer = Arc::clone(&self.consumer);
        let commit = move || {
            let answer = consumer.commit(&list, CommitMode::Sync);
            // Let go first: whoever has the answer may want to leave the group.
            drop(consumer);
            let _ = done.send(answer);
        };
        let thread = std::thread::Builder::new().name("commits".to_owned());
        if let Err(error) = thread.spawn(commit) {
            tracing::warn!(%error, "no thread to commit on: {error}");
        }
        Committing {
            told,
            answer,
            late: false,
        }
    }

    pub(crate) fn position(&self) -> Position {
        locked(&self.consumer.context().held).position()
    }

    pub(crate) fn lag(&self) -> u64 {
        locked(&self.consumer.context().held).lag()
    }
}

fn record(topic: Topic, message: &BorrowedMessage<'_>) -> Option<Record> {
    let key = message.key().unwrap_or_default();
    let Ok(key) = std::str::from_utf8(key) else {
        metrics::counter!("shoal_log_foreign_records_total").increment(1);
        tracing::error!(topic = %topic, "record {}:{} of {topic} has a key that is no text and is passed over", message.partition(), message.offset());
        return None;
    };
    Some(Record {
        topic,
        key: key.to_owned(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        partition: message.partition().unsigned_abs(),
        offset: message.offset().unsigned_abs() + 1,
        appended_at: message
            .timestamp()
            .to_millis()
            .and_then(DateTime::from_timestamp_millis)
            .unwrap_or_default(),
    })
}

/// True for what the library mends by itself: a broker that is away, a group that is shared out anew.
fn is_passing(error: &KafkaError) -> bool {
    let KafkaError::MessageConsumption(code) = error else {
        return false;
    };
    !matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::InvalidGroupId
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::Fatal
    )
}
