//! Many sessions together on the structured path: its schedule repaired site by site, its bound taken as it is proven.

use std::collections::BTreeMap;

use crate::scale::{self, Asked, Found, Limited};

use super::coupling::{Component, SiteRow};
use super::problem::Problem;
use super::repair;
use super::solve::{Effort, Solved, blank, gap};
use super::together;

/// Gap beyond which the answer is left to the general solver, where that could still be waited for.
const ACCEPTED_GAP: f64 = 1e-4;

/// Sessions up to which the general solver could be waited for: a thousand take minutes, and time grows with a power
/// of 1.5 and more. Whoever says how many balance a pool does not ask for it either.
const GENERAL_UP_TO: usize = 1500;

/// Solves a component on the structured path; `None` where it has no rows for the component's shape, or does not get
/// near enough to its bound.
pub(super) fn solve(problem: &Problem, component: &Component, effort: Effort) -> Option<Solved> {
    let limits: Vec<Limited> = component
        .site_rows
        .iter()
        .map(|row| Limited {
            site: row.site,
            step: row.step,
            import: row.import,
            room: row.room,
        })
        .collect();
    let asked = Asked {
        problem,
        sessions: &component.sessions,
        limits: &limits,
        blocks: &component.blocks,
        threads: effort.threads,
        gap: effort.gap,
        few: effort.few,
    };
    if !scale::supports(&asked) {
        return None;
    }
    let found = scale::solve(&asked)?;
    let solved = upper(problem, component, found)?;
    let large = component.sessions.len() > GENERAL_UP_TO || effort.few.is_some();
    (large || solved.1 <= ACCEPTED_GAP.max(effort.gap)).then_some(solved.0)
}

/// The schedule repaired, if it then keeps every row, and its gap.
fn upper(problem: &Problem, component: &Component, found: Found) -> Option<(Solved, f64)> {
    let mut schedule = blank(problem);
    for (index, done) in found.schedules {
        schedule.sessions[index] = done;
    }
    for part in by_site(problem, component) {
        repair::within_rows(problem, &part, &mut schedule);
    }
    repair::volumes(problem, component, &mut schedule);
    let rows = component.site_rows.iter().copied();
    let (cost, solved) = together::upper(
        problem,
        component,
        schedule,
        rows.zip(found.prices).collect(),
    )?;
    let solved = Solved {
        lower_bound: found.lower_bound,
        iterations: found.iterations,
        ..solved
    };
    Some((solved, gap(cost, found.lower_bound)))
}

/// The component's sites one by one, and its sessions without a site; all of them with its blocks.
fn by_site(problem: &Problem, component: &Component) -> Vec<Component> {
    let mut parts: BTreeMap<Option<usize>, (Vec<usize>, Vec<SiteRow>)> = BTreeMap::new();
    for index in &component.sessions {
        let part = parts.entry(problem.sessions[*index].site).or_default();
        part.0.push(*index);
    }
    for row in &component.site_rows {
        parts.entry(Some(row.site)).or_default().1.push(*row);
    }
    parts
        .into_values()
        .map(|(sessions, site_rows)| Component {
            sessions,
            site_rows,
            blocks: component.blocks.clone(),
        })
        .collect()
}
