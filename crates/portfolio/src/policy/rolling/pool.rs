//! The pool's plan so far, and the best answer of one vehicle to it.
//!
//! Each vehicle solves its own storage problem exactly, against what the others have planned: the price of the pool's
//! energy has a kink where the pool meets its sold position, and a site's limit leaves what the others do not use. An
//! answer never leaves a site worse than it was, and a vehicle's plan so far always stays possible, so the plan stays
//! feasible after every single answer.

use crate::case::Case;
use crate::storage::{self, Battery, NoPlan, Piece, Plan, Step};

use super::hold::{self, Terms};
use super::known::Known;
use super::player::Player;

/// Price of energy missing at departure, currency per kWh: above anything a market can pay, so that a vehicle is
/// short only where nothing else is possible.
const MISSING_PER_KWH: f64 = 1000.0;

/// Preference for charging early, currency per `MWh` and step: decides between equal prices, in favour of what is safe.
const EARLY_PER_STEP: f64 = 1e-3;

/// Expected prices and the position, per step of the grid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Market {
    /// Expected or published day-ahead price.
    pub(crate) price: Vec<f64>,
    /// Position sold, kW; `None` where it is still to be sold.
    pub(crate) sold: Vec<Option<f64>>,
    /// Expected distance of the price for being short and for being long, per `MWh`.
    pub(crate) spreads: (f64, f64),
}

/// What all vehicles plan together.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    /// Net power of plugged-in vehicles, kW per step.
    sure: Vec<f64>,
    /// Net power of the vehicles still to come in each picture, kW: `[picture][step]`.
    pictured: Vec<Vec<f64>>,
    /// Probability of each picture; they add to 1.
    odds: Vec<f64>,
    /// The pictures' loads in each step, alike ones taken together: kW and probability, falling; empty where they have
    /// changed since.
    groups: Vec<Vec<(f64, f64)>>,
    /// What holding each reserve product asks.
    pub(crate) terms: Vec<Terms>,
    /// Charging and discharging of plugged-in vehicles behind each site, kW: `[site][step]`.
    charge: Vec<Vec<f64>>,
    discharge: Vec<Vec<f64>>,
    /// Expected net power of vehicles still to come, kW: `[site][step]`.
    coming: Vec<Vec<f64>>,
    /// Power kept free for vehicles still to come, kW: `[site][step]`.
    pub(crate) kept: Vec<Vec<f64>>,
    /// Whether a site may have too little for all that are there or may come, within a day.
    pub(crate) contested: Vec<bool>,
    /// Draw of each site up to which the month's demand charge is spent anyway, kW.
    pub(crate) paid_peak: Vec<f64>,
}

impl Pool {
    /// Nobody has planned anything.
    pub(crate) fn new(case: &Case) -> Self {
        let none = vec![vec![0.0; case.grid.steps]; case.sites.len()];
        Self {
            sure: vec![0.0; case.grid.steps],
            pictured: vec![vec![0.0; case.grid.steps]],
            odds: vec![1.0],
            groups: vec![Vec::new(); case.grid.steps],
            terms: hold::terms(case),
            charge: none.clone(),
            discharge: none.clone(),
            coming: none.clone(),
            kept: none,
            contested: vec![false; case.sites.len()],
            paid_peak: vec![0.0; case.sites.len()],
        }
    }

    /// Forgets the vehicles still to come; the next ones come in pictures of these probabilities.
    pub(crate) fn imagine(&mut self, odds: Vec<f64>) {
        let steps = self.sure.len();
        for coming in &mut self.coming {
            coming.fill(0.0);
        }
        self.pictured.clear();
        self.pictured.resize(odds.len().max(1), vec![0.0; steps]);
        self.odds = if odds.is_empty() { vec![1.0] } else { odds };
        self.groups.fill(Vec::new());
    }

    /// Probability of each picture.
    pub(crate) fn odds(&self) -> &[f64] {
        &self.odds
    }

    /// Net power in each picture in step `t`, kW.
    pub(crate) fn loads(&self, t: usize) -> impl Iterator<Item = f64> {
        self.pictured.iter().map(move |p| self.sure[t] + p[t])
    }

    /// Expected net power in step `t`, kW.
    pub(crate) fn load(&self, t: usize) -> f64 {
        self.loads(t).zip(&self.odds).map(|(kw, p)| kw * p).sum()
    }

