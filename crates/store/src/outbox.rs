//! From rows to Kafka: what was decided with rows is stored with them and appended to the log from there.
//!
//! ```text
//! change ──► one transaction: rows, positions, outbox ──► answer
//!                                   │
//!                                   └──► relay: append to Kafka, then delete from the outbox
//! ```
//!
//! The relay appends in the order in which changes were stored and goes on for ever while Kafka is away. After a death it begins
//! with what the outbox holds: a record whose deletion was not stored is appended twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use crate::NewRecord;
use crate::change::Change;
use crate::error::{StoreError, db};
use crate::kafka::{Kafka, Started};
use crate::progress;
use crate::upsert::{Bound, Upsert, insert};
use crate::writer::Job;

/// Changes whose records wait for the relay before the writer does: what a cluster that is away may hold up in memory.
const BACKLOG: usize = 1_024;

/// Changes that are on their way to Kafka at once.
const AT_ONCE: usize = 256;

/// Rows of the outbox that are read at once after a start.
const LEFT_AT_ONCE: i64 = 1_000;

/// Wait before records that Kafka refused are appended again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The writer's half: stores rows, positions and records to be appended.
pub(crate) struct Outbox {
    pool: SqlitePool,
    kafka: Kafka,
    /// Whose records these are.
    source: Arc<str>,
    next: i64,
    relay: mpsc::Sender<Parcel>,
}

/// Records of one change on their way to the relay.
#[derive(Debug)]
struct Parcel {
    records: Vec<NewRecord>,
    at: DateTime<Utc>,
    duty: Duty,
}

#[derive(Debug)]
enum Duty {
    /// They are in the outbox from and to these numbers: appended whatever happens.
    Stored(i64, i64),
    /// Somebody waits for the answer.
    Asked(oneshot::Sender<Result<(), StoreError>>),
}

const OUTBOX: Upsert = Upsert {
    table: "outbox",
    columns: &[
        "source",
        "id",
        "topic",
        "record_key",
        "payload",
        "written_at",
    ],
    key: &[],
    only_if: None,
};

