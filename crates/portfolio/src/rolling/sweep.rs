//! Schedules of the vehicles: one exact dynamic programme after the other, each against what the others do.

use super::loads::Loads;
use super::prices::{self, Prices};
use super::problem::Problem;
use super::reserve::{Lane, Share, Way};
use super::vehicle::Vehicle;
use crate::storage::{self, Battery, NoPlan, Piece, Step};

/// Bounds of power that cross by no more do so by rounding, kW.
const ROUNDING_KW: f64 = 1e-5;

/// Price of a kWh that is missing at departure, EUR: far above what any market pays.
const SHORTFALL: f64 = 2.0;

/// Charging and discharging in one step below this are rounding, kW.
const OVERLAP_KW: f64 = 1e-6;

/// Repairs of charging and discharging at once; each bars one of them in the steps where both were chosen.
const REPAIRS: usize = 8;

/// Everything one sweep needs to know.
pub(super) struct Sweep<'a> {
    pub(super) problem: &'a Problem<'a>,
    /// Net power per own step that each vehicle was planned with before; `None` in a step, or throughout, where it was not planned.
    pub(super) before: &'a [Option<Vec<Option<f64>>>],
    /// Steps of the grid that are inside a gate.
    pub(super) frozen: usize,
    /// Price of moving a vehicle away from what it was planned to do, EUR per MWh moved.
    pub(super) chatter: f64,
    /// Price of net power at each site whose limits several vehicles share, EUR per MWh per step; `None` at the others. Without it the first in turn
    /// takes what a later one has more use for.
    pub(super) site_prices: Vec<Option<Vec<f64>>>,
}

/// What a vehicle is asked to keep to.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// The levels from which it still reaches its goal.
    pub(super) envelope: bool,
    /// What was planned before inside the gate.
    pub(super) frozen: bool,
}

impl Rows {
    /// The rows that `lane` kept to.
    pub(super) const fn of(lane: &Lane) -> Self {
        Self {
            envelope: lane.enveloped,
            frozen: lane.frozen,
        }
    }
}

/// What energy costs a vehicle beside the market's price.
#[derive(Clone, Copy)]
pub(super) enum Against<'a> {
    /// What the pool's deviation costs, and what is left of the site, given what the others do: the loads, less those of the vehicle's own lane if
    /// they hold that too.
    Others(&'a Loads, Option<&'a Lane>),
    /// Prices of net power for the pool and its sites; a site of its own still limits it, by what the loads keep free there.
    Prices(&'a Prices, &'a Loads),
}

