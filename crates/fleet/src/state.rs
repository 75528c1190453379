//! What is plugged in now: a fold over what stations told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Power, Soc};

use crate::{Evse, EvseId, Session};

/// One stay as far as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The stay.
    pub session: Session,
    /// Energy that reached the battery since plug-in; `None` before anything was measured.
    pub added: Option<Energy>,
    /// Newest state of charge, where the vehicle tells it.
    pub soc: Option<Soc>,
}

/// A power and the instant it was measured or accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAt {
    /// Power at the grid side; positive charges.
    pub power: Power,
    /// When.
    pub at: DateTime<Utc>,
}

/// One EVSE as it stands, as it travels on `fleet.state.v1` (key: EVSE).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvseState {
    /// The outlet as registered.
    pub evse: Evse,
    /// True while its station is connected.
    pub online: bool,
    /// Instant of the newest event that changed this state.
    pub changed_at: DateTime<Utc>,
    /// Stay in progress, if a vehicle is plugged in.
    pub session: Option<SessionState>,
    /// Newest metered power.
    pub power: Option<PowerAt>,
    /// Newest set-point that the station accepted.
    pub setpoint: Option<PowerAt>,
    /// True while metered power does not follow an accepted set-point.
    pub unresponsive: bool,
}

/// The fleet as it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FleetState {
    evses: BTreeMap<EvseId, EvseState>,
}

impl FleetState {
    /// State of one EVSE, if it is registered.
    #[must_use]
    pub fn get(&self, evse: &EvseId) -> Option<&EvseState> {
        self.evses.get(evse)
    }

    /// All EVSEs in order of their name.
    pub fn iter(&self) -> impl Iterator<Item = &EvseState> {
        self.evses.values()
    }
}
