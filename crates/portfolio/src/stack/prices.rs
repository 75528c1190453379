//! Shadow prices: what one more unit of anything would save, from the solver's prices on the rows.
//!
//! For the right-hand side of a row that is the row's own price. Whatever enters a vehicle's rows in several places (the
//! power of its charger, its capacity, its stay) is priced by the envelope theorem: the derivative of the optimum is that
//! of the Lagrangian with schedule and prices held fixed, read off the vehicle's rows built twice.

use super::dimming::{self, Place};
use super::model::Model;
use super::problem::{Prices, Problem, Vehicle, VehiclePrices, Way};
use super::{refund, vehicle};
use crate::reference::program::Program;

/// Relative change of a parameter; the rows are linear in nearly all of them, so that it may be large against rounding.
const NUDGE: f64 = 1e-5;

/// No prices, in the right shape.
pub(super) fn none(problem: &Problem) -> Prices {
    let steps = problem.import_price.len();
    let table = |rows: usize| vec![vec![0.0; steps]; rows];
    Prices {
        site_import: table(problem.sites.len()),
        site_export: table(problem.sites.len()),
        area_import: table(problem.areas.len()),
        area_export: table(problem.areas.len()),
        site_rating: table(problem.sites.len()),
        site_reactive: table(problem.sites.len()),
        site_ledger: vec![0.0; problem.sites.len()],
        hold_up: table(problem.products.len()),
        hold_down: table(problem.products.len()),
        block: problem
            .products
            .iter()
            .map(|p| vec![0.0; p.blocks.len()])
            .collect(),
        vehicles: vec![VehiclePrices::default(); problem.vehicles.len()],
    }
}

/// All prices of an iterate.
pub(super) fn prices(problem: &Problem, model: &Model, x: &[f64], duals: &[f64]) -> Prices {
    let duals = &model.program.multipliers(duals)[..];
    let price = |row: usize| duals[row];
    let table = |rows: &[Vec<Option<usize>>]| -> Vec<Vec<f64>> {
        rows.iter()
            .map(|row| row.iter().map(|r| r.map_or(0.0, price)).collect())
            .collect()
    };
    let held = |rows: &[Vec<Vec<usize>>], way: &dyn Fn(usize) -> Option<Way>| -> Vec<Vec<f64>> {
        rows.iter()
            .enumerate()
            .map(|(product, steps)| {
                let per_mw = 1000.0 * way(product).map_or(0.0, |way| way.power);
                steps
                    .iter()
                    .map(|rows| per_mw * rows.iter().map(|r| price(*r)).sum::<f64>())
                    .collect()
            })
            .collect()
    };
    let rows = &model.rows;
    let mut found = Prices {
        site_import: table(&rows.site_import),
        site_export: table(&rows.site_export),
        area_import: table(&rows.area_import),
        area_export: table(&rows.area_export),
        site_rating: Vec::new(),
        site_reactive: Vec::new(),
        site_ledger: vec![0.0; problem.sites.len()],
        hold_up: held(&rows.hold_up, &|p| problem.products[p].up),
        hold_down: held(&rows.hold_down, &|p| problem.products[p].down),
        block: table(&rows.block),
        vehicles: Vec::new(),
    };
    let outside = Outside::new(problem, model, &found, &price);
    for (place, step, _, row) in &model.rows.recovery {
        // The limit is the same in the plan and after a dimming, where base load alone does not exceed it.
        if place.room(problem, *step).is_none_or(|room| room <= 0.0) {
            continue;
        }
        match place {
            Place::Site(site) => found.site_import[*site][*step] += price(*row),
            Place::Area(area) => found.area_import[*area][*step] += price(*row),
        }
    }
    found.vehicles = (0..problem.vehicles.len())
        .map(|index| vehicle_prices(problem, model, index, &outside, (x, duals)))
        .collect();
    points(problem, model, &mut found, &price);
    found
}

