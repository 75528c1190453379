//! The event log in the tables' own SQLite database: one partition per topic.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::change::Change;
use crate::database::{Pool, Row, sql};
use crate::error::{LogError, StoreError, db};
use crate::tail::{Head, Heads, Hot};
use crate::writer::{Job, checksum, to_i64};
use crate::{NewRecord, Position, Record, Topic};

/// Records looked at together when all of a topic are.
const SCANNED: usize = 4_096;

/// The only partition of a topic.
pub(crate) const PARTITION: u32 = 0;

/// The log in the database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    jobs: mpsc::Sender<Job>,
    readers: Pool,
    heads: Arc<Heads>,
}

/// Hands a change to the writer and waits until it is stored.
pub(crate) async fn apply(jobs: &mpsc::Sender<Job>, change: Change) -> Result<(), StoreError> {
    if change.is_empty() {
        return Ok(());
    }
    let (answer, stored) = oneshot::channel();
    jobs.send(Job { change, answer })
        .await
        .map_err(|_| StoreError::Closed)?;
    stored.await.map_err(|_| StoreError::Closed)?
}

impl Log {
    pub(crate) fn new(jobs: mpsc::Sender<Job>, readers: Pool, heads: Arc<Heads>) -> Self {
        Self {
            jobs,
            readers,
            heads,
        }
    }

    pub(crate) async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        apply(&self.jobs, Change::default().records(records))
            .await
            .map_err(LogError::Append)
    }

    pub(crate) async fn subscribe(
        &self,
        topic: Topic,
        group: &str,
    ) -> Result<Subscription, LogError> {
        let position = self.committed(topic, group).await?;
        Ok(self.from(topic, Some(group.to_owned()), position))
    }

    pub(crate) fn tail(&self, topic: Topic) -> Subscription {
        self.from(topic, None, self.newest(topic))
    }

    pub(crate) fn replay(&self, topic: Topic, from: &Position) -> Subscription {
        self.from(topic, None, from.of(PARTITION))
    }

    /// Offset of the newest record; 0 if there never was one.
    pub(crate) fn newest(&self, topic: Topic) -> u64 {
        self.heads.of(topic).newest()
    }

    /// Offset before the oldest record left; that of the newest if none is.
    pub(crate) async fn beginning(&self, topic: Topic) -> Result<u64, LogError> {
        let newest = self.newest(topic);
        let oldest = self.stored(topic, 0, u64::MAX, 1).await?;
        Ok(oldest
            .first()
            .map_or(newest, |(record, _)| record.offset - 1))
    }

    pub(crate) async fn committed(&self, topic: Topic, group: &str) -> Result<u64, LogError> {
        let stored = crate::progress::stored(&self.readers, topic, group).await;
        stored
            .map(|position| position.of(PARTITION))
            .map_err(|source| LogError::Read {
                topic,
                after: Position::default(),
                source,
            })
    }

    /// Records of `topic` that are not as they were written, in order.
    pub(crate) async fn damaged(&self, topic: Topic) -> Result<Vec<(u64, String)>, LogError> {
        let (mut damaged, mut after) = (Vec::new(), 0);
        loop {
            let records = self.stored(topic, after, u64::MAX, SCANNED).await?;
            let Some((last, _)) = records.last() else {
                return Ok(damaged);
            };
            after = last.offset;
            let bad = records.into_iter().filter(|(_, whole)| !whole);
            damaged.extend(bad.map(|(record, _)| (record.offset, record.key)));
        }
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

    /// At most `max` records of `topic` after `after` and before `before`, from the database, each with whether it is as it was
    /// written.
    async fn stored(
        &self,
        topic: Topic,
        after: u64,
        before: u64,
        max: usize,
    ) -> Result<Vec<(Record, bool)>, LogError> {
        let read = sql(
            "SELECT log_offset, CAST(record_key AS BLOB) AS record_key, payload, appended_at, checksum FROM log \
             WHERE topic = $1 AND log_offset > $2 AND log_offset < $3 ORDER BY log_offset LIMIT $4",
        )
        .bind(topic.name())
        .bind(to_i64(after))
        .bind(to_i64(before))
        .bind(i64::try_from(max).unwrap_or(i64::MAX));
        let rows = self.readers.fetch(read).await;
        rows.and_then(|rows| rows.iter().map(|row| record(topic, row)).collect())
            .map_err(|source| LogError::Read {
                topic,
                after: Position::at(PARTITION, after),
                source: db("read of the log")(source),
            })
    }
}

fn record(topic: Topic, row: &Row) -> Result<(Record, bool), sqlx::Error> {
    let offset: i64 = row.get("log_offset")?;
    let appended: i64 = row.get("appended_at")?;
    // Records of before have none.
    let written: Option<i64> = row.get("checksum")?;
    // A byte that changed may have made it no text.
    let key = String::from_utf8(row.get("record_key")?);
    let text = key.is_ok();
    let record = Record {
        topic,
        key: key.unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned()),
        payload: Bytes::from(row.get::<Vec<u8>>("payload")?),
        partition: PARTITION,
        offset: offset.unsigned_abs(),
        appended_at: DateTime::from_timestamp_micros(appended).unwrap_or_default(),
    };
    let whole = written.is_none_or(|written| written == i64::from(checksum(&record)));
    Ok((record, whole && text))
}

/// A record that is as it was written. Another one stays where it is and has no effect: nobody knows what it said.
fn undamaged((record, whole): (Record, bool)) -> Option<Record> {
    if whole {
        return Some(record);
    }
    metrics::counter!("shoal_log_records_damaged_total").increment(1);
    tracing::error!(
        topic = %record.topic, offset = record.offset, key = record.key,
        "record {} of {} changed on the disk since it was written and is passed over", record.offset, record.topic
    );
    None
}

/// One reader of one topic.
#[derive(Debug)]
pub(crate) struct Subscription {
    log: Log,
    topic: Topic,
    group: Option<String>,
    /// Offset of the last record handed out.
    position: u64,
    head: Arc<Head>,
    newest: watch::Receiver<u64>,
}

impl Subscription {
    pub(crate) async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            self.newest.borrow_and_update();
            let records = match self.head.after(self.position, max) {
                Hot::Records(records) => records,
                Hot::StartsAt(start) => self.cold(start, max).await?,
            };
            if let Some(last) = records.last() {
                // Damaged records behind it were passed over.
                self.position = last.offset.max(self.position);
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
        let next = records.first().map_or(start, |(record, _)| record.offset);
        if next > self.position + 1 {
            let (topic, lost) = (self.topic, next - self.position - 1);
            tracing::debug!(topic = %topic, "{lost} records of {topic} before offset {next} are no longer kept");
        }
        self.position = records
            .last()
            .map_or(start - 1, |(record, _)| record.offset);
        Ok(records.into_iter().filter_map(undamaged).collect())
    }

    pub(crate) async fn commit(&mut self, position: &Position) -> Result<(), LogError> {
        let topic = self.topic;
        let Some(group) = &self.group else {
            return Err(LogError::NoGroup { topic });
        };
        let change = Change::default().commit(topic, group, position);
        apply(&self.log.jobs, change)
            .await
            .map_err(|source| LogError::Commit {
                topic,
                group: group.clone(),
                position: position.clone(),
                source: Box::new(source),
            })
    }

    /// Offset of the last record handed out (at first, the one committed).
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Records appended and not yet handed out.
    pub(crate) fn lag(&self) -> u64 {
        self.head.newest().saturating_sub(self.position)
    }
}
