//! Bids: what we offer before a gate.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use units::{Currency, Interval, Power, Price};

use crate::rules::{Divisible, NoRule, PriceUnit, Rule, Rules};
use crate::{Area, BidId, Direction, Product, calendar};

/// Where a bid stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BidStatus {
    /// Built and stored, not yet sent.
    Draft,
    /// Handed to the market, not yet acknowledged.
    Submitted,
    /// The market has it.
    Acknowledged,
    /// The market took at least part of it.
    Awarded,
    /// The market took none of it, or refused it.
    Rejected,
    /// Taken back before the gate.
    Withdrawn,
}

/// One offer for one product over one delivery interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bid {
    /// Name and idempotency key.
    pub id: BidId,
    /// Where.
    pub area: Area,
    /// What.
    pub product: Product,
    /// Which way.
    pub direction: Direction,
    /// When it is delivered.
    pub delivery: Interval,
    /// How much, more than zero: a magnitude, the direction carries the sign.
    pub volume: Power,
    /// Limit: energy per MWh; capacity per MW for the whole block. `None` takes any price.
    pub price: Option<Price>,
    /// False if it may only be taken whole.
    pub divisible: bool,
    /// Last instant at which the market takes it.
    pub gate_closes: DateTime<Utc>,
    /// When it was built.
    pub built_at: DateTime<Utc>,
    /// Probability that the pool can deliver it, 0 to 1.
    pub delivery_probability: f64,
    /// Why this volume at this price, in words.
    pub reason: String,
    /// Where it stands.
    pub status: BidStatus,
}

/// What we would offer, before it is held against the rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Where.
    pub area: Area,
    /// What.
    pub product: Product,
    /// Which way.
    pub direction: Direction,
    /// Start of the delivery interval.
    pub delivery_start: DateTime<Utc>,
    /// Magnitude.
    pub volume: Power,
    /// Limit: energy per MWh; capacity per MW for the whole block. `None` takes any price.
    pub price: Option<Price>,
    /// False if it may only be taken whole.
    pub divisible: bool,
    /// Counts up when a bid for the same delivery is replaced; part of the name.
    pub revision: u32,
    /// Probability that the pool can deliver it, 0 to 1.
    pub delivery_probability: f64,
    /// Why this volume at this price.
    pub reason: String,
}

/// A bid that the rules do not allow.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum BidError {
    /// The product is not traded there then.
    #[error(transparent)]
    NoRule(#[from] NoRule),
    /// The delivery interval is not one of the product's.
    #[error("no {product} delivery runs from {start} to {end}", product = .product.name())]
    WrongBlock {
        /// Product.
        product: Product,
        /// Start asked for.
        start: DateTime<Utc>,
        /// End asked for.
        end: DateTime<Utc>,
    },
    /// The product does not have this direction.
    #[error("direction {direction:?} is not offered for {product}", product = .product.name())]
    WrongDirection {
        /// Product.
        product: Product,
        /// Direction asked for.
        direction: Direction,
    },
    /// Too little.
    #[error("volume {volume} is below the product minimum {minimum}")]
    BelowMinimum {
        /// Volume of the bid.
        volume: Power,
        /// Smallest allowed.
        minimum: Power,
    },
    /// Too much.
    #[error("volume {volume} is above the largest bid {maximum}")]
    AboveMaximum {
        /// Volume of the bid.
        volume: Power,
        /// Largest allowed.
        maximum: Power,
    },
    /// Between two steps.
    #[error("volume {volume} is not a whole number of steps of {step}")]
    OffStep {
        /// Volume of the bid.
        volume: Power,
        /// Step.
        step: Power,
    },
    /// Too much to be taken whole only, or not allowed at all.
    #[error("an indivisible bid of {volume} is above the cap of {cap}")]
    Indivisible {
        /// Volume of the bid.
        volume: Power,
        /// Largest indivisible volume; zero if every bid must be divisible.
        cap: Power,
    },
    /// Another currency.
    #[error("price is in {met}, the market is in {expected}")]
    WrongCurrency {
        /// Currency of the bid.
        met: Currency,
        /// Currency of the area.
        expected: Currency,
    },
    /// Beyond the limits.
    #[error("price {price} is outside the limits {floor:?} to {cap:?} (market unit {per_unit})")]
    OutsidePriceLimits {
        /// Price of the bid.
        price: Price,
        /// The same in the market's unit.
        per_unit: Decimal,
        /// Lowest price, market unit.
        floor: Option<Decimal>,
        /// Highest price, market unit.
        cap: Option<Decimal>,
    },
    /// Between two steps.
    #[error("price {price} is not a whole number of steps of {step}")]
    OffPriceStep {
        /// Price of the bid.
        price: Price,
        /// Step.
        step: Decimal,
    },
    /// Not a probability.
    #[error("delivery probability {0} is not between 0 and 1")]
    Probability(f64),
    /// Too early.
    #[error("gate opens at {opens_at}, bid was built at {now}")]
    GateNotOpen {
        /// First instant at which bids are taken.
        opens_at: DateTime<Utc>,
        /// When the bid was built.
        now: DateTime<Utc>,
    },
    /// Too late.
    #[error("gate closed at {closed_at}, bid was built at {now}")]
    GateClosed {
        /// First instant at which a bid is late.
        closed_at: DateTime<Utc>,
        /// When the bid was built.
        now: DateTime<Utc>,
    },
}

