//! The processes: a broker and one or more of each service.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt as _;
use runtime::pipe::{Listener, peer};
use serde::Serialize;
use store::{KafkaOptions, Options, PostgresOptions, Store, TablesIn};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use wire::proto::market::v1::market_operator_server::MarketOperatorServer;

use super::market::Market;
use super::server::Server;
use crate::failure::Failure;
use crate::scenario::Scenario;

/// A process that was started serves by then, on a machine that has other things to do.
pub(crate) const START: Duration = Duration::from_secs(180);
/// A process that was told to stop has this long.
pub(crate) const STOP: Duration = Duration::from_secs(60);
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How often a process was killed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Killed {
    pub(crate) name: String,
    pub(crate) times: usize,
    pub(crate) upgrades: usize,
    /// From the start until it served again, the longest.
    pub(crate) back_seconds: f64,
}

/// One process that may be killed.
struct Member {
    killed: Killed,
    kind: Kind,
}

enum Kind {
    Service(Box<Service>),
    Server(Server),
    /// One of the brokers, each a server of its own.
    Broker {
        server: Server,
        /// It is stopped for a while instead of killed.
        cut_off: bool,
    },
}

/// Where the servers come from.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    pub(crate) kafka: PathBuf,
    pub(crate) kafka_script: PathBuf,
    pub(crate) postgres_script: Option<PathBuf>,
}

struct Service {
    role: &'static str,
    settings: Vec<(&'static str, String)>,
    /// Port that says whether it serves.
    ready: u16,
    child: Option<Child>,
}

/// All of them.
pub(crate) struct Platform {
    program: PathBuf,
    dir: PathBuf,
    tables: TablesIn,
    options: KafkaOptions,
    config: PathBuf,
    /// All brokers together.
    brokers: Server,
    members: Vec<Member>,
    edges: Vec<u16>,
    fleet: Channel,
    gateways: Vec<Channel>,
    pub(crate) market: Market,
    stop: CancellationToken,
}

impl Platform {
    /// Starts the servers, makes topics and tables, then starts the services.
    pub(crate) async fn start(
        scenario: &Scenario,
        program: &Path,
        servers: Servers,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let brokers = Server {
            script: servers.kafka_script,
            home: servers.kafka,
            dir: dir.join("broker"),
            count: scenario.platform.brokers,
        };
        let address = brokers.up().await?;
        let replication = u32::try_from(brokers.count.min(3)).unwrap_or(1);
        let options = KafkaOptions {
            replication,
            ..KafkaOptions::new(&address)
        };
        let cut_off = scenario.platform.cut_off_seconds > 0.0;
        let mut members: Vec<Member> = brokers
            .each()
            .map(|(name, server)| Member::new(&name, Kind::Broker { server, cut_off }))
            .collect();
        let data = dir.join("data");
        let mut tables = TablesIn::from(&data);
        let mut place = format!("dir = {data:?}");
        if let Some(script) = servers.postgres_script {
            open_to_all(dir)?;
            let database = Server {
                script,
                home: "-".into(),
                dir: dir.join("database"),
                count: 1,
            };
            let url = database.up().await?;
            (tables, place) = on_server(&url, &database.dir.join("password"))?;
            members.push(Member::new("database", Kind::Server(database)));
        }
        store::migrate(tables.clone(), &options)
            .await
            .map_err(|e| Failure::of("topics and tables", &e))?;
        let market = Market::default();
        let stop = CancellationToken::new();
        let operator = operator(&market, &stop).await?;
        let ports: Vec<u16> = (0..4).map(|_| free_port()).collect::<Result<_, _>>()?;
        let config = dir.join("shoal.toml");
        let edge = toml::to_string(&scenario.edge_with_room(scenario.fleet.stations))
            .map_err(|e| Failure::Input(format!("edge.settings: {e}")))?;
        let text = format!(
            "[store]\n{place}\n[log]\nbrokers = {address:?}\nreplication = {replication}\n[grpc]\ntelemetry_ingest = \"127.0.0.1:{}\"\n\
             forecaster = \"127.0.0.1:{}\"\noptimizer = \"127.0.0.1:{}\"\n[peers]\ngateway = \"http://127.0.0.1:{}\"\noperator = {operator:?}\n\
             {}",
            ports[0],
            ports[1],
            ports[2],
            ports[3],
            edge_section(&edge),
        );
        write(&config, &text)?;
        let fleet = channel(ports[0])?;
        let mut platform = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            tables,
            options,
            config,
            brokers,
            members,
            edges: Vec::new(),
            fleet,
            gateways: Vec::new(),
            market,
            stop,
        };
        platform.add_services(scenario, ports[3])?;
        for member in platform.services() {
            platform.start_again(member).await?;
        }
        Ok(platform)
    }

    /// Those of the members that are services.
    pub(super) fn services(&self) -> std::ops::Range<usize> {
        let is_service = |member: &Member| matches!(member.kind, Kind::Service(_));
        let first = self.members.iter().position(is_service);
        first.unwrap_or(self.members.len())..self.members.len()
    }

