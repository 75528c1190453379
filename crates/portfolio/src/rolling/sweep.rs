//! Schedules of all vehicles: one exact dynamic programme after the other, each against what the others do.

use fleet::SiteId;

use super::grid::{Grid, STEP_HOURS};
use super::reserve::{Call, Lane, Share, Way};
use super::vehicle::{EPSILON, Envelope, Plain, Vehicle};
use super::{Costs, Market};
use crate::storage::{self, Battery, Piece, Step};

/// A grid connection point.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name.
    pub id: SiteId,
    /// Most power drawn, kW.
    pub import_kw: f64,
    /// Most power fed back, kW, at least zero.
    pub export_kw: f64,
}

/// Rounds over the fleet. The second sees what all others chose in the first; further ones gain little.
const ROUNDS: usize = 2;

/// Width of the ramp between the price of being short and of being long, as a share of what the chargers can draw together: without it, vehicles
/// one after the other would get stuck at the kink.
const RAMP_SHARE: f64 = 0.05;

/// Narrowest ramp, kW.
const RAMP_LEAST_KW: f64 = 5.0;

/// Slack of the site's band: what a vehicle did before always fits again.
const ROUNDING_KW: f64 = 1e-6;

/// Price of a kWh that is missing at departure, EUR: far above what any market pays.
const SHORTFALL: f64 = 2.0;

/// Loads of the pool and of its sites while the vehicles take turns. kW, mean over a step.
pub(super) struct Loads {
    pool: Vec<f64>,
    net: Vec<Vec<f64>>,
    kept_up: Vec<Vec<f64>>,
    kept_down: Vec<Vec<f64>>,
}

impl Loads {
    fn new(sites: usize, grid: &Grid, plain: &[Plain]) -> Self {
        let empty = vec![vec![0.0; grid.len()]; sites];
        let mut loads = Self {
            pool: vec![0.0; grid.len()],
            net: empty.clone(),
            kept_up: empty.clone(),
            kept_down: empty,
        };
        for vehicle in plain {
            for step in 0..grid.len() {
                loads.pool[step] += vehicle.expected_kw;
                // The fuse must carry what it may take, not what it is expected to take.
                if let Some(net) = loads.net.get_mut(vehicle.site) {
                    net[step] += vehicle.allowed_kw;
                }
            }
        }
        loads
    }

    fn add(&mut self, vehicle: &Vehicle, net: &[f64], share: &Share, calls: &[Call], sign: f64) {
        for (j, kw) in net.iter().enumerate() {
            let step = vehicle.first + j;
            self.pool[step] += sign * kw;
            if let Some(site) = self.net.get_mut(vehicle.site) {
                site[step] += sign * kw;
                self.kept_up[vehicle.site][step] += sign * share.kept(calls, Way::Up, j);
                self.kept_down[vehicle.site][step] += sign * share.kept(calls, Way::Down, j);
            }
        }
    }
}

/// Everything one sweep needs to know.
pub(super) struct Sweep<'a> {
    pub(super) grid: &'a Grid,
    pub(super) vehicles: &'a [Vehicle],
    pub(super) envelopes: &'a [Envelope],
    pub(super) plain: &'a [Plain],
    pub(super) sites: &'a [Site],
    pub(super) calls: &'a [Call],
    pub(super) market: &'a Market,
    pub(super) costs: Costs,
}

