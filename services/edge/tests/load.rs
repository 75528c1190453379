//! How much a fleet costs: run by hand, `cargo test -p shoal-edge --test load -- --ignored --nocapture`.

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

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use fleet::Telemetry;
use runtime::Clock;
use shoal_edge::Config;
use sim::fleet::{Fleet, Settings};
use sim::station::{Boxed, DriverApp, Options, Stated, Time, spawn_fleet};
use store::Store;
use support::start;

struct Fast(Clock);

impl Time for Fast {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

struct Silent;

impl DriverApp for Silent {
    fn state(&self, _: Stated) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}

/// Processor seconds of this process so far, from `/proc`: user and system ticks of a hundredth of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

async fn play(cars: usize, buses: usize, speed: f64, real: Duration, period: TimeDelta) {
    let begin: DateTime<Utc> = "2026-06-09T04:00:00Z".parse().unwrap();
    let settings = Settings {
        seed: 1,
        cars,
        buses,
        zone: Amsterdam,
    };
    let fleet = Arc::new(Fleet::new(settings));
    let store = Store::in_memory().await.unwrap();
    store.tables().upsert_evses(fleet.evses()).await.unwrap();
    let clock = Clock::accelerated(begin, speed);
    let bench = start(store, Config::default(), clock, 0).await;
    let mut options = Options::new(format!("ws://{}/ocpp", bench.address));
    options.sample_period = period;
    let time: Arc<dyn Time> = Arc::new(Fast(clock));
    let app: Arc<dyn DriverApp> = Arc::new(Silent);
    let (before, began) = (processor_seconds(), Instant::now());
    let until = begin + TimeDelta::days(5);
    let stations = spawn_fleet(&fleet, begin, until, &options, &time, &app).unwrap();
    tokio::time::sleep(real).await;
    let truth = stations.truth();
    let (spent, took) = (processor_seconds() - before, began.elapsed().as_secs_f64());
    let told = bench.told().await;
    let lag = bench.clock.now() - told.iter().rev().map(Telemetry::at).max().unwrap();
    println!(
        "{} stations at speed {speed}: {:.2} cores, {:.0} messages a second, {} records, failed {}, newest record {} s (simulated) old, short {}",
        fleet.evses().len(),
        spent / took,
        truth.messages as f64 / took,
        told.len(),
        truth.failed,
        lag.num_seconds(),
        truth.left_short,
    );
    assert_eq!(truth.failed, 0);
    assert_eq!(truth.left_short, 0);
    stations.stop().await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute and a half; the figures depend on the machine"]
async fn what_a_fleet_costs() {
    play(
        200,
        30,
        2_400.0,
        Duration::from_secs(30),
        TimeDelta::minutes(60),
    )
    .await;
    play(
        200,
        30,
        1.0,
        Duration::from_secs(20),
        TimeDelta::seconds(10),
    )
    .await;
    play(
        1_900,
        100,
        1.0,
        Duration::from_secs(30),
        TimeDelta::seconds(60),
    )
    .await;
}
