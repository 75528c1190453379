//! From a problem to a schedule with a proven bound.

use super::check::check;
use super::gives::relaxed;
use super::money::objective;
use super::problem::{Answer, Held, Problem, Schedule, Vehicle, VehicleSchedule};
use super::valid::StackError;
use super::{dimming, model, prices, repair};
use crate::reference::interior::{self, Verdict};

/// Gap below which further attempts are not worth their time.
const GOOD_ENOUGH: f64 = 1e-6;

/// Least money against which a gap is measured: a cent.
const CENT: f64 = 0.01;

/// Solves a problem: a schedule that keeps every row that may not give way, and what no schedule can cost less than.
///
/// Never without an answer: limits, departures and awards give way at the prices of [`Elastic`](super::Elastic), and
/// where the solver fails everybody charges from plug-in on, with the gap that has.
///
/// # Errors
/// [`StackError`] where a number or an index makes no sense.
pub fn solve(problem: &Problem) -> Result<Answer, StackError> {
    problem.check()?;
    let model = model::build(problem);
    let mut best = answer(problem, unmanaged(problem));
    best.lower_bound = model.program.bound(&[]);
    for attempt in 0..interior::ATTEMPTS {
        let iterate = if model.program.limit.is_empty() {
            None
        } else {
            Some(interior::minimise(&model.program, attempt))
        };
        let (x, duals) = iterate.as_ref().map_or((&[][..], &[][..]), |i| {
            (i.x.as_slice(), i.prices.as_slice())
        });
        best.iterations += iterate.as_ref().map_or(0, |i| i.iterations);
        if iterate
            .as_ref()
            .is_some_and(|i| i.verdict != Verdict::Candidate)
        {
            continue;
        }
        let schedule = repair::schedule(problem, &model, x);
        if !check(problem, &schedule).is_empty() {
            continue;
        }
        let bound = model.program.bound(duals);
        let cost = objective(problem, &schedule);
        best.lower_bound = best.lower_bound.max(bound);
        if cost < best.objective || attempt == 0 {
            best.prices = prices::prices(problem, &model, x, duals);
        }
        if cost < best.objective {
            best.objective = cost;
            best.schedule = schedule;
        }
        best.relative_gap = gap(best.objective, best.lower_bound);
        if best.relative_gap <= GOOD_ENOUGH {
            break;
        }
    }
    best.relative_gap = gap(best.objective, best.lower_bound);
    best.relaxed = relaxed(problem, &best.schedule);
    Ok(best)
}

fn gap(objective: f64, lower_bound: f64) -> f64 {
    ((objective - lower_bound) / objective.abs().max(CENT)).max(0.0)
}

fn answer(problem: &Problem, schedule: Schedule) -> Answer {
    Answer {
        objective: objective(problem, &schedule),
        schedule,
        lower_bound: f64::NEG_INFINITY,
        relative_gap: f64::INFINITY,
        relaxed: Vec::new(),
        prices: prices::none(problem),
        iterations: 0,
    }
}

/// What is fixed, then full power until the goal or the level kept is reached; nothing sold beyond awards.
fn unmanaged(problem: &Problem) -> Schedule {
    let mut schedule = Schedule {
        vehicles: problem
            .vehicles
            .iter()
            .map(|v| charge_now(problem, v))
            .collect(),
        sold_mw: problem
            .products
            .iter()
            .map(|p| vec![0.0; p.blocks.len()])
            .collect(),
        ordered_kw: vec![0.0; problem.orders.len()],
    };
    dimming::most(problem, &mut schedule);
    schedule
}

fn charge_now(problem: &Problem, vehicle: &Vehicle) -> VehicleSchedule {
    let session = &vehicle.session;
    let steps = session.share.len();
    let wanted = session.goal.max(vehicle.keep_kwh).min(session.capacity);
    let none = Held {
        up_charge_kw: vec![0.0; steps],
        up_discharge_kw: vec![0.0; steps],
        up_kw: vec![0.0; steps],
        down_kw: vec![0.0; steps],
    };
    let mut done = VehicleSchedule {
        discharge_kw: vec![0.0; steps],
        energy_kwh: vec![session.arrival],
        held: vec![none; problem.products.len()],
        ..VehicleSchedule::default()
    };
    let (mut energy, per_kw) = (
        session.arrival,
        problem.step_hours * session.charge_efficiency,
    );
    for (j, share) in session.share.iter().enumerate() {
        let now = ((wanted - energy) / per_kw).clamp(0.0, share * session.charge_kw);
        let (power, back) = vehicle.fixed_kw.get(j).copied().unwrap_or((now, 0.0));
        energy += per_kw * power - problem.step_hours * back / session.discharge_efficiency;
        done.charge_kw.push(power);
        done.discharge_kw[j] = back;
        done.energy_kwh.push(energy);
    }
    done
}
