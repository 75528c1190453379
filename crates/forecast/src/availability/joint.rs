//! Paths of a pool and of its groups: values and the bounds of energy, step by step.

use units::Band;

use super::calibrate;
use super::num::{floor, index, narrow, size};
use super::paths::{COUNT, DOWN, HIGH, LOW, NEED, UP, VALUES};
use crate::{LEVELS, Quantity};

/// A bound of the energy that flows into the vehicles from the origin on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What must have flowed by then, so that every vehicle leaves with what it needs.
    Lowest,
    /// What can have flowed by then.
    Highest,
}

/// Paths of a pool, each quantity `paths × steps`, path by path.
#[derive(Debug, Clone, PartialEq)]
pub struct Paths {
    steps: usize,
    values: [Vec<f32>; VALUES],
}

const fn row(quantity: Quantity) -> usize {
    match quantity {
        Quantity::PluggedIn => COUNT,
        Quantity::PowerUp => UP,
        Quantity::PowerDown => DOWN,
        Quantity::EnergyNeeded => NEED,
    }
}

impl Paths {
    pub(crate) fn new(paths: usize, steps: usize) -> Self {
        Self {
            steps,
            values: std::array::from_fn(|_| vec![0.0; paths * steps]),
        }
    }

    /// Adds the values of one path, `VALUES × steps`.
    pub(crate) fn add(&mut self, path: usize, values: &[f32]) {
        let part = path * self.steps..(path + 1) * self.steps;
        for (sums, values) in self.values.iter_mut().zip(values.chunks_exact(self.steps)) {
            for (sum, value) in sums[part.clone()].iter_mut().zip(values) {
                *sum += value;
            }
        }
    }

    /// Adds all paths of another part of the pool.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (sums, values) in self.values.iter_mut().zip(&other.values) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
    }

    /// Takes away what rounding has left below zero, and above the highest energy.
    pub(crate) fn tidy(&mut self) {
        for row in [COUNT, UP, DOWN, NEED, HIGH] {
            for value in &mut self.values[row] {
                *value = value.max(0.0);
            }
        }
        let [.., low, high] = &mut self.values;
        for (low, high) in low.iter_mut().zip(high) {
            *low = low.min(*high);
        }
    }

    /// Steps of every path.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// Values of one quantity at step `step`, path by path.
    pub(crate) fn column(&self, quantity: Quantity, step: usize) -> impl Iterator<Item = f32> {
        let values = self.of(quantity);
        values.iter().skip(step).step_by(self.steps).copied()
    }

    /// Values of one quantity at step `step`, smallest first.
    #[must_use]
    pub fn sorted(&self, quantity: Quantity, step: usize) -> Vec<f32> {
        sorted(self.column(quantity, step))
    }

    /// Energies of one bound at step `step`, kWh, smallest first.
    #[must_use]
    pub fn sorted_energy(&self, bound: Bound, step: usize) -> Vec<f32> {
        let values = self.energy(bound).iter().skip(step);
        sorted(values.step_by(self.steps).copied())
    }

    /// Quantiles of a quantity at step `step`, at the levels of the score: vehicles, kW or kWh. `None` past the horizon.
    #[must_use]
    pub fn band(&self, quantity: Quantity, step: usize) -> Option<Band> {
        (step < self.steps).then(|| band(&self.sorted(quantity, step)))?
    }

    /// Quantiles of a bound of energy at step `step`, at the levels of the score, kWh. `None` past the horizon.
    #[must_use]
    pub fn energy_band(&self, bound: Bound, step: usize) -> Option<Band> {
        (step < self.steps).then(|| band(&self.sorted_energy(bound, step)))?
    }

    /// Lowest value of every path within the steps from `from` to before `to`.
    #[must_use]
    pub fn lowest(&self, quantity: Quantity, from: i64, to: i64) -> Vec<f32> {
        let place = |k: i64| usize::try_from(k).unwrap_or(0).min(self.steps);
        self.of(quantity)
            .chunks_exact(self.steps)
            .map(|p| {
                p[place(from)..place(to)]
                    .iter()
                    .copied()
                    .fold(f32::INFINITY, f32::min)
            })
            .collect()
    }

    /// All values of a quantity, `paths × steps`, path by path: vehicles, kW or kWh.
    #[must_use]
    pub fn of(&self, quantity: Quantity) -> &[f32] {
        &self.values[row(quantity)]
    }

    /// Energy from the origin on, kWh, `paths × steps`, path by path; the lowest never lies above the highest. Negative where
    /// batteries of known charge may give first.
    #[must_use]
    pub fn energy(&self, bound: Bound) -> &[f32] {
        match bound {
            Bound::Lowest => &self.values[LOW],
            Bound::Highest => &self.values[HIGH],
        }
    }

    pub(crate) fn of_mut(&mut self, quantity: Quantity) -> &mut [f32] {
        &mut self.values[row(quantity)]
    }
}

fn band(sorted: &[f32]) -> Option<Band> {
    let values = LEVELS.map(|l| f64::from(calibrate::at(sorted, l)));
    Band::try_new(LEVELS.to_vec(), values.to_vec()).ok()
}

fn sorted(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    values
}

/// Gives `groups`, which added up to `drawn`, their parts of `pool`: each value as the group's share of what was drawn, vehicles as
/// whole numbers (largest remainders). Where nothing was drawn, shares are those of the other paths. Energy bounds stay as drawn.
pub(crate) fn share_out(groups: &mut [Paths], drawn: &Paths, pool: &Paths) {
    for quantity in super::QUANTITIES {
        let row = row(quantity);
        let means = mean_shares(groups, drawn, row);
        for place in 0..pool.values[row].len() {
            let (before, now) = (drawn.values[row][place], pool.values[row][place]);
            if (before - now).abs() <= f32::EPSILON * now {
                continue;
            }
            for (group, means) in groups.iter_mut().zip(&means) {
                let value = &mut group.values[row][place];
                *value = if before > 0.0 {
                    *value * (now / before)
                } else {
                    now * means[place % pool.steps]
                };
            }
            if quantity == Quantity::PluggedIn {
                whole(groups, row, place, now);
            }
        }
    }
}

/// Mean share of every group at every step.
fn mean_shares(groups: &[Paths], drawn: &Paths, row: usize) -> Vec<Vec<f32>> {
    let steps = drawn.steps;
    let sums = |paths: &Paths| {
        let mut sums = vec![0.0_f64; steps];
        for path in paths.values[row].chunks_exact(steps) {
            for (sum, value) in sums.iter_mut().zip(path) {
                *sum += f64::from(*value);
            }
        }
        sums
    };
    let all = sums(drawn);
    let alike = 1.0 / size(groups.len().max(1));
    groups
        .iter()
        .map(|group| {
            let own = sums(group).into_iter().zip(&all);
            own.map(|(own, all)| narrow(if *all > 0.0 { own / all } else { alike }))
                .collect()
        })
        .collect()
}

/// Rounds one value of all groups to whole numbers that add up to `total`.
fn whole(groups: &mut [Paths], row: usize, place: usize, total: f32) {
    let mut rests: Vec<(f32, usize)> = Vec::with_capacity(groups.len());
    let mut given = 0;
    for (g, group) in groups.iter_mut().enumerate() {
        let value = &mut group.values[row][place];
        let down = value.floor();
        rests.push((*value - down, g));
        given += floor(f64::from(down));
        *value = down;
    }
    let missing = index(f64::from(total)).saturating_sub(usize::try_from(given).unwrap_or(0));
    rests.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, g) in rests.into_iter().cycle().take(missing) {
        groups[g].values[row][place] += 1.0;
    }
}
