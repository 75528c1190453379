//! What a schedule does when dimmed: read off an iterate, made to fit, and what is then missing.

use super::super::problem::{Problem, Schedule, VehicleSchedule};
use super::super::vehicle::Columns;
use super::{Dimmed, Exposed, Left, Place, exposed, while_in};
use crate::reference::program::Expression;

/// Energy missing at departure after the dimming that begins at the worst boundary, kWh, and that boundary's step of the stay.
pub(in super::super) fn short(
    problem: &Problem,
    index: usize,
    done: &VehicleSchedule,
) -> Option<(usize, f64)> {
    let exposed = exposed(problem, index)?;
    let made = done.dimmed.as_ref()?;
    let session = &problem.vehicles[index].session;
    if session.goal <= session.floor {
        return None;
    }
    let per_kw = problem.step_hours * session.charge_efficiency;
    let steps = session.share.len();
    let missing = |begin: usize| {
        let end = exposed.end(&problem.vehicles[index], begin);
        let drawn: f64 = made.during_kw[begin..end]
            .iter()
            .chain(&made.after_kw[end..])
            .sum();
        session.goal - done.energy_kwh[begin] - per_kw * drawn
    };
    (0..steps)
        .map(|begin| (begin, missing(begin)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Most that everybody could do if dimmed, before anything shared is looked at.
pub(in super::super) fn most(problem: &Problem, schedule: &mut Schedule) {
    for (index, vehicle) in problem.vehicles.iter().enumerate() {
        let session = &vehicle.session;
        schedule.vehicles[index].dimmed = exposed(problem, index).map(|exposed| Dimmed {
            during_kw: (0..session.share.len())
                .map(|j| exposed.most(vehicle, j))
                .collect(),
            after_kw: session
                .share
                .iter()
                .map(|f| f * session.charge_kw)
                .collect(),
            down_kw: vec![vec![0.0; session.share.len()]; problem.products.len()],
        });
    }
    fit(problem, schedule);
}

/// What an iterate does when dimmed.
pub(in super::super) fn read(columns: &Columns, x: &[f64]) -> Option<Dimmed> {
    let made = columns.contingency.as_ref()?;
    let value = |e: &Expression| e.value(x).max(0.0);
    Some(Dimmed {
        during_kw: made.during.iter().map(value).collect(),
        after_kw: made.after.iter().map(value).collect(),
        down_kw: made
            .down
            .iter()
            .map(|steps| {
                steps
                    .iter()
                    .map(|e| e.as_ref().map_or(0.0, value))
                    .collect()
            })
            .collect(),
    })
}

/// Scales what is done when dimmed until it keeps every row that may not give way; the margins take what that costs.
pub(in super::super) fn fit(problem: &Problem, schedule: &mut Schedule) {
    for index in 0..problem.vehicles.len() {
        if let Some(exposed) = exposed(problem, index) {
            fit_alone(problem, index, exposed, &mut schedule.vehicles[index]);
        }
    }
    for (d, dimming) in problem.dimmings.iter().enumerate() {
        for left in dimming.left.iter().filter(|l| l.vehicles.len() > 1) {
            fit_left(problem, left, schedule);
        }
        for place in Place::all(problem) {
            fit_recovery(problem, d, place, schedule);
        }
    }
    for done in &mut schedule.vehicles {
        if let Some(made) = &mut done.dimmed {
            for (during, after) in made.during_kw.iter_mut().zip(&made.after_kw) {
                *during = during.min(*after);
            }
        }
    }
}

fn fit_alone(problem: &Problem, index: usize, exposed: Exposed, done: &mut VehicleSchedule) {
    let vehicle = &problem.vehicles[index];
    let Some(made) = &mut done.dimmed else { return };
    for (j, share) in vehicle.session.share.iter().enumerate() {
        let mut kept = 0.0;
        for (down, held) in made.down_kw.iter_mut().zip(&done.held) {
            down[j] = if exposed.holds_down {
                down[j].clamp(0.0, held.down_kw[j])
            } else {
                0.0
            };
            kept += if exposed.holds_down {
                held.down_kw[j]
            } else {
                0.0
            };
        }
        let most = exposed.most(vehicle, j);
        made.during_kw[j] = made.during_kw[j].clamp(0.0, most);
        let all = made.during_kw[j] + made.down_kw.iter().map(|down| down[j]).sum::<f64>();
        scale(made, j, room(all, most));
        let can = (share * vehicle.session.charge_kw - kept).max(0.0);
        made.after_kw[j] = made.after_kw[j].clamp(0.0, can);
    }
}

/// Factor that brings `all` down to `most`.
fn room(all: f64, most: f64) -> f64 {
    if all > most { most.max(0.0) / all } else { 1.0 }
}

fn scale(made: &mut Dimmed, j: usize, factor: f64) {
    made.during_kw[j] *= factor;
    for down in &mut made.down_kw {
        down[j] *= factor;
    }
}

fn fit_left(problem: &Problem, left: &Left, schedule: &mut Schedule) {
    let mut all = vec![0.0; problem.import_price.len()];
    for v in &left.vehicles {
        let Some(made) = &schedule.vehicles[*v].dimmed else {
            continue;
        };
        for (j, step) in problem.vehicles[*v].session.steps().enumerate() {
            let drawn = made.during_kw[j] + made.down_kw.iter().map(|down| down[j]).sum::<f64>();
            all[step] += while_in(problem, (*v, j)) * drawn;
        }
    }
    for v in &left.vehicles {
        let Some(made) = &mut schedule.vehicles[*v].dimmed else {
            continue;
        };
        for (j, step) in problem.vehicles[*v].session.steps().enumerate() {
            scale(made, j, room(all[step], left.kw));
        }
    }
}

fn fit_recovery(problem: &Problem, dimming: usize, place: Place, schedule: &mut Schedule) {
    let load = recovery(problem, dimming, place, schedule);
    for (index, vehicle) in problem.vehicles.iter().enumerate() {
        let mine = exposed(problem, index).is_some_and(|e| e.dimming == dimming);
        if !mine || !place.has(problem, index) {
            continue;
        }
        let Some(made) = &mut schedule.vehicles[index].dimmed else {
            continue;
        };
        for (j, step) in vehicle.session.steps().enumerate() {
            if let Some((after, space)) = load[step] {
                made.after_kw[j] *= room(after, space);
            }
        }
    }
}

/// In each step with an import limit: what the vehicles of a dimming draw after it at a place, and the room that base load
/// and the plan of the others leave them, kW; below zero where those exceed the limit without them.
pub(in super::super) fn recovery(
    problem: &Problem,
    dimming: usize,
    place: Place,
    schedule: &Schedule,
) -> Vec<Option<(f64, f64)>> {
    let steps = problem.import_price.len();
    let holds = problem.dimmings[dimming].holds_down;
    let (mut after, mut others) = (vec![0.0; steps], vec![0.0; steps]);
    let mut concerned = vec![false; steps];
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        if !place.has(problem, index) {
            continue;
        }
        let mine = exposed(problem, index).is_some_and(|e| e.dimming == dimming);
        for (j, step) in vehicle.session.steps().enumerate() {
            let net = done.charge_kw[j] - done.discharge_kw[j];
            let down: f64 = done.held.iter().map(|held| held.down_kw[j]).sum();
            match done.dimmed.as_ref().filter(|_| mine) {
                Some(made) => {
                    after[step] += made.after_kw[j];
                    others[step] += if holds { down } else { 0.0 };
                    concerned[step] = true;
                }
                None => others[step] += net + down,
            }
        }
    }
    (0..steps)
        .map(|step| {
            let room = place.room(problem, step).filter(|_| concerned[step])?;
            Some((after[step], room - others[step]))
        })
        .collect()
}
