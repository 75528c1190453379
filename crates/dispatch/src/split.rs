//! One target, one power per EVSE (`optimisation.md` 10.1, 10.4, 10.5).
//!
//! First as many units as it takes give their planned shares of the call ([`crate::call`]); what is still missing is filled like water:
//! `p = clamp(base + y/k, low, high)` with one level `y` for all, except that a site at its limit has a level of its own. The result is whole
//! watts that add up to the target.
//!
//! ```text
//! low  |---- plan =====> planned share ~~~> water ----| high
//! ```
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "watts of a pool are far below 2^53"
)]

use units::Power;

use crate::call::called;
use crate::pool::Pool;
use crate::round::round;

/// Newton steps before the level is taken as it is; piecewise-linear functions need a handful.
const MOST_STEPS: usize = 200;
/// Watts by which the level may miss the target before rounding to whole watts mends it.
const CLOSE_ENOUGH: f64 = 1e-3;

/// Powers that meet a target as far as possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// One power per unit, in the order of [`Pool::ids`].
    pub powers: Vec<Power>,
    /// Part of the target beyond what the pool can do: target less the sum of the powers.
    pub shortfall: Power,
}

/// Splits `target` over `pool`.
///
/// Powers are within the limits of the units and of their sites, and whole watts; ties are decided by name. If the fuse of a site cannot carry
/// what its units must take, the fuse wins. Never fails: what cannot be met is the shortfall.
#[must_use]
pub fn split(pool: &Pool, target: Power) -> Split {
    let mut limits = Limits::of(pool);
    let base = called(pool, &limits, target.watts() as f64);
    let mut powers = fill(pool, &limits, &base, target.watts());
    if switch(pool, &mut limits, &powers, target.watts()) {
        powers = fill(pool, &limits, &base, target.watts());
    }
    let met: i64 = powers.iter().sum();
    Split {
        powers: powers.into_iter().map(Power::from_watts).collect(),
        shortfall: target - Power::from_watts(met),
    }
}

/// Limits of units and sites as they hold for one split.
pub(crate) struct Limits {
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<f64>,
    /// Lowest and highest sum of each site.
    pub(crate) sites: Vec<(f64, f64)>,
}

impl Limits {
    fn of(pool: &Pool) -> Self {
        let mut limits = Self {
            low: pool.low.clone(),
            high: pool.high.clone(),
            sites: Vec::with_capacity(pool.sites.len()),
        };
        for site in &pool.sites {
            let units = site.units.clone();
            if limits.low[units.clone()].iter().sum::<f64>() > site.high {
                // The fuse cannot carry what must be taken: needs yield down to nothing, none is raised.
                for i in units.clone() {
                    limits.high[i] = limits.low[i];
                    limits.low[i] = limits.low[i].min(0.0);
                }
            }
            if limits.high[units.clone()].iter().sum::<f64>() < site.low {
                for i in units.clone() {
                    limits.low[i] = limits.high[i];
                    limits.high[i] = limits.high[i].max(0.0);
                }
            }
            limits.sites.push((0.0, 0.0));
        }
        limits.sum_sites(pool);
        limits
    }

    fn sum_sites(&mut self, pool: &Pool) {
        for (bounds, site) in self.sites.iter_mut().zip(&pool.sites) {
            let low = self.low[site.units.clone()].iter().sum::<f64>();
            let high = self.high[site.units.clone()].iter().sum::<f64>();
            // What units cannot do no fuse can ask of them.
            let most = high.min(site.high).max(low);
            *bounds = (low.max(site.low).min(most), most);
        }
    }
}

