//! Shares between nothing and everything.

use serde::{Deserialize, Serialize};

/// A share that is not between 0 and 1.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{what} is {value}, expected a share from 0 to 1")]
pub struct FractionError {
    /// What the share was meant to be.
    pub what: &'static str,
    /// The value met.
    pub value: f64,
}

/// State of charge of a battery: 0 empty, 1 full.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Soc(f64);

impl Soc {
    /// A state of charge.
    ///
    /// # Errors
    /// [`FractionError`] outside 0 to 1 or not finite.
    pub fn try_new(share: f64) -> Result<Self, FractionError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(FractionError {
                what: "state of charge",
                value: share,
            })
        }
    }

    /// Share from 0 to 1.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}

/// One-way efficiency of a charger: more than 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Efficiency(f64);

impl Efficiency {
    /// An efficiency.
    ///
    /// # Errors
    /// [`FractionError`] at or below 0, above 1, or not finite.
    pub fn try_new(share: f64) -> Result<Self, FractionError> {
        if share > 0.0 && share <= 1.0 {
            Ok(Self(share))
        } else {
            Err(FractionError {
                what: "efficiency",
                value: share,
            })
        }
    }

    /// Share that arrives, more than 0, at most 1.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.0
    }
}
