//! What one plan leaves to the next: schedules and shares, moved to the new grid.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fleet::{EvseId, SessionId, SiteId};
use units::Interval;

use super::grid::{Grid, STEP};
use super::parallel;
use super::problem::Problem;
use super::reserve::{Call, Lane, Share, Way};
use super::vehicle::Vehicle;

/// Energy by which a meter may be off the plan before a vehicle is planned anew, kWh: what registers of chargers resolve.
pub(super) const METER_KWH: f64 = 0.01;

/// The plan before.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) grid: Grid,
    pub(super) vehicles: Vec<Vehicle>,
    pub(super) lanes: Vec<Lane>,
    pub(super) calls: Vec<Call>,
    /// Price of energy per step, and of deviating from the position at the pool's power, EUR per MWh.
    pub(super) prices: Vec<(f64, f64)>,
    /// True for vehicles that their site left short.
    pub(super) short: Vec<bool>,
    /// Names of the sites.
    pub(super) sites: Vec<SiteId>,
    /// Price of net power at each site whose limits several vehicles share, EUR per MWh per step.
    pub(super) site_prices: Vec<Option<Vec<f64>>>,
}

/// One vehicle's part of the plan before, on the new grid.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    /// Its schedule from the metered state, with the reserve it still may hold.
    pub(super) lane: Lane,
    /// Net power it was planned with per own step; `None` beyond the grid of the plan before.
    pub(super) before: Vec<Option<f64>>,
    /// True if it goes on as planned: same stay, same needs, where the plan had it, and still within all rows of its own.
    pub(super) keeps: bool,
    /// True if its site left it short before.
    pub(super) short: bool,
}

/// What tells an expected vehicle from another: nobody gave it a name.
type Expected = (usize, DateTime<Utc>, Option<DateTime<Utc>>, [u64; 4]);

fn expected(vehicle: &Vehicle, grid: &Grid) -> Expected {
    let bits = [
        vehicle.arrival,
        vehicle.goal,
        vehicle.capacity,
        vehicle.charge_kw,
    ];
    (
        vehicle.site,
        grid.at(vehicle.first),
        vehicle.leaves,
        bits.map(f64::to_bits),
    )
}

impl Past {
    /// Each vehicle's part of the plan before; `None` for those it did not know.
    pub(super) fn carry(&self, problem: &Problem<'_>, threads: usize) -> Vec<Option<Carried>> {
        let old = self.matches(problem);
        parallel::each(threads, old.len(), |i| {
            old[i].map(|old| self.carried(problem, i, old))
        })
    }

    /// Prices of sites on the new grid; none if the sites are others.
    pub(super) fn site_prices(&self, problem: &Problem<'_>) -> Vec<Option<Vec<f64>>> {
        let (grid, sites) = (problem.input.grid, problem.input.sites);
        if !sites.iter().map(|s| &s.id).eq(&self.sites) {
            return vec![None; sites.len()];
        }
        let passed = (grid.start() - self.grid.start()).num_seconds() / STEP.num_seconds();
        let passed = usize::try_from(passed).unwrap_or(0);
        let moved = |old: &Vec<f64>| {
            let at = |step| old.get(step + passed).copied().unwrap_or(0.0);
            (0..grid.len()).map(at).collect()
        };
        let each = self.site_prices.iter();
        each.map(|old| old.as_ref().map(moved)).collect()
    }

    /// Index of each vehicle in the plan before.
    fn matches(&self, problem: &Problem<'_>) -> Vec<Option<usize>> {
        let mut named: BTreeMap<(&EvseId, Option<&SessionId>), usize> = BTreeMap::new();
        let mut unnamed: BTreeMap<Expected, Vec<usize>> = BTreeMap::new();
        for (i, vehicle) in self.vehicles.iter().enumerate().rev() {
            match &vehicle.evse {
                Some(evse) => {
                    named.insert((evse, vehicle.session.as_ref()), i);
                }
                None => unnamed
                    .entry(expected(vehicle, &self.grid))
                    .or_default()
                    .push(i),
            }
        }
        let vehicles = problem.input.vehicles.iter();
        vehicles
            .map(|vehicle| match &vehicle.evse {
                Some(evse) => named.get(&(evse, vehicle.session.as_ref())).copied(),
                None => unnamed
                    .get_mut(&expected(vehicle, problem.input.grid))?
                    .pop(),
            })
            .collect()
    }

