//! Reserves: what is offered at the gates. What then is sold is held by `sold`.

use std::ops::Range;

use market::Product;
use units::DeliveryDay;

use super::Rolling;
use super::auction::{Ask, Auction};
use super::coming::Way;
use super::hold::{Hold, Share, each_step, share_out};
use super::known::{Known, gate_of};
use super::player::Player;
use super::pool::{self, Pool};
use crate::case::Planning;
use crate::policy::penalty::Penalty;
use crate::policy::risk;

/// Volumes tried for each block, as shares of what is offered at most.
const LEVELS: [f64; 3] = [1.0, 0.6, 0.3];

/// Price up to which a penalty is reckoned with while prices are unknown, currency per MW and block.
const HIGHEST_PENALISED: f64 = 1e4;

/// Least volume worth a bid, MW: a kilowatt.
const LEAST_MW: f64 = 1e-3;

/// A bid for one block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReserveBid {
    /// Index into [`Case::reserves`].
    pub(crate) product: usize,
    /// Index among the blocks on sale.
    pub(crate) block: usize,
    /// Steps of the period.
    pub(crate) steps: Range<usize>,
    /// Volume, MW.
    pub(crate) mw: f64,
    /// With which it can be held throughout: by the rule of succession, what the ways drawn could tells of the day.
    pub(crate) probability: f64,
    /// What holding it costs the pool, currency per MW and block.
    pub(crate) cost: f64,
    /// The price asked, currency per MW and block: no less than the cost, and more where the price asked is paid.
    pub(crate) price: f64,
    /// Instant at which the gate closes.
    pub(crate) closes: chrono::DateTime<chrono::Utc>,
    /// Instant at which the result is out.
    pub(crate) results: chrono::DateTime<chrono::Utc>,
    /// Whether the marginal price covered the price asked; `None` before the result.
    pub(crate) won: Option<bool>,
}

/// Ways the day may go that tell how much may be held: more than are pictures of the plan, as only their vehicles count.
const DAYS: usize = 60;

/// What days like the one to come could hold of a product in a block.
struct Possible {
    /// Probability of each day; they add to 1.
    odds: Vec<f64>,
    /// What each day's energy costs whatever is held, currency.
    base: Vec<f64>,
    /// MW in each step of the block: `[day][step]`.
    mw: Vec<Vec<f64>>,
}

impl Possible {
    /// What each day could hold throughout, MW.
    fn throughout(&self) -> Vec<f64> {
        let least = |mw: &Vec<f64>| mw.iter().copied().fold(f64::INFINITY, f64::min);
        self.mw.iter().map(least).collect()
    }
}

/// What is best offered for a block.
struct Volume {
    /// MW.
    mw: f64,
    /// Of holding it, with the penalties expected, currency per MW and block.
    cost: f64,
    /// What is asked.
    ask: Ask,
}

/// One way the day may come: the vehicles there and to come, with what they hold of other products.
struct Day {
    odds: f64,
    players: Vec<Player>,
}

