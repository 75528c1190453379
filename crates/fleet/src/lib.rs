#![doc = include_str!("../README.md")]

pub mod charge_point;
pub mod ids;
pub mod reading;
pub mod schedule;
pub mod session;
pub mod setpoint;

pub use charge_point::{ChargePoint, Evse, Protocol};
pub use ids::{EvseId, SessionId, SetpointId, SignalId, SiteId, StationId, VehicleId};
pub use reading::{Reading, Telemetry};
pub use session::{Needs, Session};
pub use setpoint::{Acknowledgement, Setpoint};

use serde::{Deserialize, Serialize};

/// Which way flexibility moves the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Relieves a shortage: less charging or more discharging, so fleet power falls.
    Up,
    /// Relieves a surplus: more charging or less discharging, so fleet power rises.
    Down,
}
