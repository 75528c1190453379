//! Which vehicle holds how much of the reserve that was sold.
//!
//! Before the schedules are made, each vehicle gets a share in proportion to what it could hold; its schedule then keeps that share
//! by power limits and energy levels. After the schedules are made, what is missing is taken from whatever they leave over.
//! The energy rows are those of the activation windows (`optimisation.md` 2.2): a full call of the product's endurance, at any
//! time, while the old schedule still runs for [`RECOVERY`] steps after it.

use market::{Position, Product, Rules};
use rust_decimal::prelude::ToPrimitive;

use super::grid::{Grid, STEP_HOURS};
use super::sweep::Site;
use super::vehicle::{Envelope, Vehicle};
use crate::rolling::Input;

/// Steps until a changed schedule takes effect after an activation.
pub(super) const RECOVERY: usize = 2;

/// Held beyond what was sold: one vehicle that leaves early must not make the pool short.
const MARGIN: f64 = 0.05;

/// What one product asks of the pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) product: Product,
    /// kW sold per step, without margin.
    pub(super) sold: Vec<f64>,
    pub(super) up: bool,
    pub(super) down: bool,
    /// Power kept free per power sold.
    factor: f64,
    /// Steps of full activation.
    pub(super) window: usize,
}

impl Call {
    fn wanted(&self, step: usize) -> f64 {
        self.sold[step] * (1.0 + MARGIN)
    }

    fn hours(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
        let steps = self.window as f64;
        steps * STEP_HOURS
    }

