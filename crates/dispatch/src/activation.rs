//! How each award was delivered, cycle by cycle.

use chrono::{DateTime, TimeDelta, Utc};
use market::{Award, Product};
use serde::{Deserialize, Serialize};
use units::Power;

/// Share of cycles that must be within tolerance: the corridor test of the Dutch FCR manual allows 5 % outside.
pub const SHARE_IN_TOLERANCE: f64 = 0.95;

/// How long the pool has been off. A vehicle that leaves moves the pool at once; the others get the same time to answer
/// that as they get to answer a signal, and only an error that outlasts it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Excursion {
    since: Option<DateTime<Utc>>,
}

impl Excursion {
    /// Notes whether the pool is off at `now`; true once it has been off for longer than `settling` without a break.
    pub fn lasts(&mut self, now: DateTime<Utc>, off: bool, settling: TimeDelta) -> bool {
        self.since = off.then(|| self.since.unwrap_or(now));
        self.since.is_some_and(|since| now - since > settling)
    }
}

/// Delivery of one award.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The award.
    pub award: Award,
    /// Cycles in which pool power was measured.
    pub cycles: u32,
    /// Of them, those within tolerance or off for no longer than the settling time.
    pub in_tolerance: u32,
    /// Sum of the sizes of the error, watts.
    error_sum: f64,
    /// Largest change asked for so far, by size, with its sign.
    pub largest_request: Power,
}

impl Delivery {
    /// Nothing delivered yet.
    #[must_use]
    pub const fn new(award: Award) -> Self {
        Self {
            award,
            cycles: 0,
            in_tolerance: 0,
            error_sum: 0.0,
            largest_request: Power::ZERO,
        }
    }

    /// One cycle: what was asked of this product, by how much the pool was off, if that was measured, and whether that
    /// counts as followed (see [`Excursion`]).
    pub fn cycle(&mut self, request: Power, error: Option<Power>, followed: bool) {
        if request.abs() > self.largest_request.abs() {
            self.largest_request = request;
        }
        if let Some(error) = error {
            self.cycles += 1;
            self.in_tolerance += u32::from(followed);
            self.error_sum += error.abs().kw() * 1e3;
        }
    }

    /// Mean size of the error, watts; zero before anything was measured.
    #[must_use]
    pub fn mean_abs_error_watts(&self) -> f64 {
        if self.cycles == 0 {
            0.0
        } else {
            self.error_sum / f64::from(self.cycles)
        }
    }

    /// True if the pool followed in at least 95 % of the measured cycles; false while nothing was measured: there is no evidence.
    #[must_use]
    pub fn followed(&self) -> bool {
        self.cycles > 0
            && f64::from(self.in_tolerance) >= SHARE_IN_TOLERANCE * f64::from(self.cycles)
    }

    /// The change asked of the award's product in `target`.
    #[must_use]
    pub fn request(&self, target: &crate::Target) -> Power {
        match self.award.product {
            Product::Fcr => target.fcr,
            Product::AfrrUp => target.afrr.min(Power::ZERO),
            Product::AfrrDown => target.afrr.max(Power::ZERO),
            Product::DayAhead => Power::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_counts_once_it_outlasts_the_settling_time() {
        let start: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let settling = TimeDelta::seconds(30);
        let mut excursion = Excursion::default();
        let mut lasts =
            |second, off| excursion.lasts(start + TimeDelta::seconds(second), off, settling);
        assert!(!lasts(0, true));
        assert!(!lasts(30, true));
        assert!(lasts(31, true));
        assert!(!lasts(32, false));
        assert!(!lasts(33, true), "a break begins the count again");
    }
}
