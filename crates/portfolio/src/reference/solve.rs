//! Solves R: every session alone first, then only what limits and blocks join.

use crate::storage::{self, Battery, Plan, Step, Sum};

use super::check::{check, net_cost, objective};
use super::columns::Offer;
use super::coupling::{self, Component, Model, SiteRow};
use super::interior::{self, Iterate, Verdict};
use super::problem::{
    Answer, Duals, Infeasible, Outcome, Problem, Schedule, Session, SessionSchedule,
};
use super::repair;
use super::valid::ProblemError;

/// Gap at which no further attempt is made; the contract asks for 1e-4.
const GOOD_ENOUGH: f64 = 1e-6;

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
    problem.check()?;
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
    let parts = in_parallel(&components, threads, |component| {
        part(problem, &offer, component)
    });
    Ok(assemble(problem, parts))
}

/// What one component came to.
enum Part {
    Solved(Box<Solved>),
    Infeasible(Infeasible),
    Stalled(String),
}

/// One component's share of the answer.
struct Solved {
    sessions: Vec<(usize, SessionSchedule)>,
    volumes: Vec<(usize, usize, f64)>,
    energy: Vec<(usize, Vec<f64>)>,
    sites: Vec<(SiteRow, f64)>,
    lower_bound: f64,
    iterations: u32,
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

fn gap(objective: f64, lower_bound: f64) -> f64 {
    ((objective - lower_bound) / objective.abs().max(LEAST_SIZE)).max(0.0)
}

fn blank(problem: &Problem) -> Schedule {
    Schedule {
        sessions: vec![SessionSchedule::default(); problem.sessions.len()],
        block_mw: problem
            .reserves
            .iter()
            .map(|reserve| vec![0.0; reserve.blocks.len()])
            .collect(),
    }
}

/// Runs `work` over items on a few threads; results come back in the items' order.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len()))
            .map(|_| scope.spawn(run))
            .collect();
        let mut results = run();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(cause) => std::panic::resume_unwind(cause),
            }
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Solves one component: each session alone, and together only if that breaks a limit or leaves a block to sell.
fn part(problem: &Problem, offer: &Offer, component: &Component) -> Part {
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
    let model = coupling::model(problem, offer, component);
    let mut best: Option<(f64, Solved)> = None;
    let mut lower_bound = f64::NEG_INFINITY;
    let (mut last_word, mut iterations) = (String::new(), 0);
    for attempt in 0..interior::ATTEMPTS {
        let iterate = interior::minimise(&model.program, attempt);
        iterations += iterate.iterations;
        last_word.clone_from(&iterate.word);
        match iterate.verdict {
            Verdict::Infeasible if model.program.excludes(&iterate.prices) => {
                return Part::Infeasible(blame(component, &model, &iterate));
            }
            Verdict::Infeasible | Verdict::Failed => continue,
            Verdict::Candidate => {}
        }
        lower_bound = lower_bound.max(lower(problem, component, &model, &iterate));
        if let Some((cost, solved)) = upper(problem, component, &model, &iterate)
            && best.as_ref().is_none_or(|(known, _)| cost < *known)
        {
            best = Some((cost, solved));
        }
        if best
            .as_ref()
            .is_some_and(|(cost, _)| gap(*cost, lower_bound) <= GOOD_ENOUGH)
        {
            break;
        }
    }
    match best {
        Some((_, solved)) if lower_bound.is_finite() => Part::Solved(Box::new(Solved {
            lower_bound,
            iterations,
            ..solved
        })),
        _ => Part::Stalled(format!(
            "{} sessions together: {last_word}",
            component.sessions.len()
        )),
    }
}

