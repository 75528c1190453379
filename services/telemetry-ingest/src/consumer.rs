//! The loop from the log to the log.
//!
//! ```text
//! records     | batch | batch | batch | batch | batch |   taken in while what was decided before is stored
//! published     |states| |states|   |states| |states|     one after the other
//! checkpoint                     |  stored   |            once the states that it rests on are published
//! ```
//!
//! Whoever is behind makes the next checkpoint while the one before is being stored ([`Storer`]).

use std::time::Duration;

use fleet::EvseState;
use runtime::Clock;
use store::{Change, Log, LogError, NewRecord, Record, Subscription, Tables, topic};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::feed::{Batch, Feed};
use crate::fold::{Fold, state_record};
use crate::live::Live;
use crate::storer::{Storer, again, ended};
use crate::{Config, Error, GROUP};

/// Between two counts of the fleet for those who watch.
const COUNTED: Duration = Duration::from_secs(5);

pub(crate) struct Consumer {
    config: Config,
    live: Live,
    clock: Clock,
    log: Log,
    readings: Feed,
    setpoints: Subscription,
    /// When the next checkpoint is due, if anything is unsaved.
    due: Option<Instant>,
    /// States on their way to the log.
    publishing: Option<Publishing>,
    /// What is stored once they are published.
    next: Option<Change>,
    storer: Storer,
    /// True if the last batch was all there was: whoever is behind publishes states with checkpoints only, and of each the last.
    is_drained: bool,
    counted: Instant,
}

/// Who drops it ends it.
type Publishing = AbortOnDropHandle<Result<(), Error>>;

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
            storer: Storer::new(tables),
            readings: Feed::new(log.subscribe(topic::READINGS, GROUP).await?, config.batch),
            setpoints: log.subscribe(topic::SETPOINTS, GROUP).await?,
            due: None,
            publishing: None,
            next: None,
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
                Met::Stored(stored) => stored?,
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
            self.store_next().await?;
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Met {
        let batch = self.config.batch;
        // What waits for the store is bounded.
        let room = self.live.read(Fold::taken) < self.config.checkpoint_records;
        let is_idle = self.publishing.is_none() && self.next.is_none() && self.storer.is_idle();
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
            published = published(&mut self.publishing) => Met::Published(published),
            stored = self.storer.next() => Met::Stored(stored),
            () = checkpoint => Met::Due,
            records = self.setpoints.next_batch(batch), if room => Met::Setpoints(records),
            batch = self.readings.next(), if room => Met::Readings(batch),
        }
    }

    /// Starts to store what has to be stored next, unless something is on its way.
    async fn store_next(&mut self) -> Result<(), Error> {
        let look = |fold: &Fold| (fold.taken(), fold.is_unsaved(), fold.has_changed());
        let (taken, is_unsaved, has_changed) = self.live.read(look);
        if is_unsaved && self.due.is_none() {
            self.due = Some(Instant::now() + self.config.checkpoint());
        }
        if self.publishing.is_some() {
            return Ok(());
        }
        if let Some(change) = self.next.take() {
            // There was room when it was made.
            self.storer.give(change).await;
        }
        let is_full = taken >= self.config.checkpoint_records;
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if is_full && self.storer.has_room() || is_due && self.storer.is_idle() {
            self.next = Some(self.checkpoint(false)?);
            self.publish();
        } else if has_changed && self.is_drained {
            self.publish();
        }
        Ok(())
    }

    /// Everything that is to be stored once the states are published.
    fn checkpoint(&mut self, whole: bool) -> Result<Change, Error> {
        self.due = None;
        self.count();
        Ok(self.live.write(|fold| fold.checkpoint(whole))?)
    }

    /// Publishes what has changed.
    fn publish(&mut self) {
        let changed = self.live.write(Fold::take_changed);
        let (log, live) = (self.log.clone(), self.live.clone());
        let publish = async move { publish(&log, &live, changed).await };
        self.publishing = Some(AbortOnDropHandle::new(tokio::spawn(publish)));
    }

    /// Stores everything: a restart begins where this run ends.
    async fn finish(mut self) -> Result<(), Error> {
        self.wait_published().await?;
        self.publish();
        self.wait_published().await?;
        if let Some(change) = self.next.take() {
            self.storer.give(change).await;
        }
        self.storer.all().await?;
        let change = self.checkpoint(true)?;
        self.storer.give(change).await;
        self.storer.all().await?;
        self.readings.end().await;
        Ok(())
    }

    async fn wait_published(&mut self) -> Result<(), Error> {
        match self.publishing.take() {
            Some(mut publishing) => ended(&mut publishing).await,
            None => Ok(()),
        }
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

/// What is being published, once it is; forever if nothing is.
async fn published(publishing: &mut Option<Publishing>) -> Result<(), Error> {
    match publishing {
        Some(publishing) => ended(publishing).await,
        None => std::future::pending().await,
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
