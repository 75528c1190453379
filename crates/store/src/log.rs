//! The event log: append, subscribe, commit.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use sqlx::{Row, SqlitePool};
use tokio::sync::{mpsc, oneshot, watch};

use crate::change::Change;
use crate::error::{LogError, StoreError, db};
use crate::tail::{Head, Heads, Hot};
use crate::writer::{Job, to_i64};
use crate::{NewRecord, Record, Topic};

/// The event log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
    heads: Arc<Heads>,
}

/// Hands a change to the writer and waits until it is stored; answers the offsets of its records.
pub(crate) async fn apply(
    jobs: &mpsc::Sender<Job>,
    change: Change,
) -> Result<Vec<u64>, StoreError> {
    if change.is_empty() {
        return Ok(Vec::new());
    }
    let (answer, stored) = oneshot::channel();
    jobs.send(Job { change, answer })
        .await
        .map_err(|_| StoreError::Closed)?;
    stored.await.map_err(|_| StoreError::Closed)?
}

impl Log {
    pub(crate) fn new(jobs: mpsc::Sender<Job>, readers: SqlitePool, heads: Arc<Heads>) -> Self {
        Self {
            jobs,
            readers,
            heads,
        }
    }

    /// Appends `records` in one transaction and returns their offsets, in their order. What is returned survives the
    /// death of the process. A caller that stops waiting does not know whether they were stored.
    ///
    /// # Errors
    /// [`LogError::Append`] if none of them was stored.
    pub async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<u64>, LogError> {
        apply(&self.jobs, Change::default().records(records))
            .await
            .map_err(LogError::Append)
    }

    /// Reads `topic` on from what `group` committed, from the oldest record left if it never did.
    ///
    /// # Errors
    /// [`LogError::Read`] if the committed offset cannot be read.
    pub async fn subscribe(&self, topic: Topic, group: &str) -> Result<Subscription, LogError> {
        let position = self.committed(topic, group).await?;
        Ok(self.from(topic, Some(group.to_owned()), position))
    }

    /// Reads `topic` from now on, for no group.
    ///
    /// # Errors
    /// None today: an adapter over a network may fail here.
    #[expect(
        clippy::unused_async,
        reason = "the same call over a network asks the broker for the newest offset"
    )]
    pub async fn tail(&self, topic: Topic) -> Result<Subscription, LogError> {
        Ok(self.from(topic, None, self.newest(topic)))
    }

    /// Reads `topic` from the record after `offset` (0: the oldest left), for no group.
    #[must_use]
    pub fn replay(&self, topic: Topic, offset: u64) -> Subscription {
        self.from(topic, None, offset)
    }

    /// Offset of the newest record of `topic`; 0 if there never was one.
    #[must_use]
    pub fn newest(&self, topic: Topic) -> u64 {
        self.heads.of(topic).newest()
    }

    /// Offset up to and with which `group` has handled `topic`; 0 if it never committed.
    ///
    /// # Errors
    /// [`LogError::Read`] if it cannot be read.
    pub async fn committed(&self, topic: Topic, group: &str) -> Result<u64, LogError> {
        let committed: Option<i64> = sqlx::query_scalar(
            "SELECT committed FROM log_group WHERE topic = $1 AND group_name = $2",
        )
        .bind(topic.name())
        .bind(group.to_owned())
        .fetch_optional(&self.readers)
        .await
        .map_err(|source| LogError::Read {
            topic,
            after: 0,
            source: db("committed offset")(source),
        })?;
        Ok(committed.map_or(0, i64::unsigned_abs))
    }

    fn from(&self, topic: Topic, group: Option<String>, position: u64) -> Subscription {
        let head = self.heads.of(topic);
        Subscription {
            log: self.clone(),
            topic,
            group,
            position,
            newest: head.watch(),
            head,
        }
    }

    /// At most `max` records of `topic` after `after` and before `before`, from the database.
    async fn stored(
        &self,
        topic: Topic,
        after: u64,
        before: u64,
        max: usize,
    ) -> Result<Vec<Record>, LogError> {
        let rows = sqlx::query(
            "SELECT log_offset, record_key, payload, appended_at FROM log \
             WHERE topic = $1 AND log_offset > $2 AND log_offset < $3 ORDER BY log_offset LIMIT $4",
        )
        .bind(topic.name())
        .bind(to_i64(after))
        .bind(to_i64(before))
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await;
        rows.and_then(|rows| rows.iter().map(|row| record(topic, row)).collect())
            .map_err(|source| LogError::Read {
                topic,
                after,
                source: db("read of the log")(source),
            })
    }
}

fn record(topic: Topic, row: &sqlx::sqlite::SqliteRow) -> Result<Record, sqlx::Error> {
    let offset: i64 = row.try_get(0)?;
    let appended: i64 = row.try_get(3)?;
    Ok(Record {
        topic,
        key: row.try_get(1)?,
        payload: Bytes::from(row.try_get::<Vec<u8>, _>(2)?),
        offset: offset.unsigned_abs(),
        appended_at: DateTime::from_timestamp_micros(appended).unwrap_or_default(),
    })
}

/// One reader of one topic.
#[derive(Debug)]
pub struct Subscription {
    log: Log,
    topic: Topic,
    group: Option<String>,
    /// Offset of the last record handed out.
    position: u64,
    head: Arc<Head>,
    newest: watch::Receiver<u64>,
}

impl Subscription {
    /// The next records, in order, at least one and at most `max` (at least 1); waits until there is one. May be
    /// dropped while waiting: no record is lost.
    ///
    /// # Errors
    /// [`LogError::Read`]; the same records are read by the next call.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        let max = max.max(1);
        loop {
            self.newest.borrow_and_update();
            let records = match self.head.after(self.position, max) {
                Hot::Records(records) => records,
                Hot::StartsAt(start) => self.cold(start, max).await?,
            };
            if let Some(last) = records.last() {
                self.position = last.offset;
                return Ok(records);
            }
            if self.head.newest() > self.position {
                continue;
            }
            // The sender lives in `self.head`: waiting cannot end in an error.
            let _ = self.newest.changed().await;
        }
    }

    /// Records that are no longer in memory. If retention has taken what comes next, goes on with the oldest left.
    async fn cold(&mut self, start: u64, max: usize) -> Result<Vec<Record>, LogError> {
        let records = self
            .log
            .stored(self.topic, self.position, start, max)
            .await?;
        let next = records.first().map_or(start, |record| record.offset);
        if next > self.position + 1 {
            let (topic, lost) = (self.topic, next - self.position - 1);
            tracing::debug!(topic = %topic, "{lost} records of {topic} before offset {next} are no longer kept");
        }
        if records.is_empty() {
            self.position = start - 1;
        }
        Ok(records)
    }

    /// Says that everything up to and with `offset` has had its effect. An older offset than before changes nothing.
    ///
    /// # Errors
    /// [`LogError::Commit`] if it could not be stored, [`LogError::NoGroup`] without a group.
    pub async fn commit(&mut self, offset: u64) -> Result<(), LogError> {
        let topic = self.topic;
        let Some(group) = &self.group else {
            return Err(LogError::NoGroup { topic });
        };
        let change = Change::default().commit(topic, group, offset);
        apply(&self.log.jobs, change)
            .await
            .map(drop)
            .map_err(|source| LogError::Commit {
                topic,
                group: group.clone(),
                offset,
                source,
            })
    }

    /// Offset of the last record handed out (at first, the one committed).
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Records appended and not yet handed out.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.newest().saturating_sub(self.position)
    }
}
