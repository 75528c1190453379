//! One gateway decides at a time: the next one follows when the first falls silent, and one that slept decides nothing any more.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../../../crates/store/tests/support/kafka.rs"]
mod support;

mod grid;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use fleet::schedule::{Schedule, Step};
use fleet::state::{PowerAt, SessionState};
use fleet::{Evse, EvseState, Needs, Protocol, Session, Site};
use grid::Grid;
use market::plan::{PlanStatus, PlanStep};
use market::{Area, Award, AwardId, BidId, Direction, Plan, PlanId, Product};
use processes::{Process, serve};
use runtime::Clock;
use runtime::pipe::{Listener, peer};
use store::{KafkaOptions, NewRecord, Store, Subscription, topic};
use support::{Broker, signal};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use units::{Currency, Efficiency, Energy, Interval, Power, Price};
use uuid::Uuid;
use wire::proto::dispatch::v1 as dispatch;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::market::v1::market_operator_server::MarketOperatorServer;

/// Only a test that fails waits so long, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(120);
const CARS: usize = 60;
/// Between two signals of the grid operator.
const EVERY: Duration = Duration::from_millis(250);

/// A two-way car of 11 kW that needs little for a long time.
fn car(n: usize, now: DateTime<Utc>) -> EvseState {
    let name = format!("e{n:03}");
    let efficiency = Efficiency::try_new(0.95).unwrap();
    let most = Power::from_kw(11.0);
    EvseState {
        evse: Evse {
            id: name.parse().unwrap(),
            station: format!("s{n}").parse().unwrap(),
            site: "garage".parse().unwrap(),
            class: "workplace".to_owned(),
            protocol: Protocol::Ocpp21,
            max_charge: most,
            max_discharge: most,
            charge_efficiency: efficiency,
            discharge_efficiency: efficiency,
        },
        online: true,
        changed_at: now,
        session: Some(SessionState {
            session: Session {
                id: format!("stay-{n}").parse().unwrap(),
                evse: name.parse().unwrap(),
                site: "garage".parse().unwrap(),
                vehicle: None,
                plugged_in: now - TimeDelta::hours(1),
                unplugged: None,
                needs: Some(Needs {
                    departure: Some(now + TimeDelta::hours(12)),
                    energy: Energy::from_kwh(5.0),
                    stored: Some(Energy::from_kwh(30.0)),
                    capacity: Some(Energy::from_kwh(60.0)),
                    max_charge: most,
                    max_discharge: most,
                    floor: Energy::from_kwh(6.0),
                }),
            },
            added: Some(Energy::ZERO),
            soc: None,
        }),
        power: Some(PowerAt {
            power: Power::from_kw(2.0),
            at: now,
        }),
        setpoint: None,
        unresponsive: false,
    }
}

fn plan(now: DateTime<Utc>) -> (Plan, Vec<Schedule>) {
    let start = now.duration_trunc(TimeDelta::minutes(15)).unwrap();
    let steps = (0..16).map(|n| {
        let from = start + TimeDelta::minutes(15 * n);
        PlanStep {
            interval: Interval::try_new(from, from + TimeDelta::minutes(15)).unwrap(),
            baseline: Power::from_kw(120.0),
            low: Power::from_kw(-600.0),
            high: Power::from_kw(600.0),
            held: Vec::new(),
            reason: String::new(),
        }
    });
    let step = Step {
        power: Power::from_kw(2.0),
        up: Power::from_kw(5.0),
        down: Power::from_kw(5.0),
    };
    let schedules = (0..CARS).map(|n| Schedule {
        evse: format!("e{n:03}").parse().unwrap(),
        session: Some(format!("stay-{n}").parse().unwrap()),
        start,
        step_seconds: 900,
        steps: vec![step; 16],
        reason: String::new(),
    });
    let plan = Plan {
        id: PlanId(Uuid::from_u128(7)),
        area: Area::Nl,
        solved_at: now,
        data_until: now,
        status: PlanStatus::Optimal,
        relative_gap: Some(0.0),
        expected: None,
        steps: steps.collect(),
    };
    (plan, schedules.collect())
}

/// A fleet, a plan and 200 kW of frequency containment sold.
async fn prepare(store: &Store, now: DateTime<Utc>) {
    let tables = store.tables();
    let site = Site {
        id: "garage".parse().unwrap(),
        name: "Garage".to_owned(),
        import_limit: Power::from_kw(800.0),
        export_limit: Power::from_kw(800.0),
    };
    tables.upsert_site(&site).await.unwrap();
    let (plan, schedules) = plan(now);
    tables.upsert_plan(&plan, &schedules).await.unwrap();
    let begins = now.duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(1);
    let award = Award {
        id: AwardId(Uuid::from_u128(1)),
        bid: BidId(Uuid::from_u128(2)),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: Interval::try_new(begins, begins + TimeDelta::hours(6)).unwrap(),
        volume: Power::from_kw(200.0),
        price: Price::new(42.into(), Currency::Eur),
        awarded_at: begins,
    };
    tables.upsert_award(&award).await.unwrap();
    let states = (0..CARS).map(|n| {
        let car = car(n, now);
        NewRecord {
            topic: topic::FLEET_STATE,
            key: car.evse.id.to_string(),
            payload: wire::encode(&wire::proto::fleet::v1::EvseState::from(&car)),
        }
    });
    store.log().append(states.collect()).await.unwrap();
}

