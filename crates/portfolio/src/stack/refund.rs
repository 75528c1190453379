//! Fees given back for energy that returns to the grid where it was drawn (`markets.md` 10), with a ledger as budget.
//!
//! ```text
//! ledger   B[0] --- + drawn[t] - k*refunded[t] - driven away ---> B[t+1]        B >= 0, drawn kWh at the connection point
//!
//! refunded[t] <= returned[t],   k*refunded[t] <= B[t]                           first in, first out: drawn before returned
//! driven away[v] >= (e[departure] - e[arrival]) / ec, at departure              what is driven is never refunded
//! ```
//!
//! What a charger draws that cannot feed back never comes on the ledger: all of it is driven away.
//!
//! The rate is the same at any time, so that refunding as early as the ledger allows is best, and money follows from the
//! powers alone.

use serde::{Deserialize, Serialize};

use super::model::{Model, Plugged};
use super::problem::{Problem, Schedule, Session, Vehicle};
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

/// Whether what a vehicle draws may return from it.
pub(super) fn may_return(session: &Session) -> bool {
    session.discharge_kw > NOTHING
}

/// The refund at a vehicle's connection point, if it feeds back at all.
fn of<'a>(problem: &'a Problem, vehicle: &Vehicle) -> Option<&'a Refund> {
    let site = problem.sites.get(vehicle.session.site?)?;
    site.refund
        .as_ref()
        .filter(|_| may_return(&vehicle.session))
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
        let place = site.refund.as_ref().map(|refund| Place {
            problem,
            here,
            site: index,
            refund,
        });
        if let Some(place) = place {
            place.ledger(model);
        }
    }
}

/// One connection point with a refund.
#[derive(Clone, Copy)]
struct Place<'a> {
    problem: &'a Problem,
    here: &'a Plugged,
    site: usize,
    refund: &'a Refund,
}

impl Place<'_> {
    /// Who is plugged in there in a step and may return what it draws, with the step of its stay.
    fn at(&self, step: usize) -> Vec<(usize, usize)> {
        let returning = |(v, _): &(usize, usize)| may_return(&self.problem.vehicles[*v].session);
        let all = self
            .here
            .at(self.problem, std::slice::from_ref(&self.site), step);
        all.filter(returning).collect()
    }

    fn power(&self, place: &[(usize, usize)], pick: fn(&Session) -> f64) -> f64 {
        let of = |(v, j): &(usize, usize)| {
            let session = &self.problem.vehicles[*v].session;
            pick(session) * session.share[*j]
        };
        place.iter().map(of).sum()
    }

    fn ledger(&self, model: &mut Model) {
        let steps = 0..self.problem.import_price.len();
        let places: Vec<Vec<(usize, usize)>> = steps.map(|step| self.at(step)).collect();
        let k = self.refund.drawn_per_returned;
        let returned = |place: &Vec<(usize, usize)>| k * self.power(place, |s| s.discharge_kw);
        let most: f64 = places.iter().map(returned).sum();
        let (opening, mut highest) = self.opening(model, most);
        let mut known = opening;
        for (step, place) in places.iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let refunded = self.refunded(model, (step, place), known);
            highest += self.power(place, |s| s.charge_kw);
            let next = Expression::column(model.program.column(0.0, 0.0, highest));
            model.program.above(next, 0.0);
            let mut row = Row::default();
            row.add(1.0, next);
            row.add(-1.0, known);
            row.add(k, refunded.0);
            for (v, j) in place {
                let columns = &model.vehicles[*v];
                row.add(-1.0, columns.charge[*j]);
                if *j + 1 == columns.charge.len() {
                    row.add(1.0, columns.driven.unwrap_or_default());
                }
            }
            let row = model.program.at_most(&mut row, 0.0);
            let rows = &mut model.rows.refund;
            rows.ledger.extend(row.map(|row| (self.site, step, row)));
            if known == opening {
                // The ledger before the horizon stands in these rows alone.
                let first = [row, refunded.1].into_iter().flatten();
                rows.opening.extend(first.map(|row| (self.site, row)));
            }
            known = next;
        }
    }

    /// The ledger before the horizon, kW-steps, and the most that may be on it. Credit may be bought for what it is refunded
    /// with: that gains nothing, and keeps its price within what a refund is worth where the ledger cannot be but empty.
    fn opening(&self, model: &mut Model, most: f64) -> (Expression, f64) {
        let hours = self.problem.step_hours;
        let known = Expression::constant(self.refund.ledger_kwh / hours);
        if most <= NOTHING {
            return (known, known.constant);
        }
        let worth = self.refund.per_mwh / self.refund.drawn_per_returned * hours / 1000.0;
        let bought = Expression::column(model.program.column(worth, 0.0, most));
        model.program.above(bought, 0.0);
        (known.add(1.0, bought), known.constant + most)
    }

    /// What is refunded in a step, kW, and the row that covers it from the ledger before the step.
    fn refunded(
        &self,
        model: &mut Model,
        (step, place): (usize, &[(usize, usize)]),
        known: Expression,
    ) -> (Expression, Option<usize>) {
        let can = self.power(place, |s| s.discharge_kw);
        if can <= NOTHING {
            return (Expression::constant(0.0), None);
        }
        let price = -self.refund.per_mwh * self.problem.step_hours / 1000.0;
        let refunded = Expression::column(model.program.column(price, 0.0, can));
        model.program.above(refunded, 0.0);
        let (mut returned, mut covered) = (Row::default(), Row::default());
        returned.add(1.0, refunded);
        for (v, j) in place {
            returned.add(-1.0, model.vehicles[*v].discharge[*j]);
        }
        let row = model.program.at_most(&mut returned, 0.0);
        let returned = row.map(|row| (self.site, step, row));
        model.rows.refund.returned.extend(returned);
        covered.add(self.refund.drawn_per_returned, refunded);
        covered.add(-1.0, known);
        (refunded, model.program.at_most(&mut covered, 0.0))
    }
}

/// Energy refunded at each site, kWh per step: the most that the ledger allows, as early as it allows it.
#[must_use]
pub fn refunded(problem: &Problem, schedule: &Schedule) -> Vec<Vec<f64>> {
    let steps = problem.import_price.len();
    let mut flows = vec![vec![Flow::default(); steps]; problem.sites.len()];
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        let session = &vehicle.session;
        let flows = session.site.and_then(|site| flows.get_mut(site));
        let Some(flows) = flows.filter(|_| may_return(session)) else {
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
