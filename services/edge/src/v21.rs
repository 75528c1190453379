//! OCPP 2.1: what it has beyond 2.0.1, and what stations are told in it.

use chrono::{DateTime, Utc};
use fleet::{Mode, Setpoint};
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::CallError;
use ocpp_kit::v2_1::{
    AFRRSignalRequest, Action, ChargingProfile, ChargingProfileKind, ChargingProfilePurpose,
    ChargingProfileStatus, ChargingRateUnit, ChargingSchedule, ChargingSchedulePeriod,
    ChargingScheduleUpdate, CsRequest, OperationMode, PullDynamicScheduleUpdateRequest,
    PullDynamicScheduleUpdateResponse, SetChargingProfileRequest, UpdateDynamicScheduleRequest,
    V2XFreqWattPoint, V2XSignalWattPoint,
};

use crate::answer::{Answer, reply};
use crate::instant::{life_seconds, to_ocpp};
use crate::orders::Target;
use crate::sign;
use crate::station::{Outlets, Said};

/// Reads a call of a station.
///
/// # Errors
/// The error to answer with.
pub(crate) fn decode(action: &str, payload: &RawValue) -> Result<CsRequest, CallError> {
    let known = Action::from_wire(action).ok_or_else(|| CallError::not_implemented(action))?;
    Ok(CsRequest::decode(known, payload, &DecodeOptions::strict())?)
}

/// Takes in a message that is never answered.
pub(crate) fn unconfirmed(
    outlets: &mut Outlets,
    action: &str,
    payload: &RawValue,
    said: &mut Said,
) {
    match decode(action, payload) {
        Ok(CsRequest::NotifyPeriodicEventStream(sent)) => outlets.streamed(&sent, said),
        Ok(_) => said
            .refused
            .push("unconfirmed, expected NotifyPeriodicEventStream alone".to_owned()),
        Err(error) => said.refused.push(error.to_string()),
    }
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
    let Some(update) = told.and_then(schedule_update) else {
        return reply(&PullDynamicScheduleUpdateResponse::new(
            ChargingProfileStatus::Rejected,
        ));
    };
    let mut response = PullDynamicScheduleUpdateResponse::new(ChargingProfileStatus::Accepted);
    response.schedule_update = Some(update);
    reply(&response)
}

/// What is new in a mode that one number renews; `None` in the others.
fn schedule_update(setpoint: &Setpoint) -> Option<ChargingScheduleUpdate> {
    let mut update = ChargingScheduleUpdate::new();
    match &setpoint.mode {
        Mode::CentralSetpoint | Mode::Signal(_) => {
            update.setpoint = Some(sign::setpoint(setpoint.power));
        }
        Mode::ChargingOnly => update.limit = sign::charge_limit(setpoint.power),
        Mode::LocalLoadBalancing { discharge } => {
            update.limit = sign::charge_limit(setpoint.power);
            update.discharge_limit = Some(sign::discharge_limit(*discharge));
        }
        Mode::Idle | Mode::LocalFrequency(_) | Mode::CentralFrequency(_) => return None,
    }
    Some(update)
}

/// The period of a profile, with the fields that its mode has and no other.
fn period(setpoint: &Setpoint) -> ChargingSchedulePeriod {
    let mut period = ChargingSchedulePeriod::new(0);
    period.operation_mode = Some(match &setpoint.mode {
        Mode::CentralSetpoint | Mode::Signal(_) => {
            period.setpoint = Some(sign::setpoint(setpoint.power));
            OperationMode::CentralSetpoint
        }
        Mode::ChargingOnly => {
            period.limit = sign::charge_limit(setpoint.power);
            OperationMode::ChargingOnly
        }
        Mode::Idle => OperationMode::Idle,
        Mode::LocalFrequency(curve) => {
            period.v2x_baseline = Some(sign::curve_power(setpoint.power));
            let points = curve.points().iter();
            let points = points
                .map(|p| V2XFreqWattPoint::new(sign::hertz(p.at), sign::curve_power(p.power)));
            period.v2x_freq_watt_curve = Some(points.collect());
            OperationMode::LocalFrequency
        }
        Mode::CentralFrequency(curve) => {
            period.v2x_baseline = Some(sign::curve_power(setpoint.power));
            let points = curve.points().iter();
            let points = points.map(|p| V2XSignalWattPoint::new(p.at, sign::curve_power(p.power)));
            period.v2x_signal_watt_curve = Some(points.collect());
            OperationMode::CentralFrequency
        }
        Mode::LocalLoadBalancing { discharge } => {
            period.limit = sign::charge_limit(setpoint.power);
            period.discharge_limit = Some(sign::discharge_limit(*discharge));
            OperationMode::LocalLoadBalancing
        }
    });
    period
}

/// A set-point as a 2.1 profile: one dynamic period that holds for the life of the set-point after each update, and no
/// longer than that while the station is offline.
pub(crate) fn profile(target: Target<'_>, setpoint: &Setpoint) -> SetChargingProfileRequest {
    let place = target.place;
    let life = life_seconds(setpoint.expires_at, setpoint.issued_at);
    let mut schedule = ChargingSchedule::new(place, ChargingRateUnit::W, vec![period(setpoint)]);
    schedule.duration = Some(life);
    let mut profile = ChargingProfile::new(
        place,
        target.stack_level,
        ChargingProfilePurpose::TxProfile,
        ChargingProfileKind::Dynamic,
        vec![schedule],
    );
    profile.transaction_id = Some(target.transaction.to_owned());
    profile.dyn_update_time = Some(to_ocpp(setpoint.issued_at));
    profile.max_offline_duration = Some(life);
    profile.invalid_after_offline_duration = Some(true);
    SetChargingProfileRequest::new(place, profile)
}

/// The fast path once a profile is installed: one number. The life of the profile starts again. `None` in a mode that has no
/// such number.
pub(crate) fn update(place: i32, setpoint: &Setpoint) -> Option<UpdateDynamicScheduleRequest> {
    schedule_update(setpoint).map(|update| UpdateDynamicScheduleRequest::new(place, update))
}

/// The balancing signal, which the curve of an installed profile translates.
pub(crate) fn signal(value: i32, at: DateTime<Utc>) -> AFRRSignalRequest {
    AFRRSignalRequest::new(to_ocpp(at), value)
}
