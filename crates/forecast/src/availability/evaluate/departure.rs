//! When a vehicle leaves, said as it plugs in.

use serde::Serialize;

use super::super::donor::HALF_LIFE;
use super::super::kind::Days;
use super::super::leaving::Leavings;
use super::super::num::{real, size};
use super::super::stay::Stays;
use super::super::visit::Present;
use super::baseline::median_stays;
use crate::availability::Forecaster;

/// Mean absolute errors of the departure at plug-in, hours.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Departure {
    /// Visits scored: those whose driver said something, or all if none did.
    pub visits: usize,
    /// Median of the model.
    pub model_hours: f64,
    /// The driver's own statement; `None` if none said anything.
    pub said_hours: Option<f64>,
    /// Median stay by hour of arrival before the test.
    pub naive_hours: f64,
    /// Model over statement.
    pub of_said_ratio: Option<f64>,
    /// Model over naive.
    pub of_naive_ratio: f64,
}

/// Scores visits plugged in from `from` to before `to`.
pub(super) fn score(
    forecaster: &Forecaster<'_>,
    (from, to): (i64, i64),
    threads: usize,
) -> Departure {
    let log = forecaster.log();
    let off = log.off();
    let mut leavings = Leavings::default();
    let naive = median_stays(log, from);
    let in_test = || log.visits().filter(|v| v.start >= from && v.start < to);
    let said_by_some = in_test().any(|v| v.said_end.is_some());
    let mut found = Departure::default();
    let mut said = 0.0;
    let mut kinds: Option<(i32, Days)> = None;
    for visit in in_test().filter(|v| !said_by_some || v.said_end.is_some()) {
        let view = log.view(visit.start);
        if kinds.as_ref().is_none_or(|(day, _)| *day != visit.day) {
            leavings.learn(log, (visit.day, 0), threads);
            kinds = Some((visit.day, Days::new(&view, visit.day, off, HALF_LIFE)));
        }
        let Some((_, days)) = &kinds else { continue };
        let rests = Stays::new(&view, days, off, leavings.of(visit.day))
            .of(&Present::of(&visit, visit.start), days.kind(visit.day, off));
        found.model_hours += (real(rests.at(0.5).length) / 3600.0 - visit.hours()).abs();
        let hour = usize::try_from(visit.clock / 3600).unwrap_or(0).min(23);
        found.naive_hours += (naive[hour] - visit.hours()).abs();
        said += visit
            .said_end
            .map_or(0.0, |e| real((e - visit.end).abs()) / 3600.0);
        found.visits += 1;
    }
    let count = size(found.visits.max(1));
    found.model_hours /= count;
    found.naive_hours /= count;
    found.said_hours = said_by_some.then_some(said / count);
    found.of_said_ratio = found.said_hours.map(|s| found.model_hours / s);
    found.of_naive_ratio = found.model_hours / found.naive_hours.max(f64::MIN_POSITIVE);
    found
}
