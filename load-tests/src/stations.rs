//! `shoal-load stations`: the fleet against any OCPP back-end.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::crew::{Crew, Done};
use crate::failure::Failure;
use crate::machine::{Machine, Usage};
use crate::scenario::{Scenario, seconds};
use crate::worker::Command;

/// Beyond the ramp, for the last ones to connect. The run goes on with those that did.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `shoal-load stations`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  shoal-load stations load-tests/scenarios/mixed.toml --url ws://127.0.0.1:9220/ocpp/{id} --stations 500 --hold 2m"
)]
pub(crate) struct Args {
    /// What the fleet does, TOML
    pub(crate) scenario: PathBuf,
    /// Where stations connect; {id} is the identity. Given several times, stations are dealt to them in turn
    #[arg(long = "url", required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Instead of the scenario's stations
    #[arg(long)]
    stations: Option<usize>,
    /// Instead of the scenario's measured time
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DUR")]
    hold: Option<Duration>,
    /// Instead of the scenario's seed
    #[arg(long)]
    seed: Option<u64>,
    /// Measure processor time and memory of this process; may be given several times
    #[arg(long = "server-pid", value_name = "PID")]
    server_pids: Vec<u32>,
    /// Keep a line per answered message here: kind, outlet, microseconds
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The run as a document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) scenario: String,
    pub(crate) machine: Machine,
    pub(crate) stations: usize,
    pub(crate) generators: usize,
    pub(crate) all_connected: bool,
    pub(crate) connect_seconds: Option<f64>,
    /// Connected when the measured time ended.
    pub(crate) connected_at_end: u64,
    pub(crate) server: Option<Server>,
    pub(crate) generator_cores: f64,
    pub(crate) fleet: Done,
}

/// What the server took.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) empty_kib: u64,
    pub(crate) connected_kib: u64,
    pub(crate) loaded_kib: u64,
    pub(crate) cores: f64,
}

/// Connects, holds and stops.
///
/// # Errors
/// Status 2 for a scenario or URL that cannot be used, status 1 when a process ends early.
pub(crate) async fn run(args: &Args) -> Result<Document, Failure> {
    let mut scenario = Scenario::read(&args.scenario)?;
    if let Some(stations) = args.stations {
        scenario.fleet.stations = stations;
    }
    if let Some(hold) = args.hold {
        scenario.fleet.hold_seconds = hold.as_secs_f64();
    }
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.check().map_err(Failure::Input)?;
    // Refused here with the option's name, before any process is started.
    crate::connect::Target::new(&args.urls, &scenario.security, 0).await?;
    let scratch =
        tempfile::tempdir().map_err(|e| Failure::Failed(format!("no folder for the run: {e}")))?;
    let dir = args
        .keep
        .clone()
        .unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir)
        .map_err(|e| Failure::Failed(format!("{}: {e}", dir.display())))?;

    let machine = Machine::here();
    let empty = Usage::of(&args.server_pids)?;
    let mut crew = Crew::start(&scenario, &args.urls, &dir).await?;
    let generators = crew.pids();
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let ramp = seconds(scenario.fleet.stations as f64 / scenario.fleet.connects_per_second);
    let connected = crew.all_connected(ramp + PATIENCE).await;
    let before = (Usage::of(&args.server_pids)?, Usage::of(&generators)?);
    crew.say(Command::Begin).await?;
    let since = Instant::now();
    hold(&mut crew, &scenario, since).await?;
    let took = since.elapsed().as_secs_f64().max(1e-3);
    let loaded = Usage::of(&args.server_pids)?;
    let generated = Usage::of(&generators)?.cpu_seconds - before.1.cpu_seconds;
    let connected_at_end = crew.state().figures.connected;
    crew.finish(scenario.drain()).await?;
    let fleet = crew.stop().await?;
    let server = (!args.server_pids.is_empty()).then(|| Server {
        empty_kib: empty.rss_kib,
        connected_kib: before.0.rss_kib,
        loaded_kib: loaded.rss_kib,
        cores: (loaded.cpu_seconds - before.0.cpu_seconds) / took,
    });
    Ok(Document {
        scenario: scenario.name.clone(),
        machine,
        stations: scenario.fleet.stations,
        generators: generators.len(),
        all_connected: connected.is_some(),
        connect_seconds: connected.map(|d| d.as_secs_f64()),
        connected_at_end,
        server,
        generator_cores: generated / took,
        fleet,
    })
}

/// The measured time, with the storms of the scenario.
async fn hold(crew: &mut Crew, scenario: &Scenario, since: Instant) -> Result<(), Failure> {
    let end = since + scenario.hold();
    for at in &scenario.faults.storms_at_seconds {
        let at = since + seconds(*at);
        if at < end {
            tokio::time::sleep_until(at).await;
            crew.say(Command::Storm).await?;
        }
    }
    tokio::time::sleep_until(end).await;
    Ok(())
}
