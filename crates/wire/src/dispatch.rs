//! `shoal.dispatch.v1`: set-points. Cycles and activations are built by the gateway and only shown.

use fleet::Setpoint;
use units::Power;

use crate::proto::dispatch::v1 as proto;
use crate::{WireError, field};

impl From<&Setpoint> for proto::Setpoint {
    fn from(setpoint: &Setpoint) -> Self {
        Self {
            id: setpoint.id.to_string(),
            evse_id: setpoint.evse.to_string(),
            power_watts: Some(setpoint.power.watts()),
            issued_at_micros: setpoint.issued_at.timestamp_micros(),
            expires_at_micros: setpoint.expires_at.timestamp_micros(),
            signal_id: setpoint.signal.as_ref().map(ToString::to_string),
            reason: setpoint.reason.clone(),
        }
    }
}

impl TryFrom<proto::Setpoint> for Setpoint {
    type Error = WireError;
    fn try_from(wire: proto::Setpoint) -> Result<Self, WireError> {
        Ok(Self {
            id: field::text("id", &wire.id)?,
            evse: field::text("evse_id", &wire.evse_id)?,
            // An absent power is not a command to stop.
            power: field::required("power_watts", wire.power_watts).map(Power::from_watts)?,
            issued_at: field::instant("issued_at_micros", wire.issued_at_micros)?,
            expires_at: field::instant("expires_at_micros", wire.expires_at_micros)?,
            signal: field::optional_text("signal_id", wire.signal_id.as_deref())?,
            reason: wire.reason,
        })
    }
}
