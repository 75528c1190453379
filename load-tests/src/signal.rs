//! `shoal-load signal`: the frequency moves each second; how long until the last station was told? Gateway, edge, telemetry-ingest and
//! a broker are processes, stations are connections of the generator, and every instant is of this machine's clock.
//!
//! ```text
//! operator tells ──► gateway decides ──► log ──► edge ──► socket of the first station ... of the last
//! |-------------------------------- first ------------------------------|
//! |-------------------------------- last --------------------------------------------------------|
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{Needs, Telemetry};
use market::{Area, Award, AwardId, BidId, Direction, Product};
use runtime::Clock;
use serde::Serialize;
use store::{NewRecord, Position, Store, topic};
use units::{Currency, Energy, Interval, Power, Price};
use uuid::Uuid;
use wire::proto::fleet::v1::GetFleetRequest;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::telemetry::v1 as telemetry;

use crate::counts::{Quantiles, Times};
use crate::crew::{Crew, Done};
use crate::failure::Failure;
use crate::faults::platform::{Platform, Servers};
use crate::faults::{PATIENCE, audit, program};
use crate::keys;
use crate::machine::Machine;
use crate::scenario::{Scenario, seconds};
use crate::worker::Command;

/// Needs and awards are with the gateway by then, and so many more for each vehicle, which has had its first set-point.
const SETTLE: Duration = Duration::from_secs(20);
const SETTLE_EACH: Duration = Duration::from_millis(2);
/// Between two looks whether all vehicles are plugged in.
const LOOK: Duration = Duration::from_secs(1);
/// Records read or appended at once.
const BATCH: usize = 4_096;
/// What the vehicles have time for.
const PARKED: TimeDelta = TimeDelta::hours(14);

/// Options of `shoal-load signal`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  deploy/kafka.sh fetch /tmp/kafka\n  shoal-load signal load-tests/scenarios/signal.toml --kafka /tmp/kafka --json\n\n\
    Exit status 1 if what the scenario expects is not met."
)]
pub(crate) struct Args {
    /// The stations and what is expected, TOML
    scenario: PathBuf,
    /// Folder with the jars of Apache Kafka, as `kafka.sh fetch` makes it
    #[arg(long, value_name = "DIR")]
    kafka: PathBuf,
    /// The script that runs a broker
    #[arg(long, value_name = "FILE", default_value = "deploy/kafka.sh")]
    kafka_script: PathBuf,
    /// Keep the tables on a PostgreSQL server; without it they are in SQLite
    #[arg(long, value_name = "FILE")]
    postgres_script: Option<PathBuf>,
    /// The program whose services are measured; by default the one beside this
    #[arg(long, value_name = "FILE")]
    shoal: Option<PathBuf>,
    /// Instead of fleet.stations
    #[arg(long)]
    stations: Option<usize>,
    /// Instead of `fleet.hold_seconds`
    #[arg(long, value_name = "SECONDS")]
    hold: Option<f64>,
    /// Keep logs and ledgers of the run here
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
    pub(crate) stations: usize,
    pub(crate) plugged: usize,
    pub(crate) reserve_kw: f64,
    pub(crate) seconds: f64,
    pub(crate) signals: usize,
    /// Signals that moved at least one station.
    pub(crate) signals_answered: usize,
    /// Set-points per signal that moved any.
    pub(crate) setpoints_per_signal: f64,
    pub(crate) setpoints_most: usize,
    pub(crate) setpoints_undelivered: u64,
    /// From the signal to the first set-point written to a socket, and to the last.
    pub(crate) to_first: Quantiles,
    pub(crate) to_last: Quantiles,
    pub(crate) fleet: Done,
    pub(crate) unmet: Vec<String>,
}

/// Starts everything, moves the frequency, and reads the answers from the log.
///
/// # Errors
/// [`Failure`] if a process cannot be started or a station does not come.
pub(crate) async fn run(args: &Args) -> Result<Document, Failure> {
    let mut scenario = Scenario::read(&args.scenario)?;
    scenario.fleet.stations = args.stations.unwrap_or(scenario.fleet.stations);
    scenario.fleet.hold_seconds = args.hold.unwrap_or(scenario.fleet.hold_seconds);
    scenario.check().map_err(Failure::Input)?;
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
    let servers = Servers {
        kafka: args.kafka.clone(),
        kafka_script: args.kafka_script.clone(),
        postgres_script: args.postgres_script.clone(),
    };
    let platform = Platform::start(&scenario, &program, servers, &dir).await?;
    let played = play(&scenario, &platform, &dir).await;
    let stopped = platform.stop().await;
    let document = played?;
    stopped?;
    Ok(document)
}

