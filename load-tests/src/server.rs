//! `shoal-load serve-edge`: the edge of the product as a process of its own over its own embedded log, with a feeder that
//! appends set-points the way the gateway does. The embedded log belongs to one process, so the feeder lives in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use fleet::{Evse, Protocol, Setpoint};
use ocpp_kit::Version;
use runtime::Clock;
use runtime::latency::Probe;
use serde::{Deserialize, Serialize};
use shoal_edge::{Config, Deps, Edge};
use store::{Log, NewRecord, Store, topic};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use units::{Efficiency, Power};
use wire::proto::dispatch::v1 as proto;

use crate::failure::Failure;
use crate::life::{Life, span};
use crate::outlet::PLAIN;
use crate::scenario::Scenario;
use crate::worker::tell;

/// Set-points differ from one to the next by up to this many watts, so that each is news.
const WAVE: i64 = 10;

/// Options of the server process.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) scenario: PathBuf,
    /// Number of this replica, from 0
    #[arg(long)]
    pub(crate) replica: usize,
    /// Folder of its log and tables
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

/// What it says once its socket is open.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
}

/// What it is told; the end of standard input is a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Set-points go out from now on.
    Feed,
    /// No more of them.
    Rest,
}

/// Serves until standard input ends.
///
/// # Errors
/// Status 2 for settings that cannot work, status 1 when the edge or its log fails.
pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    crate::machine::open_files()?;
    let scenario = Scenario::read(&args.scenario)?;
    let config = config(&scenario, args)?;
    let open = Store::open(&args.dir).await;
    let store = open.map_err(|e| Failure::of("the log", &e))?;
    let mine = numbers(&scenario, args.replica);
    let evses: Result<Vec<Evse>, Failure> = mine.iter().map(|n| evse(&scenario, *n)).collect();
    let written = store.tables().upsert_evses(&evses?).await;
    written.map_err(|e| Failure::of("registrations", &e))?;

    let stop = CancellationToken::new();
    let feeding = CancellationToken::new();
    let deps = Deps {
        clock: Clock::system(),
        log: store.log(),
        tables: store.tables(),
        latency: Probe::new(),
    };
    let bound = Edge::bind(config, deps).await;
    let edge = bound.map_err(|e| Failure::of("edge", &e))?;
    tell(&Listening {
        address: edge.address(),
    })?;
    let feeder = Feeder::new(&scenario, &mine, store.log())?;
    tokio::spawn(listen(feeder, feeding, stop.clone()));
    let ran = edge.run(stop).await;
    ran.map_err(|e| Failure::of("edge", &e))
}

/// Settings of the scenario with the address and room for all stations.
fn config(scenario: &Scenario, args: &Args) -> Result<Config, Failure> {
    let mut settings = scenario.edge_with_room(numbers(scenario, args.replica).len());
    settings.insert(
        "listen".to_owned(),
        toml::Value::String(args.listen.to_string()),
    );
    settings
        .try_into()
        .map_err(|e| Failure::Input(format!("edge.settings: {e}")))
}

/// Stations of a replica.
fn numbers(scenario: &Scenario, replica: usize) -> Vec<usize> {
    let all = 0..scenario.fleet.stations;
    all.filter(|n| n % scenario.edge.replicas == replica)
        .collect()
}

/// The outlet of a station, as it is registered.
pub(crate) fn evse(scenario: &Scenario, number: usize) -> Result<Evse, Failure> {
    let identity = scenario.identity(number);
    let named = |error: &dyn std::fmt::Display| {
        Failure::Input(format!("fleet.identity: met {identity}: {error}"))
    };
    let (protocol, most) = match scenario.version(number) {
        Version::V1_6 => (Protocol::Ocpp16, Power::ZERO),
        Version::V2_0_1 => (Protocol::Ocpp201, Power::ZERO),
        Version::V2_1 | _ => (Protocol::Ocpp21, PLAIN),
    };
    let efficiency = Efficiency::try_new(0.94).map_err(|e| named(&e))?;
    Ok(Evse {
        id: format!("{identity}/1").parse().map_err(|e| named(&e))?,
        station: identity.parse().map_err(|e| named(&e))?,
        site: "load".parse().map_err(|e| named(&e))?,
        class: "load".into(),
        protocol,
        max_charge: PLAIN,
        max_discharge: most,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    })
}

