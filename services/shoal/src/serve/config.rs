//! The one file that all services read: a section per service beside what every process has.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use runtime::config::Secret;
use runtime::telemetry::Logging;
use serde::{Deserialize, Serialize};
use store::{KafkaOptions, Keep, PostgresOptions, TablesIn};

use super::Role;
use super::links::Asked;
use crate::cli::CliError;

/// Port of health and metrics, beside that of charge points.
const ADMIN_PORT: u16 = 9221;
/// Ports of gRPC, beside it.
const FLEET_PORT: u16 = 9222;
const FORECAST_PORT: u16 = 9223;
const PLAN_PORT: u16 = 9224;
const GATEWAY_PORT: u16 = 9225;
/// Port of the console.
const WEB_PORT: u16 = 9230;
/// Longer than any service needs to close its connections, shorter than the half minute after which schedulers kill.
const GRACE_SECONDS: u64 = 20;
/// What is left suffices for what is in hand to end.
const MEMORY_PERCENT: u8 = 90;
/// A longer one is a typing error: nobody waits an hour for a restart.
const LONGEST_GRACE_SECONDS: u64 = 3_600;
/// Meter samples on one machine: enough to look into yesterday, on a disk that nobody sized for them.
const EMBEDDED_READINGS: TimeDelta = TimeDelta::days(2);
/// A century: more is a typing error.
const LONGEST_DAYS: u32 = 36_525;

/// Settings of a process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(super) process: Process,
    pub(super) admin: Admin,
    pub(crate) store: Tables,
    pub(crate) log: Log,
    pub(super) logging: Logging,
    pub(super) telemetry: runtime::Telemetry,
    pub(super) grpc: Grpc,
    pub(super) peers: Peers,
    pub(crate) tls: Option<runtime::tls::Files>,
    pub(super) web: Web,
    pub(crate) edge: shoal_edge::Config,
    pub(super) telemetry_ingest: shoal_telemetry_ingest::Config,
    pub(super) forecaster: shoal_forecaster::Config,
    pub(crate) optimizer: shoal_optimizer::Config,
    pub(crate) gateway: shoal_gateway::Config,
    pub(super) console: shoal_console::Config,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Process {
    /// Real time that services get to finish what is in hand.
    pub(super) grace_seconds: u64,
    /// Share of the memory that the process may have above which new stations, and calls that can come later, are turned away; 100 turns
    /// nobody away.
    pub(super) memory_percent: u8,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            grace_seconds: GRACE_SECONDS,
            memory_percent: MEMORY_PERCENT,
        }
    }
}

impl Process {
    pub(super) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Admin {
    /// Address of `/livez`, `/readyz` and `/metrics`; port 0 takes a free one.
    pub(super) listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)),
        }
    }
}

/// The tables, and the log unless it is on Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tables {
    /// Folder of the database, made if absent. With the embedded log one process at a time has it; with the log on Kafka all
    /// processes of a machine share it.
    pub(crate) dir: PathBuf,
    /// `postgres://USER@HOST:PORT/DATABASE`: the tables of all processes of a cluster, instead of those in `dir`. Asks for the log
    /// on Kafka.
    url: Option<String>,
    /// File that holds the password of `url`.
    password_file: Option<PathBuf>,
    /// The password itself, meant for the environment (`SHOAL_STORE__PASSWORD`).
    password: Option<Secret>,
    /// Days of meter samples that are kept, 0 for none: 31 beside a log on Kafka, 2 beside the embedded one.
    readings_days: Option<u32>,
    /// Days of metered intervals that are kept beside a log on Kafka.
    intervals_days: Option<u32>,
}

