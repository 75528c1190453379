//! What can be chosen.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;
use fleet::SiteId;
use forecast::availability::Ask;
use serde::{Deserialize, Serialize};

/// Configuration of the forecaster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the pool in published forecasts.
    pub pool: String,
    /// Zone whose local clock people and prices keep.
    pub zone: Tz,
    /// Minutes between rounds.
    pub every_minutes: u32,
    /// Hours ahead: the day after the next gate ends 42 hours after it opens.
    pub horizon_hours: u32,
    /// Minutes per step.
    pub step_minutes: u32,
    /// Weeks of history asked for on start: eight with data, and two in case some are missing.
    pub history_weeks: u32,
    /// Days known long before on which fewer people come: holidays and closures.
    pub days_off: Vec<NaiveDate>,
    /// Network area of sites; those not listed lie in none.
    pub areas: BTreeMap<SiteId, String>,
    /// Paths drawn per forecast.
    pub paths: u32,
    /// Ways the time ahead may go that are told visit by visit.
    pub scenarios: u32,
    /// Threads that a forecast may use; it does not depend on them.
    pub threads: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pool: "pool".to_owned(),
            zone: Tz::Europe__Amsterdam,
            every_minutes: 60,
            horizon_hours: 48,
            step_minutes: 15,
            history_weeks: 10,
            days_off: Vec::new(),
            areas: BTreeMap::new(),
            paths: 200,
            scenarios: 8,
            threads: 2,
        }
    }
}

impl Config {
    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("every_minutes", self.every_minutes),
            ("horizon_hours", self.horizon_hours),
            ("step_minutes", self.step_minutes),
            ("history_weeks", self.history_weeks),
            ("paths", self.paths),
            ("scenarios", self.scenarios),
            ("threads", self.threads),
        ] {
            if value == 0 {
                return Err(format!("{name} is 0, expected at least 1"));
            }
        }
        if 60 % self.step_minutes != 0 {
            return Err(format!(
                "step_minutes is {}, which does not divide an hour",
                self.step_minutes
            ));
        }
        Ok(())
    }

    /// What is asked of the availability forecast.
    pub(crate) fn ask(&self, seed: u64) -> Ask {
        let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        Ask {
            step: self.step(),
            hours: size(self.horizon_hours),
            paths: size(self.paths),
            seed,
            by_group: true,
            threads: size(self.threads),
        }
    }

    pub(crate) fn every(&self) -> TimeDelta {
        TimeDelta::minutes(self.every_minutes.into())
    }

    pub(crate) fn step(&self) -> TimeDelta {
        TimeDelta::minutes(self.step_minutes.into())
    }

    pub(crate) fn horizon(&self) -> TimeDelta {
        TimeDelta::hours(self.horizon_hours.into())
    }

    pub(crate) fn history(&self) -> TimeDelta {
        TimeDelta::weeks(self.history_weeks.into())
    }
}
