//! How good a day's plan is in ways the day may go that it was not made from (`optimisation.md` 6.2).
//!
//! What is realised is one way for each day, and the dear tail of a few hundred days is mostly what energy costs on dear
//! days, whatever is planned. So once the day's prices are out the fleet is drawn anew, and in every way the vehicles
//! answer as they would on the day. Positions made with other weights of the tail, from the same knowledge, are scored beside
//! the one that was sold, in the same ways: what they differ by is the weight alone.

use std::ops::Range;

use super::Rolling;
use super::ahead::{Offer, Profile, cheapest};
use super::hold::Hold;
use super::known::Known;
use super::player::Player;
use super::pool::{self, Market, Pool};
use super::sold::Award;
use crate::policy::outcome::weighed_tail;
use crate::policy::penalty::Penalty;

/// Seed of the ways drawn: another than that of the ways planned for.
const SEED: u64 = 1;

/// What the positions of one day cost over ways drawn afresh.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Steps of the period that it covers.
    pub steps: Range<usize>,
    /// One for each weight of the dear tail asked for, in that order.
    pub positions: Vec<Scored>,
}

/// What one position costs, currency, what is sold and held of reserve included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Weight of the dear tail it was made with.
    pub beta: f64,
    /// Mean cost.
    pub mean: f64,
    /// Mean of the dearest `1 - cvar_alpha`.
    pub tail: f64,
}

impl Rolling<'_> {
    /// Scores the days whose position has just become known.
    pub(super) fn score_days(&mut self, known: &Known<'_>) {
        let Some(scoring) = &self.case.scoring else {
            return;
        };
        while let Some(offer) = self.offers.get(self.scores.len()) {
            let score = self.score(known, offer, scoring.ways);
            self.scores.push(score);
        }
    }

    fn score(&self, known: &Known<'_>, offer: &Offer, count: usize) -> Score {
        let (steps, mwh) = (offer.steps.clone(), self.case.grid.hours() / 1000.0);
        let span = (known.instant(), offer.day.end());
        let ways = self.past.ways(self.case, span, (count, count), SEED);
        let mut pool = self.pool.clone();
        pool.imagine(ways.iter().map(|w| w.odds).collect());
        let there = self.players.iter().filter(|p| p.real.is_some());
        let mut players: Vec<Player> = there.cloned().collect();
        for (picture, way) in ways.into_iter().enumerate() {
            let come = way.players.into_iter();
            players.extend(come.map(|player| player.expected(picture, way.odds, 1.0)));
        }
        self.hold_awards(&mut players, known, &steps, pool.odds().len());
        let scored = |(beta, profiles): &(f64, Vec<Profile>)| {
            let taken = cheapest(profiles, &self.market.price[steps.clone()], mwh)?;
            let mut market = self.market.clone();
            for (t, kw) in steps.clone().zip(&profiles[taken].kw) {
                market.sold[t] = Some(*kw);
            }
            let (mut pool, mut players) = (pool.clone(), players.clone());
            for _ in 0..super::ROUNDS {
                self.answer_all(known, &market, &mut pool, &mut players);
            }
            let mut costs = self.costs(&market, &pool, &players, &steps);
            self.add_reserve(&mut costs, &players, &steps);
            Some(Scored {
                beta: *beta,
                mean: costs.iter().zip(pool.odds()).map(|(c, p)| c * p).sum(),
                tail: weighed_tail(&costs, pool.odds(), self.case.risk.cvar_alpha),
            })
        };
        Score {
            positions: offer.rivals.iter().filter_map(scored).collect(),
            steps,
        }
    }

    /// All answer once; who would be short for what it holds gives it up.
    fn answer_all(
        &self,
        known: &Known<'_>,
        market: &Market,
        pool: &mut Pool,
        players: &mut [Player],
    ) {
        let mut respond = |player: &mut Player| {
            let discharge = self.discharges();
            let answer = pool::respond(self.case, known, pool, market, player, discharge);
            answer.is_ok_and(|plan| plan.short_kwh < 1e-6)
        };
        for player in players {
            if !player.ahead().is_empty() && !respond(player) && player.holds_any() {
                player.release_holds();
                respond(player);
            }
        }
    }

    /// Takes off what awards within `steps` pay, and adds what is taken for what is not held in each picture.
    fn add_reserve(&self, costs: &mut [f64], players: &[Player], steps: &Range<usize>) {
        let hours = self.case.grid.hours();
        for award in self.awards(steps) {
            let Award { product, mw, .. } = award;
            let reserve = &self.case.reserves[product];
            let Some((block, _)) = reserve.on_sale().nth(award.block) else {
                continue;
            };
            let paid = self.paid[product][award.block] / block.hours();
            let published = block.price / block.hours();
            let start = self.case.grid.at(award.steps.start);
            let rule = Penalty::of(self.case.area, reserve.product, start);
            for t in award.steps {
                let rate = rule.per_mw_h(paid, published, self.market.price[t], true);
                let missing = self.missing(players, product, t, mw, costs.len());
                for (cost, missing) in costs.iter_mut().zip(missing) {
                    *cost += hours * (missing * rate - mw * paid);
                }
            }
        }
    }

    /// What is not held in step `t` of `mw` sold, MW, in each of `pictures`.
    fn missing(
        &self,
        players: &[Player],
        product: usize,
        t: usize,
        mw: f64,
        pictures: usize,
    ) -> Vec<f64> {
        let direction = self.case.reserves[product].direction();
        let mut there = Hold::default();
        let mut come = vec![Hold::default(); pictures];
        for player in players.iter().filter(|p| p.session.share_at(t) >= 1.0) {
            let hold = player.hold(product, t).unwrap_or_default();
            let sum = match player.real {
                Some(_) => &mut there,
                None => &mut come[player.picture],
            };
            sum.up += hold.up;
            sum.down += hold.down;
        }
        let missing = |come: Hold| {
            let held = Hold {
                up: there.up + come.up,
                down: there.down + come.down,
            };
            (mw - held.counts(direction) / 1000.0).max(0.0)
        };
        come.into_iter().map(missing).collect()
    }
}
