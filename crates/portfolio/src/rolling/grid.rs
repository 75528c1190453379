//! The grid of a rolling plan: quarter hours from the one that is running.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use units::Interval;

/// Length of a step, hours.
pub(super) const STEP_HOURS: f64 = 0.25;

/// Length of a step.
pub const STEP: TimeDelta = TimeDelta::minutes(15);

/// Equal steps; of the first one only the rest is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    now: DateTime<Utc>,
    start: DateTime<Utc>,
    steps: usize,
    first_hours: f64,
}

impl Grid {
    /// `steps` quarter hours, beginning with the one that contains `now`; at least one.
    #[must_use]
    pub fn new(now: DateTime<Utc>, steps: usize) -> Self {
        let start = now.duration_trunc(STEP).unwrap_or(now);
        let left = Interval::try_new(now, start + STEP).map_or(STEP_HOURS, Interval::hours);
        Self {
            now,
            start,
            steps: steps.max(1),
            first_hours: left,
        }
    }

    /// The instant the plan is made for.
    #[must_use]
    pub const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Start of the first step.
    #[must_use]
    pub const fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// Number of steps.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.steps
    }

    /// Never: a grid has a step.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.steps == 0
    }

    /// Start of step `index`; of the step after the last, the end.
    #[must_use]
    pub fn at(&self, index: usize) -> DateTime<Utc> {
        self.start + STEP * i32::try_from(index).unwrap_or(i32::MAX / 2_000)
    }

    /// First instant after the grid.
    #[must_use]
    pub fn end(&self) -> DateTime<Utc> {
        self.at(self.steps)
    }

    /// Hours of step `index` that are still ahead.
    #[must_use]
    pub fn hours(&self, index: usize) -> f64 {
        if index == 0 {
            self.first_hours
        } else {
            STEP_HOURS
        }
    }

    /// Steps touched by `from..to` as first index and share of what is ahead of each; empty if it lies outside.
    #[must_use]
    pub fn shares(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> (usize, Vec<f64>) {
        let mut first = 0;
        let mut shares = Vec::new();
        for index in 0..self.steps {
            let (begin, end) = (self.at(index).max(self.now), self.at(index + 1));
            let share = match (
                Interval::try_new(begin, end),
                Interval::try_new(begin.max(from), end.min(to)),
            ) {
                (Ok(whole), Ok(part)) => (part.hours() / whole.hours()).min(1.0),
                _ => 0.0,
            };
            if share > 0.0 {
                if shares.is_empty() {
                    first = index;
                }
                shares.push(share);
            } else if !shares.is_empty() {
                break;
            }
        }
        (first, shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_running_quarter_hour_only_the_rest_counts() {
        let at = |t: &str| t.parse::<DateTime<Utc>>().unwrap();
        let grid = Grid::new(at("2026-03-29T00:05:00Z"), 4);
        assert_eq!(grid.start(), at("2026-03-29T00:00:00Z"));
        assert!((grid.hours(0) - 1.0 / 6.0).abs() < 1e-12);
        assert_eq!(grid.end(), at("2026-03-29T01:00:00Z"));
        let (first, shares) = grid.shares(at("2026-03-28T00:00:00Z"), at("2026-03-29T00:35:00Z"));
        assert_eq!((first, shares.len()), (0, 3));
        assert!((shares[0] - 1.0).abs() < 1e-12 && (shares[2] - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(
            grid.shares(at("2026-03-29T02:00:00Z"), at("2026-03-29T03:00:00Z"))
                .1
                .len(),
            0
        );
    }
}
