//! What is flooded and what is expected, from a TOML file.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::scenario::seconds;

/// More vehicles than one database server holds.
const MOST_VEHICLES: usize = 10_000_000;

/// One scenario.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The powers of the vehicles follow from it.
    #[serde(default)]
    pub(crate) seed: u64,
    pub(crate) flood: Flood,
    #[serde(default)]
    pub(crate) expect: Expect,
}

/// What is put on the log.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flood {
    /// Vehicles, each at an outlet of its own.
    pub(crate) vehicles: usize,
    /// Between two readings of one vehicle.
    pub(crate) period_seconds: f64,
    /// Readings that are on the log before the service starts, in all.
    pub(crate) backlog: u64,
    /// Afterwards readings come at the pace of the vehicles for so long.
    #[serde(default)]
    pub(crate) hold_seconds: f64,
    /// The service is killed so often while it works the backlog off, evenly over it.
    #[serde(default)]
    pub(crate) kills: u64,
    /// Partitions of the topics.
    #[serde(default = "partitions")]
    pub(crate) partitions: u32,
}

const fn partitions() -> u32 {
    24
}

/// What must be met; nothing is lost or doubled in any case.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Readings per second of the service over those of the slower yardstick.
    pub(crate) ratio: Option<f64>,
    /// From a reading to its row, and to the state that follows from it, while the pace is held.
    pub(crate) p99_ms: Option<f64>,
}

impl Scenario {
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let wrong = |e: &dyn std::fmt::Display| Failure::Input(format!("{}: {e}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|e| wrong(&e))?;
        let scenario: Self = toml::from_str(&text).map_err(|e| wrong(&e))?;
        scenario.check().map_err(|e| wrong(&e))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let flood = &self.flood;
        if !(1..=MOST_VEHICLES).contains(&flood.vehicles) {
            let met = flood.vehicles;
            return Err(format!(
                "flood.vehicles: met {met}, expected 1 to {MOST_VEHICLES}"
            ));
        }
        if !(0.1..=600.0).contains(&flood.period_seconds) {
            let met = flood.period_seconds;
            return Err(format!(
                "flood.period_seconds: met {met}, expected 0.1 to 600"
            ));
        }
        if !(0.0..=86_400.0).contains(&flood.hold_seconds) {
            let met = flood.hold_seconds;
            return Err(format!(
                "flood.hold_seconds: met {met}, expected 0 to 86400"
            ));
        }
        if flood.backlog == 0 {
            return Err("flood.backlog: met 0, expected at least 1".to_owned());
        }
        if !(1..=1_000).contains(&flood.partitions) {
            let met = flood.partitions;
            return Err(format!("flood.partitions: met {met}, expected 1 to 1000"));
        }
        Ok(())
    }

    pub(crate) fn period(&self) -> Duration {
        seconds(self.flood.period_seconds)
    }

    pub(crate) fn hold(&self) -> Duration {
        seconds(self.flood.hold_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named_and_the_scenario_beside_reads() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/flood.toml");
        let scenario = Scenario::read(&file).unwrap();
        assert_eq!(scenario.flood.vehicles, 100_000);
        for (key, met) in [
            ("vehicles", "0"),
            ("period_seconds", "0.0"),
            ("hold_seconds", "-1.0"),
            ("backlog", "0"),
            ("partitions", "0"),
        ] {
            let mut wrong = toml::Table::try_from(&scenario).unwrap();
            wrong["flood"][key] = met.parse::<toml::Value>().unwrap();
            let wrong: Scenario = wrong.try_into().unwrap();
            let said = wrong.check().unwrap_err();
            assert!(said.starts_with(&format!("flood.{key}: met")), "{said}");
        }
    }
}