impl Sweep<'_> {
    /// Schedules of all vehicles with the shares of reserve they can keep of `shares`.
    pub(super) fn run(&self, shares: Vec<Share>, charge_at_once: &[Option<Vec<f64>>]) -> Vec<Lane> {
        let mut loads = Loads::new(self.sites.len(), self.grid, self.plain);
        let mut lanes: Vec<Lane> = self
            .vehicles
            .iter()
            .zip(shares)
            .enumerate()
            .map(|(i, (v, share))| Lane {
                net: charge_at_once[i]
                    .clone()
                    .unwrap_or_else(|| vec![0.0; v.len()]),
                energy: Vec::new(),
                share,
            })
            .collect();
        for (vehicle, lane) in self.vehicles.iter().zip(&lanes) {
            // At sites whose limit can bind, everybody starts from charging at once: nobody takes the place of one in a hurry.
            loads.add(
                vehicle,
                &lane.net,
                &Share::none(self.calls.len(), vehicle.len()),
                self.calls,
                1.0,
            );
        }
        let ramp = self.ramp();
        let order = self.order();
        let mut placed = vec![false; lanes.len()];
        for _ in 0..ROUNDS {
            for i in &order {
                let (vehicle, lane) = (&self.vehicles[*i], &mut lanes[*i]);
                let before = if placed[*i] {
                    lane.share.clone()
                } else {
                    Share::none(self.calls.len(), vehicle.len())
                };
                loads.add(vehicle, &lane.net, &before, self.calls, -1.0);
                self.choose(*i, lane, before, &loads, ramp);
                loads.add(vehicle, &lane.net, &lane.share, self.calls, 1.0);
                placed[*i] = true;
            }
        }
        lanes
    }

    fn ramp(&self) -> f64 {
        let most: f64 = self.vehicles.iter().map(|v| v.charge_kw).sum();
        (most * RAMP_SHARE).max(RAMP_LEAST_KW)
    }

    /// Those in a hurry first; ties by the order given, which is by name.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.vehicles.len()).collect();
        let laxity = |i: usize| {
            let (v, e) = (&self.vehicles[i], &self.envelopes[i]);
            let top = e.full.last().copied().unwrap_or(v.arrival);
            (top - e.goal) / v.charge_kw.max(1e-3)
        };
        order.sort_by(|a, b| laxity(*a).total_cmp(&laxity(*b)).then(a.cmp(b)));
        order
    }

    /// The cheapest schedule of one vehicle. What cannot be kept is given up in this order: half of its reserve, all of it, the envelope that
    /// carries the future (the site leaves no room; the price of missing energy stays). What it did before fits in any case.
    fn choose(&self, i: usize, lane: &mut Lane, before: Share, loads: &Loads, ramp: f64) {
        let (vehicle, envelope) = (&self.vehicles[i], &self.envelopes[i]);
        if vehicle.len() == 0 {
            return;
        }
        let battery = self.battery(vehicle, envelope);
        let none = || Share::none(self.calls.len(), vehicle.len());
        let mut half = lane.share.clone();
        half.scale(0.5);
        let tries = if lane.share.is_none() {
            vec![(none(), Some(envelope)), (none(), None)]
        } else {
            vec![
                (lane.share.clone(), Some(envelope)),
                (half, Some(envelope)),
                (none(), Some(envelope)),
                (none(), None),
            ]
        };
        for (share, envelope) in tries {
            let steps = self.steps(vehicle, envelope, &share, loads, ramp);
            if let Ok(plan) = storage::cheapest(&battery, &steps) {
                lane.net = (0..plan.charge_kw.len()).map(|j| plan.net_kw(j)).collect();
                lane.energy = plan.energy_kwh;
                lane.share = share;
                return;
            }
        }
        lane.share = before;
        if lane.energy.is_empty() {
            lane.energy = self.levels(vehicle, &lane.net);
        }
    }

    /// Energy at the boundaries of a schedule that only charges.
    fn levels(&self, vehicle: &Vehicle, net: &[f64]) -> Vec<f64> {
        let mut levels = vec![vehicle.arrival];
        for (j, kw) in net.iter().enumerate() {
            let gain = kw * self.grid.hours(vehicle.first + j) * vehicle.charge_efficiency;
            levels.push(levels[j] + gain);
        }
        levels
    }

    fn battery(&self, vehicle: &Vehicle, envelope: &Envelope) -> Battery {
        let last = self.grid.len() - 1;
        // What stays longer than the grid keeps its energy at the cheapest price seen; what leaves gets nothing for it.
        let stays = vehicle.leaves.is_none() || vehicle.hours_beyond > 0.0;
        let cheapest = self.market.price[..=last]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        Battery {
            arrival_kwh: vehicle.arrival,
            charge_efficiency: vehicle.charge_efficiency,
            discharge_efficiency: vehicle.discharge_efficiency,
            goal_kwh: envelope.goal,
            shortfall: SHORTFALL,
            end_value: if stays {
                (cheapest / 1e3 * vehicle.charge_efficiency).clamp(0.0, SHORTFALL / 4.0)
            } else {
                0.0
            },
        }
    }

    fn steps(
        &self,
        vehicle: &Vehicle,
        envelope: Option<&Envelope>,
        share: &Share,
        loads: &Loads,
        ramp: f64,
    ) -> Vec<Step> {
        let idle = share.is_none();
        let zeros = || vec![0.0; vehicle.len() + 1];
        let drain = if idle {
            zeros()
        } else {
            share.energy(self.calls, Way::Up, vehicle.up_factor())
        };
        let fill = if idle {
            zeros()
        } else {
            share.energy(self.calls, Way::Down, vehicle.down_factor())
        };
        let lowest = vehicle.floor.min(vehicle.arrival);
        let highest = vehicle.capacity.max(vehicle.arrival);
        (0..vehicle.len())
            .map(|j| {
                let step = vehicle.first + j;
                let (up, down) = (
                    share.kept(self.calls, Way::Up, j),
                    share.kept(self.calls, Way::Down, j),
                );
                let (low, high) = self.site_band(vehicle.site, step, loads, (up, down));
                let floor = envelope.map_or(lowest, |e| e.floor[j + 1]) + drain[j + 1];
                let f = vehicle.share[j];
                let held = up > 0.0 || down > 0.0;
                Step {
                    hours: self.grid.hours(step),
                    charge_kw: vehicle.charge_kw * f,
                    discharge_kw: vehicle.discharge_kw * f,
                    charge_price: self.market.price[step] + self.costs.import_per_mwh,
                    discharge_price: self.costs.wear_per_mwh + self.costs.export_per_mwh
                        - self.market.price[step],
                    net: self.pieces(step, loads.pool[step], ramp),
                    low_kw: if held {
                        low.max(up - vehicle.discharge_kw)
                    } else {
                        low
                    },
                    high_kw: if held {
                        high.min(vehicle.charge_kw - down)
                    } else {
                        high
                    },
                    floor_kwh: floor,
                    ceiling_kwh: highest - fill[j + 1],
                }
            })
            .collect()
    }

    /// What the site leaves for this vehicle when all reserve is called, given what the others do.
    fn site_band(
        &self,
        site: usize,
        step: usize,
        loads: &Loads,
        (up, down): (f64, f64),
    ) -> (f64, f64) {
        let Some(limits) = self.sites.get(site) else {
            return (f64::NEG_INFINITY, f64::INFINITY);
        };
        let net = loads.net[site][step];
        let high = limits.import_kw - net - loads.kept_down[site][step] - down;
        let low = -limits.export_kw - net + loads.kept_up[site][step] + up;
        (low - ROUNDING_KW, high + ROUNDING_KW)
    }

    /// Price of deviating from the position that was sold, on top of the market's: a ramp from long to short.
    fn pieces(&self, step: usize, others_kw: f64, ramp: f64) -> Vec<Piece> {
        let Some(position) = self.market.position_kw[step] else {
            return Vec::new();
        };
        let (spread, gap) = (self.costs.imbalance_spread, position - others_kw);
        [
            (-1.0, -1.0),
            (-0.33, -0.5),
            (0.33, 0.0),
            (1.0, 0.5),
            (f64::INFINITY, 1.0),
        ]
        .into_iter()
        .map(|(at, price)| Piece {
            up_to_kw: gap + at * ramp,
            eur_per_mwh: price * spread,
        })
        .collect()
    }
}

