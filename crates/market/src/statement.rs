//! What was earned and paid, line by line.

use serde::{Deserialize, Serialize};
use units::{Energy, Interval, Money};

use crate::{Area, Product};

/// Kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Energy bought (negative) or sold at the auction price.
    Energy,
    /// Deviation from the sold position at the imbalance price.
    Imbalance,
    /// Capacity payment of reserve.
    Capacity,
    /// Reserve that was sold and not available.
    Penalty,
}

/// One line of a statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What it is for.
    pub kind: LineKind,
    /// Product.
    pub product: Product,
    /// When it was delivered.
    pub interval: Interval,
    /// Energy settled; positive was taken from the grid. Zero for capacity.
    pub energy: Energy,
    /// Positive is received.
    pub amount: Money,
}

/// Statement of one account (a site, or the pool) over one delivery day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose: a site id, or `pool`.
    pub account: String,
    /// Where.
    pub area: Area,
    /// Which delivery day.
    pub day: Interval,
    /// Version; late meter data make a new one.
    pub version: u32,
    /// Lines in order of time.
    pub lines: Vec<Line>,
    /// Sum of the lines; positive is received.
    pub total: Money,
}