/// Fills up or drains from `base` to `target` within the limits; whole watts.
fn fill(pool: &Pool, limits: &Limits, base: &[f64], target: i64) -> Vec<i64> {
    let least: f64 = limits.sites.iter().map(|s| s.0).sum();
    let most: f64 = limits.sites.iter().map(|s| s.1).sum();
    let wanted = (target as f64).clamp(least, most);
    let level = level_of(
        wanted,
        |y| sum_sites(pool, limits, base, y),
        base,
        limits,
        &pool.ease,
    );
    let mut powers = vec![0.0; pool.len()];
    let mut sums = Vec::with_capacity(pool.sites.len());
    for (site, bounds) in pool.sites.iter().zip(&limits.sites) {
        let units = site.units.clone();
        let (sum, _) = sum_units(pool, limits, base, level, units.clone());
        let inside = sum.clamp(bounds.0, bounds.1);
        let own = if (inside - sum).abs() > CLOSE_ENOUGH {
            let part = units.clone();
            level_in(
                inside,
                |y| sum_units(pool, limits, base, y, part.clone()),
                pool,
                limits,
                base,
                units.clone(),
            )
        } else {
            level
        };
        for i in units {
            powers[i] = (base[i] + own * pool.ease[i]).clamp(limits.low[i], limits.high[i]);
        }
        sums.push(inside);
    }
    to_whole_watts(pool, limits, &powers, &sums, wanted as i64)
}

fn to_whole_watts(
    pool: &Pool,
    limits: &Limits,
    powers: &[f64],
    sums: &[f64],
    target: i64,
) -> Vec<i64> {
    let (low, high): (Vec<f64>, Vec<f64>) = limits.sites.iter().copied().unzip();
    let totals = round(target, sums, &low, &high);
    let mut whole = Vec::with_capacity(pool.len());
    for (site, total) in pool.sites.iter().zip(totals) {
        let units = site.units.clone();
        whole.extend(round(
            total,
            &powers[units.clone()],
            &limits.low[units.clone()],
            &limits.high[units],
        ));
    }
    whole
}

/// Sum of the units at level `y`, and how fast it grows.
fn sum_units(
    pool: &Pool,
    limits: &Limits,
    base: &[f64],
    y: f64,
    units: std::ops::Range<usize>,
) -> (f64, f64) {
    let (mut sum, mut slope) = (0.0, 0.0);
    let (base, ease) = (&base[units.clone()], &pool.ease[units.clone()]);
    let (low, high) = (&limits.low[units.clone()], &limits.high[units]);
    for (((b, e), l), h) in base.iter().zip(ease).zip(low).zip(high) {
        let free = b + y * e;
        sum += free.max(*l).min(*h);
        slope += if free > *l && free < *h { *e } else { 0.0 };
    }
    (sum, slope)
}

/// Sum of the sites at level `y`, each within its own limits, and how fast it grows.
fn sum_sites(pool: &Pool, limits: &Limits, base: &[f64], y: f64) -> (f64, f64) {
    let (mut total, mut slope) = (0.0, 0.0);
    for (site, bounds) in pool.sites.iter().zip(&limits.sites) {
        let (sum, grows) = sum_units(pool, limits, base, y, site.units.clone());
        let inside = sum.clamp(bounds.0, bounds.1);
        total += inside;
        slope += if (inside - sum).abs() > 0.0 {
            0.0
        } else {
            grows
        };
    }
    (total, slope)
}

fn level_in(
    wanted: f64,
    sum: impl Fn(f64) -> (f64, f64),
    pool: &Pool,
    limits: &Limits,
    base: &[f64],
    units: std::ops::Range<usize>,
) -> f64 {
    let part = Limits {
        low: limits.low[units.clone()].to_vec(),
        high: limits.high[units.clone()].to_vec(),
        sites: Vec::new(),
    };
    level_of(wanted, sum, &base[units.clone()], &part, &pool.ease[units])
}

/// The level at which `sum` is `wanted`: Newton's method kept inside a bracket that every step narrows.
fn level_of(
    wanted: f64,
    sum: impl Fn(f64) -> (f64, f64),
    base: &[f64],
    limits: &Limits,
    ease: &[f64],
) -> f64 {
    let (first, mut slope) = sum(0.0);
    if (first - wanted).abs() <= CLOSE_ENOUGH {
        return 0.0;
    }
    let rising = first < wanted;
    let reach = |limit: &[f64]| {
        let away = limit
            .iter()
            .zip(base)
            .zip(ease)
            .map(|((l, b), e)| (l - b) / e);
        if rising {
            away.fold(0.0, f64::max)
        } else {
            away.fold(0.0, f64::min)
        }
    };
    let (mut below, mut above) = if rising {
        (0.0, reach(&limits.high))
    } else {
        (reach(&limits.low), 0.0)
    };
    let (mut y, mut off) = (0.0, first - wanted);
    for _ in 0..MOST_STEPS {
        let newton = y - off / slope;
        y = if slope > 0.0 && newton > below && newton < above {
            newton
        } else {
            f64::midpoint(below, above)
        };
        let (at, grows) = sum(y);
        (off, slope) = (at - wanted, grows);
        if off.abs() <= CLOSE_ENOUGH || above - below <= f64::EPSILON * above.abs().max(below.abs())
        {
            break;
        }
        if off < 0.0 { below = y } else { above = y }
    }
    y
}

