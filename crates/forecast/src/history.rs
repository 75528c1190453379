//! What is known of a quantity, and until when.

use chrono::{DateTime, TimeDelta, Utc};
use units::Series;

/// A series with gaps, cut at the instant up to which it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    series: Series<Option<f64>>,
    until: DateTime<Utc>,
    ahead: bool,
}

impl History {
    /// Measured values: those of intervals that end after `until` are not known yet and are dropped.
    #[must_use]
    pub fn measured(series: &Series<Option<f64>>, until: DateTime<Utc>) -> Self {
        let step = series.step();
        let mut end = series.start();
        let known = series.map(|value| {
            end += step;
            value.filter(|v| v.is_finite() && end <= until)
        });
        Self {
            series: known,
            until,
            ahead: false,
        }
    }

    /// Published values: each was known by `until`, whenever its interval is. The caller leaves out what was published
    /// later.
    #[must_use]
    pub fn published(series: &Series<Option<f64>>, until: DateTime<Utc>) -> Self {
        Self {
            series: series.map(|value| value.filter(|v| v.is_finite())),
            until,
            ahead: true,
        }
    }

    /// Newest instant that may have had an influence.
    #[must_use]
    pub const fn until(&self) -> DateTime<Utc> {
        self.until
    }

    /// Start of the first interval with a value; `None` without any.
    #[must_use]
    pub fn first(&self) -> Option<DateTime<Utc>> {
        self.series
            .iter()
            .find_map(|(interval, v)| v.is_some().then(|| interval.start()))
    }

    /// Length of an interval of the past.
    #[must_use]
    pub const fn step(&self) -> TimeDelta {
        self.series.step()
    }

    /// Value of the interval that contains `at`, if it is known.
    #[must_use]
    pub fn at(&self, at: DateTime<Utc>) -> Option<f64> {
        self.series.at(at).copied().flatten()
    }

    /// The value of an interval ahead that was published already.
    pub(crate) fn known_ahead(&self, at: DateTime<Utc>) -> Option<f64> {
        self.at(at).filter(|_| self.ahead)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = f64> {
        self.series.values().iter().copied().flatten()
    }
}