impl Sweep<'_> {
    /// Moves the prices of shared sites halfway to what their vehicles are indifferent at where the site is full, and halfway to zero elsewhere.
    pub(super) fn learn(&mut self, lanes: &[Lane], loads: &Loads) {
        let implied = Prices::implied(self.problem, loads, lanes, &self.site_prices);
        for (site, (old, new)) in self.site_prices.iter_mut().zip(implied.sites).enumerate() {
            let Some(new) = new else { continue };
            let old = old.get_or_insert_with(|| vec![0.0; new.len()]);
            for (step, (old, new)) in old.iter_mut().zip(new).enumerate() {
                let full = prices::full(self.problem, loads, site, step);
                *old += 0.5 * (if full { new } else { 0.0 } - *old);
            }
        }
    }

    /// One round over the vehicles of `order`, each taking its turn against what all others do.
    pub(super) fn round(
        &self,
        order: &[usize],
        placed: &mut [bool],
        lanes: &mut [Lane],
        loads: &mut Loads,
    ) {
        let calls = &self.problem.calls;
        for i in order {
            let (vehicle, lane) = (&self.problem.input.vehicles[*i], &mut lanes[*i]);
            if placed[*i] {
                loads.add(vehicle, lane, calls, -1.0);
            } else {
                loads.add_power(vehicle, &lane.net, -1.0);
            }
            let before = if placed[*i] {
                lane.share.clone()
            } else {
                Share::none(calls.len(), vehicle.len())
            };
            self.choose(*i, lane, before, loads);
            loads.add(vehicle, lane, calls, 1.0);
            placed[*i] = true;
        }
    }

    /// Those in a hurry first; ties by the order given, which is by name.
    pub(super) fn order(&self, mut of: Vec<usize>) -> Vec<usize> {
        let laxity = |i: usize| {
            let (v, e) = (&self.problem.input.vehicles[i], &self.problem.envelopes[i]);
            let top = e.full.last().copied().unwrap_or(v.arrival);
            (top - e.goal) / v.charge_kw.max(1e-3)
        };
        of.sort_by(|a, b| laxity(*a).total_cmp(&laxity(*b)).then(a.cmp(b)));
        of
    }

    /// The cheapest schedule of one vehicle. What cannot be kept is given up in this order: what was planned inside the gate, half of its
    /// reserve, all of it, the envelope that carries the future (the site leaves no room; the price of missing energy stays). What it did
    /// before fits in any case.
    fn choose(&self, i: usize, lane: &mut Lane, before: Share, loads: &Loads) {
        let vehicle = &self.problem.input.vehicles[i];
        if vehicle.len() == 0 {
            return;
        }
        let battery = self.battery(i);
        let whole = std::mem::take(&mut lane.share);
        let none = || Share::none(self.problem.calls.len(), vehicle.len());
        let rows = |envelope, frozen| Rows { envelope, frozen };
        let mut tries = Vec::with_capacity(5);
        if self.freezes(i) {
            tries.push((whole.clone(), rows(true, true)));
        }
        if !whole.is_none() {
            let mut half = whole.clone();
            half.scale(0.5);
            tries.push((whole, rows(true, false)));
            tries.push((half, rows(true, false)));
        }
        tries.push((none(), rows(true, false)));
        tries.push((none(), rows(false, false)));
        for (share, rows) in tries {
            let mut steps = self.steps(i, &share, rows, Against::Others(loads, None));
            if let Ok(plan) = exclusive(&battery, &mut steps) {
                lane.net = (0..plan.charge_kw.len()).map(|j| plan.net_kw(j)).collect();
                lane.energy = plan.energy_kwh;
                lane.value = plan.energy_value;
                lane.share = share;
                lane.enveloped = rows.envelope;
                lane.frozen = rows.frozen;
                return;
            }
        }
        lane.share = before;
        lane.enveloped = false;
        lane.frozen = false;
        lane.energy = self.levels(vehicle, &lane.net);
        lane.value.resize(vehicle.len(), 0.0);
    }

    /// True if vehicle `i` was planned before in a step inside the gate.
    fn freezes(&self, i: usize) -> bool {
        let first = self.problem.input.vehicles[i].first;
        self.before[i].as_ref().is_some_and(|before| {
            let inside = self.frozen.saturating_sub(first);
            before.iter().take(inside).any(Option::is_some)
        })
    }

    /// Energy at the boundaries of a schedule.
    pub(super) fn levels(&self, vehicle: &Vehicle, net: &[f64]) -> Vec<f64> {
        let mut level = vehicle.arrival;
        let mut levels = Vec::with_capacity(net.len() + 1);
        levels.push(level);
        for (j, kw) in net.iter().enumerate() {
            level += vehicle.gain(*kw) * self.problem.input.grid.hours(vehicle.first + j);
            levels.push(level);
        }
        levels
    }

    /// The battery of vehicle `i` with what its energy is worth at the end.
    pub(super) fn battery(&self, i: usize) -> Battery {
        let input = self.problem.input;
        let vehicle = &input.vehicles[i];
        // What stays longer than the grid keeps its energy at the cheapest price seen; what leaves gets nothing for it.
        let stays = vehicle.leaves.is_none() || vehicle.hours_beyond > 0.0;
        let cheapest = || {
            input
                .market
                .price
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min)
        };
        Battery {
            arrival_kwh: vehicle.arrival,
            charge_efficiency: vehicle.charge_efficiency,
            discharge_efficiency: vehicle.discharge_efficiency,
            goal_kwh: self.problem.envelopes[i].goal,
            shortfall: SHORTFALL,
            end_value: if stays {
                (cheapest() / 1e3 * vehicle.charge_efficiency).clamp(0.0, SHORTFALL / 4.0)
            } else {
                0.0
            },
        }
    }

    /// The steps of vehicle `i` that keep to `rows` and hold `share`.
    pub(super) fn steps(
        &self,
        i: usize,
        share: &Share,
        rows: Rows,
        against: Against<'_>,
    ) -> Vec<Step> {
        let problem = self.problem;
        let (vehicle, envelope, calls) = (
            &problem.input.vehicles[i],
            &problem.envelopes[i],
            &problem.calls,
        );
        let idle = share.is_none();
        let energy = |way| {
            if idle {
                Vec::new()
            } else {
                share.energy(calls, way, vehicle)
            }
        };
        let (drain, fill) = (energy(Way::Up), energy(Way::Down));
        let kept = |energy: &[f64], j: usize| energy.get(j + 1).copied().unwrap_or(0.0);
        let lowest = vehicle.floor.min(vehicle.arrival);
        let highest = vehicle.capacity.max(vehicle.arrival);
        let costs = problem.input.costs;
        (0..vehicle.len())
            .map(|j| {
                let step = vehicle.first + j;
                let (up, down) = if idle {
                    (0.0, 0.0)
                } else {
                    (
                        share.kept(calls, Way::Up, j),
                        share.kept(calls, Way::Down, j),
                    )
                };
                let price = problem.input.market.price[step];
                let f = vehicle.share[j];
                let mut made = Step {
                    hours: problem.input.grid.hours(step),
                    charge_kw: vehicle.charge_kw * f,
                    discharge_kw: vehicle.discharge_kw * f,
                    charge_price: price + costs.import_per_mwh,
                    discharge_price: costs.wear_per_mwh + costs.export_per_mwh - price,
                    net: Vec::new(),
                    low_kw: f64::NEG_INFINITY,
                    high_kw: f64::INFINITY,
                    floor_kwh: if rows.envelope {
                        envelope.floor[j + 1]
                    } else {
                        lowest
                    } + kept(&drain, j),
                    ceiling_kwh: highest - kept(&fill, j),
                };
                if up > 0.0 || down > 0.0 {
                    made.low_kw = up - vehicle.discharge_kw;
                    made.high_kw = vehicle.charge_kw - down;
                }
                match against {
                    Against::Others(loads, own) => {
                        let own = own.map_or([0.0; 3], |lane| {
                            let kept = |way| lane.share.kept(calls, way, j);
                            [lane.net[j], kept(Way::Up), kept(Way::Down)]
                        });
                        self.beside(&mut made, loads, (vehicle.site, step), own, (up, down));
                        self.price(
                            &mut made,
                            (vehicle.site, step),
                            loads.pool[step] - own[0],
                            self.planned(i, j),
                        );
                    }
                    Against::Prices(prices, loads) => {
                        // A schedule at the edge of what its reserve leaves must not be outside by rounding.
                        made.low_kw -= ROUNDING_KW;
                        made.high_kw += ROUNDING_KW;
                        dearer(&mut made, prices.at(vehicle.site, step));
                        if problem
                            .members
                            .get(vehicle.site)
                            .is_some_and(|m| m.len() == 1)
                        {
                            let rise = loads.for_schedules(problem, vehicle.site, step);
                            let fall = loads.export_for_schedules(problem, vehicle.site, step);
                            made.high_kw = made.high_kw.min(rise + ROUNDING_KW);
                            made.low_kw = made.low_kw.max(-fall - ROUNDING_KW);
                        }
                    }
                }
                if let Some(before) = self
                    .planned(i, j)
                    .filter(|_| rows.frozen && step < self.frozen)
                {
                    made.low_kw = made.low_kw.max(before);
                    made.high_kw = made.high_kw.min(before);
                }
                uncross(&mut made);
                made
            })
            .collect()
    }

    fn planned(&self, i: usize, j: usize) -> Option<f64> {
        self.before[i].as_ref()?.get(j).copied().flatten()
    }

    /// What the others leave of the site when all reserve is called.
    fn beside(
        &self,
        made: &mut Step,
        loads: &Loads,
        (site, step): (usize, usize),
        [own_net, own_up, own_down]: [f64; 3],
        (up, down): (f64, f64),
    ) {
        if site < self.problem.input.sites.len() {
            let rise = loads.rise(self.problem, site, step) + own_net + own_down - down;
            let fall = loads.fall(self.problem, site, step) - own_net + own_up - up;
            made.low_kw = made.low_kw.max(-fall);
            made.high_kw = made.high_kw.min(rise);
        }
    }

    /// What net power costs beside the market's price while the others take `others_kw`: the pool's deviation, the site, and moving away from what was
    /// planned `before`. Prices that do not change over what the vehicle can do go straight into those of charging and discharging.
    fn price(
        &self,
        made: &mut Step,
        (site, step): (usize, usize),
        others_kw: f64,
        before: Option<f64>,
    ) {
        let (least, most) = (-made.discharge_kw, made.charge_kw);
        let site_prices = self.site_prices.get(site).and_then(Option::as_ref);
        let mut flat = site_prices.map_or(0.0, |prices| prices[step]);
        if let Some(position) = self.problem.input.market.position_kw[step] {
            for (up_to, eur_per_mwh) in deviation(self.problem) {
                let up_to_kw = position - others_kw + up_to;
                if up_to_kw <= least {
                    continue;
                }
                if up_to_kw >= most && made.net.is_empty() {
                    flat += eur_per_mwh;
                    break;
                }
                made.net.push(Piece {
                    up_to_kw,
                    eur_per_mwh,
                });
                if up_to_kw >= most {
                    break;
                }
            }
        }
        match before {
            Some(before) if before >= most => flat -= self.chatter,
            Some(before) if before <= least => flat += self.chatter,
            Some(before) => made.net = kinked(&made.net, before, self.chatter),
            None => {}
        }
        dearer(made, flat);
    }
}

