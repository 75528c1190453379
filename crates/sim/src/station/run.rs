//! One station: a task that tells what happens at its outlet, and a handler that takes what it is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::fleet::{Curve, Evse, Needs, Protocol};
use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::{
    CallFailure, CallOptions, EngineConfig, IncomingRequest, RetryPolicy, Role,
};
use ocpp_kit::message::{Confirmed, NoResponse, Request, Unconfirmed};
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::{BasicAuthPassword, BoxFuture, Ctx, Handle, Handler, TransportError};
use ocpp_kit::types::{DateTime as OcppTime, Decimal};
use ocpp_kit::{RawValue, Version};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use units::{Energy, Power};

use super::outlet::{Order, Outlet, Report, What};
use super::stream::{Monitors, Streamer};
use super::{
    DriverApp, Options, SiteEnergy, Stated, Time, Truth, speak2, speak16, speak21, speak201,
};
use crate::fleet::{Stay, Vehicle};

/// Attempts and real time between them for messages of a transaction that are refused or not answered.
const RETRIES: RetryPolicy = RetryPolicy {
    attempts: 20,
    interval: Duration::from_secs(1),
};
/// Simulated time between readings of the frequency while a profile follows it.
const READ_FREQUENCY: TimeDelta = TimeDelta::seconds(1);
/// Phase voltage and phases of the outlets, where a current has to be told.
pub(super) const VOLTS: i64 = 230;
pub(super) const PHASES: i64 = 3;
/// Key of the simulated stations; profile 1 wants sixteen characters.
const PASSWORD: &str = "simulated-station";

/// A 2.1 profile that later updates refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    pub(super) id: i32,
    pub(super) life: Option<TimeDelta>,
    /// How the power is found.
    pub(super) operation: Operation,
    /// When it is over unless it is renewed.
    pub(super) until: Option<DateTime<Utc>>,
}

/// Operation mode of a 2.1 profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// The number told last is the power.
    Setpoint,
    /// The number told last is the most; this station charges as much as it may.
    Limit,
    Idle,
    /// A curve over the balancing signal, on top of a baseline.
    Signal(Power, Curve),
    /// A curve over the frequency measured here, on top of a baseline.
    Frequency(Power, Curve),
}

/// What handler and task share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) outlet: Outlet,
    /// Transaction in progress, as told to the other side.
    pub(super) transaction: Option<String>,
    /// A start is on its way. Where the other side numbers transactions, it may speak of the number before the task that
    /// asked for it has read the answer.
    pub(super) starting: bool,
    pub(super) dynamic: Option<Dynamic>,
    pub(super) monitors: Monitors,
    /// Time between meter samples, as told last.
    sample_period: TimeDelta,
}

/// A profile that limits charging, as 1.6 and 2.0.1 say it.
#[derive(Debug)]
pub(super) struct Limit {
    /// Transaction it is for.
    pub(super) transaction: Option<String>,
    pub(super) watts: Decimal,
    pub(super) start: Option<OcppTime>,
    pub(super) seconds: Option<i32>,
}

#[derive(Debug)]
pub(super) struct Station {
    pub(super) evse: Evse,
    pub(super) vehicle: Vehicle,
    pub(super) options: Options,
    time: Arc<dyn Time>,
    state: Mutex<State>,
    changed: Notify,
    messages: AtomicU64,
    failed: AtomicU64,
    setpoints: AtomicU64,
}

impl Station {
    pub(super) fn new(
        evse: Evse,
        vehicle: Vehicle,
        outlet: Outlet,
        options: Options,
        time: Arc<dyn Time>,
    ) -> Self {
        let state = State {
            outlet,
            transaction: None,
            starting: false,
            dynamic: None,
            monitors: Monitors::default(),
            sample_period: options.sample_period,
        };
        Self {
            evse,
            vehicle,
            options,
            time,
            state: Mutex::new(state),
            changed: Notify::new(),
            messages: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            setpoints: AtomicU64::new(0),
        }
    }

