//! Prices that the finished schedules imply: of the pool's deviation and of what each site carries.

use super::loads::Loads;
use super::problem::Problem;
use super::reserve::Lane;
use super::sweep::deviation;

/// Distance within which the pool counts as standing at a kink of its price, and a site as full, kW.
const NEAR_KW: f64 = 0.5;

/// A charger that is neither idle nor at a limit moves by more than this either way, kW.
const INSIDE_KW: f64 = 1e-3;

/// Prices of net power beside the market's, EUR per MWh: of the pool per step, and of each site whose limits several vehicles share.
pub(super) struct Prices {
    pub(super) pool: Vec<f64>,
    pub(super) sites: Vec<Option<Vec<f64>>>,
}

/// Sum and number of the prices at which vehicles were indifferent.
#[derive(Clone, Copy, Default)]
struct Seen {
    sum: f64,
    count: u32,
}

impl Seen {
    fn add(&mut self, price: f64) {
        self.sum += price;
        self.count += 1;
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// True if a limit of the site can bind and several vehicles share it; that of a single vehicle is a limit of its own.
pub(super) fn shared(problem: &Problem<'_>, site: usize) -> bool {
    problem.limited[site] && problem.members[site].len() > 1
}

/// True if a shared limit of the site is reached in `step`.
pub(super) fn full(problem: &Problem<'_>, loads: &Loads, site: usize, step: usize) -> bool {
    shared(problem, site)
        && (loads.rise(problem, site, step) <= NEAR_KW
            || loads.fall(problem, site, step) <= NEAR_KW)
}

/// The range of prices at which the pool's deviation `kw` from the position is cheapest.
pub(super) fn range(problem: &Problem<'_>, kw: f64) -> (f64, f64) {
    let at = |kw: f64| {
        deviation(problem)
            .find(|(up_to, _)| kw <= *up_to)
            .map_or(0.0, |(_, price)| price)
    };
    (at(kw - NEAR_KW), at(kw + NEAR_KW))
}

impl Prices {
    /// Price of net power at `site` in `step`, EUR per MWh beside the market's.
    pub(super) fn at(&self, site: usize, step: usize) -> f64 {
        let of_site = self.sites.get(site).and_then(Option::as_ref);
        self.pool[step] + of_site.map_or(0.0, |prices| prices[step])
    }

    /// Where the pool stands at a kink or a site is full, the mean of the prices at which its vehicles are indifferent; where none is, and at sites that
    /// are not full, the site prices `known`.
    pub(super) fn implied(
        problem: &Problem<'_>,
        loads: &Loads,
        lanes: &[Lane],
        known: &[Option<Vec<f64>>],
    ) -> Self {
        let steps = problem.input.grid.len();
        let mut pool = vec![Seen::default(); steps];
        let mut sites: Vec<Option<Vec<Seen>>> = (0..problem.members.len())
            .map(|site| shared(problem, site).then(|| vec![Seen::default(); steps]))
            .collect();
        for (i, lane) in lanes.iter().enumerate() {
            let vehicle = &problem.input.vehicles[i];
            for (j, price) in indifferent(problem, i, lane) {
                let step = vehicle.first + j;
                match sites.get_mut(vehicle.site).and_then(Option::as_mut) {
                    Some(site) if full(problem, loads, vehicle.site, step) => site[step].add(price),
                    _ => pool[step].add(price),
                }
            }
        }
        let pool: Vec<f64> = (0..steps)
            .map(|step| {
                problem.input.market.position_kw[step].map_or(0.0, |position| {
                    let (low, high) = range(problem, loads.pool[step] - position);
                    let seen = pool[step].mean().unwrap_or(f64::midpoint(low, high));
                    seen.clamp(low, high)
                })
            })
            .collect();
        let sites = sites
            .into_iter()
            .enumerate()
            .map(|(site, seen)| {
                let known = known.get(site).and_then(Option::as_ref);
                let price = |(step, seen): (usize, Seen)| {
                    let before = known.map_or(0.0, |prices| prices[step]);
                    if !full(problem, loads, site, step) {
                        return before;
                    }
                    let beside = seen.mean().map_or(before, |price| price - pool[step]);
                    if loads.rise(problem, site, step) <= NEAR_KW {
                        beside.max(0.0)
                    } else {
                        beside.min(0.0)
                    }
                };
                seen.map(|seen| seen.into_iter().enumerate().map(price).collect())
            })
            .collect();
        Self { pool, sites }
    }
}

/// Steps in which vehicle `i` could do a little more or less, with the price of net power at which it does not mind, EUR per MWh beside the market's.
fn indifferent<'a>(
    problem: &'a Problem<'_>,
    i: usize,
    lane: &'a Lane,
) -> impl Iterator<Item = (usize, f64)> + 'a {
    let vehicle = &problem.input.vehicles[i];
    let costs = problem.input.costs;
    lane.net.iter().enumerate().filter_map(move |(j, net)| {
        let f = vehicle.share[j];
        let price = problem.input.market.price[vehicle.first + j];
        let value = lane.value.get(j).copied()? * 1e3;
        if *net > INSIDE_KW && *net < vehicle.charge_kw * f - INSIDE_KW {
            let worth = value * vehicle.charge_efficiency;
            Some((j, worth - price - costs.import_per_mwh))
        } else if *net < -INSIDE_KW && *net > -vehicle.discharge_kw * f + INSIDE_KW {
            let worth = value / vehicle.discharge_efficiency;
            Some((j, worth + costs.wear_per_mwh + costs.export_per_mwh - price))
        } else {
            None
        }
    })
}
