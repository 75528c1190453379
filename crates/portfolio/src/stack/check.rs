//! Which rows that may not give way a schedule breaks, written from `optimisation.md` 2 and 3 and nothing else.

use super::dimming::{Place, recovery};
use super::money::{activations, kept_for_certain};
use super::problem::{Held, Problem, Schedule, VehicleSchedule};

/// Excess up to which a row counts as kept: a milliwatt, or the energy of a milliwatt over an hour.
const TOLERANCE: f64 = 1e-6;

/// One broken row: its meaning, the vehicle or product it belongs to and the excess, kW or kWh.
pub type Broken = (&'static str, usize, f64);

/// Every row that may not give way and is broken by more than a milliwatt (milliwatt-hour).
#[must_use]
pub fn check(problem: &Problem, schedule: &Schedule) -> Vec<Broken> {
    let mut found = Vec::new();
    if schedule.vehicles.len() != problem.vehicles.len() || !shaped(problem, schedule) {
        return vec![("shape", 0, f64::INFINITY)];
    }
    let mut at_most = |row: &'static str, index: usize, value: f64, limit: f64| {
        let excess = value - limit;
        if excess > TOLERANCE || excess.is_nan() {
            found.push((row, index, excess));
        }
    };
    for (index, done) in schedule.vehicles.iter().enumerate() {
        energy(problem, index, done, &mut at_most);
        reserve(problem, index, done, &mut at_most);
        apparent(problem, index, done, &mut at_most);
    }
    dimmed(problem, schedule, &mut at_most);
    for (index, product) in problem.products.iter().enumerate() {
        let (up, down) = kept_for_certain(problem, schedule, index);
        for (block, sold) in product.blocks.iter().zip(&schedule.sold_mw[index]) {
            at_most("volume", index, -sold, 0.0);
            at_most(
                "volume",
                index,
                *sold,
                block.most_mw.unwrap_or(f64::INFINITY),
            );
            if !block.open {
                at_most("volume", index, *sold, 0.0);
            }
            for step in block.steps.clone() {
                if let Some(way) = product.up {
                    at_most("pool", index, 1000.0 * way.power * sold, up[step]);
                }
                if let Some(way) = product.down {
                    at_most("pool", index, 1000.0 * way.power * sold, down[step]);
                }
            }
        }
    }
    found
}

fn shaped(problem: &Problem, schedule: &Schedule) -> bool {
    let vehicles = problem
        .vehicles
        .iter()
        .zip(&schedule.vehicles)
        .all(|(v, done)| {
            let steps = v.session.share.len();
            done.charge_kw.len() == steps
                && done.discharge_kw.len() == steps
                && done.energy_kwh.len() == steps + 1
                && done.held.len() == problem.products.len()
                && (done.reactive_kvar.is_empty() || done.reactive_kvar.len() == steps)
                && done.dimmed.as_ref().is_none_or(|made| {
                    made.down_kw.len() == problem.products.len()
                        && [&made.during_kw, &made.after_kw]
                            .into_iter()
                            .chain(&made.down_kw)
                            .all(|values| values.len() == steps)
                })
                && done.held.iter().all(|h| {
                    [&h.up_charge_kw, &h.up_discharge_kw, &h.up_kw, &h.down_kw]
                        .iter()
                        .all(|values| values.len() == steps)
                })
        });
    vehicles
        && schedule.ordered_kw.len() == problem.orders.len()
        && schedule.sold_mw.len() == problem.products.len()
        && problem
            .products
            .iter()
            .zip(&schedule.sold_mw)
            .all(|(p, sold)| p.blocks.len() == sold.len())
}

