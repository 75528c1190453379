//! `shoal forecast`: how good the forecasts are, on past data.

mod availability;
mod html;
mod price;

use std::path::PathBuf;

use chrono::NaiveDate;
use frames::price_study;

use crate::cli::CliError;
use crate::output::Output;

/// Arguments of `shoal forecast`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train before a date, score after it, walking forward
    Evaluate(Evaluate),
}

/// Arguments of `shoal forecast evaluate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: shoal forecast evaluate studies/jpl.toml --test-from 2019-11-01 --out out/jpl"
)]
pub(crate) struct Evaluate {
    /// Scenario file (TOML)
    scenario: PathBuf,
    /// First local date scored; everything before is history
    #[arg(long, value_name = "DATE")]
    test_from: NaiveDate,
    /// Folder for forecast.json and forecast.html [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder of the data that scenarios name under `data`
    #[arg(
        long,
        env = "SHOAL_DATA",
        value_name = "DIR",
        default_value = "../shared/data"
    )]
    data: PathBuf,
    /// Paths drawn per forecast
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=2000))]
    paths: u32,
    /// Seed of all draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads that may be used; the scores do not depend on them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    match &args.command {
        Command::Evaluate(args) if price_study::is_one(&args.scenario)? => price::run(args, output),
        Command::Evaluate(args) => availability::run(args, output),
    }
}
