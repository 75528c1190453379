//! `shoal export`: history leaves the tables as Parquet files by day and area, which polars reads here and any engine elsewhere.

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use fleet::{MeterInterval, Reading, SessionState};
use frames::table::{Column, Table, TableError};
use serde::Serialize;
use store::{StoreError, Tables};
use units::{DeliveryDay, Energy, Power};

use crate::cli::CliError;
use crate::output::Output;
use crate::serve::config;

/// Samples of so long a time are one file: of 100 000 vehicles, each sampled every 10 s, nine million rows.
const SLICE: TimeDelta = TimeDelta::minutes(15);

/// Options of `shoal export`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  shoal export /srv/history --config shoal.toml --days 3\n\n\
    Writes DIR/KIND/area=AREA/day=DATE/*.parquet for the kinds intervals, sessions and, with --readings, readings. Days are those of\n\
    the market area of [gateway]; only days that are over are written. A day written again replaces what was there: data that came\n\
    late are in it then. Energies are joules, powers watts, instants UTC."
)]
pub(crate) struct Args {
    /// Folder of the history
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Settings, TOML, the same as for shoal serve
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// First day written, instead of counting back from yesterday
    #[arg(long, value_name = "DATE", requires = "to", conflicts_with = "days")]
    from: Option<NaiveDate>,
    /// Last day written
    #[arg(long, value_name = "DATE", requires = "from")]
    to: Option<NaiveDate>,
    /// So many days up to yesterday
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3_660))]
    days: u16,
    /// Samples of meters too: a hundred times as much as the rest
    #[arg(long)]
    readings: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Exported {
    dir: PathBuf,
    area: &'static str,
    days: Vec<Day>,
}

#[derive(Debug, Default, Serialize)]
struct Day {
    date: NaiveDate,
    intervals: usize,
    sessions: usize,
    /// `None` if they were not asked for.
    readings: Option<usize>,
}

/// Writes finished days.
///
/// # Errors
/// Status 2 for a configuration that cannot work, or days that are not over; status 1 if the tables cannot be read or a file
/// cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &[])?;
    let place = config.store.place().map_err(CliError::Input)?;
    let area = config.gateway.area;
    let now = runtime::Clock::system().now();
    let days = days(args, DeliveryDay::containing(now, area.zone()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let exported = runtime.block_on(async {
        let tables = Tables::open(place, "export").await?;
        let mut exported = Exported {
            dir: args.dir.clone(),
            area: area.code(),
            days: Vec::new(),
        };
        for day in days {
            let folder = Folder {
                dir: &args.dir,
                area: area.code(),
                day,
            };
            exported
                .days
                .push(folder.export(&tables, args.readings).await?);
        }
        Ok::<_, Error>(exported)
    });
    let exported = exported.map_err(|e| CliError::failed(&e))?;
    output.result(&exported, || text(&exported))
}

/// The days asked for, all before `today`.
fn days(args: &Args, today: DeliveryDay) -> Result<Vec<DeliveryDay>, CliError> {
    let (from, to) = match (args.from, args.to) {
        (Some(from), Some(to)) => (from, to),
        _ => (
            today.plus(-i64::from(args.days)).date(),
            today.previous().date(),
        ),
    };
    if from > to {
        return Err(CliError::Input(format!(
            "--to {to} is before --from {from}, expected the same or a later date"
        )));
    }
    if to >= today.date() {
        return Err(CliError::Input(format!(
            "--to {to}: that day is not over, expected a date before {}",
            today.date()
        )));
    }
    from.iter_days()
        .take_while(|date| *date <= to)
        .map(|date| {
            DeliveryDay::try_new(date, today.zone())
                .map_err(|error| CliError::Input(format!("{date}: {error}")))
        })
        .collect()
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("{}", file.display())]
    File {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Where a day goes.
struct Folder<'a> {
    dir: &'a Path,
    area: &'static str,
    day: DeliveryDay,
}

impl Folder<'_> {
    async fn export(&self, tables: &Tables, readings: bool) -> Result<Day, Error> {
        let (from, to) = (self.day.start(), self.day.end());
        let intervals = tables.intervals_between(from, to).await?;
        self.write("intervals", "intervals", &of_intervals(&intervals)?)?;
        let mut sessions = tables.sessions_between(from, to).await?;
        // A stay belongs to the day on which it ended.
        sessions.retain(|state| state.session.unplugged.is_some_and(|at| at <= to));
        self.write("sessions", "sessions", &of_sessions(&sessions)?)?;
        let mut day = Day {
            date: self.day.date(),
            intervals: intervals.len(),
            sessions: sessions.len(),
            readings: None,
        };
        if readings {
            let mut count = 0;
            for start in self.day.interval_starts(SLICE) {
                let samples = tables.samples_between(start, start + SLICE).await?;
                count += samples.len();
                let name = start.format("%H%MZ").to_string();
                self.write("readings", &name, &of_readings(&samples)?)?;
            }
            day.readings = Some(count);
        }
        Ok(day)
    }

    /// Writes a file beside and moves it: what bears the name is whole.
    fn write(&self, kind: &str, name: &str, table: &Table) -> Result<(), Error> {
        let folder = self
            .dir
            .join(kind)
            .join(format!("area={}", self.area))
            .join(format!("day={}", self.day.date()));
        let failed = |file: &Path| {
            let file = file.to_owned();
            move |source| Error::File { file, source }
        };
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let file = folder.join(format!("{name}.parquet"));
        // Readers of a folder pass over names that begin so.
        let part = folder.join(format!(".{name}.part"));
        table.write_parquet(&part)?;
        std::fs::rename(&part, &file).map_err(failed(&file))
    }
}

fn of_intervals(rows: &[MeterInterval]) -> Result<Table, TableError> {
    let instants = |f: fn(&MeterInterval) -> DateTime<Utc>| Column::instants(rows.iter().map(f));
    let ints = |f: fn(&MeterInterval) -> i64| Column::ints(rows.iter().map(f));
    Table::new()
        .with("evse", Column::texts(rows.iter().map(|r| r.evse.as_str())))?
        .with("site", Column::texts(rows.iter().map(|r| r.site.as_str())))?
        .with("start", instants(|r| r.interval.start()))?
        .with("end", instants(|r| r.interval.end()))?
        .with("import_joules", ints(|r| r.import.joules()))?
        .with("export_joules", ints(|r| r.export.joules()))?
        .with("covered_seconds", ints(|r| i64::from(r.covered_seconds)))?
        .with("version", ints(|r| i64::from(r.version)))
}

fn of_readings(rows: &[Reading]) -> Result<Table, TableError> {
    let joules = |f: fn(&Reading) -> Option<Energy>| {
        Column::Int(rows.iter().map(|r| f(r).map(Energy::joules)).collect())
    };
    let session = |r: &Reading| r.session.as_ref().map(ToString::to_string);
    Table::new()
        .with("evse", Column::texts(rows.iter().map(|r| r.evse.as_str())))?
        .with("at", Column::instants(rows.iter().map(|r| r.at)))?
        .with("session", Column::Text(rows.iter().map(session).collect()))?
        .with(
            "power_watts",
            Column::Int(rows.iter().map(|r| r.power.map(Power::watts)).collect()),
        )?
        .with("import_register_joules", joules(|r| r.import_register))?
        .with("export_register_joules", joules(|r| r.export_register))?
        .with(
            "soc",
            Column::Float(rows.iter().map(|r| r.soc.map(units::Soc::share)).collect()),
        )
}

fn of_sessions(rows: &[SessionState]) -> Result<Table, TableError> {
    let texts = |f: fn(&SessionState) -> Option<String>| Column::Text(rows.iter().map(f).collect());
    let needs = |f: fn(&fleet::Needs) -> Option<i64>| {
        let value = |r: &SessionState| r.session.needs.as_ref().and_then(f);
        Column::Int(rows.iter().map(value).collect())
    };
    let instants = |f: fn(&SessionState) -> Option<DateTime<Utc>>| {
        Column::Instant(rows.iter().map(f).collect())
    };
    Table::new()
        .with("session", texts(|r| Some(r.session.id.to_string())))?
        .with("evse", texts(|r| Some(r.session.evse.to_string())))?
        .with("site", texts(|r| Some(r.session.site.to_string())))?
        .with(
            "vehicle",
            texts(|r| r.session.vehicle.as_ref().map(ToString::to_string)),
        )?
        .with("plug_in", instants(|r| Some(r.session.plugged_in)))?
        .with("plug_out", instants(|r| r.session.unplugged))?
        .with(
            "departure_stated",
            instants(|r| r.session.needs.as_ref().and_then(|n| n.departure)),
        )?
        .with(
            "added_joules",
            Column::Int(rows.iter().map(|r| r.added.map(Energy::joules)).collect()),
        )?
        .with("required_joules", needs(|n| Some(n.energy.joules())))?
        .with("stored_joules", needs(|n| n.stored.map(Energy::joules)))?
        .with("capacity_joules", needs(|n| n.capacity.map(Energy::joules)))?
        .with("max_charge_watts", needs(|n| Some(n.max_charge.watts())))?
        .with(
            "max_discharge_watts",
            needs(|n| Some(n.max_discharge.watts())),
        )
}

fn text(exported: &Exported) -> String {
    let mut lines = vec![format!(
        "{}: history of {}",
        exported.dir.display(),
        exported.area
    )];
    for day in &exported.days {
        let readings = day
            .readings
            .map_or_else(String::new, |count| format!(", {count} readings"));
        lines.push(format!(
            "{}  {} metered intervals, {} stays{readings}",
            day.date, day.intervals, day.sessions
        ));
    }
    lines.join("\n")
}