/// The battery and steps of a session, with prices of site limits added (EUR per kW and step; empty for none).
fn as_storage(problem: &Problem, session: &Session, extra: &[f64]) -> (Battery, Vec<Step>) {
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
fn alone(problem: &Problem, component: &Component) -> Result<Solved, String> {
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

/// The limit that weighs most in the proof that nothing keeps them all.
fn blame(component: &Component, model: &Model, iterate: &Iterate) -> Infeasible {
    let weight = |row: &Option<usize>| {
        row.and_then(|row| iterate.prices.get(row))
            .copied()
            .unwrap_or(0.0)
    };
    let pairs = component.site_rows.iter().zip(&model.site_rows);
    let heaviest = pairs
        .max_by(|a, b| weight(a.1).total_cmp(&weight(b.1)))
        .map(|(row, _)| *row);
    heaviest.map_or(
        Infeasible {
            site: 0,
            step: 0,
            excess_kw: 0.0,
        },
        |row| Infeasible {
            site: row.site,
            step: row.step,
            excess_kw: 0.0,
        },
    )
}

/// Prices of a component's site limits, EUR per kW and step.
fn site_prices(component: &Component, model: &Model, iterate: &Iterate) -> Vec<(SiteRow, f64)> {
    let price = |row: &Option<usize>| {
        row.and_then(|row| iterate.prices.get(row))
            .copied()
            .unwrap_or(0.0)
            .max(0.0)
    };
    component
        .site_rows
        .iter()
        .zip(&model.site_rows)
        .map(|(row, at)| (*row, price(at)))
        .collect()
}

/// The best lower bound an iterate gives.
fn lower(problem: &Problem, component: &Component, model: &Model, iterate: &Iterate) -> f64 {
    if component.blocks.is_empty() {
        by_sessions(problem, component, &site_prices(component, model, iterate))
            .unwrap_or(f64::NEG_INFINITY)
    } else {
        model.program.bound(&iterate.prices)
    }
}

/// With prices on the site limits every session is alone again: its exact optimum, less what the limits are paid.
fn by_sessions(problem: &Problem, component: &Component, prices: &[(SiteRow, f64)]) -> Option<f64> {
    let mut extra = vec![vec![0.0; problem.import_price.len()]; problem.sites.len()];
    let mut bound = Sum::default();
    for (row, price) in prices {
        extra[row.site][row.step] += if row.import { *price } else { -price };
        bound.add(-price * row.room);
    }
    for index in &component.sessions {
        let session = &problem.sessions[*index];
        let own = session
            .site
            .and_then(|site| extra.get(site))
            .map_or(&[][..], Vec::as_slice);
        let (battery, steps) = as_storage(problem, session, own);
        let plan = storage::cheapest(&battery, &steps).ok()?;
        bound.add(storage::bound(&battery, &steps, &plan.energy_value).ok()?);
    }
    Some(bound.at_least())
}

/// The repaired schedule of an iterate and its cost, if it keeps every row.
fn upper(
    problem: &Problem,
    component: &Component,
    model: &Model,
    iterate: &Iterate,
) -> Option<(f64, Solved)> {
    let mut schedule = blank(problem);
    repair::repair(problem, component, model, &iterate.x, &mut schedule);
    let part = component.apart(problem);
    let sessions: Vec<SessionSchedule> = component
        .sessions
        .iter()
        .map(|index| std::mem::take(&mut schedule.sessions[*index]))
        .collect();
    let part_schedule = Schedule {
        sessions,
        block_mw: schedule.block_mw,
    };
    if !component.keeps_limits(problem, part_schedule.sessions.iter())
        || !check(&part, &part_schedule).is_empty()
    {
        return None;
    }
    let cost = objective(&part, &part_schedule);
    let Schedule { sessions, block_mw } = part_schedule;
    let volumes = component
        .blocks
        .iter()
        .map(|(product, block)| (*product, *block, block_mw[*product][*block]));
    let solved = Solved {
        sessions: component.sessions.iter().copied().zip(sessions).collect(),
        volumes: volumes.collect(),
        energy: Vec::new(),
        sites: site_prices(component, model, iterate),
        lower_bound: f64::NEG_INFINITY,
        iterations: 0,
    };
    Some((cost, solved))
}
