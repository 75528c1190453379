//! The generator processes together, as one fleet.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::counts::{Figures, Quantiles, Times};
use crate::failure::Failure;
use crate::machine;
use crate::scenario::Scenario;
use crate::worker::{Command, Line, Report, State};

/// Files a generator process needs beside its connections.
const OTHER_FILES: u64 = 128;
/// Between looks at the state.
const LOOK: Duration = Duration::from_millis(100);
/// A process that was told to stop has this long.
const STOP: Duration = Duration::from_secs(60);

/// A child process that talks in JSON lines.
#[derive(Debug)]
pub(crate) struct Speaking {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Speaking {
    /// Starts this same program with `args`; it is killed with us.
    ///
    /// # Errors
    /// Status 1 if it cannot be started.
    pub(crate) fn start(args: &[String]) -> Result<Self, Failure> {
        let failed =
            |e: std::io::Error| Failure::Failed(format!("a process cannot be started: {e}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| {
            Failure::Failed("a process was started without its output".to_owned())
        })?;
        Ok(Self {
            child,
            stdin,
            lines: Some(BufReader::new(stdout).lines()),
        })
    }

    /// The next line; `None` once it is silent or somebody took its lines.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.lines.as_mut()?.next_line().await.ok().flatten()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Says one thing.
    ///
    /// # Errors
    /// Status 1 if it does not listen any more.
    pub(crate) async fn say(&mut self, what: &(impl Serialize + Sync)) -> Result<(), Failure> {
        let gone = |e: std::io::Error| Failure::Failed(format!("a process ended early: {e}"));
        let mut text = serde_json::to_string(what)
            .map_err(|e| Failure::Failed(format!("a command cannot be written: {e}")))?;
        text.push('\n');
        let Some(stdin) = &mut self.stdin else {
            return Ok(());
        };
        stdin.write_all(text.as_bytes()).await.map_err(gone)?;
        stdin.flush().await.map_err(gone)
    }

    /// Nothing more will be said: the process ends in order.
    pub(crate) fn hush(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Status 1 if it fails or takes too long.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Failed(format!("a process ended with {status}"))),
            Ok(Err(error)) => Err(Failure::Failed(format!("a process: {error}"))),
            Err(_) => Err(Failure::Failed(format!(
                "a process did not end within {STOP:?}"
            ))),
        }
    }
}

/// Reads lines into a place until they end; the last report is the result.
async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    state: Arc<Mutex<State>>,
) -> Option<Report> {
    let mut report = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match parse(&line) {
            Some(Line::State(now)) => {
                *state.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
            Some(Line::Report(last)) => report = Some(last),
            None => tracing::warn!("not understood: {line}"),
        }
    }
    report
}

pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).ok()
}

#[derive(Debug)]
struct Member {
    process: Speaking,
    state: Arc<Mutex<State>>,
    listening: JoinHandle<Option<Report>>,
}

/// All generator processes of a run.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    pub(crate) ledgers: Vec<PathBuf>,
    stations: u64,
}

/// What they did together.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Done {
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// From a call to its answer.
    pub(crate) answers: Quantiles,
    /// From the first packet to a finished upgrade.
    pub(crate) upgrades: Quantiles,
}