impl Rolling<'_> {
    /// Offers reserve for every day whose gate closes before the next step begins.
    pub(super) fn offer_reserve_if_a_gate_closes(&mut self, known: &Known<'_>) {
        let now = known.instant();
        let next = now + self.case.grid.step;
        let today = DeliveryDay::containing(now, self.case.area.exchange_zone());
        for product in 0..self.case.reserves.len() {
            for day in [today.next(), today.plus(2)] {
                let closes =
                    gate_of(self.case.area, self.case.reserves[product].product, day).closes;
                if closes > now && closes <= next {
                    self.offer_reserve(known, product, day);
                }
            }
        }
    }

    /// Bids for the blocks of one product that begin on `day`.
    pub(super) fn offer_reserve(&mut self, known: &Known<'_>, product: usize, day: DeliveryDay) {
        let case = self.case;
        let reserve = &case.reserves[product];
        let gate = gate_of(case.area, reserve.product, day);
        if !self.qualifications[product].holds(known.instant()) {
            return;
        }
        let mut days = None;
        for (index, (block, steps)) in reserve.on_sale().enumerate() {
            if block.start < day.start() || block.start >= day.end() || steps.start < known.now {
                continue;
            }
            let Some(auction) = self.auction(product, day, block) else {
                continue;
            };
            let days = days.get_or_insert_with(|| self.days_to_come(known, day));
            let possible = self.possible(days, product, &steps);
            let throughout = possible.throughout();
            let most = self.most(product, &throughout);
            let best = self.best_volume(known, product, &steps, most, &possible, &auction);
            if let Some(Volume { mw, cost, ask }) = best {
                let bid = ReserveBid {
                    product,
                    block: index,
                    steps,
                    mw,
                    probability: succession(&throughout, mw),
                    cost,
                    price: ask.price,
                    closes: gate.closes,
                    results: gate.results,
                    won: None,
                };
                self.bids.push(bid);
            }
        }
    }

    /// How the vehicles of `day` may come, beside those that are there now; all ways averaged where the plan is for
    /// expected values.
    fn days_to_come(&self, known: &Known<'_>, day: DeliveryDay) -> Vec<Day> {
        let case = self.case;
        let now = known.instant();
        let stay = |p: &&Player| case.grid.at(p.session.steps().end) > day.start();
        let there: Vec<Player> = self.players.iter().filter(stay).cloned().collect();
        let real = || there.iter().filter(|p| p.real.is_some()).cloned();
        if case.risk.planning == Planning::Expected || !self.past.tells(now) {
            return vec![Day {
                odds: 1.0,
                players: there,
            }];
        }
        let steps = case.grid.first_from(day.start())..case.grid.first_from(day.end());
        let day_of = |way: Way| {
            let mut players: Vec<Player> = real().chain(way.players).collect();
            for player in &mut players {
                player.release_holds();
            }
            self.hold_awards(&mut players, known, &steps, 1);
            Day {
                odds: way.odds,
                players,
            }
        };
        let ways = self.past.ways(case, (now, day.end()), (DAYS, DAYS), 0);
        ways.into_iter().map(day_of).collect()
    }

    /// What each of `days` could hold of a product in each of `steps` beside what it holds of others.
    fn possible(&self, days: &[Day], product: usize, steps: &Range<usize>) -> Possible {
        let direction = self.case.reserves[product].direction();
        let in_day = |day: &Day| {
            let mut sums = vec![Hold::default(); steps.len()];
            for player in &day.players {
                let add = |t: usize, could: Hold| {
                    let sum = &mut sums[t - steps.start];
                    sum.up += player.part * could.up;
                    sum.down += player.part * could.down;
                };
                let terms = &self.pool.terms;
                each_step(
                    self.case,
                    terms,
                    player,
                    product,
                    steps,
                    self.discharges(),
                    add,
                );
            }
            let mw = |sum: Hold| sum.counts(direction) / 1000.0;
            sums.into_iter().map(mw).collect()
        };
        Possible {
            odds: days.iter().map(|day| day.odds).collect(),
            base: days.iter().map(|day| self.energy_cost(day)).collect(),
            mw: days.iter().map(in_day).collect(),
        }
    }

    /// What the energy that a day's vehicles need costs at the prices expected, currency.
    fn energy_cost(&self, day: &Day) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let cost = |player: &Player| {
            let steps = player.ahead();
            let prices = &self.market.price[steps.start.min(steps.end)..steps.end];
            let mean = prices.iter().sum::<f64>() / prices.len().max(1) as f64;
            let need = (player.session.goal - player.energy).max(0.0);
            player.part * mean * need / (1000.0 * self.case.fleet.charge_efficiency)
        };
        day.players.iter().map(cost).sum()
    }

    /// The most that may be offered, MW, where days like the one to come could hold `available` throughout. Notes where
    /// caution alone forbids an offer.
    fn most(&mut self, product: usize, available: &[f64]) -> f64 {
        let mut sorted = available.to_vec();
        sorted.sort_by(f64::total_cmp);
        if self.case.risk.planning == Planning::Expected {
            #[expect(clippy::cast_precision_loss, reason = "a handful of days")]
            return sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        }
        let aim = &mut self.aims[product];
        let most = aim.volume(&sorted);
        if most < LEAST_MW && aim.volume_asked(&sorted) >= LEAST_MW {
            aim.withheld();
        }
        most
    }

    /// The volume that is expected to earn most, with what it costs per MW (holding it, and the penalty on the days that
    /// cannot) and what to ask. `None` where nothing earns.
    fn best_volume(
        &self,
        known: &Known<'_>,
        product: usize,
        steps: &Range<usize>,
        most: f64,
        possible: &Possible,
        auction: &Auction,
    ) -> Option<Volume> {
        if most < LEAST_MW {
            return None;
        }
        let penalties = self.expected_penalties(product, steps, auction.expected);
        let (tried, held) = self.cost_of_holding(known, product, steps, most)?;
        // The cost of holding is convex: for less than was tried its share is enough.
        let offer = |level: &f64| {
            let mw = level * tried;
            let penalty = |day: &Vec<f64>| -> f64 {
                let missing = day.iter().zip(&penalties);
                missing.map(|(a, price)| price * (mw - a).max(0.0)).sum()
            };
            let costs: Vec<f64> = possible
                .mw
                .iter()
                .zip(&possible.base)
                .map(|(day, base)| base + level * held + penalty(day))
                .collect();
            // The risk is that of the whole day: a penalty on a day that is cheap makes no day dearer than the dear ones.
            let judged = |costs: &[f64]| risk::judged(self.case.risk, costs, &possible.odds);
            let cost = ((judged(&costs) - judged(&possible.base)) / mw).max(0.0);
            let ask = auction.ask(cost)?;
            Some(Volume { mw, cost, ask })
        };
        let gain = |volume: &Volume| volume.ask.gain * volume.mw;
        LEVELS
            .iter()
            .filter_map(offer)
            .max_by(|a, b| gain(a).total_cmp(&gain(b)))
    }

    /// What one MW missing in each of `steps` costs at the price expected for the block and the energy price expected
    /// then, currency: it is reckoned with that some was missing before.
    fn expected_penalties(&self, product: usize, steps: &Range<usize>, expected: f64) -> Vec<f64> {
        let case = self.case;
        let start = case.grid.at(steps.start);
        let rule = Penalty::of(case.area, case.reserves[product].product, start);
        let hours = case.grid.hours();
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let hourly = expected.clamp(0.0, HIGHEST_PENALISED) / (steps.len() as f64 * hours);
        let energy = &self.market.price[steps.clone()];
        energy
            .iter()
            .map(|price| hours * rule.per_mw_h(hourly, hourly, *price, true))
            .collect()
    }

    /// The greatest of the volumes tried, at most `most` MW, that leaves nobody short, with what holding it costs.
    fn cost_of_holding(
        &self,
        known: &Known<'_>,
        product: usize,
        steps: &Range<usize>,
        most: f64,
    ) -> Option<(f64, f64)> {
        let without = self.cost_of(&self.players, &self.pool);
        LEVELS.iter().find_map(|level| {
            let mw = level * most;
            let with = self.cost_with(known, product, steps, mw)?;
            Some((mw, with - without))
        })
    }

    /// What the energy of the present plans costs, currency: market price, fees and wear.
    fn cost_of(&self, players: &[Player], pool: &Pool) -> f64 {
        let mwh = self.case.grid.hours() / 1000.0;
        let energy: f64 = self
            .market
            .price
            .iter()
            .enumerate()
            .map(|(t, price)| price * pool.load(t))
            .sum();
        let costs = self.case.costs;
        let fees: f64 = players
            .iter()
            .map(|p| {
                let charge: f64 = p.charge[p.next..].iter().sum();
                let discharge: f64 = p.discharge[p.next..].iter().sum();
                p.weight * (costs.import * charge + (costs.export + costs.wear) * discharge)
            })
            .sum();
        (energy + fees) * mwh
    }

    /// The same when `mw` of a product is held throughout `steps`; `None` if somebody would be short for it.
    fn cost_with(
        &self,
        known: &Known<'_>,
        product: usize,
        steps: &Range<usize>,
        mw: f64,
    ) -> Option<f64> {
        let (mut players, mut pool) = (self.players.clone(), self.pool.clone());
        let discharge = self.discharges();
        let share = Share {
            product,
            steps: steps.clone(),
            kw: mw * 1000.0,
            sure_until: known.now,
            pictures: self.pool.odds().len(),
        };
        share_out(self.case, &self.pool.terms, &mut players, &share, discharge);
        for player in players.iter_mut().filter(|p| p.holds_any()) {
            let plan = pool::respond(self.case, known, &mut pool, &self.market, player, discharge);
            if plan.is_ok_and(|p| p.short_kwh > 1e-6) {
                return None;
            }
        }
        Some(self.cost_of(&players, &pool))
    }

    /// Reserve gates that close before the period begins.
    pub(super) fn offer_before_the_period(&mut self, known: &Known<'_>, day: DeliveryDay) {
        for product in 0..self.case.reserves.len() {
            if self.case.reserves[product].product != Product::DayAhead {
                self.offer_reserve(known, product, day);
            }
        }
    }
}

/// Chance that one more day can hold `mw` when `available` is what like days could.
#[expect(clippy::cast_precision_loss, reason = "a handful of days")]
fn succession(available: &[f64], mw: f64) -> f64 {
    let could = available.iter().filter(|a| **a >= mw - 1e-9).count();
    (could + 1) as f64 / (available.len() + 2) as f64
}
