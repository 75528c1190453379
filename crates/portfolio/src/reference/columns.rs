//! One session as columns and rows: discharge is eliminated by the energy balance, rows that others imply are left out.
//!
//! Energies are counted in kW-steps (kWh over the step length), so that no coefficient is small. `solver-study.md` 2.

use super::problem::{Headroom, Problem, Reserve, Session};
use super::program::{Expression, Program, Row};

/// Room below which an arrival energy leaves none for reserve, kWh; without this a row would leave no interior.
const NO_ROOM: f64 = 1e-9;

/// Which blocks are worth selling: those with a price above zero that vehicles can carry in every step.
#[derive(Debug)]
pub(super) struct Offer {
    /// `[product][step]`: the block on sale.
    blocks: Vec<Vec<Option<usize>>>,
}

impl Offer {
    pub(super) fn of(problem: &Problem) -> Self {
        let steps = problem.import_price.len();
        let mut able = vec![false; steps];
        for session in &problem.sessions {
            for (j, step) in session.steps().enumerate() {
                able[step] |= session.whole(j) && can_move(session);
            }
        }
        let blocks = problem.reserves.iter().map(|reserve| {
            let mut on_sale = vec![None; steps];
            for (index, block) in reserve.blocks.iter().enumerate() {
                if block.price > 0.0 && block.steps.clone().all(|step| able[step]) {
                    on_sale[block.steps.clone()].fill(Some(index));
                }
            }
            on_sale
        });
        Self {
            blocks: blocks.collect(),
        }
    }

    pub(super) fn block(&self, product: usize, step: usize) -> Option<usize> {
        self.blocks[product][step]
    }

    /// Whether a session may hold any reserve in its own step `j`.
    pub(super) fn touches(&self, session: &Session, j: usize) -> bool {
        session.whole(j)
            && can_move(session)
            && self
                .blocks
                .iter()
                .any(|steps| steps[session.first + j].is_some())
    }
}

/// Whether a session has any power at all; a full battery behind a one-way charger has none.
pub(super) fn can_move(session: &Session) -> bool {
    charge_kw(session) > 0.0 || session.discharge_kw > 0.0
}

fn charge_kw(session: &Session) -> f64 {
    if session.discharge_kw <= 0.0 && session.capacity - session.arrival <= NO_ROOM {
        0.0
    } else {
        session.charge_kw
    }
}

/// Most reserve of one product a session can hold, kW.
pub(super) fn most_reserve(session: &Session, reserve: &Reserve) -> f64 {
    (session.charge_kw + session.discharge_kw) / reserve.power_factor
}

/// What a session holds of one product in one step; constant zero where it holds none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeldColumns {
    /// Up that cancels charging, kW.
    pub(super) cancel: Expression,
    /// All Up, kW.
    pub(super) up: Expression,
    /// What Up takes from the battery, kW.
    drain: Expression,
    /// Down, kW.
    pub(super) down: Expression,
}

/// The columns of one session, as expressions.
#[derive(Debug)]
pub(super) struct SessionColumns {
    /// kW per step.
    pub(super) charge: Vec<Expression>,
    /// kW per step.
    pub(super) discharge: Vec<Expression>,
    /// kW-steps per boundary.
    energy: Vec<Expression>,
    /// `[product][step]`.
    pub(super) held: Vec<Vec<HeldColumns>>,
}

/// Builds one session into a programme.
pub(super) struct Builder<'a> {
    problem: &'a Problem,
    offer: &'a Offer,
    session: &'a Session,
    program: &'a mut Program,
    out: SessionColumns,
    /// Most and least energy reachable at each boundary by power alone, kWh.
    reach: Vec<(f64, f64)>,
}

