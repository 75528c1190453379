//! The loop from the log to the log.

use std::time::Duration;

use runtime::Clock;
use store::{Change, Log, LogError, Record, StoreError, Subscription, Tables, topic};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fold::state_record;
use crate::live::Live;
use crate::{Config, Error, GROUP};

/// Attempts to store something before the service gives up and is started anew.
const ATTEMPTS: u32 = 5;

/// Wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

pub(crate) struct Consumer {
    config: Config,
    live: Live,
    clock: Clock,
    tables: Tables,
    readings: Subscription,
    setpoints: Subscription,
    /// When the next checkpoint is due, if anything is unsaved.
    due: Option<Instant>,
}

/// What the loop met.
enum Met {
    Readings(Result<Vec<Record>, LogError>),
    Setpoints(Result<Vec<Record>, LogError>),
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
            config,
            live,
            clock,
            tables,
            readings: log.subscribe(topic::READINGS, GROUP).await?,
            setpoints: log.subscribe(topic::SETPOINTS, GROUP).await?,
            due: None,
        })
    }

    /// Runs until `stop`, then stores what was taken in.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let started = Instant::now();
            match self.next(&stop).await {
                Met::Stop => return self.checkpoint().await,
                Met::Due => self.checkpoint().await?,
                Met::Readings(records) => {
                    let (records, now) = (records?, self.clock.now());
                    self.live.write(|fold| fold.readings(&records, now));
                    self.publish().await?;
                }
                Met::Setpoints(records) => {
                    let (records, now) = (records?, self.clock.now());
                    self.live.write(|fold| fold.setpoints(&records, now));
                    self.publish().await?;
                }
            }
            self.schedule(started).await?;
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Met {
        let batch = self.config.batch;
        let due = self.due;
        let checkpoint = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Met::Stop,
            () = checkpoint => Met::Due,
            records = self.setpoints.next_batch(batch) => Met::Setpoints(records),
            records = self.readings.next_batch(batch) => Met::Readings(records),
        }
    }

    /// Publishes the states that changed.
    async fn publish(&mut self) -> Result<(), Error> {
        let changed = self.live.write(crate::fold::Fold::take_changed);
        if changed.is_empty() {
            return Ok(());
        }
        let records = changed.iter().map(state_record);
        let change = Change::default().records(records);
        store(&self.tables, &change).await?;
        self.live.announce(changed);
        Ok(())
    }

    /// Sees to it that a checkpoint is due in time after the first unsaved record.
    async fn schedule(&mut self, started: Instant) -> Result<(), Error> {
        let (taken, unsaved) = self.live.read(|fold| (fold.taken(), fold.is_unsaved()));
        if taken >= self.config.checkpoint_records {
            return self.checkpoint().await;
        }
        if unsaved && self.due.is_none() {
            self.due = Some(started.max(Instant::now()) + self.config.checkpoint());
        }
        Ok(())
    }

    async fn checkpoint(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        self.due = None;
        self.publish().await?;
        let change = self.live.write(crate::fold::Fold::checkpoint);
        store(&self.tables, &change).await?;
        metrics::histogram!("shoal_ingest_checkpoint_seconds").record(started.elapsed());
        let lag = self.readings.lag() + self.setpoints.lag();
        metrics::gauge!("shoal_ingest_lag_records").set(count(lag));
        let (evses, sessions) = self.live.read(|fold| {
            let plugged = fold.state.iter().filter(|state| state.session.is_some());
            (fold.state.iter().count(), plugged.count())
        });
        metrics::gauge!("shoal_fleet_evses").set(count(evses as u64));
        metrics::gauge!("shoal_fleet_sessions").set(count(sessions as u64));
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of records or EVSEs")]
fn count(of: u64) -> f64 {
    of as f64
}

/// Stores `change`, again after a refusal that may pass: everything in it is keyed.
async fn store(tables: &Tables, change: &Change) -> Result<(), StoreError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS {
        match tables.apply(change.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => {
                tracing::warn!(error = %error, "the store refused a change, next attempt in {wait:?}");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(error) => return Err(error),
        }
    }
    tables.apply(change.clone()).await
}
