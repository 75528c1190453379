//! Whom a call moves: few units far, and each in its turn.
//!
//! Each unit holds a share of a call. Where a call asks for part of what all hold, as many units as it takes give all that they hold, and the
//! others stay at their plan: a converter works best near its rating (`optimisation.md` 10.4), and from one second to the next
//! only as many are told something new as the call has moved. Who has waited longest moves first, and who has given for [`TURN`] hands over
//! to another, so that in the long run all give alike and nobody's share of energy is used up alone.
//!
//! ```text
//!  low      floor = plan - up        plan         plan + down = ceiling     high
//!   |.............|<---- gives up ----|---- gives down --->|................|
//!                 |        told x                          |    stays where it was told to be, unless the call moves on
//! ```
//!
//! A call for more than what is planned has all give their shares, and some go on to their limits: those first that have the most time
//! to spare.

use chrono::TimeDelta;

use crate::pool::{Pool, Site, real};
use crate::split::Limits;

/// A unit gives for this long before another takes its place: short beside the endurance that reserve is held for, a quarter of an hour and
/// more (`markets.md` 4.3).
const TURN: TimeDelta = TimeDelta::minutes(2);
/// Units whose turn began together end it over this many seconds.
const SPREAD: i64 = 60;
/// Watts of the target that are no reason to move anybody.
const NOTHING: f64 = 0.5;

/// Powers near `target`: what was told as far as plans and limits leave it, then the call. What is left by limits of sites and least
/// charging powers is for all to fill.
pub(crate) fn called(pool: &Pool, limits: &Limits, target: f64) -> Vec<f64> {
    let planned: Vec<Band> = (0..pool.len())
        .map(|i| Band::planned(pool, limits, i))
        .collect();
    let mut call = Call::new(pool, limits, planned, false);
    let left = call.reach(target);
    if left.abs() <= NOTHING {
        return call.base;
    }
    // More than was planned for: all give their share, and some go on to their limits.
    let beyond = |(i, band): (usize, &Band)| {
        if left > 0.0 {
            Band::new(band.ceiling, band.ceiling, limits.high[i])
        } else {
            Band::new(limits.low[i], band.floor, band.floor)
        }
    };
    let further = call.bands.iter().enumerate().map(beyond).collect();
    let mut call = Call::new(pool, limits, further, true);
    call.reach(target);
    call.base
}

/// Between which powers a unit may be put, and where it rests if nothing is called.
#[derive(Debug, Clone, Copy)]
struct Band {
    floor: f64,
    rest: f64,
    ceiling: f64,
}

impl Band {
    fn new(floor: f64, rest: f64, ceiling: f64) -> Self {
        Self {
            floor: floor.min(rest),
            rest,
            ceiling: ceiling.max(rest),
        }
    }

    /// The plan and the planned shares of a call. Nobody is to rest between nothing and the least charging power.
    fn planned(pool: &Pool, limits: &Limits, i: usize) -> Self {
        let (low, high) = (limits.low[i], limits.high[i]);
        let rest = pool.plan[i].clamp(low, high);
        let mut floor = (rest - pool.up[i]).max(low);
        let mut ceiling = (rest + pool.down[i]).min(high);
        let least = pool.min_charge[i];
        if floor > 0.0 && floor < least {
            floor = least;
        }
        if ceiling > 0.0 && ceiling < least {
            ceiling = rest;
        }
        Self::new(floor, rest, ceiling)
    }
}

struct Call<'a> {
    pool: &'a Pool,
    bands: Vec<Band>,
    base: Vec<f64>,
    /// Those whose turn is over; others go before them.
    over: Vec<bool>,
    /// Room of each site below and above the sum of its units.
    room: Vec<(f64, f64)>,
    /// Those that leave their plan most easily go first.
    by_ease: bool,
}

impl<'a> Call<'a> {
    fn new(pool: &'a Pool, limits: &Limits, bands: Vec<Band>, by_ease: bool) -> Self {
        let mut call = Self {
            pool,
            base: Vec::with_capacity(bands.len()),
            over: vec![false; bands.len()],
            room: Vec::with_capacity(pool.sites.len()),
            by_ease,
            bands,
        };
        for i in 0..call.bands.len() {
            let at = call.begins(i);
            call.base.push(at);
        }
        for (site, bounds) in pool.sites.iter().zip(&limits.sites) {
            let sum: f64 = call.base[site.units.clone()].iter().sum();
            call.room.push((sum - bounds.0, bounds.1 - sum));
        }
        call
    }