    fn has(&self, way: Way) -> bool {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

/// Which way power is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// The reserve sold over the grid, by product; products without any are left out.
pub(super) fn calls(input: &Input<'_>, grid: &Grid) -> Vec<Call> {
    [Product::Fcr, Product::AfrrUp, Product::AfrrDown]
        .into_iter()
        .filter_map(|product| call(product, input.position, input.rules, input.area, grid))
        .collect()
}

fn call(
    product: Product,
    position: &Position,
    rules: &Rules,
    area: market::Area,
    grid: &Grid,
) -> Option<Call> {
    let sold: Vec<f64> = (0..grid.len())
        .map(|step| position.reserve(product, grid.at(step)).kw())
        .collect();
    if sold.iter().all(|kw| *kw <= 0.0) {
        return None;
    }
    // A sold product without rules would be a mistake of the rule table: hold it for an hour at full power.
    let endurance = rules
        .at(area, product, grid.start())
        .ok()
        .and_then(|rule| rule.endurance.as_ref());
    let minutes = endurance.map_or(60, |e| e.minutes);
    let factor = endurance
        .and_then(|e| e.power_factor.to_f64())
        .unwrap_or(1.0);
    Some(Call {
        product,
        sold,
        up: product != Product::AfrrDown,
        down: product != Product::AfrrUp,
        factor: factor.max(1.0),
        window: usize::try_from(minutes.div_ceil(15)).unwrap_or(4).max(1),
    })
}

/// Reserve that one vehicle holds, kW per call and own step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Share {
    pub(super) up: Vec<Vec<f64>>,
    pub(super) down: Vec<Vec<f64>>,
}

impl Share {
    pub(super) fn none(calls: usize, steps: usize) -> Self {
        Self {
            up: vec![vec![0.0; steps]; calls],
            down: vec![vec![0.0; steps]; calls],
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.up
            .iter()
            .chain(&self.down)
            .flatten()
            .all(|kw| *kw <= 0.0)
    }

    pub(super) fn scale(&mut self, factor: f64) {
        for kw in self.up.iter_mut().chain(&mut self.down).flatten() {
            *kw *= factor;
        }
    }

    pub(super) fn of(&self, way: Way) -> &[Vec<f64>] {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(super) fn of_mut(&mut self, way: Way) -> &mut [Vec<f64>] {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Power by which it can be called in own step `j`, all products together.
    pub(super) fn callable(&self, way: Way, j: usize) -> f64 {
        self.of(way).iter().map(|kw| kw[j]).sum()
    }

    /// Power kept free in own step `j`.
    pub(super) fn kept(&self, calls: &[Call], way: Way, j: usize) -> f64 {
        self.of(way)
            .iter()
            .zip(calls)
            .map(|(kw, call)| kw[j] * call.factor)
            .sum()
    }

    /// Energy kept at each boundary for the worst activation window that can still weigh on it, kWh inside the battery.
    pub(super) fn energy(&self, calls: &[Call], way: Way, per_kwh: f64) -> Vec<f64> {
        let steps = self.of(way).first().map_or(0, Vec::len);
        let mut sums = vec![0.0; steps + 1];
        for (kw, call) in self.of(way).iter().zip(calls) {
            let mut running = 0.0;
            for (end, sum) in sums.iter_mut().enumerate().skip(1) {
                running += kw[end - 1];
                if end > call.window {
                    running -= kw[end - 1 - call.window];
                }
                *sum += running * STEP_HOURS * per_kwh;
            }
        }
        (0..=steps)
            .map(|b| {
                let recent = &sums[b.saturating_sub(RECOVERY)..=b];
                recent.iter().copied().fold(0.0, f64::max)
            })
            .collect()
    }
}

/// What a vehicle could still hold in one of its steps.
struct Room {
    power: f64,
    energy: f64,
}

/// Shares of all vehicles before their schedules are made. `plain_load` is what each site carries if everybody charges at once, per site
/// and step, where its limit can bind; empty where it cannot.
pub(super) fn allocate(
    calls: &[Call],
    vehicles: &[Vehicle],
    envelopes: &[Envelope],
    sites: &[Site],
    plain_load: &[Vec<f64>],
    grid: &Grid,
) -> Vec<Share> {
    let mut shares: Vec<Share> = vehicles
        .iter()
        .map(|v| Share::none(calls.len(), v.len()))
        .collect();
    if calls.is_empty() {
        return shares;
    }
    let budgets: Vec<f64> = vehicles
        .iter()
        .zip(envelopes)
        .map(|(v, e)| charging_budget(calls, v, e))
        .collect();
    for step in 0..grid.len() {
        let mut left = SiteRoom::new(sites, plain_load, step);
        for (k, call) in calls.iter().enumerate() {
            for way in [Way::Up, Way::Down] {
                if !call.has(way) || call.sold[step] <= 0.0 {
                    continue;
                }
                let mut missing = call.wanted(step);
                // Batteries that give energy back hold Up at no cost; the others must be charging meanwhile.
                let tiers: &[Option<bool>] = match way {
                    Way::Up => &[Some(true), Some(false)],
                    Way::Down => &[None],
                };
                for tier in tiers {
                    let caps: Vec<(usize, usize, f64)> = vehicles
                        .iter()
                        .enumerate()
                        .filter(|(_, v)| tier.is_none_or(|two_way| v.two_way() == two_way))
                        .filter_map(|(i, v)| {
                            let j = own_step(v, step)?;
                            let room =
                                room(calls, v, &envelopes[i], &shares[i], (k, way, j), budgets[i]);
                            let cap = (room.power / call.factor).min(room.energy);
                            (cap > 1e-6).then_some((i, j, cap))
                        })
                        .collect();
                    missing -= spread(
                        missing,
                        &caps,
                        &mut left,
                        vehicles,
                        (call.factor, way),
                        |i, j, kw| {
                            shares[i].of_mut(way)[k][j] += kw;
                        },
                    );
                }
            }
        }
    }
    shares
}

/// The vehicle's own number of `step`, if it may hold reserve then.
fn own_step(vehicle: &Vehicle, step: usize) -> Option<usize> {
    step.checked_sub(vehicle.first)
        .filter(|j| vehicle.may_hold(*j))
}

/// Gives `missing` kW to the vehicles in proportion to their caps, within what their sites carry; returns how much was placed.
fn spread(
    missing: f64,
    caps: &[(usize, usize, f64)],
    left: &mut SiteRoom,
    vehicles: &[Vehicle],
    (factor, way): (f64, Way),
    mut give: impl FnMut(usize, usize, f64),
) -> f64 {
    let total: f64 = caps.iter().map(|c| c.2).sum();
    if missing <= 0.0 || total <= 0.0 {
        return 0.0;
    }
    let share = (missing / total).min(1.0);
    let mut placed = 0.0;
    for (i, j, cap) in caps {
        let kw = left.take(&vehicles[*i], way, cap * share, factor);
        give(*i, *j, kw);
        placed += kw;
    }
    // What a full site could not take goes to the others, once.
    for (i, j, cap) in caps {
        let more = (cap * (1.0 - share)).min(missing - placed);
        if more > 1e-6 {
            let kw = left.take(&vehicles[*i], way, more, factor);
            give(*i, *j, kw);
            placed += kw;
        }
    }
    placed
}

/// What a vehicle can hold of one call in own step `j`, beside what it holds already.
fn room(
    calls: &[Call],
    vehicle: &Vehicle,
    envelope: &Envelope,
    share: &Share,
    (k, way, j): (usize, Way, usize),
    budget: f64,
) -> Room {
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
    let to = (j + call.window + RECOVERY).min(vehicle.len());
    let taken = |way: Way, per: f64| -> f64 {
        share
            .of(way)
            .iter()
            .zip(calls)
            .map(|(kw, c)| kw[j] * c.hours() * per)
            .sum()
    };
    let kept = taken(Way::Up, vehicle.up_factor()) + taken(Way::Down, vehicle.down_factor());
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
    let per = match way {
        Way::Up => vehicle.up_factor(),
        Way::Down => vehicle.down_factor(),
    };
    Room {
        power,
        energy: (span - kept).max(0.0) / (call.hours() * per),
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
struct SiteRoom {
    rise: Vec<f64>,
    fall: Vec<f64>,
    /// True once schedules are known: a charge called away may have been what another battery's discharge relied on.
    scheduled: bool,
}

impl SiteRoom {
    fn new(sites: &[Site], plain_load: &[Vec<f64>], step: usize) -> Self {
        let load = |s: usize| plain_load.get(s).and_then(|l| l.get(step)).copied();
        Self {
            rise: sites
                .iter()
                .enumerate()
                .map(|(s, site)| load(s).map_or(f64::INFINITY, |kw| (site.import_kw - kw).max(0.0)))
                .collect(),
            fall: sites.iter().map(|site| site.export_kw.max(0.0)).collect(),
            scheduled: false,
        }
    }

    /// Takes up to `kw` times `factor` of the site's room; returns how many kW that leaves. A one-way charger never exports: before
    /// schedules are made, its Up takes none of the room.
    fn take(&mut self, vehicle: &Vehicle, way: Way, kw: f64, factor: f64) -> f64 {
        let room = match (way, vehicle.two_way()) {
            (Way::Up, false) if !self.scheduled => return kw,
            (Way::Up, _) => self.fall.get_mut(vehicle.site),
            (Way::Down, _) => self.rise.get_mut(vehicle.site),
        };
        let Some(room) = room else {
            return kw;
        };
        let taken = kw.min(*room / factor);
        *room -= taken * factor;
        taken
    }
}

/// One vehicle's schedule with the reserve it holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lane {
    /// Net power per own step, mean over the step, kW.
    pub(super) net: Vec<f64>,
    /// Energy at the boundaries.
    pub(super) energy: Vec<f64>,
    pub(super) share: Share,
}

/// Takes what is missing from what the schedules leave over, step by step.
pub(super) fn top_up(
    calls: &[Call],
    vehicles: &[Vehicle],
    envelopes: &[Envelope],
    sites: &[Site],
    lanes: &mut [Lane],
    grid: &Grid,
) {
    for step in 0..grid.len() {
        for (k, call) in calls.iter().enumerate() {
            for way in [Way::Up, Way::Down] {
                let held = held(vehicles, lanes, k, way, step);
                let missing = call.wanted(step) - held;
                if !call.has(way) || missing <= 1e-3 {
                    continue;
                }
                let mut left = leftover(calls, vehicles, sites, lanes, step);
                let caps: Vec<(usize, usize, f64)> = vehicles
                    .iter()
                    .enumerate()
                    .filter_map(|(i, v)| {
                        let j = own_step(v, step)?;
                        let cap = spare(calls, v, &envelopes[i], &lanes[i], (k, way, j));
                        (cap > 1e-3).then_some((i, j, cap))
                    })
                    .collect();
                spread(
                    missing,
                    &caps,
                    &mut left,
                    vehicles,
                    (call.factor, way),
                    |i, j, kw| {
                        lanes[i].share.of_mut(way)[k][j] += kw;
                    },
                );
            }
        }
    }
}

/// Reserve of call `k` held by all in `step`, kW.
pub(super) fn held(vehicles: &[Vehicle], lanes: &[Lane], k: usize, way: Way, step: usize) -> f64 {
    vehicles
        .iter()
        .zip(lanes)
        .filter_map(|(v, lane)| {
            let j = step.checked_sub(v.first)?;
            lane.share.of(way)[k].get(j)
        })
        .sum()
}

/// What the sites carry beside the schedules and the reserve held, in `step`.
fn leftover(
    calls: &[Call],
    vehicles: &[Vehicle],
    sites: &[Site],
    lanes: &[Lane],
    step: usize,
) -> SiteRoom {
    let mut left = SiteRoom {
        rise: sites.iter().map(|s| s.import_kw).collect(),
        fall: sites.iter().map(|s| s.export_kw).collect(),
        scheduled: true,
    };
    for (vehicle, lane) in vehicles.iter().zip(lanes) {
        let Some(j) = step
            .checked_sub(vehicle.first)
            .filter(|j| *j < vehicle.len())
        else {
            continue;
        };
        if let Some(rise) = left.rise.get_mut(vehicle.site) {
            *rise -= lane.net[j] + lane.share.kept(calls, Way::Down, j);
        }
        if let Some(fall) = left.fall.get_mut(vehicle.site) {
            *fall += lane.net[j] - lane.share.kept(calls, Way::Up, j);
        }
    }
    for room in left.rise.iter_mut().chain(&mut left.fall) {
        *room = room.max(0.0);
    }
    left
}

/// What a vehicle with a schedule can hold in addition: `kW <= slack/(hours of the call)` at every boundary that a window through this step
/// can weigh on keeps the sum over any window within the slack.
fn spare(
    calls: &[Call],
    vehicle: &Vehicle,
    envelope: &Envelope,
    lane: &Lane,
    (k, way, j): (usize, Way, usize),
) -> f64 {
    let call = &calls[k];
    let kept = lane.share.kept(calls, way, j);
    let power = match way {
        Way::Up => vehicle.discharge_kw + lane.net[j] - kept,
        Way::Down => vehicle.charge_kw - lane.net[j] - kept,
    };
    let per = match way {
        Way::Up => vehicle.up_factor(),
        Way::Down => vehicle.down_factor(),
    };
    let kept_energy = lane.share.energy(calls, way, per);
    let to = (j + call.window + RECOVERY).min(vehicle.len());
    let slack = (j + 1..=to)
        .map(|b| match way {
            Way::Up => lane.energy[b] - envelope.floor[b] - kept_energy[b],
            Way::Down => vehicle.capacity - lane.energy[b] - kept_energy[b],
        })
        .fold(f64::INFINITY, f64::min);
    // Windows through one step: as many as the call is long, each may be filled to the same level.
    (power / call.factor)
        .min(slack / (call.hours() * per))
        .max(0.0)
}