async fn listen(feeder: Feeder, feeding: CancellationToken, stop: CancellationToken) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut feeder = Some(feeder);
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Command::Feed) => {
                if let Some(feeder) = feeder.take() {
                    tokio::spawn(feeder.run(feeding.clone()));
                }
            }
            Ok(Command::Rest) => feeding.cancel(),
            Err(error) => tracing::warn!(%error, "not a command: {line}"),
        }
    }
    feeding.cancel();
    stop.cancel();
}

/// Appends a set-point for each of its outlets, all at once, once per period: as the gateway's cycle does.
struct Feeder {
    outlets: Vec<Fed>,
    period: Duration,
    life: TimeDelta,
    log: Log,
    clock: Clock,
}

struct Fed {
    evse: Evse,
    power: Power,
}

impl Feeder {
    fn new(scenario: &Scenario, mine: &[usize], log: Log) -> Result<Self, Failure> {
        let edge = &scenario.edge;
        let fed = mine.iter().filter(|n| **n < edge.setpoint_outlets);
        let outlets: Result<Vec<Fed>, Failure> = fed
            .map(|number| {
                let evse = evse(scenario, *number)?;
                let asked = Power::from_kw(edge.setpoint_kw);
                let life = Life::new(
                    scenario.seed,
                    *number,
                    &scenario.behaviour,
                    &scenario.faults,
                );
                // Where a discharge cannot be said or is not agreed to, the least is a limit of zero.
                let gives = evse.max_discharge > Power::ZERO && life.both_ways;
                let power = if gives { asked } else { asked.max(Power::ZERO) };
                Ok(Fed { evse, power })
            })
            .collect();
        Ok(Self {
            outlets: outlets?,
            period: crate::scenario::seconds(edge.setpoint_seconds),
            life: span(edge.setpoint_life_seconds),
            log,
            clock: Clock::system(),
        })
    }

    async fn run(self, rest: CancellationToken) {
        if self.outlets.is_empty() {
            return;
        }
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cycle: i64 = 0;
        loop {
            tokio::select! {
                () = rest.cancelled() => return,
                _ = tick.tick() => {}
            }
            cycle += 1;
            let records = self
                .outlets
                .iter()
                .filter_map(|fed| self.setpoint(fed, cycle));
            if let Err(error) = self.log.append(records.collect()).await {
                tracing::error!(%error, "set-points cannot be appended: {error}");
            }
        }
    }

    fn setpoint(&self, fed: &Fed, cycle: i64) -> Option<NewRecord> {
        let now = self.clock.now();
        let stamp = now.timestamp_micros();
        let wave = Power::from_watts(cycle.rem_euclid(WAVE));
        let setpoint = Setpoint {
            id: format!("{}@{stamp}", fed.evse.station).parse().ok()?,
            evse: fed.evse.id.clone(),
            power: if fed.power < Power::ZERO {
                fed.power - wave
            } else {
                fed.power + wave
            },
            mode: fleet::Mode::default(),
            issued_at: now,
            expires_at: now + self.life,
            signal: None,
            reason: "load test".to_owned(),
        };
        Some(NewRecord {
            topic: topic::SETPOINTS,
            key: setpoint.evse.to_string(),
            payload: wire::encode(&proto::Setpoint::from(&setpoint)),
        })
    }
}

/// Folder of a replica's log and tables.
pub(crate) fn folder(dir: &Path, replica: usize) -> PathBuf {
    dir.join(format!("edge-{replica}"))
}
