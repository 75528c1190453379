//! From the solver's last iterate to a schedule that keeps every row.
//!
//! Steps are met in order of time: powers are cut back to the charger, the band and the site, the energy follows from
//! them exactly. Reserve appears in every row as a burden, so it is scaled down wherever a row asks for it, and the
//! volume of a block is what is left in its weakest step.

use super::coupling::{Component, Model};
use super::problem::{Headroom, Held, Problem, Schedule, Session, SessionSchedule};

/// Writes what the solver's columns say into a component's part of the schedule.
pub(super) fn read(component: &Component, model: &Model, x: &[f64], schedule: &mut Schedule) {
    for (index, columns) in component.sessions.iter().zip(&model.sessions) {
        let own = |expressions: &[super::program::Expression]| {
            expressions.iter().map(|e| e.value(x)).collect()
        };
        schedule.sessions[*index] = SessionSchedule {
            charge_kw: own(&columns.charge),
            discharge_kw: own(&columns.discharge),
            energy_kwh: Vec::new(),
            short_kwh: 0.0,
            reserves: columns
                .held
                .iter()
                .map(|held| Held {
                    up_charge_kw: held.iter().map(|h| h.cancel.value(x).max(0.0)).collect(),
                    up_discharge_kw: held
                        .iter()
                        .map(|h| h.up.add(-1.0, h.cancel).value(x).max(0.0))
                        .collect(),
                    down_kw: held.iter().map(|h| h.down.value(x).max(0.0)).collect(),
                })
                .collect(),
        };
    }
}

/// Cuts a component's part of the schedule back to what every row allows; its powers and reserves are where to start.
pub(super) fn repair(problem: &Problem, component: &Component, schedule: &mut Schedule) {
    within_rows(problem, component, schedule);
    if !component.blocks.is_empty() {
        volumes(problem, component, schedule);
    }
}

/// [`repair()`] without the volumes, which a component's sites share.
pub(super) fn within_rows(problem: &Problem, component: &Component, schedule: &mut Schedule) {
    for index in &component.sessions {
        let arrival = problem.sessions[*index].arrival;
        schedule.sessions[*index].energy_kwh = vec![arrival];
    }
    powers(problem, component, schedule);
    for index in &component.sessions {
        let (session, done) = (&problem.sessions[*index], &mut schedule.sessions[*index]);
        let last = done.energy_kwh[session.share.len()];
        done.short_kwh = (session.goal - last).max(0.0);
        if !component.blocks.is_empty() {
            power_headroom(problem, session, done);
            match problem.headroom {
                Headroom::Snapshot => snapshot(problem, session, done),
                Headroom::Window { recovery_steps } => {
                    windows(problem, session, done, recovery_steps)
                }
            }
        }
    }
    if !component.blocks.is_empty() {
        sites(problem, component, schedule);
    }
}

/// Powers and energies, step by step through the component's time.
fn powers(problem: &Problem, component: &Component, schedule: &mut Schedule) {
    let first = component
        .sessions
        .iter()
        .map(|index| problem.sessions[*index].first)
        .min()
        .unwrap_or(0);
    let end = component
        .sessions
        .iter()
        .map(|index| problem.sessions[*index].steps().end)
        .max()
        .unwrap_or(0);
    let mut rows = component.site_rows.clone();
    rows.sort_by_key(|row| row.step);
    let mut rows = rows.into_iter().peekable();
    let mut waiting = component.sessions.clone();
    waiting.sort_by_key(|index| problem.sessions[*index].first);
    let mut waiting = waiting.into_iter().peekable();
    let mut here: Vec<usize> = Vec::new();
    for step in first..end {
        here.retain(|index| problem.sessions[*index].steps().contains(&step));
        while let Some(index) = waiting.next_if(|index| problem.sessions[*index].first <= step) {
            if problem.sessions[index].steps().contains(&step) {
                here.push(index);
            }
        }
        for index in &here {
            let session = &problem.sessions[*index];
            within_charger(
                problem.step_hours,
                session,
                &mut schedule.sessions[*index],
                step - session.first,
            );
        }
        while let Some(row) = rows.next_if(|row| row.step <= step) {
            let at = |index: &usize| problem.sessions[*index].site == Some(row.site);
            let there: Vec<usize> = here.iter().filter(|index| at(index)).copied().collect();
            within_site(problem, &there, step, row.import, row.room, schedule);
        }
        for index in &here {
            let session = &problem.sessions[*index];
            let done = &mut schedule.sessions[*index];
            let j = step - session.first;
            let gain = gain(
                problem.step_hours,
                session,
                done.charge_kw[j],
                done.discharge_kw[j],
            );
            done.energy_kwh.push(done.energy_kwh[j] + gain);
        }
    }
}

