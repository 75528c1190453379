//! Records on their way to the log: collected from all connections, appended together, never dropped.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fleet::Telemetry;
use store::{Log, NewRecord, topic};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::proto::telemetry::v1 as proto;

/// Entries appended in one transaction at most.
const BATCH: usize = 512;
/// Waits between attempts while the log cannot be written.
const RETRY: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(4),
];
/// Longest original kept in quarantine.
const ORIGINAL_LIMIT: usize = 64 * 1024;

/// The log was closed before the records were on it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the log was closed before the message was written to it")]
pub(crate) struct Closed;

struct Entry {
    records: Vec<NewRecord>,
    done: Option<oneshot::Sender<()>>,
}

/// Where connections leave what goes to the log. When it is full, they wait.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    entries: mpsc::Sender<Entry>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records", self.records.len())
    }
}

/// The end that writes.
#[derive(Debug)]
pub(crate) struct Appender {
    log: Log,
    entries: mpsc::Receiver<Entry>,
}

/// A queue of `capacity` entries in front of the log.
pub(crate) fn new(log: Log, capacity: usize) -> (Outbox, Appender) {
    let (sender, entries) = mpsc::channel(capacity);
    (Outbox { entries: sender }, Appender { log, entries })
}

impl Outbox {
    /// Hands over records; returns when they are queued.
    ///
    /// # Errors
    /// [`Closed`] once the service stops.
    pub(crate) async fn send(&self, records: Vec<NewRecord>) -> Result<(), Closed> {
        let entry = Entry {
            records,
            done: None,
        };
        self.entries.send(entry).await.map_err(|_| Closed)
    }

    /// Hands over records; returns when they are durable.
    ///
    /// # Errors
    /// [`Closed`] once the service stops.
    pub(crate) async fn write(&self, records: Vec<NewRecord>) -> Result<(), Closed> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, written) = oneshot::channel();
        let entry = Entry {
            records,
            done: Some(done),
        };
        self.entries.send(entry).await.map_err(|_| Closed)?;
        written.await.map_err(|_| Closed)
    }
}

impl Appender {
    /// Appends until every outbox is gone. While the log cannot be written the queue fills and stations wait; `stop`
    /// ends the waiting.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.entries.recv_many(&mut batch, BATCH).await > 0 {
            if !self.append(&mut batch, &stop).await {
                return;
            }
        }
    }

    async fn append(&self, batch: &mut Vec<Entry>, stop: &CancellationToken) -> bool {
        let mut records = Vec::new();
        for entry in batch.iter_mut() {
            records.append(&mut entry.records);
        }
        metrics::counter!("shoal_edge_records_total").increment(records.len() as u64);
        let mut waits = RETRY
            .iter()
            .chain(std::iter::repeat(&RETRY[RETRY.len() - 1]));
        while let Err(error) = self.log.append(records.clone()).await {
            tracing::error!(records = records.len(), %error, "telemetry waits for the log: {error}");
            let wait = waits.next().copied().unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return false,
            }
        }
        for entry in batch.drain(..) {
            // Nobody waits any more if the connection closed meanwhile.
            entry.done.map(|done| done.send(()));
        }
        true
    }
}

/// Telemetry as a record.
pub(crate) fn record(telemetry: &Telemetry) -> NewRecord {
    NewRecord {
        topic: topic::READINGS,
        key: telemetry.key().to_owned(),
        payload: wire::encode(&proto::Telemetry::from(telemetry)),
    }
}

/// A refused message as a record, with its original bytes.
pub(crate) fn quarantined(
    source: &str,
    reason: &str,
    original: &[u8],
    received_at: DateTime<Utc>,
) -> NewRecord {
    let kept = &original[..original.len().min(ORIGINAL_LIMIT)];
    let message = proto::Quarantined {
        source: source.to_owned(),
        received_at_micros: received_at.timestamp_micros(),
        reason: reason.to_owned(),
        original: kept.to_vec(),
    };
    NewRecord {
        topic: topic::QUARANTINE,
        key: source.to_owned(),
        payload: wire::encode(&message),
    }
}

/// Everything a connection needs to leave telemetry.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) outbox: Outbox,
}

impl Post {
    /// Queues telemetry; says so if the service is stopping.
    pub(crate) async fn tell(&self, telemetry: &Telemetry) {
        if let Err(error) = self.outbox.send(vec![record(telemetry)]).await {
            tracing::warn!(
                key = telemetry.key(),
                "telemetry of {} is lost: {error}",
                telemetry.key()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use store::Store;

    fn some(source: usize) -> NewRecord {
        quarantined(
            &format!("s{source}"),
            "why",
            &[0; 70_000],
            DateTime::UNIX_EPOCH,
        )
    }

    #[tokio::test]
    async fn a_full_queue_makes_writers_wait_and_loses_nothing() {
        let store = Store::in_memory().await.unwrap();
        let (outbox, appender) = new(store.log(), 2);
        let writers: Vec<_> = (0..200)
            .map(|n| {
                let outbox = outbox.clone();
                tokio::spawn(async move { outbox.write(vec![some(n)]).await })
            })
            .collect();
        drop(outbox);
        let appending = tokio::spawn(appender.run(CancellationToken::new()));
        for writer in writers {
            assert_eq!(writer.await.unwrap(), Ok(()));
        }
        appending.await.unwrap();
        let newest = store.log().newest(topic::QUARANTINE).await.unwrap();
        assert_eq!(newest.total(), 200);
    }

    #[tokio::test]
    async fn what_was_written_is_on_the_log_when_the_writer_goes_on() {
        let store = Store::in_memory().await.unwrap();
        let (outbox, appender) = new(store.log(), 2);
        let appending = tokio::spawn(appender.run(CancellationToken::new()));
        for n in 1..=5 {
            outbox.write(vec![some(0)]).await.unwrap();
            let newest = store.log().newest(topic::QUARANTINE).await.unwrap();
            assert_eq!(newest.total(), n);
        }
        drop(outbox);
        appending.await.unwrap();
    }

    #[test]
    fn a_long_original_is_cut() {
        let record = some(1);
        let kept: proto::Quarantined = wire::decode(&record.payload).unwrap();
        assert_eq!(
            (kept.original.len(), kept.source.as_str()),
            (ORIGINAL_LIMIT, "s1")
        );
    }
}
