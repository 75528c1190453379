//! Random draws that depend on what they are for and on nothing else.

use chrono::{Datelike, NaiveDate};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A stream of draws of its own for each purpose, so that one more draw here changes nothing there.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `seed` for thing number `index` and `purpose`.
    pub(crate) fn of(seed: u64, purpose: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ purpose.rotate_left(32));
        rng.set_stream(index);
        Self(rng)
    }

    /// The stream of `seed` for thing number `index` on one date.
    pub(crate) fn on(seed: u64, purpose: u64, index: u64, date: NaiveDate) -> Self {
        let day = u64::from(date.num_days_from_ce().unsigned_abs());
        Self::of(seed, purpose, (index << 24) | day)
    }

    /// True with probability `chance`.
    pub(crate) fn happens(&mut self, chance: f64) -> bool {
        self.0.random::<f64>() < chance
    }

    /// Evenly between `low` and `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// About normal with mean 0 and standard deviation 1, never beyond 3.5: the sum of twelve even draws less six,
    /// cut.
    pub(crate) fn normal(&mut self) -> f64 {
        ((0..12).map(|_| self.0.random::<f64>()).sum::<f64>() - 6.0).clamp(-3.5, 3.5)
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.0.random_range(0..choices.len())]
    }
}
