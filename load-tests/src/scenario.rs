//! What a fleet does, from a TOML file: unknown keys are refused, everything has a default but the number of stations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocpp_kit::Version;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Connections that a server may have beyond its stations: old ones that are not gone yet while new ones come.
const SPARE: usize = 1_000;

/// More stations than one host has addresses and memory for.
const MOST_STATIONS: usize = 1_000_000;

/// Services of which the platform has one process each.
const SERVICES: [&str; 4] = ["telemetry-ingest", "forecaster", "optimizer", "console"];

/// One scenario.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Everything random follows from it.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    pub(crate) fleet: Fleet,
    #[serde(default)]
    pub(crate) behaviour: Behaviour,
    #[serde(default)]
    pub(crate) security: Security,
    #[serde(default)]
    pub(crate) faults: Faults,
    /// For `shoal-load edge` alone.
    #[serde(default)]
    pub(crate) edge: Edge,
    /// For `shoal-load edge` alone.
    #[serde(default)]
    pub(crate) expect: Expect,
    /// For `shoal-load faults` alone.
    #[serde(default)]
    pub(crate) platform: Platform,
}

const fn one() -> u64 {
    1
}

/// Who connects.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fleet {
    pub(crate) stations: usize,
    /// `{n}` is the number of the station, from 0.
    #[serde(default = "identity")]
    pub(crate) identity: String,
    /// Shares of the versions `1.6`, `2.0.1`, `2.1`; they are taken relative to their sum.
    #[serde(default = "versions")]
    pub(crate) versions: BTreeMap<String, f64>,
    /// Connections opened per second, over all processes.
    #[serde(default = "connects")]
    pub(crate) connects_per_second: f64,
    /// Generator processes; 0 takes as many as the limit of open files asks for.
    #[serde(default)]
    pub(crate) processes: usize,
    /// Time measured once all stations are connected.
    #[serde(default = "hold")]
    pub(crate) hold_seconds: f64,
    /// Time that stations get to bring home what they have in hand at the end.
    #[serde(default = "drain")]
    pub(crate) drain_seconds: f64,
}

fn identity() -> String {
    "load-{n}".to_owned()
}

fn versions() -> BTreeMap<String, f64> {
    [("1.6", 0.4), ("2.0.1", 0.3), ("2.1", 0.3)]
        .map(|(version, share)| (version.to_owned(), share))
        .into()
}

const fn connects() -> f64 {
    200.0
}

const fn hold() -> f64 {
    60.0
}

const fn drain() -> f64 {
    30.0
}

/// What stations and their drivers do.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Behaviour {
    /// Between meter values while plugged in; 0 sends none.
    pub(crate) meter_seconds: f64,
    /// Share of stations with a vehicle when they start.
    pub(crate) plugged_share: f64,
    /// Mean of a stay; 0 never unplugs.
    pub(crate) stay_seconds: f64,
    /// Mean between stays; 0 never plugs in again.
    pub(crate) away_seconds: f64,
    /// Between heartbeats; 0 sends none.
    pub(crate) heartbeat_seconds: f64,
    /// From a set-point to the power that follows it.
    pub(crate) reaction_seconds: f64,
    /// Share of 2.1 stations whose vehicles may discharge.
    pub(crate) v2g_share: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            meter_seconds: 60.0,
            plugged_share: 0.5,
            stay_seconds: 1_800.0,
            away_seconds: 600.0,
            heartbeat_seconds: 300.0,
            reaction_seconds: 0.5,
            v2g_share: 0.5,
        }
    }
}

/// How stations authenticate: the security profiles of OCPP.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Security {
    /// 0 nothing, 1 a key, 2 TLS and a key, 3 TLS with a certificate of the station.
    pub(crate) profile: u8,
    /// Who signed the server's certificate, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// Certificate of the station, PEM; `{id}` is its identity.
    pub(crate) certificate: Option<String>,
    /// Its key, PEM; `{id}` is its identity.
    pub(crate) key: Option<String>,
    /// Key of the station; `{id}` is its identity.
    pub(crate) password: Option<String>,
    /// File with `identity password` per line; goes before the pattern.
    pub(crate) passwords: Option<PathBuf>,
}

/// What goes wrong. Shares are of meter values, `silent` of stations.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Faults {
    /// Sent this much later.
    pub(crate) late_share: f64,
    pub(crate) late_seconds: f64,
    /// Sampled and never sent.
    pub(crate) lost_share: f64,
    /// Sent twice.
    pub(crate) duplicated_share: f64,
    /// Sent after the one that follows.
    pub(crate) swapped_share: f64,
    /// Stations that never answer a call.
    pub(crate) silent_share: f64,
    /// All connections drop at once at these times after the last station connected.
    pub(crate) storms_at_seconds: Vec<f64>,
}

