//! OCPP 2.1: what stations say, and what they are told.

use chrono::{DateTime, Utc};
use fleet::{SessionId, Setpoint, Telemetry, VehicleId};
use ocpp_kit::rpc::{CallError, ErrorCode};
use ocpp_kit::v2_1::{
    AuthorizationStatus, AuthorizeResponse, BootNotificationResponse, ChargingProfile,
    ChargingProfileKind, ChargingProfilePurpose, ChargingProfileStatus, ChargingRateUnit,
    ChargingSchedule, ChargingSchedulePeriod, ChargingScheduleUpdate, ClearedChargingLimitResponse,
    CsRequest, DataTransferResponse, DataTransferStatus, FirmwareStatusNotificationResponse,
    GenericStatus, HeartbeatResponse, IdTokenInfo, LogStatusNotificationResponse, MeterValue,
    MeterValuesRequest, MeterValuesResponse, NotifyChargingLimitResponse,
    NotifyEVChargingNeedsRequest, NotifyEVChargingNeedsResponse, NotifyEVChargingNeedsStatus,
    NotifyEVChargingScheduleResponse, NotifyEventResponse, NotifyMonitoringReportResponse,
    NotifyPriorityChargingResponse, NotifyReportResponse, OperationMode,
    PullDynamicScheduleUpdateRequest, PullDynamicScheduleUpdateResponse, RegistrationStatus,
    ReportChargingProfilesResponse, SecurityEventNotificationResponse, SetChargingProfileRequest,
    StatusNotificationResponse, TransactionEventEnum, TransactionEventRequest,
    TransactionEventResponse, UpdateDynamicScheduleRequest,
};
use units::Energy;

use crate::instant::{from_ocpp, to_ocpp};
use crate::meter::{self, DEFAULT_MEASURAND, Sample};
use crate::needs;
use crate::sign;
use crate::station::{Outlets, Said};
use crate::v16::{Answer, PROFILE_STACK_LEVEL, life_seconds, reply};

/// Takes in one message of a registered station.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others say no more than that they happened"
)]
pub(crate) fn handle(
    outlets: &mut Outlets,
    request: CsRequest,
    now: DateTime<Utc>,
    heartbeat_seconds: u32,
    said: &mut Said,
) -> Answer {
    match request {
        CsRequest::BootNotification(_) => reply(&BootNotificationResponse::new(
            to_ocpp(now),
            i32::try_from(heartbeat_seconds).unwrap_or(i32::MAX),
            RegistrationStatus::Accepted,
        )),
        CsRequest::Heartbeat(_) => reply(&HeartbeatResponse::new(to_ocpp(now))),
        CsRequest::Authorize(_) => reply(&AuthorizeResponse::new(accepted())),
        CsRequest::TransactionEvent(event) => transaction_event(outlets, &event, said),
        CsRequest::MeterValues(values) => meter_values(outlets, &values, said),
        CsRequest::NotifyEVChargingNeeds(asked) => charging_needs(outlets, &asked, now, said),
        CsRequest::PullDynamicScheduleUpdate(pull) => pull_update(outlets, &pull, now),
        CsRequest::DataTransfer(_) => reply(&DataTransferResponse::new(
            DataTransferStatus::UnknownVendorId,
        )),
        CsRequest::NotifyEVChargingSchedule(_) => reply(&NotifyEVChargingScheduleResponse::new(
            GenericStatus::Accepted,
        )),
        other => acknowledge(&other),
    }
}

