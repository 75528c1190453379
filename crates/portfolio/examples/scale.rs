//! Solves the scenario that `shoal synth` wrote into a folder, and prints what it took as one JSON line.
//!
//! ```text
//! cargo run --release -p portfolio --example scale -- DIR [THREADS [GAP [SESSIONS_THAT_BALANCE]]]
//! ```
//!
//! Only the portfolio crate is built, which takes minutes less than the whole program; the numbers are the same problem.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use chrono::{DateTime, Utc};
use portfolio::reference::{
    Block, Direction, Effort, Headroom, Outcome, Problem, Reserve, Session, Site, check, solve_with,
};

/// The step of the grid and its length in hours.
const STEP_SECONDS: i64 = 900;
const HOURS: f64 = 0.25;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(
        arguments
            .first()
            .expect("usage: scale DIR [THREADS [GAP [SESSIONS_THAT_BALANCE]]]"),
    );
    let threads = arguments.get(1).map_or(2, |text| text.parse().unwrap());
    let default = Effort::default();
    let effort = Effort {
        threads,
        gap: arguments
            .get(2)
            .map_or(default.gap, |text| text.parse().unwrap()),
        few: arguments.get(3).map(|text| text.parse().unwrap()),
        ..default
    };
    let begun = Instant::now();
    let problem = read(folder);
    let read_seconds = begun.elapsed().as_secs_f64();
    let (begun, before) = (Instant::now(), cpu_seconds());
    let outcome = solve_with(&problem, effort).unwrap();
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - before);
    let Outcome::Solved(answer) = outcome else {
        println!("{{\"outcome\": {:?}}}", format!("{outcome:?}"));
        return;
    };
    println!(
        "{{\"sessions\": {}, \"read_seconds\": {read_seconds:.2}, \"wall_seconds\": {wall:.2}, \"cpu_seconds\": {cpu:.2}, \
         \"objective\": {:.6}, \"lower_bound\": {:.6}, \"relative_gap\": {:.2e}, \"iterations\": {}, \"peak_gb\": {:.2}, \
         \"rows_broken\": {}}}",
        problem.sessions.len(),
        answer.objective,
        answer.lower_bound,
        answer.relative_gap,
        answer.iterations,
        peak_gigabytes(),
        check(&problem, &answer.schedule).rows.len(),
    );
}

/// Processor seconds of the process so far, from the system's hundredths.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_gigabytes() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e6
}

fn read(folder: &Path) -> Problem {
    let table = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp();
    let scenario = table("scenario.toml");
    let value = |key: &str| -> f64 {
        let line = scenario.lines().find(|line| line.starts_with(key)).unwrap();
        line.rsplit('=').next().unwrap().trim().parse().unwrap()
    };
    let prices: Vec<(i64, f64)> = table("prices.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let (at, price) = line.split_once(',').unwrap();
            (instant(at), price.parse().unwrap())
        })
        .collect();
    let start = prices[0].0;
    let step = |at: i64| usize::try_from((at - start).div_euclid(STEP_SECONDS)).unwrap();
    let blocks = table("fcr.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            Block {
                steps: step(instant(fields[0]))..step(instant(fields[1])),
                price: fields[2].parse().unwrap(),
            }
        })
        .collect();
    let (mut sites, mut names) = (Vec::new(), HashMap::new());
    for part in scenario.split("[[site]]").skip(1) {
        let field = |key: &str| {
            let line = part.lines().find(|line| line.starts_with(key)).unwrap();
            line.rsplit('=')
                .next()
                .unwrap()
                .trim()
                .trim_matches('"')
                .to_owned()
        };
        names.insert(field("id"), sites.len());
        sites.push(Site {
            import_kw: field("import_limit_kw").parse().unwrap(),
            export_kw: field("export_limit_kw").parse().unwrap(),
            base_kw: Vec::new(),
        });
    }
    let efficiency = value("charge_efficiency");
    let sessions = table("sessions.csv")
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with('#'))
        .map(|line| session(line, efficiency, start, &names))
        .collect();
    Problem {
        step_hours: HOURS,
        import_price: prices
            .iter()
            .map(|(_, price)| price + value("import_per_mwh"))
            .collect(),
        export_price: prices
            .iter()
            .map(|(_, price)| price - value("export_per_mwh"))
            .collect(),
        wear: value("wear_per_mwh"),
        shortfall: 2.0,
        sessions,
        sites,
        reserves: vec![Reserve {
            direction: Direction::Symmetric,
            power_factor: 1.25,
            endurance_hours: 0.5,
            blocks,
        }],
        headroom: Headroom::Window { recovery_steps: 2 },
    }
}

fn session(line: &str, efficiency: f64, start: i64, sites: &HashMap<String, usize>) -> Session {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |at: usize| -> f64 { fields[at].parse().unwrap() };
    let instant = |at: usize| fields[at].parse::<DateTime<Utc>>().unwrap().timestamp() - start;
    let (begin, end) = (instant(4), instant(5));
    let steps = begin.div_euclid(STEP_SECONDS)..(end + STEP_SECONDS - 1).div_euclid(STEP_SECONDS);
    let share: Vec<f64> = steps
        .clone()
        .map(|step| {
            let there = end.min((step + 1) * STEP_SECONDS) - begin.max(step * STEP_SECONDS);
            there as f64 / STEP_SECONDS as f64
        })
        .collect();
    let (arrival, capacity, charge_kw) = (number(6), number(8), number(9));
    let floor = (0.1 * capacity).min(arrival);
    let reachable = arrival + efficiency * charge_kw * HOURS * share.iter().sum::<f64>();
    Session {
        site: sites.get(fields[3]).copied(),
        first: usize::try_from(steps.start).unwrap(),
        share,
        capacity,
        arrival,
        floor,
        goal: number(7).min(capacity).min(reachable).max(floor),
        charge_kw,
        discharge_kw: number(10),
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    }
}
