//! Paths as a whole: sums over blocks of hours, and the energy score.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::super::log::Log;
use super::super::num::{narrow, size};
use super::super::observed::Observed;
use super::LEADS;
use super::baseline::chance;
use super::score::{Coverage, Pits, pit};
use crate::Quantity;
use crate::availability::Availability;

/// Quarter hours of a block.
const BLOCK: usize = 16;
/// Partners of each path in the second term of the energy score.
const PARTNERS: usize = 10;

/// Scores of paths as a whole, of vehicles plugged in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Joint {
    /// Of the sum over the quarter hours of a local four-hour block.
    pub block_sum: Coverage,
    /// The same with every step's values shuffled among the paths: what independent draws would cover.
    pub block_sum_shuffled: Coverage,
    /// Energy score over leads of 1 to 36 h (Gneiting and Raftery 2007, equation 22).
    pub energy_score: f64,
    /// The same with the values shuffled.
    pub energy_score_shuffled: f64,
}

#[derive(Debug)]
pub(super) struct Tally {
    rng: ChaCha8Rng,
    seed: u64,
    sums: Pits,
    shuffled: Pits,
    energy: f64,
    energy_shuffled: f64,
    count: usize,
}

impl Tally {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0x6a6f_696e_7400),
            seed,
            sums: Pits::default(),
            shuffled: Pits::default(),
            energy: 0.0,
            energy_shuffled: 0.0,
            count: 0,
        }
    }

    pub(super) fn add(&mut self, log: &Log, truth: &Observed, ahead: &Availability) {
        let steps = ahead.paths.steps();
        let values = ahead.paths.of(Quantity::PluggedIn);
        let mut mixed = values.to_vec();
        let paths = values.len() / steps.max(1);
        for step in 0..steps {
            for path in (1..paths).rev() {
                let other = self.rng.random_range(0..=path);
                mixed.swap(path * steps + step, other * steps + step);
            }
        }
        let origin = ahead.until.timestamp();
        let at = |k: usize| origin + 900 * i64::try_from(k).unwrap_or(0);
        for from in 0..=4 * LEADS - BLOCK {
            if log.clock(at(from)).1 % (4 * 3600) != 0 || from == 0 {
                continue;
            }
            let came: Option<Vec<f64>> = (from..from + BLOCK)
                .map(|k| truth.at(Quantity::PluggedIn, at(k)))
                .collect();
            let Some(came) = came else { continue };
            let came: f64 = came.iter().sum();
            let chance = chance(self.seed, at(from), from);
            self.sums
                .add(pit(&block(values, steps, from), came, chance));
            self.shuffled
                .add(pit(&block(&mixed, steps, from), came, chance));
        }
        let came: Option<Vec<f64>> = (1..=LEADS)
            .map(|h| truth.at(Quantity::PluggedIn, at(4 * h)))
            .collect();
        if let Some(came) = came {
            self.energy += energy(values, steps, &came);
            self.energy_shuffled += energy(&mixed, steps, &came);
            self.count += 1;
        }
    }

    pub(super) fn finish(self) -> Joint {
        let count = size(self.count.max(1));
        Joint {
            block_sum: self.sums.coverage(),
            block_sum_shuffled: self.shuffled.coverage(),
            energy_score: self.energy / count,
            energy_score_shuffled: self.energy_shuffled / count,
        }
    }
}

/// Sorted sums over a block, path by path.
fn block(values: &[f32], steps: usize, from: usize) -> Vec<f32> {
    let mut sums: Vec<f32> = values
        .chunks_exact(steps)
        .map(|path| {
            narrow(
                path[from..from + BLOCK]
                    .iter()
                    .map(|v| f64::from(*v))
                    .sum::<f64>(),
            )
        })
        .collect();
    sums.sort_by(f32::total_cmp);
    sums
}

fn energy(values: &[f32], steps: usize, came: &[f64]) -> f64 {
    let paths: Vec<Vec<f64>> = values
        .chunks_exact(steps)
        .map(|p| (1..=LEADS).map(|h| f64::from(p[4 * h])).collect())
        .collect();
    let far = |a: &[f64], b: &[f64]| -> f64 {
        let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
        square.sqrt()
    };
    let count = size(paths.len());
    let off: f64 = paths.iter().map(|p| far(p, came)).sum::<f64>() / count;
    let mut apart = 0.0;
    for (i, path) in paths.iter().enumerate() {
        for partner in 1..=PARTNERS {
            apart += far(path, &paths[(i + partner) % paths.len()]);
        }
    }
    off - 0.5 * apart / (count * size(PARTNERS))
}
