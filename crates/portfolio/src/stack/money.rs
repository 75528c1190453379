//! What a schedule costs, and what the pool draws and keeps by it, from the schedule alone.

use super::gives::gives;
use super::problem::{Problem, Schedule, VehicleSchedule, Way};
use super::{dimming, reactive, refund};
use crate::reference::Headroom;

/// Power of the sites in each step with nothing activated, all Up and all Down activated.
#[derive(Debug, Clone)]
pub(super) struct SiteLoad {
    pub(super) net: Vec<f64>,
    pub(super) up: Vec<f64>,
    pub(super) down: Vec<f64>,
}

/// Load of each site, base load included, kW.
pub(super) fn site_loads(problem: &Problem, schedule: &Schedule) -> Vec<SiteLoad> {
    let steps = problem.import_price.len();
    let mut loads: Vec<SiteLoad> = problem
        .sites
        .iter()
        .map(|site| SiteLoad {
            net: (0..steps).map(|step| site.base(step)).collect(),
            up: vec![0.0; steps],
            down: vec![0.0; steps],
        })
        .collect();
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        let Some(load) = vehicle.session.site.and_then(|site| loads.get_mut(site)) else {
            continue;
        };
        for (j, step) in vehicle.session.steps().enumerate() {
            load.net[step] += done.charge_kw[j] - done.discharge_kw[j];
            load.up[step] += done.held.iter().map(|held| held.up_kw[j]).sum::<f64>();
            load.down[step] += done.held.iter().map(|held| held.down_kw[j]).sum::<f64>();
        }
    }
    loads
}

/// Active draw of each site, base load included and nothing activated, kW per step.
#[must_use]
pub fn site_kw(problem: &Problem, schedule: &Schedule) -> Vec<Vec<f64>> {
    let loads = site_loads(problem, schedule);
    loads.into_iter().map(|load| load.net).collect()
}

/// Power kept of a product in each step, kW: Up and Down, without the vehicles of `group`.
pub(super) fn kept(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
    group: Option<usize>,
) -> (Vec<f64>, Vec<f64>) {
    let steps = problem.import_price.len();
    let (mut up, mut down) = (vec![0.0; steps], vec![0.0; steps]);
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        if group.is_some_and(|g| problem.groups[g].vehicles.contains(&index)) {
            continue;
        }
        for (j, step) in vehicle.session.steps().enumerate() {
            up[step] += done.held[product].up_kw[j];
            down[step] += done.held[product].down_kw[j];
        }
    }
    (up, down)
}

/// The least that is kept of a product in each step, whatever one group is lost and whatever is dimmed.
pub(super) fn kept_for_certain(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut least = kept(problem, schedule, product, None);
    for group in 0..problem.groups.len() {
        let other = kept(problem, schedule, product, Some(group));
        for (mine, theirs) in [(&mut least.0, other.0), (&mut least.1, other.1)] {
            for (m, t) in mine.iter_mut().zip(theirs) {
                *m = m.min(t);
            }
        }
    }
    for (d, dimming) in problem.dimmings.iter().enumerate() {
        if dimming.holds_down {
            for (m, t) in least
                .1
                .iter_mut()
                .zip(while_dimmed(problem, schedule, product, d))
            {
                *m = m.min(t);
            }
        }
    }
    least
}

/// Down power kept of a product in each step while the vehicles of a dimming are dimmed, kW.
fn while_dimmed(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
    dimming: usize,
) -> Vec<f64> {
    let mut down = vec![0.0; problem.import_price.len()];
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        let mine = dimming::exposed(problem, index).is_some_and(|e| e.dimming == dimming);
        let made = done.dimmed.as_ref().filter(|_| mine);
        for (j, step) in vehicle.session.steps().enumerate() {
            down[step] += made.map_or(done.held[product].down_kw[j], |made| {
                made.down_kw[product][j]
            });
        }
    }
    down
}

/// What full activation of a product in the stay's step `j` takes from and adds to the battery, kW there.
fn flow(
    problem: &Problem,
    vehicle: usize,
    done: &VehicleSchedule,
    product: usize,
    j: usize,
) -> (f64, f64) {
    let session = &problem.vehicles[vehicle].session;
    let held = &done.held[product];
    let drain = session.charge_efficiency * held.up_charge_kw[j]
        + held.up_discharge_kw[j] / session.discharge_efficiency;
    let share = problem.products[product]
        .down
        .map_or(0.0, |way| way.delivered);
    (
        drain,
        share * held.down_kw[j] / session.discharge_efficiency,
    )
}

