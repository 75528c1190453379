//! Shares before the schedules are made: in proportion to what each vehicle could hold.

use super::super::grid::STEP_HOURS;
use super::super::loads::Loads;
use super::super::problem::Problem;
use super::super::vehicle::{Envelope, Vehicle};
use super::{Call, Held, Lane, Share, Way, own_step};

/// What a vehicle could still hold in one of its steps.
struct Room {
    power: f64,
    energy: f64,
}

/// Gives the vehicles `open` what `held` leaves missing. `loads` is what sites carry already, with charging at once of those that have no
/// schedule yet where a limit can bind.
pub(in crate::rolling) fn allocate(
    problem: &Problem<'_>,
    open: &[usize],
    held: &Held,
    loads: &Loads,
    lanes: &mut [Lane],
) {
    let (vehicles, calls) = (problem.input.vehicles, &problem.calls);
    let budgets: Vec<f64> = open
        .iter()
        .map(|i| charging_budget(calls, &vehicles[*i], &problem.envelopes[*i]))
        .collect();
    let sites = problem.input.sites.len();
    for step in 0..problem.input.grid.len() {
        if calls.iter().all(|call| call.sold[step] <= 0.0) {
            continue;
        }
        let mut left = SiteRoom {
            problem,
            loads,
            step,
            taken: vec![[0.0; 2]; sites],
        };
        for (k, call) in calls.iter().enumerate() {
            for way in [Way::Up, Way::Down] {
                if !call.has(way) || call.sold[step] <= 0.0 {
                    continue;
                }
                let mut missing = call.wanted(step) - held.kw(k, way, step);
                // Batteries that give energy back hold Up at no cost; the others must be charging meanwhile.
                let tiers: &[Option<bool>] = match way {
                    Way::Up => &[Some(true), Some(false)],
                    Way::Down => &[None],
                };
                for tier in tiers {
                    if missing <= 0.0 {
                        break;
                    }
                    let caps: Vec<(usize, usize, f64)> = open
                        .iter()
                        .zip(&budgets)
                        .filter(|(i, _)| tier.is_none_or(|t| vehicles[**i].two_way() == t))
                        .filter_map(|(i, budget)| {
                            let j = own_step(&vehicles[*i], step)?;
                            let share = &lanes[*i].share;
                            let room = room(problem, *i, share, (k, way, j), *budget);
                            let cap = (room.power / call.factor).min(room.energy);
                            (cap > 1e-6).then_some((*i, j, cap))
                        })
                        .collect();
                    missing -= spread(
                        missing,
                        &caps,
                        |i, kw| left.take(i, way, kw, call.factor),
                        |i, j, kw| lanes[i].share.of_mut(way)[k][j] += kw,
                    );
                }
            }
        }
    }
}

/// Gives `missing` kW to the vehicles in proportion to their caps, within what `take` says their sites carry; returns how much was placed.
pub(super) fn spread(
    missing: f64,
    caps: &[(usize, usize, f64)],
    mut take: impl FnMut(usize, f64) -> f64,
    mut give: impl FnMut(usize, usize, f64),
) -> f64 {
    let total: f64 = caps.iter().map(|c| c.2).sum();
    if missing <= 0.0 || total <= 0.0 {
        return 0.0;
    }
    let share = (missing / total).min(1.0);
    let mut placed = 0.0;
    for (i, j, cap) in caps {
        let kw = take(*i, cap * share);
        give(*i, *j, kw);
        placed += kw;
    }
    // What a full site could not take goes to the others, once.
    for (i, j, cap) in caps {
        let more = (cap * (1.0 - share)).min(missing - placed);
        if more > 1e-6 {
            let kw = take(*i, more);
            give(*i, *j, kw);
            placed += kw;
        }
    }
    placed
}