    /// Counts a vehicle's plan from its next step on (`sign` 1), or takes it out (-1).
    pub(crate) fn count(&mut self, player: &Player, sign: f64) {
        for t in player.ahead() {
            let j = t - player.session.first;
            let (charge, discharge) = (player.charge[j], player.discharge[j]);
            let net = sign * (charge - discharge);
            match player.real {
                Some(_) => self.sure[t] += net,
                None => {
                    self.pictured[player.picture][t] += player.part * net;
                    self.groups[t].clear();
                }
            }
            if let Some(site) = player.session.site {
                if player.real.is_some() {
                    self.charge[site][t] += sign * charge;
                    self.discharge[site][t] += sign * discharge;
                } else {
                    self.coming[site][t] += sign * player.weight * (charge - discharge);
                }
            }
        }
    }

    /// Takes the pictures' loads together in each of `steps` in which they have changed.
    fn group(&mut self, steps: std::ops::Range<usize>) {
        for t in steps {
            if !self.groups[t].is_empty() {
                continue;
            }
            let pictured = self.pictured.iter().map(|p| p[t]);
            let mut loads: Vec<(f64, f64)> = pictured.zip(self.odds.iter().copied()).collect();
            loads.sort_by(|a, b| b.0.total_cmp(&a.0));
            let size = loads.len().div_ceil(GROUPS).max(1);
            let groups = &mut self.groups[t];
            for group in loads.chunks(size) {
                let odds: f64 = group.iter().map(|g| g.1).sum();
                let mean = group.iter().map(|g| g.0 * g.1).sum::<f64>() / odds.max(1e-12);
                match groups.last_mut() {
                    Some(last) if last.0 - mean < 1e-6 => last.1 += odds,
                    _ => groups.push((mean, odds)),
                }
            }
        }
    }

    /// Net power that plugged-in vehicles behind a site have planned in a step, kW.
    pub(crate) fn site_net(&self, site: usize, t: usize) -> f64 {
        self.charge[site][t] - self.discharge[site][t]
    }

    /// The site, this vehicle included, draws more than the month's demand charge is paid for.
    fn peak_kink(&self, known: &Known<'_>, case: &Case, player: &Player, t: usize) -> Option<Kink> {
        if case.costs.demand <= 0.0 {
            return None;
        }
        let site = player.session.site?;
        let others = known.base(site, t) + self.site_net(site, t) + self.coming[site][t];
        Some(Kink {
            at: (self.paid_peak[site] - others) / player.weight,
            below: 0.0,
            // One kW more in one step is paid for the whole month.
            above: case.costs.demand * 1000.0 / case.grid.hours(),
        })
    }

