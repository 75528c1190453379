//! A broker, a database server, and the service between them.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use store::{KafkaOptions, Options, Store, TablesIn};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::faults::platform::{LOOK, START, STOP, free_port, is_ready, on_server, open_to_all};
use crate::faults::server::Server;
use crate::machine::Usage;

/// Both servers, and the service once it is started.
pub(super) struct Servers {
    broker: Server,
    database: Server,
    pub(super) brokers: String,
    pub(super) options: KafkaOptions,
    tables: TablesIn,
    url: String,
    program: PathBuf,
    dir: PathBuf,
    ready: u16,
    service: Option<Child>,
}

impl Servers {
    /// Starts both servers on `dir` and makes topics and tables. The database notes when each transaction was committed.
    pub(super) async fn start(
        kafka: &Path,
        scripts: (&Path, &Path),
        program: PathBuf,
        partitions: u32,
        dir: &Path,
    ) -> Result<Self, Failure> {
        open_to_all(dir)?;
        let broker = Server {
            script: scripts.0.to_owned(),
            home: kafka.to_owned(),
            dir: dir.join("broker"),
            count: 1,
        };
        let database = Server {
            script: scripts.1.to_owned(),
            home: "-".into(),
            dir: dir.join("database"),
            count: 1,
        };
        database.up().await?;
        let settings = database.dir.join("data/postgresql.conf");
        let noted = File::options().append(true).open(&settings);
        noted
            .and_then(|mut file| writeln!(file, "track_commit_timestamp = on"))
            .map_err(|e| Failure::Failed(format!("{}: {e}", settings.display())))?;
        database.run("down", None).await?;
        let url = database.up().await?;
        let (tables, place) = on_server(&url, &database.dir.join("password"))?;
        let brokers = broker.up().await?;
        let options = KafkaOptions {
            replication: 1,
            partitions,
            ..KafkaOptions::new(&brokers)
        };
        store::migrate(tables.clone(), &options)
            .await
            .map_err(|e| Failure::of("topics and tables", &e))?;
        let text = format!(
            "[store]\n{place}\n[log]\nbrokers = {brokers:?}\nreplication = 1\npartitions = {partitions}\n\
             [grpc]\ntelemetry_ingest = \"127.0.0.1:0\"\n"
        );
        let config = dir.join("shoal.toml");
        std::fs::write(&config, text)
            .map_err(|e| Failure::Failed(format!("{}: {e}", config.display())))?;
        Ok(Self {
            broker,
            database,
            brokers,
            options,
            tables,
            url,
            program,
            dir: dir.to_owned(),
            ready: free_port()?,
            service: None,
        })
    }

    /// The log and the tables, as a process beside the service has them.
    pub(super) async fn store(&self) -> Result<Store, Failure> {
        let open = Store::over_kafka(
            self.tables.clone(),
            self.options.clone(),
            "flood",
            Options::default(),
        );
        open.await.map_err(|e| Failure::of("log and tables", &e))
    }

    /// A connection to the database for questions that the tables do not answer.
    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        let file = self.database.dir.join("password");
        let password = std::fs::read_to_string(&file)
            .map_err(|e| Failure::Failed(format!("{}: {e}", file.display())))?;
        let options: PgConnectOptions = self
            .url
            .parse()
            .map_err(|e| Failure::of("address of the database", &e))?;
        let connected = options.password(password.trim()).connect().await;
        connected.map_err(|e| Failure::of("the database", &e))
    }

    /// Starts the service, without waiting for it.
    pub(super) fn launch(&mut self) -> Result<(), Failure> {
        let file = self.dir.join("telemetry-ingest.log");
        let failed =
            |e: std::io::Error| Failure::Failed(format!("the service cannot be started: {e}"));
        let said = File::options()
            .create(true)
            .append(true)
            .open(file)
            .map_err(failed)?;
        let started = Command::new(&self.program)
            .args(["serve", "telemetry-ingest", "--config"])
            .arg(self.dir.join("shoal.toml"))
            .env("SHOAL_ADMIN__LISTEN", format!("127.0.0.1:{}", self.ready))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.service = Some(started);
        Ok(())
    }

    /// Waits until the service says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while !is_ready(self.ready).await {
            self.runs()?;
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "the service does not serve after {START:?}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// An error if the service has ended by itself.
    pub(super) fn runs(&mut self) -> Result<(), Failure> {
        let status = self.service.as_mut().map(Child::try_wait);
        match status {
            Some(Ok(Some(status))) => Err(Failure::Failed(format!(
                "the service ended with {status}, see {}/telemetry-ingest.log (--keep)",
                self.dir.display()
            ))),
            Some(Err(error)) => Err(Failure::Failed(format!("the service: {error}"))),
            Some(Ok(None)) | None => Ok(()),
        }
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.runs()?;
        if let Some(mut service) = self.service.take() {
            let gone = service.kill().await;
            gone.map_err(|e| Failure::Failed(format!("the service cannot be killed: {e}")))?;
        }
        Ok(())
    }

    /// What the service has used since it was started.
    pub(super) fn usage(&self) -> Result<Usage, Failure> {
        let pids: Vec<u32> = self.service.iter().filter_map(Child::id).collect();
        Usage::of(&pids)
    }

    /// Ends the service in order, then the servers.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let ended = self.end().await;
        self.broker.run("down", None).await?;
        self.database.run("down", None).await?;
        ended
    }

    async fn end(&mut self) -> Result<(), Failure> {
        let Some(mut service) = self.service.take() else {
            return Ok(());
        };
        let failed =
            |e: std::io::Error| Failure::Failed(format!("the service cannot be ended: {e}"));
        if let Some(pid) = service.id() {
            let mut stop = Command::new("kill");
            stop.args(["-TERM", &pid.to_string()]);
            stop.status().await.map_err(failed)?;
        }
        match tokio::time::timeout(STOP, service.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Failed(format!("the service ended with {status}"))),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Failure::Failed(format!(
                "the service did not end within {STOP:?}"
            ))),
        }
    }
}