/// The server process that `shoal-load edge` starts, and what happens to it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Edge {
    /// Processes; stations are dealt to them in turn.
    pub(crate) replicas: usize,
    /// Outlets that get set-points, over all replicas.
    pub(crate) setpoint_outlets: usize,
    /// Between set-points of one outlet.
    pub(crate) setpoint_seconds: f64,
    /// Life of a set-point.
    pub(crate) setpoint_life_seconds: f64,
    /// Power of set-points; negative discharges where that can be said, and is a limit of zero elsewhere.
    pub(crate) setpoint_kw: f64,
    /// Kill every replica this long after all were connected.
    pub(crate) kill_at_seconds: Option<f64>,
    /// Start them again at once.
    pub(crate) restart: bool,
    /// Stations of the runs before the last one; each run is a row of the curve.
    pub(crate) curve: Vec<usize>,
    /// Time connected stations keep quiet before memory is read.
    pub(crate) settle_seconds: f64,
    /// Further settings of the edge, as below `[edge]` of its own file.
    pub(crate) settings: toml::Table,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            replicas: 1,
            setpoint_outlets: 0,
            setpoint_seconds: 4.0,
            setpoint_life_seconds: 60.0,
            setpoint_kw: 5.0,
            kill_at_seconds: None,
            restart: false,
            curve: Vec::new(),
            settle_seconds: 5.0,
            settings: toml::Table::new(),
        }
    }
}

/// The processes that `shoal-load faults` starts and kills; the broker is one of them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Platform {
    pub(crate) edges: usize,
    pub(crate) gateways: usize,
    /// One process each, of telemetry-ingest, forecaster, optimizer, console.
    pub(crate) services: Vec<String>,
    /// Kills over the time of the run.
    pub(crate) kills: usize,
    /// Mean time before what was killed is started again.
    pub(crate) down_seconds: f64,
    /// Brokers of the log; of three, one may be away.
    pub(crate) brokers: usize,
    /// If not 0, a broker is not killed but stopped for so long, as if it were cut off: it comes back with what it
    /// believed before.
    pub(crate) cut_off_seconds: f64,
    /// Reserve that `shoal-load signal` grants once for the whole run.
    pub(crate) reserve_kw_per_station: f64,
    /// Between bids published, and between reserve granted.
    pub(crate) bids_every_seconds: f64,
    pub(crate) awards_every_seconds: f64,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            edges: 2,
            gateways: 2,
            services: SERVICES.map(str::to_owned).to_vec(),
            kills: 0,
            down_seconds: 1.0,
            brokers: 1,
            cut_off_seconds: 0.0,
            reserve_kw_per_station: 1.0,
            bids_every_seconds: 2.0,
            awards_every_seconds: 20.0,
        }
    }
}

impl Platform {
    fn check(&self) -> Result<(), String> {
        const HOUR: f64 = 3_600.0;
        for (key, count) in [("edges", self.edges), ("gateways", self.gateways)] {
            if !(1..=16).contains(&count) {
                return Err(format!("platform.{key}: met {count}, expected 1 to 16"));
            }
        }
        let unknown = self
            .services
            .iter()
            .find(|name| !SERVICES.contains(&name.as_str()));
        if let Some(unknown) = unknown {
            let known = SERVICES.join(", ");
            return Err(format!(
                "platform.services: met {unknown:?}, expected some of {known}"
            ));
        }
        if !self.services.iter().any(|name| name == "telemetry-ingest") {
            return Err("platform.services: expected telemetry-ingest among them".to_owned());
        }
        if !(1..=9).contains(&self.brokers) {
            let met = self.brokers;
            return Err(format!("platform.brokers: met {met}, expected 1 to 9"));
        }
        within("platform.down_seconds", self.down_seconds, 0.0, HOUR)?;
        let cut_off = ("platform.cut_off_seconds", self.cut_off_seconds);
        within(cut_off.0, cut_off.1, 0.0, HOUR)?;
        within(
            "platform.reserve_kw_per_station",
            self.reserve_kw_per_station,
            0.001,
            100.0,
        )?;
        within(
            "platform.bids_every_seconds",
            self.bids_every_seconds,
            0.01,
            HOUR,
        )?;
        within(
            "platform.awards_every_seconds",
            self.awards_every_seconds,
            0.1,
            HOUR,
        )
    }
}

