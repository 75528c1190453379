//! A live plan of ten thousand vehicles made again every minute, while one in a hundred changes: how long each plan takes, and how far it can be
//! from the best.
//!
//! `cargo bench -p portfolio --bench rolling [-- VEHICLES ROUNDS]`; by default 10000 and 300.
#![expect(
    unreachable_pub,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement from seeds, shared with the tests"
)]

#[path = "../tests/rolling/fleet.rs"]
mod fleet;

use std::time::Instant;

use fleet::World;
use portfolio::market::Product;
use portfolio::rolling::{Again, Live, Made};

/// Seconds between two plans.
const EVERY: i64 = 60;

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse::<usize>().ok());
    let count = numbers.next().unwrap_or(10_000);
    let rounds = numbers.next().unwrap_or(300);
    let again = Again {
        threads: 2,
        ..Again::default()
    };
    let mut world = World::new(count, 1);
    let mut live = Live::default();
    let per_vehicle = count as f64 / 10_000.0;
    world.sell(Product::Fcr, 5_000.0 * per_vehicle);
    world.sell(Product::AfrrUp, 5_000.0 * per_vehicle);
    world.sell(Product::AfrrDown, 10_000.0 * per_vehicle);
    let moment = world.moment();
    let open = Live::default().plan(&world.input(&moment), &again).unwrap();
    world.trade(&moment, &open.pool_kw);
    let moment = world.moment();
    let began = Instant::now();
    let mut made = live.plan(&world.input(&moment), &again).unwrap();
    println!(
        "{count} vehicles, {} steps; the first plan, every vehicle solved: {:.2} s, {}",
        world.steps,
        began.elapsed().as_secs_f64(),
        quality(&made)
    );
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    let mut gaps = Vec::new();
    let (mut changed, mut repriced) = (0, 0);
    for round in 0..rounds {
        world.follow(&made.schedules, EVERY);
        world.change(count / 100);
        let moment = world.moment();
        let (began, worked) = (Instant::now(), processor_seconds());
        made = live.plan(&world.input(&moment), &again).unwrap();
        seconds.push(began.elapsed().as_secs_f64());
        cpu.push(processor_seconds() - worked);
        gaps.push(made.gap.relative().unwrap_or(f64::INFINITY));
        changed += made.work.changed;
        repriced += made.work.repriced;
        if round % 50 == 0 {
            println!(
                "round {round}: {:.3} s, {} changed, {} solved for a price, {}",
                seconds[round],
                made.work.changed,
                made.work.repriced,
                quality(&made)
            );
        }
    }
    if rounds == 0 {
        return;
    }
    println!(
        "per round: {:.0} vehicles solved that changed or stand beside one, {:.0} for a price",
        changed as f64 / rounds as f64,
        repriced as f64 / rounds as f64
    );
    println!("seconds   {}", spread(&mut seconds));
    println!("processor {}", spread(&mut cpu));
    println!("gap       {}", spread(&mut gaps));
    let moment = world.moment();
    let began = Instant::now();
    let full = Live::default().plan(&world.input(&moment), &again).unwrap();
    println!(
        "the last plan made from nothing: {:.2} s, {}; the one made again costs {:+.2} EUR more",
        began.elapsed().as_secs_f64(),
        quality(&full),
        made.gap.cost - full.gap.cost
    );
}

/// Processor time of all threads so far, s; zero where the system does not tell. Resolution 10 ms.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn quality(made: &Made) -> String {
    format!(
        "cost {:.2} EUR, bound {:.2} EUR, gap {:.1e}, {:.0} kW of reserve short",
        made.gap.cost,
        made.gap.bound,
        made.gap.relative().unwrap_or(f64::INFINITY),
        made.short_kw
    )
}

fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    format!(
        "median {:.4}, p90 {:.4}, p99 {:.4}, most {:.4}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}
