//! `shoal-load faults`: the platform as processes over a real broker, killed at random under load; then what it holds is compared with
//! what stations, market and log know.

pub(crate) mod audit;
mod market;
pub(crate) mod platform;
pub(crate) mod server;
mod traders;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tokio::time::Instant;

use crate::crew::{Crew, Done};
use crate::failure::Failure;
use crate::keys;
use crate::ledger::{Balance, Books};
use crate::machine::Machine;
use crate::scenario::{Scenario, seconds};
use crate::worker::Command;

use self::audit::{Awards, Bids, Energy};
use self::platform::{Killed, Platform, Servers};

/// Beyond the ramp, for the last station to connect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// What is under way when the last kill is over is stored by then.
const SETTLE: Duration = Duration::from_secs(180);

/// Options of `shoal-load faults`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  deploy/kafka.sh fetch /tmp/kafka\n  shoal-load faults load-tests/scenarios/faults.toml --kafka /tmp/kafka\n\n\
    Exit status 1 if anything was lost, counted twice, sent twice or left without dispatch."
)]
pub(crate) struct Args {
    /// What the fleet does and what is killed, TOML
    scenario: PathBuf,
    /// Folder with the jars of Apache Kafka, as `kafka.sh fetch` makes it
    #[arg(long, value_name = "DIR")]
    kafka: PathBuf,
    /// The script that runs a broker
    #[arg(long, value_name = "FILE", default_value = "deploy/kafka.sh")]
    kafka_script: PathBuf,
    /// Keep the tables on a PostgreSQL server that is killed as well; without it they are in SQLite
    #[arg(long, value_name = "FILE")]
    postgres_script: Option<PathBuf>,
    /// The program whose services are killed; by default the one beside this
    #[arg(long, value_name = "FILE")]
    shoal: Option<PathBuf>,
    /// Instead of killing: end each service in order, one at a time, and start it again from this program
    #[arg(long, value_name = "FILE")]
    upgrade_to: Option<PathBuf>,
    /// Keep logs and ledgers of the run here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The run as a document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) scenario: String,
    pub(crate) machine: Machine,
    pub(crate) stations: usize,
    pub(crate) seconds: f64,
    pub(crate) all_connected: bool,
    pub(crate) killed: Vec<Killed>,
    pub(crate) kills: usize,
    pub(crate) upgrades: usize,
    pub(crate) fleet: Done,
    pub(crate) telemetry: Balance,
    pub(crate) energy: Energy,
    pub(crate) bids: Bids,
    pub(crate) awards: Awards,
    /// What must not be and was.
    pub(crate) unmet: Vec<String>,
}

/// Starts everything, kills at random, and compares.
///
/// # Errors
/// [`Failure`] if a process cannot be started, or does not come back.
pub(crate) async fn run(args: &Args) -> Result<Document, Failure> {
    let mut scenario = Scenario::read(&args.scenario)?;
    let scratch =
        tempfile::tempdir().map_err(|e| Failure::Failed(format!("no folder for the run: {e}")))?;
    let dir = args
        .keep
        .clone()
        .unwrap_or_else(|| scratch.path().to_owned());
    let made = std::fs::create_dir_all(&dir).and_then(|()| dir.canonicalize());
    let dir = made.map_err(|e| Failure::Failed(format!("{}: {e}", dir.display())))?;
    keys::make(&mut scenario, &dir)?;
    let program = program(args.shoal.as_deref())?;
    // Before anything of ours runs on it.
    let machine = Machine::here();
    let servers = Servers {
        kafka: args.kafka.clone(),
        kafka_script: args.kafka_script.clone(),
        postgres_script: args.postgres_script.clone(),
    };
    let mut platform = Platform::start(&scenario, &program, servers, &dir).await?;
    let upgrade_to = args.upgrade_to.as_deref();
    let played = play(&scenario, machine, &mut platform, upgrade_to, &dir).await;
    let stopped = platform.stop().await;
    let document = played?;
    stopped?;
    Ok(document)
}

/// The program that was built with this one.
pub(crate) fn program(said: Option<&Path>) -> Result<PathBuf, Failure> {
    let beside = || {
        let this = std::env::current_exe().ok()?;
        Some(this.parent()?.join("shoal"))
    };
    let program = said.map(Path::to_owned).or_else(beside);
    let program = program.filter(|program| program.is_file());
    program.ok_or_else(|| {
        Failure::Input("--shoal: not found beside this program, expected a path".to_owned())
    })
}

