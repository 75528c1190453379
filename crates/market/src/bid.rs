//! Bids: what we offer before a gate.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Interval, Power, Price};

use crate::{Area, BidId, Direction, Product};

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
