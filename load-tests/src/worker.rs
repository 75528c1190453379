//! One generator process: its share of the stations. Commands come line by line on standard input, the state goes out as
//! JSON lines on standard output.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::Clock;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::Power;

use crate::connect::Target;
use crate::counts::{Counts, Figures};
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::outlet::Outlet;
use crate::scenario::Scenario;
use crate::station::{Shared, Station};

/// Between two states told.
const TELL: Duration = Duration::from_millis(250);
/// Goodbyes may take this long.
const GOODBYE: Duration = Duration::from_secs(10);

/// Options of a generator process.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) scenario: PathBuf,
    /// Number of this process, from 0
    #[arg(long)]
    pub(crate) process: usize,
    /// Processes in all
    #[arg(long)]
    pub(crate) of: usize,
    #[arg(long = "url")]
    pub(crate) urls: Vec<String>,
    #[arg(long)]
    pub(crate) ledger: Option<PathBuf>,
}

/// What the crew says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Lives begin.
    Begin,
    /// Drop every connection.
    Storm,
    /// No new events.
    Finish,
    /// Say goodbye and report.
    Stop,
}

/// What the process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    State(State),
    Report(Report),
}

/// Now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) figures: Figures,
    pub(crate) plugged: u64,
    /// Outlets whose power is negative.
    pub(crate) discharging: u64,
    /// Outlets that follow a set-point; the others charge plainly.
    pub(crate) told: u64,
    /// Outlets that discharge although their timer ran out, or without one.
    pub(crate) overdue: u64,
    /// How often this was told since there are no new events, this time included.
    pub(crate) told_since_finish: u64,
}

/// At the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) figures: Figures,
    /// Microseconds and counts.
    pub(crate) answer_times: Vec<(u64, u64)>,
    pub(crate) connect_times: Vec<(u64, u64)>,
}

type Outlets = Vec<Arc<Mutex<Outlet>>>;

/// Runs until told to stop, or until standard input ends.
///
/// # Errors
/// Status 2 for a scenario or files that cannot be used, status 1 when nobody reads what is told.
pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    crate::machine::open_files()?;
    let scenario = Scenario::read(&args.scenario)?;
    let target = Target::new(&args.urls, &scenario.security, args.process).await?;
    let ledger = args.ledger.as_deref().map(Ledger::create).transpose()?;
    let (storm, storms) = watch::channel(0);
    let shared = Arc::new(Shared {
        scenario,
        target,
        clock: Clock::system(),
        counts: Counts::default(),
        ledger,
        begin: CancellationToken::new(),
        finish: CancellationToken::new(),
        stop: CancellationToken::new(),
        storms,
    });
    let tasks = TaskTracker::new();
    let outlets = populate(&shared, args, &tasks);
    tasks.close();
    tokio::spawn(obey(Arc::clone(&shared), storm));
    let mut told_since_finish = 0;
    tell_now(&shared, &outlets, told_since_finish)?;
    while !shared.stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(TELL) => {
                told_since_finish += u64::from(shared.finish.is_cancelled());
                tell_now(&shared, &outlets, told_since_finish)?;
            }
            () = shared.stop.cancelled() => {}
        }
    }
    let _ = tokio::time::timeout(GOODBYE, tasks.wait()).await;
    if let Some(ledger) = &shared.ledger {
        ledger
            .flush()
            .map_err(|e| Failure::Failed(format!("the ledger cannot be written: {e}")))?;
    }
    let counts = &shared.counts;
    tell(&Line::Report(Report {
        figures: counts.figures(),
        answer_times: counts.answer_times.all(),
        connect_times: counts.connect_times.all(),
    }))
}

/// Starts this process's stations, spread over the ramp.
fn populate(shared: &Arc<Shared>, args: &Args, tasks: &TaskTracker) -> Outlets {
    let scenario = &shared.scenario;
    let begin = Instant::now();
    let mine = (0..scenario.fleet.stations).filter(|n| n % args.of == args.process);
    mine.map(|number| {
        let outlet = Arc::new(Mutex::new(Outlet::new(shared.clock.now())));
        let station = Station::new(shared, number, Arc::clone(&outlet));
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let after = number as f64 / scenario.fleet.connects_per_second;
        tasks.spawn(station.live(begin + crate::scenario::seconds(after)));
        outlet
    })
    .collect()
}

/// Follows commands; the end of standard input is a stop.
async fn obey(shared: Arc<Shared>, storm: watch::Sender<u64>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Command::Begin) => shared.begin.cancel(),
            Ok(Command::Storm) => storm.send_modify(|storms| *storms += 1),
            Ok(Command::Finish) => shared.finish.cancel(),
            Ok(Command::Stop) => break,
            Err(error) => tracing::warn!(%error, "not a command: {line}"),
        }
    }
    shared.stop.cancel();
}

fn tell_now(shared: &Shared, outlets: &Outlets, told_since_finish: u64) -> Result<(), Failure> {
    let now = shared.clock.now();
    let mut state = State {
        figures: shared.counts.figures(),
        told_since_finish,
        ..State::default()
    };
    for outlet in outlets {
        let mut outlet = outlet.lock().unwrap_or_else(PoisonError::into_inner);
        outlet.advance(now);
        add(&mut state, &outlet, now);
    }
    tell(&Line::State(state))
}

fn add(state: &mut State, outlet: &Outlet, now: DateTime<Utc>) {
    state.plugged += u64::from(outlet.is_plugged());
    state.told += u64::from(outlet.is_told());
    if outlet.meter().power < Power::ZERO {
        state.discharging += 1;
        state.overdue += u64::from(outlet.timer().is_none_or(|timer| timer <= now));
    }
}

/// Writes one line.
///
/// # Errors
/// Status 1 if nobody reads.
pub(crate) fn tell(line: &impl Serialize) -> Result<(), Failure> {
    use std::io::Write;
    let text = serde_json::to_string(line)
        .map_err(|e| Failure::Failed(format!("a line cannot be written: {e}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::Failed(format!("nobody reads what is told: {e}")))
}
