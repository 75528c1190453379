//! `shoal-load edge`: starts servers and a fleet, loads them, kills them, and compares the log with what stations know.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::crew::{Crew, Done, Speaking, parse};
use crate::failure::Failure;
use crate::keys;
use crate::ledger::{Balance, Books};
use crate::machine::{Machine, Usage};
use crate::scenario::{Scenario, seconds};
use crate::server::{self, Listening};
use crate::worker::Command;

/// Beyond the ramp, for the last ones to connect.
const PATIENCE: Duration = Duration::from_secs(300);
/// From the beginning of lives until every vehicle that is there from the start has told so.
const WARM_UP: Duration = Duration::from_secs(10);
/// The set-points of the last cycle reach their stations and are answered.
const LAST_SETPOINTS: Duration = Duration::from_secs(3);
/// A server has opened its socket by then.
const START: Duration = Duration::from_secs(60);
/// Beyond the life of a set-point, for its timer to be seen.
const AFTER_TIMER: Duration = Duration::from_secs(10);

/// One run: a row of the curve.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) stations: usize,
    pub(crate) replicas: usize,
    pub(crate) generators: usize,
    /// Every station was connected at once.
    pub(crate) all_connected: bool,
    pub(crate) connect_seconds: Option<f64>,
    pub(crate) server_idle: Memory,
    /// While stations talked.
    pub(crate) server_loaded: Load,
    pub(crate) generator_cores: f64,
    pub(crate) storm: Option<Storm>,
    pub(crate) deadman: Option<Deadman>,
    pub(crate) fleet: Done,
    pub(crate) balance: Balance,
}

/// Memory of the servers with every station connected and silent.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) empty_kib: u64,
    pub(crate) full_kib: u64,
    pub(crate) kib_per_station: f64,
    /// Processor time of the servers for connecting all, per station.
    pub(crate) connect_cpu_ms_per_station: f64,
}

/// The servers under load.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) seconds: f64,
    pub(crate) cores: f64,
    pub(crate) rss_kib: u64,
}

/// Servers were killed and started again.
#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    /// From the start of the new processes until all stations were back; none if they were not.
    pub(crate) back_seconds: Option<f64>,
    /// Processor time of the servers for it, per station.
    pub(crate) cpu_ms_per_station: f64,
    pub(crate) cores: f64,
    pub(crate) peak_rss_kib: u64,
}

/// Servers were killed and stayed dead.
#[derive(Debug, Serialize)]
pub(crate) struct Deadman {
    /// Outlets that discharged, and outlets that followed a set-point, when the servers died.
    pub(crate) discharging_before: u64,
    pub(crate) told_before: u64,
    /// From the death until nobody discharged any more, and until all charged plainly; none if that never came.
    pub(crate) discharge_ended_seconds: Option<f64>,
    pub(crate) plain_again_seconds: Option<f64>,
    pub(crate) timer_seconds: f64,
    /// Outlets seen discharging after their timer ran out.
    pub(crate) discharging_after_timer: u64,
}

/// The run as a document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) scenario: String,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    /// What was expected and not met, of the last row.
    pub(crate) unmet: Vec<String>,
}

/// Runs the scenario, the smaller fleets of its curve first.
///
/// # Errors
/// [`Failure`] if a process cannot be started or ends early.
pub(crate) async fn run(scenario: &Scenario, keep: Option<&Path>) -> Result<Document, Failure> {
    let machine = Machine::here();
    let mut rows = Vec::new();
    let last = scenario.fleet.stations;
    for stations in scenario.edge.curve.iter().copied().chain([last]) {
        let mut smaller = scenario.clone();
        smaller.fleet.stations = stations;
        let scratch = tempfile::tempdir()
            .map_err(|e| Failure::Failed(format!("no folder for the run: {e}")))?;
        let dir = keep.map_or_else(
            || scratch.path().to_owned(),
            |keep| keep.join(stations.to_string()),
        );
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::Failed(format!("{}: {e}", dir.display())))?;
        tracing::info!(stations, "{stations} stations");
        rows.push(Run::new(smaller, &dir).await?.play().await?);
    }
    let unmet = rows
        .last()
        .map_or_else(Vec::new, |row| unmet(scenario, row));
    Ok(Document {
        scenario: scenario.name.clone(),
        machine,
        rows,
        unmet,
    })
}

