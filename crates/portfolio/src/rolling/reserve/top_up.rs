//! Shares after the schedules are made: what is missing is taken from whatever they leave over.

use super::super::grid::STEP_HOURS;
use super::super::loads::Loads;
use super::super::problem::Problem;
use super::super::vehicle::Vehicle;
use super::allocate::spread;
use super::{Call, Held, Lane, Way, own_step, tail};

/// Missing reserve below this is rounding, kW.
const MISSING_LEAST: f64 = 1e-3;

/// Candidates are gathered until they could hold this many times what is missing: enough to share it evenly, without touching
/// every vehicle of a large pool for a little.
const OVERSUBSCRIBED: f64 = 4.0;

/// Takes what is missing from what the schedules leave over, step by step; marks the vehicles that hold more than before.
pub(in crate::rolling) fn top_up(
    problem: &Problem<'_>,
    loads: &mut Loads,
    lanes: &mut [Lane],
    touched: &mut [bool],
) {
    let calls = &problem.calls;
    let held = Held::of(problem, lanes);
    let vehicles = problem.input.vehicles;
    for step in 0..problem.input.grid.len() {
        for (k, call) in calls.iter().enumerate() {
            for way in [Way::Up, Way::Down] {
                let missing = call.wanted(step) - held.kw(k, way, step);
                if !call.has(way) || missing <= MISSING_LEAST {
                    continue;
                }
                let mut caps = Vec::new();
                let mut total = 0.0;
                for (i, vehicle) in vehicles.iter().enumerate() {
                    let Some(j) = own_step(vehicle, step) else {
                        continue;
                    };
                    let cap = spare(problem, i, &lanes[i], (k, way, j));
                    if cap > MISSING_LEAST {
                        caps.push((i, j, cap));
                        total += cap;
                    }
                    if total > OVERSUBSCRIBED * missing {
                        break;
                    }
                }
                spread(
                    missing,
                    &caps,
                    |i, kw| {
                        let vehicle = &vehicles[i];
                        let room = match way {
                            Way::Up => loads.fall(problem, vehicle.site, step),
                            Way::Down => loads.rise(problem, vehicle.site, step),
                        };
                        let kw = kw.min(room.max(0.0) / call.factor);
                        loads.keep(vehicle, way, step - vehicle.first, kw * call.factor);
                        kw
                    },
                    |i, j, kw| {
                        lanes[i].share.of_mut(way)[k][j] += kw;
                        touched[i] = true;
                    },
                );
            }
        }
    }
}

/// What a vehicle with a schedule can hold in addition: `kW <= slack/(hours of the call)` at every boundary that a window through this step
/// can weigh on keeps the sum over any window within the slack.
fn spare(problem: &Problem<'_>, i: usize, lane: &Lane, (k, way, j): (usize, Way, usize)) -> f64 {
    let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
    let calls = &problem.calls;
    let call = &calls[k];
    let kept = lane.share.kept(calls, way, j);
    let power = match way {
        Way::Up => vehicle.discharge_kw + lane.net[j] - kept,
        Way::Down => vehicle.charge_kw - lane.net[j] - kept,
    } / call.factor;
    if power <= MISSING_LEAST {
        return 0.0;
    }
    let per = vehicle.factor(way);
    let to = (j + call.window + tail(vehicle, vehicle.len())).min(vehicle.len());
    let slack = (j + 1..=to)
        .map(|b| {
            let free = match way {
                Way::Up => lane.energy[b] - envelope.floor[b],
                Way::Down => vehicle.capacity - lane.energy[b],
            };
            free - kept_energy(vehicle, lane, calls, (way, b)) * per
        })
        .fold(f64::INFINITY, f64::min);
    // Windows through one step: as many as the call is long, each may be filled to the same level.
    power.min(slack / (call.hours() * per)).max(0.0)
}

/// Grid energy of the worst windows that can still weigh on boundary `b`, kWh; as [`super::Share::energy`] has it for all boundaries.
fn kept_energy(vehicle: &Vehicle, lane: &Lane, calls: &[Call], (way, b): (Way, usize)) -> f64 {
    (b.saturating_sub(tail(vehicle, b))..=b)
        .map(|end| -> f64 {
            lane.share
                .of(way)
                .iter()
                .zip(calls)
                .map(|(kw, call)| kw[end.saturating_sub(call.window)..end].iter().sum::<f64>())
                .sum()
        })
        .fold(0.0, f64::max)
        * STEP_HOURS
}
