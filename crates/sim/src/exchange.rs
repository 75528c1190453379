//! Auctions that clear our bids against a seeded curve of everybody else's.
//!
//! ```text
//! gate closes        results published
//!     |---- bids are late ----|---- award or rejection, clearing price ----
//! ```

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use market::calendar;
use market::rules::{Pricing, Rule, Rules};
use market::{Area, Award, AwardId, Bid, BidId, Clearing, Direction, Product, gate};
use units::{DeliveryDay, Interval, Price};

use crate::price::Prices;

/// EUR/MWh that one more megawatt bought moves the day-ahead price.
const ENERGY_SLOPE: f64 = 0.02;
/// Share of the reserve price by which the rivals' curve rises per megawatt around its clearing point: a thin market.
const RESERVE_SLOPE: f64 = 0.004;

/// What the market says back.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It took at least part of a bid.
    Award(Award),
    /// What a product cleared at.
    Clearing(Clearing),
    /// It took none of a bid.
    Rejected {
        /// The bid.
        bid: BidId,
        /// Why.
        reason: String,
    },
    /// Imbalance price of a quarter hour that is over.
    Imbalance {
        /// The quarter hour.
        delivery: Interval,
        /// What a missing MWh costs and a surplus MWh earns.
        price: Price,
    },
}

/// A bid that was not taken into the book.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// It came at or after the gate.
    #[error("gate closed at {closed}, bid arrived at {now}")]
    Late {
        /// When the gate closed.
        closed: DateTime<Utc>,
        /// When the bid arrived.
        now: DateTime<Utc>,
    },
    /// The market does not trade this.
    #[error("{0}")]
    Unknown(String),
    /// The bid breaks a rule of the product.
    #[error("{0}")]
    Rule(String),
}

/// All auctions of one area.
#[derive(Debug, Clone)]
pub struct Exchange {
    area: Area,
    prices: Prices,
    book: BTreeMap<(Product, DateTime<Utc>), BTreeMap<BidId, Bid>>,
    published_until: DateTime<Utc>,
    seen: BTreeSet<BidId>,
}

impl Exchange {
    /// An exchange that has published everything up to `now`.
    #[must_use]
    pub fn new(area: Area, prices: Prices, now: DateTime<Utc>) -> Self {
        Self {
            area,
            prices,
            book: BTreeMap::new(),
            published_until: now,
            seen: BTreeSet::new(),
        }
    }

    /// Takes a bid into the book. The same bid sent twice counts once.
    ///
    /// # Errors
    /// [`Refusal`] if it is late, unknown or against the rules of its product.
    pub fn submit(&mut self, bid: Bid, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.seen.contains(&bid.id) {
            return Ok(());
        }
        let rule = self
            .rule(bid.product, bid.delivery.start())
            .map_err(Refusal::Unknown)?;
        let closed = rule.gate.closes(bid.delivery.start(), rule.calendar_zone);
        if now >= closed {
            return Err(Refusal::Late { closed, now });
        }
        check(rule, &bid)?;
        self.seen.insert(bid.id);
        self.book
            .entry((bid.product, bid.delivery.start()))
            .or_default()
            .insert(bid.id, bid);
        Ok(())
    }

    /// Takes a bid out of the book before its gate; true if it was there.
    pub fn withdraw(&mut self, bid: BidId, now: DateTime<Utc>) -> bool {
        let area = self.area;
        self.book.iter_mut().any(|((product, start), bids)| {
            let open = Rules::built_in()
                .at(area, *product, *start)
                .is_ok_and(|rule| now < rule.gate.closes(*start, rule.calendar_zone));
            open && bids.remove(&bid).is_some()
        })
    }