impl Outbox {
    /// Starts the relay, which begins with what an earlier process called `source` left.
    pub(crate) async fn open(
        pool: SqlitePool,
        kafka: Kafka,
        source: &str,
    ) -> Result<Self, StoreError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM outbox WHERE source = $1")
            .bind(source.to_owned())
            .fetch_one(&pool)
            .await
            .map_err(db("end of the outbox"))?;
        let (parcels, queue) = mpsc::channel(BACKLOG);
        let source: Arc<str> = source.into();
        let relay = Relay {
            pool: pool.clone(),
            kafka: kafka.clone(),
            source: Arc::clone(&source),
        };
        tokio::spawn(relay.run(last.unwrap_or(0), queue));
        Ok(Self {
            pool,
            kafka,
            source,
            next: last.unwrap_or(0) + 1,
            relay: parcels,
        })
    }

    /// Stores a group; if it is refused, each of its changes alone, so that one bad change harms no other.
    pub(crate) async fn serve(&mut self, group: Vec<Job>) {
        let refused = match self.store(group.iter().map(|job| &job.change)).await {
            Ok(numbers) => return self.send(group, numbers).await,
            Err(refused) => refused,
        };
        if group.len() == 1 {
            for (job, refused) in group.into_iter().zip([refused]) {
                let _ = job.answer.send(Err(refused));
            }
            return;
        }
        for job in group {
            match self.store([&job.change]).await {
                Ok(numbers) => self.send(vec![job], numbers).await,
                Err(refused) => {
                    let _ = job.answer.send(Err(refused));
                }
            }
        }
    }

    /// Stores what has rows or positions; answers for each change the first and last number of its records in the outbox, if it has any.
    async fn store(
        &mut self,
        changes: impl IntoIterator<Item = &Change>,
    ) -> Result<Vec<Option<(i64, i64)>>, StoreError> {
        let changes: Vec<&Change> = changes.into_iter().collect();
        if changes.iter().all(|change| change.is_records_only()) {
            return Ok(vec![None; changes.len()]);
        }
        let started = std::time::Instant::now();
        let mut next = self.next;
        let mut connection = self.pool.acquire().await.map_err(db("connection"))?;
        let mut within = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(db("begin"))?;
        let mut numbers = Vec::with_capacity(changes.len());
        for change in &changes {
            if change.is_records_only() {
                numbers.push(None);
                continue;
            }
            for rows in &change.rows {
                rows.write(&mut within).await?;
            }
            for commit in &change.commits {
                let epoch = |part| self.kafka.epoch(commit.topic, &commit.group, part);
                progress::commit_held(&mut within, commit, epoch).await?;
            }
            self.put(&mut within, &change.records, next).await?;
            let first = next;
            next += i64::try_from(change.records.len()).unwrap_or(i64::MAX);
            numbers.push((first < next).then_some((first, next - 1)));
        }
        within.commit().await.map_err(db("commit"))?;
        drop(connection);
        self.next = next;
        for commit in changes.iter().flat_map(|change| &change.commits) {
            self.kafka
                .stored(commit.topic, &commit.group, &commit.position);
        }
        metrics::histogram!("shoal_store_commit_seconds").record(started.elapsed());
        metrics::counter!("shoal_store_changes_total").increment(changes.len() as u64);
        Ok(numbers)
    }

    async fn put(
        &self,
        to: &mut SqliteConnection,
        records: &[NewRecord],
        first: i64,
    ) -> Result<(), StoreError> {
        let now = self.kafka.clock().now().timestamp_micros();
        let numbered: Vec<(i64, &NewRecord)> = (first..).zip(records).collect();
        insert(to, &OUTBOX, &numbered, |query: Bound, (id, record)| {
            query
                .bind(self.source.to_string())
                .bind(*id)
                .bind(record.topic.name())
                .bind(record.key.clone())
                .bind(record.payload.to_vec())
                .bind(now)
        })
        .await
        .map_err(db("outbox"))
    }

    /// Answers what is stored and hands records to the relay, in the order of the changes.
    async fn send(&self, group: Vec<Job>, numbers: Vec<Option<(i64, i64)>>) {
        let at = self.kafka.clock().now();
        for (job, number) in group.into_iter().zip(numbers) {
            let stored = !job.change.is_records_only();
            let duty = match number {
                Some((first, last)) => {
                    let _ = job.answer.send(Ok(()));
                    Duty::Stored(first, last)
                }
                None if stored || job.change.records.is_empty() => {
                    let _ = job.answer.send(Ok(()));
                    continue;
                }
                None => Duty::Asked(job.answer),
            };
            let parcel = Parcel {
                records: job.change.records,
                at,
                duty,
            };
            if self.relay.send(parcel).await.is_err() {
                tracing::error!(
                    "the relay of the outbox has ended; its records wait for the next start"
                );
            }
        }
    }
}

/// The other half: appends to Kafka.
struct Relay {
    pool: SqlitePool,
    kafka: Kafka,
    source: Arc<str>,
}

impl Relay {
    /// Runs until the writer is gone and everything is appended.
    async fn run(self, left_until: i64, mut parcels: mpsc::Receiver<Parcel>) {
        self.leftovers(left_until).await;
        let mut some = Vec::new();
        while parcels.recv_many(&mut some, AT_ONCE).await > 0 {
            metrics::gauge!("shoal_outbox_waiting")
                .set(f64::from(u32::try_from(parcels.len()).unwrap_or(u32::MAX)));
            self.deliver(std::mem::take(&mut some)).await;
        }
    }

