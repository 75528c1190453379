//! Reserves: what is offered at the gates, who holds what was sold, and what is missing.
//!
//! A vehicle that holds `ru` kW up and `rd` kW down of a product in step `j` keeps power free in that step and energy
//! free at every boundary that an activation can reach, which is a safe form of the window rule (`optimisation.md`
//! 2.2): with n steps of endurance and L of recovery,
//!
//! ```text
//! p[j] >= -Pd + factor*ru     p[j] <= Pc - factor*rd
//! e[k] >= F + n*D*ru/ed       e[k] <= C - n*D*rd/ed        for k in j+1 ..= j+n+L
//! ```
//!
//! Any window holds at most n such steps, so no activation within it takes more than is kept. In the last n + L steps
//! of a stay nothing is held: there is no time to make good what an activation took. Vehicles behind a limited site
//! hold nothing, nor do one-way chargers hold up reserve: neither can be promised at a gate a day ahead.

use std::ops::Range;

use market::Product;
use units::DeliveryDay;

use super::Rolling;
use super::known::{Known, gate_of};
use super::player::Player;
use super::pool::{self, Pool};
use crate::case::{Case, Planning, Reserve};
use crate::policy::account::penalty_factor;
use crate::policy::risk;
use crate::reference::{Direction, Held};

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
    /// With which it can be held throughout: by the rule of succession, what like days could tells of one more.
    pub(crate) probability: f64,
    /// What holding it costs the pool, currency per MW and block: the price asked.
    pub(crate) price: f64,
    /// Instant at which the gate closes.
    pub(crate) closes: chrono::DateTime<chrono::Utc>,
    /// Instant at which the result is out.
    pub(crate) results: chrono::DateTime<chrono::Utc>,
    /// Whether the clearing price covered the price asked; `None` before the result.
    pub(crate) won: Option<bool>,
}

/// What a player holds in one step of one product, kW.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Hold {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

/// Steps of full activation, and until all is well again.
pub(crate) fn lengths(case: &Case, reserve: &Reserve) -> (usize, usize) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a day has at most a few thousand steps"
    )]
    let n = (reserve.endurance_hours / case.grid.hours() - 1e-9)
        .ceil()
        .max(1.0) as usize;
    (n, n + case.recovery_steps)
}

/// Energy kept per kW held, kWh: `n*D/ed`.
pub(crate) fn energy_per_kw(case: &Case, reserve: &Reserve) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    let hours = lengths(case, reserve).0 as f64 * case.grid.hours();
    hours / case.fleet.discharge_efficiency
}