/// Prices of ratings, reactive power and ledgers.
fn points(problem: &Problem, model: &Model, found: &mut Prices, price: &dyn Fn(usize) -> f64) {
    let steps = problem.import_price.len();
    let rows = &model.rows.reactive;
    for site in 0..problem.sites.len() {
        let at = |rows: &[Vec<Option<usize>>], step: usize| {
            let row = rows[site].get(step).copied().flatten();
            row.map_or(0.0, price)
        };
        let (mut rating, mut reactive) = (vec![0.0; steps], vec![0.0; steps]);
        for step in 0..steps {
            reactive[step] = at(&rows.high, step) - at(&rows.low, step);
            for head in rows.rating[site].get(step).into_iter().flatten() {
                rating[step] += price(*head);
                reactive[step] -= price(head + 2);
            }
        }
        found.site_rating.push(rating);
        found.site_reactive.push(reactive);
    }
    for (site, step, row) in &rows.charged {
        found.site_reactive[*site][*step] += price(*row);
    }
    for (site, row) in &model.rows.refund.opening {
        found.site_ledger[*site] += price(*row) / problem.step_hours;
    }
}

/// What a kW costs in rows outside the vehicle: `[vehicle][step of the stay]`.
struct Outside {
    net: Vec<Vec<f64>>,
    /// Of charging beyond its part of the net load.
    charge: Vec<Vec<f64>>,
    /// Of discharging beyond its part of the net load.
    discharge: Vec<Vec<f64>>,
}

impl Outside {
    fn new(problem: &Problem, model: &Model, found: &Prices, price: &dyn Fn(usize) -> f64) -> Self {
        let net = net_prices(problem, model, found, price);
        let none: Vec<Vec<f64>> = net.iter().map(|steps| vec![0.0; steps.len()]).collect();
        let mut outside = Self {
            charge: none.clone(),
            discharge: none,
            net,
        };
        let rows = &model.rows.refund;
        for (prices, rows) in [
            (&mut outside.charge, &rows.ledger),
            (&mut outside.discharge, &rows.returned),
        ] {
            for (site, step, row) in rows {
                for (vehicle, prices) in problem.vehicles.iter().zip(prices.iter_mut()) {
                    let session = &vehicle.session;
                    let here = session.site == Some(*site) && session.steps().contains(step);
                    if here && refund::may_return(session) {
                        prices[step - session.first] -= price(*row);
                    }
                }
            }
        }
        outside
    }
}

/// What a kW of net load costs there.
fn net_prices(
    problem: &Problem,
    model: &Model,
    found: &Prices,
    price: &dyn Fn(usize) -> f64,
) -> Vec<Vec<f64>> {
    let steps = problem.import_price.len();
    let mut pool = vec![0.0; steps];
    if let Some(imbalance) = &problem.imbalance {
        for ((pool, long), row) in pool
            .iter_mut()
            .zip(&imbalance.long)
            .zip(&model.rows.position)
        {
            *pool = problem.step_hours / 1000.0 * long + row.map_or(0.0, price);
        }
    }
    let mut sites: Vec<Vec<f64>> = (0..problem.sites.len())
        .map(|site| {
            (0..steps)
                .map(|t| found.site_import[site][t] - found.site_export[site][t])
                .collect()
        })
        .collect();
    for (index, area) in problem.areas.iter().enumerate() {
        for site in &area.sites {
            let prices = found.area_import[index]
                .iter()
                .zip(&found.area_export[index]);
            for (sum, (import, export)) in sites[*site].iter_mut().zip(prices) {
                *sum += import - export;
            }
        }
    }
    for (site, step, row) in &model.rows.demand {
        sites[*site][*step] += price(*row);
    }
    for (site, steps) in model.rows.reactive.rating.iter().enumerate() {
        for (step, heads) in steps.iter().enumerate() {
            for head in heads {
                sites[site][step] -= price(head + 1);
            }
        }
    }
    let mut net: Vec<Vec<f64>> = problem
        .vehicles
        .iter()
        .map(|vehicle| {
            let session = &vehicle.session;
            let at = |step: usize| pool[step] + session.site.map_or(0.0, |site| sites[site][step]);
            session.steps().map(at).collect()
        })
        .collect();
    for (place, step, dimming, row) in &model.rows.recovery {
        // Only those that go on as planned.
        for (index, vehicle) in problem.vehicles.iter().enumerate() {
            let dimmed = dimming::exposed(problem, index).is_some_and(|e| e.dimming == *dimming);
            if !dimmed && vehicle.session.steps().contains(step) && place.has(problem, index) {
                net[index][step - vehicle.session.first] += price(*row);
            }
        }
    }
    net
}

