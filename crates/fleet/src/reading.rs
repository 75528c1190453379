//! What comes in from a station.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Power, Soc};

use crate::{Acknowledgement, EvseId, Needs, SessionId, StationId, VehicleId};

/// One sample of a meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Outlet.
    pub evse: EvseId,
    /// Stay during which it was taken, if any.
    pub session: Option<SessionId>,
    /// Instant of the sample by the station's clock.
    pub at: DateTime<Utc>,
    /// Power at the grid side; positive charges.
    pub power: Option<Power>,
    /// Register of energy taken from the grid since the meter was built; never steps back.
    pub import_register: Option<Energy>,
    /// Register of energy given to the grid since the meter was built; never steps back.
    pub export_register: Option<Energy>,
    /// State of charge, where the vehicle tells it.
    pub soc: Option<Soc>,
}

/// Everything a station can tell, as it travels on `telemetry.readings.v1` (key: EVSE or station).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Telemetry {
    /// A station came (back) online or lost its connection.
    Connection {
        /// Station.
        station: StationId,
        /// Its outlets.
        evses: Vec<EvseId>,
        /// Connected or not.
        online: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// A vehicle plugged in.
    PluggedIn {
        /// Stay.
        session: SessionId,
        /// Outlet.
        evse: EvseId,
        /// Vehicle, where known.
        vehicle: Option<VehicleId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody stated (or corrected) what the vehicle needs.
    Needs {
        /// Outlet.
        evse: EvseId,
        /// Stay.
        session: SessionId,
        /// What it must have at departure.
        needs: Needs,
        /// When it was said.
        at: DateTime<Utc>,
    },
    /// A meter sample.
    Reading(Reading),
    /// A vehicle left.
    Unplugged {
        /// Stay.
        session: SessionId,
        /// Outlet.
        evse: EvseId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A station answered a set-point.
    Acknowledged(Acknowledgement),
}

impl Telemetry {
    /// Key on the log: the EVSE, or the station for a connection event.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Connection { station, .. } => station.as_str(),
            Self::PluggedIn { evse, .. }
            | Self::Needs { evse, .. }
            | Self::Unplugged { evse, .. } => evse.as_str(),
            Self::Reading(reading) => reading.evse.as_str(),
            Self::Acknowledged(ack) => ack.evse.as_str(),
        }
    }

    /// Instant of the event by the station's clock.
    #[must_use]
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Connection { at, .. }
            | Self::PluggedIn { at, .. }
            | Self::Needs { at, .. }
            | Self::Unplugged { at, .. } => *at,
            Self::Reading(reading) => reading.at,
            Self::Acknowledged(ack) => ack.answered_at,
        }
    }
}
