//! `shoal-load flood`: readings on a real Kafka, the service that makes rows and states of them, and beside it what librdkafka and
//! PostgreSQL do alone.

mod bare;
mod fleet;
mod pace;
pub(crate) mod scenario;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use runtime::Clock;
use serde::Serialize;
use sqlx::PgConnection;
use store::{Change, NewRecord, Store, topic};
use tokio::time::Instant;

use crate::counts::Quantiles;
use crate::failure::Failure;
use crate::faults::audit::{Known, agreed};
use crate::machine::{Machine, Usage};

use self::fleet::Vehicles;
use self::scenario::Scenario;
use self::servers::Servers;

/// Between two looks at how far the service is.
const LOOK: Duration = Duration::from_millis(50);
/// A service that gets no further for so long has stopped.
const STUCK: Duration = Duration::from_secs(180);
/// What is under way is stored by then.
const SETTLE: Duration = Duration::from_secs(120);
/// Records of one append, and appends on their way at once.
const APPEND: u64 = 2_000;
const APPENDS: usize = 8;
/// Rows that are copied before and after the service's own, at most.
const COPIED: u64 = 500_000;
/// Readings up to which the log is folded once more, in this process, and compared with the intervals.
const FOLDED: u64 = 200_000;

/// Options of `shoal-load flood`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  deploy/kafka.sh fetch /tmp/kafka\n  shoal-load flood load-tests/scenarios/flood.toml --kafka /tmp/kafka --json\n\n\
    Exit status 1 if a reading was lost or counted twice, or what the scenario expects was not met."
)]
pub(crate) struct Args {
    /// What is put on the log and what is expected, TOML
    scenario: PathBuf,
    /// Folder with the jars of Apache Kafka, as `kafka.sh fetch` makes it
    #[arg(long, value_name = "DIR")]
    kafka: PathBuf,
    /// The script that runs a broker
    #[arg(long, value_name = "FILE", default_value = "deploy/kafka.sh")]
    kafka_script: PathBuf,
    /// The script that runs a database server
    #[arg(long, value_name = "FILE", default_value = "deploy/postgres.sh")]
    postgres_script: PathBuf,
    /// The program whose service is measured; by default the one beside this
    #[arg(long, value_name = "FILE")]
    shoal: Option<PathBuf>,
    /// Instead of flood.vehicles
    #[arg(long)]
    vehicles: Option<usize>,
    /// Instead of flood.backlog
    #[arg(long)]
    backlog: Option<u64>,
    /// Instead of `flood.hold_seconds`
    #[arg(long, value_name = "SECONDS")]
    hold: Option<f64>,
    /// Keep logs and data of the run here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The run as a document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) scenario: String,
    pub(crate) machine: Machine,
    /// Runnable tasks over the last minute when the run ended.
    pub(crate) load_at_end: Option<f32>,
    pub(crate) vehicles: usize,
    pub(crate) partitions: u32,
    pub(crate) backlog: Backlog,
    pub(crate) held: Option<Held>,
    pub(crate) kept: Kept,
    pub(crate) unmet: Vec<String>,
}

/// How fast the backlog was worked off.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Backlog {
    pub(crate) readings: u64,
    pub(crate) kills: u64,
    /// From the first checkpoint to the last.
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// Before the service ran and after.
    pub(crate) bare_consumer_per_second: Vec<f64>,
    pub(crate) bare_copy_per_second: Vec<f64>,
    /// Over the slower of the two, each the mean of its runs.
    pub(crate) ratio: f64,
    /// Of the service, over the whole time; none if it was killed in between.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) rss_mib: u64,
    /// States that were published for it: of several changes in a row the last.
    pub(crate) states: u64,
}

/// The pace of the vehicles.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Held {
    pub(crate) readings: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// How late readings were put on the log: what the generator adds.
    pub(crate) late: Quantiles,
    /// From the sample to the commit of its row, by the database's note of the commit.
    pub(crate) to_row: Quantiles,
    /// From the sample to the state with it, as a consumer meets it.
    pub(crate) to_state: Quantiles,
    pub(crate) cores: f64,
    pub(crate) rss_mib: u64,
}

