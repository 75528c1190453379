//! What a schedule costs and which rows of R it breaks, written from the contract's rows and nothing else.

use std::fmt;

use super::problem::{Headroom, Problem, Schedule, Session, SessionSchedule};

/// Rows a schedule breaks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Violations {
    /// Every row broken by more than the tolerance.
    pub rows: Vec<Violation>,
}

/// One broken row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Violation {
    /// The row's meaning.
    pub row: Row,
    /// Session, site or product the row belongs to.
    pub index: usize,
    /// Step (or boundary) of the grid.
    pub step: usize,
    /// By how much, kW or kWh.
    pub excess: f64,
}

/// The rows of R.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Vectors of the wrong length or values that are not numbers.
    Shape,
    /// `0 <= c <= f*Pc`, `0 <= d <= f*Pd`, `c/Pc + d/Pd <= f`.
    Power,
    /// The energy balance from step to step, and the arrival energy.
    Balance,
    /// `F <= e <= C`.
    Band,
    /// `e[last] + xi >= goal`, `xi >= 0`.
    Goal,
    /// Reserve below zero, outside whole steps, or more of it cancelling charging than there is.
    Reserve,
    /// Power kept for reserve.
    PowerHeadroom,
    /// Energy kept for reserve.
    EnergyHeadroom,
    /// Less held than sold.
    Pool,
    /// A site's import or export limit.
    Site,
}

impl Violations {
    /// Whether every row holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The largest excess, kW or kWh; zero where every row holds.
    #[must_use]
    pub fn worst(&self) -> f64 {
        self.rows
            .iter()
            .map(|violation| violation.excess)
            .fold(0.0, f64::max)
    }

