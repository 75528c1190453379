//! Fees given back for energy that returns to the grid where it was drawn (`markets.md` 10), with a ledger as budget.
//!
//! ```text
//! ledger   B[0] --- + drawn[t] - k*refunded[t] - driven away ---> B[t+1]        B >= 0, drawn kWh at the connection point
//!
//! refunded[t] <= returned[t],   k*refunded[t] <= B[t]                           first in, first out: drawn before returned
//! driven away[v] >= (e[departure] - e[arrival]) / ec, at departure              what is driven is never refunded
//! ```
//!
//! The rate is the same at any time, so that refunding as early as the ledger allows is best, and money follows from the
//! powers alone.

use serde::{Deserialize, Serialize};

use super::model::{Model, Plugged};
use super::problem::{Problem, Schedule, Vehicle};
use super::vehicle::Columns;
use crate::reference::program::{Expression, Program, Row};

/// Power below which nothing can be moved, kW.
const NOTHING: f64 = 1e-9;

/// What a connection point gets back for energy fed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refund {
    /// Per MWh fed in and covered by the ledger.
    pub per_mwh: f64,
    /// Drawn energy that one kWh fed in takes off the ledger, kWh: 1 where the law exempts what is returned, one over the
    /// round trip's efficiency where it exempts what was drawn for it.
    pub drawn_per_returned: f64,
    /// Drawn at the point before the horizon and neither refunded nor driven away yet, kWh.
    pub ledger_kwh: f64,
}

/// Row numbers by meaning.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// `(site, step, row)` of what is refunded against what is returned.
    pub(super) returned: Vec<(usize, usize, usize)>,
    /// `(site, step, row)` of the ledger from one step with vehicles to the next.
    pub(super) ledger: Vec<(usize, usize, usize)>,
    /// `(site, row)` in which the ledger before the horizon stands.
    pub(super) opening: Vec<(usize, usize)>,
}

/// The refund at a vehicle's connection point.
fn of<'a>(problem: &'a Problem, vehicle: &Vehicle) -> Option<&'a Refund> {
    let site = problem.sites.get(vehicle.session.site?)?;
    site.refund.as_ref()
}

/// Adds what a vehicle drives away of what was drawn for it, kW-steps; to be called once its powers are there.
pub(super) fn build(
    problem: &Problem,
    vehicle: &Vehicle,
    program: &mut Program,
    columns: &mut Columns,
) {
    let (Some(_), Some(last)) = (of(problem, vehicle), columns.energy.last().copied()) else {
        return;
    };
    let session = &vehicle.session;
    let hours = problem.step_hours;
    let share: f64 = session.share.iter().sum();
    let fills = (session.capacity - session.arrival) / (hours * session.charge_efficiency);
    let most = (share * session.charge_kw).min(fills);
    let gained = Expression::constant(-session.arrival / hours)
        .add(1.0, last)
        .scaled(1.0 / session.charge_efficiency);
    columns.driven = Some(if last.is_constant() || most <= NOTHING {
        Expression::constant(gained.constant.max(0.0))
    } else {
        let driven = Expression::column(program.column(0.0, 0.0, most));
        program.above(driven, 0.0);
        program.above(driven.add(-1.0, gained), 0.0);
        driven
    });
}

/// Adds each point's ledger and what is refunded from it.
pub(super) fn shared(problem: &Problem, here: &Plugged, model: &mut Model) {
    for (index, site) in problem.sites.iter().enumerate() {
        if let Some(refund) = &site.refund {
            ledger(problem, here, model, (index, refund));
        }
    }
}

