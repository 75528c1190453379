//! What the optimiser decided for the pool, with reasons.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Interval, Money, Power};

use crate::{Area, PlanId, Product};

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    /// Solved to the asked tolerance.
    Optimal,
    /// Stopped early; the gap says how far it may be off.
    Feasible,
    /// The previous plan, clipped to what is possible now.
    Fallback,
}

/// Reserve that the pool holds in one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Product.
    pub product: Product,
    /// Power held ready, at least zero.
    pub volume: Power,
}

/// The pool in one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// When.
    pub interval: Interval,
    /// Planned pool power, the baseline of reserve delivery; positive charges.
    pub baseline: Power,
    /// Lowest and highest pool power that stay possible.
    pub low: Power,
    /// See `low`.
    pub high: Power,
    /// Reserve held.
    pub held: Vec<Held>,
    /// What limits this interval and at which price, in words; empty if nothing does.
    pub reason: String,
}

/// One answer of the optimiser for the pool. The schedules of the EVSEs travel beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name.
    pub id: PlanId,
    /// Where.
    pub area: Area,
    /// When it was solved.
    pub solved_at: DateTime<Utc>,
    /// Newest input it rests on.
    pub data_until: DateTime<Utc>,
    /// How it ended.
    pub status: PlanStatus,
    /// Proven distance from the optimum, relative; `None` where no bound was computed.
    pub relative_gap: Option<f64>,
    /// Expected cost of the horizon; positive is received.
    pub expected: Option<Money>,
    /// Intervals ahead, in order.
    pub steps: Vec<PlanStep>,
}
