//! Simulated stations of a seeded fleet against the edge, over loopback, in all versions.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use fleet::setpoint::Outcome;
use fleet::{CurvePoint, Mode, Protocol, Reading, Setpoint, Telemetry};
use runtime::Clock;
use shoal_edge::Config;
use sim::fleet::{Fleet, Settings};
use sim::station::{
    Boxed, DriverApp, FrequencyMeter, Options, Stated, Stations, Time, spawn_fleet,
};
use store::Store;
use support::{Bench, Host, PATIENCE, quiet, start};
use units::{Energy, Power};

struct Fast(Clock);

impl Time for Fast {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

#[derive(Default)]
struct App(Mutex<Vec<Stated>>);

impl DriverApp for App {
    fn state(&self, stated: Stated) -> Boxed<'_, ()> {
        self.0.lock().unwrap().push(stated);
        Box::pin(async {})
    }
}

impl App {
    /// What the driver at an outlet said, once something was said.
    async fn said(&self, evse: &str) -> Stated {
        let waiting = async {
            loop {
                let stated = self.0.lock().unwrap().clone();
                if let Some(said) = stated.into_iter().find(|s| s.evse.as_str() == evse) {
                    return said;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, waiting).await;
        said.expect("the driver says something")
    }
}

struct World {
    host: Host,
    fleet: Arc<Fleet>,
    bench: Bench,
    stations: Stations,
    app: Arc<App>,
}

async fn world(begin: &str, speed: f64, cars: usize, buses: usize) -> World {
    world_with(begin, speed, (cars, buses), quiet(), |_| {}).await
}

/// A world whose edge has those settings, and whose stations are changed.
async fn world_with(
    begin: &str,
    speed: f64,
    (cars, buses): (usize, usize),
    config: Config,
    change: impl FnOnce(&mut Options),
) -> World {
    let begin: DateTime<Utc> = begin.parse().unwrap();
    let settings = Settings {
        seed: 7,
        cars,
        buses,
        zone: Amsterdam,
    };
    let fleet = Arc::new(Fleet::new(settings));
    let store = Store::in_memory().await.unwrap();
    store.tables().upsert_evses(fleet.evses()).await.unwrap();
    let clock = Clock::accelerated(begin, speed);
    let host = Host::new();
    let bench = host.run(start(store, config, clock, 0)).await;
    let app = Arc::new(App::default());
    let mut options = Options::new(format!("ws://{}/ocpp", bench.address));
    options.backoff.wait_minimum = Duration::from_millis(50);
    options.backoff.random_range = Duration::from_millis(50);
    change(&mut options);
    let time: Arc<dyn Time> = Arc::new(Fast(clock));
    let driver: Arc<dyn DriverApp> = Arc::clone(&app) as Arc<dyn DriverApp>;
    // A frequency that falls every minute and a half, out of step with the samples: what a station does by itself is seen
    // soon.
    options.frequency = Some(FrequencyMeter(Arc::new(|at| {
        if at.timestamp() % 90 < 45 {
            50_000
        } else {
            49_800
        }
    })));
    let until = begin + TimeDelta::days(2);
    let stations = spawn_fleet(&fleet, begin, until, &options, &time, &driver).unwrap();
    World {
        host,
        fleet,
        bench,
        stations,
        app,
    }
}

/// The newest powers told for an outlet, newest last.
fn powers(told: &[Telemetry], evse: &str, since: DateTime<Utc>) -> Vec<Power> {
    told.iter()
        .filter_map(|t| match t {
            Telemetry::Reading(r) if r.evse.as_str() == evse && r.at > since => r.power,
            _ => None,
        })
        .collect()
}

/// An outlet of that protocol with a stay in progress, once it was told.
async fn plugged(world: &World, protocol: Protocol) -> String {
    let names: Vec<String> = world
        .fleet
        .evses()
        .iter()
        .filter(|e| e.protocol == protocol)
        .map(|e| e.id.to_string())
        .collect();
    world
        .bench
        .until(|told| {
            let begun = told.iter().filter_map(|t| match t {
                Telemetry::PluggedIn { evse, .. } => Some(evse.to_string()),
                _ => None,
            });
            begun.into_iter().find(|evse| names.contains(evse))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_two_way_station_discharges_follows_and_falls_back_by_itself() {
    let world = world("2026-06-09T20:30:00Z", 60.0, 12, 3).await;
    let evse = plugged(&world, Protocol::Ocpp21).await;
    let bench = &world.bench;
    let needs = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Needs {
                    evse: at, needs, ..
                } if at.as_str() == evse => Some(needs.clone()),
                _ => None,
            })
        })
        .await;
    assert!(
        needs.stored.is_some() && needs.departure.is_some() && needs.max_discharge > Power::ZERO
    );

    for (name, watts) in [("first", -5_000), ("second", -3_000)] {
        let since = bench.clock.now();
        let setpoint = bench.setpoint(name, &evse, watts, TimeDelta::seconds(240));
        bench.command(&setpoint).await;
        assert_eq!(bench.acknowledged(name).await.outcome, Outcome::Accepted);
        let wanted = Power::from_watts(watts);
        bench
            .until(|told| powers(told, &evse, since).contains(&wanted).then_some(()))
            .await;
    }
    // Nobody says anything more: four minutes later it charges plainly or rests.
    let silence = bench.clock.now() + TimeDelta::seconds(250);
    bench
        .until(|told| {
            powers(told, &evse, silence)
                .first()
                .map(|p| assert!(!p.is_export(), "{p}"))
        })
        .await;
    let truth = world.stations.truth();
    assert_eq!(truth.setpoints, 2);
    assert!(
        truth.energy.values().any(|e| e.export.joules() > 0),
        "it truly discharged"
    );
    assert_eq!(truth.failed, 0);
    world.stations.stop().await;
    world.bench.finish().await;
}

/// What the streams of an outlet told since then: readings of both registers and nothing else.
fn streamed(told: &[Telemetry], evse: &str, since: DateTime<Utc>) -> Vec<Reading> {
    let mut streamed: Vec<Reading> = told
        .iter()
        .filter_map(|t| match t {
            Telemetry::Reading(r) if r.evse.as_str() == evse && r.at > since => Some(r.clone()),
            _ => None,
        })
        .filter(|r| r.power.is_none() && r.export_register.is_some())
        .collect();
    streamed.sort_by_key(|r| r.at);
    streamed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_two_way_station_streams_a_discharge_as_a_discharge_at_its_time() {
    let config = Config {
        inquire: true,
        ..Config::default()
    };
    let streams = |options: &mut Options| options.streams = true;
    let world = world_with("2026-06-09T20:30:00Z", 30.0, (12, 3), config, streams).await;
    let evse = plugged(&world, Protocol::Ocpp21).await;
    let bench = &world.bench;
    bench
        .until(|told| {
            let needs = |t: &Telemetry| matches!(t, Telemetry::Needs { evse: at, .. } if at.as_str() == evse);
            told.iter().any(needs).then_some(())
        })
        .await;
    let watts = 5_000;
    let setpoint = bench.setpoint("out", &evse, -watts, TimeDelta::hours(1));
    bench.command(&setpoint).await;
    assert_eq!(bench.acknowledged("out").await.outcome, Outcome::Accepted);
    // Long after it follows.
    let since = bench.clock.now() + TimeDelta::seconds(10);
    let streamed = bench
        .until(|told| {
            let streamed = streamed(told, &evse, since);
            let (first, last) = (streamed.first()?.at, streamed.last()?.at);
            (last - first > TimeDelta::seconds(20) && streamed.len() > 10).then_some(streamed)
        })
        .await;
    let refused = bench.quarantined().await;
    let mut refused = refused.into_iter().map(|q| q.reason);
    // A register that has hardly moved fits two units: on a slow machine, where meter values come
    // late, it is refused for a while and never guessed at.
    let other = refused.find(|why| !why.contains("may be Wh or kWh"));
    assert_eq!(other, None);
    let (first, last) = (streamed.first().unwrap(), streamed.last().unwrap());
    let millis = (last.at - first.at).num_milliseconds();
    let expected = Energy::from_joules(watts * millis / 1_000);
    let exported = last.export_register.unwrap() - first.export_register.unwrap();
    let apart = (exported - expected).joules().abs();
    assert!(
        apart < Energy::from_wh(1).joules(),
        "{exported}, expected {expected}"
    );
    assert_eq!(
        first.import_register, last.import_register,
        "nothing was charged"
    );
    assert!(
        first.import_register.is_some() && first.session.is_some(),
        "{first:?}"
    );
    assert_eq!(world.stations.truth().failed, 0);
    world.stations.stop().await;
    world.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_with_a_droop_follows_the_frequency_by_itself_and_no_longer_than_it_may() {
    let world = world("2026-06-09T20:30:00Z", 30.0, 12, 3).await;
    let evse = plugged(&world, Protocol::Ocpp21).await;
    let bench = &world.bench;
    bench
        .until(|told| {
            let needs = |t: &Telemetry| matches!(t, Telemetry::Needs { evse: at, .. } if at.as_str() == evse);
            told.iter().any(needs).then_some(())
        })
        .await;
    let points = [(49_800, -4_000), (50_000, 0)].map(|(at, watts)| CurvePoint {
        at,
        power: Power::from_watts(watts),
    });
    let since = bench.clock.now();
    let droop = Setpoint {
        mode: Mode::LocalFrequency(points.to_vec().try_into().unwrap()),
        ..bench.setpoint("droop", &evse, 1_000, TimeDelta::seconds(300))
    };
    bench.command(&droop).await;
    assert_eq!(bench.acknowledged("droop").await.outcome, Outcome::Accepted);
    for watts in [1_000, -3_000] {
        let wanted = Power::from_watts(watts);
        bench
            .until(|told| powers(told, &evse, since).contains(&wanted).then_some(()))
            .await;
    }
    let silence = bench.clock.now() + TimeDelta::seconds(310);
    bench
        .until(|told| {
            powers(told, &evse, silence)
                .first()
                .map(|p| assert!(!p.is_export(), "{p}"))
        })
        .await;
    world.stations.stop().await;
    world.bench.finish().await;
}

/// Outlets whose vehicles are plugged in and, where they may discharge, said what they need.
fn ready(world: &World, told: &[Telemetry]) -> Vec<(String, Protocol)> {
    let mut plugged = std::collections::BTreeSet::new();
    let mut stated = std::collections::BTreeSet::new();
    for event in told {
        match event {
            Telemetry::PluggedIn { evse, .. } => {
                plugged.insert(evse.clone());
                stated.remove(evse);
            }
            Telemetry::Needs { evse, .. } => drop(stated.insert(evse.clone())),
            Telemetry::Unplugged { evse, .. } => drop(plugged.remove(evse)),
            _ => {}
        }
    }
    let evses = world.fleet.evses().iter();
    let ready = evses.filter(|evse| {
        plugged.contains(&evse.id)
            && (evse.protocol != Protocol::Ocpp21 || stated.contains(&evse.id))
    });
    ready
        .map(|evse| (evse.id.to_string(), evse.protocol))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_edge_dies_every_station_returns_to_plain_charging_within_its_timer() {
    let mut world = world("2026-06-09T20:30:00Z", 60.0, 24, 4).await;
    let life = TimeDelta::seconds(900);
    let all = [Protocol::Ocpp16, Protocol::Ocpp201, Protocol::Ocpp21];
    for protocol in all {
        plugged(&world, protocol).await;
    }
    let stations = world
        .bench
        .until(|told| {
            let ready = ready(&world, told);
            let some = |protocol| ready.iter().any(|(_, p)| *p == protocol);
            all.into_iter().all(some).then_some(ready)
        })
        .await;
    let mut told = vec![];
    for (evse, protocol) in stations {
        let watts = if protocol == Protocol::Ocpp21 {
            -3_000
        } else {
            2_000
        };
        let name = format!("last-{}-{}", protocol.name(), told.len());
        let setpoint = world.bench.setpoint(&name, &evse, watts, life);
        world.bench.command(&setpoint).await;
        told.push((name, evse, protocol, Power::from_watts(watts)));
    }
    let mut taken = vec![];
    for (name, evse, protocol, power) in told {
        if world.bench.acknowledged(&name).await.outcome == Outcome::Accepted {
            taken.push((evse, protocol, power));
        }
    }
    for protocol in all {
        assert!(taken.iter().any(|(_, p, _)| *p == protocol), "{protocol:?}");
    }
    let discharges = |(evse, protocol, _): &(String, Protocol, Power)| {
        let power = world.stations.power(&evse.parse().unwrap()).unwrap();
        *protocol == Protocol::Ocpp21 && power.is_export()
    };
    let discharging = async {
        while !taken.iter().any(discharges) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, discharging).await;
    seen.expect("a vehicle discharges before the edge dies");
    // At once, with every socket as it is.
    world.host.kill();
    let clock = world.bench.clock;
    // Two minutes more than the timer and the reaction.
    clock
        .sleep_until(clock.now() + life + TimeDelta::seconds(120))
        .await;
    for (evse, _, was) in taken {
        let power = world.stations.power(&evse.parse().unwrap()).unwrap();
        assert!(power != was && !power.is_export(), "{evse}: {power}");
    }
    world.stations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stations_that_take_amperes_only_follow_limits_in_amperes_and_never_beyond_them() {
    let config = Config {
        inquire: true,
        ..Config::default()
    };
    let amperes = |options: &mut Options| options.amperes = true;
    let world = world_with("2026-06-09T20:30:00Z", 60.0, (40, 4), config, amperes).await;
    for protocol in [Protocol::Ocpp16, Protocol::Ocpp201] {
        let evse = plugged(&world, protocol).await;
        let bench = &world.bench;
        let since = bench.clock.now();
        let name = protocol.name();
        let limit = bench.setpoint(name, &evse, 5_000, TimeDelta::seconds(600));
        bench.command(&limit).await;
        let ack = bench.acknowledged(name).await;
        assert_eq!(ack.outcome, Outcome::Accepted, "{}", ack.detail);
        // 7.2 A on three phases of 230 V; 7.3 A would be more than was asked for.
        let wanted = Power::from_watts(4_968);
        bench
            .until(|told| powers(told, &evse, since).contains(&wanted).then_some(()))
            .await;
        let out = format!("out-{name}");
        bench
            .command(&bench.setpoint(&out, &evse, -1_000, TimeDelta::seconds(600)))
            .await;
        assert_eq!(bench.acknowledged(&out).await.outcome, Outcome::Rejected);
    }
    world.stations.stop().await;
    world.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_way_station_follows_a_limit_refuses_discharge_and_its_driver_says_the_needs() {
    let world = world("2026-06-09T20:30:00Z", 60.0, 40, 0).await;
    let evse = plugged(&world, Protocol::Ocpp16).await;
    let bench = &world.bench;
    let since = bench.clock.now();
    bench
        .command(&bench.setpoint("limit", &evse, 3_000, TimeDelta::seconds(600)))
        .await;
    assert_eq!(bench.acknowledged("limit").await.outcome, Outcome::Accepted);
    let wanted = Power::from_watts(3_000);
    bench
        .until(|told| powers(told, &evse, since).contains(&wanted).then_some(()))
        .await;
    bench
        .command(&bench.setpoint("discharge", &evse, -3_000, TimeDelta::seconds(600)))
        .await;
    assert_eq!(
        bench.acknowledged("discharge").await.outcome,
        Outcome::Rejected
    );
    let session = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::PluggedIn {
                    evse: at, session, ..
                } if at.as_str() == evse => Some(session.clone()),
                _ => None,
            })
        })
        .await;
    let said = world.app.said(&evse).await;
    assert_eq!(
        said.session, session,
        "the app names the stay as the platform does"
    );
    assert_eq!(
        (said.needs.stored, said.needs.max_discharge),
        (None, Power::ZERO)
    );
    assert!(said.needs.departure.is_some());
    world.stations.stop().await;
    world.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_2_0_1_station_tells_its_needs_and_returns_to_plain_charging_on_silence() {
    let world = world("2026-06-09T20:30:00Z", 60.0, 40, 0).await;
    let evse = plugged(&world, Protocol::Ocpp201).await;
    let bench = &world.bench;
    let needs = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Needs {
                    evse: at, needs, ..
                } if at.as_str() == evse => Some(needs.clone()),
                _ => None,
            })
        })
        .await;
    assert!(needs.departure.is_some());
    assert_eq!((needs.stored, needs.max_discharge), (None, Power::ZERO));
    let since = bench.clock.now();
    bench
        .command(&bench.setpoint("limit", &evse, 3_000, TimeDelta::seconds(240)))
        .await;
    assert_eq!(bench.acknowledged("limit").await.outcome, Outcome::Accepted);
    let wanted = Power::from_watts(3_000);
    bench
        .until(|told| powers(told, &evse, since).contains(&wanted).then_some(()))
        .await;
    let silence = bench.clock.now() + TimeDelta::seconds(250);
    bench
        .until(|told| {
            powers(told, &evse, silence)
                .first()
                .map(|p| assert_ne!(*p, wanted))
        })
        .await;
    assert_eq!(world.stations.truth().failed, 0);
    world.stations.stop().await;
    world.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_transaction_is_lost_while_the_edge_is_away() {
    // The morning: cars leave while the edge restarts.
    let world = world("2026-06-09T05:30:00Z", 900.0, 20, 6).await;
    let World {
        host: _host,
        fleet: _,
        bench,
        stations,
        app: _,
    } = world;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let port = bench.address.port();
    let clock = bench.clock;
    let store = bench.finish().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let bench = start(store, quiet(), clock, port).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let moment = clock.now();
    let truth = stations.truth();
    assert!(truth.stays_ended > 5, "vehicles left: {truth:?}");
    bench
        .until(|told| {
            let count = |ended: bool| {
                told.iter()
                    .filter(|t| match t {
                        Telemetry::PluggedIn { .. } => !ended,
                        Telemetry::Unplugged { .. } => ended,
                        _ => false,
                    })
                    .count() as u64
            };
            (count(false) >= truth.stays_begun && count(true) >= truth.stays_ended).then_some(())
        })
        .await;
    stations.stop().await;
    let told = bench.told().await;
    every_quarter_is_told_once(&told, moment);
    bench.finish().await;
}