/// What a player could hold of a product in step `t` beside its other duties, kW.
fn potential(case: &Case, player: &Player, reserve: &Reserve, t: usize, discharge: bool) -> Hold {
    let none = Hold::default();
    let session = &player.session;
    let limited = session.site.is_some_and(|s| {
        case.sites[s].import_kw.is_finite() || case.sites[s].export_kw.is_finite()
    });
    let (_, tail) = lengths(case, reserve);
    let inside =
        session.share_at(t) >= 1.0 && t + tail < session.steps().end && t >= player.begins();
    if limited || !inside {
        return none;
    }
    let hours = case.grid.hours();
    let (ec, charge) = (case.fleet.charge_efficiency, session.stay.charge_kw);
    let owed_to = player
        .at_once
        .as_ref()
        .map_or(session.goal, |_| session.stay.required_kwh);
    let needed =
        (owed_to.min(session.stay.capacity_kwh) - player.energy).max(0.0) / (ec * charge.max(1e-9));
    let left = session.share[player.next..].iter().sum::<f64>() * hours;
    if player.at_once.is_some() && needed > 0.0 {
        return none;
    }
    let slack = (1.0 - needed / left.max(1e-9)).clamp(0.0, 1.0);
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    let until = (t - player.begins().min(t)) as f64 * hours;
    let power = if discharge { session.discharge_kw } else { 0.0 };
    let half = 0.5 * slack;
    let highest = (player.energy + half * ec * charge * until).min(session.stay.capacity_kwh);
    let lowest =
        (player.energy - half * power * until / case.fleet.discharge_efficiency).max(session.floor);
    let floor = if player.at_once.is_some() {
        owed_to.max(session.floor)
    } else {
        session.floor
    };
    let per_kw = energy_per_kw(case, reserve);
    let band = 0.5 * (session.stay.capacity_kwh - floor);
    let up = (slack * power / reserve.power_factor).min((highest - floor).min(band) / per_kw);
    let down = (slack * charge / reserve.power_factor)
        .min((session.stay.capacity_kwh - lowest).min(band) / per_kw);
    match reserve.direction() {
        Direction::Up => Hold {
            up: up.max(0.0),
            down: 0.0,
        },
        Direction::Down => Hold {
            up: 0.0,
            down: down.max(0.0),
        },
        Direction::Symmetric => {
            let both = up.min(down).max(0.0);
            Hold {
                up: both,
                down: both,
            }
        }
    }
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
        for (index, (block, steps)) in reserve.on_sale().enumerate() {
            if block.start < day.start() || block.start >= day.end() || steps.start < known.now {
                continue;
            }
            let available = self.available(product, &steps);
            let most = self.most(&available);
            if let Some((mw, price)) = self.best_volume(known, product, &steps, most, &available) {
                let bid = ReserveBid {
                    product,
                    block: index,
                    steps,
                    mw,
                    probability: succession(&available, mw),
                    price,
                    closes: gate.closes,
                    results: gate.results,
                    won: None,
                };
                self.bids.push(bid);
            }
        }
    }

    /// What each picture could hold of a product throughout `steps` beside what it holds of others, MW: in a picture
    /// that stands for several days, of what is there on average.
    pub(super) fn available(&self, product: usize, steps: &Range<usize>) -> Vec<f64> {
        let reserve = &self.case.reserves[product];
        let direction = reserve.direction();
        let mut least = vec![f64::INFINITY; self.pool.odds().len()];
        for t in steps.clone() {
            let mut sums = vec![Hold::default(); least.len()];
            let mut sure = Hold::default();
            for player in &self.players {
                let could = beside(self.case, player, product, t, self.discharges());
                let sum = match player.real {
                    Some(_) => &mut sure,
                    None => &mut sums[player.picture],
                };
                sum.up += player.part * could.up;
                sum.down += player.part * could.down;
            }
            for (least, sum) in least.iter_mut().zip(&sums) {
                if direction.has_up() {
                    *least = least.min((sure.up + sum.up) / 1000.0);
                }
                if direction.has_down() {
                    *least = least.min((sure.down + sum.down) / 1000.0);
                }
            }
        }
        least
    }

    /// The most that may be offered, MW. Of n past days and the day to come each is as likely as any other to be the
    /// poorest, so the day falls below the r-th poorest with a chance of r/(n+1); where even the poorest is not rare
    /// enough, less than it in proportion.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a handful of days"
    )]
    pub(super) fn most(&self, available: &[f64]) -> f64 {
        let mut sorted = available.to_vec();
        sorted.sort_by(f64::total_cmp);
        if self.case.risk.planning == Planning::Expected {
            return sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        }
        let rank = (1.0 - self.case.risk.reserve_reliability) * (sorted.len() + 1) as f64;
        let poorest = sorted.first().copied().unwrap_or(0.0);
        let whole = (rank + 1e-9).floor() as usize;
        match whole.checked_sub(1) {
            Some(index) => sorted.get(index).copied().unwrap_or(poorest),
            None => rank * poorest,
        }
    }

    /// The volume that earns most at the prices expected, with what it costs per MW: holding it, and the penalty in the
    /// pictures that cannot. `None` where nothing earns.
    fn best_volume(
        &self,
        known: &Known<'_>,
        product: usize,
        steps: &Range<usize>,
        most: f64,
        available: &[f64],
    ) -> Option<(f64, f64)> {
        if most < LEAST_MW {
            return None;
        }
        let expected = self.expected_block_price(known, product, steps)?;
        let penalty = penalty_factor(self.case.reserves[product].product)
            * expected.clamp(0.0, HIGHEST_PENALISED);
        let odds = self.pool.odds();
        let (tried, held) = self.cost_of_holding(known, product, steps, most)?;
        // The cost of holding is convex: for less than was tried its share is enough.
        let offer = |level: &f64| {
            let mw = level * tried;
            let costs: Vec<f64> = available
                .iter()
                .map(|a| level * held + penalty * (mw - a).max(0.0))
                .collect();
            let price = (risk::judged(self.case.risk, &costs, odds) / mw).max(0.0);
            ((expected - price) * mw > 0.0).then_some(((expected - price) * mw, mw, price))
        };
        LEVELS
            .iter()
            .filter_map(offer)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, mw, price)| (mw, price))
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

    /// Mean price of the last week's blocks at the same local hour whose result is out; none without history, then any
    /// price covers the cost of holding.
    fn expected_block_price(
        &self,
        known: &Known<'_>,
        product: usize,
        steps: &Range<usize>,
    ) -> Option<f64> {
        let reserve = &self.case.reserves[product];
        let start = self.case.grid.at(steps.start);
        let zone = self.case.area.exchange_zone();
        let clock = |at: chrono::DateTime<chrono::Utc>| at.with_timezone(&zone).time();
        let today = DeliveryDay::containing(known.instant(), zone);
        let alike: Vec<f64> = reserve
            .blocks
            .iter()
            .rev()
            .filter(|b| b.start < today.end() && clock(b.start) == clock(start))
            .take(7)
            .map(|b| b.price)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "at most seven")]
        let mean = alike.iter().sum::<f64>() / alike.len() as f64;
        Some(if alike.is_empty() {
            f64::MAX.sqrt()
        } else {
            mean
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
        share_out(
            self.case,
            &mut players,
            product,
            steps.clone(),
            mw * 1000.0,
            known.now,
            discharge,
        );
        for player in players.iter_mut().filter(|p| p.holds_any()) {
            let plan = pool::respond(self.case, known, &mut pool, &self.market, player, discharge);
            if plan.is_ok_and(|p| p.short_kwh > 1e-6) {
                return None;
            }
        }
        Some(self.cost_of(&players, &pool))
    }

    /// Takes in results that are out: a bid is won if the clearing price covers it.
    pub(super) fn clear_reserve(&mut self, known: &Known<'_>) -> bool {
        let (case, now) = (self.case, known.instant());
        let mut won = false;
        for bid in self
            .bids
            .iter_mut()
            .filter(|b| b.won.is_none() && b.results <= now)
        {
            let clearing = case.reserves[bid.product]
                .on_sale()
                .nth(bid.block)
                .map(|(b, _)| b.price);
            let covered = clearing.is_some_and(|c| c >= bid.price);
            bid.won = Some(covered);
            if covered {
                self.sold_mw[bid.product][bid.block] += bid.mw;
                won = true;
            }
        }
        won
    }

    /// Shares out what is sold from step `now` on among the vehicles that are there or expected.
    pub(super) fn assign_reserve(&mut self, known: &Known<'_>) {
        if self.sold_mw.iter().flatten().all(|mw| *mw <= 0.0) {
            return;
        }
        let discharge = self.discharges();
        let sure_until = known.now + self.steps_of_an_hour();
        for player in &mut self.players {
            player.release_holds();
        }
        for (product, reserve) in self.case.reserves.iter().enumerate() {
            for (b, (_, steps)) in reserve.on_sale().enumerate() {
                let mw = self.sold_mw[product][b];
                let ahead = steps.start.max(known.now)..steps.end;
                if mw > 0.0 && !ahead.is_empty() && ahead.start < known.now + self.steps_of_days(2)
                {
                    share_out(
                        self.case,
                        &mut self.players,
                        product,
                        ahead,
                        mw * 1000.0,
                        sure_until,
                        discharge,
                    );
                }
            }
        }
    }

    /// Steps until the shares are surely looked at again.
    fn steps_of_an_hour(&self) -> usize {
        self.steps_of_days(1).div_ceil(24)
    }

    /// Records what is held in step `t` and what is missing of what was sold.
    pub(super) fn record_reserve(&mut self, t: usize) {
        for product in 0..self.case.reserves.len() {
            let sold = self.sold_at(product, t) * 1000.0;
            if sold <= 0.0 {
                continue;
            }
            let reserve = &self.case.reserves[product];
            let mut held = Hold::default();
            for player in &self.players {
                let Some(index) = player.real else { continue };
                let Some(hold) = player.hold(product, t) else {
                    continue;
                };
                held.up += hold.up;
                held.down += hold.down;
                let session = &self.case.sessions[index];
                let j = t - session.first;
                let kept =
                    self.held[index].get_or_insert_with(|| nothing(self.case, session.share.len()));
                // Earlier products may have taken part of what charging could be cancelled.
                let taken: f64 = kept.iter().map(|h| h.up_charge_kw[j]).sum();
                let cancelled = hold
                    .up
                    .min((player.charge[j] - player.discharge[j] - taken).max(0.0));
                kept[product].up_charge_kw[j] = cancelled;
                kept[product].up_discharge_kw[j] = hold.up - cancelled;
                kept[product].down_kw[j] = hold.down;
            }
            let up = if reserve.direction().has_up() {
                sold - held.up
            } else {
                0.0
            };
            let down = if reserve.direction().has_down() {
                sold - held.down
            } else {
                0.0
            };
            let missing = up.max(down);
            if missing > 1e-6 {
                self.missing_mw[product][t] = missing / 1000.0;
            }
        }
    }

    /// MW sold of a product in step `t`.
    fn sold_at(&self, product: usize, t: usize) -> f64 {
        let blocks = self.case.reserves[product]
            .on_sale()
            .zip(&self.sold_mw[product]);
        blocks
            .filter(|((_, s), _)| s.contains(&t))
            .map(|(_, mw)| mw)
            .sum()
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

/// Nothing held of any product.
pub(crate) fn nothing(case: &Case, steps: usize) -> Vec<Held> {
    let held = Held {
        up_charge_kw: vec![0.0; steps],
        up_discharge_kw: vec![0.0; steps],
        down_kw: vec![0.0; steps],
    };
    vec![held; case.reserves.len()]
}

/// What a player could hold of a product in step `t` beside what it holds of the others, kW.
fn beside(case: &Case, player: &Player, product: usize, t: usize, discharge: bool) -> Hold {
    let reserve = &case.reserves[product];
    let mut most = potential(case, player, reserve, t, discharge);
    let (up, down) = player.other_duties(case, product, t);
    most.up = (most.up - up).max(0.0);
    most.down = (most.down - down).max(0.0);
    if reserve.direction() == Direction::Symmetric {
        most.up = most.up.min(most.down);
        most.down = most.up;
    }
    most
}

/// Shares `kw` of a product in each of `steps` among the players, in proportion to what each could hold. Before step
/// `sure_until` only vehicles that are there count: who is still to come may not.
fn share_out(
    case: &Case,
    players: &mut [Player],
    product: usize,
    steps: Range<usize>,
    kw: f64,
    sure_until: usize,
    discharge: bool,
) {
    for t in steps {
        let could: Vec<Hold> = players
            .iter()
            .map(|p| match p.real {
                None if t < sure_until => Hold::default(),
                _ => beside(case, p, product, t, discharge),
            })
            .collect();
        let (mut up, mut down) = (0.0, 0.0);
        for (player, could) in players.iter().zip(&could) {
            up += player.weight * could.up;
            down += player.weight * could.down;
        }
        let share = |sum: f64| if sum > 0.0 { (kw / sum).min(1.0) } else { 0.0 };
        let (up, down) = (share(up), share(down));
        for (player, could) in players.iter_mut().zip(&could) {
            if could.up > 0.0 || could.down > 0.0 {
                let hold = Hold {
                    up: up * could.up,
                    down: down * could.down,
                };
                player.set_hold(case, product, t, hold);
            }
        }
    }
}
