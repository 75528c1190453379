//! From a grid signal to set-points, and from quarter hours to a statement.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::fleet::schedule::{Schedule, Step};
use dispatch::fleet::state::{EvseState, PowerAt, SessionState};
use dispatch::fleet::{Evse, MeterInterval, Needs, Protocol, Session, Setpoint, Site};
use market::plan::{PlanStatus, PlanStep};
use market::{Area, Plan, PlanId};
use sqlx::Connection as _;
use store::{Candidate, NewRecord, Store, topic};
use support::{PATIENCE, World, at, award, fcr_bid, told};
use units::{Efficiency, Energy, Interval, Power};
use uuid::Uuid;
use wire::proto::dispatch::v1 as proto;
use wire::proto::dispatch::v1::command_request::Kind;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::market::v1::result::Result as Told;

/// In the first FCR block of the 11th.
const NOW: &str = "2026-01-11T00:20:00Z";
const CARS: usize = 200;

/// One of 200 two-way cars of 11 kW that need little for a long time, planned at 2 kW.
fn car(n: usize, now: DateTime<Utc>) -> EvseState {
    let name = format!("e{n:03}");
    let efficiency = Efficiency::try_new(0.95).unwrap();
    let most = Power::from_kw(11.0);
    EvseState {
        evse: Evse {
            id: name.parse().unwrap(),
            station: format!("s{n}").parse().unwrap(),
            site: format!("garage-{}", n % 4).parse().unwrap(),
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
                site: format!("garage-{}", n % 4).parse().unwrap(),
                vehicle: None,
                plugged_in: now - TimeDelta::hours(1),
                unplugged: None,
                needs: Some(Needs {
                    departure: Some(now + TimeDelta::hours(9)),
                    energy: Energy::from_kwh(10.0),
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
    let start = at("2026-01-11T00:15:00Z");
    let steps = (0..40).map(|n| {
        let from = start + TimeDelta::minutes(15 * n);
        PlanStep {
            interval: Interval::try_new(from, from + TimeDelta::minutes(15)).unwrap(),
            baseline: Power::from_kw(400.0),
            low: Power::from_kw(-2_200.0),
            high: Power::from_kw(2_200.0),
            held: Vec::new(),
            reason: String::new(),
        }
    });
    let schedules = (0..CARS).map(|n| Schedule {
        evse: format!("e{n:03}").parse().unwrap(),
        session: Some(format!("stay-{n}").parse().unwrap()),
        start,
        step_seconds: 900,
        steps: vec![
            Step {
                power: Power::from_kw(2.0),
                up: Power::from_kw(5.0),
                down: Power::from_kw(5.0)
            };
            40
        ],
        reason: String::new(),
    });
    let plan = Plan {
        id: PlanId(Uuid::from_u128(7)),
        area: Area::Nl,
        solved_at: now - TimeDelta::minutes(6),
        data_until: now - TimeDelta::minutes(6),
        status: PlanStatus::Optimal,
        relative_gap: Some(0.0),
        expected: None,
        steps: steps.collect(),
    };
    (plan, schedules.collect())
}

async fn states(world: &World, cars: impl IntoIterator<Item = EvseState>) {
    let records = cars
        .into_iter()
        .map(|car| NewRecord {
            topic: topic::FLEET_STATE,
            key: car.evse.id.as_str().to_owned(),
            payload: wire::encode(&wire::proto::fleet::v1::EvseState::from(&car)),
        })
        .collect();
    world.store.log().append(records).await.unwrap();
}

/// 200 cars, a plan of 400 kW and one megawatt of FCR sold for the block.
async fn ready() -> World {
    let world = World::new(at(NOW), 1, false).await;
    furnish(&world).await;
    world
}

async fn furnish(world: &World) {
    let tables = world.store.tables();
    for n in 0..4 {
        let site = Site {
            id: format!("garage-{n}").parse().unwrap(),
            name: format!("Garage {n}"),
            import_limit: Power::from_kw(600.0),
            export_limit: Power::from_kw(600.0),
        };
        tables.upsert_site(&site).await.unwrap();
    }
    let (plan, schedules) = plan(at(NOW));
    tables.upsert_plan(&plan, &schedules).await.unwrap();
    let bid = fcr_bid(0, at("2026-01-10T06:00:00Z"));
    tables
        .upsert_award(&award(&bid, 1, at("2026-01-10T07:30:00Z")))
        .await
        .unwrap();
    states(world, (0..CARS).map(|n| car(n, at(NOW)))).await;
}

async fn setpoints(world: &World) -> Vec<Setpoint> {
    let decode = |r: store::Record| {
        Setpoint::try_from(wire::decode::<proto::Setpoint>(&r.payload).unwrap()).unwrap()
    };
    world
        .records(topic::SETPOINTS)
        .await
        .into_iter()
        .map(decode)
        .collect()
}

/// The newest power of every EVSE.
async fn in_force(world: &World) -> Power {
    let mut newest = std::collections::BTreeMap::new();
    for setpoint in setpoints(world).await {
        newest.insert(setpoint.evse.clone(), setpoint.power);
    }
    newest.into_values().sum()
}

async fn signal(world: &World, id: &str, deviation: f64) {
    let sender = world.fake.seen.lock().unwrap().signals.clone().unwrap();
    let signal = wire::proto::market::v1::GridSignal {
        id: id.to_owned(),
        at_micros: world.clock.now().timestamp_micros(),
        deviation_mhz: Some(deviation),
        afrr_watts: None,
    };
    sender.send(Ok(signal)).await.unwrap();
}

async fn listening(world: &World) {
    world
        .until("the gateway listens", async || {
            world.fake.seen.lock().unwrap().signals.is_some()
        })
        .await;
    world
        .until("every EVSE has a set-point", async || {
            setpoints(world).await.len() >= CARS
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fall_of_frequency_is_answered_to_the_watt_well_below_100_ms() {
    let world = ready().await;
    let running = world.start();
    listening(&world).await;
    assert_eq!(
        in_force(&world).await,
        Power::from_kw(400.0),
        "the baseline before the call"
    );
    for (n, deviation) in [-100.0_f64, -50.0, 20.0, -150.0, 0.0, 200.0]
        .into_iter()
        .enumerate()
    {
        let id = format!("f{n}");
        let log = world.store.log();
        let mut sent = log.tail(topic::SETPOINTS).await.unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
        signal(&world, &id, deviation).await;
        tokio::time::timeout(PATIENCE, sent.next_batch(10_000))
            .await
            .unwrap()
            .unwrap();
        let expected =
            Power::from_kw(400.0) + Power::from_mw(1.0).scale((deviation / 200.0).clamp(-1.0, 1.0));
        world
            .until("the call is split", async || {
                in_force(&world).await == expected
            })
            .await;
        if deviation != 0.0 {
            let all = setpoints(&world).await;
            let last = all.last().unwrap();
            assert_eq!(last.signal.as_ref().unwrap().as_str(), id);
            assert!(last.reason.contains("frequency"), "{}", last.reason);
            assert!(
                all.iter()
                    .all(|s| s.power.abs() <= Power::from_kw(11.0) && s.expires_at > s.issued_at)
            );
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unresponsive_evses_are_left_out_and_the_others_carry_their_share() {
    let world = ready().await;
    let running = world.start();
    listening(&world).await;
    let deaf = |n| EvseState {
        unresponsive: true,
        power: Some(PowerAt {
            power: Power::from_kw(9.0),
            at: at(NOW),
        }),
        ..car(n, at(NOW))
    };
    states(&world, (0..20).map(deaf)).await;
    // Each draws 9 kW and is told its plan of 2 kW: what the others are told falls by the 140 kW between.
    world
        .until("the others make up for it", async || {
            in_force(&world).await == Power::from_kw(260.0)
        })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_dispatcher_ignores_calls_and_a_killed_one_charges_plainly() {
    let world = ready().await;
    let running = world.start();
    listening(&world).await;
    let mut client = DispatchServiceClient::new(running.channel.clone());
    let mut order = async |kind: Kind, by: &str| {
        let command = proto::CommandRequest {
            kind: kind.into(),
            by: by.to_owned(),
            reason: "test".to_owned(),
            expires_at_micros: None,
        };
        client.command(command).await.map(|r| r.into_inner().state)
    };
    assert_eq!(
        order(Kind::Hold, "").await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    assert_eq!(order(Kind::Hold, "ann").await.unwrap(), "held");
    signal(&world, "ignored", -200.0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(in_force(&world).await, Power::from_kw(400.0));
    assert_eq!(order(Kind::Release, "ann").await.unwrap(), "running");
    world
        .until("the call is followed again", async || {
            in_force(&world).await == Power::from_kw(-600.0)
        })
        .await;
    assert_eq!(order(Kind::Kill, "ann").await.unwrap(), "killed");
    let all = Power::from_kw(11.0 * 200.0);
    world
        .until("everybody charges", async || in_force(&world).await == all)
        .await;
    assert_eq!(order(Kind::Release, "ann").await.unwrap(), "killed");
    // A kill and who has released it outlive the process.
    running.stop().await;
    let running = world.start();
    let mut client = DispatchServiceClient::new(running.channel.clone());
    let release = |by: &str| proto::CommandRequest {
        kind: Kind::Release.into(),
        by: by.to_owned(),
        reason: "test".to_owned(),
        expires_at_micros: None,
    };
    for (by, state) in [("ann", "killed"), ("ben", "running")] {
        let answer = client.command(release(by)).await.unwrap();
        assert_eq!(answer.into_inner().state, state);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_are_watched_and_the_delivery_of_an_award_is_listed() {
    let world = ready().await;
    let running = world.start();
    listening(&world).await;
    let mut client = DispatchServiceClient::new(running.channel.clone());
    let mut cycles = client
        .watch(proto::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    signal(&world, "seen", -20.0).await;
    let cycle = loop {
        let cycle = tokio::time::timeout(PATIENCE, cycles.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if cycle.signal_id.is_some() {
            break cycle;
        }
    };
    assert_eq!(
        (cycle.baseline_watts, cycle.fcr_watts, cycle.target_watts),
        (400_000, -100_000, 300_000)
    );
    assert_eq!(
        (
            cycle.actual_watts,
            cycle.connected_evses,
            cycle.shortfall_watts
        ),
        (Some(400_000), 200, 0)
    );
    assert_eq!(
        (
            cycle.winner.as_str(),
            cycle.state.as_str(),
            cycle.tolerance_watts
        ),
        ("fcr", "running", 50_000)
    );
    assert_eq!(cycle.products[0].sold_watts, 1_000_000);
    assert!(
        cycle.products[0].held_watts >= 1_000_000,
        "{:?}",
        cycle.products
    );
    let asked = proto::ListActivationsRequest {
        from_micros: at(NOW).timestamp_micros(),
        to_micros: at(NOW).timestamp_micros() + 1,
    };
    let listed = client
        .list_activations(asked)
        .await
        .unwrap()
        .into_inner()
        .activations;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].product.as_str(), listed[0].largest_request_watts),
        ("fcr", -100_000)
    );
    assert!(listed[0].cycles > 0 && listed[0].followed, "{listed:?}");
    let latency = client
        .latency(proto::LatencyRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        latency.signals, 0,
        "nothing was written to a socket in this test"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_of_the_grid_operator_ends_the_response_and_raises_an_alarm() {
    let world = ready().await;
    let running = world.start();
    listening(&world).await;
    let old = wire::proto::market::v1::GridSignal {
        id: "old".to_owned(),
        at_micros: (world.clock.now() - TimeDelta::seconds(60)).timestamp_micros(),
        deviation_mhz: Some(-200.0),
        afrr_watts: None,
    };
    let mut client = DispatchServiceClient::new(running.channel.clone());
    let mut cycles = client
        .watch(proto::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    let sender = world.fake.seen.lock().unwrap().signals.clone().unwrap();
    sender.send(Ok(old)).await.unwrap();
    loop {
        let cycle = tokio::time::timeout(PATIENCE, cycles.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        if cycle
            .alarms
            .iter()
            .any(|a| a.contains("no longer followed"))
        {
            assert_eq!(cycle.target_watts, 400_000);
            break;
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_settles_what_is_over_and_sites_add_up_to_the_pool() {
    let world = ready().await;
    let imbalance = told(Told::Imbalance(wire::proto::market::v1::Imbalance {
        area: "NL".to_owned(),
        start_micros: at("2026-01-11T00:00:00Z").timestamp_micros(),
        end_micros: at("2026-01-11T00:15:00Z").timestamp_micros(),
        price_short: "120.5".to_owned(),
        price_long: "31".to_owned(),
        currency: "EUR".to_owned(),
    }));
    world.fake.seen.lock().unwrap().results = vec![imbalance];
    let from = at("2026-01-11T00:00:00Z");
    let rows: Vec<MeterInterval> = (0..4)
        .map(|n| MeterInterval {
            evse: format!("e{n:03}").parse().unwrap(),
            site: format!("garage-{n}").parse().unwrap(),
            interval: Interval::try_new(from, from + TimeDelta::minutes(15)).unwrap(),
            import: Energy::from_kwh(3.0 + f64::from(n)),
            export: Energy::ZERO,
            covered_seconds: 900,
            version: 1,
        })
        .collect();
    world.store.tables().upsert_intervals(&rows).await.unwrap();
    // A bid that was sent: the auction counts, and nothing was bought.
    let mut bid = fcr_bid(0, at("2026-01-10T06:00:00Z"));
    bid.product = market::Product::DayAhead;
    bid.status = market::BidStatus::Rejected;
    world.store.tables().upsert_bid(&bid).await.unwrap();
    let running = world.start();
    listening(&world).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop().await;
    let day = at("2026-01-10T23:00:00Z");
    let statements = world
        .store
        .tables()
        .statements_between(day, day + TimeDelta::hours(1))
        .await
        .unwrap();
    let pool = statements.iter().find(|s| s.account == "pool").unwrap();
    let sites: rust_decimal::Decimal = statements
        .iter()
        .filter(|s| s.account != "pool")
        .map(|s| s.total.amount())
        .sum();
    assert_eq!(sites, pool.total.amount());
    assert_eq!(statements.len(), 5);
    // 18 kWh short at 120.5.
    let energy: rust_decimal::Decimal = pool
        .lines
        .iter()
        .filter(|l| l.kind == market::statement::LineKind::Imbalance)
        .map(|l| l.amount.amount())
        .sum();
    assert_eq!(energy, "-2.169".parse().unwrap());
    assert_eq!(world.records(topic::STATEMENTS).await.len(), 5);
}

/// How many set-points were decided in `term`.
async fn told_in(world: &World, term: u64) -> usize {
    let records = world.records(topic::SETPOINTS).await;
    let of = |r: &store::Record| wire::decode::<proto::Setpoint>(&r.payload).unwrap().term;
    let terms = records.iter().filter_map(of);
    terms.filter(|told| told.number == term).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_office_that_comes_back_from_nobody_goes_on_and_one_that_another_held_tells_all_again() {
    const OFFICE: &str = "dispatch/NL";
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let world = World::over(store, at(NOW), 1, false, 1.0);
    furnish(&world).await;
    let tables = world.store.tables();
    let running = world.start_as(Candidate::new(tables.clone(), OFFICE, "one", "http://one"));
    listening(&world).await;
    let held_in = async |term: u64| {
        let lease = tables.lease(OFFICE).await.unwrap();
        lease.is_some_and(|lease| lease.term == term && lease.holder == "one")
    };
    assert!(held_in(1).await);

    // Nobody can write for longer than the office is held without a beat.
    let file = format!("sqlite://{}", dir.path().join("shoal.db").display());
    let mut beside = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut beside)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut beside)
        .await
        .unwrap();
    world
        .until("the office comes back", async || held_in(2).await)
        .await;
    let said = async |id: &str, term: u64, at_least: usize| {
        world
            .until("a signal of this term is answered", async || {
                let listens = world.fake.seen.lock().unwrap().signals.clone();
                if listens.is_some_and(|sender| !sender.is_closed()) {
                    signal(&world, id, -20.0).await;
                }
                told_in(&world, term).await >= at_least
            })
            .await;
    };
    said("back", 2, 1).await;
    let told = told_in(&world, 2).await;
    assert!(told < CARS / 2, "{told} of {CARS} are told again");

    // Another one held it meanwhile: what it told is not known here.
    sqlx::raw_sql("UPDATE lease SET holder = 'two', address = '', term = 3, beat = 0")
        .execute(&mut beside)
        .await
        .unwrap();
    world
        .until("the office is free again", async || held_in(4).await)
        .await;
    said("after another", 4, CARS).await;
    running.stop().await;
}
