//! Solves R: every session alone first, then only what limits and blocks join.

use crate::scale;
use crate::storage::{self, Battery, Plan, Step, Sum};

use super::check::{net_cost, objective};
use super::columns::Offer;
use super::coupling::{self, Component, SiteRow};
use super::problem::{
    Answer, Duals, Infeasible, Outcome, Problem, Schedule, Session, SessionSchedule,
};
use super::structured;
use super::together;
use super::valid::ProblemError;

/// Least size of an objective for a relative gap, EUR; below a cent a relative figure says nothing.
const LEAST_SIZE: f64 = 0.01;

/// Threads for parts that do not depend on each other; the answer is the same on any number.
const THREADS: usize = 2;

/// Solves the reference problem.
///
/// # Errors
/// [`ProblemError`] when a number or an index of the problem is out of range. That there is no schedule, or that the
/// solver got stuck, is an [`Outcome`].
pub fn solve(problem: &Problem) -> Result<Outcome, ProblemError> {
    solve_on(problem, THREADS)
}

/// [`solve`] on a given number of threads.
///
/// # Errors
/// As [`solve`].
pub fn solve_on(problem: &Problem, threads: usize) -> Result<Outcome, ProblemError> {
    solve_with(
        problem,
        Effort {
            threads,
            ..Effort::default()
        },
    )
}

/// How a problem is solved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// Threads; the answer is the same on any number.
    pub threads: usize,
    /// Sessions from which a component goes to the structured interior point before the general one.
    pub structured_from: usize,
    /// Relative gap at which the structured path may stop; the rest of a problem is solved as near as it goes.
    pub gap: f64,
    /// Sessions that balance the others of a larger pool; without, as many as the gap wanted needs.
    pub few: Option<usize>,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            threads: THREADS,
            structured_from: STRUCTURED_FROM,
            gap: GAP,
            few: None,
        }
    }
}

/// Below this many sessions the general interior point takes two seconds or less, and ends nearer to the optimum.
const STRUCTURED_FROM: usize = 200;

/// The contract asks for 1e-4 between solvers; half of it is left to the other.
const GAP: f64 = 5e-5;

/// [`solve`] by a given effort.
///
/// # Errors
/// As [`solve`].
pub fn solve_with(problem: &Problem, effort: Effort) -> Result<Outcome, ProblemError> {
    let threads = effort.threads;
    problem.check()?;
    let open = coupling::without_shut_steps(problem);
    let problem = open.as_ref();
    let rows = match coupling::site_rows(problem) {
        Ok(rows) => rows,
        Err((site, step, excess_kw)) => {
            return Ok(Outcome::Infeasible(Infeasible {
                site,
                step,
                excess_kw,
            }));
        }
    };
    let offer = Offer::of(problem);
    let components = coupling::components(problem, &offer, &rows);
    let parts = scale::each(components.iter().collect(), threads, |component| {
        part(problem, &offer, component, effort)
    });
    Ok(assemble(problem, parts))
}

/// What one component came to.
pub(super) enum Part {
    Solved(Box<Solved>),
    Infeasible(Infeasible),
    Stalled(String),
}

/// One component's share of the answer.
pub(super) struct Solved {
    pub(super) sessions: Vec<(usize, SessionSchedule)>,
    pub(super) volumes: Vec<(usize, usize, f64)>,
    pub(super) energy: Vec<(usize, Vec<f64>)>,
    pub(super) sites: Vec<(SiteRow, f64)>,
    pub(super) lower_bound: f64,
    pub(super) iterations: u32,
}

fn assemble(problem: &Problem, parts: Vec<Part>) -> Outcome {
    let mut schedule = blank(problem);
    let mut duals = Duals {
        energy: vec![Vec::new(); problem.sessions.len()],
        ..Duals::default()
    };
    let (mut bound, mut iterations) = (Sum::default(), 0);
    for part in parts {
        match part {
            Part::Infeasible(proof) => return Outcome::Infeasible(proof),
            Part::Stalled(reason) => return Outcome::Stalled { reason },
            Part::Solved(solved) => {
                bound.add(solved.lower_bound);
                iterations += solved.iterations;
                solved
                    .sessions
                    .into_iter()
                    .for_each(|(index, done)| schedule.sessions[index] = done);
                solved
                    .volumes
                    .iter()
                    .for_each(|(product, block, mw)| schedule.block_mw[*product][*block] = *mw);
                solved
                    .energy
                    .into_iter()
                    .for_each(|(index, values)| duals.energy[index] = values);
                for (row, price) in solved.sites.iter().filter(|(_, price)| *price > 0.0) {
                    let list = if row.import {
                        &mut duals.import
                    } else {
                        &mut duals.export
                    };
                    list.push((row.site, row.step, *price));
                }
            }
        }
    }
    let objective = objective(problem, &schedule);
    let lower_bound = bound.at_least().min(objective);
    let net_cost = net_cost(problem, &schedule);
    let relative_gap = gap(objective, lower_bound);
    Outcome::Solved(Box::new(Answer {
        schedule,
        objective,
        net_cost,
        lower_bound,
        relative_gap,
        duals,
        iterations,
    }))
}

