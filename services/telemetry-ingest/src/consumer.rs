//! The loop from the log to the log.
//!
//! ```text
//! records     | batch | batch | batch | batch | batch |   taken in while what was decided before is stored
//! published     |states| |states|   |states| |states|     one after the other
//! checkpoint                     |  stored   |            once the states that it rests on are published
//! ```
//!
//! Whoever is behind makes the next checkpoint while the one before is being stored, so that the database never waits for it.

use std::pin::Pin;
use std::time::Duration;

use fleet::EvseState;
use runtime::Clock;
use store::{Change, Log, LogError, NewRecord, Record, StoreError, Subscription, Tables, topic};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Batch, Feed};
use crate::fold::{Fold, state_record};
use crate::live::Live;
use crate::{Config, Error, GROUP};

/// Attempts to store something before the service gives up and is started anew.
const ATTEMPTS: u32 = 5;

/// Wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Between two counts of the fleet for those who watch.
const COUNTED: Duration = Duration::from_secs(5);

pub(crate) struct Consumer {
    config: Config,
    live: Live,
    clock: Clock,
    log: Log,
    tables: Tables,
    readings: Feed,
    setpoints: Subscription,
    /// When the next checkpoint is due, if anything is unsaved.
    due: Option<Instant>,
    /// States on their way to the log.
    publishing: Option<Doing>,
    /// What is stored once they are published.
    next: Option<Change>,
    /// What is being stored.
    storing: Option<Doing>,
    /// True if the last batch was all there was: whoever is behind publishes states with checkpoints only, and of each the last.
    is_drained: bool,
    counted: Instant,
}

type Doing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What the loop met.
enum Met {
    Readings(Result<Batch, LogError>),
    Setpoints(Result<Vec<Record>, LogError>),
    Published(Result<(), Error>),
    Stored(Result<(), Error>),
    Due,
    Stop,
}

impl Consumer {
    pub(crate) async fn new(
        config: Config,
        live: Live,
        clock: Clock,
        log: &Log,
        tables: Tables,
    ) -> Result<Self, Error> {
        Ok(Self {
            live,
            clock,
            tables,
            readings: Feed::new(log.subscribe(topic::READINGS, GROUP).await?, config.batch),
            setpoints: log.subscribe(topic::SETPOINTS, GROUP).await?,
            due: None,
            publishing: None,
            next: None,
            storing: None,
            log: log.clone(),
            is_drained: true,
            counted: Instant::now(),
            config,
        })
    }

