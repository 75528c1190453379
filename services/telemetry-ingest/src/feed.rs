//! Readings on their way to the fold: read from the log and decoded while those before them are folded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fleet::Telemetry;
use store::{LogError, Record, Subscription};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use wire::proto;

/// Batches that wait for the fold.
const AHEAD: usize = 2;

/// Records and what they say, or why they say nothing.
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) events: Vec<Result<Telemetry, String>>,
    /// True if it was all there was when it was read.
    is_all: bool,
}

/// A reader of the log on a task of its own.
pub(crate) struct Feed {
    batches: mpsc::Receiver<Result<Batch, LogError>>,
    lag: Arc<AtomicU64>,
    task: AbortOnDropHandle<()>,
}

impl Feed {
    /// Reads at most `most` records at once.
    pub(crate) fn new(mut readings: Subscription, most: usize) -> Self {
        let (sender, batches) = mpsc::channel(AHEAD);
        let lag = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&lag);
        let read = async move {
            loop {
                let batch = readings.next_batch(most).await.map(|records| Batch {
                    events: records.iter().map(|r| telemetry(&r.payload)).collect(),
                    is_all: records.len() < most,
                    records,
                });
                told.store(readings.lag(), Ordering::Relaxed);
                let is_over = batch.is_err();
                if sender.send(batch).await.is_err() || is_over {
                    return;
                }
            }
        };
        Self {
            batches,
            lag,
            task: AbortOnDropHandle::new(tokio::spawn(read)),
        }
    }

    /// The next batch; may be dropped while waiting. After a refusal there is none.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Batch, LogError> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => std::future::pending().await,
        }
    }

    /// True if there was nothing after `batch` when it was read, nor came since.
    pub(crate) fn is_drained(&self, batch: &Batch) -> bool {
        batch.is_all && self.batches.is_empty()
    }

    /// Records of the log that were not read yet.
    pub(crate) fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// Lets the reader go: once this returns it has begun to leave its group.
    pub(crate) async fn end(self) {
        self.task.abort();
        // Whether it was aborted or had ended, it is gone.
        let _ = self.task.await;
    }
}

/// The event in `bytes`; the error is the reason in words.
pub(crate) fn telemetry(bytes: &Bytes) -> Result<Telemetry, String> {
    decode::<proto::telemetry::v1::Telemetry, Telemetry>(bytes)
}

/// The domain value in `bytes`; the error is the reason in words.
pub(crate) fn decode<M, T>(bytes: &Bytes) -> Result<T, String>
where
    M: wire::Message + Default,
    T: TryFrom<M, Error = wire::WireError>,
{
    let message: M = wire::decode(bytes).map_err(|error| error.to_string())?;
    T::try_from(message).map_err(|error| error.to_string())
}