pub(super) fn gap(objective: f64, lower_bound: f64) -> f64 {
    ((objective - lower_bound) / objective.abs().max(LEAST_SIZE)).max(0.0)
}

pub(super) fn blank(problem: &Problem) -> Schedule {
    Schedule {
        sessions: vec![SessionSchedule::default(); problem.sessions.len()],
        block_mw: problem
            .reserves
            .iter()
            .map(|reserve| vec![0.0; reserve.blocks.len()])
            .collect(),
    }
}

/// Solves one component: each session alone, and together only if that breaks a limit or leaves a block to sell.
fn part(problem: &Problem, offer: &Offer, component: &Component, effort: Effort) -> Part {
    if component.blocks.is_empty() {
        match alone(problem, component) {
            Ok(solved)
                if component
                    .keeps_limits(problem, solved.sessions.iter().map(|(_, done)| done)) =>
            {
                return Part::Solved(Box::new(solved));
            }
            Ok(_) => {}
            Err(reason) => return Part::Stalled(reason),
        }
    }
    if component.sessions.len() >= effort.structured_from
        && let Some(solved) = structured::solve(problem, component, effort)
    {
        return Part::Solved(Box::new(solved));
    }
    together::solve(problem, offer, component)
}

/// The battery and steps of a session, with prices of site limits added (EUR per kW and step; empty for none).
pub(super) fn as_storage(
    problem: &Problem,
    session: &Session,
    extra: &[f64],
) -> (Battery, Vec<Step>) {
    let battery = Battery {
        arrival_kwh: session.arrival,
        charge_efficiency: session.charge_efficiency,
        discharge_efficiency: session.discharge_efficiency,
        goal_kwh: session.goal,
        shortfall: problem.shortfall,
        end_value: 0.0,
    };
    let hours = problem.step_hours;
    let steps = session.steps().zip(&session.share).map(|(step, share)| {
        let more = extra.get(step).copied().unwrap_or(0.0) * 1000.0 / hours;
        let price = [
            problem.import_price[step] + more,
            problem.wear - problem.export_price[step] - more,
        ];
        let power = [share * session.charge_kw, share * session.discharge_kw];
        Step::priced(hours, power, price, [session.floor, session.capacity])
    });
    (battery, steps.collect())
}

/// Every session of a component by itself.
pub(super) fn alone(problem: &Problem, component: &Component) -> Result<Solved, String> {
    let mut bound = Sum::default();
    let (mut sessions, mut energy) = (Vec::new(), Vec::new());
    for index in &component.sessions {
        let session = &problem.sessions[*index];
        let (battery, steps) = as_storage(problem, session, &[]);
        let plan = storage::cheapest(&battery, &steps)
            .map_err(|error| format!("session {index}: {error}"))?;
        let lower = storage::bound(&battery, &steps, &plan.energy_value);
        bound.add(lower.map_err(|error| format!("session {index}: {error}"))?);
        energy.push((*index, plan.energy_value.clone()));
        sessions.push((*index, as_schedule(problem, session, plan)));
    }
    let lower_bound = bound.at_least();
    Ok(Solved {
        sessions,
        volumes: Vec::new(),
        energy,
        sites: Vec::new(),
        lower_bound,
        iterations: 0,
    })
}

fn as_schedule(problem: &Problem, session: &Session, plan: Plan) -> SessionSchedule {
    let none = || vec![0.0; session.share.len()];
    let held = || super::problem::Held {
        up_charge_kw: none(),
        up_discharge_kw: none(),
        down_kw: none(),
    };
    SessionSchedule {
        charge_kw: plan.charge_kw,
        discharge_kw: plan.discharge_kw,
        energy_kwh: plan.energy_kwh,
        short_kwh: plan.short_kwh,
        reserves: problem.reserves.iter().map(|_| held()).collect(),
    }
}
