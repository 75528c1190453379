//! When no new plan was made: the previous one, moved to now and clipped to what is possible.

use std::collections::BTreeMap;

use fleet::EvseId;
use fleet::schedule::{Schedule, Step};
use market::PlanId;
use market::plan::{Plan, PlanStatus, PlanStep};
use units::{Interval, Power};

use super::at_once::laxity;
use super::problem::Problem;
use super::vehicle::EPSILON;
use super::{Input, Vehicle, schedule};

/// The previous plan from now on, for the vehicles of `input` that are plugged in; its prices are not looked at.
///
/// A vehicle keeps its scheduled power within its envelope (it still leaves with what it needs); one that is new, or whose stay is another,
/// charges at once. Where a site would carry too much, power above what envelopes ask for is cut first, in proportion; then vehicles
/// wait, those with most time first. Where it would give too much, discharge is cut. Reserve stays as it was scheduled, as far as the power of
/// the vehicle and the limits of the site allow with all of it called. Never empty: without a previous plan everybody charges at once.
#[must_use]
pub fn fallback(
    input: &Input<'_>,
    previous: Option<(&Plan, &[Schedule])>,
) -> (Plan, Vec<Schedule>) {
    let problem = Problem::new(input, 1);
    let grid = input.grid;
    let old: BTreeMap<&EvseId, &Schedule> = previous
        .map(|(_, schedules)| schedules.iter().map(|s| (&s.evse, s)).collect())
        .unwrap_or_default();
    let of_stay = |v: &Vehicle| {
        let schedule = old.get(v.evse.as_ref()?).copied()?;
        (schedule.session == v.session).then_some(schedule)
    };
    let before: Vec<Option<&Schedule>> = input.vehicles.iter().map(of_stay).collect();
    let steps = clipped(&problem, &before);
    let mut schedules: Vec<Schedule> = input
        .vehicles
        .iter()
        .zip(steps)
        .zip(&before)
        .filter_map(|((vehicle, steps), before)| {
            let reason = match before {
                Some(_) => "no new plan: the previous one, clipped to what is possible",
                None => "no plan yet: charges at once",
            };
            schedule::of(grid, vehicle, steps, reason.to_owned())
        })
        .chain(input.plain.iter().map(|p| schedule::plain(grid, p)))
        .collect();
    schedules.sort_by(|a, b| a.evse.cmp(&b.evse));
    let plan = Plan {
        id: PlanId::derive(&format!("{}/fallback", input.area.code()), grid.now()),
        area: input.area,
        solved_at: grid.now(),
        data_until: previous.map_or(grid.now(), |(plan, _)| plan.data_until),
        status: PlanStatus::Fallback,
        relative_gap: None,
        expected: None,
        steps: pool(input, &schedules, previous),
    };
    (plan, schedules)
}

/// What one vehicle could do in a step, kW: scheduled, and the least and most that its envelope and its battery leave.
#[derive(Clone, Copy)]
struct Choice {
    vehicle: usize,
    wanted: f64,
    least: f64,
    most: f64,
    old: Step,
}

/// Steps of all vehicles, site by site; a vehicle that is only expected takes no part.
fn clipped(problem: &Problem<'_>, before: &[Option<&Schedule>]) -> Vec<Vec<Step>> {
    let vehicles = problem.input.vehicles;
    let mut steps: Vec<Vec<Step>> = vehicles
        .iter()
        .map(|v| vec![Step::default(); v.len()])
        .collect();
    let mut unsteered = vec![0.0; problem.members.len()];
    for plain in problem.input.plain {
        if let Some(site) = unsteered.get_mut(plain.site) {
            *site += plain.allowed_kw;
        }
    }
    for (site, members) in problem.members.iter().enumerate() {
        let limits = &problem.input.sites[site];
        let band = (-limits.export_kw, limits.import_kw - unsteered[site]);
        clip_site(problem, before, members, band, &mut steps);
    }
    // Without a registered site there is no limit to share.
    for (i, vehicle) in vehicles.iter().enumerate() {
        if vehicle.site >= problem.members.len() {
            let free = (f64::NEG_INFINITY, f64::INFINITY);
            clip_site(problem, before, &[i], free, &mut steps);
        }
    }
    steps
}

