//! Which vehicle holds how much of the reserve that was sold.
//!
//! Before the schedules are made, each vehicle gets a share in proportion to what it could hold ([`allocate`]); its schedule then keeps that
//! share by power limits and energy levels. After the schedules are made, what is missing is taken from whatever they leave over ([`top_up`]).
//! The energy rows are those of the activation windows (`optimisation.md` 2.2): a full call of the product's endurance, at any
//! time, while the old schedule still runs for [`RECOVERY`] steps after it.

mod allocate;
mod top_up;

pub(super) use allocate::allocate;
pub(super) use top_up::top_up;

use market::{Position, Product, Rules};
use rust_decimal::prelude::ToPrimitive;

use super::grid::{Grid, STEP_HOURS};
use super::problem::Problem;
use super::vehicle::Vehicle;
use crate::rolling::Input;

/// Steps until a changed schedule takes effect after an activation.
pub(super) const RECOVERY: usize = 2;

/// Held beyond what was sold: one vehicle that leaves early must not make the pool short.
const MARGIN: f64 = 0.05;

/// What one product asks of the pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) product: Product,
    /// kW sold per step, without margin.
    pub(super) sold: Vec<f64>,
    pub(super) up: bool,
    pub(super) down: bool,
    /// Power kept free per power sold.
    factor: f64,
    /// Steps of full activation.
    pub(super) window: usize,
}

impl Call {
    fn wanted(&self, step: usize) -> f64 {
        self.sold[step] * (1.0 + MARGIN)
    }

    fn hours(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
        let steps = self.window as f64;
        steps * STEP_HOURS
    }

