//! The loop that runs cycles: at once on a signal, otherwise each cycle period.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::activation::Delivery;
use dispatch::fleet::Setpoint;
use market::Area;
use runtime::Clock;
use runtime::trace::{self, Context, Span};
use store::{Change, LogError, NewRecord, StoreError, Tables, Tenure, topic};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use units::Interval;
use wire::proto::dispatch::v1 as proto;

use crate::command::Order;
use crate::config::Pace;
use crate::cycle::{Decision, Dispatcher};
use crate::decisions::Decisions;
use crate::view::{Shared, Told};
use crate::{Error, GROUP, records};

/// Set-points of a signal that stand for all of them in its trace: one per EVSE would be thousands of spans.
const TRACED: usize = 4;
/// Cycles that a slow watcher may be behind before it misses some.
const WATCHED: usize = 256;

/// The dispatcher as its loop and its service share it.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    dispatcher: Arc<Mutex<Dispatcher>>,
    /// Held by whoever changes the order: one after the other, each stored before the next.
    ordering: Arc<tokio::sync::Mutex<()>>,
    /// What cycles decided from, on its way to the log.
    decisions: Arc<Mutex<Decisions>>,
    /// Records that could not be stored yet.
    unsaved: Arc<Mutex<Vec<(String, String)>>>,
    cycles: broadcast::Sender<proto::Cycle>,
    shared: Shared,
    clock: Clock,
    log: store::Log,
    tables: Tables,
    pace: Pace,
    least_real: Duration,
    tenure: Tenure,
}

