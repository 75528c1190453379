#![doc = include_str!("../README.md")]

mod connect;
mod counts;
mod crew;
mod drive;
mod failure;
mod faults;
mod flood;
mod keys;
mod ledger;
mod life;
mod machine;
mod outlet;
mod report;
mod scenario;
mod server;
mod signal;
mod speech;
mod station;
mod stations;
mod worker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime::telemetry::Logging;
use serde::Serialize;

use crate::failure::Failure;
use crate::scenario::Scenario;

/// Loads OCPP back-ends and measures them.
#[derive(Debug, Parser)]
#[command(name = "shoal-load", version)]
struct Cli {
    /// Print one JSON document to standard output and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// What is logged to standard error, such as `info` or `warn,shoal_edge=debug`
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Play a fleet of charge points against any OCPP back-end
    Stations(stations::Args),
    /// Start the edge, load it, break it, and compare its log with what stations know
    Edge(EdgeArgs),
    /// Start the whole platform over a real broker, kill it at random under load, and compare what it holds with what is known
    Faults(faults::Args),
    /// Put readings on a real Kafka and measure how fast they become rows and states
    Flood(flood::Args),
    /// Move the frequency each second and measure how long until the last station is told
    Signal(signal::Args),
    /// One generator process (started by the verbs above)
    #[command(hide = true)]
    Worker(worker::Args),
    /// The edge over a log of its own, with a feeder of set-points (started by `edge`)
    #[command(hide = true)]
    ServeEdge(server::Args),
}

/// Options of `shoal-load edge`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  shoal-load edge load-tests/scenarios/scale.toml --json\n\nExit status 1 if what the scenario expects is not met."
)]
struct EdgeArgs {
    /// What the fleet does and what is expected, TOML
    scenario: PathBuf,
    /// Instead of fleet.stations; the curve of the scenario is left out
    #[arg(long)]
    stations: Option<usize>,
    /// Keep logs, ledgers and keys of the runs here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = Logging {
        filter: cli.log.clone(),
        ..Logging::default()
    };
    let ran = runtime::telemetry::init(&logging)
        .map_err(|e| Failure::Input(format!("--log: {e}")))
        .and_then(|()| run(&cli));
    match ran {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nobody is left to tell when standard error itself is gone.
            let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            ExitCode::from(error.status())
        }
    }
}

fn run(cli: &Cli) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("no runtime: {e}")))?;
    let status = runtime.block_on(async {
        match &cli.verb {
            Verb::Stations(args) => {
                let document = stations::run(args).await?;
                print(cli.json, &document, report::of_stations)?;
                Ok(0)
            }
            Verb::Edge(args) => {
                let document = edge(args).await?;
                print(cli.json, &document, report::of_edge)?;
                Ok(u8::from(!document.unmet.is_empty()))
            }
            Verb::Faults(args) => {
                let document = faults::run(args).await?;
                print(cli.json, &document, report::of_faults)?;
                Ok(u8::from(!document.unmet.is_empty()))
            }
            Verb::Flood(args) => {
                let document = flood::run(args).await?;
                print(cli.json, &document, report::of_flood)?;
                Ok(u8::from(!document.unmet.is_empty()))
            }
            Verb::Signal(args) => {
                let document = signal::run(args).await?;
                print(cli.json, &document, report::of_signal)?;
                Ok(u8::from(!document.unmet.is_empty()))
            }
            Verb::Worker(args) => worker::run(args).await.map(|()| 0),
            Verb::ServeEdge(args) => server::run(args).await.map(|()| 0),
        }
    });
    // A read of standard input that nobody ends keeps no process alive.
    runtime.shutdown_background();
    status
}

async fn edge(args: &EdgeArgs) -> Result<drive::Document, Failure> {
    let mut scenario = Scenario::read(&args.scenario)?;
    if let Some(stations) = args.stations {
        scenario.fleet.stations = stations;
        scenario.edge.curve.clear();
        scenario.check().map_err(Failure::Input)?;
    }
    drive::run(&scenario, args.keep.as_deref()).await
}

fn print<D: Serialize>(json: bool, document: &D, text: fn(&D) -> String) -> Result<(), Failure> {
    let body = if json {
        serde_json::to_string_pretty(document)
            .map_err(|e| Failure::Failed(format!("the result cannot be written: {e}")))?
            + "\n"
    } else {
        text(document)
    };
    let mut out = std::io::stdout().lock();
    out.write_all(body.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::Failed(format!("standard output: {e}")))
}