    /// Everything that is published after the last call and up to `now`, in order of time.
    pub fn publish(&mut self, now: DateTime<Utc>) -> Vec<Outcome> {
        let from = self.published_until;
        if now <= from {
            return Vec::new();
        }
        self.published_until = now;
        let mut out: Vec<(DateTime<Utc>, Outcome)> = Vec::new();
        for product in Product::ALL {
            for (at, day) in self.results_between(product, from, now) {
                out.extend(
                    self.clear_day(product, day, at)
                        .into_iter()
                        .map(|o| (at, o)),
                );
            }
        }
        out.extend(self.imbalances(from, now));
        out.sort_by_key(|(at, _)| *at);
        out.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Clearing prices without us for every delivery that starts in `from..to`: the past.
    #[must_use]
    pub fn history(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Clearing> {
        let mut past = Vec::new();
        for product in Product::ALL {
            let mut day = DeliveryDay::containing(from, self.area.exchange_zone());
            while day.start() < to {
                if let Ok(rule) = self.rule(product, day.start()) {
                    let published_at = gate::results(rule, day);
                    for delivery in calendar::deliveries(rule, day) {
                        if delivery.start() >= from && delivery.start() < to {
                            past.extend(self.clearing(product, delivery, 0.0, published_at));
                        }
                    }
                }
                day = day.next();
            }
        }
        past
    }

    fn rule(&self, product: Product, start: DateTime<Utc>) -> Result<&'static Rule, String> {
        Rules::built_in()
            .at(self.area, product, start)
            .map_err(|e| e.to_string())
    }

    /// Delivery days whose result is published in `from..=now`, excluding `from`.
    fn results_between(
        &self,
        product: Product,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Vec<(DateTime<Utc>, DeliveryDay)> {
        let mut day = DeliveryDay::containing(from, self.area.exchange_zone());
        let last = DeliveryDay::containing(now, self.area.exchange_zone()).plus(2);
        let mut due = Vec::new();
        while day.start() <= last.start() {
            if let Ok(rule) = self.rule(product, day.start()) {
                let at = gate::results(rule, day);
                if from < at && at <= now {
                    due.push((at, day));
                }
            }
            day = day.next();
        }
        due
    }

    fn clear_day(&mut self, product: Product, day: DeliveryDay, at: DateTime<Utc>) -> Vec<Outcome> {
        let Ok(rule) = self.rule(product, day.start()) else {
            return Vec::new();
        };
        let deliveries = calendar::deliveries(rule, day);
        deliveries
            .into_iter()
            .flat_map(|delivery| self.clear(rule, delivery, at))
            .collect()
    }

    fn clear(&mut self, rule: &Rule, delivery: Interval, at: DateTime<Utc>) -> Vec<Outcome> {
        let bids = self
            .book
            .remove(&(rule.product, delivery.start()))
            .unwrap_or_default();
        let (taken, volume) = self.take(rule, delivery, bids.values());
        let Some(clearing) = self.clearing(rule.product, delivery, volume, at) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for bid in bids.into_values() {
            out.push(if taken.contains(&bid.id) {
                Outcome::Award(award(rule, &bid, clearing.price, at))
            } else {
                let limit = bid
                    .price
                    .map_or_else(|| "none".to_owned(), |p| p.to_string());
                let reason = format!("cleared at {}, the bid's limit was {limit}", clearing.price);
                Outcome::Rejected {
                    bid: bid.id,
                    reason,
                }
            });
        }
        out.push(Outcome::Clearing(clearing));
        out
    }

    /// Which of our bids are taken, cheapest first, each at the price that its own volume leads to; and the volume that
    /// they move the market by, megawatts.
    fn take<'a>(
        &self,
        rule: &Rule,
        delivery: Interval,
        bids: impl Iterator<Item = &'a Bid>,
    ) -> (BTreeSet<BidId>, f64) {
        let mut bids: Vec<&Bid> = bids.collect();
        bids.sort_by(|a, b| eagerness(a).total_cmp(&eagerness(b)).then(a.id.cmp(&b.id)));
        let (mut taken, mut volume) = (BTreeSet::new(), 0.0);
        for bid in bids {
            let after = volume + signed_mw(bid);
            let price = self.price(rule.product, delivery, after);
            let fits = bid.price.is_none_or(|limit| match bid.direction {
                Direction::Down if !rule.product.is_reserve() => price <= limit.to_f64(),
                Direction::Up | Direction::Down | Direction::Symmetric => limit.to_f64() <= price,
            });
            if fits {
                taken.insert(bid.id);
                volume = after;
            }
        }
        (taken, volume)
    }

    /// Clearing price when we move the market by `volume` megawatts: energy bought, or reserve sold.
    fn price(&self, product: Product, delivery: Interval, volume: f64) -> f64 {
        if product.is_reserve() {
            self.prices.reserve(product, delivery) * (1.0 - RESERVE_SLOPE * volume)
        } else {
            let quarters: Vec<f64> = delivery
                .steps(TimeDelta::minutes(15))
                .map(|start| self.prices.day_ahead(start))
                .collect();
            #[expect(clippy::cast_precision_loss, reason = "at most four")]
            let mean = quarters.iter().sum::<f64>() / quarters.len() as f64;
            mean + ENERGY_SLOPE * volume
        }
    }

    fn clearing(
        &self,
        product: Product,
        delivery: Interval,
        volume: f64,
        at: DateTime<Utc>,
    ) -> Option<Clearing> {
        let price = self.price(product, delivery, volume);
        Some(Clearing {
            area: self.area,
            product,
            delivery,
            price: Price::from_f64(price, 2, self.area.currency())?,
            published_at: at,
        })
    }

    /// Imbalance prices of the quarter hours that ended in `from..=now`, excluding `from`.
    fn imbalances(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, Outcome)> {
        let quarter = TimeDelta::minutes(15);
        let mut end = from - TimeDelta::seconds(from.timestamp().rem_euclid(900)) + quarter;
        end -= TimeDelta::nanoseconds(i64::from(from.timestamp_subsec_nanos()));
        let mut out = Vec::new();
        while end <= now {
            let price = Price::from_f64(
                self.prices.imbalance(end - quarter),
                2,
                self.area.currency(),
            );
            if let (Ok(delivery), Some(price)) = (Interval::try_new(end - quarter, end), price) {
                out.push((end, Outcome::Imbalance { delivery, price }));
            }
            end += quarter;
        }
        out
    }
}

/// The rules that an exchange checks at its door.
fn check(rule: &Rule, bid: &Bid) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::Rule(text));
    if calendar::delivery_at(rule, bid.delivery.start()) != Some(bid.delivery) {
        return refuse(format!(
            "no delivery of {} starts at {}",
            rule.product.name(),
            bid.delivery.start()
        ));
    }
    if !rule.directions.contains(&bid.direction) {
        return refuse(format!(
            "{} is not traded {:?}",
            rule.product.name(),
            bid.direction
        ));
    }
    if bid.volume < rule.minimum {
        return refuse(format!(
            "volume {} is below the minimum {}",
            bid.volume, rule.minimum
        ));
    }
    if bid.volume.watts() % rule.step.watts().max(1) != 0 {
        return refuse(format!(
            "volume {} is no whole number of steps of {}",
            bid.volume, rule.step
        ));
    }
    Ok(())
}

