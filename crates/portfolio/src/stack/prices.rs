//! Shadow prices: what one more unit of anything would save, from the solver's prices on the rows.
//!
//! For the right-hand side of a row that is the row's own price. Whatever enters a vehicle's rows in several places (the
//! power of its charger, its capacity, its stay) is priced by the envelope theorem: the derivative of the optimum is that
//! of the Lagrangian with schedule and prices held fixed, read off the vehicle's rows built twice.

use super::dimming::{self, Place};
use super::model::Model;
use super::problem::{Prices, Problem, Vehicle, VehiclePrices, Way};
use super::vehicle;
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
    let price = |row: usize| duals.get(row).copied().unwrap_or(0.0).max(0.0);
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
        hold_up: held(&rows.hold_up, &|p| problem.products[p].up),
        hold_down: held(&rows.hold_down, &|p| problem.products[p].down),
        block: table(&rows.block),
        vehicles: Vec::new(),
    };
    let net = net_prices(problem, model, &found, &price);
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
    found.vehicles = net
        .iter()
        .enumerate()
        .map(|(index, net)| vehicle_prices(problem, model, index, net, (x, duals)))
        .collect();
    found
}

/// What a kW of net load costs in rows outside the vehicle: `[vehicle][step of the stay]`.
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
    net: &[f64],
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
        net,
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
            let price = |row: &usize| duals[row - first].max(0.0);
            made.rows.iter().map(price).sum::<f64>() / problem.step_hours
        }),
        earlier_hour: partly((steps > 0).then_some(0)).and_then(hour),
        later_hour: partly(steps.checked_sub(1).filter(|j| *j > 0)).and_then(hour),
    }
}

/// One vehicle's share of the Lagrangian.
struct Part<'a> {
    problem: &'a Problem,
    index: usize,
    net: &'a [f64],
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
            total += price.max(0.0) * (value - program.limit[row]);
        }
        for (j, price) in self.net.iter().enumerate() {
            total += price * columns.net(j).value(self.x);
        }
        Some(total)
    }
}