    /// Runs until `stop`, then stores what was taken in.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            match self.next(&stop).await {
                Met::Stop => return self.finish().await,
                Met::Published(published) => {
                    self.publishing = None;
                    published?;
                }
                Met::Stored(stored) => {
                    self.storing = None;
                    stored?;
                }
                Met::Due => {}
                Met::Readings(batch) => {
                    let (batch, now) = (batch?, self.clock.now());
                    self.is_drained = self.readings.is_drained(&batch);
                    self.live.write(|fold| fold.readings(&batch, now));
                }
                Met::Setpoints(records) => {
                    let (records, now) = (records?, self.clock.now());
                    self.live.write(|fold| fold.setpoints(&records, now));
                }
            }
            self.store_next();
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Met {
        let batch = self.config.batch;
        // What waits for the store is bounded.
        let room = self.live.read(Fold::taken) < self.config.checkpoint_records;
        let is_idle = self.publishing.is_none() && self.next.is_none() && self.storing.is_none();
        let due = self.due.filter(|_| is_idle);
        let checkpoint = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Met::Stop,
            published = done(&mut self.publishing) => Met::Published(published),
            stored = done(&mut self.storing) => Met::Stored(stored),
            () = checkpoint => Met::Due,
            records = self.setpoints.next_batch(batch), if room => Met::Setpoints(records),
            batch = self.readings.next(), if room => Met::Readings(batch),
        }
    }

    /// Starts to store what has to be stored next, unless something is on its way.
    fn store_next(&mut self) {
        let look = |fold: &Fold| (fold.taken(), fold.is_unsaved(), fold.has_changed());
        let (taken, is_unsaved, has_changed) = self.live.read(look);
        if is_unsaved && self.due.is_none() {
            self.due = Some(Instant::now() + self.config.checkpoint());
        }
        if self.publishing.is_some() {
            return;
        }
        if self.storing.is_none()
            && let Some(change) = self.next.take()
        {
            self.storing = Some(begin(store(self.tables.clone(), change)));
        }
        let is_full = taken >= self.config.checkpoint_records;
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        let has_room = self.next.is_none();
        if has_room && (is_full || is_due && self.storing.is_none()) {
            self.next = Some(self.checkpoint(false));
            self.publish();
        } else if has_changed && self.is_drained {
            self.publish();
        }
    }

    /// Everything that is to be stored once the states are published.
    fn checkpoint(&mut self, whole: bool) -> Change {
        self.due = None;
        self.count();
        self.live.write(|fold| fold.checkpoint(whole))
    }

    /// Publishes what has changed.
    fn publish(&mut self) {
        let changed = self.live.write(Fold::take_changed);
        let (log, live) = (self.log.clone(), self.live.clone());
        self.publishing = Some(begin(async move { publish(&log, &live, changed).await }));
    }

    /// Stores everything: a restart begins where this run ends.
    async fn finish(mut self) -> Result<(), Error> {
        done_if_any(&mut self.publishing).await?;
        done_if_any(&mut self.storing).await?;
        self.publish();
        done_if_any(&mut self.publishing).await?;
        if let Some(change) = self.next.take() {
            store(self.tables.clone(), change).await?;
        }
        let change = self.checkpoint(true);
        store(self.tables.clone(), change).await?;
        self.readings.end().await;
        Ok(())
    }

    fn count(&mut self) {
        let lag = self.readings.lag() + self.setpoints.lag();
        metrics::gauge!("shoal_ingest_lag_records").set(count(lag));
        if self.counted.elapsed() < COUNTED {
            return;
        }
        self.counted = Instant::now();
        let (evses, sessions) = self.live.read(|fold| {
            let plugged = fold.state.iter().filter(|state| state.session.is_some());
            (fold.state.iter().count(), plugged.count())
        });
        metrics::gauge!("shoal_fleet_evses").set(count(evses as u64));
        metrics::gauge!("shoal_fleet_sessions").set(count(sessions as u64));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of records or EVSEs")]
fn count(of: u64) -> f64 {
    of as f64
}

/// Begins `what` beside the loop; who drops it ends it.
fn begin(what: impl Future<Output = Result<(), Error>> + Send + 'static) -> Doing {
    let task = AbortOnDropHandle::new(tokio::spawn(what));
    Box::pin(async move {
        match task.await {
            Ok(done) => done,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process ends.
                Err(_) => std::future::pending().await,
            },
        }
    })
}

/// What is under way, once it is done; forever if nothing is.
async fn done(doing: &mut Option<Doing>) -> Result<(), Error> {
    match doing {
        Some(doing) => doing.await,
        None => std::future::pending().await,
    }
}

async fn done_if_any(doing: &mut Option<Doing>) -> Result<(), Error> {
    match doing.take() {
        Some(doing) => doing.await,
        None => Ok(()),
    }
}

/// Publishes states that changed, past the tables: nobody waits for a checkpoint that is being stored.
async fn publish(log: &Log, live: &Live, changed: Vec<EvseState>) -> Result<(), Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let records: Vec<NewRecord> = changed.iter().map(state_record).collect();
    again("states", LogError::is_retryable, || {
        log.append(records.clone())
    })
    .await?;
    live.announce(changed);
    Ok(())
}

/// Stores `change`: everything in it is keyed.
async fn store(tables: Tables, change: Change) -> Result<(), Error> {
    let started = Instant::now();
    again("a change", StoreError::is_retryable, || {
        tables.apply(change.clone())
    })
    .await?;
    metrics::histogram!("shoal_ingest_checkpoint_seconds").record(started.elapsed());
    Ok(())
}

/// Does something that may be done twice, again after a refusal that may pass.
async fn again<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
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