/// Steps of the vehicles at one site, whose power together stays within `band`.
fn clip_site(
    problem: &Problem<'_>,
    before: &[Option<&Schedule>],
    members: &[usize],
    band: (f64, f64),
    steps: &mut [Vec<Step>],
) {
    let (grid, vehicles) = (problem.input.grid, problem.input.vehicles);
    let plugged: Vec<usize> = members
        .iter()
        .copied()
        .filter(|i| vehicles[*i].evse.is_some())
        .collect();
    let mut level: Vec<f64> = plugged.iter().map(|i| vehicles[*i].arrival).collect();
    for step in 0..grid.len() {
        let mut choices: Vec<(usize, Choice)> = Vec::new();
        for (n, i) in plugged.iter().enumerate() {
            let vehicle = &vehicles[*i];
            if step
                .checked_sub(vehicle.first)
                .is_some_and(|j| j < vehicle.len())
            {
                choices.push((n, choice(problem, *i, before[*i], level[n], step)));
            }
        }
        let powers = share(problem, &choices, &level, band, step);
        let net: f64 = powers.iter().sum();
        let held = |of: fn(&Choice, &Vehicle, f64) -> f64| -> Vec<f64> {
            let each = choices.iter().zip(&powers);
            each.map(|((_, c), kw)| of(c, &vehicles[c.vehicle], *kw).max(0.0))
                .collect()
        };
        let up = fitting(
            held(|c, v, kw| c.old.up.kw().min(kw + v.discharge_kw)),
            net - band.0,
        );
        let down = fitting(
            held(|c, v, kw| c.old.down.kw().min(v.charge_kw - kw)),
            band.1 - net,
        );
        for (((n, choice), kw), (up, down)) in choices.iter().zip(&powers).zip(up.iter().zip(&down))
        {
            let vehicle = &vehicles[choice.vehicle];
            let j = step - vehicle.first;
            let hours = grid.hours(step) * vehicle.share[j];
            level[*n] += hours * vehicle.gain(*kw);
            steps[choice.vehicle][j] = Step {
                power: Power::from_kw(*kw),
                up: Power::from_kw(*up),
                down: Power::from_kw(*down),
            };
        }
    }
}

/// What vehicle `i` at `level` could do in `step`.
fn choice(
    problem: &Problem<'_>,
    i: usize,
    before: Option<&Schedule>,
    level: f64,
    step: usize,
) -> Choice {
    let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
    let grid = problem.input.grid;
    let j = step - vehicle.first;
    let old = before.and_then(|s| step_at(s, grid.at(step)));
    let hours = grid.hours(step) * vehicle.share[j].max(1e-6);
    let per_kw = hours * vehicle.charge_efficiency;
    let needed = envelope.floor[j + 1] - level;
    let room = vehicle.capacity.max(level) - level;
    let most = vehicle.charge_kw.min(room / per_kw);
    let least = if needed > EPSILON {
        (needed / per_kw).min(most)
    } else {
        let free = -needed * vehicle.discharge_efficiency / hours;
        -free.min(vehicle.discharge_kw).max(0.0)
    };
    let wanted = match old {
        Some(old) => old.power.kw(),
        // Never more than it came for.
        None => ((vehicle.goal - level).max(0.0) / per_kw).min(vehicle.charge_kw),
    };
    Choice {
        vehicle: i,
        wanted: wanted.clamp(least, most.max(least)),
        least,
        most: most.max(least),
        old: old.unwrap_or_default(),
    }
}

