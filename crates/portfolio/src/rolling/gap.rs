//! How far a plan can be from the best one, proven by prices.
//!
//! With a price on the pool's deviation and on what each shared site carries, the vehicles fall apart, and the least cost of each alone is a
//! storage problem with an exact bound ([`crate::storage::bound`]). For any prices `y` of the pool and `z` of the sites
//!
//! ```text
//! cost >= sum of v: min over its rows of [ cost(v) + (y+z)*net(v) ]      EUR per MWh and MWh
//!         + y*(unsteered - position) + min over x of [ F(x) - y*x ]        F: what deviating from the position costs
//!         - max(z,0)*import - max(-z,0)*export                              what the site leaves to schedules
//! ```
//!
//! What each vehicle holds of the reserve, and what is fixed inside a gate, is part of the problem that the bound is for.

use super::loads::Loads;
use super::parallel;
use super::prices::Prices;
use super::reserve::Lane;
use super::sweep::{Against, Rows, Sweep, deviation};
use crate::storage::{self, Sum};

/// A plan's cost and a proven bound on it, EUR over the horizon; energy of the vehicles beyond it at its worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gap {
    /// Cost of the plan: energy at market prices, fees, wear, deviation, missing energy.
    pub cost: f64,
    /// No plan with the same shares of reserve costs less; minus infinity if nothing is proven.
    pub bound: f64,
}

impl Gap {
    /// `(cost - bound) / max(|cost|, 1 cent)`, never negative; `None` if nothing is proven.
    #[must_use]
    pub fn relative(self) -> Option<f64> {
        let gap = (self.cost - self.bound) / self.cost.abs().max(0.01);
        gap.is_finite().then_some(gap.max(0.0))
    }
}

/// The gap of the plan `lanes` at its own prices.
pub(super) fn gap(
    sweep: &Sweep<'_>,
    lanes: &[Lane],
    loads: &Loads,
    prices: &Prices,
    threads: usize,
) -> Gap {
    let parts = parallel::each(threads, lanes.len(), |i| {
        vehicle(sweep, i, &lanes[i], loads, prices)
    });
    let (mut cost, mut bound) = (Sum::default(), Sum::default());
    let mut proven = true;
    for (own, least) in parts {
        cost.add(own);
        bound.add(least.unwrap_or_default());
        proven &= least.is_some();
    }
    pool(sweep, loads, prices, &mut cost, &mut bound);
    sites(sweep, loads, prices, &mut bound);
    Gap {
        cost: cost.value(),
        bound: if proven {
            bound.at_least()
        } else {
            f64::NEG_INFINITY
        },
    }
}

/// What a vehicle's schedule costs at market prices, and the least that any costs it at `prices` too.
fn vehicle(
    sweep: &Sweep<'_>,
    i: usize,
    lane: &Lane,
    loads: &Loads,
    prices: &Prices,
) -> (f64, Option<f64>) {
    let battery = sweep.battery(i);
    let steps = sweep.steps(
        i,
        &lane.share,
        Rows::of(lane),
        Against::Prices(prices, loads),
    );
    let mut cost = lane.energy.last().map_or(0.0, |end| battery.end_cost(*end));
    let input = sweep.problem.input;
    let first = input.vehicles[i].first;
    for (j, net) in lane.net.iter().enumerate() {
        let (price, costs) = (input.market.price[first + j], input.costs);
        let per_mwh = if *net >= 0.0 {
            price + costs.import_per_mwh
        } else {
            price - costs.export_per_mwh - costs.wear_per_mwh
        };
        cost += input.grid.hours(first + j) / 1e3 * per_mwh * net;
    }
    (cost, storage::bound(&battery, &steps, &lane.value).ok())
}

fn pool(sweep: &Sweep<'_>, loads: &Loads, prices: &Prices, cost: &mut Sum, bound: &mut Sum) {
    let input = sweep.problem.input;
    let unsteered: f64 = input.plain.iter().map(|p| p.expected_kw).sum();
    for (step, position) in input.market.position_kw.iter().enumerate() {
        let Some(position) = position else { continue };
        let mwh = input.grid.hours(step) / 1e3;
        let price = prices.pool[step];
        cost.add(mwh * deviating(sweep, loads.pool[step] - position));
        let cheapest = deviation(sweep.problem)
            .filter(|(at, _)| at.is_finite())
            .map(|(at, _)| deviating(sweep, at) - price * at)
            .fold(f64::INFINITY, f64::min);
        bound.add(mwh * (price * (unsteered - position) + cheapest));
    }
}

/// Cost of deviating by `kw` from the position, EUR/MWh times kW: the integral of the marginal prices.
fn deviating(sweep: &Sweep<'_>, kw: f64) -> f64 {
    let (from, to) = (kw.min(0.0), kw.max(0.0));
    let mut begin = f64::NEG_INFINITY;
    let mut total = 0.0;
    for (end, price) in deviation(sweep.problem) {
        let (low, high) = (from.max(begin), to.min(end));
        if high > low {
            total += price * (high - low);
        }
        begin = end;
    }
    if kw < 0.0 { -total } else { total }
}

fn sites(sweep: &Sweep<'_>, loads: &Loads, prices: &Prices, bound: &mut Sum) {
    let problem = sweep.problem;
    for (site, of_site) in prices.sites.iter().enumerate() {
        for (step, price) in of_site.iter().flatten().enumerate() {
            let mwh = problem.input.grid.hours(step) / 1e3;
            if *price > 0.0 {
                bound.add(-mwh * price * loads.for_schedules(problem, site, step));
            } else if *price < 0.0 {
                bound.add(mwh * price * loads.export_for_schedules(problem, site, step));
            }
        }
    }
}
