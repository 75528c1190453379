//! OCPP 2.0.1: its own schemas at the door; behind it, 2.1 says the same things in the same words.

use chrono::{DateTime, Utc};
use fleet::Setpoint;
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::CallError;
use ocpp_kit::v2_0_1::{
    Action, ChargingProfile, ChargingProfileKind, ChargingProfilePurpose, ChargingRateUnit,
    ChargingSchedule, ChargingSchedulePeriod, CsRequest, SetChargingProfileRequest,
};

use crate::answer::reply;
use crate::instant::{life_seconds, to_ocpp};
use crate::orders::Target;
use crate::supply::Rate;
use crate::{sign, v21};

/// Reads a call of a station: checked against the schemas of 2.0.1, then taken as the message of 2.1 that holds it. For
/// what stations send, 2.1 kept the members and values of 2.0.1 and added its own.
///
/// # Errors
/// The error to answer with.
pub(crate) fn decode(
    action: &str,
    payload: &RawValue,
) -> Result<ocpp_kit::v2_1::CsRequest, CallError> {
    let known = Action::from_wire(action).ok_or_else(|| CallError::not_implemented(action))?;
    let request = CsRequest::decode(known, payload, &DecodeOptions::strict())?;
    if let CsRequest::NotifyEVChargingNeeds(needs) = &request {
        // Members that 2.1 added, discharge above all, are not believed of a 2.0.1 station.
        return v21::decode(action, &reply(needs)?);
    }
    v21::decode(action, payload)
}

/// A set-point as a 2.0.1 profile: a limit for the transaction that holds until the set-point expires. `None` if it asks
/// for discharge, which 2.0.1 cannot say.
pub(crate) fn profile(
    target: Target<'_>,
    setpoint: &Setpoint,
    now: DateTime<Utc>,
) -> Option<SetChargingProfileRequest> {
    let limit = sign::limit(setpoint.power, target.rate)?;
    let mut period = ChargingSchedulePeriod::new(0, limit);
    let unit = match target.rate {
        Rate::Watts => ChargingRateUnit::W,
        Rate::Amperes(supply) => {
            period.number_phases = Some(supply.phases().into());
            ChargingRateUnit::A
        }
    };
    let mut schedule = ChargingSchedule::new(target.place, unit, vec![period]);
    schedule.duration = Some(life_seconds(setpoint.expires_at, now));
    schedule.start_schedule = Some(to_ocpp(now));
    let mut profile = ChargingProfile::new(
        target.place,
        target.stack_level,
        ChargingProfilePurpose::TxProfile,
        ChargingProfileKind::Absolute,
        vec![schedule],
    );
    profile.transaction_id = Some(target.transaction.to_owned());
    Some(SetChargingProfileRequest::new(target.place, profile))
}
