//! The last word on reserve: every full call is played against the finished schedules, and what a vehicle could not deliver is
//! not counted on.
//!
//! ```text
//! schedule  |---- plan ----|== full call ==|---- plan, recovery ----|---- recharge ----| leaves
//! ```
//!
//! Recharge is full power, or where a site's limit can bind the vehicle's part of what the site carries beside all reserve that can
//! raise its load: all that were called recharge at once.

use super::loads::Loads;
use super::parallel;
use super::problem::Problem;
use super::reserve::{Call, Lane, RECOVERY, Share, Way};

/// Energy by which the band or the promise may be missed before it counts, kWh.
pub(super) const EXACT: f64 = 1e-6;

/// Takes back the reserve of every window whose full call one of the vehicles `touched` could not deliver within `exact` kWh; says whether
/// there was any.
pub(super) fn withdraw(
    problem: &Problem<'_>,
    loads: &mut Loads,
    lanes: &mut [Lane],
    touched: &[bool],
    (exact, threads): (f64, usize),
) -> bool {
    let recharges = Recharges::new(problem, loads, lanes);
    let shares = parallel::each(threads, lanes.len(), |i| {
        if touched[i] {
            deliverable(problem, i, &lanes[i], &recharges, exact)
        } else {
            None
        }
    });
    let mut any = false;
    for (i, share) in shares.into_iter().enumerate() {
        if let Some(share) = share {
            let vehicle = &problem.input.vehicles[i];
            loads.add(vehicle, &lanes[i], &problem.calls, -1.0);
            lanes[i].share = share;
            loads.add(vehicle, &lanes[i], &problem.calls, 1.0);
            any = true;
        }
    }
    any
}

/// How vehicles at contested sites share what the site carries, per site and step: the part of planned charging that fits, and the part of what
/// a charger could take beside it.
struct Recharges(Vec<Option<Vec<(f64, f64)>>>);

impl Recharges {
    fn new(problem: &Problem<'_>, loads: &Loads, lanes: &[Lane]) -> Self {
        let vehicles = problem.input.vehicles;
        let of_site = |site: usize| {
            let mut sums = vec![(0.0, 0.0); problem.input.grid.len()];
            for i in &problem.members[site] {
                for (j, net) in lanes[*i].net.iter().enumerate() {
                    let sum = &mut sums[vehicles[*i].first + j];
                    sum.0 += net.max(0.0);
                    sum.1 += vehicles[*i].charge_kw * vehicles[*i].share[j] - net.max(0.0);
                }
            }
            sums.iter()
                .enumerate()
                .map(|(step, (planned, spare))| {
                    let room = loads.for_schedules(problem, site, step).max(0.0);
                    if *planned >= room {
                        (room / planned.max(f64::MIN_POSITIVE), 0.0)
                    } else {
                        (1.0, ((room - planned) / spare.max(1e-9)).min(1.0))
                    }
                })
                .collect()
        };
        Self(
            (0..problem.members.len())
                .map(|site| problem.contested[site].then(|| of_site(site)))
                .collect(),
        )
    }

    /// Energy that vehicle `i` can charge from each boundary of its steps on, kWh.
    fn ahead(&self, problem: &Problem<'_>, i: usize, lane: &Lane) -> Vec<f64> {
        let vehicle = &problem.input.vehicles[i];
        let parts = self.0.get(vehicle.site).and_then(Option::as_ref);
        let mut ahead = vec![0.0; lane.net.len() + 1];
        for (j, net) in lane.net.iter().enumerate().rev() {
            let step = vehicle.first + j;
            let full = vehicle.charge_kw * vehicle.share[j];
            let kw = parts.map_or(full, |parts| {
                let (planned, spare) = parts[step];
                net.max(0.0) * planned + (full - net.max(0.0)) * spare
            });
            ahead[j] = ahead[j + 1] + vehicle.gain(kw) * problem.input.grid.hours(step);
        }
        ahead
    }
}

/// What vehicle `i` can deliver of its reserve, each product called alone and all that move power the same way called together; `None` if that is
/// all of it.
fn deliverable(
    problem: &Problem<'_>,
    i: usize,
    lane: &Lane,
    recharges: &Recharges,
    exact: f64,
) -> Option<Share> {
    if lane.share.is_none() {
        return None;
    }
    let ahead = recharges.ahead(problem, i, lane);
    let calls = &problem.calls;
    let mut share = lane.share.clone();
    let mut changed = false;
    for way in [Way::Up, Way::Down] {
        let holds: Vec<usize> = (0..calls.len())
            .filter(|k| share.of(way)[*k].iter().any(|kw| *kw > 0.0))
            .collect();
        let alone = holds.iter().map(std::slice::from_ref);
        // Taking a window back makes every other call of the same way easier: once over each is enough.
        for called in alone.chain((holds.len() > 1).then_some(&holds[..])) {
            for from in 0..lane.net.len() {
                while let Some(k) = longest(&share, calls, (way, called, from)) {
                    if delivers(problem, i, lane, &share, &ahead, (way, called, from), exact) {
                        break;
                    }
                    let to = (from + calls[k].window).min(lane.net.len());
                    share.of_mut(way)[k][from..to].fill(0.0);
                    changed = true;
                }
            }
        }
    }
    changed.then_some(share)
}

/// The product with the longest window among those `called` that hold anything in their window from `from` on.
fn longest(
    share: &Share,
    calls: &[Call],
    (way, called, from): (Way, &[usize], usize),
) -> Option<usize> {
    let holds = |k: &usize| {
        let kw = &share.of(way)[*k];
        let to = (from + calls[*k].window).min(kw.len());
        kw[from..to].iter().any(|kw| *kw > 0.0)
    };
    let held = called.iter().copied().filter(holds);
    held.max_by_key(|k| calls[*k].window)
}

/// Plays one full call: within the band while the old schedule runs, and gone with what was promised.
fn delivers(
    problem: &Problem<'_>,
    i: usize,
    lane: &Lane,
    share: &Share,
    ahead: &[f64],
    (way, called, from): (Way, &[usize], usize),
    exact: f64,
) -> bool {
    let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
    let lowest = vehicle.floor.min(vehicle.arrival);
    let top = vehicle.capacity.max(vehicle.arrival);
    let share = share.of(way);
    let window = called
        .iter()
        .map(|k| problem.calls[*k].window)
        .max()
        .unwrap_or(0);
    let steps = lane.net.len();
    let mut until = (from + window + RECOVERY).min(steps);
    // A call that began within a step: the recovery may last until the vehicle has left.
    if until + 1 == steps && vehicle.leaves_within_a_step() {
        until = steps;
    }
    let mut level = lane.energy[from];
    for (j, planned) in lane.net.iter().enumerate().take(until).skip(from) {
        let kw: f64 = called
            .iter()
            .filter(|k| j < from + problem.calls[**k].window)
            .map(|k| share[*k][j])
            .sum();
        let net = match way {
            Way::Up => planned - kw,
            Way::Down => planned + kw,
        };
        let wanted = level + problem.input.grid.hours(vehicle.first + j) * vehicle.gain(net);
        if wanted < lowest - exact || wanted > top + exact {
            return false;
        }
        level = wanted.min(top);
    }
    let leaving = lane.energy.last().copied().unwrap_or(vehicle.arrival);
    (level + ahead[until]).min(top) >= envelope.goal.min(leaving) - exact
}