fn energy(
    problem: &Problem,
    index: usize,
    done: &VehicleSchedule,
    at_most: &mut impl FnMut(&'static str, usize, f64, f64),
) {
    let session = &problem.vehicles[index].session;
    at_most(
        "arrival",
        index,
        (done.energy_kwh[0] - session.arrival).abs(),
        0.0,
    );
    for (j, share) in session.share.iter().enumerate() {
        let (c, d) = (done.charge_kw[j], done.discharge_kw[j]);
        for (value, limit) in [
            (-c, 0.0),
            (-d, 0.0),
            (c, share * session.charge_kw),
            (d, share * session.discharge_kw),
        ] {
            at_most("power", index, value, limit);
        }
        if let Some((charge, discharge)) = problem.vehicles[index].fixed_kw.get(j) {
            at_most(
                "fixed",
                index,
                (c - charge).abs().max((d - discharge).abs()),
                0.0,
            );
        }
        if session.discharge_kw > 0.0 && session.charge_kw > 0.0 {
            let both = c + d * session.charge_kw / session.discharge_kw;
            at_most("power", index, both, share * session.charge_kw);
        }
        let gain =
            problem.step_hours * (session.charge_efficiency * c - d / session.discharge_efficiency);
        let (from, to) = (done.energy_kwh[j], done.energy_kwh[j + 1]);
        at_most("balance", index, (from + gain - to).abs(), 0.0);
        at_most("band", index, session.floor - to, 0.0);
        at_most("band", index, to, session.capacity);
    }
}

fn reserve(
    problem: &Problem,
    index: usize,
    done: &VehicleSchedule,
    at_most: &mut impl FnMut(&'static str, usize, f64, f64),
) {
    let session = &problem.vehicles[index].session;
    for (j, step) in session.steps().enumerate() {
        let net = done.charge_kw[j] - done.discharge_kw[j];
        let (mut cancelled, mut up, mut down) = (0.0, 0.0, 0.0);
        for (product, held) in problem.products.iter().zip(&done.held) {
            let sold = product.blocks.iter().any(|b| b.steps.contains(&step));
            let parts = [
                held.up_charge_kw[j],
                held.up_discharge_kw[j],
                held.up_kw[j],
                held.down_kw[j],
            ];
            for part in parts {
                at_most("reserve", index, -part, 0.0);
                if !session.whole(j) || !sold {
                    at_most("reserve", index, part, 0.0);
                }
            }
            let delivered = product.up.map_or(0.0, |way| way.delivered) * held.up_kw[j];
            at_most(
                "delivered",
                index,
                (delivered - parts[0] - parts[1]).abs(),
                0.0,
            );
            cancelled += parts[0];
            up += held.up_kw[j];
            down += held.down_kw[j];
        }
        at_most("cancelled", index, cancelled, done.charge_kw[j]);
        if session.whole(j) {
            at_most("power head-room", index, up - net, session.discharge_kw);
            at_most("power head-room", index, net + down, session.charge_kw);
        }
    }
    activations(problem, index, done, |boundary, _, drain, fill| {
        let energy = done.energy_kwh[boundary];
        at_most(
            "energy head-room",
            index,
            session.floor - (energy - drain),
            0.0,
        );
        at_most("energy head-room", index, energy + fill, session.capacity);
    });
}

/// Active and reactive power within the charger's rating, with all Down and with all Up activated.
fn apparent(
    problem: &Problem,
    index: usize,
    done: &VehicleSchedule,
    at_most: &mut impl FnMut(&'static str, usize, f64, f64),
) {
    let vehicle = &problem.vehicles[index];
    let sum = |kept: fn(&Held) -> &[f64], j: usize| -> f64 {
        done.held.iter().map(|held| kept(held)[j]).sum()
    };
    for (j, kvar) in done.reactive_kvar.iter().enumerate() {
        let net = done.charge_kw[j] - done.discharge_kw[j];
        let (up, down) = (sum(|held| &held.up_kw, j), sum(|held| &held.down_kw, j));
        let most = vehicle.session.share[j] * vehicle.rating_kva.unwrap_or(0.0);
        for active in [net + down, net - up] {
            let apparent = if *kvar == 0.0 {
                0.0
            } else {
                active.hypot(*kvar)
            };
            at_most("apparent power", index, apparent, most);
        }
    }
}

/// What is done when dimmed keeps what is left of the draw, the charger and, after it, import limits. How far the plan
/// itself exceeds a limit is not looked at again here.
fn dimmed(
    problem: &Problem,
    schedule: &Schedule,
    at_most: &mut impl FnMut(&'static str, usize, f64, f64),
) {
    for (d, dimming) in problem.dimmings.iter().enumerate() {
        for left in &dimming.left {
            let mut all = vec![0.0; problem.import_price.len()];
            for v in &left.vehicles {
                let (vehicle, done) = (&problem.vehicles[*v], &schedule.vehicles[*v]);
                let Some(made) = done.dimmed.as_ref() else {
                    at_most("dimmed", *v, f64::INFINITY, 0.0);
                    continue;
                };
                for (j, step) in vehicle.session.steps().enumerate() {
                    let share = vehicle.session.share[j];
                    let can = share * vehicle.session.charge_kw;
                    let down: f64 = made.down_kw.iter().map(|down| down[j]).sum();
                    let (during, after) = (made.during_kw[j], made.after_kw[j]);
                    all[step] += if share > 0.0 {
                        (during + down) / share
                    } else {
                        0.0
                    };
                    let mut kept = 0.0;
                    for (held, down) in done.held.iter().zip(&made.down_kw) {
                        kept += held.down_kw[j];
                        at_most("dimmed", *v, -down[j], 0.0);
                        let most = if dimming.holds_down {
                            held.down_kw[j]
                        } else {
                            0.0
                        };
                        at_most("dimmed", *v, down[j], most);
                    }
                    at_most("dimmed", *v, -during, 0.0);
                    let most = can.min(share * left.kw);
                    at_most("dimmed", *v, during + down, most);
                    at_most("dimmed", *v, during, after);
                    let free = if dimming.holds_down {
                        (can - kept).max(0.0)
                    } else {
                        can
                    };
                    at_most("after dimming", *v, after, free);
                }
            }
            for total in all {
                at_most("dimmed", d, total, left.kw);
            }
        }
        for place in Place::all(problem) {
            for (after, room) in recovery(problem, d, place, schedule).into_iter().flatten() {
                at_most("after dimming", d, after, room.max(0.0));
            }
        }
    }
}
