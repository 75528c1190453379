//! From the plug to the dispatcher and back: a station that acknowledges and does not obey is noticed, left out of what is promised
//! and dispatched, told to the operator, and taken back when it obeys again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test says where"
)]

mod drivers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use drivers::{Quiet, Wall};
use fleet::schedule::{Schedule, Step};
use fleet::{EvseId, EvseState, Protocol, Setpoint};
use market::plan::{PlanStatus, PlanStep};
use market::{Area, Plan, PlanId};
use portfolio::rolling::{Grid, Task};
use runtime::Clock;
use runtime::latency::Probe;
use runtime::pipe::Pipe;
use sim::fleet::{Fleet, Settings};
use sim::station::{DriverApp, Obedience, Options, Stations, Time, spawn_fleet};
use store::{Position, Store, Topic, topic};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use units::{Interval, Power};
use wire::proto;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::dispatch::v1::{Cycle, WatchRequest};

/// A minute to settle is two seconds.
const SPEED: f64 = 30.0;
/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(240);
/// What the dispatcher says to the operator, and in the reason of a set-point.
const ALARM: &str = "1 EVSEs do not follow";
const OUTSIDE: &str = "does not follow: keeps its plan, outside the pool";

/// Edge, telemetry-ingest and gateway over one log, with simulated stations.
struct World {
    store: Store,
    clock: Clock,
    stations: Stations,
    /// The outlet at which the station may stop to obey.
    stubborn: EvseId,
    obeys: Arc<AtomicBool>,
    stop: CancellationToken,
    /// Nobody asks telemetry-ingest anything, but it ends with the last who could.
    _asking: Pipe,
    edge: JoinHandle<Result<(), shoal_edge::Error>>,
    ingest: JoinHandle<Result<(), shoal_telemetry_ingest::Error>>,
}

