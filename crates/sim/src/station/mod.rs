//! Simulated charge points: real OCPP 1.6, 2.0.1 and 2.1 clients over websockets, one per outlet of the fleet.
//!
//! A station boots, plugs in and out when its vehicle's stays say so, tells meter values at every quarter hour of the
//! clock and in between, follows the set-points it is given after a short reaction, and charges plainly when it hears
//! nothing. Messages of a transaction wait for a lost connection and are sent when it is back.

mod outlet;
mod run;
mod speak16;
mod speak2;
mod speak201;
mod speak21;
mod stream;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::fleet::{EvseId, Needs, SessionId, SiteId, VehicleId};
use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::engine::Backoff;
use ocpp_kit::transport::TransportError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Energy, Power};

use crate::fleet::Fleet;
use outlet::Outlet;
use run::Station;

/// What a boxed wait or call returns.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The clock that stations live by; simulated time may run faster than real time.
pub trait Time: Send + Sync + 'static {
    /// The instant now.
    fn now(&self) -> DateTime<Utc>;
    /// Waits for an instant; one in the past returns at once.
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()>;
}

/// What a driver says in an app because the station cannot: OCPP 1.6 tells neither needs nor energy in the battery.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// Outlet.
    pub evse: EvseId,
    /// Stay, as the platform names it: `{evse}:{transaction}`.
    pub session: SessionId,
    /// Who.
    pub vehicle: VehicleId,
    /// What it needs; the energy in the battery stays unknown.
    pub needs: Needs,
}

/// The app through which drivers of one-way stations say what they need.
pub trait DriverApp: Send + Sync + 'static {
    /// Takes what a driver says. Must try again by itself where that fails.
    fn state(&self, stated: Stated) -> Boxed<'_, ()>;
}

/// The meter with which a station reads the grid frequency.
#[derive(Clone)]
pub struct FrequencyMeter(pub Arc<dyn Fn(DateTime<Utc>) -> i32 + Send + Sync>);

impl std::fmt::Debug for FrequencyMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FrequencyMeter")
    }
}

type Obeys = dyn Fn(&EvseId, DateTime<Utc>) -> bool + Send + Sync;

/// Whether a station does, at an instant, what it accepts.
#[derive(Clone)]
pub struct Obedience(pub Arc<Obeys>);

impl std::fmt::Debug for Obedience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Obedience")
    }
}

/// How stations behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where they connect: `ws://HOST:PORT/ocpp`, without the identity.
    pub url: String,
    /// Simulated time between meter samples beside the clock-aligned ones, while plugged in.
    pub sample_period: TimeDelta,
    /// Tell the meter once after each change of power.
    pub sample_changes: bool,
    /// Simulated time from a set-point to the power that follows it.
    pub reaction: TimeDelta,
    /// Real time between attempts to connect.
    pub backoff: Backoff,
    /// Real time for which a call may go unanswered.
    pub call_timeout: Duration,
    /// Stations that accept set-points and go on as before; without it all obey.
    pub obedience: Option<Obedience>,
    /// One-way stations take limits in amperes only, as many wallboxes do.
    pub amperes: bool,
    /// Stations of 2.1 can stream the registers of their meters.
    pub streams: bool,
    /// Frequency in millihertz at an instant; stations without a meter refuse to follow a frequency.
    pub frequency: Option<FrequencyMeter>,
    /// A departure counts as short beyond this. One-way meters count whole watt hours, and a bus at full power moves
    /// forty of them in a second.
    pub short_tolerance: Energy,
}

impl Options {
    /// Stations that connect to `url` and behave like good hardware.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            sample_period: TimeDelta::seconds(60),
            sample_changes: true,
            reaction: TimeDelta::milliseconds(500),
            backoff: Backoff {
                wait_minimum: Duration::from_millis(500),
                random_range: Duration::from_millis(500),
                repeat_times: 4,
            },
            call_timeout: Duration::from_secs(30),
            obedience: None,
            amperes: false,
            streams: false,
            frequency: None,
            short_tolerance: Energy::from_wh(100),
        }
    }
}

/// What truly happened, whatever anybody was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// Stays that began, those in progress at the start included.
    pub stays_begun: u64,
    /// Stays that ended.
    pub stays_ended: u64,
    /// Departures below what was needed and reachable at full power, by more than the tolerance.
    pub left_short: u64,
    /// Energy missing at all departures together, small ones included.
    pub short: Energy,
    /// Energy in all vehicles, plugged in or not. Driving since the last stay is not taken out yet.
    pub stored: Energy,
    /// Power of all outlets; positive charges.
    pub power: Power,
    /// Vehicles plugged in.
    pub plugged_in: u64,
    /// Messages sent by stations, answers not counted.
    pub messages: u64,
    /// Calls of stations that were refused or never answered.
    pub failed: u64,
    /// Set-points that stations took.
    pub setpoints: u64,
    /// Import and export by site and start of the quarter hour, since the start.
    pub energy: BTreeMap<(SiteId, DateTime<Utc>), SiteEnergy>,
}

/// Energy of one site in one quarter hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteEnergy {
    /// Taken from the grid, at least zero.
    pub import: Energy,
    /// Given to the grid as a magnitude, at least zero.
    pub export: Energy,
}

/// A running fleet of stations.
#[derive(Debug)]
pub struct Stations {
    fleet: Arc<Fleet>,
    time: Arc<dyn Time>,
    stations: Vec<Arc<Station>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for dyn Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "time at {}", self.now())
    }
}

/// Starts one station per outlet of `fleet`. They live from `start` (now, by `time`) with the stays that begin before
/// `until`; stays in progress are told from their plug-in on, charged by nobody until now.
///
/// # Errors
/// [`TransportError`] if the address cannot be one of a websocket.
pub fn spawn_fleet(
    fleet: &Arc<Fleet>,
    start: DateTime<Utc>,
    until: DateTime<Utc>,
    options: &Options,
    time: &Arc<dyn Time>,
    app: &Arc<dyn DriverApp>,
) -> Result<Stations, TransportError> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut stations = Vec::with_capacity(fleet.evses().len());
    for vehicle in 0..fleet.vehicles().len() {
        let tolerance = options.short_tolerance;
        let outlet = Outlet::new(Arc::clone(fleet), vehicle, start, until, tolerance);
        let station = Arc::new(Station::new(
            fleet.evses()[vehicle].clone(),
            fleet.vehicles()[vehicle].clone(),
            outlet,
            options.clone(),
            Arc::clone(time),
        ));
        let client = run::connect(&station)?;
        let running = Arc::clone(&station);
        tasks.spawn(run::run(
            running,
            client,
            Arc::clone(app),
            vehicle,
            stop.clone(),
        ));
        stations.push(station);
    }
    tasks.close();
    Ok(Stations {
        fleet: Arc::clone(fleet),
        time: Arc::clone(time),
        stations,
        tasks,
        stop,
    })
}

impl Stations {
    /// What truly happened until now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let now = self.time.now();
        let mut truth = Truth::default();
        for (station, evse) in self.stations.iter().zip(self.fleet.evses()) {
            station.add_to(&mut truth, &evse.site, now);
        }
        truth
    }

    /// Power at one outlet now, whatever anybody was told; `None` for one that is not in the fleet.
    #[must_use]
    pub fn power(&self, evse: &EvseId) -> Option<Power> {
        let station = self.stations.iter().find(|s| s.evse.id == *evse)?;
        Some(station.power())
    }

    /// Stops all stations where they are; what they had still to tell is lost.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
