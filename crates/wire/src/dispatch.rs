//! `shoal.dispatch.v1`: set-points. Cycles and activations are built by the gateway and only shown.

use fleet::{Curve, CurvePoint, Mode, Setpoint};
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
            mode: mode_message(&setpoint.mode),
            term: None,
            traceparent: None,
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
            mode: wire.mode.map_or(Ok(Mode::default()), |mode| {
                Mode::try_from(mode).map_err(|e| e.inside("mode"))
            })?,
        })
    }
}

/// The power as told is the rule and travels as nothing.
fn mode_message(mode: &Mode) -> Option<proto::Mode> {
    use proto::mode::Mode as Message;
    let message = match mode {
        Mode::CentralSetpoint => return None,
        Mode::ChargingOnly => Message::ChargingOnly(proto::mode::Bare {}),
        Mode::Idle => Message::Idle(proto::mode::Bare {}),
        Mode::LocalFrequency(curve) => Message::LocalFrequency(curve.into()),
        Mode::CentralFrequency(curve) => Message::CentralFrequency(curve.into()),
        Mode::Signal(value) => Message::Signal(*value),
        Mode::LocalLoadBalancing { discharge } => {
            Message::LocalLoadBalancing(proto::mode::LoadBalancing {
                discharge_watts: discharge.watts(),
            })
        }
    };
    Some(proto::Mode {
        mode: Some(message),
    })
}

impl TryFrom<proto::Mode> for Mode {
    type Error = WireError;
    fn try_from(wire: proto::Mode) -> Result<Self, WireError> {
        use proto::mode::Mode as Message;
        // A mode of a later version is not taken for another.
        Ok(match field::required("mode", wire.mode)? {
            Message::ChargingOnly(_) => Self::ChargingOnly,
            Message::Idle(_) => Self::Idle,
            Message::LocalFrequency(curve) => Self::LocalFrequency(curve.try_into()?),
            Message::CentralFrequency(curve) => Self::CentralFrequency(curve.try_into()?),
            Message::Signal(value) => Self::Signal(value),
            Message::LocalLoadBalancing(bounds) => Self::LocalLoadBalancing {
                discharge: Power::from_watts(bounds.discharge_watts),
            },
        })
    }
}

impl From<&Curve> for proto::mode::Curve {
    fn from(curve: &Curve) -> Self {
        let points = curve.points().iter().map(|point| proto::mode::Point {
            at: point.at,
            power_watts: point.power.watts(),
        });
        Self {
            points: points.collect(),
        }
    }
}

impl TryFrom<proto::mode::Curve> for Curve {
    type Error = WireError;
    fn try_from(wire: proto::mode::Curve) -> Result<Self, WireError> {
        let points = wire.points.into_iter().map(|point| CurvePoint {
            at: point.at,
            power: Power::from_watts(point.power_watts),
        });
        let points: Vec<CurvePoint> = points.collect();
        points
            .try_into()
            .map_err(|error| WireError::invalid("points", error))
    }
}