fn settings(dir: &Path, kafka: &KafkaOptions, operator: &str) -> PathBuf {
    let file = dir.join("shoal.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[grpc]\ngateway = \"127.0.0.1:0\"\n[store]\ndir = {:?}\n\
         [log]\nbrokers = {:?}\nprefix = {:?}\npartitions = 3\nreplication = 1\n[peers]\noperator = {operator:?}\n",
        dir.join("data"),
        kafka.brokers,
        kafka.prefix
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Set-points as they come: who decided them, and whether a later dispatcher had decided before them.
struct Told {
    reader: Subscription,
    newest: BTreeMap<u32, u64>,
}

impl Told {
    /// Reads until somebody of `term` decided, and for a while after it.
    async fn until(&mut self, term: u64, and_for: Duration) -> Instant {
        let mut first = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if first.is_some_and(|first: Instant| first.elapsed() >= and_for) {
                return first.unwrap();
            }
            assert!(Instant::now() < deadline, "nobody decides in term {term}");
            let Ok(batch) = timeout(EVERY, self.reader.next_batch(1_000)).await else {
                continue;
            };
            for record in batch.unwrap() {
                let setpoint = wire::decode::<dispatch::Setpoint>(&record.payload).unwrap();
                let decided = setpoint.term.as_ref().expect("a term").number;
                let newest = self.newest.entry(record.partition).or_default();
                assert!(
                    decided >= *newest,
                    "term {decided} decided after {newest} had: {setpoint:?}"
                );
                *newest = decided;
                if decided == term {
                    first = first.or_else(|| Some(Instant::now()));
                }
            }
        }
    }
}

/// Which of the processes holds the office, by its name.
async fn holder(store: &Store) -> (String, u64) {
    let lease = store.tables().lease("dispatch/NL").await.unwrap().unwrap();
    let name = lease.holder.split('/').next().unwrap();
    (name.to_owned(), lease.term)
}

async fn activations(gateway: &Process) -> usize {
    let channel = peer(&format!("http://{}", gateway.address), None).unwrap();
    let mut client = DispatchServiceClient::new(channel);
    let all = dispatch::ListActivationsRequest {
        from_micros: 0,
        to_micros: 4_000_000_000_000_000,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.list_activations(all).await {
            Ok(answer) => return answer.into_inner().activations.len(),
            Err(away) => assert!(Instant::now() < deadline, "{away}"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_gateway_that_sleeps_and_from_one_that_is_killed() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let kafka = broker.options(&topic::ALL);
    let data = dir.path().join("data");
    let store = support::store(&data, &kafka, "test").await;
    let clock = Clock::system();
    prepare(&store, clock.now()).await;

    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let operator = format!("http://{}", socket.local_addr().unwrap());
    let stop = CancellationToken::new();
    let routes = Routes::new(MarketOperatorServer::new(Grid {
        clock,
        every: EVERY,
    }));
    tokio::spawn(Listener::socket("grid", socket).serve(routes, stop.clone()));
    let settings = settings(dir.path(), &kafka, &operator);
    let reader = store.log().tail(topic::SETPOINTS).await.unwrap();
    let mut told = Told {
        reader,
        newest: BTreeMap::new(),
    };

    let start = |name: &str| serve(&settings, "gateway", name, "grpc://");
    let mut gateways: BTreeMap<String, Process> = ["gateway-0", "gateway-1"]
        .map(|name| (name.to_owned(), start(name)))
        .into();
    told.until(1, EVERY * 4).await;
    let (first, term) = holder(&store).await;
    assert_eq!(term, 1);
    // Whoever is asked, the one that decides answers.
    for gateway in gateways.values() {
        assert_eq!(activations(gateway).await, 1);
    }

    let pid = gateways[&first].child.id().to_string();
    signal("-STOP", &pid);
    let asleep = Instant::now();
    let resumed = told.until(2, EVERY * 4).await;
    println!(
        "a gateway that sleeps is followed after {:.0?}",
        resumed - asleep
    );
    let (second, _) = holder(&store).await;
    assert_ne!(first, second);
    // It wakes and finds itself succeeded: `until` meets no set-point of term 1 any more.
    signal("-CONT", &pid);
    told.until(2, EVERY * 12).await;
    assert_eq!(
        activations(&gateways[&first]).await,
        1,
        "it passes calls on"
    );

    let mut dead = gateways.remove(&second).unwrap();
    dead.child.kill().unwrap();
    let killed = Instant::now();
    let resumed = told.until(3, EVERY * 4).await;
    println!(
        "a gateway that is killed is followed after {:.0?}",
        resumed - killed
    );
    assert_eq!(holder(&store).await, (first.clone(), 3));

    // One that is stopped in order resigns: nobody waits for silence.
    gateways.insert(second.clone(), start(&second));
    let names: BTreeSet<&String> = gateways.keys().collect();
    assert_eq!(names.len(), 2);
    told.until(3, EVERY * 4).await;
    signal("-TERM", &gateways[&first].child.id().to_string());
    let told_to = Instant::now();
    let resumed = told.until(4, EVERY * 4).await;
    println!(
        "a gateway that is stopped is followed after {:.0?}",
        resumed - told_to
    );
    assert_eq!(holder(&store).await, (second, 4));
    stop.cancel();
}