fn ledger(problem: &Problem, here: &Plugged, model: &mut Model, (site, refund): (usize, &Refund)) {
    let k = refund.drawn_per_returned;
    let mut known = Expression::constant(refund.ledger_kwh / problem.step_hours);
    let mut highest = known.constant;
    for step in 0..problem.import_price.len() {
        let place: Vec<(usize, usize)> = here.at(problem, &[site], step).collect();
        if place.is_empty() {
            continue;
        }
        let power = |pick: fn(&super::Session) -> f64| -> f64 {
            let of = |(v, j): &(usize, usize)| {
                let session = &problem.vehicles[*v].session;
                pick(session) * session.share[*j]
            };
            place.iter().map(of).sum()
        };
        // The ledger before the horizon stands in the first of these rows.
        let note = |row: Option<usize>, model: &mut Model| {
            let opening = row.filter(|_| known.is_constant()).map(|row| (site, row));
            model.rows.refund.opening.extend(opening);
            row.map(|row| (site, step, row))
        };
        let can = power(|s| s.discharge_kw);
        let mut refunded = Expression::constant(0.0);
        if can > NOTHING {
            let price = -refund.per_mwh * problem.step_hours / 1000.0;
            refunded = Expression::column(model.program.column(price, 0.0, can));
            model.program.above(refunded, 0.0);
            let (mut returned, mut covered) = (Row::default(), Row::default());
            returned.add(1.0, refunded);
            for (v, j) in &place {
                returned.add(-1.0, model.vehicles[*v].discharge[*j]);
            }
            let row = model.program.at_most(&mut returned, 0.0);
            let returned = row.map(|row| (site, step, row));
            model.rows.refund.returned.extend(returned);
            covered.add(k, refunded);
            covered.add(-1.0, known);
            let row = model.program.at_most(&mut covered, 0.0);
            note(row, model);
        }
        highest += power(|s| s.charge_kw);
        let next = Expression::column(model.program.column(0.0, 0.0, highest));
        model.program.above(next, 0.0);
        let mut row = Row::default();
        row.add(1.0, next);
        row.add(-1.0, known);
        row.add(k, refunded);
        for (v, j) in &place {
            let columns = &model.vehicles[*v];
            row.add(-1.0, columns.charge[*j]);
            if *j + 1 == columns.charge.len() {
                row.add(1.0, columns.driven.unwrap_or_default());
            }
        }
        let row = model.program.at_most(&mut row, 0.0);
        let kept = note(row, model);
        model.rows.refund.ledger.extend(kept);
        known = next;
    }
}

/// Energy refunded at each site, kWh per step: the most that the ledger allows, as early as it allows it.
#[must_use]
pub fn refunded(problem: &Problem, schedule: &Schedule) -> Vec<Vec<f64>> {
    let steps = problem.import_price.len();
    let mut flows = vec![vec![Flow::default(); steps]; problem.sites.len()];
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        let session = &vehicle.session;
        let Some(flows) = session.site.and_then(|site| flows.get_mut(site)) else {
            continue;
        };
        let powers = done.charge_kw.iter().zip(&done.discharge_kw);
        for (step, (charge, discharge)) in session.steps().zip(powers) {
            flows[step].drawn += problem.step_hours * charge;
            flows[step].returned += problem.step_hours * discharge;
        }
        if let (Some(last), Some(end)) = (done.energy_kwh.last(), session.steps().last()) {
            flows[end].driven += (last - session.arrival).max(0.0) / session.charge_efficiency;
        }
    }
    let sites = problem.sites.iter().zip(flows);
    sites
        .map(|(site, flows)| {
            let Some(refund) = &site.refund else {
                return vec![0.0; steps];
            };
            most(refund, &flows)
        })
        .collect()
}

/// Money of what is refunded, currency.
pub(super) fn earned(problem: &Problem, schedule: &Schedule) -> f64 {
    if problem.sites.iter().all(|site| site.refund.is_none()) {
        return 0.0;
    }
    let sites = problem.sites.iter().zip(refunded(problem, schedule));
    sites
        .filter_map(|(site, kwh)| Some(site.refund.as_ref()?.per_mwh * kwh.iter().sum::<f64>()))
        .sum::<f64>()
        / 1000.0
}

/// What moves a ledger in a step, kWh.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    drawn: f64,
    returned: f64,
    driven: f64,
}

/// Refunds step by step. In each the ledger keeps what departures to come will take beyond what is drawn until then.
fn most(refund: &Refund, flows: &[Flow]) -> Vec<f64> {
    // Lowest level of the ledger after each step, were nothing refunded from that step on, above that after the step.
    let mut ahead = 0.0_f64;
    let mut kept: Vec<f64> = flows
        .iter()
        .rev()
        .map(|flow| {
            let now = flow.drawn - flow.driven + ahead;
            ahead = now.min(0.0);
            -ahead
        })
        .collect();
    kept.reverse();
    let mut ledger = refund.ledger_kwh;
    let k = refund.drawn_per_returned;
    flows
        .iter()
        .zip(kept)
        .map(|(flow, kept)| {
            let free = (ledger - kept).min(ledger).max(0.0);
            let refunded = flow.returned.min(free / k);
            ledger += flow.drawn - flow.driven - k * refunded;
            refunded
        })
        .collect()
}