/// What the tables hold at the end.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Kept {
    pub(crate) readings: u64,
    pub(crate) rows: u64,
    /// What the registers of the rows add up to less what they should.
    pub(crate) joules_off: i128,
    pub(crate) intervals: u64,
    /// Against a fold of the log by this process; none where there is too much of it.
    pub(crate) intervals_different: Option<u64>,
}

/// Floods, holds, and compares.
///
/// # Errors
/// [`Failure`] if a process cannot be started, or stops on its own.
pub(crate) async fn run(args: &Args) -> Result<Document, Failure> {
    let mut scenario = Scenario::read(&args.scenario)?;
    let flood = &mut scenario.flood;
    flood.vehicles = args.vehicles.unwrap_or(flood.vehicles);
    flood.backlog = args.backlog.unwrap_or(flood.backlog);
    flood.hold_seconds = args.hold.unwrap_or(flood.hold_seconds);
    let scratch =
        tempfile::tempdir().map_err(|e| Failure::Failed(format!("no folder for the run: {e}")))?;
    let dir = args
        .keep
        .clone()
        .unwrap_or_else(|| scratch.path().to_owned());
    let made = std::fs::create_dir_all(&dir).and_then(|()| dir.canonicalize());
    let dir = made.map_err(|e| Failure::Failed(format!("{}: {e}", dir.display())))?;
    let program = crate::faults::program(args.shoal.as_deref())?;
    let scripts = (args.kafka_script.as_path(), args.postgres_script.as_path());
    let partitions = scenario.flood.partitions;
    let mut servers = Servers::start(&args.kafka, scripts, program, partitions, &dir).await?;
    let document = flood_and_hold(&scenario, &mut servers).await;
    let stopped = servers.stop().await;
    let document = document?;
    stopped?;
    Ok(document)
}

async fn flood_and_hold(scenario: &Scenario, servers: &mut Servers) -> Result<Document, Failure> {
    let machine = Machine::here();
    let store = servers.store().await?;
    let mut questions = servers.connect().await?;
    let vehicles = Vehicles::new(scenario, Clock::system().now())?;
    register(&store, &vehicles).await?;
    let backlog = work_off(scenario, servers, &store, &mut questions, &vehicles).await?;
    let mut readings = scenario.flood.backlog;
    let held = if scenario.hold().is_zero() {
        None
    } else {
        let held = pace::hold(scenario, servers, &store, &mut questions, &vehicles).await?;
        readings += held.readings;
        Some(held)
    };
    let kept = kept(&store, &mut questions, &vehicles, readings).await?;
    let mut document = Document {
        scenario: scenario.name.clone(),
        machine,
        load_at_end: Machine::here().load_1min,
        vehicles: vehicles.count(),
        partitions: scenario.flood.partitions,
        backlog,
        held,
        kept,
        unmet: Vec::new(),
    };
    document.unmet = unmet(&document, &scenario.expect);
    Ok(document)
}

async fn register(store: &Store, vehicles: &Vehicles) -> Result<(), Failure> {
    let rows = Change::default()
        .sites(&[Vehicles::site()?])
        .evses(vehicles.evses());
    let stored = store.tables().apply(rows).await;
    stored.map_err(|e| Failure::of("registrations", &e))
}