pub(super) fn build(
    problem: &Problem,
    offer: &Offer,
    session: &Session,
    program: &mut Program,
) -> SessionColumns {
    let held = vec![vec![HeldColumns::default(); session.share.len()]; problem.reserves.len()];
    let out = SessionColumns {
        charge: Vec::new(),
        discharge: Vec::new(),
        energy: Vec::new(),
        held,
    };
    let mut builder = Builder {
        problem,
        offer,
        session,
        program,
        out,
        reach: Vec::new(),
    };
    builder.powers();
    for j in 0..session.share.len() {
        builder.hold(j);
        builder.power_rows(j);
    }
    match problem.headroom {
        Headroom::Snapshot => builder.snapshot_rows(),
        Headroom::Window { recovery_steps } => builder.window_rows(recovery_steps),
    }
    builder.departure();
    builder.out
}

impl Builder<'_> {
    /// Columns for power and energy, and their cost.
    fn powers(&mut self) {
        let (session, hours) = (self.session, self.problem.step_hours);
        let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
        let mut energy = Expression::constant(session.arrival / hours);
        let (mut least, mut most) = (session.arrival, session.arrival);
        self.out.energy.push(energy);
        self.reach.push((least, most));
        for (step, share) in session.steps().zip(&session.share) {
            let (into, from) = (share * charge_kw(session), share * session.discharge_kw);
            least -= hours * from / ed;
            most += hours * ec * into;
            self.reach.push((least, most));
            let (mut charge, mut discharge) = (Expression::default(), Expression::default());
            if into > 0.0 || from > 0.0 {
                let (low, high) = (least.max(session.floor), most.min(session.capacity));
                let column =
                    (into > 0.0 && from > 0.0).then(|| self.program.column(0.0, 0.0, into));
                let next = Expression::column(self.program.column(0.0, low / hours, high / hours));
                let rise = next.add(-1.0, energy);
                energy = next;
                match column {
                    Some(column) => {
                        charge = Expression::column(column);
                        discharge = Expression::default().add(ec * ed, charge).add(-ed, rise);
                    }
                    None if into > 0.0 => charge = charge.add(1.0 / ec, rise),
                    None => discharge = discharge.add(-ed, rise),
                }
            }
            let per_kw = hours / 1000.0;
            self.program
                .charge(charge, per_kw * self.problem.import_price[step]);
            self.program.charge(
                discharge,
                per_kw * (self.problem.wear - self.problem.export_price[step]),
            );
            self.out.charge.push(charge);
            self.out.discharge.push(discharge);
            self.out.energy.push(energy);
        }
    }

    /// Columns of the reserve held in step `j`.
    fn hold(&mut self, j: usize) {
        let session = self.session;
        if !self.offer.touches(session, j) {
            return;
        }
        let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
        // With the snapshot rule a battery that arrives at an end of its band has no room there yet.
        let fixed =
            self.out.energy[j].is_constant() && matches!(self.problem.headroom, Headroom::Snapshot);
        let can_up = !(fixed && session.arrival - session.floor <= NO_ROOM);
        let can_down = !(fixed && session.capacity - session.arrival <= NO_ROOM);
        let oversold = self
            .problem
            .reserves
            .iter()
            .any(|reserve| reserve.power_factor < 1.0);
        let (charges, draws) = (
            charge_kw(session) > 0.0,
            session.discharge_kw > 0.0 || oversold,
        );
        for (product, reserve) in self.problem.reserves.iter().enumerate() {
            if self.offer.block(product, session.first + j).is_none() {
                continue;
            }
            let most = most_reserve(session, reserve);
            let mut held = HeldColumns::default();
            if reserve.direction.has_up() && can_up {
                if charges {
                    held.cancel = Expression::column(self.program.column(
                        0.0,
                        0.0,
                        most.min(session.charge_kw),
                    ));
                }
                if draws {
                    held.drain = Expression::column(self.program.column(0.0, 0.0, most / ed));
                    let drawn = Expression::default()
                        .add(ed, held.drain)
                        .add(-ec * ed, held.cancel);
                    held.up = held.cancel.add(1.0, drawn);
                } else {
                    held.drain = Expression::default().add(ec, held.cancel);
                    held.up = held.cancel;
                }
            }
            if reserve.direction.has_down() && can_down {
                held.down = Expression::column(self.program.column(0.0, 0.0, most));
            }
            self.out.held[product][j] = held;
        }
    }

    /// Power rows of step `j`, with and without reserve.
    fn power_rows(&mut self, j: usize) {
        let (session, share) = (self.session, self.session.share[j]);
        let (charge, discharge) = (self.out.charge[j], self.out.discharge[j]);
        let (into, from) = (share * charge_kw(session), share * session.discharge_kw);
        let (mut cancelled, mut up, mut down) = (Row::default(), Row::default(), Row::default());
        let (mut any_cancel, mut any_up, mut any_down, mut oversold) = (false, false, false, false);
        for (held, reserve) in self
            .out
            .held
            .iter()
            .map(|held| held[j])
            .zip(&self.problem.reserves)
        {
            if !held.up.is_constant() {
                any_up = true;
                oversold |= reserve.power_factor < 1.0;
                up.add(reserve.power_factor, held.up);
                if !held.cancel.is_constant() {
                    any_cancel = true;
                    cancelled.add(1.0, held.cancel);
                    self.program.above(held.cancel, 0.0);
                }
                // What is not cancelled charging is drawn, and not less than nothing.
                if held.up != held.cancel {
                    self.program.above(held.up.add(-1.0, held.cancel), 0.0);
                }
            }
            if !held.down.is_constant() {
                any_down = true;
                down.add(reserve.power_factor, held.down);
                self.program.above(held.down, 0.0);
            }
        }
        let net = charge.add(-1.0, discharge);
        let one_way = from <= 0.0 && !oversold;
        if any_cancel && !one_way {
            cancelled.add(-1.0, charge);
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
        if into > 0.0 && !any_cancel {
            self.program.above(charge, 0.0);
        }
        if from > 0.0 {
            self.program.above(discharge, 0.0);
        }
        match (into > 0.0, from > 0.0) {
            (true, true) => self.program.below(charge.add(into / from, discharge), into),
            (true, false) if !any_down => self.program.below(charge, into),
            (false, true) if !any_up => self.program.below(discharge, from),
            _ => {}
        }
    }

    /// Headroom seen from either boundary of each step alone.
    fn snapshot_rows(&mut self) {
        let steps = self.session.share.len();
        for boundary in 0..=steps {
            let (mut floor, mut ceiling) = (false, false);
            for j in boundary.saturating_sub(1)..(boundary + 1).min(steps) {
                let (mut drain, mut fill) = (Row::default(), Row::default());
                let (mut any_drain, mut any_fill) = (false, false);
                for (held, reserve) in self
                    .out
                    .held
                    .iter()
                    .map(|held| held[j])
                    .zip(&self.problem.reserves)
                {
                    let hours = reserve.endurance_hours / self.problem.step_hours;
                    any_drain |= !held.up.is_constant();
                    any_fill |= !held.down.is_constant();
                    drain.add(hours, held.drain);
                    fill.add(hours / self.session.discharge_efficiency, held.down);
                }
                if any_drain {
                    self.above_floor(boundary, drain);
                    floor = true;
                }
                if any_fill {
                    self.below_ceiling(boundary, fill);
                    ceiling = true;
                }
            }
            self.band(boundary, floor, ceiling);
        }
    }

    /// Headroom over activation windows. A window that ends after the boundary is implied by the one that ends at it.
    fn window_rows(&mut self, recovery: usize) {
        let hours = self.problem.step_hours;
        let lengths: Vec<usize> = self
            .problem
            .reserves
            .iter()
            .map(|r| r.window_steps(hours))
            .collect();
        for boundary in 1..=self.session.share.len() {
            let ends = boundary.saturating_sub(recovery).max(1)..=boundary;
            let ups = widest(
                ends.clone()
                    .map(|end| self.inside(end, &lengths, |held| held.up)),
            );
            let downs = widest(ends.map(|end| self.inside(end, &lengths, |held| held.down)));
            self.band(boundary, !ups.is_empty(), !downs.is_empty());
            for window in ups {
                let mut row = Row::default();
                window
                    .iter()
                    .for_each(|(product, j)| row.add(1.0, self.out.held[*product][*j].drain));
                self.above_floor(boundary, row);
            }
            for window in downs {
                let mut row = Row::default();
                let back = 1.0 / self.session.discharge_efficiency;
                window
                    .iter()
                    .for_each(|(product, j)| row.add(back, self.out.held[*product][*j].down));
                self.below_ceiling(boundary, row);
            }
        }
    }

    /// Products and steps that hold reserve in the windows ending at `end`.
    fn inside(
        &self,
        end: usize,
        lengths: &[usize],
        side: fn(&HeldColumns) -> Expression,
    ) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (product, length) in lengths.iter().enumerate() {
            let steps = end.saturating_sub(*length)..end;
            found.extend(
                steps
                    .filter(|j| !side(&self.out.held[product][*j]).is_constant())
                    .map(|j| (product, j)),
            );
        }
        found
    }

    fn above_floor(&mut self, boundary: usize, mut drain: Row) {
        drain.add(-1.0, self.out.energy[boundary]);
        self.program
            .at_most(&mut drain, -self.session.floor / self.problem.step_hours);
    }

    fn below_ceiling(&mut self, boundary: usize, mut fill: Row) {
        fill.add(1.0, self.out.energy[boundary]);
        self.program
            .at_most(&mut fill, self.session.capacity / self.problem.step_hours);
    }

    /// The plain band at a boundary, where no headroom row implies it and power alone could break it.
    fn band(&mut self, boundary: usize, floor_kept: bool, ceiling_kept: bool) {
        let (least, most) = self.reach[boundary];
        let last = boundary == self.session.share.len();
        // Energy that can only rise keeps the floor, and the ceiling everywhere if at the end.
        let (rises, falls) = (
            self.session.discharge_kw <= 0.0,
            charge_kw(self.session) <= 0.0,
        );
        if !floor_kept && least < self.session.floor && !rises && (last || !falls) {
            self.above_floor(boundary, Row::default());
        }
        if !ceiling_kept && most > self.session.capacity && !falls && (last || !rises) {
            self.below_ceiling(boundary, Row::default());
        }
    }

    /// Energy missing at departure.
    fn departure(&mut self) {
        let (session, hours) = (self.session, self.problem.step_hours);
        let (energy, (least, _)) = (
            self.out.energy[session.share.len()],
            self.reach[session.share.len()],
        );
        let most_missing = session.goal - least.max(session.floor);
        if energy.is_constant() {
            self.program.offset +=
                self.problem.shortfall * (session.goal - session.arrival).max(0.0);
        } else if most_missing > 0.0 {
            let cost = self.problem.shortfall * hours;
            let missing = Expression::column(self.program.column(cost, 0.0, most_missing / hours));
            self.program.above(missing, 0.0);
            self.program
                .above(energy.add(1.0, missing), session.goal / hours);
        }
    }
}

/// Windows that no other window contains; each window lists its members in order, once.
fn widest(windows: impl Iterator<Item = Vec<(usize, usize)>>) -> Vec<Vec<(usize, usize)>> {
    let mut kept: Vec<Vec<(usize, usize)>> = Vec::new();
    for window in windows.filter(|window| !window.is_empty()) {
        let within = |inner: &[(usize, usize)], outer: &[(usize, usize)]| {
            inner.iter().all(|at| outer.contains(at))
        };
        if kept.iter().any(|other| within(&window, other)) {
            continue;
        }
        kept.retain(|other| !within(other, &window));
        kept.push(window);
    }
    kept
}
