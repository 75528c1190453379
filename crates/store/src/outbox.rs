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
use tokio::sync::{mpsc, oneshot};

use crate::NewRecord;
use crate::change::Change;
use crate::database::{Fate, Number, Pool, Row, Transaction, Uncommitted, Values, sql};
use crate::error::{StoreError, db, is_away};
use crate::kafka::{Kafka, Started};
use crate::progress;
use crate::upsert::Upsert;
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

/// How often it is asked what became of a doubted commit.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The writer's half: stores rows, positions and records to be appended.
pub(crate) struct Outbox {
    pool: Pool,
    kafka: Kafka,
    /// Whose records these are.
    source: Arc<str>,
    next: i64,
    relay: mpsc::Sender<Parcel>,
    /// A transaction of which nobody knows yet whether it is stored; nothing is stored before that is known.
    doubt: Option<Doubt>,
}

/// Changes whose commit was not answered.
struct Doubt {
    number: Number,
    changes: Vec<Change>,
    stored: Stored,
}

/// What the outbox has of changes that were stored together.
struct Stored {
    /// Of each change the first and last number of its records, if it has any.
    numbers: Vec<Option<(i64, i64)>>,
    /// The number after.
    next: i64,
}

/// Changes that were not stored, or not known to be.
enum Failed {
    Refused(StoreError),
    Doubted(Number, Stored, Arc<sqlx::Error>),
}

impl From<StoreError> for Failed {
    fn from(refused: StoreError) -> Self {
        Self::Refused(refused)
    }
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

const OUTBOX: Upsert = Upsert::new(
    "outbox",
    &[
        "source",
        "id",
        "topic",
        "record_key",
        "payload",
        "written_at",
    ],
    &[],
);

impl Outbox {
    /// Starts the relay, which begins with what an earlier process called `source` left.
    pub(crate) async fn open(pool: Pool, kafka: Kafka, source: &str) -> Result<Self, StoreError> {
        let last =
            sql("SELECT MAX(id) AS last FROM outbox WHERE source = $1").bind(source.to_owned());
        let last: Option<i64> = match pool.fetch(last).await {
            Ok(rows) => rows.first().map_or(Ok(None), |row| row.get("last")),
            Err(refused) => Err(refused),
        }
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
            doubt: None,
        })
    }

    /// Stores a group; if it is refused, each of its changes alone, so that one bad change harms no other.
    pub(crate) async fn serve(&mut self, group: Vec<Job>) {
        if let Err(source) = self.resolve().await {
            return away(group, source);
        }
        let changes: Vec<&Change> = group.iter().map(|job| &job.change).collect();
        match self.store(&changes).await {
            Ok(stored) => self.send(group, stored.numbers).await,
            Err(Failed::Doubted(number, stored, source)) => {
                self.doubt(group, number, stored, &source);
            }
            Err(Failed::Refused(StoreError::Database { source, .. })) if is_away(&source) => {
                away(group, source);
            }
            Err(Failed::Refused(refused)) if group.len() == 1 => {
                for (job, refused) in group.into_iter().zip([refused]) {
                    let _ = job.answer.send(Err(refused));
                }
            }
            Err(Failed::Refused(_)) => {
                for job in group {
                    Box::pin(self.serve(vec![job])).await;
                }
            }
        }
    }

    /// Stores what has rows or positions.
    async fn store(&mut self, changes: &[&Change]) -> Result<Stored, Failed> {
        if changes.iter().all(|change| change.is_records_only()) {
            return Ok(Stored {
                numbers: vec![None; changes.len()],
                next: self.next,
            });
        }
        let started = std::time::Instant::now();
        let (within, stored) = self.write(changes).await?;
        match within.commit().await {
            Ok(()) => {}
            Err(Uncommitted::Refused(source)) => {
                return Err(Failed::Refused(db("commit")(source)));
            }
            Err(Uncommitted::Unanswered(number, source)) => {
                match self.pool.settled(&number).await {
                    Some(true) => {}
                    Some(false) => return Err(Failed::Refused(db("commit")(source))),
                    None => return Err(Failed::Doubted(number, stored, Arc::new(source))),
                }
            }
        }
        self.next = stored.next;
        for commit in changes.iter().flat_map(|change| &change.commits) {
            self.kafka
                .stored(commit.topic, &commit.group, &commit.position);
        }
        metrics::histogram!("shoal_store_commit_seconds").record(started.elapsed());
        metrics::counter!("shoal_store_changes_total").increment(changes.len() as u64);
        Ok(stored)
    }

    /// Everything but the commit. Positions come first: whoever has lost a partition holds up nobody's rows.
    async fn write(&self, changes: &[&Change]) -> Result<(Transaction, Stored), StoreError> {
        let mut next = self.next;
        let mut within = self.pool.begin().await?;
        for commit in changes.iter().flat_map(|change| &change.commits) {
            let epoch = |part| self.kafka.epoch(commit.topic, &commit.group, part);
            progress::commit_held(&mut within, commit, epoch).await?;
        }
        let mut numbers = Vec::with_capacity(changes.len());
        for change in changes {
            if change.is_records_only() {
                numbers.push(None);
                continue;
            }
            for rows in &change.rows {
                rows.write(&mut within).await?;
            }
            self.put(&mut within, &change.records, next).await?;
            let first = next;
            next += i64::try_from(change.records.len()).unwrap_or(i64::MAX);
            numbers.push((first < next).then_some((first, next - 1)));
        }
        Ok((within, Stored { numbers, next }))
    }

    /// Says to all callers that nobody knows, and remembers what has to be appended if it was stored.
    fn doubt(
        &mut self,
        group: Vec<Job>,
        number: Number,
        stored: Stored,
        source: &Arc<sqlx::Error>,
    ) {
        tracing::error!(error = %source, "the database went away in the middle of a commit: nothing is stored until it says what became of it");
        self.next = stored.next;
        let mut changes = Vec::with_capacity(group.len());
        for job in group {
            let source = Arc::clone(source);
            let _ = job.answer.send(Err(StoreError::Unanswered { source }));
            // Records alone were never part of the transaction, and their caller was told to come again.
            changes.push(job.change);
        }
        self.doubt = Some(Doubt {
            number,
            changes,
            stored,
        });
    }

    /// The next change. While it waits for one, it asks what became of a doubted commit.
    pub(crate) async fn next(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while self.doubt.is_some() {
            match tokio::time::timeout(ASK_AGAIN, jobs.recv()).await {
                Ok(job) => return job,
                Err(_) => {
                    if let Err(error) = self.resolve().await {
                        tracing::debug!(%error, "a commit that was not answered is still in doubt");
                    }
                }
            }
        }
        jobs.recv().await
    }

    /// Ends a doubt: what was stored after all is appended.
    async fn resolve(&mut self) -> Result<(), sqlx::Error> {
        let Some(doubt) = &self.doubt else {
            return Ok(());
        };
        let done = match self.pool.fate(&doubt.number).await? {
            Fate::Done => true,
            Fate::Undone => false,
            Fate::Pending => {
                return Err(std::io::Error::from(std::io::ErrorKind::WouldBlock).into());
            }
        };
        let Some(doubt) = self.doubt.take().filter(|_| done) else {
            return Ok(());
        };
        let at = self.kafka.clock().now();
        for (change, numbers) in doubt.changes.into_iter().zip(doubt.stored.numbers) {
            for commit in &change.commits {
                self.kafka
                    .stored(commit.topic, &commit.group, &commit.position);
            }
            if let Some((first, last)) = numbers {
                let records = change.records;
                let duty = Duty::Stored(first, last);
                self.hand_over(Parcel { records, at, duty }).await;
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        to: &mut Transaction,
        records: &[NewRecord],
        first: i64,
    ) -> Result<(), StoreError> {
        let now = self.kafka.clock().now().timestamp_micros();
        let mut rows = Vec::with_capacity(records.len());
        for (id, record) in (first..).zip(records) {
            let row = Values::of(6)
                .bind(&*self.source)
                .bind(id)
                .bind(record.topic.name())
                .bind(record.key.as_str())
                .bind(record.payload.clone())
                .bind(now);
            rows.push(row);
        }
        to.insert(&OUTBOX, rows).await.map_err(db("outbox"))
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
            self.hand_over(parcel).await;
        }
    }

    async fn hand_over(&self, parcel: Parcel) {
        if self.relay.send(parcel).await.is_err() {
            tracing::error!(
                "the relay of the outbox has ended; its records wait for the next start"
            );
        }
    }
}