/// Every case of activation a vehicle must carry: boundary, kWh drained and kWh filled by then.
pub(super) fn activations(
    problem: &Problem,
    vehicle: usize,
    done: &VehicleSchedule,
    mut case: impl FnMut(usize, &[(usize, usize, f64)], f64, f64),
) {
    let steps = problem.vehicles[vehicle].session.share.len();
    let hours = problem.step_hours;
    let ends: Vec<(usize, Option<usize>)> = match problem.headroom {
        Headroom::Snapshot => (0..steps)
            .flat_map(|j| [(j, None), (j + 1, None)])
            .collect(),
        Headroom::Window { recovery_steps } => (1..=steps)
            .flat_map(|t| {
                (t.saturating_sub(recovery_steps).max(1)..=t).map(move |end| (t, Some(end)))
            })
            .collect(),
    };
    let mut parts = Vec::new();
    for (index, (boundary, end)) in ends.into_iter().enumerate() {
        parts.clear();
        let (mut drain, mut fill) = (0.0, 0.0);
        for (product, record) in problem.products.iter().enumerate() {
            for (is_up, way) in [(true, record.up), (false, record.down)] {
                let Some(way) = way else { continue };
                let (range, weight) = match end {
                    None => (index / 2..index / 2 + 1, way.endurance_hours),
                    Some(end) => (window(way, end, hours), hours),
                };
                for j in range {
                    let (out, back) = flow(problem, vehicle, done, product, j);
                    let flow = if is_up { out } else { back };
                    if flow > 0.0 {
                        parts.push((product, j, flow * weight));
                        if is_up {
                            drain += flow * weight;
                        } else {
                            fill += flow * weight;
                        }
                    }
                }
            }
        }
        if drain > 0.0 || fill > 0.0 {
            case(boundary, &parts, drain, fill);
        }
    }
}

fn window(way: Way, end: usize, hours: f64) -> std::ops::Range<usize> {
    if way.endurance_hours > 0.0 {
        end.saturating_sub(way.window_steps(hours))..end
    } else {
        end..end
    }
}

/// The objective: money of energy, wear, carbon, peaks and capacity, and the price of everything that gives way.
#[must_use]
pub fn objective(problem: &Problem, schedule: &Schedule) -> f64 {
    let elastic: f64 = gives(problem, schedule)
        .iter()
        .map(|g| g.amount * g.price)
        .sum();
    net_cost(problem, schedule) + elastic
}

/// Money of a schedule, without the prices of what gives way.
#[must_use]
pub fn net_cost(problem: &Problem, schedule: &Schedule) -> f64 {
    let mwh = problem.step_hours / 1000.0;
    let mut total = 0.0;
    let mut load = vec![0.0; problem.import_price.len()];
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        for ((step, c), d) in vehicle
            .session
            .steps()
            .zip(&done.charge_kw)
            .zip(&done.discharge_kw)
        {
            let carbon = problem.carbon_price.get(step).copied().unwrap_or(0.0);
            total += mwh
                * (problem.import_price[step] * c - problem.export_price[step] * d
                    + carbon * (c - d)
                    + problem.wear * d);
            load[step] += c - d;
        }
    }
    for (product, sold) in problem.products.iter().zip(&schedule.sold_mw) {
        for (block, sold) in product.blocks.iter().zip(sold) {
            total -= block.price * (block.awarded_mw + sold);
        }
    }
    for (site, load) in problem.sites.iter().zip(site_loads(problem, schedule)) {
        for charge in &site.demand {
            let floor = charge.to_date_kw.max(charge.ratchet_kw).max(0.0);
            let peak = charge
                .steps
                .iter()
                .map(|step| load.net[*step])
                .fold(floor, f64::max);
            total += charge.per_kw * peak;
        }
    }
    total += reactive::peak_cost(problem, schedule) - refund::earned(problem, schedule);
    if let Some(imbalance) = &problem.imbalance {
        for (order, more) in problem.orders.iter().zip(&schedule.ordered_kw) {
            for step in order.steps.clone() {
                total += mwh * (order.price * more + order.half_spread * more.abs());
                load[step] -= order.held_kw + more;
            }
        }
        for (step, open) in load.iter().enumerate() {
            let price = if *open > 0.0 {
                imbalance.short[step]
            } else {
                imbalance.long[step]
            };
            total += mwh * price * open;
        }
    }
    total
}