/// Readings of each stay reach over every quarter hour of the clock, registers never step back.
fn every_quarter_is_told_once(told: &[Telemetry], until: DateTime<Utc>) {
    let mut quarters: BTreeMap<String, Vec<DateTime<Utc>>> = BTreeMap::new();
    let mut registers: BTreeMap<String, (DateTime<Utc>, i64)> = BTreeMap::new();
    for reading in told.iter().filter_map(|t| match t {
        Telemetry::Reading(r) => Some(r),
        _ => None,
    }) {
        let Some(session) = &reading.session else {
            continue;
        };
        let register = reading
            .import_register
            .expect("every message has the register")
            .joules();
        let last = registers
            .entry(reading.evse.to_string())
            .or_insert((reading.at, register));
        assert!(last.1 <= register, "{reading:?} after {last:?}");
        *last = (reading.at, register);
        if reading.at.timestamp_micros() % 900_000_000 == 0 && reading.power.is_some() {
            quarters
                .entry(session.to_string())
                .or_default()
                .push(reading.at);
        }
    }
    let mut checked = 0;
    for (session, told) in quarters {
        for pair in told.windows(2).filter(|p| p[1] < until) {
            assert!(
                pair[1] - pair[0] <= TimeDelta::minutes(15),
                "{session} misses one in {pair:?}"
            );
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