    /// Appends what an earlier process stored and did not append.
    async fn leftovers(&self, until: i64) {
        let mut after = 0;
        let mut wait = FIRST_WAIT;
        while after < until {
            match self.left(after, until).await {
                Ok(left) => {
                    let Some(last) = left.last().map(|(id, _, _)| *id) else {
                        return;
                    };
                    tracing::info!(
                        records = left.len(),
                        "appending {} records that an earlier run decided",
                        left.len()
                    );
                    let mut parcels = Vec::with_capacity(left.len());
                    for (id, at, record) in left {
                        match record {
                            None => self.set_aside(id, id).await,
                            Some(record) => parcels.push(Parcel {
                                records: vec![record],
                                at,
                                duty: Duty::Stored(id, id),
                            }),
                        }
                    }
                    self.deliver(parcels).await;
                    after = last;
                }
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// Rows of the outbox; none for a record whose topic this version does not know.
    async fn left(
        &self,
        after: i64,
        until: i64,
    ) -> Result<Vec<(i64, DateTime<Utc>, Option<NewRecord>)>, StoreError> {
        type Row = (i64, String, String, Vec<u8>, i64);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, topic, record_key, payload, written_at FROM outbox \
             WHERE source = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4",
        )
        .bind(self.source.to_string())
        .bind(after)
        .bind(until)
        .bind(LEFT_AT_ONCE)
        .fetch_all(&self.pool)
        .await
        .map_err(db("outbox"))?;
        let read = rows.into_iter().map(|(id, topic, key, payload, at)| {
            let at = DateTime::from_timestamp_micros(at).unwrap_or_default();
            let Some(topic) = self.kafka.topic(&topic) else {
                tracing::error!(
                    "record {id} of the outbox is for {topic}, which this version does not know"
                );
                return (id, at, None);
            };
            let record = NewRecord {
                topic,
                key,
                payload: Bytes::from(payload),
            };
            (id, at, Some(record))
        });
        Ok(read.collect())
    }

    /// Appends all of them in their order. What is stored is appended until it is; from one that was refused on, all that are
    /// stored are appended again, so that the last word on a key stays the last.
    async fn deliver(&self, parcels: Vec<Parcel>) {
        let mut open: VecDeque<Parcel> = parcels.into();
        let mut wait = FIRST_WAIT;
        while !open.is_empty() {
            let mut started: Vec<(Parcel, Started)> = Vec::with_capacity(open.len());
            for parcel in open.drain(..) {
                let on_its_way = self.kafka.start(&parcel.records, parcel.at).await;
                started.push((parcel, on_its_way));
            }
            let mut appended = None;
            for (parcel, on_its_way) in started {
                let done = on_its_way.done().await;
                match (parcel.duty, done) {
                    (Duty::Asked(answer), done) => {
                        let _ = answer.send(done);
                    }
                    (Duty::Stored(_, last), Ok(())) if open.is_empty() => appended = Some(last),
                    (Duty::Stored(first, last), Err(error)) if !error.is_retryable() => {
                        tracing::error!(%error, "records {first} to {last} of the outbox are refused for good");
                        self.set_aside(first, last).await;
                    }
                    (Duty::Stored(first, last), done) => {
                        if let Err(error) = done {
                            metrics::counter!("shoal_outbox_retries_total").increment(1);
                            tracing::warn!(%error, "records of the outbox are appended again");
                        }
                        open.push_back(Parcel {
                            records: parcel.records,
                            at: parcel.at,
                            duty: Duty::Stored(first, last),
                        });
                    }
                }
            }
            if let Some(last) = appended {
                self.forget(last).await;
            }
            if !open.is_empty() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    /// Keeps what cannot be appended under another name: it must not hold up what comes after, and somebody has to look at it.
    async fn set_aside(&self, first: i64, last: i64) {
        metrics::counter!("shoal_outbox_refused_total").increment(1);
        let now = self.kafka.clock().now().timestamp_micros();
        let aside = sqlx::query(
            "UPDATE outbox SET source = $1 WHERE source = $2 AND id >= $3 AND id <= $4",
        )
        .bind(format!("{}/refused/{now}", self.source))
        .bind(self.source.to_string())
        .bind(first)
        .bind(last)
        .execute(&self.pool)
        .await;
        if let Err(error) = aside {
            tracing::error!(%error, "records {first} to {last} of the outbox could not be set aside");
        }
    }

    /// Deletes what is appended. If that is refused, the next deletion covers it.
    async fn forget(&self, last: i64) {
        let deleted = sqlx::query("DELETE FROM outbox WHERE source = $1 AND id <= $2")
            .bind(self.source.to_string())
            .bind(last)
            .execute(&self.pool)
            .await;
        if let Err(error) = deleted {
            tracing::warn!(%error, "appended records stay in the outbox for now");
        }
    }
}