/// A server process.
struct Server {
    process: Speaking,
    address: SocketAddr,
}

impl Server {
    async fn start(
        scenario: &Path,
        replica: usize,
        dir: &Path,
        listen: SocketAddr,
    ) -> Result<Self, Failure> {
        let folder = server::folder(dir, replica);
        let args = [
            "serve-edge".to_owned(),
            "--scenario".to_owned(),
            scenario.display().to_string(),
            "--replica".to_owned(),
            replica.to_string(),
            "--dir".to_owned(),
            folder.display().to_string(),
            "--listen".to_owned(),
            listen.to_string(),
        ];
        let mut process = Speaking::start(&args)?;
        let line = tokio::time::timeout(START, process.line()).await;
        let said = line.ok().flatten();
        let listening: Option<Listening> = said.as_deref().and_then(parse);
        let address = listening
            .map(|l| l.address)
            .ok_or_else(|| Failure::Failed(format!("server {replica} did not open its socket")))?;
        Ok(Self { process, address })
    }
}

struct Run {
    scenario: Scenario,
    file: PathBuf,
    dir: PathBuf,
    servers: Vec<Server>,
    empty: Usage,
}

impl Run {
    /// Makes keys, writes the scenario down and starts the servers.
    async fn new(mut scenario: Scenario, dir: &Path) -> Result<Self, Failure> {
        keys::make(&mut scenario, dir)?;
        let file = dir.join("edge-scenario.toml");
        let text = toml::to_string(&scenario)
            .map_err(|e| Failure::Failed(format!("the scenario cannot be written: {e}")))?;
        std::fs::write(&file, text)
            .map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))?;
        let mut run = Self {
            scenario,
            file,
            dir: dir.to_owned(),
            servers: Vec::new(),
            empty: Usage::default(),
        };
        for replica in 0..run.scenario.edge.replicas {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = Server::start(&run.file, replica, dir, listen).await?;
            run.servers.push(server);
        }
        run.empty = Usage::of(&run.pids())?;
        Ok(run)
    }

    fn pids(&self) -> Vec<u32> {
        self.servers
            .iter()
            .filter_map(|s| s.process.pid())
            .collect()
    }

    async fn tell(&mut self, command: server::Command) -> Result<(), Failure> {
        for server in &mut self.servers {
            server.process.say(&command).await?;
        }
        Ok(())
    }

    async fn play(mut self) -> Result<Row, Failure> {
        let scheme = if self.scenario.security.is_encrypted() {
            "wss"
        } else {
            "ws"
        };
        let urls: Vec<String> = self
            .servers
            .iter()
            .map(|s| format!("{scheme}://{}/ocpp/{{id}}", s.address))
            .collect();
        let stations = self.scenario.fleet.stations;
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let ramp = seconds(stations as f64 / self.scenario.fleet.connects_per_second);
        let mut crew = Crew::start(&self.scenario, &urls, &self.dir).await?;
        let generators = crew.pids();
        let connected = crew.all_connected(ramp + PATIENCE).await;
        let idle = self.idle().await?;

        crew.say(Command::Begin).await?;
        tokio::time::sleep(WARM_UP).await;
        self.tell(server::Command::Feed).await?;
        let kill_at = self.scenario.edge.kill_at_seconds.map(seconds);
        let hold = kill_at.unwrap_or(self.scenario.hold());
        let (loaded, generator_cores) = self.load(&mut crew, &generators, hold).await?;
        let (mut storm, mut deadman) = (None, None);
        if kill_at.is_some() {
            let before = crew.state();
            self.kill().await?;
            if self.scenario.edge.restart {
                storm = Some(self.storm(&crew).await?);
                self.tell(server::Command::Feed).await?;
                tokio::time::sleep(self.scenario.hold()).await;
            } else {
                deadman = Some(self.deadman(&crew, before.discharging, before.told).await);
            }
        }
        if deadman.is_none() {
            self.tell(server::Command::Rest).await?;
            tokio::time::sleep(LAST_SETPOINTS).await;
        }
        crew.finish(self.scenario.drain()).await?;
        let ledgers = crew.ledgers.clone();
        let fleet = crew.stop().await?;
        let balance = self.balance(&ledgers).await?;
        Ok(Row {
            stations,
            replicas: self.scenario.edge.replicas,
            generators: generators.len(),
            all_connected: connected.is_some(),
            connect_seconds: connected.map(|d| d.as_secs_f64()),
            server_idle: idle,
            server_loaded: loaded,
            generator_cores,
            storm,
            deadman,
            fleet,
            balance,
        })
    }

    /// Memory with everybody connected and silent.
    async fn idle(&self) -> Result<Memory, Failure> {
        tokio::time::sleep(seconds(self.scenario.edge.settle_seconds)).await;
        let now = Usage::of(&self.pids())?;
        #[expect(clippy::cast_precision_loss, reason = "counts and kibibytes")]
        let per_station = |total: f64| total / self.scenario.fleet.stations as f64;
        #[expect(clippy::cast_precision_loss, reason = "kibibytes")]
        let grown = now.rss_kib.saturating_sub(self.empty.rss_kib) as f64;
        Ok(Memory {
            empty_kib: self.empty.rss_kib,
            full_kib: now.rss_kib,
            kib_per_station: per_station(grown),
            connect_cpu_ms_per_station: per_station(
                (now.cpu_seconds - self.empty.cpu_seconds) * 1e3,
            ),
        })
    }

    /// Holds the load, storms of the scenario in between.
    async fn load(
        &self,
        crew: &mut Crew,
        generators: &[u32],
        hold: Duration,
    ) -> Result<(Load, f64), Failure> {
        let (server, generator) = (Usage::of(&self.pids())?, Usage::of(generators)?);
        let since = Instant::now();
        for at in &self.scenario.faults.storms_at_seconds {
            let at = seconds(*at);
            if at < hold {
                tokio::time::sleep_until(since + at).await;
                crew.say(Command::Storm).await?;
            }
        }
        tokio::time::sleep_until(since + hold).await;
        let took = since.elapsed().as_secs_f64().max(1e-3);
        let now = Usage::of(&self.pids())?;
        let generated = Usage::of(generators)?.cpu_seconds - generator.cpu_seconds;
        let load = Load {
            seconds: took,
            cores: (now.cpu_seconds - server.cpu_seconds) / took,
            rss_kib: now.rss_kib,
        };
        Ok((load, generated / took))
    }

    /// SIGKILL to every server.
    async fn kill(&mut self) -> Result<(), Failure> {
        for server in &mut self.servers {
            let killed = server.process.child.kill().await;
            killed.map_err(|e| Failure::Failed(format!("a server cannot be killed: {e}")))?;
        }
        Ok(())
    }

    /// Starts the servers again at their addresses and waits for everybody.
    async fn storm(&mut self, crew: &Crew) -> Result<Storm, Failure> {
        // Everybody has noticed: nobody counts as connected who is not.
        crew.until(PATIENCE, |state| state.figures.connected == 0)
            .await;
        let since = Instant::now();
        for replica in 0..self.servers.len() {
            let address = self.servers[replica].address;
            self.servers[replica] = Server::start(&self.file, replica, &self.dir, address).await?;
        }
        let pids = self.pids();
        let mut peak = 0;
        let back = loop {
            peak = peak.max(Usage::of(&pids)?.rss_kib);
            if crew
                .all_connected(Duration::from_millis(500))
                .await
                .is_some()
            {
                break Some(since.elapsed().as_secs_f64());
            }
            if since.elapsed() > PATIENCE {
                break None;
            }
        };
        let spent = Usage::of(&pids)?.cpu_seconds;
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let stations = self.scenario.fleet.stations as f64;
        Ok(Storm {
            back_seconds: back,
            cpu_ms_per_station: spent * 1e3 / stations,
            cores: spent / since.elapsed().as_secs_f64().max(1e-3),
            peak_rss_kib: peak,
        })
    }

    /// Watches stations that hear nothing any more.
    async fn deadman(&self, crew: &Crew, discharging: u64, told: u64) -> Deadman {
        let timer = self.scenario.edge.setpoint_life_seconds;
        let patience = seconds(timer) + AFTER_TIMER;
        let since = Instant::now();
        let mut overdue = 0;
        let (mut discharge_ended, mut plain) = (None, None);
        while since.elapsed() < patience && (discharge_ended.is_none() || plain.is_none()) {
            let state = crew.state();
            overdue = overdue.max(state.overdue);
            let now = since.elapsed().as_secs_f64();
            if state.discharging == 0 {
                discharge_ended = discharge_ended.or(Some(now));
            } else {
                discharge_ended = None;
            }
            plain = if state.told == 0 {
                plain.or(Some(now))
            } else {
                None
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Deadman {
            discharging_before: discharging,
            told_before: told,
            discharge_ended_seconds: discharge_ended,
            plain_again_seconds: plain,
            timer_seconds: timer,
            discharging_after_timer: overdue,
        }
    }

    /// Ends the servers in order and reads their logs.
    async fn balance(&mut self, ledgers: &[PathBuf]) -> Result<Balance, Failure> {
        let killed = self.scenario.edge.kill_at_seconds.is_some() && !self.scenario.edge.restart;
        for server in &mut self.servers {
            server.process.hush();
            if !killed {
                server.process.ended().await?;
            }
        }
        let mut books = Books::default();
        for ledger in ledgers {
            books.add_ledger(ledger)?;
        }
        for replica in 0..self.servers.len() {
            books.add_log(&server::folder(&self.dir, replica)).await?;
        }
        Ok(books.balance())
    }
}

/// What the scenario expects and the run did not meet.
fn unmet(scenario: &Scenario, row: &Row) -> Vec<String> {
    let expect = &scenario.expect;
    let mut unmet = Vec::new();
    if !row.all_connected {
        unmet.push("not every station was connected at once".to_owned());
    }
    let mut most = |name: &str, met: Option<f64>, most: Option<f64>| {
        let Some(most) = most else { return };
        match met {
            Some(met) if met <= most => {}
            Some(met) => unmet.push(format!("{name} is {met:.1}, expected at most {most}")),
            None => unmet.push(format!("{name} was not measured, expected at most {most}")),
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let number = |count: u64| count as f64;
    let bars = expect.lost.map(number);
    most("lost", Some(number(row.balance.lost)), bars);
    let bars = expect.doubled.map(number);
    most("doubled", Some(number(row.balance.doubled)), bars);
    let idle = Some(row.server_idle.kib_per_station);
    most("idle_kib_per_station", idle, expect.idle_kib_per_station);
    let p99 = row.balance.setpoint_log_to_socket.p99_ms;
    most("setpoint_p99_ms", p99, expect.setpoint_p99_ms);
    let back = row.storm.as_ref().and_then(|s| s.back_seconds);
    most("back_seconds", back, expect.back_seconds);
    let overdue = row
        .deadman
        .as_ref()
        .map(|d| number(d.discharging_after_timer));
    let bars = expect.discharging_after_timer.map(number);
    most("discharging_after_timer", overdue, bars);
    if let (Some(deadman), Some(_)) = (&row.deadman, bars) {
        let ended = deadman.discharge_ended_seconds;
        most(
            "discharge_ended_seconds",
            ended,
            Some(deadman.timer_seconds + 1.0),
        );
        let plain = deadman.plain_again_seconds;
        most(
            "plain_again_seconds",
            plain,
            Some(deadman.timer_seconds + 1.0),
        );
        if deadman.discharging_before == 0 {
            unmet.push("nobody discharged when the servers died".to_owned());
        }
    }
    unmet
}
