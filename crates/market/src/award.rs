//! Awards: what the market took, and what it obliges to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Interval, Power, Price};

use crate::{Area, AwardId, BidId, Direction, Product};

/// What the market took of one bid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Award {
    /// Name.
    pub id: AwardId,
    /// Bid it answers.
    pub bid: BidId,
    /// Where.
    pub area: Area,
    /// What.
    pub product: Product,
    /// Which way.
    pub direction: Direction,
    /// When it is delivered.
    pub delivery: Interval,
    /// How much was taken, more than zero.
    pub volume: Power,
    /// What it pays: energy per MWh; capacity per MW for the whole block.
    pub price: Price,
    /// When the result was published.
    pub awarded_at: DateTime<Utc>,
}

/// Clearing price of one product and delivery interval, published whether or not we won.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clearing {
    /// Where.
    pub area: Area,
    /// What.
    pub product: Product,
    /// When it is delivered.
    pub delivery: Interval,
    /// Energy per MWh; capacity per MW for the whole block (pay-as-bid: the marginal price).
    pub price: Price,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}