/// Reports that need no more than a receipt.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are refused by name"
)]
fn acknowledge(request: &CsRequest) -> Answer {
    match request {
        CsRequest::StatusNotification(_) => reply(&StatusNotificationResponse::new()),
        CsRequest::NotifyEvent(_) => reply(&NotifyEventResponse::new()),
        CsRequest::NotifyReport(_) => reply(&NotifyReportResponse::new()),
        CsRequest::NotifyMonitoringReport(_) => reply(&NotifyMonitoringReportResponse::new()),
        CsRequest::NotifyPriorityCharging(_) => reply(&NotifyPriorityChargingResponse::new()),
        CsRequest::NotifyChargingLimit(_) => reply(&NotifyChargingLimitResponse::new()),
        CsRequest::ClearedChargingLimit(_) => reply(&ClearedChargingLimitResponse::new()),
        CsRequest::ReportChargingProfiles(_) => reply(&ReportChargingProfilesResponse::new()),
        CsRequest::FirmwareStatusNotification(_) => {
            reply(&FirmwareStatusNotificationResponse::new())
        }
        CsRequest::LogStatusNotification(_) => reply(&LogStatusNotificationResponse::new()),
        CsRequest::SecurityEventNotification(_) => reply(&SecurityEventNotificationResponse::new()),
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

fn accepted() -> IdTokenInfo {
    IdTokenInfo::new(AuthorizationStatus::Accepted)
}

fn refuse(reason: String, said: &mut Said) -> Answer {
    said.refused.push(reason.clone());
    Err(CallError::new(
        ErrorCode::PropertyConstraintViolation,
        reason,
    ))
}

fn transaction_event(
    outlets: &mut Outlets,
    event: &TransactionEventRequest,
    said: &mut Said,
) -> Answer {
    let transaction = event.transaction_info.transaction_id.as_str();
    let Some(place) = outlets.place_of(event.evse.as_ref().map(|e| e.id), transaction) else {
        let reason = format!("transaction {transaction} is unknown and names no EVSE");
        said.refused.push(reason.clone());
        return Err(CallError::new(
            ErrorCode::OccurrenceConstraintViolation,
            reason,
        ));
    };
    let known = outlets.station.evses.len();
    if outlets.station.evse(place).is_none() {
        return refuse(
            format!("evse.id is {place}, registered are 1 to {known}"),
            said,
        );
    }
    let Some(at) = from_ocpp(event.timestamp) else {
        return refuse(
            format!("timestamp {} is outside the calendar", event.timestamp),
            said,
        );
    };
    let vehicle: Option<VehicleId> = event
        .id_token
        .as_ref()
        .and_then(|token| token.id_token.parse().ok());
    let ended = event.event_type == TransactionEventEnum::Ended;
    // The end of a stay nobody heard begin still closes the right name.
    let session = if ended
        && outlets
            .stay(place)
            .is_none_or(|s| s.transaction != transaction)
    {
        let evse = outlets.station.evse(place).map(|e| e.id.clone());
        evse.map(|evse| crate::stay::session_id(&evse, transaction))
    } else {
        outlets.begin(place, transaction, vehicle, at, said)
    };
    for values in event.meter_value.iter().flatten() {
        take_values(outlets, place, session.clone(), values, said);
    }
    if ended {
        outlets.end(place, transaction, at, said);
    }
    let mut response = TransactionEventResponse::new();
    response.id_token_info = event.id_token.as_ref().map(|_| accepted());
    reply(&response)
}

fn meter_values(outlets: &mut Outlets, values: &MeterValuesRequest, said: &mut Said) -> Answer {
    let place = values.evse_id;
    // EVSE 0 is the main meter of the station; outlets are read on their own.
    if place != 0 {
        if outlets.station.evse(place).is_none() {
            let known = outlets.station.evses.len();
            return refuse(
                format!("evseId is {place}, registered are 1 to {known}"),
                said,
            );
        }
        let session = outlets.session(place);
        for value in &values.meter_value {
            take_values(outlets, place, session.clone(), value, said);
        }
    }
    reply(&MeterValuesResponse::new())
}

fn take_values(
    outlets: &mut Outlets,
    place: i32,
    session: Option<SessionId>,
    values: &MeterValue,
    said: &mut Said,
) {
    let (Some(at), Some(evse)) = (from_ocpp(values.timestamp), outlets.station.evse(place)) else {
        said.refused.push(format!(
            "timestamp {} is outside the calendar",
            values.timestamp
        ));
        return;
    };
    let samples: Vec<Sample> = values
        .sampled_value
        .iter()
        .map(|v| Sample {
            measurand: v
                .measurand
                .as_ref()
                .map_or(DEFAULT_MEASURAND, |m| m.as_str())
                .to_owned(),
            value: v.value,
            unit: v.unit_of_measure.as_ref().and_then(|u| u.unit.clone()),
            exponent: v
                .unit_of_measure
                .as_ref()
                .and_then(|u| u.multiplier)
                .unwrap_or(0),
            phase: v.phase.as_ref().map(|p| p.as_str().to_owned()),
            location: v.location.as_ref().map(|l| l.as_str().to_owned()),
        })
        .collect();
    let (reading, refused) = meter::reading(&evse.id, session, at, &samples);
    said.refused.extend(refused);
    if meter::says_something(&reading) {
        outlets.read(place, reading, said);
    }
}

fn charging_needs(
    outlets: &mut Outlets,
    asked: &NotifyEVChargingNeedsRequest,
    now: DateTime<Utc>,
    said: &mut Said,
) -> Answer {
    let place = asked.evse_id;
    let (Some(evse), Some(session)) = (outlets.station.evse(place), outlets.session(place)) else {
        return refuse(
            format!("charging needs for EVSE {place}, where no transaction is running"),
            said,
        );
    };
    let added = outlets.added(place).unwrap_or(Energy::ZERO);
    match needs::needs(&asked.charging_needs, evse, added) {
        Ok(needs) => {
            said.events.push(Telemetry::Needs {
                evse: evse.id.clone(),
                session,
                needs,
                at: asked.timestamp.and_then(from_ocpp).unwrap_or(now),
            });
            // A profile follows with the next dispatch cycle.
            reply(&NotifyEVChargingNeedsResponse::new(
                NotifyEVChargingNeedsStatus::Processing,
            ))
        }
        Err(error) => {
            said.refused.push(error.to_string());
            reply(&NotifyEVChargingNeedsResponse::new(
                NotifyEVChargingNeedsStatus::Rejected,
            ))
        }
    }
}

fn pull_update(
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
