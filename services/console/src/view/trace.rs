//! Points of the traces of power and frequency.

use chrono::{DateTime, Utc};
use serde::Serialize;
use wire::proto::dispatch::v1::Cycle;

use super::{at, kw};
use crate::state::State;

/// Nominal frequency of the continental grid.
const NOMINAL_HZ: f64 = 50.0;

/// One cycle of the dispatcher as a point of the traces.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Number in the order of arrival.
    pub number: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Planned pool power.
    pub baseline_kw: f64,
    /// Wanted pool power.
    pub target_kw: f64,
    /// Metered pool power.
    pub actual_kw: Option<f64>,
    /// Allowed distance from the target.
    pub tolerance_kw: f64,
    /// Grid frequency.
    pub frequency_hz: Option<f64>,
}

/// Points after the one numbered `after`; all of them for `None`.
#[must_use]
pub fn points(state: &State, after: Option<u64>) -> Vec<Point> {
    let first = after.map_or(0, |number| {
        state.cycles.partition_point(|c| c.number <= number)
    });
    state
        .cycles
        .range(first..)
        .filter_map(|c| point(c.number, &c.cycle))
        .collect()
}

fn point(number: u64, cycle: &Cycle) -> Option<Point> {
    Some(Point {
        number,
        at: at(cycle.at_micros)?,
        baseline_kw: kw(cycle.baseline_watts),
        target_kw: kw(cycle.target_watts),
        actual_kw: cycle.actual_watts.map(kw),
        tolerance_kw: kw(cycle.tolerance_watts),
        frequency_hz: frequency(cycle),
    })
}

/// Grid frequency of a cycle; `None` if none was measured.
pub(crate) fn frequency(cycle: &Cycle) -> Option<f64> {
    cycle
        .deviation_mhz
        .filter(|deviation| deviation.is_finite())
        .map(|deviation| NOMINAL_HZ + deviation / 1e3)
}