/// Puts every unit with a lowest charging power on one side of it: off, or on at no less. Says whether any had to be moved.
///
/// As many stay on as the power they were given can carry; those that charge already come first, then those with the higher plan, then by name.
fn switch(pool: &Pool, limits: &mut Limits, powers: &[i64], target: i64) -> bool {
    let between = |i: usize| powers[i] > 0 && (powers[i] as f64) < pool.min_charge[i];
    let moved: Vec<usize> = (0..pool.len()).filter(|i| between(*i)).collect();
    if moved.is_empty() {
        return false;
    }
    let mut given: f64 = moved.iter().map(|i| powers[*i] as f64).sum();
    let mut least = vec![0.0; pool.sites.len()];
    let site_of = |i: usize| pool.sites.partition_point(|s| s.units.end <= i);
    for (i, power) in powers
        .iter()
        .enumerate()
        .filter(|(i, _)| pool.min_charge[*i] > 0.0)
    {
        if (*power as f64) >= pool.min_charge[i] {
            limits.low[i] = limits.low[i].max(pool.min_charge[i]);
        }
    }
    for (i, power) in powers.iter().enumerate() {
        least[site_of(i)] += if between(i) {
            0.0
        } else {
            limits.low[i].min(*power as f64)
        };
    }
    let mut order = moved;
    let off: Vec<usize> = (0..pool.len())
        .filter(|i| powers[*i] <= 0 && pool.min_charge[*i] > 0.0 && limits.high[*i] > 0.0)
        .collect();
    let rank = |i: &usize| {
        (
            limits.low[*i] <= 0.0,
            !pool.on[*i],
            std::cmp::Reverse(pool.plan[*i] as i64),
            *i,
        )
    };
    order.sort_by_key(rank);
    let mut spare: Vec<usize> = Vec::new();
    for i in order {
        let (site, min) = (site_of(i), pool.min_charge[i]);
        if min <= given && least[site] + min <= pool.sites[site].high {
            limits.low[i] = limits.low[i].max(min);
            least[site] += min;
            given -= min;
        } else {
            turn_off(limits, i);
            spare.push(i);
        }
    }
    for i in &off {
        turn_off(limits, *i);
    }
    spare.extend(off);
    limits.sum_sites(pool);
    turn_on_more(pool, limits, &spare, target as f64);
    true
}

fn turn_off(limits: &mut Limits, i: usize) {
    limits.low[i] = limits.low[i].min(0.0);
    limits.high[i] = limits.high[i].min(0.0).max(limits.low[i]);
}

/// Switches on from `spare` while those that are on cannot reach `target` and the others can make room.
fn turn_on_more(pool: &Pool, limits: &mut Limits, spare: &[usize], target: f64) {
    let (mut least, mut most) = limits
        .sites
        .iter()
        .fold((0.0, 0.0), |(l, m), s| (l + s.0, m + s.1));
    for i in spare {
        if most >= target {
            return;
        }
        let site = pool.sites.partition_point(|s| s.units.end <= *i);
        let (min, bounds) = (pool.min_charge[*i], limits.sites[site]);
        if least + min > target || bounds.0 + min > pool.sites[site].high {
            continue;
        }
        let (low, high) = (limits.low[*i], limits.high[*i]);
        limits.low[*i] = min;
        limits.high[*i] = pool.high[*i];
        let units = pool.sites[site].units.clone();
        let sums = (
            limits.low[units.clone()]
                .iter()
                .sum::<f64>()
                .max(pool.sites[site].low),
            limits.high[units]
                .iter()
                .sum::<f64>()
                .min(pool.sites[site].high),
        );
        if sums.1 <= bounds.1 {
            (limits.low[*i], limits.high[*i]) = (low, high);
            continue;
        }
        least += sums.0 - bounds.0;
        most += sums.1 - bounds.1;
        limits.sites[site] = sums;
    }
}