    /// Least and most net power a vehicle may take beside the others' plans, kW. The vehicle itself must not be
    /// counted. `own` is its plan so far, which stays allowed even where it uses what is kept for others.
    fn room(
        &self,
        known: &Known<'_>,
        case: &Case,
        player: &Player,
        t: usize,
        own: f64,
    ) -> (f64, f64) {
        let Some(index) = player.session.site else {
            return (f64::NEG_INFINITY, f64::INFINITY);
        };
        let site = &case.sites[index];
        if site.import_kw.is_infinite() && site.export_kw.is_infinite() {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let base = known.base(index, t);
        let (charge, discharge) = (self.charge[index][t], self.discharge[index][t]);
        // A vehicle that may leave at any time cannot be counted on to offset another.
        let (above, below) = if case.fleet.departure_known {
            (charge - discharge, charge - discharge)
        } else {
            (charge, -discharge)
        };
        if player.real.is_none() {
            let others = base + above + self.coming[index][t];
            let low = (-site.export_kw - base - below - self.coming[index][t]) / player.weight;
            return (
                low.min(0.0),
                ((site.import_kw - others) / player.weight).max(0.0),
            );
        }
        let most = site.import_kw - base - above;
        let spared = most - self.kept[index][t];
        let low = -site.export_kw - base - below;
        (low, spared.max(own.min(most)))
    }
}

/// A vehicle's steps as the storage kernel takes them.
pub(crate) fn steps(
    case: &Case,
    known: &Known<'_>,
    pool: &Pool,
    market: &Market,
    player: &Player,
    discharge: bool,
) -> Vec<Step> {
    let session = &player.session;
    // Where there may be too little for all, what a vehicle has of its goal is not given away.
    let contested = session.site.is_some_and(|site| pool.contested[site]);
    let owed_floor = if contested {
        player.energy.min(session.goal)
    } else {
        0.0
    };
    // When an expected vehicle would leave is not known either: nothing is built on what it could give back.
    let discharge = discharge && (player.real.is_some() || player.at_once.is_none());
    let hours = case.grid.hours();
    player
        .ahead()
        .map(|t| {
            let j = t - session.first;
            let share = session.share[j];
            let charge_kw = share * session.stay.charge_kw;
            let discharge_kw = if discharge {
                share * session.discharge_kw
            } else {
                0.0
            };
            let (low, high) = pool.room(known, case, player, t, player.net(t));
            let price = market.price[t];
            #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
            let wait = EARLY_PER_STEP * (t - known.now.min(t)) as f64;
            let mut kinks = Vec::new();
            kinks.extend(position_kinks(market, pool, player, t));
            kinks.extend(pool.peak_kink(known, case, player, t));
            let net = pieces(kinks);
            let (up_kw, down_kw) = player.power_kept(&pool.terms, j);
            let (up_kwh, down_kwh) = player.energy_kept(&pool.terms, j);
            let floor = player
                .at_once
                .as_ref()
                .map_or(session.floor, |levels| session.floor.max(levels[j]))
                .max(owed_floor);
            Step {
                hours,
                charge_kw,
                discharge_kw,
                charge_price: price + case.costs.import + wait,
                discharge_price: case.costs.export + case.costs.wear - price,
                net,
                low_kw: low.max(up_kw - discharge_kw).min(charge_kw),
                high_kw: high.min(charge_kw - down_kw).max(-discharge_kw),
                floor_kwh: floor + up_kwh,
                ceiling_kwh: session.stay.capacity_kwh - down_kwh,
            }
        })
        .collect()
}

/// Where the marginal price of a vehicle's net power changes: at `at` kW from `below` to `above`, per `MWh`.
#[derive(Debug, Clone, Copy)]
struct Kink {
    at: f64,
    below: f64,
    above: f64,
}

/// Kinks that stand for the pictures at most: more change costs by less than a thousandth and time by a third.
const GROUPS: usize = 4;

/// Where the pool, this vehicle included, meets its sold position: for a vehicle to come in its own picture, for one
/// that is there in each picture with its probability, alike ones taken together.
fn position_kinks(market: &Market, pool: &Pool, player: &Player, t: usize) -> Vec<Kink> {
    let Some(sold) = market.sold[t] else {
        return Vec::new();
    };
    let (short, long) = market.spreads;
    let kink = |at: f64, odds: f64| Kink {
        at,
        below: -long * odds,
        above: short * odds,
    };
    let left = sold - pool.sure[t];
    if player.real.is_none() {
        return vec![kink(
            (left - pool.pictured[player.picture][t]) / player.part,
            1.0,
        )];
    }
    let groups = pool.groups[t].iter();
    groups
        .map(|(load, odds)| kink(left - load, *odds))
        .collect()
}

/// All kinks together as marginal prices of net power, rising.
fn pieces(mut kinks: Vec<Kink>) -> Vec<Piece> {
    kinks.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut price: f64 = kinks.iter().map(|k| k.below).sum();
    let mut pieces = Vec::with_capacity(kinks.len() + 1);
    for kink in &kinks {
        pieces.push(Piece {
            up_to_kw: kink.at,
            eur_per_mwh: price,
        });
        price += kink.above - kink.below;
    }
    if !pieces.is_empty() {
        pieces.push(Piece {
            up_to_kw: f64::INFINITY,
            eur_per_mwh: price,
        });
    }
    pieces
}

/// Lets one vehicle answer the others' plans; its plan in the pool is replaced.
///
/// # Errors
/// [`NoPlan`] where limits leave the vehicle no schedule; its plan so far then stands.
pub(crate) fn respond(
    case: &Case,
    known: &Known<'_>,
    pool: &mut Pool,
    market: &Market,
    player: &mut Player,
    discharge: bool,
) -> Result<Plan, NoPlan> {
    pool.count(player, -1.0);
    if player.real.is_some() {
        pool.group(player.ahead());
    }
    let steps = steps(case, known, pool, market, player, discharge);
    let battery = Battery {
        arrival_kwh: player.energy,
        charge_efficiency: case.fleet.charge_efficiency,
        discharge_efficiency: case.fleet.discharge_efficiency,
        goal_kwh: player.session.goal,
        shortfall: MISSING_PER_KWH,
        end_value: 0.0,
    };
    let answer = storage::cheapest(&battery, &steps);
    if let Ok(plan) = &answer {
        player.worth.resize(player.charge.len(), 0.0);
        player.worth[player.next..].copy_from_slice(&plan.energy_value);
        player.charge[player.next..].copy_from_slice(&plan.charge_kw);
        player.discharge[player.next..].copy_from_slice(&plan.discharge_kw);
    }
    pool.count(player, 1.0);
    answer
}
