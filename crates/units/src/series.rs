//! Values on an even grid of intervals.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::Interval;

/// One value per interval, evenly spaced, without gaps: `values[i]` holds over
/// `start + i*step .. start + (i+1)*step`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series<T> {
    start: DateTime<Utc>,
    step: TimeDelta,
    values: Vec<T>,
}

/// A series that could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeriesError {
    /// The step has no positive length.
    #[error("series step is {0}, expected more than zero")]
    Step(TimeDelta),
}

impl<T> Series<T> {
    /// Values from `start` on, one per `step`.
    ///
    /// # Errors
    /// [`SeriesError::Step`] if `step` is not positive.
    pub fn try_new(
        start: DateTime<Utc>,
        step: TimeDelta,
        values: Vec<T>,
    ) -> Result<Self, SeriesError> {
        if step <= TimeDelta::zero() {
            return Err(SeriesError::Step(step));
        }
        Ok(Self {
            start,
            step,
            values,
        })
    }

    /// First instant covered.
    #[must_use]
    pub const fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// Length of one interval.
    #[must_use]
    pub const fn step(&self) -> TimeDelta {
        self.step
    }

    /// Values in order of time.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Number of intervals.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without intervals.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Index of the interval that contains `at`; `None` outside.
    #[must_use]
    pub fn index_of(&self, at: DateTime<Utc>) -> Option<usize> {
        if at < self.start {
            return None;
        }
        let steps = (at - self.start).num_milliseconds() / self.step.num_milliseconds().max(1);
        usize::try_from(steps)
            .ok()
            .filter(|i| *i < self.values.len())
    }

    /// Value of the interval that contains `at`; `None` outside: missing is not zero.
    #[must_use]
    pub fn at(&self, at: DateTime<Utc>) -> Option<&T> {
        self.index_of(at).map(|i| &self.values[i])
    }

    /// Intervals with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Interval, &T)> {
        self.values.iter().scan(self.start, |at, value| {
            let start = *at;
            *at += self.step;
            Interval::try_new(start, *at)
                .ok()
                .map(|interval| (interval, value))
        })
    }

    /// The same grid with other values.
    #[must_use]
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Series<U> {
        Series {
            start: self.start,
            step: self.step,
            values: self.values.iter().map(f).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_the_series_is_missing() {
        let start = "2024-01-01T00:00:00Z".parse().unwrap();
        let series = Series::try_new(start, TimeDelta::minutes(15), vec![1, 2]).unwrap();
        assert_eq!(series.at(start + TimeDelta::minutes(29)), Some(&2));
        assert_eq!(series.at(start + TimeDelta::minutes(30)), None);
        assert_eq!(series.at(start - TimeDelta::seconds(1)), None);
        assert_eq!(series.iter().count(), 2);
    }
}
