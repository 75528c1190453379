//! Refit of a large pool from disk: a year of sessions in one Parquet file, read to the forecaster's log, and what its past teaches.
//!
//! `cargo bench -p shoal --bench refit [-- VEHICLES DAYS]`; by default 100000 vehicles and 365 days. The file is written by a process of
//! its own, so that its memory does not count, into a temporary folder.
#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement from seeds"
)]

#[path = "../../../crates/forecast/benches/pool/mod.rs"]
mod pool;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use forecast::availability::{Ask, Forecaster, Gathered, Log, Visit};
use frames::sessions::{COLUMNS, many};
use frames::table::{Column, Table};
use pool::{AREAS, Began, ORIGIN, ZONE, visits};
use units::{Energy, Interval, Power};

/// Sessions in a row group.
const PART: usize = 1 << 18;
/// Usable capacity told of every battery, kWh; what a session took counts, not this.
const CAPACITY: f64 = 400.0;
const CLASSES: [&str; 4] = ["home", "work", "public", "depot"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = arguments.iter().filter_map(|a| a.parse::<i64>().ok());
    let vehicles = numbers.next().unwrap_or(100_000);
    let days = numbers.next().unwrap_or(365);
    if let Some(file) = arguments.iter().find_map(|a| a.strip_prefix("write=")) {
        return write(Path::new(file), vehicles, days);
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sessions.parquet");
    let written = Command::new(std::env::current_exe()?)
        .args([vehicles.to_string(), days.to_string()])
        .arg(format!("write={}", file.display()))
        .status()?;
    ensure!(written.success(), "sessions were not written");
    let bytes = std::fs::metadata(&file)?.len();
    println!(
        "{vehicles} vehicles, {days} days: {:.0} MB of Parquet",
        bytes as f64 / 1e6
    );

    let all = Began::now();
    let log = read(&file)?;
    println!("{} sessions read, checked and sorted: {all}", log.len());
    let begun = Began::now();
    let until = DateTime::from_timestamp(ORIGIN, 0).context("an instant")?;
    let ask = Ask {
        threads: 2,
        ..Ask::default()
    };
    let mut forecaster = Forecaster::new(&log);
    forecaster.refit(until, &ask);
    println!("learned from 28 days of its own forecasts: {begun}");
    println!("refit from Parquet: {all}");
    Ok(())
}

/// The log of a file of canonical sessions; the site's name is the class and the network area.
fn read(file: &Path) -> Result<Log> {
    let mut gathered = Gathered::new(ZONE);
    let mut wrong = None;
    many::each(file, &mut |stay, site| match visit(&stay, site) {
        Ok(visit) => gathered.push(&visit),
        Err(error) => wrong = Some(error),
    })?;
    wrong.map_or_else(|| Ok(gathered.log()), Err)
}

fn visit(stay: &many::Stay, site: &str) -> Result<Visit> {
    let (class, area) = site.split_once('-').context("class and area")?;
    let class = CLASSES
        .iter()
        .position(|c| *c == class)
        .context("a class")?;
    let class = u32::try_from(class)?;
    let rating = Power::from_kw(stay.max_charge_kw);
    Ok(Visit {
        span: Interval::try_new(stay.plug_in, stay.plug_out)?,
        energy: Energy::from_kwh(stay.energy_kwh),
        charge: rating,
        rating: Some(rating),
        discharge: Power::from_kw(stay.max_discharge_kw),
        outlet: None,
        user: Some(stay.vehicle),
        group: AREAS * class + area.parse::<u32>()?,
        class,
        metered: None,
        slack: None,
        said: None,
    })
}

/// Writes the sessions of the pool, part by part.
fn write(file: &Path, vehicles: i64, days: i64) -> Result<()> {
    let mut all = visits(vehicles as f64, days).enumerate().peekable();
    let parts = std::iter::from_fn(|| {
        all.peek()?;
        let part: Vec<(usize, Visit)> = all.by_ref().take(PART).collect();
        table(&part).ok()
    });
    let rows = Table::write_parquet_parts(file, parts)?;
    println!("{} sessions written", rows.unwrap_or(0));
    Ok(())
}

fn table(part: &[(usize, Visit)]) -> Result<Table> {
    let texts = |of: &dyn Fn(&(usize, Visit)) -> String| Column::texts(part.iter().map(of));
    let floats = |of: &dyn Fn(&Visit) -> f64| Column::floats(part.iter().map(|p| of(&p.1)));
    let user = |v: &Visit| v.user.unwrap_or(0);
    let site = |v: &Visit| format!("{}-{}", CLASSES[v.class as usize], v.group % AREAS);
    let instants =
        |of: fn(&Visit) -> DateTime<chrono::Utc>| Column::instants(part.iter().map(|p| of(&p.1)));
    let columns = [
        texts(&|p| format!("s{}", p.0)),
        texts(&|p| format!("e{}", user(&p.1))),
        texts(&|p| format!("v{}", user(&p.1))),
        texts(&|p| site(&p.1)),
        instants(|v| v.span.start()),
        instants(|v| v.span.end()),
        Column::Float(vec![None; part.len()]),
        floats(&|v| v.energy.kwh()),
        floats(&|_| CAPACITY),
        floats(&|v| v.charge.kw()),
        floats(&|v| v.discharge.kw()),
    ];
    let mut table = Table::new();
    for (name, column) in COLUMNS.into_iter().zip(columns) {
        table = table.with(name, column)?;
    }
    Ok(table)
}
