//! Sums over a pool along one path: vehicles, power, energy, step by step.

use super::num::{floor, index, narrow, real};

/// The steps of a horizon: `count` instants from `start`, `step` seconds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Grid {
    /// The first step at or after `at`, at most `count`.
    fn place(&self, at: i64) -> usize {
        if at <= self.start {
            return 0;
        }
        index(real((at - self.start + self.step - 1) / self.step)).min(self.count)
    }

    fn hours(&self, from: i64, step: usize) -> f64 {
        real(self.start - from + self.step * i64::try_from(step).unwrap_or(0)) / 3600.0
    }

    pub(crate) fn end(&self) -> i64 {
        self.start + self.step * i64::try_from(self.count).unwrap_or(0)
    }
}

/// A visit on a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trip {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) energy: f64,
    pub(crate) charge: f64,
    pub(crate) discharge: f64,
}

/// Difference arrays of one path.
#[derive(Debug)]
pub(crate) struct Sums {
    grid: Grid,
    count: Vec<i32>,
    up: Vec<f64>,
    down: Vec<f64>,
    need: Vec<f64>,
    need_slope: Vec<f64>,
}

impl Sums {
    pub(crate) fn new(grid: Grid) -> Self {
        let zeros = || vec![0.0; grid.count + 1];
        Self {
            grid,
            count: vec![0; grid.count + 1],
            up: zeros(),
            down: zeros(),
            need: zeros(),
            need_slope: zeros(),
        }
    }

    pub(crate) fn add(&mut self, trip: &Trip) {
        let grid = self.grid;
        let (from, to) = (grid.place(trip.start), grid.place(trip.end));
        if from >= to {
            return;
        }
        // Up to the second in which the last of it flows.
        let charging = -floor(-trip.energy / trip.charge * 3600.0);
        let charged = grid
            .place(trip.start.saturating_add(charging).min(trip.end))
            .max(from);
        self.count[from] += 1;
        self.count[to] -= 1;
        self.up[from] += trip.discharge + trip.charge;
        self.up[charged] -= trip.charge;
        self.up[to] -= trip.discharge;
        self.down[charged] += trip.charge;
        self.down[to] -= trip.charge;
        if charged > from {
            let need = trip.energy - trip.charge * grid.hours(trip.start, from);
            let per_step = trip.charge * real(grid.step) / 3600.0;
            let steps = real(i64::try_from(charged - from).unwrap_or(0));
            self.need[from] += need;
            self.need[charged] -= need - per_step * steps;
            self.need_slope[from] += per_step;
            self.need_slope[charged] -= per_step;
        }
    }

    /// Writes the sums at every step and starts anew.
    pub(crate) fn take(
        &mut self,
        count: &mut [f32],
        up: &mut [f32],
        down: &mut [f32],
        need: &mut [f32],
    ) {
        let (mut n, mut u, mut d, mut e, mut slope) = (0, 0.0, 0.0, 0.0, 0.0);
        for k in 0..self.grid.count {
            n += self.count[k];
            u += self.up[k];
            d += self.down[k];
            // What was there a step ago has charged for a step.
            e -= slope;
            e += self.need[k];
            slope += self.need_slope[k];
            count[k] = narrow(f64::from(n));
            up[k] = narrow(f64::max(u, 0.0));
            down[k] = narrow(f64::max(d, 0.0));
            need[k] = narrow(f64::max(e, 0.0));
        }
        self.count.fill(0);
        for values in [
            &mut self.up,
            &mut self.down,
            &mut self.need,
            &mut self.need_slope,
        ] {
            values.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRID: Grid = Grid {
        start: 0,
        step: 900,
        count: 40,
    };

    /// Count, power up, power down and energy needed of one visit at an instant, straight from the definitions.
    fn at(trip: &Trip, at: i64) -> [f64; 4] {
        if at < trip.start || at >= trip.end {
            return [0.0; 4];
        }
        let need = (trip.energy - trip.charge * real(at - trip.start) / 3600.0).max(0.0);
        let charging = if need > 1e-9 { trip.charge } else { 0.0 };
        [1.0, trip.discharge + charging, trip.charge - charging, need]
    }

    proptest! {
        #[test]
        fn sums_are_what_the_definitions_say(
            visits in prop::collection::vec((-20_000_i64..40_000, 60_i64..50_000, 0_u32..40, 3_u32..22), 0..12),
        ) {
            let trips: Vec<Trip> = visits
                .into_iter()
                .map(|(start, length, kwh, kw)| Trip {
                    start,
                    end: start + length,
                    // Never charged at a full second, where rounding would decide.
                    energy: f64::from(kwh) + 0.0137,
                    charge: f64::from(kw),
                    discharge: 11.0,
                })
                .collect();
            let mut sums = Sums::new(GRID);
            trips.iter().for_each(|t| sums.add(t));
            let mut out = [[0.0_f32; 40]; 4];
            let [count, up, down, need] = &mut out;
            sums.take(count, up, down, need);
            for (step, instant) in (0..40).zip((0..).step_by(900)) {
                let mut expected = [0.0; 4];
                for trip in &trips {
                    for (sum, value) in expected.iter_mut().zip(at(trip, instant)) {
                        *sum += value;
                    }
                }
                for (values, expected) in out.iter().zip(expected) {
                    prop_assert!((f64::from(values[step]) - expected).abs() < 0.02, "{step} {expected}");
                }
            }
        }
    }
}