fn gain(hours: f64, session: &Session, charge: f64, discharge: f64) -> f64 {
    hours * (session.charge_efficiency * charge - discharge / session.discharge_efficiency)
}

/// Cuts one session's powers back to its charger and its band.
fn within_charger(hours: f64, session: &Session, done: &mut SessionSchedule, j: usize) {
    let share = session.share[j];
    let (most, least) = (share * session.charge_kw, share * session.discharge_kw);
    let mut charge = done.charge_kw[j].clamp(0.0, most);
    let mut discharge = done.discharge_kw[j].clamp(0.0, least);
    if most > 0.0 && least > 0.0 {
        let used = charge / most + discharge / least;
        if used > 1.0 {
            charge /= used;
            discharge /= used;
        }
    }
    let level = done.energy_kwh[j] + gain(hours, session, charge, discharge);
    if level > session.capacity {
        charge -= ((level - session.capacity) / (hours * session.charge_efficiency)).min(charge);
    } else if level < session.floor {
        discharge -=
            ((session.floor - level) * session.discharge_efficiency / hours).min(discharge);
    }
    done.charge_kw[j] = charge;
    done.discharge_kw[j] = discharge;
}

/// Cuts the powers of a site's sessions back to its limit.
fn within_site(
    problem: &Problem,
    there: &[usize],
    step: usize,
    import: bool,
    room: f64,
    schedule: &mut Schedule,
) {
    let at = |index: &usize| step - problem.sessions[*index].first;
    let (mut charge, mut discharge) = (0.0, 0.0);
    for index in there {
        charge += schedule.sessions[*index].charge_kw[at(index)];
        discharge += schedule.sessions[*index].discharge_kw[at(index)];
    }
    let (over, cut) = if import {
        (charge - discharge - room, charge)
    } else {
        (discharge - charge - room, discharge)
    };
    if over <= 0.0 || cut <= 0.0 {
        return;
    }
    let left = (1.0 - over / cut).max(0.0);
    for index in there {
        let (done, j) = (&mut schedule.sessions[*index], at(index));
        if import {
            done.charge_kw[j] *= left;
        } else {
            done.discharge_kw[j] *= left;
        }
    }
}

/// The share of a burden that fits into the room there is.
fn fit(burden: f64, room: f64) -> f64 {
    if burden > room {
        (room / burden).max(0.0)
    } else {
        1.0
    }
}

/// Scales the Up or Down that every product holds in one step.
fn scale(done: &mut SessionSchedule, j: usize, up: bool, by: f64) {
    for held in &mut done.reserves {
        scale_one(held, j, up, by);
    }
}

fn scale_one(held: &mut Held, j: usize, up: bool, by: f64) {
    if up {
        held.up_charge_kw[j] *= by;
        held.up_discharge_kw[j] *= by;
    } else {
        held.down_kw[j] *= by;
    }
}

fn power_headroom(problem: &Problem, session: &Session, done: &mut SessionSchedule) {
    for j in 0..session.share.len() {
        let net = done.charge_kw[j] - done.discharge_kw[j];
        let cancelled = done.reserves.iter().map(|held| held.up_charge_kw[j]).sum();
        let by = fit(cancelled, done.charge_kw[j]);
        done.reserves
            .iter_mut()
            .for_each(|held| held.up_charge_kw[j] *= by);
        let pairs = || problem.reserves.iter().zip(&done.reserves);
        let up = pairs()
            .map(|(reserve, held)| reserve.power_factor * held.up_kw(j))
            .sum();
        let down = pairs()
            .map(|(reserve, held)| reserve.power_factor * held.down_kw[j])
            .sum();
        let (up_by, down_by) = (
            fit(up, session.discharge_kw + net),
            fit(down, session.charge_kw - net),
        );
        scale(done, j, true, up_by);
        scale(done, j, false, down_by);
    }
}