    /// The shared state, advanced to now.
    pub(super) fn look(&self) -> (MutexGuard<'_, State>, DateTime<Utc>) {
        let mut state = self.lock();
        let now = self.time.now();
        state.outlet.advance(now);
        (state, now)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.time.now()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an order that lives for `life` from now; false if nobody is plugged in.
    pub(super) fn obey(
        &self,
        state: &mut State,
        now: DateTime<Utc>,
        power: Power,
        until: Option<DateTime<Utc>>,
    ) -> bool {
        let order = Order {
            power,
            from: now + self.options.reaction,
            until,
        };
        let obeys = self.options.obedience.as_ref();
        let taken = if obeys.is_none_or(|obeys| (obeys.0)(&self.evse.id, now)) {
            state.outlet.order(order)
        } else {
            state.outlet.stay().is_some()
        };
        if taken {
            self.setpoints.fetch_add(1, Ordering::Relaxed);
            self.changed.notify_one();
        }
        taken
    }

    /// Reads the frequency once where a profile asks for that; answers when it wants to be read again.
    fn follow_frequency(&self) -> Option<DateTime<Utc>> {
        let meter = self.options.frequency.as_ref()?;
        let (mut state, now) = self.look();
        let armed = state.dynamic.clone()?;
        let Operation::Frequency(baseline, curve) = armed.operation else {
            return None;
        };
        if armed.until.is_some_and(|until| until <= now) {
            return None;
        }
        state.outlet.order(Order {
            power: baseline + curve.power((meter.0)(now)),
            from: now,
            until: armed.until,
        });
        Some(now + READ_FREQUENCY)
    }

    /// Takes a limit for the transaction in progress; false if it is for another or makes no sense.
    pub(super) fn limit(&self, limit: &Limit) -> bool {
        let (mut state, now) = self.look();
        let ours = limit.transaction == state.transaction
            || (state.starting && limit.transaction.is_some());
        let Some(power) = watts(limit.watts).filter(|p| ours && *p >= Power::ZERO) else {
            return false;
        };
        let from = limit.start.and_then(our_time).unwrap_or(now);
        let until = limit.seconds.map(|d| from + TimeDelta::seconds(d.into()));
        self.obey(&mut state, now, power, until)
    }

    /// Watts of a limit in the unit that this station takes; `None` for one in the other.
    pub(super) fn taken(&self, limit: Decimal, amperes: bool) -> Option<Decimal> {
        if amperes != self.options.amperes {
            None
        } else if amperes {
            limit.checked_mul(Decimal::from_i64(VOLTS * PHASES))
        } else {
            Some(limit)
        }
    }

    /// Seconds between meter samples.
    pub(super) fn sample_seconds(&self) -> i64 {
        self.lock().sample_period.num_seconds()
    }

    /// Takes a number of seconds between meter samples; false if that is none.
    pub(super) fn sample_every(&self, seconds: &str) -> bool {
        let Some(seconds) = seconds.parse::<u32>().ok().filter(|s| *s > 0) else {
            return false;
        };
        self.lock().sample_period = TimeDelta::seconds(seconds.into());
        // Awake, the task takes the new period.
        self.changed.notify_one();
        true
    }

    /// Its task looks at what it was told.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Forgets what it was told: plain charging.
    pub(super) fn release(&self) {
        let (mut state, _) = self.look();
        state.dynamic = None;
        state.outlet.release();
    }

    /// Power now.
    pub(super) fn power(&self) -> Power {
        self.look().0.outlet.meter().power
    }

    pub(super) fn add_to(&self, truth: &mut Truth, site: &::fleet::SiteId, now: DateTime<Utc>) {
        let mut state = self.lock();
        state.outlet.advance(now);
        let departures = state.outlet.departures();
        truth.stays_begun += departures.begun;
        truth.stays_ended += departures.ended;
        truth.left_short += departures.left_short;
        truth.short += departures.short;
        truth.stored += state.outlet.level();
        truth.power += state.outlet.meter().power;
        truth.plugged_in += u64::from(state.outlet.stay().is_some());
        truth.messages += self.messages.load(Ordering::Relaxed);
        truth.failed += self.failed.load(Ordering::Relaxed);
        truth.setpoints += self.setpoints.load(Ordering::Relaxed);
        for (start, import, export) in state.outlet.quarters() {
            let sum: &mut SiteEnergy = truth.energy.entry((site.clone(), start)).or_default();
            sum.import += import;
            sum.export += export;
        }
    }
}

struct Ears(Arc<Station>);

impl Handler for Ears {
    fn on_request(
        &self,
        ctx: Ctx,
        request: IncomingRequest,
    ) -> BoxFuture<'_, Result<Box<RawValue>, CallError>> {
        Box::pin(async move {
            let options = DecodeOptions::strict();
            match ctx.version() {
                Version::V1_6 => speak16::obey(&self.0, &ctx, &request, &options),
                Version::V2_0_1 => speak201::obey(&self.0, &ctx, &request, &options),
                Version::V2_1 => speak21::obey(&self.0, &ctx, &request, &options),
                _ => Err(CallError::not_implemented(&request.action)),
            }
        })
    }
}

