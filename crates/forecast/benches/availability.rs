//! A large pool: what a forecast of the next 48 h takes, by totals and by class and network area, and what learning from the past
//! takes.
//!
//! `cargo bench -p forecast --bench availability [-- VEHICLES DAYS [refit]]`; by default 100000 vehicles and 365 days.
#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement from seeds"
)]

mod pool;

use chrono::DateTime;
use forecast::Quantity;
use forecast::availability::{Ask, Bound, Forecaster, Log};
use pool::{AREAS, Began, ORIGIN, ZONE, visits};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|a| a.parse::<i64>().ok());
    let vehicles = numbers.next().unwrap_or(100_000);
    let days = numbers.next().unwrap_or(365);
    let begun = Began::now();
    let log = Log::new(ZONE, visits(vehicles as f64, days));
    println!(
        "{vehicles} vehicles, {days} days, {} visits: made and sorted in {begun}",
        log.len()
    );
    let until = DateTime::from_timestamp(ORIGIN, 0).unwrap_or_default();
    let ask = Ask {
        threads: 2,
        ..Ask::default()
    };
    let mut forecaster = Forecaster::new(&log);
    for _ in 0..3 {
        let begun = Began::now();
        let ahead = forecaster.ahead(until, &ask);
        println!("48 h, 200 paths, totals: {begun}");
        print(&ahead.paths);
        let begun = Began::now();
        let by_group = Ask {
            by_group: true,
            ..ask
        };
        let ahead = forecaster.ahead(until, &by_group);
        let areas = (0..AREAS).map(|area| (0..4).map(|class| AREAS * class + area).collect());
        let classes = (0..4).map(|class| (0..AREAS).map(|area| AREAS * class + area).collect());
        let parts: Vec<Vec<u32>> = areas.chain(classes).collect();
        let mut bands = 0;
        for part in &parts {
            let paths = ahead.part(part);
            for step in 0..paths.steps() {
                bands += forecast::availability::QUANTITIES
                    .into_iter()
                    .filter(|q| paths.band(*q, step).is_some())
                    .count();
                bands += [Bound::Lowest, Bound::Highest]
                    .into_iter()
                    .filter(|b| paths.energy_band(*b, step).is_some())
                    .count();
            }
        }
        println!("the same by {AREAS} areas and 4 classes, with {bands} bands: {begun}");
    }
    if arguments.iter().any(|a| a == "refit") {
        let begun = Began::now();
        forecaster.refit(until, &ask);
        println!("learned from 28 days of its own forecasts: {begun}");
        print(&forecaster.ahead(until, &ask).paths);
    }
}

fn print(paths: &forecast::availability::Paths) {
    for hours in [3, 12, 36] {
        let band = |q| {
            let band = paths.band(q, 4 * hours);
            band.map_or_else(Vec::new, |b| b.values().iter().map(|v| v.round()).collect())
        };
        let count: Vec<f64> = band(Quantity::PluggedIn);
        println!("  in {hours} h plugged in {count:?}");
    }
}