/// Puts the backlog on the log, lets the yardsticks run over it, then the service.
async fn work_off(
    scenario: &Scenario,
    servers: &mut Servers,
    store: &Store,
    questions: &mut PgConnection,
    vehicles: &Vehicles,
) -> Result<Backlog, Failure> {
    let flood = &scenario.flood;
    append(store, vehicles.count() as u64, |n| {
        vehicles.plug_in(usize::try_from(n).unwrap_or(usize::MAX))
    })
    .await?;
    append(store, flood.backlog, |n| {
        vehicles.record(n, vehicles.instant(n))
    })
    .await?;
    let copied = COPIED.min(flood.backlog / 2);
    let mut consumers = vec![consumed(servers, flood.partitions).await?];
    let mut copies = vec![bare::copied(questions, vehicles, 0..copied).await?];
    let progress = progress(scenario, servers, store, questions).await?;
    let usage = servers.usage()?;
    copies.push(bare::copied(questions, vehicles, copied..2 * copied).await?);
    consumers.push(consumed(servers, flood.partitions).await?);
    let states = store.log().newest(topic::FLEET_STATE).await;
    let per_second = bare::rate(progress.records, progress.took);
    let slower = mean(&consumers).min(mean(&copies));
    Ok(Backlog {
        readings: flood.backlog,
        kills: flood.kills,
        seconds: progress.took.as_secs_f64(),
        per_second,
        bare_consumer_per_second: consumers,
        bare_copy_per_second: copies,
        ratio: per_second / slower,
        cpu_seconds: (flood.kills == 0).then_some(usage.cpu_seconds),
        rss_mib: usage.rss_kib / 1_024,
        states: states
            .map_err(|e| Failure::of("end of the states", &e))?
            .total(),
    })
}

async fn consumed(servers: &Servers, partitions: u32) -> Result<f64, Failure> {
    let brokers = servers.brokers.clone();
    let run = tokio::task::spawn_blocking(move || bare::consumed(&brokers, partitions));
    run.await
        .map_err(|e| Failure::of("the bare consumer", &e))?
}

#[expect(clippy::cast_precision_loss, reason = "a few runs")]
fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

/// Appends records `0..count` in their order, several appends on their way at once.
async fn append(
    store: &Store,
    count: u64,
    record: impl Fn(u64) -> Result<NewRecord, Failure>,
) -> Result<(), Failure> {
    let appended = |done: Option<Result<(), store::LogError>>| match done {
        Some(Err(error)) => Err(Failure::of("readings cannot be appended", &error)),
        Some(Ok(())) | None => Ok(()),
    };
    let mut waiting = FuturesOrdered::new();
    let mut next = 0;
    while next < count {
        let end = count.min(next + APPEND);
        let records: Result<Vec<_>, _> = (next..end).map(&record).collect();
        let log = store.log();
        let records = records?;
        waiting.push_back(async move { log.append(records).await });
        if waiting.len() >= APPENDS {
            appended(waiting.next().await)?;
        }
        next = end;
    }
    while let Some(done) = waiting.next().await {
        appended(Some(done))?;
    }
    Ok(())
}

/// What was handled between two looks.
struct Progress {
    records: u64,
    took: Duration,
}

/// Runs the service until all is handled, killing it where the scenario says so. Counted is from the first look that found
/// something handled: start and joining of the group are not what is measured.
async fn progress(
    scenario: &Scenario,
    servers: &mut Servers,
    store: &Store,
    questions: &mut PgConnection,
) -> Result<Progress, Failure> {
    let newest = store.log().newest(topic::READINGS).await;
    let all = newest
        .map_err(|e| Failure::of("end of the readings", &e))?
        .total();
    servers.launch()?;
    let kills = scenario.flood.kills;
    let mut killed = 0;
    let mut first: Option<(u64, Instant)> = None;
    let mut last = (0, Instant::now());
    loop {
        let (done, now) = (handled(questions).await?, Instant::now());
        if done > 0 {
            first.get_or_insert((done, now));
        }
        if done >= all {
            let (begun, since) = first.unwrap_or((0, now));
            servers.ready().await?;
            return Ok(Progress {
                records: done - begun,
                took: now - since,
            });
        }
        if done > last.0 {
            last = (done, now);
        } else if now - last.1 > STUCK {
            return Err(Failure::Failed(format!(
                "the service handled {done} of {all} records and gets no further"
            )));
        }
        if killed < kills && done >= all * (killed + 1) / (kills + 1) {
            servers.kill().await?;
            servers.launch()?;
            killed += 1;
        }
        servers.runs()?;
        tokio::time::sleep(LOOK).await;
    }
}

