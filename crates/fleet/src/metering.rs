//! From registers to energy per settlement interval; a gap stays a gap.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use units::{Energy, Interval};

use crate::{EvseId, SiteId};

/// Length of a metered interval: the imbalance settlement period of the European areas.
pub const INTERVAL: TimeDelta = TimeDelta::minutes(15);

/// Metered energy of one EVSE in one settlement interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterInterval {
    /// Outlet.
    pub evse: EvseId,
    /// Grid connection point it belongs to.
    pub site: SiteId,
    /// When.
    pub interval: Interval,
    /// Energy taken from the grid in the covered part, at least zero.
    pub import: Energy,
    /// Energy given to the grid in the covered part as a magnitude, at least zero.
    pub export: Energy,
    /// Seconds of the interval that were measured; the rest is unknown, not zero.
    pub covered_seconds: u32,
    /// 1 at first, one more each time late data change the figures.
    pub version: u32,
}

impl MeterInterval {
    /// Import less export: positive was taken from the grid.
    #[must_use]
    pub fn net(&self) -> Energy {
        self.import - self.export
    }
}
