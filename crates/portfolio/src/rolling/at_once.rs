//! Charging at once: where vehicles at a contested site begin, so that nobody takes the place of one in a hurry.

use super::grid::STEP_HOURS;
use super::loads::Loads;
use super::problem::Problem;
use super::vehicle::{EPSILON, Vehicle};

/// Charging at once under each contested site's limit, least laxity first, of the vehicles that are `open`; beside what `loads` says the site
/// carries already. `None` for the others and where no limit can bind.
pub(super) fn charge_at_once(
    problem: &Problem<'_>,
    open: &[bool],
    loads: &Loads,
) -> Vec<Option<Vec<f64>>> {
    let vehicles = problem.input.vehicles;
    let mut each: Vec<Option<Vec<f64>>> = vec![None; vehicles.len()];
    for (site, members) in problem.members.iter().enumerate() {
        if !problem.contested[site] {
            continue;
        }
        let members: Vec<usize> = members.iter().copied().filter(|i| open[*i]).collect();
        if members.is_empty() {
            continue;
        }
        for (i, net) in members
            .iter()
            .zip(charge_site(problem, site, &members, loads))
        {
            each[*i] = Some(net);
        }
    }
    each
}

/// Powers of `members`, kW per own step.
fn charge_site(
    problem: &Problem<'_>,
    site: usize,
    members: &[usize],
    loads: &Loads,
) -> Vec<Vec<f64>> {
    let (grid, vehicles) = (problem.input.grid, problem.input.vehicles);
    let mut level: Vec<f64> = members.iter().map(|i| vehicles[*i].arrival).collect();
    let mut nets: Vec<Vec<f64>> = members
        .iter()
        .map(|i| vec![0.0; vehicles[*i].len()])
        .collect();
    for step in 0..grid.len() {
        let mut left = loads.rise(problem, site, step).max(0.0);
        let mut present: Vec<(f64, usize)> = members
            .iter()
            .enumerate()
            .filter(|(_, i)| {
                let vehicle = &vehicles[**i];
                let j = step.checked_sub(vehicle.first);
                j.is_some_and(|j| j < vehicle.len())
            })
            .map(|(n, i)| (laxity(&vehicles[*i], level[n], step), n))
            .collect();
        present.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, n) in present {
            let vehicle = &vehicles[members[n]];
            let j = step - vehicle.first;
            let hours = grid.hours(step);
            let need = (vehicle.goal - level[n]).max(0.0) / (vehicle.charge_efficiency * hours);
            let kw = need.min(vehicle.charge_kw * vehicle.share[j]).min(left);
            left -= kw;
            level[n] += kw * hours * vehicle.charge_efficiency;
            nets[n][j] = kw;
        }
    }
    nets
}

/// Hours that a vehicle could still wait in `step`.
pub(super) fn laxity(vehicle: &Vehicle, level: f64, step: usize) -> f64 {
    let j = step - vehicle.first;
    let ahead: f64 = (j..vehicle.len())
        .map(|k| vehicle.share[k] * STEP_HOURS)
        .sum();
    let stays = if vehicle.leaves.is_none() {
        0.0
    } else {
        ahead + vehicle.hours_beyond
    };
    stays
        - (vehicle.goal - level).max(0.0)
            / (vehicle.charge_efficiency * vehicle.charge_kw).max(EPSILON)
}
