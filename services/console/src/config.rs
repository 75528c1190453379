//! Settings of the console, section `[console]`.

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// A plan is made every market time unit of the European intraday markets.
const PLAN_INTERVAL_MINUTES: u32 = 15;

/// The trace on the first page: one reserve accounting period.
const TRACE_MINUTES: u32 = 15;

/// Real seconds that the traces show at least.
const TRACE_SECONDS: f64 = 15.0;

/// Browsers that may watch at once: a control room has a dozen screens.
const MOST_WATCHERS: usize = 64;

/// Settings of the console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Zone in which the page shows instants.
    pub zone: Tz,
    /// Minutes between plans; a plan older than one of these is amber, than two red.
    pub plan_interval_minutes: u32,
    /// Minutes of the traces of power and frequency.
    pub trace_minutes: u32,
    /// Browsers that may watch at once; the next one is told to come back.
    pub most_watchers: usize,
    /// Host names besides IP addresses and `localhost` under which commands are accepted.
    pub hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            zone: Tz::Europe__Amsterdam,
            plan_interval_minutes: PLAN_INTERVAL_MINUTES,
            trace_minutes: TRACE_MINUTES,
            most_watchers: MOST_WATCHERS,
            hosts: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn plan_interval(&self) -> TimeDelta {
        TimeDelta::minutes(self.plan_interval_minutes.into())
    }

    /// Length of the traces: the set minutes, but at least [`TRACE_SECONDS`] of real time, because 15 simulated minutes of
    /// a fast clock hold a handful of points.
    pub(crate) fn trace(&self, speed: f64) -> TimeDelta {
        let set = TimeDelta::minutes(self.trace_minutes.into());
        set.max(real_seconds(TRACE_SECONDS, speed))
    }
}

/// `seconds` of real time in the time of a clock that runs `speed` times as fast.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(crate) fn real_seconds(seconds: f64, speed: f64) -> TimeDelta {
    let millis = (seconds * speed * 1e3).min(1e15) as i64;
    TimeDelta::milliseconds(millis)
}