fn award(rule: &Rule, bid: &Bid, cleared: Price, at: DateTime<Utc>) -> Award {
    let price = match rule.pricing {
        Pricing::PayAsBid => bid.price.unwrap_or(cleared),
        Pricing::Marginal => cleared,
    };
    Award {
        id: AwardId::derive(bid.id),
        bid: bid.id,
        area: bid.area,
        product: bid.product,
        direction: bid.direction,
        delivery: bid.delivery,
        volume: bid.volume,
        price,
        awarded_at: at,
    }
}

/// Megawatts by which a bid moves the market: energy bought counts up, energy sold down; reserve sold counts up.
fn signed_mw(bid: &Bid) -> f64 {
    match bid.direction {
        Direction::Up if !bid.product.is_reserve() => -bid.volume.mw(),
        Direction::Up | Direction::Down | Direction::Symmetric => bid.volume.mw(),
    }
}

/// Order in which bids are served: those that ask least first.
fn eagerness(bid: &Bid) -> f64 {
    let Some(limit) = bid.price else {
        return f64::NEG_INFINITY;
    };
    match bid.direction {
        Direction::Down if !bid.product.is_reserve() => -limit.to_f64(),
        Direction::Up | Direction::Down | Direction::Symmetric => limit.to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Amsterdam;
    use market::BidStatus;
    use units::{Currency, Power};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn exchange() -> Exchange {
        Exchange::new(
            Area::Nl,
            Prices::new(1, Amsterdam),
            at("2026-06-09T04:00:00Z"),
        )
    }

    fn bid(product: Product, direction: Direction, delivery: Interval, mw: f64, price: f64) -> Bid {
        Bid {
            id: BidId::derive("NL", product.name(), delivery.start(), 1),
            area: Area::Nl,
            product,
            direction,
            delivery,
            volume: Power::from_mw(mw),
            price: Price::from_f64(price, 2, Currency::Eur),
            divisible: true,
            gate_closes: delivery.start(),
            built_at: at("2026-06-09T04:00:00Z"),
            delivery_probability: 0.99,
            reason: String::new(),
            status: BidStatus::Submitted,
        }
    }

    fn tomorrow(from: &str, to: &str) -> Interval {
        Interval::try_new(at(from), at(to)).unwrap()
    }

    #[test]
    fn a_cheap_bid_wins_at_the_clearing_price_and_a_dear_one_loses() {
        let mut exchange = exchange();
        let first = tomorrow("2026-06-09T22:00:00Z", "2026-06-10T02:00:00Z");
        let second = tomorrow("2026-06-10T02:00:00Z", "2026-06-10T06:00:00Z");
        let now = at("2026-06-09T05:00:00Z");
        exchange
            .submit(
                bid(Product::Fcr, Direction::Symmetric, first, 1.0, 0.0),
                now,
            )
            .unwrap();
        exchange
            .submit(
                bid(Product::Fcr, Direction::Symmetric, second, 1.0, 9_000.0),
                now,
            )
            .unwrap();
        assert!(
            exchange
                .publish(at("2026-06-09T06:29:59Z"))
                .iter()
                .all(|o| matches!(o, Outcome::Imbalance { .. }))
        );
        let out = exchange.publish(at("2026-06-09T06:30:00Z"));
        let award = out
            .iter()
            .find_map(|o| {
                if let Outcome::Award(a) = o {
                    Some(a)
                } else {
                    None
                }
            })
            .unwrap();
        let cleared = out
            .iter()
            .find_map(|o| match o {
                Outcome::Clearing(c) if c.delivery == first => Some(c.price),
                Outcome::Clearing(_)
                | Outcome::Award(_)
                | Outcome::Rejected { .. }
                | Outcome::Imbalance { .. } => None,
            })
            .unwrap();
        assert_eq!((award.delivery, award.price), (first, cleared));
        assert_eq!(
            out.iter()
                .filter(|o| matches!(o, Outcome::Rejected { .. }))
                .count(),
            1
        );
        assert_eq!(
            out.iter()
                .filter(|o| matches!(o, Outcome::Clearing(_)))
                .count(),
            6
        );
        assert!(
            exchange.publish(at("2026-06-09T06:30:00Z")).is_empty(),
            "nothing is published twice"
        );
    }

    #[test]
    fn capacity_up_is_paid_as_bid() {
        let mut exchange = exchange();
        let block = tomorrow("2026-06-10T14:00:00Z", "2026-06-10T18:00:00Z");
        exchange
            .submit(
                bid(Product::AfrrUp, Direction::Up, block, 1.0, 4.0),
                at("2026-06-09T05:00:00Z"),
            )
            .unwrap();
        let out = exchange.publish(at("2026-06-09T08:00:00Z"));
        let paid = out.iter().find_map(|o| {
            if let Outcome::Award(a) = o {
                Some(a.price.to_f64())
            } else {
                None
            }
        });
        assert_eq!(paid, Some(4.0));
    }

    #[test]
    fn a_bid_at_the_gate_is_late_and_one_sent_twice_counts_once() {
        let mut exchange = exchange();
        let block = tomorrow("2026-06-09T22:00:00Z", "2026-06-10T02:00:00Z");
        let good = bid(Product::Fcr, Direction::Symmetric, block, 1.0, 0.0);
        let gate = at("2026-06-09T06:00:00Z");
        assert!(matches!(
            exchange.submit(good.clone(), gate),
            Err(Refusal::Late { .. })
        ));
        for _ in 0..2 {
            exchange
                .submit(good.clone(), gate - TimeDelta::seconds(1))
                .unwrap();
        }
        let out = exchange.publish(at("2026-06-09T07:00:00Z"));
        assert_eq!(
            out.iter()
                .filter(|o| matches!(o, Outcome::Award(_)))
                .count(),
            1
        );
        let wrong = bid(
            Product::Fcr,
            Direction::Symmetric,
            tomorrow("2026-06-10T23:00:00Z", "2026-06-11T02:00:00Z"),
            1.0,
            0.0,
        );
        assert!(matches!(
            exchange.submit(wrong, gate),
            Err(Refusal::Rule(_))
        ));
        let small = bid(
            Product::Fcr,
            Direction::Symmetric,
            tomorrow("2026-06-10T22:00:00Z", "2026-06-11T02:00:00Z"),
            0.5,
            0.0,
        );
        assert!(matches!(
            exchange.submit(small, gate),
            Err(Refusal::Rule(_))
        ));
    }

    #[test]
    fn the_past_has_every_delivery_once() {
        let past = exchange().history(at("2026-06-01T22:00:00Z"), at("2026-06-08T22:00:00Z"));
        let count = |product| past.iter().filter(|c| c.product == product).count();
        assert_eq!(
            (
                count(Product::DayAhead),
                count(Product::Fcr),
                count(Product::AfrrUp)
            ),
            (672, 42, 42)
        );
    }
}
