//! Stays of vehicles as the forecast sees them: when, how much, how fast.

use chrono::{DateTime, TimeDelta, Utc};
use units::{Efficiency, Energy, Interval, Power};

/// One stay at the outlet `K` (the caller's name for a place).
#[derive(Debug, Clone, PartialEq)]
pub struct Stay<K> {
    /// Where.
    pub outlet: K,
    /// From plug-in to plug-out.
    pub span: Interval,
    /// Energy to add, inside the battery, at least zero.
    pub energy: Energy,
    /// Energy in the battery at the start; unknown is `None`.
    pub stored: Option<Energy>,
    /// Usable size of the battery, if known.
    pub capacity: Option<Energy>,
    /// Highest charging power at the grid side.
    pub max_charge: Power,
    /// Highest discharging power at the grid side as a magnitude; zero if it may not discharge.
    pub max_discharge: Power,
    /// Level below which it is never discharged.
    pub floor: Energy,
    /// Share of grid energy that reaches the battery.
    pub charge_efficiency: Efficiency,
    /// Share of battery energy that reaches the grid.
    pub discharge_efficiency: Efficiency,
}

impl<K> Stay<K> {
    /// When the battery has what it needs if it charges at once at full power: at the latest at the end of the stay.
    #[must_use]
    pub fn charged_by(&self) -> DateTime<Utc> {
        let kw = self.max_charge.kw() * self.charge_efficiency.share();
        if kw <= 0.0 {
            return self.span.end();
        }
        let seconds = (self.energy.kwh().max(0.0) / kw * 3_600.0).min(1e9);
        #[expect(clippy::cast_possible_truncation, reason = "at most 1e12 milliseconds")]
        let length = TimeDelta::milliseconds((seconds * 1e3).round() as i64);
        (self.span.start() + length).min(self.span.end())
    }
}

/// A vehicle that is plugged in now. Its energy is what is still to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugged<K> {
    /// Where it stands and what it needs from now on; `span.start()` is its plug-in, `span.end()` is not used.
    pub stay: Stay<K>,
    /// When it leaves, if somebody said.
    pub departure: Option<DateTime<Utc>>,
}
