//! Stores changes one after the other, beside the loop that makes them: while one is being stored the next waits at the door, and the
//! database never waits for the loop.

use std::time::Duration;

use store::{Change, StoreError, Tables};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::Error;

/// Attempts to store something before the service gives up and is started anew.
const ATTEMPTS: u32 = 5;

/// Wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A task that stores. Whoever drops it ends it.
pub(crate) struct Storer {
    changes: mpsc::Sender<Change>,
    stored: mpsc::Receiver<Result<(), Error>>,
    /// Changes given and not answered.
    under_way: usize,
    task: AbortOnDropHandle<()>,
}

impl Storer {
    pub(crate) fn new(tables: Tables) -> Self {
        let (changes, mut given) = mpsc::channel(1);
        // As many as can be under way: an answer never waits.
        let (answer, stored) = mpsc::channel(2);
        let run = async move {
            while let Some(change) = given.recv().await {
                let done = store(&tables, change).await;
                // What was given after a change that is lost rests on it.
                let is_over = done.is_err();
                if answer.send(done).await.is_err() || is_over {
                    return;
                }
            }
        };
        Self {
            changes,
            stored,
            under_way: 0,
            task: AbortOnDropHandle::new(tokio::spawn(run)),
        }
    }

    /// True if no change waits.
    pub(crate) fn has_room(&self) -> bool {
        self.changes.capacity() > 0
    }

    /// True if everything that was given is stored.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Stores `change` after those before it.
    pub(crate) async fn give(&mut self, change: Change) {
        self.under_way += 1;
        // A task that has ended says why to whoever asks for the answer.
        let _ = self.changes.send(change).await;
    }

    /// Waits until one more change is stored; forever if none is under way. May be dropped while waiting.
    ///
    /// # Errors
    /// [`Error`] if it cannot be stored; nothing after it is.
    pub(crate) async fn next(&mut self) -> Result<(), Error> {
        if self.is_idle() {
            return std::future::pending().await;
        }
        let Some(stored) = self.stored.recv().await else {
            // It panicked, or said before that it cannot go on.
            ended(&mut self.task).await;
            return std::future::pending().await;
        };
        self.under_way -= 1;
        stored
    }

    /// Waits until everything that was given is stored.
    ///
    /// # Errors
    /// [`Error`] if something cannot be stored.
    pub(crate) async fn all(&mut self) -> Result<(), Error> {
        while !self.is_idle() {
            self.next().await?;
        }
        Ok(())
    }
}

/// What became of a task of this service: a panic goes on in whoever waits for it.
pub(crate) async fn ended<T>(task: &mut AbortOnDropHandle<T>) -> T {
    match task.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The process ends.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Stores `change`: everything in it is keyed.
async fn store(tables: &Tables, change: Change) -> Result<(), Error> {
    let started = Instant::now();
    again("a change", StoreError::is_retryable, || {
        tables.apply(change.clone())
    })
    .await?;
    metrics::histogram!("shoal_ingest_checkpoint_seconds").record(started.elapsed());
    Ok(())
}

/// Does something that may be done twice, again after a refusal that may pass.
pub(crate) async fn again<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
    what: &'static str,
    may_pass: fn(&E) -> bool,
    mut act: impl FnMut() -> F,
) -> Result<(), E> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS {
        match act().await {
            Err(error) if may_pass(&error) => {
                tracing::warn!(error = %error, "{what} was refused, next attempt in {wait:?}");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            done => return done,
        }
    }
    act().await
}