    /// Where a unit is before the call moves it: as it was told, unless that is outside its band or its turn is over.
    fn begins(&mut self, i: usize) -> f64 {
        let band = self.bands[i];
        let Some(told) = &self.pool.told[i] else {
            return band.rest;
        };
        let at = real(told.power).clamp(band.floor, band.ceiling);
        let turn = TURN + TimeDelta::seconds(i64::try_from(i).unwrap_or(0) % SPREAD);
        self.over[i] = (at - band.rest).abs() > NOTHING && told.age >= turn;
        let rests = at <= 0.0 || at >= self.pool.min_charge[i];
        if rests && !self.over[i] {
            at
        } else {
            band.rest
        }
    }

    /// Moves units until they add up to `target`; gives what is missing.
    fn reach(&mut self, target: f64) -> f64 {
        let left = target - self.base.iter().sum::<f64>();
        if left > NOTHING {
            // Those that give up come back before others give down.
            let left = self.raise(left, |band| band.rest);
            self.raise(left, |band| band.ceiling)
        } else if left < -NOTHING {
            let left = self.lower(-left, |band| band.rest);
            -self.lower(left, |band| band.floor)
        } else {
            left
        }
    }

    /// Units that `wanted` moves, those first that have waited longest; those that `starts` says after the others.
    fn turns(
        &self,
        wanted: impl Fn(usize) -> bool,
        starts: impl Fn(usize) -> bool,
    ) -> Vec<(usize, usize)> {
        let sites = self.pool.sites.iter().enumerate();
        let of_site = |(s, site): (usize, &Site)| site.units.clone().map(move |i| (s, i));
        let mut order: Vec<(usize, usize)> = sites
            .flat_map(of_site)
            .filter(|(_, i)| wanted(*i))
            .collect();
        let ease = |i: usize| if self.by_ease { self.pool.ease[i] } else { 0.0 };
        let waited = |i: usize| self.pool.told[i].as_ref().map(|told| told.age);
        order.sort_by(|(_, a), (_, b)| {
            let over = self.over[*a].cmp(&self.over[*b]);
            over.then(starts(*a).cmp(&starts(*b)))
                .then(ease(*b).total_cmp(&ease(*a)))
                .then(waited(*b).cmp(&waited(*a)))
                .then(a.cmp(b))
        });
        order
    }

    /// Raises units to `edge` until `left` watts are found; gives what is not.
    fn raise(&mut self, mut left: f64, edge: impl Fn(&Band) -> f64) -> f64 {
        // Who charges already stays on before others are switched on.
        let starts = |i: usize| self.base[i] <= 0.0 && !self.pool.on[i];
        for (site, i) in self.turns(|i| self.base[i] < edge(&self.bands[i]), starts) {
            if left <= NOTHING {
                break;
            }
            let room = (edge(&self.bands[i]) - self.base[i]).min(self.room[site].1);
            let mut to = self.base[i] + room.min(left).max(0.0);
            if to > 0.0 && to < self.pool.min_charge[i] {
                to = self.base[i].max(0.0);
            }
            left -= self.place(site, i, to);
        }
        left
    }

    /// Lowers units to `edge` until `left` watts are found; gives what is not.
    fn lower(&mut self, mut left: f64, edge: impl Fn(&Band) -> f64) -> f64 {
        for (site, i) in self.turns(|i| self.base[i] > edge(&self.bands[i]), |_| false) {
            if left <= NOTHING {
                break;
            }
            let room = (self.base[i] - edge(&self.bands[i])).min(self.room[site].0);
            let mut to = self.base[i] - room.min(left).max(0.0);
            if to > 0.0 && to < self.pool.min_charge[i] {
                to = self.pool.min_charge[i].min(self.base[i]);
            }
            left += self.place(site, i, to);
        }
        left
    }

    /// Puts a unit at `to`; answers by how much that raised it.
    fn place(&mut self, site: usize, i: usize, to: f64) -> f64 {
        let raised = to - self.base[i];
        self.base[i] = to;
        self.room[site].0 += raised;
        self.room[site].1 -= raised;
        raised
    }
}
