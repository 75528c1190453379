//! Proper scores of quantiles and of samples.

use serde::Serialize;

use super::super::calibrate;
use super::super::num::{index, size};
use crate::LEVELS;

/// Levels of the CRPS: 1 to 99 %.
const FINE: usize = 99;

/// Mean pinball loss at the levels of the score, and the CRPS as twice the mean loss of 99 levels.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loss {
    pub(super) pinball: f64,
    pub(super) crps: f64,
    pub(super) square: f64,
}

fn pinball(level: f64, value: f64, outcome: f64) -> f64 {
    let above = outcome - value;
    (level * above).max((level - 1.0) * above)
}

/// Loss of the distribution whose value at a level is `quantile`.
pub(super) fn loss(quantile: impl Fn(f64) -> f64, outcome: f64) -> Loss {
    let coarse = LEVELS.iter().map(|l| pinball(*l, quantile(*l), outcome));
    let fine = (1..=FINE).map(|i| {
        let level = size(i) / size(FINE + 1);
        pinball(level, quantile(level), outcome)
    });
    Loss {
        pinball: coarse.sum::<f64>() / size(LEVELS.len()),
        crps: 2.0 * fine.sum::<f64>() / size(FINE),
        square: (quantile(0.5) - outcome).powi(2),
    }
}

/// Linear between order statistics (Hyndman and Fan 1996, definition 7); `sorted` is not empty.
pub(super) fn linear(sorted: &[f64], level: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = level * size(last);
    let below = index(place).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - size(below))
}

/// Randomised probability integral transform of `outcome` in a sorted sample: `chance` (0 to 1) picks the place among equals.
pub(super) fn pit(sorted: &[f32], outcome: f64, chance: f64) -> f64 {
    const SAME: f64 = 1e-3;
    let less = sorted.partition_point(|v| f64::from(*v) < outcome - SAME);
    let upto = sorted.partition_point(|v| f64::from(*v) <= outcome + SAME);
    (size(less) + chance * (size(upto - less) + 1.0)) / (size(sorted.len()) + 1.0)
}

pub(super) fn quantile(sorted: &[f32], level: f64) -> f64 {
    f64::from(calibrate::at(sorted, level))
}

/// Shares of outcomes inside the central bands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Of the 50 % band.
    pub band_50: f64,
    /// Of the 80 % band.
    pub band_80: f64,
    /// Of the 90 % band.
    pub band_90: f64,
    /// Outcomes counted.
    pub count: usize,
}

/// Counts randomised transforms.
#[derive(Debug, Clone, Default)]
pub(super) struct Pits {
    values: Vec<f64>,
}

impl Pits {
    pub(super) fn add(&mut self, pit: f64) {
        self.values.push(pit);
    }

    pub(super) fn coverage(&self) -> Coverage {
        let inside = |low: f64| {
            let count = self
                .values
                .iter()
                .filter(|p| (low..1.0 - low).contains(*p))
                .count();
            size(count) / size(self.values.len().max(1))
        };
        Coverage {
            band_50: inside(0.25),
            band_80: inside(0.10),
            band_90: inside(0.05),
            count: self.values.len(),
        }
    }

    /// Shares in `bins` equal bins from 0 to 1.
    pub(super) fn histogram(&self, bins: usize) -> Vec<f64> {
        let mut shares = vec![0.0; bins];
        for pit in &self.values {
            shares[index(pit * size(bins)).min(bins - 1)] += 1.0 / size(self.values.len());
        }
        shares
    }
}

/// Largest number of shortfalls that a promise of `share` explains with 95 %: the 95th percentile of the binomial distribution.
pub(super) fn binomial_95(trials: usize, share: f64) -> usize {
    let mut probability = (1.0 - share).powf(size(trials));
    let mut sum = probability;
    let mut count = 0;
    while sum < 0.95 && count < trials {
        probability *= size(trials - count) / size(count + 1) * share / (1.0 - share);
        count += 1;
        sum += probability;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binomial_limit_is_that_of_the_tables() {
        assert_eq!(binomial_95(100, 0.10), 15);
        assert_eq!(binomial_95(366, 0.10), 46);
        assert_eq!(binomial_95(0, 0.10), 0);
    }

    #[test]
    fn a_certain_forecast_that_comes_true_loses_nothing() {
        let loss = loss(|_| 4.0, 4.0);
        assert!(loss.pinball.abs() < 1e-12 && loss.crps.abs() < 1e-12);
    }

    #[test]
    fn the_randomised_transform_spreads_equals_evenly() {
        let sample = [1.0_f32; 99];
        assert!((pit(&sample, 1.0, 0.25) - 0.25).abs() < 1e-9);
        assert!(pit(&sample, 0.0, 0.5) < 0.01 && pit(&sample, 2.0, 0.5) > 0.99);
    }
}