/// Brings bounds of power together that only rounding put apart: at a full site the others' loads add up to its limit but for the last digits, and
/// idling must stay possible.
fn uncross(step: &mut Step) {
    let (least, most) = (-step.discharge_kw, step.charge_kw);
    if step.high_kw < least && step.high_kw > least - ROUNDING_KW {
        step.high_kw = least;
    }
    if step.low_kw > most && step.low_kw < most + ROUNDING_KW {
        step.low_kw = most;
    }
    if step.low_kw > step.high_kw && step.low_kw < step.high_kw + ROUNDING_KW {
        step.low_kw = step.high_kw;
    }
}

/// Price of deviating from the position that was sold, on top of the market's: a ramp from long to short, as the kW above the position up to which
/// each price holds.
pub(super) fn deviation(problem: &Problem<'_>) -> impl Iterator<Item = (f64, f64)> {
    let (spread, ramp) = (problem.input.costs.imbalance_spread, problem.ramp);
    [
        (-1.0, -1.0),
        (-0.33, -0.5),
        (0.33, 0.0),
        (1.0, 0.5),
        (f64::INFINITY, 1.0),
    ]
    .into_iter()
    .map(move |(at, price)| (at * ramp, price * spread))
}

/// A step in which net power costs `extra` EUR per MWh more throughout.
fn dearer(step: &mut Step, extra: f64) {
    step.charge_price += extra;
    step.discharge_price -= extra;
}

