//! A lower bound from prices of energy, whatever made them.

use super::{Battery, NoPlan, Step, curve};

/// Least cost any schedule can have, by the prices of energy at the end of each step (EUR per kWh).
///
/// With a price on each energy balance the problem falls apart: each step alone picks its cheapest corner, each
/// boundary alone its cheapest level. The sum is a lower bound for *any* prices and meets the optimum at the prices of
/// [`cheapest`](super::cheapest). Rounding is charged against the bound. The steps' own corners are used, not the
/// hulls of the recursion.
///
/// # Errors
/// [`NoPlan::Unreachable`] when a step has no possible power or a boundary no possible level.
pub fn bound(battery: &Battery, steps: &[Step], energy_value: &[f64]) -> Result<f64, NoPlan> {
    let price = |index: usize| energy_value.get(index).copied().unwrap_or(0.0);
    let mut sum = Sum::default();
    let mut corners = Vec::new();
    let (mut lowest, mut highest) = (battery.arrival_kwh, battery.arrival_kwh);
    if let Some(first) = energy_value.first() {
        sum.add(-first * battery.arrival_kwh);
    }
    for (index, step) in steps.iter().enumerate() {
        curve::corners(battery, step, &mut corners);
        let none = NoPlan::Unreachable {
            step: index,
            excess_kwh: f64::INFINITY,
        };
        let best = corners
            .iter()
            .map(|corner| corner.cost - price(index) * corner.gain)
            .min_by(f64::total_cmp);
        sum.add(best.ok_or(none)?);
        let gains = || corners.iter().map(|corner| corner.gain);
        // What power allows from one boundary to the next bounds the level where no ceiling does.
        lowest = (lowest + gains().fold(f64::INFINITY, f64::min)).max(step.floor_kwh);
        highest = (highest + gains().fold(f64::NEG_INFINITY, f64::max)).min(step.ceiling_kwh);
        if index + 1 < steps.len() {
            let difference = price(index) - price(index + 1);
            sum.add((difference * lowest).min(difference * highest));
        } else {
            let at = |level: f64| price(index) * level + battery.end_cost(level);
            let goal = battery.goal_kwh.max(lowest).min(highest.max(lowest));
            sum.add(at(lowest).min(at(highest)).min(at(goal)));
        }
    }
    if steps.is_empty() {
        sum.add(battery.end_cost(battery.arrival_kwh));
    }
    Ok(sum.at_least())
}

/// A compensated sum that knows how much its terms can have been rounded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    total: f64,
    lost: f64,
    size: f64,
}

impl Sum {
    /// Adds a term that may itself be rounded in its last digits.
    pub(crate) fn add(&mut self, term: f64) {
        let next = self.total + term;
        self.lost += if self.total.abs() >= term.abs() {
            (self.total - next) + term
        } else {
            (term - next) + self.total
        };
        self.total = next;
        self.size += term.abs();
    }

    /// The sum.
    pub(crate) fn value(&self) -> f64 {
        self.total + self.lost
    }

    /// A figure the exact sum cannot be below: a dozen units in the last place per term.
    pub(crate) fn at_least(&self) -> f64 {
        self.value() - 12.0 * f64::EPSILON * self.size
    }
}
