//! A real broker for tests.
#![allow(
    dead_code,
    reason = "each test program uses its own part of what they share"
)]
#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use store::topic::Spec;
use store::{KafkaOptions, Options, Store, TablesIn};
use tempfile::TempDir;

/// Folder with the jars of Apache Kafka; `cargo xtask test` sets it.
const HOME: &str = "SHOAL_KAFKA_HOME";

/// A broker that ends with this process, however it ends: the script that runs it reads our pipe.
pub(crate) struct Broker {
    pub(crate) address: String,
    dir: PathBuf,
    script: Child,
    alive: Option<ChildStdin>,
    _data: TempDir,
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kafka.sh")
}

impl Broker {
    /// Starts one; none without the jars, and says so.
    pub(crate) fn start() -> Option<Self> {
        let Some(home) = std::env::var_os(HOME) else {
            println!("skipped: {HOME} is not set, so there is no Apache Kafka to test with");
            return None;
        };
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("broker");
        let mut script = Command::new(script())
            .arg("run")
            .arg(home)
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let alive = script.stdin.take().unwrap();
        let mut address = String::new();
        BufReader::new(script.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        assert!(address.contains(':'), "the broker did not start");
        Some(Self {
            address: address.trim().to_owned(),
            dir,
            script,
            alive: Some(alive),
            _data: data,
        })
    }

    /// Kills the broker as a power cut would.
    pub(crate) fn crash(&self) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        signal("-KILL", pid.trim());
    }

    /// Kills the broker, and starts it again on the same data and port.
    pub(crate) fn crash_and_return(&self) {
        self.crash();
        let home = std::env::var_os(HOME).unwrap();
        let up = Command::new(script())
            .arg("up")
            .arg(home)
            .arg(&self.dir)
            .stdout(Stdio::null())
            .status();
        assert!(up.unwrap().success(), "the broker comes back");
    }

    /// Starts it again, and from then on it says that it is reached on `port`.
    pub(crate) fn advertise(&self, port: u16) {
        let file = self.dir.join("server.properties");
        let before = std::fs::read_to_string(&file).unwrap();
        let lines = before.lines().map(|line| {
            if line.starts_with("advertised.listeners=") {
                format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n")
            } else {
                format!("{line}\n")
            }
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        self.crash_and_return();
    }

    /// Port on which it listens.
    pub(crate) fn port(&self) -> u16 {
        let (_, port) = self.address.rsplit_once(':').unwrap();
        port.parse().unwrap()
    }

    /// Options for a test of its own: nobody else has its prefix.
    pub(crate) fn options(&self, topics: &[Spec]) -> KafkaOptions {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        KafkaOptions {
            prefix: format!("t{number}."),
            partitions: 3,
            replication: 1,
            topics: topics.to_vec(),
            ..KafkaOptions::new(&self.address)
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The script stops the broker, which has its own session, and ends.
        drop(self.alive.take());
        let _ = self.script.wait();
    }
}

pub(crate) fn signal(what: &str, pid: &str) {
    let _ = Command::new("kill").args([what, pid]).status();
}

/// A store over the broker with its tables in `place`; topics and tables are made first.
pub(crate) async fn store(place: impl Into<TablesIn>, kafka: &KafkaOptions, source: &str) -> Store {
    let place = place.into();
    store::migrate(place.clone(), kafka).await.unwrap();
    Store::over_kafka(place, kafka.clone(), source, Options::default())
        .await
        .unwrap()
}