/// Readings whose effects are stored.
async fn handled(questions: &mut PgConnection) -> Result<u64, Failure> {
    let sum = sqlx::query_scalar(
        "SELECT COALESCE(SUM(committed), 0)::BIGINT FROM log_position WHERE topic = $1 AND group_name = 'telemetry-ingest'",
    );
    let sum: i64 = sum
        .bind(topic::READINGS.name())
        .fetch_one(questions)
        .await
        .map_err(|e| Failure::of("how far the service is", &e))?;
    Ok(sum.unsigned_abs())
}

/// Compares the tables with what was told.
async fn kept(
    store: &Store,
    questions: &mut PgConnection,
    vehicles: &Vehicles,
    readings: u64,
) -> Result<Kept, Failure> {
    let newest = store.log().newest(topic::READINGS).await;
    let all = newest
        .map_err(|e| Failure::of("end of the readings", &e))?
        .total();
    let deadline = Instant::now() + SETTLE;
    while handled(questions).await? < all && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    let asked = "SELECT COUNT(*), COALESCE(SUM(import_register_joules), 0)::TEXT FROM reading WHERE evse LIKE 'flood-%'";
    let (rows, joules): (i64, String) = sqlx::query_as(asked)
        .fetch_one(&mut *questions)
        .await
        .map_err(|e| Failure::of("rows of readings", &e))?;
    let joules: i128 = joules
        .parse()
        .map_err(|e| Failure::of("sum of the registers", &e))?;
    let intervals: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM meter_interval")
        .fetch_one(questions)
        .await
        .map_err(|e| Failure::of("metered intervals", &e))?;
    let different = if readings > FOLDED {
        None
    } else {
        let known = Known::read(store).await?;
        let count = async || {
            let different = known.intervals_different(store).await?;
            Ok((different, different == 0))
        };
        Some(agreed(SETTLE, count).await?)
    };
    Ok(Kept {
        readings,
        rows: rows.unsigned_abs(),
        joules_off: joules - vehicles.sum(readings),
        intervals: intervals.unsigned_abs(),
        intervals_different: different,
    })
}

/// Processor and memory between two looks.
fn between(before: Usage, after: Usage, took: Duration) -> (f64, u64) {
    let cores = (after.cpu_seconds - before.cpu_seconds) / took.as_secs_f64().max(1e-9);
    (cores, after.rss_kib / 1_024)
}

fn unmet(document: &Document, expect: &scenario::Expect) -> Vec<String> {
    let mut unmet = Vec::new();
    let kept = &document.kept;
    if kept.rows != kept.readings {
        unmet.push(format!("{} rows of {} readings", kept.rows, kept.readings));
    }
    if kept.joules_off != 0 {
        unmet.push(format!("registers are off by {} J", kept.joules_off));
    }
    if let Some(different) = kept.intervals_different.filter(|n| *n > 0) {
        unmet.push(format!(
            "{different} metered intervals differ from what the log says"
        ));
    }
    if let Some(ratio) = expect.ratio.filter(|ratio| document.backlog.ratio < *ratio) {
        unmet.push(format!(
            "{:.2} of the slower yardstick, expected {ratio}",
            document.backlog.ratio
        ));
    }
    let slow = |of: &Quantiles| {
        let most = expect.p99_ms?;
        of.p99_ms.is_none_or(|met| met > most).then_some(most)
    };
    if let Some(held) = &document.held {
        for (what, times) in [("row", &held.to_row), ("state", &held.to_state)] {
            if let Some(most) = slow(times) {
                let met = times.p99_ms.unwrap_or(f64::INFINITY);
                unmet.push(format!(
                    "99 of 100 readings reach their {what} within {met:.0} ms, expected {most:.0}"
                ));
            }
        }
    }
    unmet
}