/// Opens the station's connection and keeps it open.
pub(super) fn connect(station: &Arc<Station>) -> Result<Handle, TransportError> {
    let version = match station.evse.protocol {
        Protocol::Ocpp16 => Version::V1_6,
        Protocol::Ocpp201 => Version::V2_0_1,
        Protocol::Ocpp21 => Version::V2_1,
    };
    let engine = EngineConfig::new(Role::ChargingStation, version)
        .with_call_timeout(station.options.call_timeout)
        .with_retry(RETRIES);
    ocpp_kit::transport::Station::builder()
        .identity(station.evse.station.as_str())?
        .url(station.options.url.clone())
        .versions([version])
        .password(BasicAuthPassword::utf8(PASSWORD)?)
        .backoff(station.options.backoff)
        .engine_config(engine)
        .handler(Ears(Arc::clone(station)))
        .build()?
        .spawn()
}

/// The mouth of a station: calls, counted.
pub(super) struct Mouth<'a> {
    pub(super) station: &'a Station,
    client: &'a Handle,
}

impl Mouth<'_> {
    /// Makes a call that waits for a lost connection. `None` if it was refused or never answered.
    pub(super) async fn call<R>(&self, request: R) -> Option<R::Response>
    where
        R: Request + Confirmed,
    {
        self.station.messages.fetch_add(1, Ordering::Relaxed);
        let waits = CallOptions::default().queue_when_offline(true);
        match self.client.call_with(request, waits).await {
            Ok(response) => Some(response),
            Err(failure) => {
                self.failed(&failure);
                None
            }
        }
    }

    /// Sends a message that is never answered; it is lost where the connection is.
    pub(super) async fn send<R>(&self, request: R)
    where
        R: Request<Response = NoResponse> + Unconfirmed,
    {
        self.station.messages.fetch_add(1, Ordering::Relaxed);
        if let Err(failure) = self.client.send(request).await {
            self.failed(&failure);
        }
    }

    fn failed(&self, failure: &CallFailure) {
        self.station.failed.fetch_add(1, Ordering::Relaxed);
        let station = &self.station.evse.station;
        tracing::warn!(station.id = %station, "simulated station {station} was not heard: {failure}");
    }
}

/// Lives until `stop`.
pub(super) async fn run(
    station: Arc<Station>,
    client: Handle,
    app: Arc<dyn DriverApp>,
    number: usize,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = live(&station, &client, &*app, number) => {}
    }
    let goodbye = Duration::from_millis(200);
    // A peer that is gone does not answer a goodbye.
    let _ = tokio::time::timeout(goodbye * 2, client.shutdown(goodbye)).await;
}

