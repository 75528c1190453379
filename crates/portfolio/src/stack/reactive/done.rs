//! What a schedule's reactive power costs and how far it misses what is asked, from the schedule alone.

use super::super::gives::{Gives, push};
use super::super::money::SiteLoad;
use super::super::problem::{Owner, Problem, Relaxed, Schedule, VehicleSchedule};
use super::rating;

/// Reactive draw of each site, base load included, kvar per step; empty for sites where nobody looks at it.
#[must_use]
pub fn site_kvar(problem: &Problem, schedule: &Schedule) -> Vec<Vec<f64>> {
    let steps = problem.import_price.len();
    let mut loads: Vec<Vec<f64>> = problem
        .sites
        .iter()
        .map(|site| match &site.reactive {
            Some(record) => (0..steps).map(|step| record.base(step)).collect(),
            None => Vec::new(),
        })
        .collect();
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        let load = vehicle.session.site.and_then(|site| loads.get_mut(site));
        let Some(load) = load.filter(|load| !load.is_empty()) else {
            continue;
        };
        for (step, kvar) in vehicle.session.steps().zip(&done.reactive_kvar) {
            load[step] += kvar;
        }
    }
    loads
}

/// Every rating and band that is exceeded.
pub(in super::super) fn gives(
    problem: &Problem,
    schedule: &Schedule,
    active: &[SiteLoad],
) -> Vec<Gives> {
    let elastic = &problem.elastic;
    let mut all = Vec::new();
    for (index, (site, load)) in problem
        .sites
        .iter()
        .zip(site_kvar(problem, schedule))
        .enumerate()
    {
        let Some(record) = &site.reactive else {
            continue;
        };
        let owner = Owner::Site(index);
        let hours = problem.step_hours;
        let active = &active[index];
        for (step, kvar) in load.into_iter().enumerate() {
            if let Some(kva) = record.rating_kva {
                let down = (active.net[step] + active.down[step]).hypot(kvar);
                let up = (active.net[step] - active.up[step]).hypot(kvar);
                let over = down.max(up) - kva;
                push(
                    &mut all,
                    (owner, Relaxed::Rating, step),
                    over,
                    elastic.site_per_kwh * hours,
                );
            }
            let price = elastic.reactive_per_kvarh * hours;
            if let Some(low) = record.low_kvar {
                push(
                    &mut all,
                    (owner, Relaxed::ReactiveLow, step),
                    low - kvar,
                    price,
                );
            }
            if let Some(high) = record.high_kvar {
                push(
                    &mut all,
                    (owner, Relaxed::ReactiveHigh, step),
                    kvar - high,
                    price,
                );
            }
        }
    }
    all
}

/// Charges on reactive draw, currency.
pub(in super::super) fn peak_cost(problem: &Problem, schedule: &Schedule) -> f64 {
    let mut total = 0.0;
    for (site, load) in problem.sites.iter().zip(site_kvar(problem, schedule)) {
        for charge in site.reactive.iter().flat_map(|record| &record.charges) {
            let above = charge.steps.iter().map(|step| load[*step]);
            let highest = above.fold(charge.to_date_kvar, f64::max);
            total += charge.per_kvar * (highest - charge.free_kvar).max(0.0);
        }
    }
    total
}

/// What active power, reserve activated either way, leaves of a charger for reactive power in the stay's step `j`, kvar.
fn room(problem: &Problem, vehicle: usize, done: &VehicleSchedule, j: usize) -> f64 {
    let vehicle = &problem.vehicles[vehicle];
    let most = rating(problem, vehicle).unwrap_or(0.0) * vehicle.session.share[j];
    let net = done.charge_kw[j] - done.discharge_kw[j];
    let sum = |kept: fn(&super::super::Held) -> &[f64]| -> f64 {
        done.held.iter().map(|held| kept(held)[j]).sum()
    };
    let (up, down) = (sum(|held| &held.up_kw), sum(|held| &held.down_kw));
    let active = (net + down).abs().max((net - up).abs());
    (most - active).max(0.0).sqrt() * (most + active).sqrt()
}

/// Reactive power of an iterate, cut to what active power and reserve leave.
pub(in super::super) fn fit(
    problem: &Problem,
    vehicle: usize,
    done: &VehicleSchedule,
    wanted: impl Iterator<Item = f64>,
) -> Vec<f64> {
    wanted
        .enumerate()
        .map(|(j, kvar)| {
            let room = room(problem, vehicle, done, j);
            kvar.clamp(-room, room)
        })
        .collect()
}
