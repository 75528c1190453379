//! `shoal synth`: a scenario with a fleet of realistic spread, for benches and for users without data.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use frames::sessions::Session;
use market::Area;
use serde::Serialize;
use sim::synth::{Day, EFFICIENCY, Stay, Synth};
use units::DeliveryDay;

use crate::cli::CliError;
use crate::output::Output;

const EXAMPLES: &str = "\
Example:
  shoal synth week-end --vehicles 1000 --buses 40 --area NL --day 2024-06-15 --seed 1
  shoal backtest week-end/scenario.toml --policy v2g-perfect

The folder then holds scenario.toml and the tables it names: day-ahead prices per quarter hour, FCR prices per block, and
the sessions of one local day at homes, workplaces, public places and bus depots. The same seed writes the same files.";

/// Arguments of `shoal synth`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder to write to; made if it is not there, refused if it holds another scenario
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Cars
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    vehicles: u32,

    /// Buses
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    buses: u32,

    /// Market area: zone and currency
    #[arg(long, default_value = "NL")]
    area: Area,

    /// Local day
    #[arg(long, value_name = "DATE")]
    day: NaiveDate,

    /// Same seed, same files
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    scenario: PathBuf,
    vehicles: u32,
    buses: u32,
    sites: usize,
    sessions: usize,
}

/// Writes the scenario.
///
/// # Errors
/// Status 2 for a day that the area's zone does not have or a folder with another scenario, 1 where a file cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let zone = args.area.zone();
    let day = DeliveryDay::try_new(args.day, zone)
        .map_err(|error| CliError::Input(format!("--day: {error}")))?;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let made = Synth {
        seed: args.seed,
        vehicles: count(args.vehicles),
        buses: count(args.buses),
        day,
        zone,
    }
    .day();
    fs::create_dir_all(&args.folder)?;
    only_scenario(&args.folder)?;
    let scenario = args.folder.join(SCENARIO);
    write_series(
        &args.folder.join("prices.csv"),
        "utc_start,eur_mwh",
        &made.day_ahead,
        |at| vec![*at],
    )?;
    write_series(
        &args.folder.join("fcr.csv"),
        "utc_start,utc_end,eur_mw",
        &made.fcr,
        |block| vec![block.start(), block.end()],
    )?;
    let sessions: Vec<Session> = made.stays.iter().map(|stay| session(&made, stay)).collect();
    frames::sessions::write(
        &args.folder.join("sessions.csv"),
        &sessions,
        &BTreeMap::new(),
    )
    .map_err(|error| CliError::failed(&error))?;
    fs::write(&scenario, text(args, &made))?;
    let written = Written {
        scenario,
        vehicles: args.vehicles,
        buses: args.buses,
        sites: made.sites.len(),
        sessions: sessions.len(),
    };
    output.result(&written, || {
        format!(
            "{}: {} cars and {} buses at {} sites, {} sessions",
            written.scenario.display(),
            written.vehicles,
            written.buses,
            written.sites,
            written.sessions
        )
    })
}

const SCENARIO: &str = "scenario.toml";

/// A folder of scenarios holds one.
fn only_scenario(folder: &Path) -> Result<(), CliError> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let other = path.extension().is_some_and(|ending| ending == "toml")
            && path.file_name().is_some_and(|name| name != SCENARIO);
        if other {
            return Err(CliError::Input(format!(
                "{}: another scenario is here, expected a folder without one",
                path.display()
            )));
        }
    }
    Ok(())
}

fn session(day: &Day, stay: &Stay) -> Session {
    Session {
        session_id: format!("{}-{}", stay.vehicle, stay.number),
        evse_id: format!("evse-{}", stay.vehicle),
        vehicle_id: stay.vehicle.clone(),
        site_id: day.sites[stay.site].id.clone(),
        plug_in: stay.plug_in,
        plug_out: stay.plug_out,
        energy_arrival_kwh: Some(stay.arrival_kwh),
        energy_required_kwh: stay.required_kwh,
        capacity_kwh: stay.capacity_kwh,
        max_charge_kw: stay.charge_kw,
        max_discharge_kw: stay.discharge_kw,
    }
}

fn write_series<T>(
    file: &Path,
    header: &str,
    rows: &[(T, f64)],
    instants: impl Fn(&T) -> Vec<DateTime<Utc>>,
) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(file)?);
    writeln!(out, "{header}")?;
    for (when, value) in rows {
        for instant in instants(when) {
            write!(
                out,
                "{},",
                instant.to_rfc3339_opts(SecondsFormat::Secs, true)
            )?;
        }
        writeln!(out, "{value:.2}")?;
    }
    out.flush()
}

fn text(args: &Args, made: &Day) -> String {
    let next = args.day.succ_opt().unwrap_or(args.day);
    let mut text = format!(
        r#"name = "synth-{}-{}-{}"
area = "{}"
from = {}
to = {next}
step_minutes = 15

[prices]
day_ahead = {{ file = "prices.csv", column = "eur_mwh" }}
fcr = {{ file = "fcr.csv", column = "eur_mw" }}
imbalance_spread = 10.0

[fleet]
sessions = "sessions.csv"
charge_efficiency = {EFFICIENCY:?}
discharge_efficiency = {EFFICIENCY:?}
min_energy_fraction = 0.1
v2g_share = 1.0
departure_known = true

[costs]
import_per_mwh = 5.0
export_per_mwh = 5.0
wear_per_mwh = 30.0

[markets]
day_ahead = true
fcr = {{ enabled = true, power_factor = 1.25, endurance_minutes = 30, headroom = "window", recovery_steps = 2 }}
"#,
        args.vehicles,
        args.buses,
        args.seed,
        args.area.code(),
        args.day
    );
    for site in &made.sites {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[site]]\nid = \"{}\"\nimport_limit_kw = {:?}\nexport_limit_kw = {:?}\n",
            site.id, site.import_limit_kw, site.export_limit_kw
        );
    }
    text
}
