//! The command line: one variant per verb, and the error that decides the exit status.

use std::io;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::backtest;
use crate::catalogue;
use crate::demo;
use crate::doctor;
use crate::export;
use crate::forecast;
use crate::import;
use crate::migrate;
use crate::output::Output;
use crate::replay;
use crate::serve;
use crate::study;
use crate::synth;

/// Pools plugged-in electric cars and buses and runs them as one power plant.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Print one JSON document to standard output and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert foreign price, reserve, frequency and session files to canonical tables
    Import(import::Args),
    /// Print the reference tables of buses and chargers
    Catalogue(catalogue::Args),
    /// Replay history under each policy and write a report
    Backtest(backtest::Args),
    /// Plan one delivery day: positions, bids, reasons
    Plan(backtest::plan::Args),
    /// Planning studies
    Study(study::Args),
    /// Forecast: how good the forecasts are, on past data
    Forecast(forecast::Args),
    /// Write a scenario with a fleet of realistic spread
    Synth(synth::Args),
    /// Run the whole platform in one process with a simulated fleet and market
    Demo(demo::Args),
    /// Run services of the platform as a process, without simulators
    Serve(serve::Args),
    /// Make the topics and tables that services need
    Migrate(migrate::Args),
    /// Write history as Parquet files by day and area
    Export(export::Args),
    /// Decide a day again from the log, and compare with what was decided
    Replay(replay::Args),
    /// Check settings, clocks, brokers, database, credentials, gate clocks and signs
    Doctor(doctor::Args),
}

impl Command {
    /// Runs the verb; the error says which exit status it deserves.
    pub(crate) fn run(self, output: Output) -> Result<(), CliError> {
        match self {
            Self::Import(args) => import::run(&args, output),
            Self::Catalogue(args) => catalogue::run(&args, output),
            Self::Backtest(args) => backtest::run(&args, output),
            Self::Plan(args) => backtest::plan::run(&args, output),
            Self::Study(args) => study::run(&args, output),
            Self::Forecast(args) => forecast::run(&args, output),
            Self::Synth(args) => synth::run(&args, output),
            Self::Demo(args) => demo::run(&args, output),
            Self::Serve(args) => serve::run(&args, output),
            Self::Migrate(args) => migrate::run(&args, output),
            Self::Export(args) => export::run(&args, output),
            Self::Replay(args) => replay::run(&args, output),
            Self::Doctor(args) => doctor::run(&args, output),
        }
    }

    /// Services log what their configuration says, other verbs what `RUST_LOG` says.
    pub(crate) const fn logs_by_configuration(&self) -> bool {
        matches!(self, Self::Serve(_))
    }
}

/// Why a verb did not finish. The text is printed as `error: TEXT` on standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Bad usage or bad input, status 2: `FILE:LINE: what was met, what was expected`.
    #[error("{0}")]
    Input(String),
    /// The run failed for another reason, status 1.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// Exit status of the process.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// A failure of the run itself (status 1), with its chain of causes in the text.
    pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Failed(text)
    }
}

impl From<frames::InputError> for CliError {
    fn from(error: frames::InputError) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::failed(&error)
    }
}

/// Sends logs to standard error, `warn` and above unless `RUST_LOG` says otherwise.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .try_init();
}