impl Bid {
    /// A draft that the rules allow at `now`; its name follows from what is bid for.
    ///
    /// # Errors
    /// [`BidError`] naming the rule it breaks.
    pub fn try_new(rules: &Rules, offer: Offer, now: DateTime<Utc>) -> Result<Self, BidError> {
        let rule = rules.at(offer.area, offer.product, offer.delivery_start)?;
        let delivery =
            calendar::delivery_at(rule, offer.delivery_start).ok_or(BidError::WrongBlock {
                product: offer.product,
                start: offer.delivery_start,
                end: offer.delivery_start,
            })?;
        let key = format!("{}/{:?}", offer.product.name(), offer.direction);
        let bid = Self {
            id: BidId::derive(offer.area.code(), &key, delivery.start(), offer.revision),
            area: offer.area,
            product: offer.product,
            direction: offer.direction,
            delivery,
            volume: offer.volume,
            price: offer.price,
            divisible: offer.divisible,
            gate_closes: rule.gate.closes(delivery.start(), rule.calendar_zone),
            built_at: now,
            delivery_probability: offer.delivery_probability,
            reason: offer.reason,
            status: BidStatus::Draft,
        };
        bid.check(rules, now)?;
        Ok(bid)
    }

    /// Holds the bid against the rules at `now`. A gateway checks again before it sends: time has passed.
    ///
    /// # Errors
    /// [`BidError`] naming the rule it breaks.
    pub fn check(&self, rules: &Rules, now: DateTime<Utc>) -> Result<(), BidError> {
        let rule = rules.at(self.area, self.product, self.delivery.start())?;
        if calendar::delivery_at(rule, self.delivery.start()) != Some(self.delivery) {
            return Err(BidError::WrongBlock {
                product: self.product,
                start: self.delivery.start(),
                end: self.delivery.end(),
            });
        }
        if !rule.directions.contains(&self.direction) {
            return Err(BidError::WrongDirection {
                product: self.product,
                direction: self.direction,
            });
        }
        if !(0.0..=1.0).contains(&self.delivery_probability) {
            return Err(BidError::Probability(self.delivery_probability));
        }
        self.check_volume(rule)?;
        self.check_price(rule)?;
        self.check_gate(rule, now)
    }

    fn check_volume(&self, rule: &Rule) -> Result<(), BidError> {
        let volume = self.volume;
        if volume < rule.minimum {
            return Err(BidError::BelowMinimum {
                volume,
                minimum: rule.minimum,
            });
        }
        if let Some(maximum) = rule.maximum.filter(|m| volume > *m) {
            return Err(BidError::AboveMaximum { volume, maximum });
        }
        if volume.watts() % rule.step.watts() != 0 {
            return Err(BidError::OffStep {
                volume,
                step: rule.step,
            });
        }
        let cap = match rule.divisible {
            Divisible::Always => Power::ZERO,
            Divisible::IndivisibleAllowed { cap_watts } => Power::from_watts(cap_watts),
        };
        if !self.divisible && volume > cap {
            return Err(BidError::Indivisible { volume, cap });
        }
        Ok(())
    }

    fn check_price(&self, rule: &Rule) -> Result<(), BidError> {
        let Some(price) = self.price else {
            return Ok(());
        };
        let expected = self.area.currency();
        if price.currency() != expected {
            return Err(BidError::WrongCurrency {
                met: price.currency(),
                expected,
            });
        }
        let per_unit = rule
            .price
            .unit
            .from_platform(price.per_unit(), self.delivery);
        let below = rule.price.floor.is_some_and(|floor| per_unit < floor);
        if below || rule.price.cap.is_some_and(|cap| per_unit > cap) {
            return Err(BidError::OutsidePriceLimits {
                price,
                per_unit,
                floor: rule.price.floor,
                cap: rule.price.cap,
            });
        }
        // Per MW and hour the step holds before the price is multiplied by the hours of the block; a 3-hour block would make
        // honest prices look off step, so only prices in the platform's own unit are held against it.
        if rule.price.unit != PriceUnit::PerMwHour && per_unit % rule.price.step != Decimal::ZERO {
            return Err(BidError::OffPriceStep {
                price,
                step: rule.price.step,
            });
        }
        Ok(())
    }

    fn check_gate(&self, rule: &Rule, now: DateTime<Utc>) -> Result<(), BidError> {
        let start = self.delivery.start();
        let closed_at = rule.gate.closes(start, rule.calendar_zone);
        if now >= closed_at {
            return Err(BidError::GateClosed { closed_at, now });
        }
        match rule.gate.opens(start, rule.calendar_zone) {
            Some(opens_at) if now < opens_at => Err(BidError::GateNotOpen { opens_at, now }),
            _ => Ok(()),
        }
    }
}
