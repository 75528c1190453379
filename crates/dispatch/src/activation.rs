//! How each award was delivered, cycle by cycle.

use market::{Award, Product};
use serde::{Deserialize, Serialize};
use units::Power;

/// Share of cycles that must be within tolerance: the corridor test of the Dutch FCR manual allows 5 % outside.
pub const SHARE_IN_TOLERANCE: f64 = 0.95;

/// Delivery of one award.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The award.
    pub award: Award,
    /// Cycles in which pool power was measured.
    pub cycles: u32,
    /// Of them, those within tolerance.
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

    /// One cycle: what was asked of this product, and by how much the pool was off, if that was measured.
    pub fn cycle(&mut self, request: Power, error: Option<Power>, tolerance: Power) {
        if request.abs() > self.largest_request.abs() {
            self.largest_request = request;
        }
        if let Some(error) = error {
            self.cycles += 1;
            self.in_tolerance += u32::from(error.abs() <= tolerance);
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