async fn live(station: &Station, client: &Handle, app: &dyn DriverApp, number: usize) {
    let mouth = Mouth { station, client };
    match station.evse.protocol {
        Protocol::Ocpp16 => speak16::boot(&mouth).await,
        Protocol::Ocpp201 | Protocol::Ocpp21 => speak2::boot(&mouth).await,
    }
    let mut teller = Teller {
        mouth,
        app,
        stay: None,
        sequence: 0,
    };
    let mut streamer = Streamer::default();
    let mut period = station.lock().sample_period;
    let mut sample_at = first_sample(station, number);
    let mut change_at: Option<DateTime<Utc>> = None;
    loop {
        // First: it advances the outlet, and what happened meanwhile is told below.
        let stream = streamer.step(&teller.mouth, teller.stay.is_some()).await;
        let mut aligned = false;
        while let Some(report) = next_report(station) {
            aligned |= report.what == What::Aligned;
            teller.tell(report).await;
        }
        let now = station.time.now();
        let told = station.lock().sample_period;
        if told != period {
            period = told;
            sample_at = sample_at.min(now + period);
        }
        if sample_at <= now || change_at.is_some_and(|at| at <= now) {
            change_at = None;
            while sample_at <= now {
                sample_at += period.max(TimeDelta::milliseconds(100));
            }
            // A quarter hour just told says it all.
            if !aligned && teller.stay.is_some() {
                teller.sample().await;
            }
        }
        let frequency = station.follow_frequency();
        // Not advanced here: what has happened meanwhile is due, and told in the next round.
        let next = station.lock().outlet.next_event();
        let sample = teller.stay.is_some().then_some(sample_at);
        let due = [next, sample, change_at, frequency, stream]
            .into_iter()
            .flatten()
            .min();
        let wake = due.unwrap_or_else(|| station.time.now() + TimeDelta::hours(1));
        tokio::select! {
            () = station.time.sleep_until(wake) => {}
            () = station.changed.notified() => {
                if station.options.sample_changes && change_at.is_none() {
                    // Just after the power has followed.
                    let settled = station.options.reaction + TimeDelta::milliseconds(100);
                    change_at = Some(station.time.now() + settled);
                }
            }
        }
    }
}

/// Samples of a fleet are spread over the period.
fn first_sample(station: &Station, number: usize) -> DateTime<Utc> {
    let spread = i64::try_from(number % 64).unwrap_or_default();
    let period = station.options.sample_period.num_milliseconds();
    station.time.now() + TimeDelta::milliseconds(period * spread / 64)
}

fn next_report(station: &Station) -> Option<Report> {
    let (mut state, _) = station.look();
    state.outlet.take_report()
}

/// Tells what happened, in order, one call at a time.
struct Teller<'a> {
    mouth: Mouth<'a>,
    app: &'a dyn DriverApp,
    stay: Option<Told>,
    sequence: i32,
}

/// The stay as told so far: it may be over at the outlet already.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) transaction: String,
}