/// What a product's reserve in a step takes from (Up) or adds to (Down) the battery, kW.
fn draw(session: &Session, held: &Held, j: usize, up: bool) -> f64 {
    if up {
        session.charge_efficiency * held.up_charge_kw[j]
            + held.up_discharge_kw[j] / session.discharge_efficiency
    } else {
        held.down_kw[j] / session.discharge_efficiency
    }
}

fn room(session: &Session, energy: f64, up: bool) -> f64 {
    if up {
        energy - session.floor
    } else {
        session.capacity - energy
    }
}

fn snapshot(problem: &Problem, session: &Session, done: &mut SessionSchedule) {
    for j in 0..session.share.len() {
        for up in [true, false] {
            let pairs = problem.reserves.iter().zip(&done.reserves);
            let burden = pairs
                .map(|(reserve, held)| reserve.endurance_hours * draw(session, held, j, up))
                .sum();
            let ends = [done.energy_kwh[j], done.energy_kwh[j + 1]];
            let least = ends
                .into_iter()
                .map(|energy| room(session, energy, up))
                .fold(f64::INFINITY, f64::min);
            scale(done, j, up, fit(burden, least));
        }
    }
}

fn windows(problem: &Problem, session: &Session, done: &mut SessionSchedule, recovery: usize) {
    let lengths: Vec<usize> = problem
        .reserves
        .iter()
        .map(|r| r.window_steps(problem.step_hours))
        .collect();
    for at in 1..=session.share.len() {
        for end in at.saturating_sub(recovery).max(1)..=at {
            for up in [true, false] {
                let inside = |product: usize| end.saturating_sub(lengths[product])..end;
                let mut burden = 0.0;
                for (product, held) in done.reserves.iter().enumerate() {
                    burden += inside(product)
                        .map(|j| draw(session, held, j, up))
                        .sum::<f64>();
                }
                let by = fit(
                    problem.step_hours * burden,
                    room(session, done.energy_kwh[at], up),
                );
                if by < 1.0 {
                    for (product, held) in done.reserves.iter_mut().enumerate() {
                        inside(product).for_each(|j| scale_one(held, j, up, by));
                    }
                }
            }
        }
    }
}

/// Scales the reserve behind a limit to what fits beside the planned powers.
fn sites(problem: &Problem, component: &Component, schedule: &mut Schedule) {
    for row in &component.site_rows {
        let at = |index: &&usize| {
            let session = &problem.sessions[**index];
            session.site == Some(row.site) && session.steps().contains(&row.step)
        };
        let there: Vec<usize> = component.sessions.iter().filter(at).copied().collect();
        let (mut net, mut burden) = (0.0, 0.0);
        for index in &there {
            let (done, j) = (
                &schedule.sessions[*index],
                row.step - problem.sessions[*index].first,
            );
            net += done.charge_kw[j] - done.discharge_kw[j];
            burden += done
                .reserves
                .iter()
                .map(|h| if row.import { h.down_kw[j] } else { h.up_kw(j) })
                .sum::<f64>();
        }
        let by = fit(burden, row.room - if row.import { net } else { -net });
        for index in &there {
            let j = row.step - problem.sessions[*index].first;
            scale(&mut schedule.sessions[*index], j, !row.import, by);
        }
    }
}

/// What every step of a block still holds is what the block can sell.
pub(super) fn volumes(problem: &Problem, component: &Component, schedule: &mut Schedule) {
    for (product, block) in &component.blocks {
        let reserve = &problem.reserves[*product];
        let steps = reserve.blocks[*block].steps.clone();
        let mut held = vec![(0.0, 0.0); steps.len()];
        for index in &component.sessions {
            let (session, done) = (&problem.sessions[*index], &schedule.sessions[*index]);
            let shared = session.first.max(steps.start)..session.steps().end.min(steps.end);
            for step in shared {
                let j = step - session.first;
                held[step - steps.start].0 += done.reserves[*product].up_kw(j);
                held[step - steps.start].1 += done.reserves[*product].down_kw[j];
            }
        }
        let (up, down) = (reserve.direction.has_up(), reserve.direction.has_down());
        let least = held
            .iter()
            .fold(f64::INFINITY, |least, (held_up, held_down)| {
                least
                    .min(if up { *held_up } else { f64::INFINITY })
                    .min(if down { *held_down } else { f64::INFINITY })
            });
        schedule.block_mw[*product][*block] = if least.is_finite() {
            least / 1000.0
        } else {
            0.0
        };
    }
}
