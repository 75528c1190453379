//! Day-ahead: what is offered at noon, and what becomes of it.
//!
//! The offer for a day is an exclusive group of schedules: one for each picture of what the prices could look like,
//! each the pool's best answer to that picture, all doing the same work. The auction takes the one that is cheapest at
//! the prices it finds (`optimisation.md` 7.4), which are not known when the offer is made.

use std::ops::Range;

use market::Product;
use units::DeliveryDay;

use super::Rolling;
use super::known::{Known, gate_of};
use super::player::Player;
use super::pool::{self, Market, Pool};
use crate::case::{Planning, Risk};
use crate::policy::risk;

/// Past price shapes offered beside the expected one; exchanges take about two dozen schedules in one group.
const PICTURES: usize = 20;

/// How far a schedule may lean from the mean of the pictures towards the mean of the dear ones, the same whatever risk is
/// minded: of one choice the one judged best has a dearer mean and a cheaper tail as `beta` grows.
const LEANS: [f64; 5] = [0.0, 0.5, 1.0, 1.5, 2.0];

/// Share of the pictures that are dear ones: so many that their mean is not the shape of one of them, which no day repeats.
const DEAR: f64 = 0.3;

/// An exclusive group of schedules for one delivery day.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// Day of delivery.
    pub(crate) day: DeliveryDay,
    /// Steps of the period it covers.
    pub(crate) steps: Range<usize>,
    /// The schedules.
    pub(crate) profiles: Vec<Profile>,
    /// The schedules that would have been offered, by weight of the dear tail, where that is asked for.
    pub(crate) rivals: Vec<(f64, Vec<Profile>)>,
    /// The one that was taken, once known, and what the day is then expected to cost, currency.
    pub(crate) taken: Option<usize>,
    /// See `taken`.
    pub(crate) expected_cost: f64,
}

impl Offer {
    /// The day and what it is expected to cost; `None` while its price is not out.
    pub(crate) fn planned(&self) -> Option<(Range<usize>, f64)> {
        self.taken.map(|_| (self.steps.clone(), self.expected_cost))
    }
}

/// One schedule of the group.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Volume per step of the day, kW, positive is bought.
    pub(crate) kw: Vec<f64>,
    /// What doing this costs besides the energy bought here, currency: its limit.
    pub(crate) other_cost: f64,
    /// Expected load per step of the day, kW.
    pub(crate) load: Vec<f64>,
    /// Expected fees, wear and imbalance of the day, currency.
    pub(crate) beside: f64,
}