    fn at_most(&mut self, row: Row, index: usize, step: usize, value: f64, limit: f64) {
        let excess = value - limit;
        if excess > TOLERANCE || excess.is_nan() {
            self.rows.push(Violation {
                row,
                index,
                step,
                excess: if excess.is_nan() {
                    f64::INFINITY
                } else {
                    excess
                },
            });
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows broken", self.rows.len())?;
        for v in self.rows.iter().take(5) {
            write!(
                f,
                "; {:?} of {} at step {} by {}",
                v.row, v.index, v.step, v.excess
            )?;
        }
        Ok(())
    }
}

/// Excess up to which a row counts as kept: a milliwatt, or the energy of a milliwatt over an hour.
const TOLERANCE: f64 = 1e-6;

/// Every row of R the schedule breaks by more than a milliwatt (milliwatt-hour).
#[must_use]
pub fn check(problem: &Problem, schedule: &Schedule) -> Violations {
    let mut found = Violations::default();
    if schedule.sessions.len() != problem.sessions.len() || !shaped(problem, schedule) {
        found.at_most(Row::Shape, 0, 0, f64::NAN, 0.0);
        return found;
    }
    for (index, (session, done)) in problem.sessions.iter().zip(&schedule.sessions).enumerate() {
        energy_rows(problem, index, session, done, &mut found);
        if !problem.reserves.is_empty() {
            reserve_rows(problem, index, session, done, &mut found);
            match problem.headroom {
                Headroom::Snapshot => snapshot_rows(problem, index, session, done, &mut found),
                Headroom::Window { recovery_steps } => {
                    window_rows(problem, index, session, done, recovery_steps, &mut found);
                }
            }
        }
    }
    pool_rows(problem, schedule, &mut found);
    site_rows(problem, schedule, &mut found);
    found
}

/// Net cost of a schedule, EUR: energy, fees and wear less capacity payments, without the price of missing energy.
#[must_use]
pub fn net_cost(problem: &Problem, schedule: &Schedule) -> f64 {
    let mut total = 0.0;
    for (session, done) in problem.sessions.iter().zip(&schedule.sessions) {
        for ((step, c), d) in session.steps().zip(&done.charge_kw).zip(&done.discharge_kw) {
            let (import, export) = (problem.import_price[step], problem.export_price[step]);
            total += problem.step_hours / 1000.0 * (import * c - export * d + problem.wear * d);
        }
    }
    for (reserve, sold) in problem.reserves.iter().zip(&schedule.block_mw) {
        total -= reserve
            .blocks
            .iter()
            .zip(sold)
            .map(|(block, mw)| block.price * mw)
            .sum::<f64>();
    }
    total
}

/// The objective of R, EUR: [`net_cost`] plus the price of missing energy.
#[must_use]
pub fn objective(problem: &Problem, schedule: &Schedule) -> f64 {
    net_cost(problem, schedule) + problem.shortfall * schedule.short_kwh()
}

fn shaped(problem: &Problem, schedule: &Schedule) -> bool {
    let held = |session: &Session, done: &SessionSchedule| {
        let steps = session.share.len();
        done.reserves.len() == problem.reserves.len()
            && done.reserves.iter().all(|h| {
                h.up_charge_kw.len() == steps
                    && h.up_discharge_kw.len() == steps
                    && h.down_kw.len() == steps
            })
    };
    let sold = schedule.block_mw.len() == problem.reserves.len()
        && problem
            .reserves
            .iter()
            .zip(&schedule.block_mw)
            .all(|(r, sold)| r.blocks.len() == sold.len());
    sold && problem
        .sessions
        .iter()
        .zip(&schedule.sessions)
        .all(|(session, done)| {
            let steps = session.share.len();
            done.charge_kw.len() == steps
                && done.discharge_kw.len() == steps
                && done.energy_kwh.len() == steps + 1
                && (problem.reserves.is_empty() || held(session, done))
        })
}

fn energy_rows(
    problem: &Problem,
    index: usize,
    session: &Session,
    done: &SessionSchedule,
    found: &mut Violations,
) {
    found.at_most(
        Row::Balance,
        index,
        session.first,
        (done.energy_kwh[0] - session.arrival).abs(),
        0.0,
    );
    for (j, step) in session.steps().enumerate() {
        let (c, d, f) = (done.charge_kw[j], done.discharge_kw[j], session.share[j]);
        let (from, to) = (done.energy_kwh[j], done.energy_kwh[j + 1]);
        for (value, limit) in [
            (-c, 0.0),
            (-d, 0.0),
            (c, f * session.charge_kw),
            (d, f * session.discharge_kw),
        ] {
            found.at_most(Row::Power, index, step, value, limit);
        }
        if session.discharge_kw > 0.0 && session.charge_kw > 0.0 {
            let both = c + d * session.charge_kw / session.discharge_kw;
            found.at_most(Row::Power, index, step, both, f * session.charge_kw);
        }
        let gain =
            problem.step_hours * (session.charge_efficiency * c - d / session.discharge_efficiency);
        found.at_most(Row::Balance, index, step, (from + gain - to).abs(), 0.0);
        found.at_most(Row::Band, index, step + 1, session.floor - to, 0.0);
        found.at_most(Row::Band, index, step + 1, to, session.capacity);
    }
    let last = done.energy_kwh[session.share.len()];
    found.at_most(
        Row::Goal,
        index,
        session.steps().end,
        session.goal - last - done.short_kwh,
        0.0,
    );
    found.at_most(Row::Goal, index, session.steps().end, -done.short_kwh, 0.0);
}

fn reserve_rows(
    problem: &Problem,
    index: usize,
    session: &Session,
    done: &SessionSchedule,
    found: &mut Violations,
) {
    for (j, step) in session.steps().enumerate() {
        let (c, d) = (done.charge_kw[j], done.discharge_kw[j]);
        let (mut cancelled, mut up, mut down) = (0.0, 0.0, 0.0);
        for (reserve, held) in problem.reserves.iter().zip(&done.reserves) {
            let parts = [
                held.up_charge_kw[j],
                held.up_discharge_kw[j],
                held.down_kw[j],
            ];
            let blocked = !session.whole(j)
                || !reserve
                    .blocks
                    .iter()
                    .any(|block| block.steps.contains(&step));
            for part in parts {
                found.at_most(Row::Reserve, index, step, -part, 0.0);
                if blocked {
                    found.at_most(Row::Reserve, index, step, part, 0.0);
                }
            }
            cancelled += parts[0];
            up += reserve.power_factor * (parts[0] + parts[1]);
            down += reserve.power_factor * parts[2];
        }
        found.at_most(Row::Reserve, index, step, cancelled, c);
        if session.whole(j) {
            found.at_most(
                Row::PowerHeadroom,
                index,
                step,
                up - (c - d),
                session.discharge_kw,
            );
            found.at_most(
                Row::PowerHeadroom,
                index,
                step,
                c - d + down,
                session.charge_kw,
            );
        }
    }
}

/// What full activation of everything held in step `j` takes from and adds to the battery per hour, kW, per product.
fn draw(session: &Session, done: &SessionSchedule, product: usize, j: usize) -> (f64, f64) {
    let held = &done.reserves[product];
    let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
    (
        ec * held.up_charge_kw[j] + held.up_discharge_kw[j] / ed,
        held.down_kw[j] / ed,
    )
}

fn snapshot_rows(
    problem: &Problem,
    index: usize,
    session: &Session,
    done: &SessionSchedule,
    found: &mut Violations,
) {
    for (j, step) in session.steps().enumerate() {
        let (mut drain, mut fill) = (0.0, 0.0);
        for (product, reserve) in problem.reserves.iter().enumerate() {
            let (out, back) = draw(session, done, product, j);
            drain += reserve.endurance_hours * out;
            fill += reserve.endurance_hours * back;
        }
        for energy in [done.energy_kwh[j], done.energy_kwh[j + 1]] {
            found.at_most(
                Row::EnergyHeadroom,
                index,
                step,
                session.floor - (energy - drain),
                0.0,
            );
            found.at_most(
                Row::EnergyHeadroom,
                index,
                step,
                energy + fill,
                session.capacity,
            );
        }
    }
}

fn window_rows(
    problem: &Problem,
    index: usize,
    session: &Session,
    done: &SessionSchedule,
    recovery: usize,
    found: &mut Violations,
) {
    let lengths: Vec<usize> = problem
        .reserves
        .iter()
        .map(|r| r.window_steps(problem.step_hours))
        .collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let count = session.share.len();
    for end in 1..=count {
        for at in (end + 1).saturating_sub(longest).max(1)..=count.min(end + recovery) {
            let (mut drain, mut fill) = (0.0, 0.0);
            for (product, length) in lengths.iter().enumerate() {
                for j in end.saturating_sub(*length)..end.min(at) {
                    let (out, back) = draw(session, done, product, j);
                    drain += problem.step_hours * out;
                    fill += problem.step_hours * back;
                }
            }
            let energy = done.energy_kwh[at];
            let step = session.first + at;
            found.at_most(
                Row::EnergyHeadroom,
                index,
                step,
                session.floor - (energy - drain),
                0.0,
            );
            found.at_most(
                Row::EnergyHeadroom,
                index,
                step,
                energy + fill,
                session.capacity,
            );
        }
    }
}

fn pool_rows(problem: &Problem, schedule: &Schedule, found: &mut Violations) {
    for (product, reserve) in problem.reserves.iter().enumerate() {
        let (mut up, mut down) = (
            vec![0.0; problem.import_price.len()],
            vec![0.0; problem.import_price.len()],
        );
        for (session, done) in problem.sessions.iter().zip(&schedule.sessions) {
            for (j, step) in session.steps().enumerate() {
                up[step] += done.reserves[product].up_kw(j);
                down[step] += done.reserves[product].down_kw[j];
            }
        }
        for (block, mw) in reserve.blocks.iter().zip(&schedule.block_mw[product]) {
            found.at_most(Row::Pool, product, block.steps.start, -mw, 0.0);
            for step in block.steps.clone() {
                if reserve.direction.has_up() {
                    found.at_most(Row::Pool, product, step, 1000.0 * mw, up[step]);
                }
                if reserve.direction.has_down() {
                    found.at_most(Row::Pool, product, step, 1000.0 * mw, down[step]);
                }
            }
        }
    }
}

fn site_rows(problem: &Problem, schedule: &Schedule, found: &mut Violations) {
    for (index, site) in problem.sites.iter().enumerate() {
        let steps = problem.import_price.len();
        let mut net: Vec<f64> = (0..steps).map(|step| site.base(step)).collect();
        let (mut up, mut down) = (vec![0.0; steps], vec![0.0; steps]);
        let there = problem
            .sessions
            .iter()
            .zip(&schedule.sessions)
            .filter(|(s, _)| s.site == Some(index));
        for (session, done) in there {
            for (j, step) in session.steps().enumerate() {
                net[step] += done.charge_kw[j] - done.discharge_kw[j];
                up[step] += done.reserves.iter().map(|held| held.up_kw(j)).sum::<f64>();
                down[step] += done
                    .reserves
                    .iter()
                    .map(|held| held.down_kw[j])
                    .sum::<f64>();
            }
        }
        for step in 0..steps {
            found.at_most(
                Row::Site,
                index,
                step,
                net[step] + down[step],
                site.import_kw,
            );
            found.at_most(Row::Site, index, step, up[step] - net[step], site.export_kw);
        }
    }
}
