//! What the structured path is asked for, and for which shapes it has rows.

use crate::reference::{Direction, Headroom, Problem, SessionSchedule};

use super::build::{NO_SHARE, plugged_in};

/// One limit of one site in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited {
    pub(crate) site: usize,
    pub(crate) step: usize,
    pub(crate) import: bool,
    /// What sessions may add, kW.
    pub(crate) room: f64,
}

/// What is to be solved together.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) problem: &'a Problem,
    /// Indices of the sessions.
    pub(crate) sessions: &'a [usize],
    pub(crate) limits: &'a [Limited],
    /// `(product, block)` on sale; every session that can hold one is among the sessions.
    pub(crate) blocks: &'a [(usize, usize)],
    pub(crate) threads: usize,
    /// Relative gap wanted.
    pub(crate) gap: f64,
    /// Sessions that balance the others in a larger pool; what the gap wanted needs without.
    pub(crate) few: Option<usize>,
}

/// A schedule that keeps its rows up to the solver's last digits, and what no schedule can undercut.
#[derive(Debug)]
pub(crate) struct Found {
    /// Powers and reserves; energies are the caller's to follow.
    pub(crate) schedules: Vec<(usize, SessionSchedule)>,
    /// Prices of the limits, EUR per kW, in the caller's order.
    pub(crate) prices: Vec<f64>,
    /// EUR.
    pub(crate) lower_bound: f64,
    pub(crate) iterations: u32,
}

/// Whether the shape is one this method has rows for: at most one symmetric product with windows of one or two steps and
/// at most two to recover (or snapshots), a power factor of at least 1, and every session plugged in throughout.
pub(crate) fn supports(asked: &Asked<'_>) -> bool {
    let problem = asked.problem;
    let product = asked.blocks.first().map(|(product, _)| *product);
    let one = asked
        .blocks
        .iter()
        .all(|(other, _)| Some(*other) == product);
    let shape = product.is_none_or(|product| {
        let reserve = &problem.reserves[product];
        let rule = match problem.headroom {
            Headroom::Snapshot => true,
            Headroom::Window { recovery_steps } => {
                recovery_steps <= 2 && reserve.window_steps(problem.step_hours) <= 2
            }
        };
        reserve.direction == Direction::Symmetric && reserve.power_factor >= 1.0 && rule
    });
    let rows: usize = asked
        .blocks
        .iter()
        .map(|(product, block)| 2 * problem.reserves[*product].blocks[*block].steps.len())
        .sum();
    one && shape
        && rows <= MOST_POOL_ROWS
        && asked.sessions.iter().all(|index| {
            let session = &problem.sessions[*index];
            let window = plugged_in(session);
            let shares = &session.share[window.start - session.first..window.end - session.first];
            !window.is_empty()
                && session.charge_kw > 0.0
                && (session.discharge_kw <= 0.0 || session.discharge_kw >= 0.01 * session.charge_kw)
                && session.capacity - session.floor > LEAST_BAND
                && (session.discharge_kw > 0.0 || session.capacity - session.arrival > LEAST_BAND)
                && shares.iter().all(|share| *share > NO_SHARE)
        })
}

/// Rows of a pool that are still cheap to factor whole.
const MOST_POOL_ROWS: usize = 400;

/// Room in a battery below which rows have hardly an interior, kWh.
const LEAST_BAND: f64 = 1e-3;
