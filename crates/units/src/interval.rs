//! Half-open spans of time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A half-open span, `start..end`, never empty, named by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// An interval that would be empty or run backwards.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("interval ends at {end}, which is not after its start {start}")]
pub struct IntervalError {
    /// Start asked for.
    pub start: DateTime<Utc>,
    /// End asked for.
    pub end: DateTime<Utc>,
}

impl Interval {
    /// The span from `start` up to, not including, `end`.
    ///
    /// # Errors
    /// [`IntervalError`] if `end` is not after `start`.
    pub fn try_new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, IntervalError> {
        if end > start {
            Ok(Self { start, end })
        } else {
            Err(IntervalError { start, end })
        }
    }

    /// First instant inside.
    #[must_use]
    pub const fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// First instant after.
    #[must_use]
    pub const fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Length, more than zero.
    #[must_use]
    pub fn length(self) -> TimeDelta {
        self.end - self.start
    }

    /// Length in hours.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for spans under 285 years"
    )]
    pub fn hours(self) -> f64 {
        self.length().num_milliseconds() as f64 / 3_600_000.0
    }

    /// True if `at` is inside.
    #[must_use]
    pub fn contains(self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }

    /// The part shared with `other`, if any.
    #[must_use]
    pub fn overlap(self, other: Self) -> Option<Self> {
        Self::try_new(self.start.max(other.start), self.end.min(other.end)).ok()
    }

    /// Starts of the steps of length `unit` that begin inside.
    ///
    /// # Panics
    /// If `unit` is not positive.
    pub fn steps(self, unit: TimeDelta) -> impl Iterator<Item = DateTime<Utc>> {
        assert!(
            unit > TimeDelta::zero(),
            "a step must have a positive length, got {unit}"
        );
        std::iter::successors(Some(self.start), move |at| Some(*at + unit))
            .take_while(move |at| *at < self.end)
    }
}