impl Tables {
    /// Where the tables are.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub(crate) fn place(&self) -> Result<TablesIn, String> {
        let Some(url) = &self.url else {
            return Ok(TablesIn::from(&self.dir));
        };
        let password = match (&self.password_file, &self.password) {
            (Some(_), Some(_)) => {
                return Err(
                    "store.password: met beside store.password_file, expected one of them"
                        .to_owned(),
                );
            }
            (Some(file), None) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| format!("store.password_file: {}: {e}", file.display()))?;
                // An editor ends a file with a line break; a password has none.
                Some(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            (None, password) => password.as_ref().map(|p| p.reveal().to_owned()),
        };
        PostgresOptions::new(url, password.as_deref())
            .map(TablesIn::from)
            .map_err(|wrong| format!("store.url: {wrong}"))
    }

    /// How long they keep time series, with a log on Kafka or without.
    pub(super) fn keep(&self, kafka: bool) -> Keep {
        let days = |days: Option<u32>, usual: TimeDelta| {
            days.map_or(usual, |d| TimeDelta::days(i64::from(d)))
        };
        let usual = Keep::default();
        let readings = if kafka {
            usual.readings
        } else {
            EMBEDDED_READINGS
        };
        Keep {
            readings: days(self.readings_days, readings),
            intervals: days(self.intervals_days, usual.intervals),
        }
    }

    /// The first thing that cannot work, with a log on Kafka or without.
    fn wrong(&self, kafka: bool) -> Option<String> {
        if self.url.is_some() && !kafka {
            return Some(
                "store.url: tables on PostgreSQL ask for the log on Kafka, for the embedded log shares transactions with SQLite; \
                 set log.brokers, or leave store.url out"
                    .to_owned(),
            );
        }
        let readings = self.readings_days.filter(|days| *days != 0);
        for (key, days, or) in [
            ("readings_days", readings, " or 0"),
            ("intervals_days", self.intervals_days, ""),
        ] {
            if let Some(days) = days.filter(|days| !(2..=LONGEST_DAYS).contains(days)) {
                return Some(format!(
                    "store.{key}: met {days}, expected 2 to {LONGEST_DAYS}{or}"
                ));
            }
        }
        self.place().err()
    }
}

/// The log on Apache Kafka. Without brokers it is kept beside the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// `host:port,host:port`; some of them suffice, the others are found.
    brokers: Option<String>,
    /// Put before the name of each topic and group: several installations share a cluster.
    prefix: String,
    /// Partitions of topics that are spread; bounds how many replicas of a service share the work.
    partitions: Option<u32>,
    /// Copies of each record.
    replication: Option<u32>,
    /// Name of this process among those that share the tables, the same whenever it is started; the services it runs by default.
    process: Option<String>,
}

impl Log {
    /// Where Kafka is; none for the embedded log.
    pub(crate) fn kafka(&self) -> Option<KafkaOptions> {
        let mut kafka = KafkaOptions::new(self.brokers.as_deref()?);
        kafka.prefix.clone_from(&self.prefix);
        kafka.partitions = self.partitions.unwrap_or(kafka.partitions);
        kafka.replication = self.replication.unwrap_or(kafka.replication);
        Some(kafka)
    }

    /// Name of a process that runs `roles`.
    pub(super) fn process(&self, roles: &[Role]) -> String {
        self.process.clone().unwrap_or_else(|| {
            let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            names.join("+")
        })
    }

    /// The first setting that cannot work: key, value, what would do.
    fn wrong(&self) -> Option<(&'static str, String, &'static str)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if let Some(brokers) = &self.brokers
            && !brokers.split(',').all(|broker| {
                broker
                    .trim()
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            })
        {
            return Some(("brokers", format!("{brokers:?}"), "host:port,host:port"));
        }
        if !self.prefix.chars().all(plain) {
            let expected = "letters, digits, dots, dashes and underscores";
            return Some(("prefix", format!("{:?}", self.prefix), expected));
        }
        let counts = [
            ("partitions", self.partitions, 1_000, "1 to 1000"),
            ("replication", self.replication, 9, "1 to 9"),
        ];
        counts.into_iter().find_map(|(key, value, most, expected)| {
            let value = value.filter(|value| !(1..=most).contains(value))?;
            Some((key, value.to_string(), expected))
        })
    }
}

/// Where this process is asked over gRPC; port 0 takes a free one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grpc {
    telemetry_ingest: SocketAddr,
    forecaster: SocketAddr,
    optimizer: SocketAddr,
    gateway: SocketAddr,
    /// Where other gateways reach that of this process, like `http://10.0.0.7:9225`; the address it listens on by default.
    pub(super) advertise: Option<String>,
}

