//! Stations and their outlets: where they are and what they can be told.

use serde::{Deserialize, Serialize};
use units::{Efficiency, Power};

use crate::{EvseId, SiteId, StationId};

/// What a station speaks, hence what it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// OCPP 1.6-J: charge limits only.
    #[serde(rename = "ocpp1.6")]
    Ocpp16,
    /// OCPP 2.0.1: charge limits only.
    #[serde(rename = "ocpp2.0.1")]
    Ocpp201,
    /// OCPP 2.1: signed set-points.
    #[serde(rename = "ocpp2.1")]
    Ocpp21,
}

impl Protocol {
    /// Websocket subprotocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ocpp16 => "ocpp1.6",
            Self::Ocpp201 => "ocpp2.0.1",
            Self::Ocpp21 => "ocpp2.1",
        }
    }

    /// True if a set-point may ask for discharge.
    #[must_use]
    pub const fn can_discharge(self) -> bool {
        matches!(self, Self::Ocpp21)
    }
}

/// A station as registered by its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargePoint {
    /// OCPP identity.
    pub id: StationId,
    /// Where it is connected to the grid.
    pub site: SiteId,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its outlets, in order of their number, from 1.
    pub evses: Vec<EvseId>,
}

/// One outlet as registered by its operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evse {
    /// Name, unique over the fleet.
    pub id: EvseId,
    /// Station it belongs to.
    pub station: StationId,
    /// Grid connection point.
    pub site: SiteId,
    /// Class of the place (`home`, `workplace`, `public`, `depot`): forecasts for new places start from it.
    pub class: String,
    /// What the station speaks.
    pub protocol: Protocol,
    /// Highest charging power at the grid side, at least zero.
    pub max_charge: Power,
    /// Highest discharging power at the grid side as a magnitude; zero where discharge is not allowed.
    pub max_discharge: Power,
    /// Share of grid energy that reaches the battery.
    pub charge_efficiency: Efficiency,
    /// Share of battery energy that reaches the grid.
    pub discharge_efficiency: Efficiency,
}

/// A grid connection point as registered by its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Name, unique over the fleet.
    pub id: SiteId,
    /// Name for people.
    pub name: String,
    /// Most power taken from the grid, at least zero.
    pub import_limit: Power,
    /// Most power given to the grid as a magnitude, at least zero.
    pub export_limit: Power,
}
