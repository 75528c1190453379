//! OCPP 2.1: what it has beyond 2.0.1, and what stations are told in it.

use chrono::{DateTime, Utc};
use fleet::Setpoint;
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::CallError;
use ocpp_kit::v2_1::{
    Action, ChargingProfile, ChargingProfileKind, ChargingProfilePurpose, ChargingProfileStatus,
    ChargingRateUnit, ChargingSchedule, ChargingSchedulePeriod, ChargingScheduleUpdate, CsRequest,
    OperationMode, PullDynamicScheduleUpdateRequest, PullDynamicScheduleUpdateResponse,
    SetChargingProfileRequest, UpdateDynamicScheduleRequest,
};

use crate::answer::{Answer, reply};
use crate::instant::{life_seconds, to_ocpp};
use crate::sign;
use crate::station::{Outlets, PROFILE_STACK_LEVEL};

/// Reads a call of a station.
///
/// # Errors
/// The error to answer with.
pub(crate) fn decode(action: &str, payload: &RawValue) -> Result<CsRequest, CallError> {
    let known = Action::from_wire(action).ok_or_else(|| CallError::not_implemented(action))?;
    Ok(CsRequest::decode(known, payload, &DecodeOptions::strict())?)
}

/// Answers a station that asks for the value of its dynamic profile: from the set-point that was written last.
pub(crate) fn pull_update(
    outlets: &Outlets,
    pull: &PullDynamicScheduleUpdateRequest,
    now: DateTime<Utc>,
) -> Answer {
    let told = outlets
        .told(pull.charging_profile_id)
        .filter(|s| s.expires_at > now);
    let Some(setpoint) = told else {
        return reply(&PullDynamicScheduleUpdateResponse::new(
            ChargingProfileStatus::Rejected,
        ));
    };
    let mut response = PullDynamicScheduleUpdateResponse::new(ChargingProfileStatus::Accepted);
    response.schedule_update = Some(schedule_update(setpoint));
    reply(&response)
}

fn schedule_update(setpoint: &Setpoint) -> ChargingScheduleUpdate {
    let mut update = ChargingScheduleUpdate::new();
    update.setpoint = Some(sign::setpoint(setpoint.power));
    update
}

/// A set-point as a 2.1 profile: one dynamic period that holds for the life of the set-point after each update.
pub(crate) fn profile(
    place: i32,
    transaction: &str,
    setpoint: &Setpoint,
) -> SetChargingProfileRequest {
    let mut period = ChargingSchedulePeriod::new(0);
    period.operation_mode = Some(OperationMode::CentralSetpoint);
    period.setpoint = Some(sign::setpoint(setpoint.power));
    let mut schedule = ChargingSchedule::new(place, ChargingRateUnit::W, vec![period]);
    schedule.duration = Some(life_seconds(setpoint.expires_at, setpoint.issued_at));
    let mut profile = ChargingProfile::new(
        place,
        PROFILE_STACK_LEVEL,
        ChargingProfilePurpose::TxProfile,
        ChargingProfileKind::Dynamic,
        vec![schedule],
    );
    profile.transaction_id = Some(transaction.to_owned());
    profile.dyn_update_time = Some(to_ocpp(setpoint.issued_at));
    SetChargingProfileRequest::new(place, profile)
}

/// The fast path once a profile is installed: one number. The life of the profile starts again.
pub(crate) fn update(place: i32, setpoint: &Setpoint) -> UpdateDynamicScheduleRequest {
    UpdateDynamicScheduleRequest::new(place, schedule_update(setpoint))
}