async fn play(
    scenario: &Scenario,
    platform: &Platform,
    dir: &std::path::Path,
) -> Result<Document, Failure> {
    let machine = Machine::here();
    let store = platform.store().await?;
    audit::register(scenario, platform).await?;
    let mut crew = Crew::start(scenario, &platform.urls(scenario), dir).await?;
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let stations = scenario.fleet.stations as f64;
    let ramp = seconds(stations / scenario.fleet.connects_per_second);
    if crew.all_connected(ramp + PATIENCE).await.is_none() {
        let connected = crew.state().figures.connected;
        return Err(Failure::Failed(format!(
            "{connected} of {} stations are connected",
            scenario.fleet.stations
        )));
    }
    crew.say(Command::Begin).await?;
    let plugged = plugged(platform, scenario.fleet.stations, ramp + PATIENCE).await?;
    need(&store, &plugged).await?;
    let reserve = Power::from_kw(stations * scenario.platform.reserve_kw_per_station);
    platform.market.grant(award(reserve)?);
    let vehicles = u32::try_from(plugged.len()).unwrap_or(u32::MAX);
    tokio::time::sleep(SETTLE + SETTLE_EACH * vehicles).await;
    let begun = Clock::system().now();
    tokio::time::sleep(scenario.hold()).await;
    let ended = Clock::system().now();
    crew.finish(scenario.drain()).await?;
    let done = crew.stop().await?;
    let signals: Vec<(String, DateTime<Utc>)> = platform
        .market
        .signals()
        .into_iter()
        .filter(|(_, at)| (begun..ended).contains(at))
        .collect();
    let answers = answers(&store, &signals).await?;
    let mut document = document(scenario, &signals, &answers, done);
    document.machine = machine;
    document.plugged = plugged.len();
    document.reserve_kw = reserve.kw();
    document.seconds = (ended - begun).as_seconds_f64();
    document.unmet = unmet(&document, scenario);
    Ok(document)
}

