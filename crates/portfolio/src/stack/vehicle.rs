//! One vehicle as columns and rows: discharge is eliminated by the energy balance, rows that others imply are left out.
//!
//! Energies are counted in kW-steps (kWh over the step length), so that no coefficient is small.

use std::ops::Range;

use super::dimming::{self, Contingency};
use super::problem::{Problem, Vehicle, Way};
use super::{reactive, refund};
use crate::reference::Headroom;
use crate::reference::program::{Expression, Program, Row};

/// Powers (kW) and energies (kW-steps) below which nothing can be moved.
const NOTHING: f64 = 1e-9;

/// The columns of one vehicle, as expressions.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) charge: Vec<Expression>,
    pub(super) discharge: Vec<Expression>,
    /// Boundaries, kW-steps.
    pub(super) energy: Vec<Expression>,
    /// `[product][step of the stay]`; `None` where it cannot hold any.
    pub(super) up: Vec<Vec<Option<Up>>>,
    /// Power kept for Down, the same shape.
    pub(super) down: Vec<Vec<Option<Expression>>>,
    /// How far the level kept for emergencies is missed, kW-steps.
    pub(super) kept_short: Option<Expression>,
    /// What it does if it is dimmed; `None` where nobody may dim it.
    pub(super) contingency: Option<Contingency>,
    /// Reactive power, kvar; empty where the charger has none to give or nobody asks for it.
    pub(super) reactive: Vec<Expression>,
    /// What it drives away of what was drawn for it, kW-steps at the grid side; `None` where no refund depends on it.
    pub(super) driven: Option<Expression>,
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// Up as one vehicle holds it in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Up {
    /// Delivered by charging less.
    pub(super) cancel: Expression,
    /// Delivered by the battery.
    pub(super) battery: Expression,
    /// All that is kept.
    pub(super) kept: Expression,
}

impl Columns {
    /// Net power in the stay's step `j`.
    pub(super) fn net(&self, j: usize) -> Expression {
        self.charge[j].add(-1.0, self.discharge[j])
    }

    /// Power kept for Up in the stay's step `j`, product by product.
    pub(super) fn up_kept(&self, j: usize) -> Vec<Expression> {
        let held = self.up.iter().filter_map(|product| product[j]);
        held.map(|up| up.kept).collect()
    }

    /// Power kept for Down in the stay's step `j`, product by product.
    pub(super) fn down_kept(&self, j: usize) -> Vec<Expression> {
        self.down.iter().filter_map(|product| product[j]).collect()
    }
}

/// Level kept for emergencies at each boundary, kWh: what can be reached by then, at most `keep_kwh`; at least the floor.
pub(super) fn keep_levels(problem: &Problem, vehicle: &Vehicle) -> Vec<f64> {
    let session = &vehicle.session;
    let wanted = vehicle.keep_kwh.min(session.capacity).max(session.floor);
    let mut reach = session.arrival;
    let mut levels = vec![wanted.min(reach).max(session.floor)];
    for share in &session.share {
        reach += problem.step_hours * session.charge_efficiency * session.charge_kw * share;
        levels.push(wanted.min(reach).max(session.floor));
    }
    levels
}

/// Whether product `product` is held in `step` at all.
fn is_held(problem: &Problem, product: usize, step: usize) -> bool {
    problem.products[product]
        .blocks
        .iter()
        .any(|b| b.steps.contains(&step) && (b.open || b.awarded_mw > 0.0))
}

struct Builder<'a> {
    problem: &'a Problem,
    vehicle: &'a Vehicle,
    program: &'a mut Program,
    columns: Columns,
    /// Level kept at each boundary, kW-steps.
    keep: Vec<f64>,
}

/// Adds the vehicle at `index`, as the problem has it or changed from that, to a programme.
pub(super) fn build(
    problem: &Problem,
    (index, vehicle): (usize, &Vehicle),
    program: &mut Program,
) -> Columns {
    let begin = (program.cost.len(), program.limit.len());
    let mut builder = Builder {
        problem,
        vehicle,
        columns: Columns::default(),
        keep: keep_levels(problem, vehicle)
            .into_iter()
            .map(|level| level / problem.step_hours)
            .collect(),
        program,
    };
    builder.energy();
    builder.departure();
    builder.reserve();
    let mut columns = builder.columns;
    reactive::build(problem, vehicle, program, &mut columns);
    refund::build(problem, vehicle, program, &mut columns);
    if let Some(exposed) = dimming::exposed(problem, index) {
        let made = dimming::build(problem, (vehicle, exposed), program, &columns);
        columns.contingency = Some(made);
    }
    columns.columns = begin.0..program.cost.len();
    columns.rows = begin.1..program.limit.len();
    columns
}

