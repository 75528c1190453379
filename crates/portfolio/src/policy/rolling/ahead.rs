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

/// Past price shapes offered beside the expected one; exchanges take about two dozen schedules in one group.
const PICTURES: usize = 20;

/// An exclusive group of schedules for one delivery day.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// Day of delivery.
    pub(crate) day: DeliveryDay,
    /// Steps of the period it covers.
    pub(crate) steps: Range<usize>,
    /// The schedules.
    pub(crate) profiles: Vec<Profile>,
    /// The one that was taken, once known.
    pub(crate) taken: Option<usize>,
}

/// One schedule of the group.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Volume per step of the day, kW, positive is bought.
    pub(crate) kw: Vec<f64>,
    /// What doing this costs besides the energy bought here, currency: its limit.
    pub(crate) other_cost: f64,
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
        pictures.extend(known.price_pictures(steps.clone(), PICTURES));
        let profiles = pictures
            .iter()
            .map(|prices| self.profile(known, &steps, prices))
            .collect();
        self.pending.push(Offer {
            day,
            steps,
            profiles,
            taken: None,
        });
    }

    /// The pool's best answer to prices of the day.
    pub(super) fn profile(
        &self,
        known: &Known<'_>,
        steps: &Range<usize>,
        prices: &[f64],
    ) -> Profile {
        let mut market = self.market.clone();
        market.price[steps.clone()].copy_from_slice(prices);
        let (mut players, mut pool) = (self.players.clone(), self.pool.clone());
        let discharge = self.discharges();
        for player in players.iter_mut().filter(|p| !p.ahead().is_empty()) {
            // A vehicle without a schedule under these limits keeps the one it has.
            let _ = super::pool::respond(self.case, known, &mut pool, &market, player, discharge);
        }
        let kw = if self.case.fleet.departure_known {
            pool.load[steps.clone()].to_vec()
        } else {
            median_load(&players, steps)
        };
        let mwh = self.case.grid.hours() / 1000.0;
        let elsewhere: f64 = (known.now..self.case.grid.steps)
            .filter(|t| !steps.contains(t))
            .map(|t| market.price[t] * pool.load[t] * mwh)
            .sum();
        let costs = self.case.costs;
        let fees: f64 = players
            .iter()
            .map(|p| {
                let charge: f64 = p.charge[p.next..].iter().sum();
                let discharge: f64 = p.discharge[p.next..].iter().sum();
                p.weight * mwh * (costs.import * charge + (costs.export + costs.wear) * discharge)
            })
            .sum();
        Profile {
            kw,
            other_cost: elsewhere + fees,
        }
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
            let cost = |p: &Profile| {
                p.other_cost
                    + p.kw
                        .iter()
                        .zip(&prices)
                        .map(|(q, l)| q * l * mwh)
                        .sum::<f64>()
            };
            offer.taken = (0..offer.profiles.len())
                .min_by(|a, b| cost(&offer.profiles[*a]).total_cmp(&cost(&offer.profiles[*b])));
            if let Some(profile) = offer.taken.and_then(|i| offer.profiles.get(i)) {
                for (t, kw) in offer.steps.clone().zip(&profile.kw) {
                    self.market.sold[t] = Some(*kw);
                }
            }
            self.offers.push(offer);
            cleared = true;
        }
        self.pending = waiting;
        cleared
    }
}

/// The middle of the pictures' loads in each step, kW: where vehicles cannot wait, a load is there or it is not, and
/// the middle costs least when deviations cost alike both ways.
fn median_load(players: &[Player], steps: &Range<usize>) -> Vec<f64> {
    let pictures = players.iter().map(|p| p.picture + 1).max().unwrap_or(1);
    let mut sure = vec![0.0; steps.len()];
    let mut loads = vec![vec![0.0; pictures]; steps.len()];
    for player in players {
        for (k, t) in steps.clone().enumerate() {
            match player.real {
                Some(_) => sure[k] += player.net(t),
                None => loads[k][player.picture] += player.net(t),
            }
        }
    }
    loads
        .into_iter()
        .zip(sure)
        .map(|(mut load, sure)| {
            load.sort_by(f64::total_cmp);
            sure + f64::midpoint(load[(pictures - 1) / 2], load[pictures / 2])
        })
        .collect()
}