async fn until<T>(what: &str, mut met: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = met().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let met = tokio::time::timeout(PATIENCE, waiting).await;
    met.unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

impl World {
    async fn new() -> Self {
        let begin: DateTime<Utc> = "2026-06-09T20:30:00Z".parse().unwrap();
        let clock = Clock::accelerated(begin, SPEED);
        let cars = Settings {
            seed: 7,
            cars: 12,
            buses: 0,
            zone: Amsterdam,
        };
        let fleet = Arc::new(Fleet::new(cars));
        let store = Store::in_memory().await.unwrap();
        let sites = fleet.sites().iter().map(|site| fleet::Site {
            id: site.id.clone(),
            name: site.name.clone(),
            import_limit: site.import_limit,
            export_limit: site.export_limit,
        });
        let tables = store.tables();
        tables
            .upsert_sites(&sites.collect::<Vec<_>>())
            .await
            .unwrap();
        tables.upsert_evses(fleet.evses()).await.unwrap();
        let stop = CancellationToken::new();
        let mut config = shoal_edge::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..shoal_edge::Config::default()
        };
        // Simulated stations, on loopback.
        config.security.discharge_without_tls = true;
        let deps = shoal_edge::Deps {
            clock,
            log: store.log(),
            tables: store.tables(),
            latency: Probe::new(),
        };
        let edge = shoal_edge::Edge::bind(config, deps).await.unwrap();
        let mut options = Options::new(format!("ws://{}/ocpp", edge.address()));
        let edge = tokio::spawn(edge.run(stop.clone()));
        let (asking, listener) = Pipe::new("fleet");
        let deps = shoal_telemetry_ingest::Deps {
            clock,
            log: store.log(),
            tables: store.tables(),
            listener,
        };
        let config = shoal_telemetry_ingest::Config::default();
        let ingest = tokio::spawn(shoal_telemetry_ingest::run(config, deps, stop.clone()));

        let obeys = Arc::new(AtomicBool::new(true));
        let until = begin + TimeDelta::days(2);
        let there = |evse: &&fleet::Evse| {
            let vehicle = fleet.evses().iter().position(|e| e.id == evse.id).unwrap();
            let stays = fleet.stays_of(vehicle, begin - TimeDelta::days(1), until);
            let long = begin + TimeDelta::hours(4);
            stays.iter().any(|s| s.plug_in < begin && s.plug_out > long)
        };
        let two_way = fleet
            .evses()
            .iter()
            .filter(|e| e.protocol == Protocol::Ocpp21);
        let stubborn = two_way
            .clone()
            .find(there)
            .expect("somebody sleeps")
            .id
            .clone();
        let (name, switch) = (stubborn.clone(), Arc::clone(&obeys));
        options.obedience = Some(Obedience(Arc::new(move |evse, _| {
            *evse != name || switch.load(Ordering::SeqCst)
        })));
        options.sample_period = TimeDelta::seconds(10);
        let time: Arc<dyn Time> = Arc::new(Wall(clock));
        let app: Arc<dyn DriverApp> = Arc::new(Quiet);
        let stations = spawn_fleet(&fleet, begin, until, &options, &time, &app).unwrap();
        Self {
            store,
            clock,
            stations,
            stubborn,
            obeys,
            stop,
            _asking: asking,
            edge,
            ingest,
        }
    }

    async fn records(&self, topic: Topic) -> Vec<store::Record> {
        let log = self.store.log();
        if log.newest(topic).await.unwrap().is_start() {
            return Vec::new();
        }
        let mut reader = log.replay(topic, &Position::default()).unwrap();
        reader.next_batch(1_000_000).await.unwrap()
    }

    /// The newest state of every outlet, as the log has it.
    async fn fleet(&self) -> BTreeMap<EvseId, EvseState> {
        let states = self.records(topic::FLEET_STATE).await;
        let states = states.into_iter().map(|record| {
            let state: proto::fleet::v1::EvseState = wire::decode(&record.payload).unwrap();
            let state = EvseState::try_from(state).unwrap();
            (state.evse.id.clone(), state)
        });
        states.collect()
    }

    async fn state(&self) -> Option<EvseState> {
        self.fleet().await.remove(&self.stubborn)
    }

    /// Why the outlet is told what it was told last.
    async fn reason(&self) -> String {
        let told = self.records(topic::SETPOINTS).await;
        let told = told.iter().rev().map(|record| {
            let setpoint: proto::dispatch::v1::Setpoint = wire::decode(&record.payload).unwrap();
            Setpoint::try_from(setpoint).unwrap()
        });
        let mut told = told.filter(|setpoint| setpoint.evse == self.stubborn);
        told.next()
            .map_or_else(String::new, |setpoint| setpoint.reason)
    }

    /// A plan by which every vehicle that is there charges at that power.
    async fn plan(&self, number: u128, kw: f64) {
        let now = self.clock.now();
        let grid = Grid::new(now, 40);
        let steps = (0..grid.len()).map(|n| PlanStep {
            interval: Interval::try_new(grid.at(n), grid.at(n + 1)).unwrap(),
            baseline: Power::from_kw(20.0),
            low: Power::from_kw(-100.0),
            high: Power::from_kw(100.0),
            held: Vec::new(),
            reason: String::new(),
        });
        let plan = Plan {
            id: PlanId(uuid::Uuid::from_u128(number)),
            area: Area::Nl,
            solved_at: now,
            data_until: now,
            status: PlanStatus::Optimal,
            relative_gap: Some(0.0),
            expected: None,
            steps: steps.collect(),
        };
        let step = Step {
            power: Power::from_kw(kw),
            up: Power::from_kw(2.0),
            down: Power::from_kw(2.0),
        };
        let fleet = self.fleet().await;
        let there = fleet
            .values()
            .filter_map(|state| Some((&state.evse.id, &state.session.as_ref()?.session.id)));
        let schedules = there.map(|(evse, session)| Schedule {
            evse: evse.clone(),
            session: Some(session.clone()),
            start: grid.start(),
            step_seconds: 900,
            steps: vec![step; grid.len()],
            reason: String::new(),
        });
        let schedules: Vec<_> = schedules.collect();
        let message = proto::portfolio::v1::Plan::from((&plan, schedules.as_slice()));
        let record = store::NewRecord {
            topic: topic::PLANS,
            key: "NL".to_owned(),
            payload: wire::encode(&message),
        };
        self.store
            .tables()
            .upsert_plan(&plan, &schedules)
            .await
            .unwrap();
        self.store.log().append(vec![record]).await.unwrap();
    }

    /// Whether the plan may promise reserve of the outlet's vehicle.
    fn firm(&self, state: &EvseState) -> bool {
        let grid = Grid::new(self.clock.now(), 8);
        match Task::of(state, 0, &grid) {
            Some(Task::Steer(vehicle)) => vehicle.reserve_until > 0,
            Some(Task::Plain(_)) | None => panic!("{} is steered: {state:?}", self.stubborn),
        }
    }
}

