//! What an EVSE is told, and what it answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

use crate::{EvseId, Mode, SetpointId, SignalId};

/// One command to one EVSE, as it travels on `dispatch.setpoints.v1` (key: EVSE).
///
/// On silence: an EVSE that hears nothing until `expires_at` falls back to its own safe profile (charging without
/// discharge); a later set-point replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setpoint {
    /// Name; a set-point handled twice is sent once.
    pub id: SetpointId,
    /// Outlet.
    pub evse: EvseId,
    /// Power at the grid side; positive charges, negative discharges. What it means beyond that, the mode says.
    pub power: Power,
    /// How the EVSE finds its power while this holds.
    #[serde(default)]
    pub mode: Mode,
    /// When it was decided.
    pub issued_at: DateTime<Utc>,
    /// After this instant it no longer holds.
    pub expires_at: DateTime<Utc>,
    /// The signal that caused it, if one did.
    pub signal: Option<SignalId>,
    /// Why, in words an operator understands.
    pub reason: String,
}

/// How a set-point ended at the station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The station stored it. Stored is not obeyed: metered power tells.
    Accepted,
    /// The station refused it.
    Rejected,
    /// The station is not connected or did not answer in time.
    Unreachable,
}

/// The answer to a set-point, as it travels back as telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Set-point answered.
    pub setpoint: SetpointId,
    /// Outlet.
    pub evse: EvseId,
    /// Signal that caused the set-point, if one did.
    pub signal: Option<SignalId>,
    /// What came of it.
    pub outcome: Outcome,
    /// Detail given by the station or by us, empty if none.
    pub detail: String,
    /// When the message was written to the socket.
    pub sent_at: DateTime<Utc>,
    /// When the answer arrived.
    pub answered_at: DateTime<Utc>,
}