/// Bars that a run must meet; those not given are not judged.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Telemetry that stations know to be taken and that is not on the log.
    pub(crate) lost: Option<u64>,
    /// Telemetry that is on the log more than once.
    pub(crate) doubled: Option<u64>,
    pub(crate) idle_kib_per_station: Option<f64>,
    pub(crate) setpoint_p99_ms: Option<f64>,
    /// From a signal to its last set-point on a socket, for `shoal-load signal`.
    pub(crate) signal_p99_ms: Option<f64>,
    /// From the start of the new process until every station is connected.
    pub(crate) back_seconds: Option<f64>,
    /// Discharging after the timer of the last set-point ran out.
    pub(crate) discharging_after_timer: Option<u64>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// Status 2 with the file and the line or key.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let shown = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|e| Failure::Input(format!("{shown}: not readable: {e}")))?;
        let scenario: Self = toml::from_str(&text).map_err(|wrong| {
            let before = wrong.span().map_or(0, |span| span.start);
            let line = text.bytes().take(before).filter(|b| *b == b'\n').count() + 1;
            Failure::Input(format!("{shown}:{line}: {}", wrong.message()))
        })?;
        scenario
            .check()
            .map_err(|wrong| Failure::Input(format!("{shown}: {wrong}")))?;
        Ok(scenario)
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The key, what was met and what was expected.
    pub(crate) fn check(&self) -> Result<(), String> {
        let stations = self.fleet.stations;
        if !(1..=MOST_STATIONS).contains(&stations) {
            return Err(format!(
                "fleet.stations: met {stations}, expected 1 to {MOST_STATIONS}"
            ));
        }
        if !self.fleet.identity.contains("{n}") {
            let met = &self.fleet.identity;
            return Err(format!(
                "fleet.identity: met {met:?}, expected a pattern with {{n}}"
            ));
        }
        self.check_versions()?;
        self.check_numbers()?;
        self.security.check()?;
        self.platform.check()?;
        if self.edge.replicas == 0 {
            return Err("edge.replicas: met 0, expected at least 1".to_owned());
        }
        Ok(())
    }

    fn check_versions(&self) -> Result<(), String> {
        let mut sum = 0.0;
        for (name, share) in &self.fleet.versions {
            if version(name).is_none() {
                return Err(format!(
                    "fleet.versions: met {name:?}, expected 1.6, 2.0.1 or 2.1"
                ));
            }
            within(&format!("fleet.versions.{name}"), *share, 0.0, 1e9)?;
            sum += share;
        }
        if sum > 0.0 {
            Ok(())
        } else {
            Err("fleet.versions: met no share above 0, expected at least one".to_owned())
        }
    }

    fn check_numbers(&self) -> Result<(), String> {
        const WEEK: f64 = 7.0 * 86_400.0;
        let (fleet, behaviour, faults, edge) =
            (&self.fleet, &self.behaviour, &self.faults, &self.edge);
        let shares = [
            ("behaviour.plugged_share", behaviour.plugged_share),
            ("behaviour.v2g_share", behaviour.v2g_share),
            ("faults.late_share", faults.late_share),
            ("faults.lost_share", faults.lost_share),
            ("faults.duplicated_share", faults.duplicated_share),
            ("faults.swapped_share", faults.swapped_share),
            ("faults.silent_share", faults.silent_share),
        ];
        for (key, share) in shares {
            within(key, share, 0.0, 1.0)?;
        }
        let seconds = [
            ("fleet.hold_seconds", fleet.hold_seconds),
            ("fleet.drain_seconds", fleet.drain_seconds),
            ("behaviour.meter_seconds", behaviour.meter_seconds),
            ("behaviour.stay_seconds", behaviour.stay_seconds),
            ("behaviour.away_seconds", behaviour.away_seconds),
            ("behaviour.heartbeat_seconds", behaviour.heartbeat_seconds),
            ("behaviour.reaction_seconds", behaviour.reaction_seconds),
            ("faults.late_seconds", faults.late_seconds),
            ("edge.settle_seconds", edge.settle_seconds),
            ("edge.kill_at_seconds", edge.kill_at_seconds.unwrap_or(0.0)),
        ];
        for (key, value) in seconds {
            within(key, value, 0.0, WEEK)?;
        }
        within("edge.setpoint_seconds", edge.setpoint_seconds, 0.01, WEEK)?;
        within(
            "edge.setpoint_life_seconds",
            edge.setpoint_life_seconds,
            1.0,
            WEEK,
        )?;
        within("edge.setpoint_kw", edge.setpoint_kw, -1_000.0, 1_000.0)?;
        within(
            "fleet.connects_per_second",
            fleet.connects_per_second,
            0.01,
            1e6,
        )
    }

    /// Identity of station `n`.
    pub(crate) fn identity(&self, n: usize) -> String {
        self.fleet.identity.replace("{n}", &n.to_string())
    }

    /// Version of station `n`: dealt so that any run of neighbours has the given shares.
    pub(crate) fn version(&self, n: usize) -> Version {
        /// Fractional part of the golden ratio: its multiples spread evenly over 0 to 1.
        const GOLDEN: f64 = 0.618_033_988_749_895;
        let sum: f64 = self.fleet.versions.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "at most a million")]
        let mut at = (n as f64 * GOLDEN).fract() * sum;
        let mut last = Version::V1_6;
        for (name, share) in &self.fleet.versions {
            if *share > 0.0 {
                last = version(name).unwrap_or(last);
                if at < *share {
                    return last;
                }
            }
            at -= share;
        }
        last
    }

    /// Settings of an edge that has room for so many stations, unless the scenario says for how many.
    pub(crate) fn edge_with_room(&self, stations: usize) -> toml::Table {
        let mut settings = self.edge.settings.clone();
        let room = i64::try_from(stations + SPARE).unwrap_or(i64::MAX);
        settings
            .entry("max_connections")
            .or_insert(toml::Value::Integer(room));
        settings
    }

    pub(crate) fn hold(&self) -> Duration {
        seconds(self.fleet.hold_seconds)
    }

    pub(crate) fn drain(&self) -> Duration {
        seconds(self.fleet.drain_seconds)
    }
}