impl Builder<'_> {
    fn floor(&self) -> f64 {
        self.vehicle.session.floor / self.problem.step_hours
    }

    fn capacity(&self) -> f64 {
        self.vehicle.session.capacity / self.problem.step_hours
    }

    /// Powers, balance and band, step by step.
    fn energy(&mut self) {
        let session = &self.vehicle.session;
        let (floor, capacity) = (self.floor(), self.capacity());
        let arrival = session.arrival / self.problem.step_hours;
        if self.vehicle.keep_kwh > session.floor {
            let most = self.vehicle.keep_kwh / self.problem.step_hours - floor;
            let price = self.problem.elastic.energy_per_kwh * self.problem.step_hours;
            let short = Expression::column(self.program.column(price, 0.0, most));
            self.program.above(short, 0.0);
            self.program.below(short, most);
            self.columns.kept_short = Some(short);
        }
        let mut energy = Expression::constant(arrival);
        let (mut low, mut high) = (arrival, arrival);
        self.columns.energy.push(energy);
        for (j, step) in session.steps().enumerate() {
            let can = if capacity - floor > NOTHING {
                session.share[j]
            } else {
                0.0
            };
            let (most_c, most_d) = (can * session.charge_kw, can * session.discharge_kw);
            low = (low - most_d / session.discharge_efficiency).max(floor);
            high = (high + most_c * session.charge_efficiency).min(capacity);
            let fixed = self.vehicle.fixed_kw.get(j).copied();
            let (charge, discharge, next) = if let Some((charge, discharge)) = fixed {
                let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
                let next = energy.constant + ec * charge - discharge / ed;
                (low, high) = (next, next);
                let constant = Expression::constant;
                (constant(charge), constant(discharge), constant(next))
            } else {
                self.step(energy, (most_c, most_d), (low, high))
            };
            self.charge_for(step, charge, discharge);
            if !next.is_constant() {
                if most_c > NOTHING && high >= capacity - NOTHING {
                    self.program.below(next, capacity);
                }
                if most_d > NOTHING && low <= floor + NOTHING {
                    self.program.above(next, floor);
                }
            }
            let moved = fixed.is_some() || !next.is_constant();
            if let Some(short) = self.columns.kept_short.filter(|_| moved) {
                self.program.above(next.add(1.0, short), self.keep[j + 1]);
            }
            self.columns.charge.push(charge);
            self.columns.discharge.push(discharge);
            self.columns.energy.push(next);
            energy = next;
        }
    }

    /// Charge, discharge and the energy after a step, with the rows on its powers.
    fn step(
        &mut self,
        energy: Expression,
        (most_c, most_d): (f64, f64),
        (low, high): (f64, f64),
    ) -> (Expression, Expression, Expression) {
        let session = &self.vehicle.session;
        let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
        let none = Expression::constant(0.0);
        if most_c <= NOTHING && most_d <= NOTHING {
            return (none, none, energy);
        }
        let next = Expression::column(self.program.column(0.0, low, high));
        if most_d <= NOTHING {
            let charge = none.add(1.0 / ec, next).add(-1.0 / ec, energy);
            self.program.above(charge, 0.0);
            self.program.below(charge, most_c);
            return (charge, none, next);
        }
        if most_c <= NOTHING {
            let discharge = none.add(ed, energy).add(-ed, next);
            self.program.above(discharge, 0.0);
            self.program.below(discharge, most_d);
            return (none, discharge, next);
        }
        let charge = Expression::column(self.program.column(0.0, 0.0, most_c));
        let discharge = none.add(ed * ec, charge).add(ed, energy).add(-ed, next);
        self.program.above(charge, 0.0);
        self.program.above(discharge, 0.0);
        // The free inequality of `optimisation.md` 2.4; with both powers at least zero it implies their limits.
        self.program
            .below(charge.add(most_c / most_d, discharge), most_c);
        (charge, discharge, next)
    }

    fn charge_for(&mut self, step: usize, charge: Expression, discharge: Expression) {
        let mwh = self.problem.step_hours / 1000.0;
        let carbon = self.problem.carbon_price.get(step).copied().unwrap_or(0.0);
        let (import, export) = (
            self.problem.import_price[step],
            self.problem.export_price[step],
        );
        self.program.charge(charge, mwh * (import + carbon));
        self.program
            .charge(discharge, mwh * (self.problem.wear - export - carbon));
    }

    fn departure(&mut self) {
        let Some(last) = self.columns.energy.last().copied() else {
            return;
        };
        let goal = self.vehicle.session.goal / self.problem.step_hours;
        let price = self.problem.elastic.energy_per_kwh * self.problem.step_hours;
        if last.is_constant() {
            let short = Expression::constant((goal - last.constant).max(0.0));
            self.program.charge(short, price);
        } else if goal > self.floor() {
            let short = self.program.column(price, 0.0, goal - self.floor());
            let short = Expression::column(short);
            self.program.above(short, 0.0);
            self.program.above(last.add(1.0, short), goal);
        }
    }

    fn reserve(&mut self) {
        let session = &self.vehicle.session;
        let steps = session.share.len();
        let count = self.problem.products.len();
        self.columns.up = vec![vec![None; steps]; count];
        self.columns.down = vec![vec![None; steps]; count];
        let mut any = false;
        for (j, step) in session.steps().enumerate() {
            if !session.whole(j) || session.charge_kw + session.discharge_kw <= NOTHING {
                continue;
            }
            for product in 0..count {
                if is_held(self.problem, product, step) {
                    let ways = (
                        self.problem.products[product].up,
                        self.problem.products[product].down,
                    );
                    self.columns.up[product][j] = ways.0.and_then(|way| self.hold_up(way, j));
                    self.columns.down[product][j] = ways.1.and_then(|way| self.hold_down(way, j));
                }
            }
            any |= self.power(j);
        }
        if any {
            match self.problem.headroom {
                Headroom::Snapshot => self.snapshot(),
                Headroom::Window { recovery_steps } => self.window(recovery_steps),
            }
        }
    }

    /// Boundaries at which reserve held in step `j` must be covered for certain.
    fn boundaries(&self, j: usize) -> Range<usize> {
        match self.problem.headroom {
            Headroom::Snapshot => j..j + 2,
            Headroom::Window { .. } => j + 1..j + 2,
        }
    }

    fn hold_up(&mut self, way: Way, j: usize) -> Option<Up> {
        let session = &self.vehicle.session;
        let most = session.charge_kw + session.discharge_kw;
        if way.delivered <= 0.0 {
            let kept = Expression::column(self.program.column(0.0, 0.0, most));
            self.program.above(kept, 0.0);
            let none = Expression::constant(0.0);
            return Some(Up {
                cancel: none,
                battery: none,
                kept,
            });
        }
        let stuck = |k: usize| {
            let energy = self.columns.energy[k];
            energy.is_constant()
                && self.columns.kept_short.is_none()
                && energy.constant - self.floor() <= NOTHING
        };
        if self.boundaries(j).any(stuck) {
            return None;
        }
        let mut part = |possible: bool, high: f64| {
            if !possible {
                return Expression::constant(0.0);
            }
            let column = Expression::column(self.program.column(0.0, 0.0, way.delivered * high));
            self.program.above(column, 0.0);
            column
        };
        let charge = self.columns.charge[j];
        let cancel = part(
            !charge.is_constant() || charge.constant > NOTHING,
            session.charge_kw.max(most),
        );
        let fixed = j < self.vehicle.fixed_kw.len() && session.discharge_kw > NOTHING;
        let battery = part(fixed || !self.columns.discharge[j].is_constant(), most);
        if cancel.is_constant() && battery.is_constant() {
            return None;
        }
        let kept = Expression::constant(0.0)
            .add(1.0 / way.delivered, cancel)
            .add(1.0 / way.delivered, battery);
        Some(Up {
            cancel,
            battery,
            kept,
        })
    }

    fn hold_down(&mut self, way: Way, j: usize) -> Option<Expression> {
        let session = &self.vehicle.session;
        let stuck = |k: usize| {
            let energy = self.columns.energy[k];
            energy.is_constant() && self.capacity() - energy.constant <= NOTHING
        };
        if way.delivered > 0.0 && self.boundaries(j).any(stuck) {
            return None;
        }
        let most = session.charge_kw + session.discharge_kw;
        let kept = Expression::column(self.program.column(0.0, 0.0, most));
        self.program.above(kept, 0.0);
        Some(kept)
    }

    /// Power rows of step `j` (2.1); whether anything is held there.
    fn power(&mut self, j: usize) -> bool {
        let session = &self.vehicle.session;
        let net = self.columns.net(j);
        let (mut cancelled, mut up, mut down) = (Row::default(), Row::default(), Row::default());
        let (mut any_cancel, mut any_up, mut any_down) = (false, false, false);
        for held in self.columns.up.iter().filter_map(|product| product[j]) {
            cancelled.add(1.0, held.cancel);
            up.add(1.0, held.kept);
            any_cancel |= !held.cancel.is_constant();
            any_up = true;
        }
        for kept in self.columns.down_kept(j) {
            down.add(1.0, kept);
            any_down = true;
        }
        if any_cancel {
            cancelled.add(-1.0, self.columns.charge[j]);
            self.program.at_most(&mut cancelled, 0.0);
        }
        if any_up {
            up.add(-1.0, net);
            self.program.at_most(&mut up, session.discharge_kw);
        }
        if any_down {
            down.add(1.0, net);
            self.program.at_most(&mut down, session.charge_kw);
        }
        any_up || any_down
    }

    /// Full activation from either boundary of a step alone.
    fn snapshot(&mut self) {
        for j in 0..self.vehicle.session.share.len() {
            for boundary in [j, j + 1] {
                let span = |way: Way| way.endurance_hours / self.problem.step_hours;
                let (mut drain, mut fill) = (Row::default(), Row::default());
                let drained = self.drain(&mut drain, |way| (j..j + 1, span(way)));
                let filled = self.fill(&mut fill, |way| (j..j + 1, span(way)));
                self.energy_rows(boundary, (drain, drained), (fill, filled));
            }
        }
    }

    /// Activation windows while the old schedule still runs for `recovery` steps (2.2). A window that ends after the
    /// boundary holds a subset of the one that ends at it, so ends from `boundary - recovery` to `boundary` say all.
    fn window(&mut self, recovery: usize) {
        let hours = self.problem.step_hours;
        for boundary in 1..=self.vehicle.session.share.len() {
            for end in boundary.saturating_sub(recovery).max(1)..=boundary {
                let range = |way: Way| (end.saturating_sub(way.window_steps(hours))..end, 1.0);
                let (mut drain, mut fill) = (Row::default(), Row::default());
                let drained = self.drain(&mut drain, range);
                let filled = self.fill(&mut fill, range);
                self.energy_rows(boundary, (drain, drained), (fill, filled));
            }
        }
    }

    fn drain(&self, row: &mut Row, range: impl Fn(Way) -> (Range<usize>, f64)) -> bool {
        let session = &self.vehicle.session;
        let mut any = false;
        for (product, held) in self.problem.products.iter().zip(&self.columns.up) {
            let Some(way) = product
                .up
                .filter(|w| w.delivered > 0.0 && w.endurance_hours > 0.0)
            else {
                continue;
            };
            let (steps, weight) = range(way);
            for up in steps.filter_map(|j| held[j]) {
                row.add(weight * session.charge_efficiency, up.cancel);
                row.add(weight / session.discharge_efficiency, up.battery);
                any = true;
            }
        }
        any
    }

    fn fill(&self, row: &mut Row, range: impl Fn(Way) -> (Range<usize>, f64)) -> bool {
        let mut any = false;
        for (product, held) in self.problem.products.iter().zip(&self.columns.down) {
            let Some(way) = product
                .down
                .filter(|w| w.delivered > 0.0 && w.endurance_hours > 0.0)
            else {
                continue;
            };
            let (steps, weight) = range(way);
            for kept in steps.filter_map(|j| held[j]) {
                row.add(
                    weight * way.delivered / self.vehicle.session.discharge_efficiency,
                    kept,
                );
                any = true;
            }
        }
        any
    }

    fn energy_rows(
        &mut self,
        boundary: usize,
        (mut drain, drained): (Row, bool),
        (mut fill, filled): (Row, bool),
    ) {
        let energy = self.columns.energy[boundary];
        if drained {
            drain.add(-1.0, energy);
            if let Some(short) = self.columns.kept_short {
                drain.add(-1.0, short);
            }
            self.program.at_most(&mut drain, -self.keep[boundary]);
        }
        if filled {
            fill.add(1.0, energy);
            self.program.at_most(&mut fill, self.capacity());
        }
    }
}
