//! A schedule that keeps every row that may not give way, from an iterate that nearly does.

use super::model::Model;
use super::money::{activations, kept_for_certain};
use super::problem::{Held, Problem, Schedule, VehicleSchedule};
use super::vehicle::{Columns, keep_levels};
use super::{dimming, reactive};
use crate::reference::program::Expression;

/// Reads the iterate and repairs it: powers and energies in order of time, then reserve scaled down wherever a row
/// asks, then volumes cut to what the weakest step holds.
pub(super) fn schedule(problem: &Problem, model: &Model, x: &[f64]) -> Schedule {
    let mut schedule = Schedule::default();
    for (index, columns) in model.vehicles.iter().enumerate() {
        let mut done = powers(problem, index, columns, x);
        let short = columns
            .kept_short
            .map_or(0.0, |short| short.value(x).max(0.0));
        hold(problem, index, columns, x, &mut done);
        scale(problem, index, short * problem.step_hours, &mut done);
        done.dimmed = dimming::read(columns, x);
        let wanted = columns.reactive.iter().map(|kvar| kvar.value(x));
        done.reactive_kvar = reactive::fit(problem, index, &done, wanted);
        schedule.vehicles.push(done);
    }
    schedule.sold_mw = model
        .sold
        .iter()
        .map(|blocks| {
            blocks
                .iter()
                .map(|volume| volume.value(x).max(0.0))
                .collect()
        })
        .collect();
    schedule.ordered_kw = problem
        .orders
        .iter()
        .zip(&model.ordered)
        .map(|(order, ordered)| ordered.value(x).clamp(-order.most_kw, order.most_kw))
        .collect();
    dimming::fit(problem, &mut schedule);
    cut_volumes(problem, &mut schedule);
    schedule
}

fn powers(problem: &Problem, index: usize, columns: &Columns, x: &[f64]) -> VehicleSchedule {
    let session = &problem.vehicles[index].session;
    let hours = problem.step_hours;
    let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
    let mut done = VehicleSchedule {
        energy_kwh: vec![session.arrival],
        ..VehicleSchedule::default()
    };
    let mut energy = session.arrival;
    for (j, share) in session.share.iter().enumerate() {
        let (most_c, most_d) = (share * session.charge_kw, share * session.discharge_kw);
        let mut c = columns.charge[j].value(x).clamp(0.0, most_c);
        let mut d = columns.discharge[j].value(x).clamp(0.0, most_d);
        let used = if most_d > 0.0 && most_c > 0.0 {
            c / most_c + d / most_d
        } else {
            0.0
        };
        if used > 1.0 {
            (c, d) = (c / used, d / used);
        }
        let mut next = energy + hours * (ec * c - d / ed);
        if next > session.capacity {
            c = (c - (next - session.capacity) / (hours * ec)).max(0.0);
        } else if next < session.floor {
            d = (d - (session.floor - next) * ed / hours).max(0.0);
        }
        next = energy + hours * (ec * c - d / ed);
        energy = next;
        done.charge_kw.push(c);
        done.discharge_kw.push(d);
        done.energy_kwh.push(energy);
    }
    done
}

fn hold(problem: &Problem, index: usize, columns: &Columns, x: &[f64], done: &mut VehicleSchedule) {
    let steps = problem.vehicles[index].session.share.len();
    let read = |expression: Expression| expression.value(x).max(0.0);
    for (up, down) in columns.up.iter().zip(&columns.down) {
        let part = |pick: &dyn Fn(&super::vehicle::Up) -> Expression| -> Vec<f64> {
            (0..steps)
                .map(|j| up[j].map_or(0.0, |up| read(pick(&up))))
                .collect()
        };
        done.held.push(Held {
            up_charge_kw: part(&|up| up.cancel),
            up_discharge_kw: part(&|up| up.battery),
            up_kw: part(&|up| up.kept),
            down_kw: (0..steps).map(|j| down[j].map_or(0.0, read)).collect(),
        });
    }
    for (product, held) in problem.products.iter().zip(&mut done.held) {
        refresh(product.up.map_or(0.0, |way| way.delivered), held);
    }
}

/// The power kept follows from its delivered parts.
fn refresh(delivered: f64, held: &mut Held) {
    if delivered > 0.0 {
        for j in 0..held.up_kw.len() {
            held.up_kw[j] = (held.up_charge_kw[j] + held.up_discharge_kw[j]) / delivered;
        }
    }
}

