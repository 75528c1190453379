//! Sessions that limits and blocks join: attempts of the interior point, judged by what they prove and what can be
//! repaired.

use crate::storage::{self, Sum};

use super::check::{check, objective};
use super::columns::Offer;
use super::coupling::{self, Component, Model, SiteRow};
use super::interior::{self, Iterate, Verdict};
use super::problem::{Infeasible, Problem, Schedule, SessionSchedule};
use super::repair;
use super::solve::{Part, Solved, alone, as_storage, blank, gap};

/// Gap at which no further attempt is made; the contract asks for 1e-4.
const GOOD_ENOUGH: f64 = 1e-6;

/// Solves one component whose sessions cannot be left alone.
pub(super) fn solve(problem: &Problem, offer: &Offer, component: &Component) -> Part {
    let model = coupling::model(problem, offer, component);
    let mut best: Option<(f64, Solved)> = None;
    let mut lower_bound = model.program.bound(&[]);
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
        let mut schedule = blank(problem);
        repair::read(component, &model, &iterate.x, &mut schedule);
        repair::repair(problem, component, &mut schedule);
        keep_better(
            &mut best,
            upper(
                problem,
                component,
                schedule,
                site_prices(component, &model, &iterate),
            ),
        );
        if best
            .as_ref()
            .is_some_and(|(cost, _)| gap(*cost, lower_bound) <= GOOD_ENOUGH)
        {
            break;
        }
    }
    if best.is_none() {
        keep_better(&mut best, without_solver(problem, component));
    }
    match best {
        Some((_, solved)) => Part::Solved(Box::new(Solved {
            lower_bound,
            iterations,
            ..solved
        })),
        None => Part::Stalled(format!(
            "{} sessions together: {last_word}",
            component.sessions.len()
        )),
    }
}

fn keep_better(best: &mut Option<(f64, Solved)>, next: Option<(f64, Solved)>) {
    if let Some((cost, solved)) = next
        && best.as_ref().is_none_or(|(known, _)| cost < *known)
    {
        *best = Some((cost, solved));
    }
}

/// Where no attempt left anything: every session's own best, cut back to the limits, and no reserve sold. The gap says
/// what that is worth.
fn without_solver(problem: &Problem, component: &Component) -> Option<(f64, Solved)> {
    let mut schedule = blank(problem);
    for (index, done) in alone(problem, component).ok()?.sessions {
        schedule.sessions[index] = done;
    }
    repair::repair(problem, component, &mut schedule);
    upper(problem, component, schedule, Vec::new())
}

/// What a repaired schedule costs, if it keeps every row; `sites` are the prices of its limits. The bound is the caller's.
pub(super) fn upper(
    problem: &Problem,
    component: &Component,
    mut schedule: Schedule,
    sites: Vec<(SiteRow, f64)>,
) -> Option<(f64, Solved)> {
    let own = |index: &usize| std::mem::take(&mut schedule.sessions[*index]);
    let sessions: Vec<SessionSchedule> = component.sessions.iter().map(own).collect();
    let schedule = Schedule {
        sessions,
        block_mw: schedule.block_mw,
    };
    let part = component.apart(problem);
    if !component.keeps_limits(problem, schedule.sessions.iter())
        || !check(&part, &schedule).is_empty()
    {
        return None;
    }
    let cost = objective(&part, &schedule);
    let Schedule { sessions, block_mw } = schedule;
    let volume = |(product, block): &(usize, usize)| (*product, *block, block_mw[*product][*block]);
    let solved = Solved {
        sessions: component.sessions.iter().copied().zip(sessions).collect(),
        volumes: component.blocks.iter().map(volume).collect(),
        energy: Vec::new(),
        sites,
        lower_bound: f64::NEG_INFINITY,
        iterations: 0,
    };
    Some((cost, solved))
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