impl Crew {
    /// Starts as many processes as the scenario says, or as the limit of open files asks for. `dir` holds what they
    /// write down.
    ///
    /// # Errors
    /// Status 1 if one cannot be started.
    pub(crate) async fn start(
        scenario: &Scenario,
        urls: &[String],
        dir: &Path,
    ) -> Result<Self, Failure> {
        let files = machine::open_files()?.saturating_sub(OTHER_FILES).max(1);
        let stations = scenario.fleet.stations as u64;
        let least = usize::try_from(stations.div_ceil(files)).unwrap_or(usize::MAX);
        let processes = scenario.fleet.processes.max(least).max(1);
        let file = dir.join("scenario.toml");
        let text = toml::to_string(scenario)
            .map_err(|e| Failure::Failed(format!("the scenario cannot be written: {e}")))?;
        std::fs::write(&file, text)
            .map_err(|e| Failure::Failed(format!("{}: not writable: {e}", file.display())))?;
        let mut crew = Self {
            members: Vec::with_capacity(processes),
            ledgers: Vec::with_capacity(processes),
            stations,
        };
        for process in 0..processes {
            let ledger = dir.join(format!("ledger-{process}"));
            let mut args = vec!["worker".to_owned()];
            let options = [
                ("--scenario", file.display().to_string()),
                ("--process", process.to_string()),
                ("--of", processes.to_string()),
                ("--ledger", ledger.display().to_string()),
            ];
            let urls = urls.iter().map(|url| ("--url", url.clone()));
            for (name, value) in options.into_iter().chain(urls) {
                args.extend([name.to_owned(), value]);
            }
            crew.members.push(member(&args)?);
            crew.ledgers.push(ledger);
        }
        Ok(crew)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .filter_map(|m| m.process.pid())
            .collect()
    }

    /// All of them together, as last told.
    pub(crate) fn state(&self) -> State {
        let mut all = State::default();
        for member in &self.members {
            let one = member.state.lock().unwrap_or_else(PoisonError::into_inner);
            all.figures += &one.figures;
            all.plugged += one.plugged;
            all.discharging += one.discharging;
            all.told += one.told;
            all.overdue += one.overdue;
        }
        let rounds = self.members.iter().map(|member| {
            let one = member.state.lock().unwrap_or_else(PoisonError::into_inner);
            one.told_since_finish
        });
        all.told_since_finish = rounds.min().unwrap_or(0);
        all
    }

    /// Says something to all.
    ///
    /// # Errors
    /// Status 1 if one of them is gone.
    pub(crate) async fn say(&mut self, command: Command) -> Result<(), Failure> {
        for member in &mut self.members {
            member.process.say(&command).await?;
        }
        Ok(())
    }

    /// Waits until `met`, or for `patience`; the time it took if it was met.
    pub(crate) async fn until(
        &self,
        patience: Duration,
        met: impl Fn(&State) -> bool,
    ) -> Option<Duration> {
        let since = Instant::now();
        loop {
            if met(&self.state()) {
                return Some(since.elapsed());
            }
            if since.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every station is connected.
    pub(crate) async fn all_connected(&self, patience: Duration) -> Option<Duration> {
        let wanted = self.stations;
        self.until(patience, |state| state.figures.connected >= wanted)
            .await
    }

    /// Asks for no new events and waits until every message is answered, or for `patience`. What all told before they knew of it
    /// says nothing, and what they told first may have missed an event on its way.
    ///
    /// # Errors
    /// Status 1 if one of them is gone.
    pub(crate) async fn finish(&mut self, patience: Duration) -> Result<(), Failure> {
        self.say(Command::Finish).await?;
        self.until(patience, |state| {
            state.told_since_finish >= 2 && state.figures.in_hand == 0
        })
        .await;
        Ok(())
    }

    /// Stops all and adds up what they did.
    ///
    /// # Errors
    /// Status 1 if one failed or did not report.
    pub(crate) async fn stop(mut self) -> Result<Done, Failure> {
        self.say(Command::Stop).await?;
        let (answers, upgrades) = (Times::default(), Times::default());
        let mut figures = Figures::default();
        for member in &mut self.members {
            member.process.hush();
            member.process.ended().await?;
            let report = (&mut member.listening).await.ok().flatten();
            let report = report.ok_or_else(|| {
                Failure::Failed("a generator process ended without its report".to_owned())
            })?;
            figures += &report.figures;
            answers.join(&report.answer_times);
            upgrades.join(&report.connect_times);
        }
        Ok(Done {
            figures,
            answers: answers.quantiles(),
            upgrades: upgrades.quantiles(),
        })
    }
}

fn member(args: &[String]) -> Result<Member, Failure> {
    let mut process = Speaking::start(args)?;
    let state = Arc::default();
    let lines = process.lines.take();
    let heard = Arc::clone(&state);
    let listening = tokio::spawn(async move { listen(lines?, heard).await });
    Ok(Member {
        process,
        state,
        listening,
    })
}