fn scale(problem: &Problem, index: usize, kept_short: f64, done: &mut VehicleSchedule) {
    let session = &problem.vehicles[index].session;
    let up_share = |product: usize| {
        problem.products[product]
            .up
            .map_or(0.0, |way| way.delivered)
    };
    for j in 0..session.share.len() {
        let (c, d) = (done.charge_kw[j], done.discharge_kw[j]);
        let cancelled: f64 = done.held.iter().map(|held| held.up_charge_kw[j]).sum();
        if cancelled > c {
            for (product, held) in done.held.iter_mut().enumerate() {
                held.up_charge_kw[j] *= c / cancelled;
                refresh(up_share(product), held);
            }
        }
        let up: f64 = done.held.iter().map(|held| held.up_kw[j]).sum();
        let down: f64 = done.held.iter().map(|held| held.down_kw[j]).sum();
        let by = |held: f64, room: f64| {
            if held > room {
                room.max(0.0) / held
            } else {
                1.0
            }
        };
        scale_up(done, j, by(up, c - d + session.discharge_kw));
        let factor = by(down, session.charge_kw - c + d);
        done.held
            .iter_mut()
            .for_each(|held| held.down_kw[j] *= factor);
    }
    scale_energy(problem, index, kept_short, done);
}

fn scale_up(done: &mut VehicleSchedule, j: usize, factor: f64) {
    for held in &mut done.held {
        held.up_charge_kw[j] *= factor;
        held.up_discharge_kw[j] *= factor;
        held.up_kw[j] *= factor;
    }
}

/// One pass: what a case of activation exceeds is taken off everything in it; less elsewhere harms no other case.
fn scale_energy(problem: &Problem, index: usize, kept_short: f64, done: &mut VehicleSchedule) {
    let vehicle = &problem.vehicles[index];
    let keep = keep_levels(problem, vehicle);
    let steps = vehicle.session.share.len();
    let count = problem.products.len();
    let (mut up, mut down) = (
        vec![vec![1.0_f64; steps]; count],
        vec![vec![1.0_f64; steps]; count],
    );
    let energy = &done.energy_kwh;
    activations(problem, index, done, |boundary, parts, drain, fill| {
        let floor = (keep[boundary] - kept_short).max(vehicle.session.floor);
        let room = (energy[boundary] - floor).max(0.0);
        let space = (vehicle.session.capacity - energy[boundary]).max(0.0);
        for (held, factors) in [
            (drain / room.max(f64::MIN_POSITIVE), &mut up),
            (fill / space.max(f64::MIN_POSITIVE), &mut down),
        ] {
            if held > 1.0 {
                for (product, j, _) in parts {
                    factors[*product][*j] = factors[*product][*j].min(1.0 / held);
                }
            }
        }
    });
    for (product, held) in done.held.iter_mut().enumerate() {
        let ways = (problem.products[product].up, problem.products[product].down);
        for j in 0..steps {
            if ways.0.is_some_and(|way| way.delivered > 0.0) {
                held.up_charge_kw[j] *= up[product][j];
                held.up_discharge_kw[j] *= up[product][j];
                held.up_kw[j] *= up[product][j];
            }
            if ways.1.is_some_and(|way| way.delivered > 0.0) {
                held.down_kw[j] *= down[product][j];
            }
        }
    }
}

/// No block sells what its weakest step does not hold, whichever group is lost and whatever is dimmed.
fn cut_volumes(problem: &Problem, schedule: &mut Schedule) {
    for (index, product) in problem.products.iter().enumerate() {
        let (up, down) = kept_for_certain(problem, schedule, index);
        for (b, block) in product.blocks.iter().enumerate() {
            let held = |step: usize| {
                let up = product.up.map(|way| up[step] / (1000.0 * way.power));
                let down = product.down.map(|way| down[step] / (1000.0 * way.power));
                up.into_iter().chain(down).fold(f64::INFINITY, f64::min)
            };
            let weakest = block.steps.clone().map(held).fold(f64::INFINITY, f64::min);
            let sold = &mut schedule.sold_mw[index][b];
            *sold = sold
                .min(weakest.max(0.0))
                .min(block.most_mw.unwrap_or(f64::INFINITY));
            if !sold.is_finite() {
                *sold = 0.0;
            }
        }
    }
}