fn vehicle_prices(
    problem: &Problem,
    model: &Model,
    index: usize,
    outside: &Outside,
    (x, duals): (&[f64], &[f64]),
) -> VehiclePrices {
    let columns = &model.vehicles[index];
    let (Some(x), Some(duals)) = (
        x.get(columns.columns.clone()),
        duals.get(columns.rows.clone()),
    ) else {
        return VehiclePrices::default();
    };
    let part = Part {
        problem,
        index,
        outside,
        x,
        duals,
    };
    let session = &problem.vehicles[index].session;
    let steps = session.share.len();
    let partly =
        |j: Option<usize>| j.filter(|j| session.share[*j] > 0.0 && session.share[*j] < 1.0);
    let hour = |j: usize| {
        part.saving(NUDGE, &|v, by| {
            v.session.share[j] += by / problem.step_hours
        })
    };
    let any = session.charge_kw > 0.0 || session.discharge_kw > 0.0;
    VehiclePrices {
        charge_kw: part
            .saving(NUDGE, &|v, by| v.session.charge_kw += by)
            .filter(|_| session.charge_kw > 0.0),
        discharge_kw: part
            .saving(NUDGE, &|v, by| v.session.discharge_kw += by)
            .filter(|_| session.discharge_kw > 0.0),
        capacity_kwh: part
            .saving(NUDGE, &|v, by| v.session.capacity += by)
            .filter(|_| any),
        arrival_kwh: part
            .saving(NUDGE, &|v, by| v.session.arrival += by)
            .filter(|_| any),
        goal_kwh: part.saving(NUDGE, &|v, by| v.session.goal -= by),
        dimming_kwh: columns.contingency.as_ref().map(|made| {
            let first = columns.rows.start;
            let price = |row: &usize| duals[row - first];
            made.rows.iter().map(price).sum::<f64>() / problem.step_hours
        }),
        rating_kva: columns.reactive.first().and_then(|_| {
            part.saving(NUDGE, &|v, by| {
                v.rating_kva = v.rating_kva.map(|kva| kva + by)
            })
        }),
        earlier_hour: partly((steps > 0).then_some(0)).and_then(hour),
        later_hour: partly(steps.checked_sub(1).filter(|j| *j > 0)).and_then(hour),
    }
}

/// One vehicle's share of the Lagrangian.
struct Part<'a> {
    problem: &'a Problem,
    index: usize,
    outside: &'a Outside,
    x: &'a [f64],
    duals: &'a [f64],
}

impl Part<'_> {
    /// What one more unit of what `change` adds to would save; `None` where its rows come or go with it.
    fn saving(&self, by: f64, change: &dyn Fn(&mut Vehicle, f64)) -> Option<f64> {
        let changed = |by: f64| {
            let mut vehicle = self.problem.vehicles[self.index].clone();
            change(&mut vehicle, by);
            self.lagrangian(&vehicle)
        };
        let before = changed(0.0)?;
        changed(by)
            .map(|after| (before - after) / by)
            .or_else(|| changed(-by).map(|after| (after - before) / by))
    }

    fn lagrangian(&self, vehicle: &Vehicle) -> Option<f64> {
        let mut program = Program::default();
        let columns = vehicle::build(self.problem, (self.index, vehicle), &mut program);
        if program.cost.len() != self.x.len() || program.limit.len() != self.duals.len() {
            return None;
        }
        let mut total = program.offset
            + program
                .cost
                .iter()
                .zip(self.x)
                .map(|(c, x)| c * x)
                .sum::<f64>();
        for (row, price) in self.duals.iter().enumerate() {
            let value: f64 = program
                .row(row)
                .iter()
                .map(|(column, by)| by * self.x[*column])
                .sum();
            total += price * (value - program.limit[row]);
        }
        let outside = self.outside;
        for j in 0..columns.charge.len() {
            let (charge, discharge) = (
                columns.charge[j].value(self.x),
                columns.discharge[j].value(self.x),
            );
            total += outside.net[self.index][j] * (charge - discharge)
                + outside.charge[self.index][j] * charge
                + outside.discharge[self.index][j] * discharge;
        }
        Some(total)
    }
}