/// What a vehicle can hold of one call in own step `j`, beside what it holds already.
fn room(
    problem: &Problem<'_>,
    i: usize,
    share: &Share,
    (k, way, j): (usize, Way, usize),
    budget: f64,
) -> Room {
    let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
    let calls = &problem.calls;
    let call = &calls[k];
    let (up, down) = (
        share.kept(calls, Way::Up, j),
        share.kept(calls, Way::Down, j),
    );
    let both = vehicle.charge_kw + vehicle.discharge_kw - up - down;
    let power = match (way, vehicle.two_way()) {
        (Way::Up, true) => (vehicle.discharge_kw - up).min(both),
        (Way::Up, false) => (budget - up).min(both),
        (Way::Down, _) => (vehicle.charge_kw - down).min(both),
    };
    let to = (j + call.window + super::tail(vehicle, vehicle.len())).min(vehicle.len());
    let taken = |way: Way, per: f64| -> f64 {
        share
            .of(way)
            .iter()
            .zip(calls)
            .map(|(kw, c)| kw[j] * c.hours() * per)
            .sum()
    };
    let kept =
        taken(Way::Up, vehicle.factor(Way::Up)) + taken(Way::Down, vehicle.factor(Way::Down));
    let span = (j + 1..=to)
        .map(|b| {
            let floor = envelope.floor[b];
            let high = vehicle.capacity
                - floor.max(if vehicle.two_way() {
                    floor
                } else {
                    vehicle.arrival
                });
            match way {
                Way::Up => (envelope.full[b] - floor).min(vehicle.capacity - floor),
                Way::Down => high,
            }
        })
        .fold(f64::INFINITY, f64::min);
    Room {
        power,
        energy: (span - kept).max(0.0) / (call.hours() * vehicle.factor(way)),
    }
}

/// Power that a one-way charger can keep up through all its steps in which Up is sold, kW.
fn charging_budget(calls: &[Call], vehicle: &Vehicle, envelope: &Envelope) -> f64 {
    if vehicle.two_way() {
        return vehicle.charge_kw;
    }
    let called: Vec<usize> = (0..vehicle.len())
        .filter(|j| vehicle.may_hold(*j))
        .filter(|j| {
            calls
                .iter()
                .any(|c| c.up && c.sold[vehicle.first + j] > 0.0)
        })
        .collect();
    let Some(first) = called.first() else {
        return 0.0;
    };
    let from = envelope.floor[*first].max(vehicle.arrival);
    #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
    let hours = called.len() as f64 * STEP_HOURS;
    ((vehicle.capacity - from).max(0.0) / (hours * vehicle.charge_efficiency))
        .min(vehicle.charge_kw)
}

/// Power that the connection points still carry in one step when all reserve is called.
struct SiteRoom<'a> {
    problem: &'a Problem<'a>,
    loads: &'a Loads,
    step: usize,
    /// Given away in this step, Up and Down.
    taken: Vec<[f64; 2]>,
}

impl SiteRoom<'_> {
    /// Takes up to `kw` times `factor` of the site's room; returns how many kW that leaves. A one-way charger never exports: before
    /// schedules are made, its Up takes none of the room, and a schedule that only charges makes none.
    fn take(&mut self, i: usize, way: Way, kw: f64, factor: f64) -> f64 {
        let vehicle = &self.problem.input.vehicles[i];
        let Some(taken) = self.taken.get_mut(vehicle.site) else {
            return kw;
        };
        let (room, taken) = match way {
            Way::Up if !vehicle.two_way() => return kw,
            Way::Up => {
                let charging = self.loads.steered(vehicle.site, self.step).max(0.0);
                let fall = self.loads.fall(self.problem, vehicle.site, self.step);
                (fall - charging, &mut taken[0])
            }
            Way::Down if !self.problem.contested[vehicle.site] => return kw,
            Way::Down => (
                self.loads.rise(self.problem, vehicle.site, self.step),
                &mut taken[1],
            ),
        };
        let kw = kw.min((room - *taken).max(0.0) / factor);
        *taken += kw * factor;
        kw
    }
}