    fn has(&self, way: Way) -> bool {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

/// Which way power is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// The reserve sold over the grid, by product; products without any are left out.
pub(super) fn calls(input: &Input<'_>, grid: &Grid) -> Vec<Call> {
    [Product::Fcr, Product::AfrrUp, Product::AfrrDown]
        .into_iter()
        .filter_map(|product| call(product, input.position, input.rules, input.area, grid))
        .collect()
}

fn call(
    product: Product,
    position: &Position,
    rules: &Rules,
    area: market::Area,
    grid: &Grid,
) -> Option<Call> {
    let sold: Vec<f64> = (0..grid.len())
        .map(|step| position.reserve(product, grid.at(step)).kw())
        .collect();
    if sold.iter().all(|kw| *kw <= 0.0) {
        return None;
    }
    // A sold product without rules would be a mistake of the rule table: hold it for an hour at full power.
    let endurance = rules
        .at(area, product, grid.start())
        .ok()
        .and_then(|rule| rule.endurance.as_ref());
    let minutes = endurance.map_or(60, |e| e.minutes);
    let factor = endurance
        .and_then(|e| e.power_factor.to_f64())
        .unwrap_or(1.0);
    Some(Call {
        product,
        sold,
        up: product != Product::AfrrDown,
        down: product != Product::AfrrUp,
        factor: factor.max(1.0),
        window: usize::try_from(minutes.div_ceil(15)).unwrap_or(4).max(1),
    })
}

/// Reserve that one vehicle holds, kW per call and own step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Share {
    pub(super) up: Vec<Vec<f64>>,
    pub(super) down: Vec<Vec<f64>>,
}

impl Share {
    pub(super) fn none(calls: usize, steps: usize) -> Self {
        Self {
            up: vec![vec![0.0; steps]; calls],
            down: vec![vec![0.0; steps]; calls],
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.up
            .iter()
            .chain(&self.down)
            .flatten()
            .all(|kw| *kw <= 0.0)
    }

    pub(super) fn scale(&mut self, factor: f64) {
        for kw in self.up.iter_mut().chain(&mut self.down).flatten() {
            *kw *= factor;
        }
    }

    pub(super) fn of(&self, way: Way) -> &[Vec<f64>] {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(super) fn of_mut(&mut self, way: Way) -> &mut [Vec<f64>] {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Power by which it can be called in own step `j`, all products together.
    pub(super) fn callable(&self, way: Way, j: usize) -> f64 {
        self.of(way).iter().map(|kw| kw[j]).sum()
    }

    /// Power kept free in own step `j`.
    pub(super) fn kept(&self, calls: &[Call], way: Way, j: usize) -> f64 {
        self.of(way)
            .iter()
            .zip(calls)
            .map(|(kw, call)| kw[j] * call.factor)
            .sum()
    }

    /// Energy that `vehicle` keeps at each boundary for the worst activation window that can still weigh on it, kWh inside the battery.
    pub(super) fn energy(&self, calls: &[Call], way: Way, vehicle: &Vehicle) -> Vec<f64> {
        let per_kwh = vehicle.factor(way);
        let steps = self.of(way).first().map_or(0, Vec::len);
        let mut sums = vec![0.0; steps + 1];
        for (kw, call) in self.of(way).iter().zip(calls) {
            let mut running = 0.0;
            for (end, sum) in sums.iter_mut().enumerate().skip(1) {
                running += kw[end - 1];
                if end > call.window {
                    running -= kw[end - 1 - call.window];
                }
                *sum += running * STEP_HOURS * per_kwh;
            }
        }
        (0..=steps)
            .map(|b| {
                let recent = &sums[b.saturating_sub(tail(vehicle, b))..=b];
                recent.iter().copied().fold(0.0, f64::max)
            })
            .collect()
    }
}

/// One vehicle's schedule with the reserve it holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Lane {
    /// Net power per own step, mean over the step, kW.
    pub(super) net: Vec<f64>,
    /// Energy at the boundaries.
    pub(super) energy: Vec<f64>,
    /// Worth of one more kWh in the battery at the end of each step, EUR.
    pub(super) value: Vec<f64>,
    /// Reserve held.
    pub(super) share: Share,
    /// True if the schedule stays within the envelope that carries the departure.
    pub(super) enveloped: bool,
    /// True if the steps inside a gate are as they were planned before.
    pub(super) frozen: bool,
}

/// The vehicle's own number of `step`, if it may hold reserve then.
fn own_step(vehicle: &Vehicle, step: usize) -> Option<usize> {
    step.checked_sub(vehicle.first)
        .filter(|j| vehicle.may_hold(*j))
}

/// Boundaries for which a window weighs on boundary `b` of a vehicle's steps after it ends. A call may begin within a step, and its recovery
/// then ends within one; a vehicle that leaves within that step has no time left in it, so the boundary before weighs on its departure too.
pub(super) fn tail(vehicle: &Vehicle, b: usize) -> usize {
    RECOVERY + usize::from(b == vehicle.len() && vehicle.leaves_within_a_step())
}

/// Reserve held by all vehicles together, kW per call, way and step of the grid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    up: Vec<Vec<f64>>,
    down: Vec<Vec<f64>>,
}

impl Held {
    /// What `lanes` hold.
    pub(super) fn of(problem: &Problem<'_>, lanes: &[Lane]) -> Self {
        let none = vec![vec![0.0; problem.input.grid.len()]; problem.calls.len()];
        let mut held = Self {
            up: none.clone(),
            down: none,
        };
        for (vehicle, lane) in problem.input.vehicles.iter().zip(lanes) {
            for (sums, own) in [
                (&mut held.up, &lane.share.up),
                (&mut held.down, &lane.share.down),
            ] {
                for (sum, own) in sums.iter_mut().zip(own) {
                    for (sum, kw) in sum.iter_mut().skip(vehicle.first).zip(own) {
                        *sum += kw;
                    }
                }
            }
        }
        held
    }

    /// Held of call `k` in `step`, kW.
    pub(super) fn kw(&self, k: usize, way: Way, step: usize) -> f64 {
        match way {
            Way::Up => self.up[k][step],
            Way::Down => self.down[k][step],
        }
    }
}