impl Rolling<'_> {
    /// Bids for every day whose gate closes before the next step begins.
    pub(super) fn bid_if_a_gate_closes(&mut self, known: &Known<'_>) {
        if !self.case.day_ahead {
            return;
        }
        let now = known.instant();
        let next = now + self.case.grid.step;
        let today = DeliveryDay::containing(now, self.case.area.exchange_zone());
        for day in [today.next(), today.plus(2)] {
            let closes = gate_of(self.case.area, Product::DayAhead, day).closes;
            if closes > now && closes <= next {
                self.bid_day_ahead(known, day);
            }
        }
    }

    /// Makes the offer for `day`.
    pub(super) fn bid_day_ahead(&mut self, known: &Known<'_>, day: DeliveryDay) {
        let grid = &self.case.grid;
        let steps = grid.first_from(day.start())..grid.first_from(day.end());
        if steps.is_empty() || !self.case.day_ahead {
            return;
        }
        let mut pictures = vec![self.market.price[steps.clone()].to_vec()];
        if self.case.risk.planning == Planning::Stochastic {
            pictures.extend(known.price_pictures(steps.clone(), PICTURES));
        }
        let group = |risk: Risk| -> Vec<Profile> {
            let profile = |prices: &Vec<f64>| self.profile(known, &steps, prices, risk);
            pictures.iter().map(profile).collect()
        };
        let profiles = group(self.case.risk);
        let rivals = self.case.scoring.iter().flat_map(|s| &s.betas);
        let rivals = rivals
            .map(|beta| {
                let risk = Risk {
                    beta: *beta,
                    ..self.case.risk
                };
                let same = beta.to_bits() == self.case.risk.beta.to_bits();
                let group = if same { profiles.clone() } else { group(risk) };
                (*beta, group)
            })
            .collect();
        self.pending.push(Offer {
            day,
            steps,
            profiles,
            rivals,
            taken: None,
            expected_cost: 0.0,
        });
    }

    /// The pool's best schedule at `prices` of the day, as a two-stage problem: the schedule first, then in every picture
    /// of the fleet the vehicles answer it, a deviation settling at the imbalance price.
    pub(super) fn profile(
        &self,
        known: &Known<'_>,
        steps: &Range<usize>,
        prices: &[f64],
        risk: Risk,
    ) -> Profile {
        let mut market = self.market.clone();
        market.price[steps.clone()].copy_from_slice(prices);
        market.sold[steps.clone()].fill(None);
        let touches = |p: &&Player| !p.ahead().is_empty() && p.session.steps().end > steps.start;
        let mut players: Vec<Player> = self.players.iter().filter(touches).cloned().collect();
        let mut pool = self.pool.clone();
        self.respond_all(known, &mut pool, &market, &mut players);
        let costs = self.costs(&market, &pool, &players, steps);
        let dear = Risk {
            beta: 1.0,
            cvar_alpha: 1.0 - DEAR,
            ..risk
        };
        let dear = risk::weighed(dear, &costs, pool.odds());
        let ends: Vec<(f64, f64)> = steps
            .clone()
            .map(|t| {
                let sold = |odds: &[f64]| self.sold_ahead(pool.loads(t), odds);
                (sold(pool.odds()), sold(&dear))
            })
            .collect();
        let mut best: Option<(f64, Vec<f64>)> = None;
        for lean in LEANS {
            let leaning = |(usual, dear): &(f64, f64)| usual + lean * (dear - usual);
            let kw: Vec<f64> = ends.iter().map(leaning).collect();
            for (t, kw) in steps.clone().zip(&kw) {
                market.sold[t] = Some(*kw);
            }
            let settled = self.costs(&market, &pool, &players, steps);
            let judged = risk::judged(risk, &settled, pool.odds());
            if best.as_ref().is_none_or(|(least, _)| judged < *least) {
                best = Some((judged, kw));
            }
        }
        let kw = best.map_or_else(Vec::new, |(_, kw)| kw);
        for (t, kw) in steps.clone().zip(&kw) {
            market.sold[t] = Some(*kw);
        }
        self.respond_all(known, &mut pool, &market, &mut players);
        // The auction compares schedules at one price: what pictures draw beyond them is reckoned at one as well, or a
        // schedule made for low prices would seem to draw it cheaply.
        let expected = &self.market.price[steps.clone()];
        market.price[steps.clone()].copy_from_slice(expected);
        let costs = self.costs(&market, &pool, &players, steps);
        let mwh = self.case.grid.hours() / 1000.0;
        let bought: f64 = kw.iter().zip(expected).map(|(q, l)| q * l * mwh).sum();
        let elsewhere: f64 = (known.now..self.case.grid.steps)
            .filter(|t| !steps.contains(t))
            .map(|t| market.price[t] * pool.load(t) * mwh)
            .sum();
        Profile {
            other_cost: elsewhere + risk::judged(risk, &costs, pool.odds()) - bought,
            load: steps.clone().map(|t| pool.load(t)).collect(),
            beside: self.beside(&market, &pool, &players, steps),
            kw,
        }
    }

    /// The quantity to sell ahead for a step in which the pictures draw `loads`, kW. Vehicles that can wait spread over
    /// the pictures and make up for each other: their mean. Those that cannot are there or are not: the median, which
    /// costs least when deviations cost alike both ways.
    fn sold_ahead(&self, loads: impl Iterator<Item = f64>, odds: &[f64]) -> f64 {
        if self.case.fleet.departure_known {
            loads.zip(odds).map(|(kw, p)| kw * p).sum()
        } else {
            risk::median(loads, odds)
        }
    }

    /// Lets all of `players` answer once.
    fn respond_all(
        &self,
        known: &Known<'_>,
        pool: &mut Pool,
        market: &Market,
        players: &mut [Player],
    ) {
        for player in players {
            // A vehicle without a schedule under these limits keeps the one it has.
            let _ = pool::respond(self.case, known, pool, market, player, self.discharges());
        }
    }

    /// What each picture costs, currency: energy and deviations within `steps`, fees and wear of its vehicles.
    pub(super) fn costs(
        &self,
        market: &Market,
        pool: &Pool,
        players: &[Player],
        steps: &Range<usize>,
    ) -> Vec<f64> {
        let (costs, mwh) = (self.case.costs, self.case.grid.hours() / 1000.0);
        let (short, long) = market.spreads;
        let mut sums = vec![0.0; pool.odds().len()];
        for t in steps.clone() {
            for (sum, load) in sums.iter_mut().zip(pool.loads(t)) {
                let off = market.sold[t].map_or(0.0, |sold| load - sold);
                *sum += mwh * (market.price[t] * load + off.max(0.0) * short - off.min(0.0) * long);
            }
        }
        let mut all = 0.0;
        for p in players {
            let charge: f64 = p.charge[p.next..].iter().sum();
            let discharge: f64 = p.discharge[p.next..].iter().sum();
            let fees = mwh * (costs.import * charge + (costs.export + costs.wear) * discharge);
            match p.real {
                Some(_) => all += fees,
                None => sums[p.picture] += p.part * fees,
            }
        }
        sums.iter().map(|s| s + all).collect()
    }

    /// Fees, wear and imbalance expected within `steps`, currency.
    fn beside(
        &self,
        market: &Market,
        pool: &Pool,
        players: &[Player],
        steps: &Range<usize>,
    ) -> f64 {
        let (costs, (short, long)) = (self.case.costs, market.spreads);
        let fees = |p: &Player, t: usize| {
            let j = t
                .checked_sub(p.session.first)
                .filter(|j| *j < p.charge.len());
            j.map_or(0.0, |j| {
                costs.import * p.charge[j] + (costs.export + costs.wear) * p.discharge[j]
            })
        };
        let step = |t: usize| {
            let off = pool.loads(t).zip(pool.odds()).map(|(load, odds)| {
                let off = market.sold[t].map_or(0.0, |sold| load - sold);
                odds * (off.max(0.0) * short - off.min(0.0) * long)
            });
            let fees = players.iter().map(|p| p.weight * fees(p, t));
            off.sum::<f64>() + fees.sum::<f64>()
        };
        steps.clone().map(step).sum::<f64>() * self.case.grid.hours() / 1000.0
    }

    /// Takes in results that are out: the schedule that is cheapest at the prices found becomes the position.
    pub(super) fn clear(&mut self, known: &Known<'_>) -> bool {
        let mut cleared = false;
        let mut waiting = Vec::new();
        for mut offer in std::mem::take(&mut self.pending) {
            let prices: Option<Vec<f64>> = offer.steps.clone().map(|t| known.price(t)).collect();
            let Some(prices) = prices else {
                waiting.push(offer);
                continue;
            };
            let mwh = self.case.grid.hours() / 1000.0;
            offer.taken = cheapest(&offer.profiles, &prices, mwh);
            if let Some(profile) = offer.taken.and_then(|i| offer.profiles.get(i)) {
                for (t, kw) in offer.steps.clone().zip(&profile.kw) {
                    self.market.sold[t] = Some(*kw);
                }
                let energy: f64 = profile.load.iter().zip(&prices).map(|(q, l)| q * l).sum();
                offer.expected_cost = energy * mwh + profile.beside;
            }
            self.offers.push(offer);
            cleared = true;
        }
        self.pending = waiting;
        cleared
    }
}

/// Which of a group of schedules the auction takes at `prices`: the one that is cheapest then, `mwh` being the energy of a kW
/// in one step.
pub(super) fn cheapest(profiles: &[Profile], prices: &[f64], mwh: f64) -> Option<usize> {
    let cost = |p: &Profile| {
        let bought: f64 = p.kw.iter().zip(prices).map(|(q, l)| q * l * mwh).sum();
        p.other_cost + bought
    };
    (0..profiles.len()).min_by(|a, b| cost(&profiles[*a]).total_cmp(&cost(&profiles[*b])))
}