    fn add_services(&mut self, scenario: &Scenario, gateway: u16) -> Result<(), Failure> {
        for role in ["telemetry-ingest", "forecaster", "optimizer", "console"] {
            if scenario.platform.services.iter().any(|said| said == role) {
                self.add(role, role, vec![])?;
            }
        }
        for n in 0..scenario.platform.gateways {
            let port = if n == 0 { gateway } else { free_port()? };
            self.gateways.push(channel(port)?);
            let listen = ("SHOAL_GRPC__GATEWAY", format!("127.0.0.1:{port}"));
            self.add("gateway", &format!("gateway-{n}"), vec![listen])?;
        }
        for n in 0..scenario.platform.edges {
            let port = free_port()?;
            self.edges.push(port);
            let listen = ("SHOAL_EDGE__LISTEN", format!("127.0.0.1:{port}"));
            self.add("edge", &format!("edge-{n}"), vec![listen])?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        role: &'static str,
        name: &str,
        mut settings: Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        let ready = free_port()?;
        settings.push(("SHOAL_ADMIN__LISTEN", format!("127.0.0.1:{ready}")));
        settings.push(("SHOAL_WEB__LISTEN", "127.0.0.1:0".to_owned()));
        settings.push(("SHOAL_LOG__PROCESS", name.to_owned()));
        let kind = Kind::Service(Box::new(Service {
            role,
            settings,
            ready,
            child: None,
        }));
        self.members.push(Member::new(name, kind));
        Ok(())
    }

    /// How many may be killed.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// True for a broker that is stopped instead of killed.
    pub(super) fn is_cut_off(&self, member: usize) -> bool {
        matches!(self.members[member].kind, Kind::Broker { cut_off, .. } if cut_off)
    }

    /// True if brokers are to be cut off and none was.
    pub(super) fn never_cut_off(&self) -> bool {
        let mut due = (0..self.members.len())
            .filter(|n| self.is_cut_off(*n))
            .peekable();
        due.peek().is_some() && due.all(|n| self.members[n].killed.times == 0)
    }

    pub(super) fn killed(&self) -> Vec<Killed> {
        self.members.iter().map(|m| m.killed.clone()).collect()
    }

    /// Where stations connect to.
    pub(crate) fn urls(&self, scenario: &Scenario) -> Vec<String> {
        let scheme = if scenario.security.is_encrypted() {
            "wss"
        } else {
            "ws"
        };
        let url = |port| format!("{scheme}://127.0.0.1:{port}/ocpp/{{id}}");
        self.edges.iter().map(url).collect()
    }

    pub(crate) fn fleet(&self) -> Channel {
        self.fleet.clone()
    }

    pub(super) fn gateways(&self) -> &[Channel] {
        &self.gateways
    }

    /// The log and the tables, as a process beside the others has them.
    pub(crate) async fn store(&self) -> Result<Store, Failure> {
        let open = Store::over_kafka(
            self.tables.clone(),
            self.options.clone(),
            "trader",
            Options::default(),
        );
        open.await.map_err(|e| Failure::of("log and tables", &e))
    }

    /// SIGKILL, or SIGSTOP for a broker that is to be cut off.
    pub(super) async fn kill(&mut self, member: usize) -> Result<(), Failure> {
        let member = &mut self.members[member];
        member.killed.times += 1;
        tracing::info!("{} is killed", member.killed.name);
        let gone = |e: std::io::Error| Failure::Failed(format!("a process cannot be killed: {e}"));
        match &mut member.kind {
            Kind::Service(service) => {
                if let Some(child) = &mut service.child {
                    if let Some(status) = child.try_wait().map_err(gone)? {
                        return Err(Failure::Failed(format!(
                            "{} ended by itself with {status}",
                            member.killed.name
                        )));
                    }
                    child.kill().await.map_err(gone)?;
                }
            }
            Kind::Server(server) => server.signal("-KILL").await?,
            Kind::Broker { server, cut_off } => {
                let signal = if *cut_off { "-STOP" } else { "-KILL" };
                server.signal(signal).await?;
            }
        }
        Ok(())
    }

    /// What is started from now on is started from `program`.
    pub(super) fn take_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Ends a service in order and starts it again.
    pub(super) async fn upgrade(&mut self, member: usize) -> Result<(), Failure> {
        tracing::info!("{} is upgraded", self.members[member].killed.name);
        self.members[member].end().await?;
        self.start_again(member).await?;
        self.members[member].killed.upgrades += 1;
        Ok(())
    }

    /// Starts one that was killed, and waits until it serves.
    pub(super) async fn start_again(&mut self, member: usize) -> Result<(), Failure> {
        let since = Instant::now();
        match &self.members[member].kind {
            Kind::Broker {
                server,
                cut_off: true,
            } => server.signal("-CONT").await?,
            Kind::Server(server) | Kind::Broker { server, .. } => drop(server.up().await?),
            Kind::Service(_) => self.serve(member).await?,
        }
        let killed = &mut self.members[member].killed;
        killed.back_seconds = killed.back_seconds.max(since.elapsed().as_secs_f64());
        Ok(())
    }

    async fn serve(&mut self, member: usize) -> Result<(), Failure> {
        let member = &mut self.members[member];
        let name = &member.killed.name;
        let Kind::Service(service) = &mut member.kind else {
            return Ok(());
        };
        let file = self.dir.join(format!("{name}.log"));
        let failed = |e: std::io::Error| Failure::Failed(format!("{name} cannot be started: {e}"));
        let said = File::options()
            .create(true)
            .append(true)
            .open(&file)
            .map_err(failed)?;
        let started = Command::new(&self.program)
            .args(["serve", service.role, "--config"])
            .arg(&self.config)
            .envs(service.settings.iter().map(|(key, value)| (*key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let running = service.child.insert(started);
        let deadline = Instant::now() + START;
        while !is_ready(service.ready).await {
            if let Some(status) = running.try_wait().map_err(failed)? {
                return Err(Failure::Failed(format!(
                    "{name} ended with {status}, see {}",
                    file.display()
                )));
            }
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "{name} does not serve after {START:?}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends everything, services before the broker.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.stop.cancel();
        for member in self.members.iter_mut().rev() {
            // Whoever does not end in time is killed with this process.
            let _ = member.end().await;
        }
        for member in &self.members {
            if let Kind::Server(server) = &member.kind {
                server.run("down", None).await?;
            }
        }
        self.brokers.run("down", None).await?;
        Ok(())
    }
}

impl Member {
    /// Asks a service to end, and waits for it.
    async fn end(&mut self) -> Result<(), Failure> {
        let name = &self.killed.name;
        let Kind::Service(service) = &mut self.kind else {
            return Ok(());
        };
        let Some(child) = &mut service.child else {
            return Ok(());
        };
        let failed = |e: std::io::Error| Failure::Failed(format!("{name} cannot be ended: {e}"));
        if let Some(pid) = child.id() {
            let mut stop = Command::new("kill");
            stop.args(["-TERM", &pid.to_string()]);
            stop.status().await.map_err(failed)?;
        }
        match tokio::time::timeout(STOP, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Failed(format!("{name} ended with {status}"))),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Failure::Failed(format!(
                "{name} did not end within {STOP:?}"
            ))),
        }
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self {
            killed: Killed {
                name: name.to_owned(),
                times: 0,
                upgrades: 0,
                back_seconds: 0.0,
            },
            kind,
        }
    }
}

/// Tables of `[edge]` keep their place below it.
fn edge_section(settings: &str) -> String {
    let mut text = "[edge]\nreplicas = true\n".to_owned();
    for line in settings.lines() {
        text += &line
            .strip_prefix('[')
            .map_or_else(|| format!("{line}\n"), |inner| format!("[edge.{inner}\n"));
    }
    text
}

/// The database server may run as another user, who has to reach its folder.
pub(crate) fn open_to_all(dir: &Path) -> Result<(), Failure> {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, open)
        .map_err(|e| Failure::Failed(format!("{}: {e}", dir.display())))
}

async fn operator(market: &Market, stop: &CancellationToken) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::Failed(format!("socket of the market: {e}"));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    let routes = Routes::new(MarketOperatorServer::new(market.clone()));
    tokio::spawn(Listener::socket("market", socket).serve(routes, stop.clone()));
    Ok(format!("http://{address}"))
}

/// Tables on the server at `url`, whose password is in a file, and the settings that say so.
pub(crate) fn on_server(url: &str, password: &Path) -> Result<(TablesIn, String), Failure> {
    let read = std::fs::read_to_string(password);
    let secret = read.map_err(|e| Failure::Failed(format!("{}: {e}", password.display())))?;
    let options = PostgresOptions::new(url, Some(secret.trim()));
    let options = options.map_err(|e| Failure::of("address of the database", &e))?;
    let settings = format!("url = {url:?}\npassword_file = {password:?}");
    Ok((TablesIn::Postgres(options), settings))
}

/// A port on which nobody listens, and that no connection is given from its side while whoever shall listen there is away: below those
/// that systems give (from 32768 on with Linux, <https://www.kernel.org/doc/Documentation/networking/ip-sysctl.txt>, `ip_local_port_range`),
/// and those of the brokers.
pub(crate) fn free_port() -> Result<u16, Failure> {
    const ATTEMPTS: usize = 200;
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        let port = rand::rng().random_range(10_000..20_000);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    Err(Failure::Failed(format!("no free port: {why}")))
}

fn channel(port: u16) -> Result<Channel, Failure> {
    peer(&format!("http://127.0.0.1:{port}"), None).map_err(|e| Failure::of("address", &e))
}

pub(crate) async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))
}
