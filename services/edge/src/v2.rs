//! OCPP 2.0.1 and 2.1: what stations say, in the types of 2.1.

use chrono::{DateTime, Utc};
use fleet::VehicleId;
use ocpp_kit::rpc::{CallError, ErrorCode};
use ocpp_kit::v2_1::{
    AuthorizationStatus, AuthorizeResponse, BootNotificationResponse, ChargingRateUnit,
    ClearedChargingLimitResponse, ClosePeriodicEventStreamResponse, CsRequest,
    DataTransferResponse, DataTransferStatus, FirmwareStatusNotificationResponse, GenericStatus,
    HeartbeatResponse, IdToken, IdTokenInfo, LogStatusNotificationResponse, MeterValue,
    MeterValuesRequest, MeterValuesResponse, NotifyChargingLimitRequest,
    NotifyChargingLimitResponse, NotifyEVChargingNeedsRequest, NotifyEVChargingNeedsResponse,
    NotifyEVChargingNeedsStatus, NotifyEVChargingScheduleResponse, NotifyEventResponse,
    NotifyMonitoringReportResponse, NotifyPriorityChargingResponse, NotifyReportResponse,
    RegistrationStatus, ReportChargingProfilesResponse, SecurityEventNotificationResponse,
    StatusNotificationResponse, TransactionEventEnum, TransactionEventRequest,
    TransactionEventResponse,
};
use units::Energy;

use crate::answer::{Answer, Desk, outlet, reply, senseless};
use crate::instant::{from_ocpp, to_ocpp};
use crate::meter::{DEFAULT_MEASURAND, Sample};
use crate::station::{Begun, NamedBy, Outlets, Said};
use crate::{issuer, needs, sign, stay, v21};