    fn carried(&self, problem: &Problem<'_>, i: usize, old: usize) -> Carried {
        let grid = problem.input.grid;
        let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
        let (was, past) = (&self.vehicles[old], &self.lanes[old]);
        let offset = self.offset(vehicle, was, grid);
        let own = |j: usize| then(offset, j, was);
        let before: Vec<Option<f64>> = (0..vehicle.len())
            .map(|j| {
                let k = own(j)?;
                // The mean over what is left of a step is another than over what was left of it.
                let power = past.net[k] / was.share[k].max(f64::MIN_POSITIVE);
                Some(power * vehicle.share[j])
            })
            .collect();
        let net: Vec<f64> = before.iter().map(|kw| kw.unwrap_or(0.0)).collect();
        let mut last = past.value.last().copied().unwrap_or(0.0);
        let value = (0..vehicle.len())
            .map(|j| {
                last = own(j)
                    .and_then(|k| past.value.get(k))
                    .copied()
                    .unwrap_or(last);
                last
            })
            .collect();
        let mut energy = Vec::with_capacity(net.len() + 1);
        energy.push(vehicle.arrival);
        for (j, kw) in net.iter().enumerate() {
            energy.push(energy[j] + vehicle.gain(*kw) * grid.hours(vehicle.first + j));
        }
        let lane = Lane {
            net,
            energy,
            value,
            share: self.share(problem, vehicle, old, offset),
            enveloped: true,
            frozen: true,
        };
        let off = (self.predicted(was, past, grid.now()) - vehicle.arrival).abs();
        let keeps = past.enveloped
            && same(vehicle, was)
            && off <= METER_KWH
            && within(problem, vehicle, envelope, &lane);
        Carried {
            lane,
            before,
            keeps,
            short: self.short[old],
        }
    }

    /// By how many own steps the vehicle has moved on since the plan before.
    fn offset(&self, vehicle: &Vehicle, was: &Vehicle, grid: &Grid) -> i64 {
        let passed = (grid.at(vehicle.first) - self.grid.at(was.first)).num_seconds();
        passed.div_euclid(STEP.num_seconds())
    }

    /// Reserve that was held, by the calls there are now, where it is still sold and may still be held.
    fn share(&self, problem: &Problem<'_>, vehicle: &Vehicle, old: usize, offset: i64) -> Share {
        let (was, past) = (&self.vehicles[old], &self.lanes[old].share);
        let mut share = Share::none(problem.calls.len(), vehicle.len());
        if past.is_none() {
            return share;
        }
        for (k, call) in problem.calls.iter().enumerate() {
            let Some(before) = self.calls.iter().position(|c| c.product == call.product) else {
                continue;
            };
            for way in [Way::Up, Way::Down] {
                let (to, from) = (&mut share.of_mut(way)[k], &past.of(way)[before]);
                for (j, kw) in to.iter_mut().enumerate() {
                    let step = vehicle.first + j;
                    if call.sold[step] > 0.0 && vehicle.may_hold(j) {
                        let then = then(offset, j, was).and_then(|k| from.get(k));
                        *kw = then.copied().unwrap_or(0.0);
                    }
                }
            }
        }
        share
    }

    /// Energy at `now` if the plan before was followed, kWh.
    fn predicted(&self, was: &Vehicle, past: &Lane, now: DateTime<Utc>) -> f64 {
        let mut level = was.arrival;
        if was.first > 0 {
            return level;
        }
        for (k, kw) in past.net.iter().enumerate() {
            let begin = self.grid.at(k).max(self.grid.now());
            let end = self.grid.at(k + 1).min(was.leaves.unwrap_or(now));
            let Ok(passed) = Interval::try_new(begin, end.min(now)) else {
                break;
            };
            let power = kw / was.share[k].max(f64::MIN_POSITIVE);
            level += was.gain(power) * passed.hours();
        }
        level
    }
}

/// The own step of `was` in the plan before that is own step `j` now.
fn then(offset: i64, j: usize, was: &Vehicle) -> Option<usize> {
    let k = usize::try_from(i64::try_from(j).ok()? + offset).ok()?;
    (k < was.len()).then_some(k)
}

/// True if both are the same stay with the same needs and powers.
fn same(vehicle: &Vehicle, was: &Vehicle) -> bool {
    let numbers = |v: &Vehicle| {
        [
            v.floor,
            v.goal,
            v.capacity,
            v.charge_kw,
            v.discharge_kw,
            v.charge_efficiency,
            v.discharge_efficiency,
        ]
        .map(f64::to_bits)
    };
    vehicle.site == was.site && vehicle.leaves == was.leaves && numbers(vehicle) == numbers(was)
}

/// True if a carried schedule keeps the vehicle's own rows from the metered state, within what a meter resolves.
fn within(
    problem: &Problem<'_>,
    vehicle: &Vehicle,
    envelope: &super::vehicle::Envelope,
    lane: &Lane,
) -> bool {
    let calls = &problem.calls;
    let highest = vehicle.capacity.max(vehicle.arrival);
    let reachable = envelope
        .goal
        .min(envelope.full.last().copied().unwrap_or(vehicle.arrival));
    let inside = |drain: f64, fill: f64, j: usize| {
        let level = lane.energy[j + 1];
        level >= envelope.floor[j + 1] + drain - METER_KWH && level <= highest - fill + METER_KWH
    };
    if lane
        .energy
        .last()
        .is_some_and(|end| *end < reachable - METER_KWH)
    {
        return false;
    }
    if lane.share.is_none() {
        return (0..vehicle.len()).all(|j| inside(0.0, 0.0, j));
    }
    let drain = lane.share.energy(calls, Way::Up, vehicle);
    let fill = lane.share.energy(calls, Way::Down, vehicle);
    (0..vehicle.len()).all(|j| inside(drain[j + 1], fill[j + 1], j))
}
