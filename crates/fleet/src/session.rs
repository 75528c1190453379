//! One stay of a vehicle and what its driver needs from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Power};

use crate::{EvseId, SessionId, SiteId, VehicleId};

/// What a vehicle must have when it leaves, as stated by the driver, the vehicle (ISO 15118 through OCPP 2.1) or the
/// depot's timetable. Energies are inside the battery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Needs {
    /// When it leaves; `None` if nobody said.
    pub departure: Option<DateTime<Utc>>,
    /// Energy to add between plug-in and departure, at least zero.
    pub energy: Energy,
    /// Energy in the battery at plug-in; unknown is `None`, never zero.
    pub stored: Option<Energy>,
    /// Usable size of the battery, if known.
    pub capacity: Option<Energy>,
    /// Highest charging power of the vehicle at the grid side.
    pub max_charge: Power,
    /// Highest discharging power of the vehicle at the grid side as a magnitude; zero if it may not discharge.
    pub max_discharge: Power,
    /// Level below which the vehicle must never be discharged, inside the battery.
    pub floor: Energy,
}

/// One stay of one vehicle at one EVSE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Name of the stay.
    pub id: SessionId,
    /// Outlet.
    pub evse: EvseId,
    /// Grid connection point.
    pub site: SiteId,
    /// Who it is, where that is known.
    pub vehicle: Option<VehicleId>,
    /// Start of the stay.
    pub plugged_in: DateTime<Utc>,
    /// End of the stay, once it is over.
    pub unplugged: Option<DateTime<Utc>>,
    /// What it must have at departure; `None` until somebody said.
    pub needs: Option<Needs>,
}