/// Takes in one message of a registered station.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others say no more than that they happened"
)]
pub(crate) fn handle(
    outlets: &mut Outlets,
    request: CsRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Answer {
    let now = desk.now;
    match request {
        CsRequest::BootNotification(_) => reply(&BootNotificationResponse::new(
            to_ocpp(now),
            i32::try_from(desk.heartbeat_seconds).unwrap_or(i32::MAX),
            RegistrationStatus::Accepted,
        )),
        CsRequest::Heartbeat(_) => reply(&HeartbeatResponse::new(to_ocpp(now))),
        CsRequest::Authorize(asked) => reply(&AuthorizeResponse::new(token(&asked.id_token, desk))),
        CsRequest::TransactionEvent(event) => {
            if event.offline != Some(true) {
                outlets.clock(event.timestamp, now, said);
            }
            transaction_event(outlets, &event, desk, said)
        }
        CsRequest::StatusNotification(status) => {
            outlets.clock(status.timestamp, now, said);
            reply(&StatusNotificationResponse::new())
        }
        CsRequest::MeterValues(values) => meter_values(outlets, &values, said),
        CsRequest::NotifyEVChargingNeeds(asked) => charging_needs(outlets, &asked, now, said),
        CsRequest::PullDynamicScheduleUpdate(pull) => v21::pull_update(outlets, &pull, now),
        CsRequest::DataTransfer(_) => reply(&DataTransferResponse::new(
            DataTransferStatus::UnknownVendorId,
        )),
        CsRequest::NotifyEVChargingSchedule(_) => reply(&NotifyEVChargingScheduleResponse::new(
            GenericStatus::Accepted,
        )),
        CsRequest::NotifyPriorityCharging(notified) => {
            let since = notified.activated.then_some(now);
            outlets.prioritise(&notified.transaction_id, since, now, said);
            reply(&NotifyPriorityChargingResponse::new())
        }
        CsRequest::NotifyChargingLimit(notified) => limited(outlets, &notified, desk, said),
        CsRequest::ClearedChargingLimit(cleared) => {
            let source = cleared.charging_limit_source.as_str();
            outlets.limit(cleared.evse_id, source, None, now, said);
            reply(&ClearedChargingLimitResponse::new())
        }
        CsRequest::OpenPeriodicEventStream(asked) => outlets.streams.open(&asked, said),
        CsRequest::NotifyMonitoringReport(told) => {
            outlets.streams.monitors.reported(&told);
            reply(&NotifyMonitoringReportResponse::new())
        }
        CsRequest::ClosePeriodicEventStream(asked) => {
            outlets.streams.close(asked.id);
            reply(&ClosePeriodicEventStreamResponse::new())
        }
        CsRequest::SignCertificate(asked) => issuer::asked2(outlets, &asked, desk, said)
            .unwrap_or_else(|| Err(CallError::not_supported("SignCertificate"))),
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
        CsRequest::NotifyEvent(_) => reply(&NotifyEventResponse::new()),
        CsRequest::NotifyReport(_) => reply(&NotifyReportResponse::new()),
        CsRequest::ReportChargingProfiles(_) => reply(&ReportChargingProfilesResponse::new()),
        CsRequest::FirmwareStatusNotification(_) => {
            reply(&FirmwareStatusNotificationResponse::new())
        }
        CsRequest::LogStatusNotification(_) => reply(&LogStatusNotificationResponse::new()),
        CsRequest::SecurityEventNotification(_) => reply(&SecurityEventNotificationResponse::new()),
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

/// Whether a token may charge. A station that was told to ask nobody says so with the kind of token.
fn token(token: &IdToken, desk: Desk<'_>) -> IdTokenInfo {
    let allowed = token.r#type == NO_AUTHORIZATION || desk.tokens.allow(&token.id_token);
    IdTokenInfo::new(if allowed {
        AuthorizationStatus::Accepted
    } else {
        AuthorizationStatus::Invalid
    })
}

/// Kind of a token where charging needs none, OCPP 2.1 appendix 7.
const NO_AUTHORIZATION: &str = "NoAuthorization";

fn transaction_event(
    outlets: &mut Outlets,
    event: &TransactionEventRequest,
    desk: Desk<'_>,
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
    let evse = outlet(outlets, "evse.id", place, said)?.id.clone();
    let Some(at) = from_ocpp(event.timestamp) else {
        return Err(senseless(
            format!("timestamp {} is outside the calendar", event.timestamp),
            said,
        ));
    };
    let info = event.id_token.as_ref().map(|asked| token(asked, desk));
    // A token that is not accepted names nobody.
    let vehicle: Option<VehicleId> = event
        .id_token
        .as_ref()
        .filter(|_| {
            info.as_ref()
                .is_some_and(|i| i.status == AuthorizationStatus::Accepted)
        })
        .and_then(|token| token.id_token.parse().ok());
    let ended = event.event_type == TransactionEventEnum::Ended;
    // The end of a stay nobody heard begin still closes the right name.
    let session = if ended
        && outlets
            .stay(place)
            .is_none_or(|s| s.transaction != transaction)
    {
        Some(stay::session_id(&evse, transaction))
    } else {
        let begun = Begun {
            vehicle,
            at,
            starts: event.event_type == TransactionEventEnum::Started,
            named_by: NamedBy::Station,
        };
        outlets.begin(place, transaction, begun, said)
    };
    for values in event.meter_value.iter().flatten() {
        outlets.sampled(
            place,
            session.clone(),
            values.timestamp,
            &samples(values),
            said,
        );
    }
    if ended {
        outlets.end(place, transaction, at, said);
    }
    let mut response = TransactionEventResponse::new();
    response.id_token_info = info;
    reply(&response)
}

fn meter_values(outlets: &mut Outlets, values: &MeterValuesRequest, said: &mut Said) -> Answer {
    let place = values.evse_id;
    // EVSE 0 is the main meter of the station; outlets are read on their own.
    if place != 0 {
        outlet(outlets, "evseId", place, said)?;
        let session = outlets.session(place);
        for value in &values.meter_value {
            outlets.sampled(
                place,
                session.clone(),
                value.timestamp,
                &samples(value),
                said,
            );
        }
    }
    reply(&MeterValuesResponse::new())
}

fn samples(values: &MeterValue) -> Vec<Sample> {
    let sampled = values.sampled_value.iter().map(|v| {
        let unit = v.unit_of_measure.as_ref();
        Sample {
            measurand: v
                .measurand
                .as_ref()
                .map_or(DEFAULT_MEASURAND, |m| m.as_str())
                .to_owned(),
            value: v.value,
            unit: unit.and_then(|u| u.unit.clone()),
            exponent: unit.and_then(|u| u.multiplier).unwrap_or(0),
            phase: v.phase.as_ref().map(|p| p.as_str().to_owned()),
            location: v.location.as_ref().map(|l| l.as_str().to_owned()),
        }
    });
    sampled.collect()
}

/// A limit of somebody else, at its lowest over the schedule: the pool plans with what is safe all along.
fn limited(
    outlets: &mut Outlets,
    notified: &NotifyChargingLimitRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Answer {
    // A limit of the whole station is turned into power as at its first outlet.
    let place = notified.evse_id.filter(|place| *place > 0).unwrap_or(1);
    let source = notified.charging_limit.charging_limit_source.as_str();
    for schedule in notified.charging_schedule.iter().flatten() {
        let periods = schedule.charging_schedule_period.iter();
        let limits = periods.filter_map(|period| Some((period.limit?, period.number_phases)));
        let unit = &schedule.charging_rate_unit;
        let powers: Result<Vec<_>, String> = limits
            .map(|(limit, phases)| {
                if *unit == ChargingRateUnit::W {
                    sign::magnitude(limit).map_err(|error| error.to_string())
                } else if *unit == ChargingRateUnit::A {
                    outlets.power_of(place, limit, phases, desk.supply)
                } else {
                    Err(format!("{} is no unit, expected W or A", unit.as_str()))
                }
            })
            .collect();
        match powers.map(|all| all.into_iter().min()) {
            Ok(Some(lowest)) => {
                outlets.limit(notified.evse_id, source, Some(lowest), desk.now, said);
            }
            Ok(None) => {}
            Err(error) => said.refused.push(format!("limit of {source}: {error}")),
        }
    }
    reply(&NotifyChargingLimitResponse::new())
}

fn charging_needs(
    outlets: &mut Outlets,
    asked: &NotifyEVChargingNeedsRequest,
    now: DateTime<Utc>,
    said: &mut Said,
) -> Answer {
    let place = asked.evse_id;
    let (Some(evse), Some(_)) = (outlets.station.evse(place), outlets.stay(place)) else {
        return Err(senseless(
            format!("charging needs for EVSE {place}, where no transaction is running"),
            said,
        ));
    };
    let added = outlets.added(place).unwrap_or(Energy::ZERO);
    match needs::needs(&asked.charging_needs, evse, added) {
        Ok(needs) => {
            let at = asked.timestamp.and_then(from_ocpp).unwrap_or(now);
            outlets.state(place, needs, at, said);
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