/// The newest cycle that fits, from those that the console watches.
async fn cycle(cycles: &mut Streaming<Cycle>, what: &str, fits: impl Fn(&Cycle) -> bool) -> Cycle {
    let waiting = async {
        loop {
            let next = cycles
                .message()
                .await
                .unwrap()
                .expect("the gateway goes on");
            if fits(&next) {
                return next;
            }
        }
    };
    let met = tokio::time::timeout(PATIENCE, waiting).await;
    met.unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_acknowledges_and_does_not_obey_leaves_the_pool_until_it_obeys() {
    let world = World::new().await;
    until("needs are known", async || {
        let stay = world.state().await?.session?;
        stay.session
            .needs
            .filter(|n| n.departure.is_some() && n.stored.is_some())
    })
    .await;
    world.plan(1, 2.0).await;
    let (operator, _operator) = Pipe::new("operator");
    let (pipe, listener) = Pipe::new("gateway");
    let deps = shoal_gateway::Deps {
        clock: world.clock,
        log: world.store.log(),
        tables: world.store.tables(),
        operator: operator.channel(),
        latency: Probe::new(),
        listener,
        candidate: store::Candidate::alone(),
        dial: shoal_gateway::Dial::nobody(),
    };
    let config = shoal_gateway::Config::default();
    let gateway = tokio::spawn(shoal_gateway::run(config, deps, world.stop.clone()));
    let mut client = DispatchServiceClient::new(pipe.channel());
    let mut cycles = client.watch(WatchRequest {}).await.unwrap().into_inner();

    // It obeys: its vehicle is part of the pool.
    until("the vehicle follows", async || {
        let state = world.state().await?;
        let told = state.setpoint?.at;
        let followed = state
            .power
            .filter(|p| p.at > told + TimeDelta::seconds(60))?;
        (!state.unresponsive && followed.power == state.setpoint?.power).then_some(())
    })
    .await;
    assert!(world.firm(&world.state().await.unwrap()));
    let before = cycle(&mut cycles, "a cycle", |_| true).await;
    assert!(
        !before.alarms.iter().any(|a| a.starts_with(ALARM)),
        "{before:?}"
    );

    // It goes on acknowledging and does what it did before, then charges plainly.
    world.obeys.store(false, Ordering::SeqCst);
    world.plan(2, 6.0).await;
    let state = until("it is noticed", async || {
        world.state().await.filter(|s| s.unresponsive)
    })
    .await;
    assert!(state.online && state.setpoint.is_some(), "{state:?}");
    assert!(!world.firm(&state), "nothing is promised of it");
    cycle(&mut cycles, "the alarm", |c| {
        c.alarms.iter().any(|a| a.starts_with(ALARM))
    })
    .await;
    until("it is left out of dispatch", async || {
        (world.reason().await == OUTSIDE).then_some(())
    })
    .await;

    // It obeys again: the plan that it is still told is followed, and it is taken back.
    world.obeys.store(true, Ordering::SeqCst);
    let state = until("it is taken back", async || {
        world.state().await.filter(|s| !s.unresponsive)
    })
    .await;
    assert!(world.firm(&state));
    cycle(&mut cycles, "the end of the alarm", |c| {
        !c.alarms.iter().any(|a| a.contains("do not follow"))
    })
    .await;
    world.plan(3, 4.0).await;
    until("it is dispatched again", async || {
        let reason = world.reason().await;
        (reason != OUTSIDE && world.state().await?.setpoint?.power == Power::from_kw(4.0))
            .then_some(())
    })
    .await;
    world.stations.stop().await;
    world.stop.cancel();
    gateway.await.unwrap().unwrap();
    world.ingest.await.unwrap().unwrap();
    world.edge.await.unwrap().unwrap();
}