impl Security {
    fn check(&self) -> Result<(), String> {
        let missing = |key: &str| {
            Err(format!(
                "security.{key}: missing, expected with profile {}",
                self.profile
            ))
        };
        if self.profile > 3 {
            return Err(format!(
                "security.profile: met {}, expected 0 to 3",
                self.profile
            ));
        }
        if matches!(self.profile, 1 | 2) && self.password.is_none() && self.passwords.is_none() {
            return missing("password");
        }
        if self.profile == 3 && self.certificate.is_none() {
            return missing("certificate");
        }
        if self.profile == 3 && self.key.is_none() {
            return missing("key");
        }
        Ok(())
    }

    pub(crate) const fn is_encrypted(&self) -> bool {
        self.profile >= 2
    }
}

fn version(name: &str) -> Option<Version> {
    match name {
        "1.6" => Some(Version::V1_6),
        "2.0.1" => Some(Version::V2_0_1),
        "2.1" => Some(Version::V2_1),
        _ => None,
    }
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(format!("{key}: met {value}, expected {least} to {most}"))
    }
}

/// Checked seconds as a duration.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Scenario {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_scenarios_that_are_shipped_are_valid() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut read = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let file = entry.unwrap().path();
            // What floods the log has no stations.
            if file.ends_with("flood.toml") {
                crate::flood::scenario::Scenario::read(&file).unwrap();
            } else {
                Scenario::read(&file).unwrap();
            }
            read += 1;
        }
        assert!(read >= 4, "{read}");
    }

    #[test]
    fn versions_are_dealt_in_their_shares() {
        let scenario = parse(
            "name = \"x\"\n[fleet]\nstations = 1000\nversions = { \"1.6\" = 2, \"2.1\" = 6, \"2.0.1\" = 2 }",
        );
        let count = |wanted: Version| {
            (0..1_000)
                .filter(|n| scenario.version(*n) == wanted)
                .count()
        };
        assert!((190..=210).contains(&count(Version::V1_6)));
        assert!((190..=210).contains(&count(Version::V2_0_1)));
        assert!((580..=620).contains(&count(Version::V2_1)));
    }

    #[test]
    fn what_cannot_be_played_is_refused_by_key() {
        for (text, expected) in [
            ("stations = 0", "fleet.stations: met 0"),
            ("stations = 1\nidentity = \"x\"", "fleet.identity: met"),
            (
                "stations = 1\nversions = { \"3.0\" = 1.0 }",
                "fleet.versions: met \"3.0\"",
            ),
            (
                "stations = 1\n[faults]\nlost_share = 2.0",
                "faults.lost_share: met 2",
            ),
            (
                "stations = 1\n[security]\nprofile = 4",
                "security.profile: met 4",
            ),
            (
                "stations = 1\n[security]\nprofile = 2",
                "security.password: missing",
            ),
        ] {
            let scenario = parse(&format!("name = \"x\"\n[fleet]\n{text}"));
            let said = scenario.check().unwrap_err();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }
}
