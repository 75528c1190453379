//! `shoal import`: foreign files to canonical tables.

use std::fmt::Write as _;
use std::path::PathBuf;

use chrono::NaiveDate;
use chrono_tz::Tz;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use frames::import::{Assume, AssumeError, Count, FORMATS, Format, Options, Summary};
use serde::Serialize;

use crate::cli::CliError;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  shoal import elaad nl_elaad_public_sessions_2018.csv.gz --out sessions.csv \\
      --assume capacity_kwh=60,departure_fraction=0.8,max_discharge_kw=11 \\
      --shift-weeks 313 --from 2024-01-01 --to 2024-02-01
  shoal import smard-csv Gro_handelspreise_202301010000_202401010000_Stunde.csv --out prices.csv.gz
  shoal import entsoe-xml day-ahead.xml --out prices.parquet --json

Rows that cannot be used are refused and counted with the reason; a file that cannot be read at all ends with status 2.";

/// Arguments of `shoal import`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Format of the files
    #[arg(value_parser = formats())]
    format: Format,

    /// Files to read, in order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// File to write: .csv, .csv.gz or .parquet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// What a session file does not know: `capacity_kwh`, `arrival_fraction`, `departure_fraction`,
    /// `max_charge_kw`, `max_discharge_kw`, `charge_efficiency`, `longest_stay_hours`
    #[arg(long, value_name = "KEY=NUMBER,...")]
    assume: Vec<String>,

    /// Move sessions by whole weeks (negative: back), keeping weekday and local clock
    #[arg(
        long,
        value_name = "WEEKS",
        allow_negative_numbers = true,
        default_value_t = 0
    )]
    shift_weeks: i64,

    /// IANA zone of clocks without offset, instead of the format's own
    #[arg(long)]
    zone: Option<Tz>,

    /// IANA zone in which sessions keep their local clock, and of --from and --to
    #[arg(long)]
    to_zone: Option<Tz>,

    /// First local date kept
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,

    /// First local date no longer kept
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
}

/// Names of the formats, each with its line of help.
fn formats() -> impl clap::builder::TypedValueParser<Value = Format> {
    let values = FORMATS
        .iter()
        .map(|f| PossibleValue::new(f.name).help(f.about));
    PossibleValuesParser::new(values)
        .try_map(|name| Format::named(&name).ok_or_else(|| format!("no format {name:?}")))
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    format: &'a str,
    files: &'a [PathBuf],
    out: &'a PathBuf,
    assumed: Option<String>,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Reads, converts and writes; prints rows read, kept and refused.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let options = options(args)?;
    let imported = args.format.read(&args.files, &options)?;
    imported
        .table
        .write(&args.out)
        .map_err(|e| CliError::failed(&e))?;
    let report = Report {
        format: args.format.name,
        files: &args.files,
        out: &args.out,
        assumed: args
            .format
            .is_sessions()
            .then(|| options.assume.to_string()),
        summary: &imported.summary,
    };
    output.result(&report, || text(&report))
}

fn options(args: &Args) -> Result<Options, CliError> {
    if !args.format.is_sessions() && (!args.assume.is_empty() || args.shift_weeks != 0) {
        return Err(CliError::Input(format!(
            "--assume and --shift-weeks with the series format {}, expected them with a format of sessions",
            args.format.name
        )));
    }
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(CliError::Input(format!(
            "--to {to} is not after --from {from}, expected a later date"
        )));
    }
    let kind = args.out.to_string_lossy().to_ascii_lowercase();
    if ![".csv", ".csv.gz", ".parquet"]
        .iter()
        .any(|end| kind.ends_with(end))
    {
        return Err(CliError::Input(format!(
            "--out {}: unknown kind of table, expected .csv, .csv.gz or .parquet",
            args.out.display()
        )));
    }
    let assume: Assume = args
        .assume
        .join(",")
        .parse()
        .map_err(|e: AssumeError| CliError::Input(e.to_string()))?;
    Ok(Options {
        assume,
        zone: args.zone,
        to_zone: args.to_zone,
        shift_weeks: args.shift_weeks,
        from: args.from,
        to: args.to,
    })
}

fn text(report: &Report<'_>) -> String {
    let summary = report.summary;
    let mut text = format!(
        "{}: {} rows read, {} kept, {} refused\n",
        report.out.display(),
        summary.rows_read,
        summary.rows_kept,
        summary.rows_refused
    );
    let mut lines = |title: &str, counts: &std::collections::BTreeMap<String, Count>| {
        for (reason, count) in counts {
            let _ = writeln!(
                text,
                "  {title} {:>8}  {reason} (first: {})",
                count.rows, count.first
            );
        }
    };
    lines("refused ", &summary.refused);
    lines("repaired", &summary.repaired);
    for note in &summary.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    if let Some(assumed) = &report.assumed {
        let _ = writeln!(text, "  assumed: {assumed}");
    }
    text
}
