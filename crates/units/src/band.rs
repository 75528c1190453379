//! Quantile bands: what a forecast says instead of one number.

use serde::{Deserialize, Serialize};

/// Quantiles of one quantity in one interval, in rising order of level and of value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Band {
    levels: Vec<f64>,
    values: Vec<f64>,
}

/// Quantiles that do not make a band.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BandError {
    /// Levels and values differ in number, or there are none.
    #[error("{levels} levels with {values} values, expected the same number, at least one")]
    Length {
        /// Number of levels.
        levels: usize,
        /// Number of values.
        values: usize,
    },
    /// A level outside 0 to 1, or not above the one before it.
    #[error("level {0} is not above the one before it and inside 0 to 1")]
    Level(f64),
    /// A value that is not finite.
    #[error("value {0} is not finite")]
    Value(f64),
}

impl Band {
    /// A band. Values that cross are put in rising order, which never raises the pinball loss
    /// (Chernozhukov, Fernandez-Val, Galichon 2010, rearrangement).
    ///
    /// # Errors
    /// [`BandError`] for levels that do not rise inside 0 to 1 or values that are not finite.
    pub fn try_new(levels: Vec<f64>, mut values: Vec<f64>) -> Result<Self, BandError> {
        if levels.len() != values.len() || levels.is_empty() {
            return Err(BandError::Length {
                levels: levels.len(),
                values: values.len(),
            });
        }
        let mut last = f64::NEG_INFINITY;
        for level in &levels {
            if !(0.0..=1.0).contains(level) || *level <= last {
                return Err(BandError::Level(*level));
            }
            last = *level;
        }
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(BandError::Value(*bad));
        }
        values.sort_by(f64::total_cmp);
        Ok(Self { levels, values })
    }

    /// Levels, rising, each from 0 to 1.
    #[must_use]
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// Value at each level, rising.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Value at `level`, linear between the levels held and flat outside them.
    #[must_use]
    pub fn quantile(&self, level: f64) -> f64 {
        let above = self.levels.partition_point(|l| *l < level);
        if above == 0 {
            return self.values[0];
        }
        if above == self.levels.len() {
            return self.values[above - 1];
        }
        let (l0, l1) = (self.levels[above - 1], self.levels[above]);
        let (v0, v1) = (self.values[above - 1], self.values[above]);
        v0 + (v1 - v0) * (level - l0) / (l1 - l0)
    }

    /// The middle value.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_rise_with_their_level(
            values in prop::collection::vec(-1e6_f64..1e6, 3),
            a in 0.0_f64..1.0, b in 0.0_f64..1.0,
        ) {
            let band = Band::try_new(vec![0.1, 0.5, 0.9], values).unwrap();
            prop_assert!(band.quantile(a.min(b)) <= band.quantile(a.max(b)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Band::try_new(vec![], vec![]).is_err());
        assert!(Band::try_new(vec![0.5, 0.1], vec![1.0, 2.0]).is_err());
        assert!(Band::try_new(vec![0.5], vec![f64::NAN]).is_err());
    }
}