impl Default for Grpc {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            telemetry_ingest: local(FLEET_PORT),
            forecaster: local(FORECAST_PORT),
            optimizer: local(PLAN_PORT),
            gateway: local(GATEWAY_PORT),
            advertise: None,
        }
    }
}

impl Grpc {
    /// What can be asked, the key of its setting, where.
    pub(super) const fn listeners(&self) -> [(Asked, &'static str, SocketAddr); 4] {
        [
            (Asked::Fleet, "grpc.telemetry_ingest", self.telemetry_ingest),
            (Asked::Forecast, "grpc.forecaster", self.forecaster),
            (Asked::Plan, "grpc.optimizer", self.optimizer),
            (Asked::Gateway, "grpc.gateway", self.gateway),
        ]
    }
}

/// Where others are asked, like `http://forecaster:9223`. What is not said is asked in this process if it is served here, and
/// on this machine otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Peers {
    telemetry_ingest: Option<String>,
    forecaster: Option<String>,
    optimizer: Option<String>,
    gateway: Option<String>,
    /// The market and the grid operator.
    operator: Option<String>,
}

impl Peers {
    /// Last part of the key of a setting.
    pub(super) const fn key(&self, asked: Asked) -> &'static str {
        match asked {
            Asked::Fleet => "telemetry_ingest",
            Asked::Forecast => "forecaster",
            Asked::Plan => "optimizer",
            Asked::Gateway => "gateway",
            Asked::Operator => "operator",
        }
    }

    fn said(&self, asked: Asked) -> Option<&String> {
        match asked {
            Asked::Fleet => self.telemetry_ingest.as_ref(),
            Asked::Forecast => self.forecaster.as_ref(),
            Asked::Plan => self.optimizer.as_ref(),
            Asked::Gateway => self.gateway.as_ref(),
            Asked::Operator => self.operator.as_ref(),
        }
    }

    /// Address of another process; none where `asked` is served `here` and no address is said.
    pub(super) fn address(
        &self,
        asked: Asked,
        grpc: &Grpc,
        here: bool,
        secured: bool,
    ) -> Option<String> {
        let local = || {
            let listeners = grpc.listeners();
            let (.., address) = listeners.into_iter().find(|(other, ..)| *other == asked)?;
            let scheme = if secured { "https" } else { "http" };
            Some(format!("{scheme}://{address}"))
        };
        self.said(asked)
            .cloned()
            .or_else(|| if here { None } else { local() })
    }
}

/// The console in the browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Web {
    /// Its address; port 0 takes a free one.
    pub(super) listen: SocketAddr,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, WEB_PORT)),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("shoal-data"),
            url: None,
            password_file: None,
            password: None,
            readings_days: None,
            intervals_days: None,
        }
    }
}

