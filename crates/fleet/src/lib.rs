#![doc = include_str!("../README.md")]

pub mod blocks;
pub mod charge_point;
pub mod ids;
pub mod metering;
pub mod mode;
pub mod reading;
pub mod schedule;
pub mod session;
pub mod setpoint;
pub mod state;

pub use charge_point::{ChargePoint, Evse, Protocol, Site};
pub use ids::{EvseId, SessionId, SetpointId, SignalId, SiteId, StationId, VehicleId};
pub use metering::MeterInterval;
pub use mode::{Curve, CurvePoint, Mode};
pub use reading::{Reading, Telemetry};
pub use session::{Needs, Session};
pub use setpoint::{Acknowledgement, Setpoint};
pub use state::{EvseState, FleetState, SessionState};

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
