//! When no new plan was made: the previous one, moved to now and clipped to what is possible.

use std::collections::BTreeMap;

use fleet::EvseId;
use fleet::schedule::{Schedule, Step};
use market::plan::{Plan, PlanStatus, PlanStep};
use market::{Area, PlanId};
use units::{Interval, Power};

use super::vehicle::EPSILON;
use super::{Grid, Plain, STEP, Vehicle};

/// The previous plan from now on. A vehicle keeps its scheduled power within its envelope (it still leaves with what it needs); one that is new, or
/// whose stay is another, charges at once. Reserve stays as it was scheduled, as far as power allows. Never empty: without a previous plan
/// everybody charges at once.
#[must_use]
pub fn fallback(
    area: Area,
    grid: &Grid,
    vehicles: &[Vehicle],
    plain: &[Plain],
    previous: Option<(&Plan, &[Schedule])>,
) -> (Plan, Vec<Schedule>) {
    let old: BTreeMap<&EvseId, &Schedule> = previous
        .map(|(_, schedules)| schedules.iter().map(|s| (&s.evse, s)).collect())
        .unwrap_or_default();
    let step_seconds = u32::try_from(STEP.num_seconds()).unwrap_or(900);
    let mut schedules = Vec::new();
    for vehicle in vehicles {
        let Some(evse) = &vehicle.evse else { continue };
        let schedule = old.get(evse).filter(|s| s.session == vehicle.session);
        schedules.push(Schedule {
            evse: evse.clone(),
            session: vehicle.session.clone(),
            start: grid.at(vehicle.first),
            step_seconds,
            steps: clipped(grid, vehicle, schedule.copied()),
            reason: match schedule {
                Some(_) => "no new plan: the previous one, clipped to what is possible".to_owned(),
                None => "no plan yet: charges at once".to_owned(),
            },
        });
    }
    for p in plain {
        schedules.push(Schedule {
            evse: p.evse.clone(),
            session: Some(p.session.clone()),
            start: grid.start(),
            step_seconds,
            steps: vec![
                Step {
                    power: Power::from_kw(p.allowed_kw),
                    ..Step::default()
                };
                grid.len()
            ],
            reason: "needs unknown: charges unsteered".to_owned(),
        });
    }
    schedules.sort_by(|a, b| a.evse.cmp(&b.evse));
    let plan = Plan {
        id: PlanId::derive(&format!("{}/fallback", area.code()), grid.now()),
        area,
        solved_at: grid.now(),
        data_until: previous.map_or(grid.now(), |(plan, _)| plan.data_until),
        status: PlanStatus::Fallback,
        relative_gap: None,
        expected: None,
        steps: pool(grid, &schedules, previous),
    };
    (plan, schedules)
}

fn clipped(grid: &Grid, vehicle: &Vehicle, old: Option<&Schedule>) -> Vec<Step> {
    let envelope = vehicle.envelope(grid);
    let mut level = vehicle.arrival;
    (0..vehicle.len())
        .map(|j| {
            let at = grid.at(vehicle.first + j);
            let was = old.and_then(|s| step_at(s, at)).unwrap_or(Step {
                power: Power::from_kw(vehicle.charge_kw),
                ..Step::default()
            });
            let f = vehicle.share[j].max(1e-6);
            let hours = grid.hours(vehicle.first + j) * f;
            let gain = |kw: f64| {
                hours
                    * if kw >= 0.0 {
                        kw * vehicle.charge_efficiency
                    } else {
                        kw / vehicle.discharge_efficiency
                    }
            };
            let needed = envelope.floor[j + 1] - level;
            let room = vehicle.capacity.max(level) - level;
            let most = vehicle
                .charge_kw
                .min(room / (hours * vehicle.charge_efficiency));
            let least = if needed > EPSILON {
                (needed / (hours * vehicle.charge_efficiency)).min(vehicle.charge_kw)
            } else {
                needed.max(gain(-vehicle.discharge_kw)) * vehicle.discharge_efficiency / hours
            };
            let kw = was.power.kw().clamp(least.min(most), most.max(least));
            level += gain(kw);
            let kept = |kw: f64| Power::from_kw(kw.max(0.0));
            Step {
                power: Power::from_kw(kw),
                up: was.up.min(kept(kw + vehicle.discharge_kw)),
                down: was.down.min(kept(vehicle.charge_kw - kw)),
            }
        })
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
    grid: &Grid,
    schedules: &[Schedule],
    previous: Option<(&Plan, &[Schedule])>,
) -> Vec<PlanStep> {
    (0..grid.len())
        .filter_map(|step| {
            let at = grid.at(step);
            let now: Vec<Step> = schedules.iter().filter_map(|s| step_at(s, at)).collect();
            let baseline: Power = now.iter().map(|s| s.power).sum();
            let old = previous.and_then(|(p, _)| p.steps.iter().find(|s| s.interval.contains(at)));
            Some(PlanStep {
                interval: Interval::try_new(at, grid.at(step + 1)).ok()?,
                baseline,
                low: baseline - now.iter().map(|s| s.up).sum(),
                high: baseline + now.iter().map(|s| s.down).sum(),
                held: old.map(|s| s.held.clone()).unwrap_or_default(),
                reason: "no new plan".to_owned(),
            })
        })
        .collect()
}