/// Reads the file and the environment and checks everything that `roles` will use.
///
/// # Errors
/// Status 2 with the file and the key.
pub(crate) fn load(file: Option<&Path>, roles: &[Role]) -> Result<Config, CliError> {
    let config: Config = runtime::config::load(file).map_err(|e| input(&e))?;
    let origin = file.map_or_else(|| "configuration".to_owned(), |f| f.display().to_string());
    let refuse = |text: String| Err(CliError::Input(format!("{origin}: {text}")));
    let memory = config.process.memory_percent;
    if !(10..=100).contains(&memory) {
        return refuse(format!(
            "process.memory_percent: met {memory}, expected 10 to 100"
        ));
    }
    let grace = config.process.grace_seconds;
    if !(1..=LONGEST_GRACE_SECONDS).contains(&grace) {
        return refuse(format!(
            "process.grace_seconds: met {grace}, expected 1 to {LONGEST_GRACE_SECONDS}"
        ));
    }
    if let Some((key, value, expected)) = config.log.wrong() {
        return refuse(format!("log.{key}: met {value}, expected {expected}"));
    }
    if let Some(wrong) = config.store.wrong(config.log.kafka().is_some()) {
        return refuse(wrong);
    }
    for role in roles {
        match role {
            Role::TelemetryIngest => {
                if let Err(wrong) = config.telemetry_ingest.check() {
                    return refuse(wrong.to_string());
                }
            }
            Role::Forecaster => {
                if let Err(wrong) = config.forecaster.check() {
                    return refuse(format!("forecaster.{wrong}"));
                }
            }
            Role::Optimizer => {
                if let Err(wrong) = config.optimizer.check() {
                    return refuse(format!("optimizer.{wrong}"));
                }
            }
            Role::Gateway => {
                if let Err(wrong) = config.gateway.check() {
                    return refuse(wrong.to_string());
                }
                if config.peers.said(Asked::Operator).is_none() {
                    return refuse(
                        "peers.operator: missing, expected http://HOST:PORT of the market and the grid operator (shoal.market.v1.MarketOperator)"
                            .to_owned(),
                    );
                }
            }
            Role::Console => {}
            Role::Edge => {
                if let Err(wrong) = config.edge.validate() {
                    let (key, value, expected) = (wrong.key, wrong.value, wrong.expected);
                    return refuse(format!("edge.{key}: met {value}, expected {expected}"));
                }
            }
        }
    }
    Ok(config)
}

/// A refused configuration, with its cause in the text.
fn input(error: &runtime::config::ConfigError) -> CliError {
    CliError::Input(super::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn refused(text: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let error = load(Some(file.path()), &[Role::Edge]).unwrap_err();
        assert_eq!(error.status(), 2);
        let name = file.path().display().to_string();
        error
            .to_string()
            .strip_prefix(&name)
            .unwrap_or_else(|| panic!("{error} names {name}"))
            .to_owned()
    }

    #[test]
    fn what_cannot_work_is_refused_by_file_and_key() {
        for (text, expected) in [
            ("[edge]\nlisen = 1\n", ": edge.lisen: "),
            (
                "[edge]\nping_seconds = 0\n",
                ": edge.ping_seconds: met 0, expected at least 1",
            ),
            (
                "[process]\nmemory_percent = 5\n",
                ": process.memory_percent: met 5, expected 10 to 100",
            ),
            (
                "[process]\ngrace_seconds = 0\n",
                ": process.grace_seconds: met 0, expected 1 to 3600",
            ),
            ("[admin]\nlisten = \"here\"\n", ": admin.listen: "),
            (
                "[log]\nbrokers = \"kafka\"\n",
                ": log.brokers: met \"kafka\", expected host:port,host:port",
            ),
            (
                "[log]\nreplication = 0\n",
                ": log.replication: met 0, expected 1 to 9",
            ),
            ("[log]\nprefix = \"a b\"\n", ": log.prefix: met \"a b\""),
            ("[grpc]\nlisten = \"127.0.0.1:1\"\n", ": grpc.listen: "),
            (
                "[store]\nurl = \"postgres://shoal@db/shoal\"\n",
                ": store.url: tables on PostgreSQL ask for the log on Kafka",
            ),
            (
                "[log]\nbrokers = \"kafka:9092\"\n[store]\nurl = \"postgres://shoal:s3@db/shoal\"\n",
                ": store.url: address of the tables holds a password",
            ),
            (
                "[log]\nbrokers = \"kafka:9092\"\n[store]\nurl = \"postgres://shoal@db/shoal\"\npassword_file = \"nowhere\"\n",
                ": store.password_file: nowhere: No such file",
            ),
            (
                "[store]\nreadings_days = 1\n",
                ": store.readings_days: met 1, expected 2 to 36525 or 0",
            ),
            ("[edge\n", ":1: "),
        ] {
            let said = refused(text);
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn a_gateway_needs_to_know_its_operator() {
        let error = load(None, &[Role::Gateway]).unwrap_err();
        assert_eq!(error.status(), 2);
        assert!(
            error.to_string().contains("peers.operator: missing"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_the_reason() {
        let error = load(Some(Path::new("nowhere.toml")), &[Role::Edge]).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("nowhere.toml: not readable: "), "{said}");
    }
}