/// Charging at once under each site's limit, least laxity first: per vehicle at sites whose limit can bind, and the load of each such site
/// (empty for the others).
pub(super) fn charge_at_once(
    grid: &Grid,
    vehicles: &[Vehicle],
    plain: &[Plain],
    sites: &[Site],
) -> (Vec<Option<Vec<f64>>>, Vec<Vec<f64>>) {
    let mut each: Vec<Option<Vec<f64>>> = vec![None; vehicles.len()];
    let mut loads = vec![Vec::new(); sites.len()];
    for (s, site) in sites.iter().enumerate() {
        let members: Vec<usize> = (0..vehicles.len())
            .filter(|i| vehicles[*i].site == s)
            .collect();
        let unsteered: f64 = plain
            .iter()
            .filter(|p| p.site == s)
            .map(|p| p.allowed_kw)
            .sum();
        let most: f64 = members.iter().map(|i| vehicles[*i].charge_kw).sum::<f64>() + unsteered;
        if most <= site.import_kw {
            continue;
        }
        let mut level: Vec<f64> = members.iter().map(|i| vehicles[*i].arrival).collect();
        for i in &members {
            each[*i] = Some(vec![0.0; vehicles[*i].len()]);
        }
        loads[s] = (0..grid.len())
            .map(|step| {
                let mut left = (site.import_kw - unsteered).max(0.0);
                let mut present: Vec<(f64, usize)> = members
                    .iter()
                    .enumerate()
                    .filter(|(_, i)| {
                        vehicles[**i]
                            .share
                            .get(step.wrapping_sub(vehicles[**i].first))
                            .is_some()
                    })
                    .map(|(n, i)| (laxity(&vehicles[*i], level[n], step), n))
                    .collect();
                present.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let before = left;
                for (_, n) in present {
                    let vehicle = &vehicles[members[n]];
                    let j = step - vehicle.first;
                    let hours = grid.hours(step);
                    let need =
                        (vehicle.goal - level[n]).max(0.0) / (vehicle.charge_efficiency * hours);
                    let kw = need.min(vehicle.charge_kw * vehicle.share[j]).min(left);
                    left -= kw;
                    level[n] += kw * hours * vehicle.charge_efficiency;
                    if let Some(net) = &mut each[members[n]] {
                        net[j] = kw;
                    }
                }
                before - left + unsteered
            })
            .collect();
    }
    (each, loads)
}

/// Hours that a vehicle could still wait in `step`.
fn laxity(vehicle: &Vehicle, level: f64, step: usize) -> f64 {
    let j = step - vehicle.first;
    let ahead: f64 = (j..vehicle.len())
        .map(|k| vehicle.share[k] * STEP_HOURS)
        .sum();
    let stays = if vehicle.leaves.is_none() {
        0.0
    } else {
        ahead + vehicle.hours_beyond
    };
    stays
        - (vehicle.goal - level).max(0.0)
            / (vehicle.charge_efficiency * vehicle.charge_kw).max(EPSILON)
}