/// Powers as wanted, as far as the site's `band` carries them together.
fn share(
    problem: &Problem<'_>,
    choices: &[(usize, Choice)],
    level: &[f64],
    (low, high): (f64, f64),
    step: usize,
) -> Vec<f64> {
    let mut powers: Vec<f64> = choices.iter().map(|(_, c)| c.wanted).collect();
    let total: f64 = powers.iter().sum();
    if total > high {
        let free: f64 = choices.iter().map(|(_, c)| c.wanted - c.least).sum();
        let part = ((total - high) / free.max(f64::MIN_POSITIVE)).min(1.0);
        for (kw, (_, c)) in powers.iter_mut().zip(choices) {
            *kw -= part * (c.wanted - c.least);
        }
        let mut over = powers.iter().sum::<f64>() - high;
        let slack = |n: usize| {
            let (at, choice) = &choices[n];
            laxity(&problem.input.vehicles[choice.vehicle], level[*at], step)
        };
        let mut order: Vec<usize> = (0..choices.len()).collect();
        order.sort_by(|a, b| slack(*b).total_cmp(&slack(*a)).then(a.cmp(b)));
        for n in order {
            if over <= 0.0 {
                break;
            }
            let cut = over.min(powers[n].max(0.0));
            powers[n] -= cut;
            over -= cut;
        }
    } else if total < low {
        // Discharge can always be cut; charging is never forced.
        let given: f64 = powers.iter().map(|kw| (-kw).max(0.0)).sum();
        let part = ((low - total) / given.max(f64::MIN_POSITIVE)).min(1.0);
        for (kw, (_, c)) in powers.iter_mut().zip(choices) {
            *kw = (*kw + part * (-*kw).max(0.0)).min(c.most);
        }
    }
    powers
}

/// Reserve in proportion to what was held, no more than `room` together, kW.
fn fitting(held: Vec<f64>, room: f64) -> Vec<f64> {
    let total: f64 = held.iter().sum();
    if total <= room.max(0.0) {
        return held;
    }
    held.into_iter()
        .map(|kw| kw * room.max(0.0) / total)
        .collect()
}

fn step_at(schedule: &Schedule, at: chrono::DateTime<chrono::Utc>) -> Option<Step> {
    let seconds = (at - schedule.start).num_seconds();
    let index = usize::try_from(seconds / i64::from(schedule.step_seconds.max(1))).ok()?;
    (seconds >= 0)
        .then(|| schedule.steps.get(index).copied())
        .flatten()
}

fn pool(
    input: &Input<'_>,
    schedules: &[Schedule],
    previous: Option<(&Plan, &[Schedule])>,
) -> Vec<PlanStep> {
    let grid = input.grid;
    (0..grid.len())
        .filter_map(|step| {
            let at = grid.at(step);
            let sum = |schedules: &[Schedule], of: fn(&Step) -> Power| -> Power {
                let steps = schedules.iter().filter_map(|s| step_at(s, at));
                steps.map(|s| of(&s)).sum()
            };
            let baseline = sum(schedules, |s| s.power);
            let (up, down) = (sum(schedules, |s| s.up), sum(schedules, |s| s.down));
            let old = previous.and_then(|(p, all)| {
                let held = &p.steps.iter().find(|s| s.interval.contains(at))?.held;
                let part = |now: Power, then: Power| {
                    if then.kw() > 0.0 {
                        (now.kw() / then.kw()).min(1.0)
                    } else {
                        1.0
                    }
                };
                // What had to go is not held any more, whichever product it was for.
                let part = part(up, sum(all, |s| s.up)).min(part(down, sum(all, |s| s.down)));
                Some(held.iter().map(move |h| market::plan::Held {
                    product: h.product,
                    volume: h.volume.scale(part),
                }))
            });
            Some(PlanStep {
                interval: Interval::try_new(at, grid.at(step + 1)).ok()?,
                baseline,
                low: baseline - up,
                high: baseline + down,
                held: old.into_iter().flatten().collect(),
                reason: "no new plan".to_owned(),
            })
        })
        .collect()
}
