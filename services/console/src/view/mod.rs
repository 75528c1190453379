//! What people see: the state turned into words, kilowatts and ages.
//!
//! Every value that may be missing is an `Option` and is left out as `null`; the page hatches it.

pub mod effect;
pub mod fleet;
pub mod live;
pub mod trace;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// Power below which an outlet or a pool counts as still: the resolution of most meters.
const STILL_WATTS: i64 = 50;

/// Which way power flows, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// From the grid into vehicles.
    Charging,
    /// From vehicles into the grid.
    Discharging,
    /// Neither.
    Still,
}

impl Flow {
    pub(crate) const fn of(watts: i64) -> Self {
        if watts > STILL_WATTS {
            Self::Charging
        } else if watts < -STILL_WATTS {
            Self::Discharging
        } else {
            Self::Still
        }
    }
}

/// What a view needs to know besides the state.
#[derive(Debug, Clone, Copy)]
pub struct Lens {
    /// The present instant.
    pub now: DateTime<Utc>,
    /// Speed of the clock.
    pub speed: f64,
    /// Time between plans.
    pub plan_interval: TimeDelta,
}

impl Lens {
    /// True if something of `at` is older than `limit` plus five real seconds of this clock.
    pub(crate) fn is_stale(&self, at: DateTime<Utc>, limit: TimeDelta) -> bool {
        self.now - at > limit + crate::config::real_seconds(5.0, self.speed)
    }
}

/// Kilowatts of whole watts.
#[expect(clippy::cast_precision_loss, reason = "exact below 9 petawatt")]
pub(crate) fn kw(watts: i64) -> f64 {
    watts as f64 / 1e3
}

/// Megawatts of whole watts.
pub(crate) fn mw(watts: i64) -> f64 {
    kw(watts) / 1e3
}

/// Kilowatt hours of whole joules.
#[expect(clippy::cast_precision_loss, reason = "exact below 9 petajoule")]
pub(crate) fn kwh(joules: i64) -> f64 {
    joules as f64 / 3.6e6
}

/// An instant, if the calendar can hold it.
pub(crate) fn at(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

/// Text, unless it is empty.
pub(crate) fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
