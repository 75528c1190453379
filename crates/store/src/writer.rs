//! The one writer: takes what many callers ask, stores it in one transaction, then answers all of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use units::Clock;

use crate::alone::Alone;
use crate::change::{Change, Forgotten};
use crate::database::{Lines, Pool, Row, Transaction, Values, sql};
use crate::embedded::PARTITION;
use crate::error::{StoreError, db};
use crate::outbox::Outbox;
use crate::retain::Retainer;
use crate::tail::Heads;
use crate::upsert::Upsert;
use crate::{Record, Topic, progress};

/// Changes that wait for the writer before callers have to.
pub(crate) const QUEUE: usize = 1_024;

/// Changes stored in one transaction.
const GROUP: usize = 256;

/// Records stored in one transaction, beyond which no further change joins: bounds how long callers wait.
const GROUP_RECORDS: usize = 20_000;

/// A change and where its answer goes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) change: Change,
    pub(crate) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What is done with a group of changes.
pub(crate) enum Writer {
    /// Records are rows of the same database.
    Embedded(Embedded),
    /// Records go to Kafka, through the outbox where rows come with them.
    Kafka(Outbox),
    /// There is no log: rows only.
    Alone(Alone),
}

pub(crate) struct Embedded {
    pub(crate) pool: Pool,
    pub(crate) heads: Arc<Heads>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retention: Retainer,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = self.next(&mut jobs).await {
            let mut records = first.change.records.len();
            let mut group = vec![first];
            while group.len() < GROUP && records < GROUP_RECORDS {
                let Ok(next) = jobs.try_recv() else { break };
                records += next.change.records.len();
                group.push(next);
            }
            self.serve(group).await;
        }
    }

    /// The next change; none when every sender is gone.
    async fn next(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        match self {
            Self::Kafka(outbox) => outbox.next(jobs).await,
            Self::Embedded(_) | Self::Alone(_) => jobs.recv().await,
        }
    }

    async fn serve(&mut self, group: Vec<Job>) {
        match self {
            Self::Embedded(writer) => writer.serve(group).await,
            Self::Kafka(outbox) => outbox.serve(group).await,
            Self::Alone(writer) => writer.serve(group).await,
        }
    }
}

impl Embedded {
    /// Stores a group; if it is refused, each of its changes alone, so that one bad change harms no other.
    async fn serve(&mut self, group: Vec<Job>) {
        let (changes, answers): (Vec<Change>, Vec<_>) = group
            .into_iter()
            .map(|job| (job.change, job.answer))
            .unzip();
        let topics: BTreeSet<Topic> = changes
            .iter()
            .flat_map(|change| change.records.iter().map(|record| record.topic))
            .collect();
        match self.store(&changes).await {
            Ok(()) => {
                for answer in answers {
                    // A caller that gave up needs no answer.
                    let _ = answer.send(Ok(()));
                }
            }
            Err(refused) if changes.len() == 1 => {
                self.look_again().await;
                for (answer, refused) in answers.into_iter().zip([refused]) {
                    let _ = answer.send(Err(refused));
                }
            }
            Err(_) => {
                self.look_again().await;
                for (change, answer) in changes.iter().zip(answers) {
                    let _ = answer.send(self.store(std::slice::from_ref(change)).await);
                }
            }
        }
        for topic in topics {
            let newest = self.heads.of(topic).newest();
            self.retention.grown(topic, newest);
        }
    }

    /// Another store over the same file may have appended: takes offsets up where it left them.
    async fn look_again(&self) {
        match newest_offsets(&self.pool).await {
            Ok(stored) => self.heads.advance(stored),
            Err(error) => tracing::warn!(error = %error, "newest offsets cannot be read"),
        }
    }