/// Tells all callers that nothing was stored.
pub(crate) fn away(group: Vec<Job>, source: sqlx::Error) {
    let source = Arc::new(source);
    for job in group {
        let source = Arc::clone(&source);
        // A caller that gave up needs no answer.
        let _ = job.answer.send(Err(StoreError::Away { source }));
    }
}

/// The other half: appends to Kafka.
struct Relay {
    pool: Pool,
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
        let left = sql(
            "SELECT id, topic, record_key, payload, written_at FROM outbox \
             WHERE source = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4",
        )
        .bind(self.source.to_string())
        .bind(after)
        .bind(until)
        .bind(LEFT_AT_ONCE);
        let rows = self.pool.fetch(left).await;
        rows.and_then(|rows| rows.iter().map(|row| self.waiting(row)).collect())
            .map_err(db("outbox"))
    }

    fn waiting(&self, row: &Row) -> Result<(i64, DateTime<Utc>, Option<NewRecord>), sqlx::Error> {
        let id = row.get("id")?;
        let at = DateTime::from_timestamp_micros(row.get("written_at")?).unwrap_or_default();
        let name: String = row.get("topic")?;
        let Some(topic) = self.kafka.topic(&name) else {
            tracing::error!(
                "record {id} of the outbox is for {name}, which this version does not know"
            );
            return Ok((id, at, None));
        };
        let record = NewRecord {
            topic,
            key: row.get("record_key")?,
            payload: Bytes::from(row.get::<Vec<u8>>("payload")?),
        };
        Ok((id, at, Some(record)))
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
        let aside =
            sql("UPDATE outbox SET source = $1 WHERE source = $2 AND id >= $3 AND id <= $4")
                .bind(format!("{}/refused/{now}", self.source))
                .bind(self.source.to_string())
                .bind(first)
                .bind(last);
        if let Err(error) = self.pool.execute(aside).await {
            tracing::error!(%error, "records {first} to {last} of the outbox could not be set aside");
        }
    }

    /// Deletes what is appended. If that is refused, the next deletion covers it.
    async fn forget(&self, last: i64) {
        let delete = sql("DELETE FROM outbox WHERE source = $1 AND id <= $2")
            .bind(self.source.to_string())
            .bind(last);
        if let Err(error) = self.pool.execute(delete).await {
            tracing::warn!(%error, "appended records stay in the outbox for now");
        }
    }
}