/// Outlets and their stays, once every vehicle is plugged in.
async fn plugged(
    platform: &Platform,
    stations: usize,
    patience: Duration,
) -> Result<Vec<(fleet::EvseId, fleet::SessionId)>, Failure> {
    let mut fleet = FleetServiceClient::new(platform.fleet()).max_decoding_message_size(usize::MAX);
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let states = fleet
            .get_fleet(GetFleetRequest {})
            .await
            .map_err(|e| Failure::of("state of the fleet", &e))?
            .into_inner()
            .evses;
        let stays: Vec<_> = states
            .into_iter()
            .filter_map(|state| fleet::EvseState::try_from(state).ok())
            .filter_map(|state| Some((state.evse.id, state.session?.session.id)))
            .collect();
        if stays.len() == stations {
            return Ok(stays);
        }
        if tokio::time::Instant::now() > deadline {
            return Err(Failure::Failed(format!(
                "{} of {stations} vehicles are plugged in",
                stays.len()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Every vehicle has time to spare: each of them is moved.
async fn need(store: &Store, stays: &[(fleet::EvseId, fleet::SessionId)]) -> Result<(), Failure> {
    let now = Clock::system().now();
    let needs = Needs {
        departure: Some(now + PARKED),
        energy: Energy::from_kwh(30.0),
        stored: Some(Energy::from_kwh(20.0)),
        capacity: Some(Energy::from_kwh(80.0)),
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        floor: Energy::ZERO,
    };
    for some in stays.chunks(BATCH) {
        let record = |(evse, session): &(fleet::EvseId, fleet::SessionId)| {
            let event = Telemetry::Needs {
                evse: evse.clone(),
                session: session.clone(),
                needs: needs.clone(),
                at: now,
            };
            NewRecord {
                topic: topic::READINGS,
                key: event.key().to_owned(),
                payload: wire::encode(&telemetry::Telemetry::from(&event)),
            }
        };
        let appended = store.log().append(some.iter().map(record).collect()).await;
        appended.map_err(|e| Failure::of("needs of the vehicles", &e))?;
    }
    Ok(())
}

/// Frequency containment for the hours around now.
fn award(volume: Power) -> Result<Award, Failure> {
    let now = Clock::system().now();
    let hour = now
        .duration_trunc(TimeDelta::hours(1))
        .map_err(|e| Failure::of("an hour", &e))?;
    let delivery = Interval::try_new(hour, hour + TimeDelta::hours(4))
        .map_err(|e| Failure::of("a block", &e))?;
    Ok(Award {
        id: AwardId(Uuid::from_u128(1)),
        bid: BidId(Uuid::from_u128(1)),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery,
        volume,
        price: Price::new(40.into(), Currency::Eur),
        awarded_at: now,
    })
}

/// Set-points of one signal.
#[derive(Debug, Default, Clone, Copy)]
struct Answer {
    delivered: usize,
    undelivered: u64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

/// What the log says about the set-points of `signals`: when each was written to its socket.
async fn answers(
    store: &Store,
    signals: &[(String, DateTime<Utc>)],
) -> Result<BTreeMap<DateTime<Utc>, Answer>, Failure> {
    let unread = |e| Failure::of("answers on the log", &e);
    let known: HashMap<&str, DateTime<Utc>> =
        signals.iter().map(|(id, at)| (id.as_str(), *at)).collect();
    let log = store.log();
    let newest = log.newest(topic::READINGS).await.map_err(unread)?;
    let replay = log.replay(topic::READINGS, &Position::default());
    let mut reader = replay.map_err(unread)?;
    let mut answers: BTreeMap<DateTime<Utc>, Answer> = BTreeMap::new();
    while !reader.position().covers(&newest) {
        for record in reader.next_batch(BATCH).await.map_err(unread)? {
            let message = wire::decode::<telemetry::Telemetry>(&record.payload);
            let told = message
                .and_then(Telemetry::try_from)
                .map_err(|e| Failure::of("telemetry on the log", &e))?;
            let Telemetry::Acknowledged(ack) = told else {
                continue;
            };
            let signal = ack.signal.and_then(|id| known.get(id.as_str()).copied());
            let Some(at) = signal else { continue };
            let answer = answers.entry(at).or_default();
            if ack.outcome == Outcome::Unreachable {
                answer.undelivered += 1;
                continue;
            }
            answer.delivered += 1;
            answer.first = Some(answer.first.map_or(ack.sent_at, |t| t.min(ack.sent_at)));
            answer.last = answer.last.max(Some(ack.sent_at));
        }
    }
    Ok(answers)
}

fn document(
    scenario: &Scenario,
    signals: &[(String, DateTime<Utc>)],
    answers: &BTreeMap<DateTime<Utc>, Answer>,
    fleet: Done,
) -> Document {
    let (to_first, to_last) = (Times::default(), Times::default());
    for (at, answer) in answers {
        for (times, sent) in [(&to_first, answer.first), (&to_last, answer.last)] {
            if let Some(took) = sent.and_then(|sent| (sent - *at).to_std().ok()) {
                times.add(took);
            }
        }
    }
    let delivered: usize = answers.values().map(|a| a.delivered).sum();
    #[expect(clippy::cast_precision_loss, reason = "set-points of a run")]
    let per_signal = delivered as f64 / answers.len().max(1) as f64;
    Document {
        scenario: scenario.name.clone(),
        machine: Machine::here(),
        load_at_end: Machine::here().load_1min,
        stations: scenario.fleet.stations,
        plugged: 0,
        reserve_kw: 0.0,
        seconds: 0.0,
        signals: signals.len(),
        signals_answered: answers.len(),
        setpoints_per_signal: per_signal,
        setpoints_most: answers.values().map(|a| a.delivered).max().unwrap_or(0),
        setpoints_undelivered: answers.values().map(|a| a.undelivered).sum(),
        to_first: to_first.quantiles(),
        to_last: to_last.quantiles(),
        fleet,
        unmet: Vec::new(),
    }
}

fn unmet(document: &Document, scenario: &Scenario) -> Vec<String> {
    let mut unmet = Vec::new();
    if document.signals_answered == 0 {
        unmet.push("no signal moved a station".to_owned());
    }
    if document.setpoints_undelivered > 0 {
        unmet.push(format!(
            "{} set-points did not reach their station",
            document.setpoints_undelivered
        ));
    }
    if let Some(most) = scenario.expect.signal_p99_ms {
        let met = document.to_last.p99_ms.unwrap_or(f64::INFINITY);
        if met > most {
            unmet.push(format!(
                "the last set-point of 99 of 100 signals is written within {met:.0} ms, expected {most:.0}"
            ));
        }
    }
    unmet
}