impl Control {
    /// A dispatcher that remembers the deliveries of before.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the process that the dispatcher acts through"
    )]
    pub(crate) async fn load(
        area: Area,
        pace: Pace,
        least_real: Duration,
        shared: Shared,
        clock: Clock,
        log: store::Log,
        tables: Tables,
        tenure: Tenure,
    ) -> Result<Self, StoreError> {
        let now = clock.now();
        let kept = tables.kept(GROUP).await?;
        let deliveries: Vec<Delivery> = kept
            .iter()
            .filter(|(key, _)| key.starts_with(records::DELIVERY))
            .filter_map(|(_, body)| serde_json::from_str(body).ok())
            .collect();
        let mut dispatcher = Dispatcher::new(area, pace, now, deliveries);
        if let Some((_, body)) = kept.iter().find(|(key, _)| key == records::ORDER) {
            dispatcher.order = serde_json::from_str(body).unwrap_or_else(|error| {
                tracing::error!(%error, "the order in force does not read: taken for a kill");
                let mut order = Order::default();
                order.kill();
                order
            });
        }
        Ok(Self {
            dispatcher: Arc::new(Mutex::new(dispatcher)),
            ordering: Arc::default(),
            decisions: Arc::new(Mutex::new(Decisions::new(
                format!("{area}/{}/{}", now.timestamp_micros(), std::process::id()),
                area.code().to_owned(),
            ))),
            unsaved: Arc::default(),
            cycles: broadcast::Sender::new(WATCHED),
            shared,
            clock,
            log,
            tables,
            pace,
            least_real,
            tenure,
        })
    }

    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<proto::Cycle> {
        self.cycles.subscribe()
    }

    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Changes the order in force. What is told about it and the order itself are stored before they have an effect; the name of
    /// the new order is answered.
    ///
    /// # Errors
    /// [`StoreError`] if they were not stored; the order is as before.
    pub(crate) async fn order(
        &self,
        told: NewRecord,
        change: impl FnOnce(&mut Order) + Send,
    ) -> Result<&'static str, StoreError> {
        let _one_at_a_time = self.ordering.lock().await;
        let mut order = self.dispatcher().order.clone();
        change(&mut order);
        let kept = records::body(records::ORDER.to_owned(), &order);
        let stored = Change::default().records([told]).keep(GROUP, kept);
        self.tables.apply(stored).await?;
        let name = order.name();
        self.dispatcher().order = order;
        Ok(name)
    }

    /// Runs until `stop`. `wake` changes with each signal.
    ///
    /// # Errors
    /// [`Error`] when the log or the tables refuse for good. While they are away each cycle decides anew. On restart the dispatcher
    /// continues from fleet state, plan and awards.
    pub(crate) async fn run(
        self,
        mut wake: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let mut due = self.clock.now();
        let mut last: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                () = self.clock.sleep_until(due) => {}
                changed = wake.changed() => {
                    if changed.is_err() {
                        self.clock.sleep_until(due).await;
                    }
                }
                () = stop.cancelled() => {
                    self.write_down().await;
                    return Ok(());
                }
            }
            if let Some(last) = last {
                // Signals may come in bursts: the newest counts, cycles keep their least distance.
                tokio::select! {
                    () = tokio::time::sleep_until(last + self.least_real) => {}
                    () = stop.cancelled() => {
                    self.write_down().await;
                    return Ok(());
                }
                }
            }
            wake.borrow_and_update();
            last = Some(tokio::time::Instant::now());
            let now = self.clock.now();
            due = now + self.pace.cycle;
            match self.cycle(now).await {
                Err(error) if error.is_retryable() => {
                    metrics::counter!("shoal_dispatch_cycles_failed_total").increment(1);
                    tracing::error!(%error, "a cycle had no effect, the next one decides anew: {error}");
                    self.dispatcher().tell_all_again();
                    self.decisions().anew();
                }
                done => done?,
            }
        }
    }

    /// One cycle: decided under the lock, done outside it.
    pub(crate) async fn cycle(&self, now: DateTime<Utc>) -> Result<(), Error> {
        let (began, started) = (self.clock.monotonic_ms(), trace::now());
        let term = self
            .tenure
            .term()
            .map(|(office, number)| proto::Term { office, number });
        let (decision, received, number) = {
            let mut view = self.shared.lock();
            let mut dispatcher = self.dispatcher();
            let mut decisions = self.decisions();
            let now = decisions.instant(now);
            decisions.begin(&mut view, &dispatcher, now);
            let mut step = decisions.inputs(&mut view, &dispatcher.order, now);
            let decision = dispatcher.cycle(&view, now);
            decisions.decided(&dispatcher.order);
            step.setpoints = decision.message.setpoints;
            step.term = term.clone();
            (decision, view.received.clone(), decisions.push_step(step))
        };
        metrics::histogram!("shoal_dispatch_decision_seconds")
            .record((self.clock.monotonic_ms() - began) / 1e3);
        let answering = decision.setpoints.first().and_then(|s| s.signal.as_ref());
        let hop = received.filter(|_| answering.is_some());
        let hop = hop.map(|hop| split_hop(&hop, &decision, started));
        let appending = hop.map(|hop| Span::after(&hop, "log.append"));
        let context = appending.as_ref().and_then(Span::context);
        let traceparent = context.as_ref().map(Context::traceparent);
        let setpoints =
            setpoint_records(&decision.setpoints, term.as_ref(), traceparent.as_deref());
        // A process that slept may have been succeeded while it decided.
        if !self.tenure.is_held() {
            metrics::counter!("shoal_dispatch_cycles_void_total").increment(1);
            self.dispatcher().not_told(&decision.setpoints);
            self.decisions().complete(number, |step| step.untold = true);
            return Ok(());
        }
        let told = self.tell(number, setpoints, traceparent).await;
        if let (Some(mut hop), Err(error)) = (appending, &told) {
            hop.failed(error.to_string());
        }
        if let Some(by) = context {
            self.await_answers(&decision, &by, started);
        }
        measure(&decision);
        // What was seen is kept whether or not it could be acted on.
        self.keep(&decision, now).await?;
        told?;
        // Nobody watching is no fault.
        let _ = self.cycles.send(decision.message);
        Ok(())
    }

    /// Puts set-points on the log together with what they were decided from; without set-points that waits for a while.
    async fn tell(
        &self,
        number: u64,
        setpoints: Vec<NewRecord>,
        traceparent: Option<String>,
    ) -> Result<(), LogError> {
        let told = !setpoints.is_empty();
        let (taken, mut records) = {
            let mut decisions = self.decisions();
            decisions.complete(number, |step| {
                step.untold = false;
                step.traceparent = traceparent;
            });
            let taken = decisions.take(told);
            let records: Vec<_> = taken.iter().map(|d| decisions.record(d)).collect();
            (taken, records)
        };
        if taken.is_empty() && !told {
            return Ok(());
        }
        records.extend(setpoints);
        let appended = self.log.append(records).await;
        if appended.is_err() {
            self.decisions().give_back(taken, number);
        }
        appended
    }

    /// Appends what still waits: nobody decides here any more.
    async fn write_down(&self) {
        let records: Vec<_> = {
            let mut decisions = self.decisions();
            let taken = decisions.take(true);
            taken.iter().map(|d| decisions.record(d)).collect()
        };
        let count = records.len();
        if let Err(error) = self.log.append(records).await {
            tracing::warn!(%error, "{count} cycles without set-points are not written down: {error}");
        }
    }

    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The first set-points of a signal stand for all in its trace.
    fn await_answers(&self, decision: &Decision, by: &Context, began: SystemTime) {
        for setpoint in decision.setpoints.iter().take(TRACED) {
            let told = Told {
                by: by.clone(),
                began,
                issued_at: setpoint.issued_at,
                power: setpoint.power,
            };
            self.shared.unanswered.expect(setpoint.evse.as_str(), told);
        }
    }

    /// Stores the records of the quarter hour that ended and the baseline of the one that began; what cannot be stored now is stored
    /// with a later cycle.
    async fn keep(&self, decision: &Decision, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut kept = std::mem::take(&mut *self.unsaved());
        if let Some(began) = decision.began {
            self.of_the_quarter(decision, began, now, &mut kept);
        }
        if kept.is_empty() {
            return Ok(());
        }
        let stored = self
            .tables
            .apply(Change::default().keep(GROUP, kept.iter().cloned()))
            .await;
        if stored.is_err() {
            *self.unsaved() = kept;
        }
        stored
    }

    fn of_the_quarter(
        &self,
        decision: &Decision,
        began: Interval,
        now: DateTime<Utc>,
        kept: &mut Vec<(String, String)>,
    ) {
        for availability in &decision.closed {
            kept.extend(records::body(
                records::availability_key(availability.award, availability.interval.start()),
                availability,
            ));
        }
        for delivery in &decision.deliveries {
            kept.extend(records::body(
                records::delivery_key(delivery.award.id),
                delivery,
            ));
        }
        let frozen = self.shared.lock().baselines.frozen(began);
        if let Some(frozen) = frozen {
            let said = (frozen.power.watts(), frozen.created_at, frozen.plan);
            kept.extend(records::body(records::baseline_key(began.start()), &said));
        } else {
            tracing::debug!(interval.start = %began.start(), "no baseline was said for {} before it began", began.start());
        }
        let pruned = now - TimeDelta::days(9);
        self.shared
            .lock()
            .imbalance
            .retain(|start, _| *start > pruned);
    }

    fn unsaved(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Set-points as they go on the log; the first ones carry the trace.
pub(crate) fn setpoint_records(
    setpoints: &[Setpoint],
    term: Option<&proto::Term>,
    traceparent: Option<&str>,
) -> Vec<NewRecord> {
    let record = |(n, setpoint): (usize, &Setpoint)| {
        let told = proto::Setpoint {
            term: term.cloned(),
            traceparent: traceparent.filter(|_| n < TRACED).map(str::to_owned),
            ..setpoint.into()
        };
        NewRecord {
            topic: topic::SETPOINTS,
            key: setpoint.evse.as_str().to_owned(),
            payload: wire::encode(&told),
        }
    };
    setpoints.iter().enumerate().map(record).collect()
}

/// The decision as a hop of the signal's trace.
fn split_hop(received: &Context, decision: &Decision, began: SystemTime) -> Context {
    let message = &decision.message;
    let hop = Span::since(received, "gateway.split", began)
        .with("signal.id", message.signal_id.clone().unwrap_or_default())
        .with("setpoints", i64::from(message.setpoints))
        .with("target_watts", message.target_watts);
    hop.context().unwrap_or_else(|| received.clone())
}

fn measure(decision: &Decision) {
    let message = &decision.message;
    let watts = |value: i64| units::Power::from_watts(value).kw() * 1e3;
    metrics::counter!("shoal_dispatch_cycles_total").increment(1);
    metrics::counter!("shoal_setpoints_total").increment(u64::from(message.setpoints));
    metrics::gauge!("shoal_pool_target_watts").set(watts(message.target_watts));
    metrics::gauge!("shoal_pool_shortfall_watts").set(watts(message.shortfall_watts));
    if let Some(actual) = message.actual_watts {
        metrics::gauge!("shoal_pool_metered_watts").set(watts(actual));
    }
}