async fn play(
    scenario: &Scenario,
    machine: Machine,
    platform: &mut Platform,
    upgrade_to: Option<&Path>,
    dir: &Path,
) -> Result<Document, Failure> {
    let store = platform.store().await?;
    audit::register(scenario, platform).await?;
    let stop = tokio_util::sync::CancellationToken::new();
    let trading = tokio::spawn(traders::run(
        scenario.platform.clone(),
        store.clone(),
        platform.market.clone(),
        stop.clone(),
    ));
    let mut crew = Crew::start(scenario, &platform.urls(scenario), dir).await?;
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let ramp = seconds(scenario.fleet.stations as f64 / scenario.fleet.connects_per_second);
    let connected = crew.all_connected(ramp + PATIENCE).await;
    crew.say(Command::Begin).await?;
    let since = Instant::now();
    if let Some(program) = upgrade_to {
        upgrade(scenario, platform, program, since).await?;
    } else {
        kill(scenario, platform, since).await?;
    }
    stop.cancel();
    let published = trading
        .await
        .map_err(|e| Failure::Failed(format!("the trader: {e}")))??;
    // A station that has just lost its edge comes back before it brings home what it has.
    crew.all_connected(PATIENCE).await;
    crew.finish(scenario.drain()).await?;
    let ledgers = crew.ledgers.clone();
    let fleet = crew.stop().await?;
    let took = since.elapsed().as_secs_f64();

    let mut books = Books::default();
    for ledger in &ledgers {
        books.add_ledger(ledger)?;
    }
    books.add_records(&store.log()).await?;
    let telemetry = books.balance();
    let energy = audit::energy(&store, platform, SETTLE).await?;
    let bids = audit::bids(&store, &platform.market, &published, SETTLE).await?;
    let awards = audit::awards(&store, platform, SETTLE).await?;
    let mut document = Document {
        scenario: scenario.name.clone(),
        machine,
        stations: scenario.fleet.stations,
        seconds: took,
        all_connected: connected.is_some(),
        kills: platform.killed().iter().map(|k| k.times).sum(),
        upgrades: platform.killed().iter().map(|k| k.upgrades).sum(),
        killed: platform.killed(),
        fleet,
        telemetry,
        energy,
        bids,
        awards,
        unmet: Vec::new(),
    };
    document.unmet = unmet(&document);
    let wanted = scenario.platform.kills;
    if upgrade_to.is_some() {
        if document.fleet.figures.refused > 0 {
            let refused = document.fleet.figures.refused;
            document
                .unmet
                .push(format!("{refused} calls of stations were refused"));
        }
    } else if platform.never_cut_off() {
        document
            .unmet
            .push("no broker was ever cut off: another seed or more kills".to_owned());
    } else if document.kills < wanted {
        let kills = document.kills;
        document
            .unmet
            .push(format!("{kills} kills, expected {wanted}"));
    }
    Ok(document)
}

/// Kills somebody now and then, evenly over the time of the run, and starts it again a moment later.
async fn kill(scenario: &Scenario, platform: &mut Platform, since: Instant) -> Result<(), Failure> {
    let mut dice = ChaCha8Rng::seed_from_u64(scenario.seed);
    let said = &scenario.platform;
    #[expect(clippy::cast_precision_loss, reason = "kills of a run")]
    let number = |n: usize| n as f64;
    let every = scenario.hold().div_f64(number(said.kills) + 1.0);
    for n in 0..said.kills {
        let at = number(n) + dice.random_range(0.6..1.4);
        tokio::time::sleep_until(since + every.mul_f64(at)).await;
        let victim = dice.random_range(0..platform.members());
        let down = seconds(dice.random_range(0.0..2.0 * said.down_seconds.max(0.001)));
        platform.kill(victim).await?;
        if platform.is_cut_off(victim) {
            tokio::time::sleep(seconds(said.cut_off_seconds)).await;
        } else {
            tokio::time::sleep(down).await;
        }
        platform.start_again(victim).await?;
    }
    tokio::time::sleep_until(since + scenario.hold()).await;
    Ok(())
}

/// Ends one service after the other in order and starts it from `program`, evenly over the time of the run. The
/// servers stay.
async fn upgrade(
    scenario: &Scenario,
    platform: &mut Platform,
    program: &Path,
    since: Instant,
) -> Result<(), Failure> {
    platform.take_program(program);
    let services = platform.services();
    let count = u32::try_from(services.len() + 1).unwrap_or(u32::MAX);
    for (service, n) in services.zip(1..) {
        tokio::time::sleep_until(since + scenario.hold() * n / count).await;
        platform.upgrade(service).await?;
    }
    tokio::time::sleep_until(since + scenario.hold()).await;
    Ok(())
}

fn unmet(document: &Document) -> Vec<String> {
    let mut unmet = Vec::new();
    let mut none = |what: &str, met: u64| {
        if met > 0 {
            unmet.push(format!("{met} {what}"));
        }
    };
    none(
        "messages that stations know to be taken are not on the log",
        document.telemetry.lost,
    );
    none("messages are still in hand", document.fleet.figures.in_hand);
    none(
        "metered intervals differ from what the log says",
        document.energy.intervals_different,
    );
    none(
        "stays differ from what the log says",
        document.energy.stays_different,
    );
    none("bids never reached the market", document.bids.missing);
    none(
        "bids were sent after the market had acknowledged them",
        document.bids.sent_again,
    );
    none("awards are not in the tables", document.awards.not_stored);
    none(
        "awards were never dispatched",
        document.awards.not_dispatched,
    );
    if !document.all_connected {
        unmet.push("not every station was connected at the beginning".to_owned());
    }
    unmet
}
