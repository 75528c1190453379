//! What each EVSE is planned to do in the intervals ahead.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

use crate::{EvseId, SessionId};

/// Planned power and reserve of one EVSE in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Power at the grid side; positive charges.
    pub power: Power,
    /// How far power may be lowered when reserve is called, at least zero.
    pub up: Power,
    /// How far power may be raised when reserve is called, at least zero.
    pub down: Power,
}

/// Plan of one EVSE: `steps[i]` holds from `start + i*step`, on the grid of the plan it is part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Outlet.
    pub evse: EvseId,
    /// Stay it was planned for; a schedule never outlives its session.
    pub session: Option<SessionId>,
    /// First instant.
    pub start: DateTime<Utc>,
    /// Seconds per step.
    pub step_seconds: u32,
    /// One entry per step.
    pub steps: Vec<Step>,
    /// Why it looks like this, in words.
    pub reason: String,
}