    /// Stores changes in one transaction and shows their records to readers.
    async fn store(&self, changes: &[Change]) -> Result<(), StoreError> {
        let started = std::time::Instant::now();
        let records = self.place(changes);
        let mut within = self.pool.begin().await?;
        write_records(&mut within, &records).await?;
        for rows in changes.iter().flat_map(|change| &change.rows) {
            rows.write(&mut within).await?;
        }
        for commit in changes.iter().flat_map(|change| &change.commits) {
            progress::commit(&mut within, commit).await?;
        }
        for forgotten in changes.iter().flat_map(|change| &change.forgotten) {
            forget(&mut within, *forgotten).await?;
        }
        within.commit().await?;
        metrics::histogram!("shoal_store_commit_seconds").record(started.elapsed());
        metrics::counter!("shoal_store_changes_total").increment(changes.len() as u64);
        metrics::counter!("shoal_log_records_total").increment(records.len() as u64);
        self.heads.push(records);
        Ok(())
    }

    /// Gives each record its offset. Nothing is given out for good before the transaction is committed.
    fn place(&self, changes: &[Change]) -> Vec<Record> {
        let now = to_micros(self.clock.now());
        let mut newest: HashMap<Topic, u64> = HashMap::new();
        let mut records = Vec::new();
        for record in changes.iter().flat_map(|change| &change.records) {
            let offset = newest
                .entry(record.topic)
                .or_insert_with(|| self.heads.of(record.topic).newest());
            *offset += 1;
            records.push(Record {
                topic: record.topic,
                key: record.key.clone(),
                payload: record.payload.clone(),
                partition: PARTITION,
                offset: *offset,
                appended_at: now,
            });
        }
        records
    }
}

/// Newest offset ever given out, per topic.
pub(crate) async fn newest_offsets(from: &Pool) -> Result<Vec<(String, u64)>, StoreError> {
    let stored = from.fetch(sql("SELECT topic, newest FROM log_topic")).await;
    let newest = |row: &Row| Ok((row.get("topic")?, row.get::<i64>("newest")?.unsigned_abs()));
    stored
        .and_then(|rows| rows.iter().map(newest).collect())
        .map_err(db("newest offsets"))
}

const LOG: Upsert = Upsert::new(
    "log",
    &[
        "topic",
        "log_offset",
        "record_key",
        "payload",
        "appended_at",
        "checksum",
    ],
    &[],
);

const NEWEST: Upsert = Upsert::new("log_topic", &["topic", "newest"], &["topic"]);

fn logged(record: &Record) -> Values<'_> {
    Values::of(6)
        .bind(record.topic.name())
        .bind(to_i64(record.offset))
        .bind(record.key.as_str())
        .bind(record.payload.clone())
        .bind(record.appended_at.timestamp_micros())
        .bind(i64::from(checksum(record)))
}

async fn write_records(to: &mut Transaction, records: &[Record]) -> Result<(), StoreError> {
    to.insert(&LOG, Lines::of(records, logged))
        .await
        .map_err(db("append"))?;
    let newest: HashMap<Topic, u64> = records.iter().map(|r| (r.topic, r.offset)).collect();
    let row = |(topic, newest): (Topic, u64)| Values::of(2).bind(topic.name()).bind(to_i64(newest));
    to.insert(&NEWEST, newest.into_iter().map(row).collect::<Vec<_>>())
        .await
        .map_err(db("newest offset"))
}

async fn forget(to: &mut Transaction, forgotten: Forgotten) -> Result<(), StoreError> {
    let forget = sql("DELETE FROM log WHERE topic = $1 AND log_offset >= $2 AND log_offset <= $3")
        .bind(forgotten.topic.name())
        .bind(to_i64(forgotten.first))
        .bind(to_i64(forgotten.last));
    to.execute(forget).await.map(drop).map_err(db("retention"))
}

/// CRC-32 (ISO 3309) over all that a record says, each part after its length.
pub(crate) fn checksum(record: &Record) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let (topic, key) = (record.topic.name().as_bytes(), record.key.as_bytes());
    for part in [topic, key, record.payload.as_ref()] {
        crc.update(&(part.len() as u64).to_le_bytes());
        crc.update(part);
    }
    crc.update(&record.offset.to_le_bytes());
    crc.update(&record.appended_at.timestamp_micros().to_le_bytes());
    crc.finalize()
}

/// Offsets count records: none reaches 2^63.
pub(crate) fn to_i64(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// The same instant as it comes back from the database.
fn to_micros(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}