/// Marginal prices with `extra` less below `at` and `extra` more above.
fn kinked(pieces: &[Piece], at: f64, extra: f64) -> Vec<Piece> {
    if extra <= 0.0 {
        return pieces.to_vec();
    }
    let last = [Piece {
        up_to_kw: f64::INFINITY,
        eur_per_mwh: 0.0,
    }];
    let pieces = if pieces.is_empty() { &last[..] } else { pieces };
    let mut with = Vec::with_capacity(pieces.len() + 1);
    let mut from = f64::NEG_INFINITY;
    for piece in pieces {
        let (below, above) = (piece.eur_per_mwh - extra, piece.eur_per_mwh + extra);
        if from < at && at < piece.up_to_kw {
            with.push(Piece {
                up_to_kw: at,
                eur_per_mwh: below,
            });
        }
        with.push(Piece {
            up_to_kw: piece.up_to_kw,
            eur_per_mwh: if piece.up_to_kw <= at { below } else { above },
        });
        from = piece.up_to_kw;
    }
    with
}

/// The cheapest schedule that never charges and discharges in one step. At deeply negative prices the convex model does both to burn
/// energy (`optimisation.md` 2.4), which no charger can; there the smaller of the two is barred and the battery solved again.
fn exclusive(battery: &Battery, steps: &mut [Step]) -> Result<storage::Plan, NoPlan> {
    let mut plan = storage::cheapest(battery, steps)?;
    for _ in 0..REPAIRS {
        let mut both = false;
        for (j, step) in steps.iter_mut().enumerate() {
            if plan.charge_kw[j].min(plan.discharge_kw[j]) > OVERLAP_KW {
                both = true;
                if plan.net_kw(j) >= 0.0 {
                    step.discharge_kw = 0.0;
                } else {
                    step.charge_kw = 0.0;
                }
            }
        }
        if !both {
            break;
        }
        plan = storage::cheapest(battery, steps)?;
    }
    Ok(plan)
}