impl Teller<'_> {
    async fn tell(&mut self, report: Report) {
        let in16 = self.mouth.station.evse.protocol == Protocol::Ocpp16;
        match &report.what {
            What::PluggedIn { stay, arrival } if in16 => {
                self.mouth.station.lock().starting = true;
                let transaction = speak16::start(&self.mouth, &report.meter).await;
                self.begin(transaction);
                self.tell_app(stay, *arrival).await;
            }
            What::PluggedIn { stay, arrival } => {
                self.sequence = 0;
                let transaction = stay.id.to_string();
                let needs = self.needs(stay, *arrival);
                // Orders may come before the start is answered.
                self.begin(Some(transaction.clone()));
                speak2::start(&self.mouth, &transaction, &report.meter).await;
                self.sequence = 1;
                if self.mouth.station.evse.protocol == Protocol::Ocpp21 {
                    speak21::needs(&self.mouth, &needs, report.meter.at).await;
                } else {
                    speak201::needs(&self.mouth, &needs).await;
                }
            }
            What::Aligned if in16 => {
                speak16::values(&self.mouth, self.stay.as_ref(), &report.meter, true).await;
            }
            What::Aligned => {
                let sequence = self.next();
                speak2::values(
                    &self.mouth,
                    self.stay.as_ref(),
                    &report.meter,
                    true,
                    sequence,
                )
                .await;
            }
            What::Left { .. } => self.left(&report, in16).await,
        }
    }

    async fn left(&mut self, report: &Report, in16: bool) {
        let sequence = self.next();
        let Some(told) = self.stay.take() else {
            return;
        };
        if in16 {
            speak16::stop(&self.mouth, &told, &report.meter).await;
        } else {
            speak2::stop(&self.mouth, &told, &report.meter, sequence).await;
        }
        let mut state = self.mouth.station.lock();
        if state.transaction.as_ref() == Some(&told.transaction) {
            state.transaction = None;
            state.dynamic = None;
        }
    }

    async fn sample(&mut self) {
        let meter = {
            let (state, _) = self.mouth.station.look();
            state.outlet.meter()
        };
        if self.mouth.station.evse.protocol == Protocol::Ocpp16 {
            speak16::values(&self.mouth, self.stay.as_ref(), &meter, false).await;
        } else {
            let sequence = self.next();
            speak2::values(&self.mouth, self.stay.as_ref(), &meter, false, sequence).await;
        }
    }

    fn next(&mut self) -> i32 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    fn begin(&mut self, transaction: Option<String>) {
        let mut state = self.mouth.station.lock();
        state.starting = false;
        let Some(transaction) = transaction else {
            return;
        };
        state.transaction = Some(transaction.clone());
        state.dynamic = None;
        drop(state);
        self.stay = Some(Told { transaction });
    }

    fn needs(&self, stay: &Stay, arrival: Energy) -> Needs {
        let (evse, vehicle) = (&self.mouth.station.evse, &self.mouth.station.vehicle);
        Needs {
            departure: Some(stay.plug_out),
            energy: (stay.required - arrival).max(Energy::ZERO),
            stored: Some(arrival),
            capacity: Some(vehicle.capacity),
            max_charge: evse.max_charge,
            max_discharge: evse.max_discharge,
            floor: vehicle.floor,
        }
    }

    /// The driver of a one-way station says in the app what the station cannot.
    async fn tell_app(&self, stay: &Stay, arrival: Energy) {
        let Some(told) = &self.stay else {
            return;
        };
        let evse = &self.mouth.station.evse;
        let Ok(session) = format!("{}:{}", evse.id, told.transaction).parse() else {
            tracing::warn!(evse.id = %evse.id, "session of {} has no name that an app could use", evse.id);
            return;
        };
        let needs = Needs {
            stored: None,
            capacity: None,
            max_discharge: Power::ZERO,
            floor: Energy::ZERO,
            ..self.needs(stay, arrival)
        };
        let stated = Stated {
            evse: evse.id.clone(),
            session,
            vehicle: self.mouth.station.vehicle.id.clone(),
            needs,
        };
        self.app.state(stated).await;
    }
}

/// Our instant as OCPP writes it, to the microsecond.
pub(super) fn ocpp_time(at: DateTime<Utc>) -> OcppTime {
    jiff::Timestamp::from_microsecond(at.timestamp_micros())
        .map_or(OcppTime::UNIX_EPOCH, OcppTime::from_timestamp)
}

/// Their instant as ours.
pub(super) fn our_time(at: OcppTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.timestamp().as_microsecond())
}

/// Whole watts, rounded; `None` if that is beyond what can be counted.
pub(super) fn watts(value: Decimal) -> Option<Power> {
    let whole = value.round_to(0)?;
    i64::try_from(whole).ok().map(Power::from_watts)
}
