//! OCPP 1.6: what stations say, and what they are told.

use chrono::{DateTime, Utc};
use fleet::{Setpoint, VehicleId};
use ocpp_kit::rpc::CallError;
use ocpp_kit::types::Decimal;
use ocpp_kit::v1_6::{
    AuthorizationStatus, AuthorizeResponse, BootNotificationResponse, ChargingProfile,
    ChargingProfileKind, ChargingProfilePurpose, ChargingRateUnit, ChargingSchedule,
    ChargingSchedulePeriod, CsRequest, DataTransferResponse, DataTransferStatus,
    DiagnosticsStatusNotificationResponse, FirmwareStatusNotificationResponse, HeartbeatResponse,
    IdTagInfo, LogStatusNotificationResponse, MeterValue, MeterValuesRequest, MeterValuesResponse,
    RegistrationStatus, SecurityEventNotificationResponse, SetChargingProfileRequest,
    SignedFirmwareStatusNotificationResponse, StartTransactionRequest, StartTransactionResponse,
    StatusNotificationResponse, StopTransactionRequest, StopTransactionResponse, ValueFormat,
};
use units::Energy;

use crate::answer::{Answer, Desk, outlet, reply, senseless};
use crate::instant::{from_ocpp, life_seconds, to_ocpp};
use crate::meter::{DEFAULT_MEASURAND, Sample};
use crate::orders::Target;
use crate::sign;
use crate::station::{Begun, NamedBy, Outlets, Said};
use crate::supply::Rate;
use crate::{issuer, stay};

/// Takes in one message of a registered station.
pub(crate) fn handle(
    outlets: &mut Outlets,
    request: CsRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Answer {
    let now = desk.now;
    match request {
        CsRequest::BootNotification(_) => reply(&BootNotificationResponse::new(
            RegistrationStatus::Accepted,
            to_ocpp(now),
            i32::try_from(desk.heartbeat_seconds).unwrap_or(i32::MAX),
        )),
        CsRequest::Heartbeat(_) => reply(&HeartbeatResponse::new(to_ocpp(now))),
        CsRequest::Authorize(asked) => reply(&AuthorizeResponse::new(token(&asked.id_tag, desk))),
        CsRequest::StartTransaction(start) => start_transaction(outlets, &start, desk, said),
        CsRequest::StopTransaction(stop) => stop_transaction(outlets, &stop, said),
        CsRequest::MeterValues(values) => {
            if let Some(newest) = values.meter_value.last() {
                outlets.clock(newest.timestamp, now, said);
            }
            meter_values(outlets, &values, said)
        }
        CsRequest::StatusNotification(status) => {
            if let Some(told) = status.timestamp {
                outlets.clock(told, now, said);
            }
            reply(&StatusNotificationResponse::new())
        }
        CsRequest::DataTransfer(_) => reply(&DataTransferResponse::new(
            DataTransferStatus::UnknownVendorId,
        )),
        CsRequest::DiagnosticsStatusNotification(_) => {
            reply(&DiagnosticsStatusNotificationResponse::new())
        }
        CsRequest::FirmwareStatusNotification(_) => {
            reply(&FirmwareStatusNotificationResponse::new())
        }
        CsRequest::LogStatusNotification(_) => reply(&LogStatusNotificationResponse::new()),
        CsRequest::SecurityEventNotification(_) => reply(&SecurityEventNotificationResponse::new()),
        CsRequest::SignedFirmwareStatusNotification(_) => {
            reply(&SignedFirmwareStatusNotificationResponse::new())
        }
        CsRequest::SignCertificate(asked) => issuer::asked16(outlets, &asked, desk, said)
            .unwrap_or_else(|| Err(CallError::not_supported("SignCertificate"))),
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

/// Whether a token may charge.
fn token(token: &str, desk: Desk<'_>) -> IdTagInfo {
    IdTagInfo::new(if desk.tokens.allow(token) {
        AuthorizationStatus::Accepted
    } else {
        AuthorizationStatus::Invalid
    })
}

fn start_transaction(
    outlets: &mut Outlets,
    start: &StartTransactionRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Answer {
    let connector = start.connector_id;
    let evse = outlet(outlets, "connectorId", connector, said)?.id.clone();
    let numbered = from_ocpp(start.timestamp)
        .and_then(|at| stay::transaction_number(connector, at).map(|number| (at, number)));
    let Some((at, number)) = numbered else {
        return Err(senseless(
            format!(
                "a transaction at connector {connector} from {} cannot be numbered, expected connectors 1 to 4 and \
                 instants from 2020 to 2036",
                start.timestamp
            ),
            said,
        ));
    };
    let info = token(&start.id_tag, desk);
    // A token that is not accepted names nobody.
    let vehicle: Option<VehicleId> = start
        .id_tag
        .parse()
        .ok()
        .filter(|_| info.status == AuthorizationStatus::Accepted);
    let begun = Begun {
        vehicle,
        at,
        starts: true,
        named_by: NamedBy::Us,
    };
    let session = outlets.begin(connector, &number.to_string(), begun, said);
    said.then.names = Some(connector);
    let reading = register_reading(&evse, session, at, start.meter_start);
    outlets.read(connector, reading, said);
    reply(&StartTransactionResponse::new(info, number))
}

fn stop_transaction(
    outlets: &mut Outlets,
    stop: &StopTransactionRequest,
    said: &mut Said,
) -> Answer {
    let transaction = stop.transaction_id;
    let place = stay::named_by(transaction)
        .map(|(connector, _)| connector)
        .and_then(|n| outlets.station.evse(n).map(|e| (n, e.id.clone())));
    let (Some((connector, evse)), Some(at)) = (place, from_ocpp(stop.timestamp)) else {
        return Err(senseless(
            format!("transactionId {transaction} was not given by this system"),
            said,
        ));
    };
    let session = Some(stay::session_id(&evse, &transaction.to_string()));
    for values in stop.transaction_data.iter().flatten() {
        take_values(outlets, connector, session.clone(), values, said);
    }
    let reading = register_reading(&evse, session, at, stop.meter_stop);
    outlets.read(connector, reading, said);
    outlets.end(connector, &transaction.to_string(), at, said);
    let mut response = StopTransactionResponse::new();
    // The transaction is over, whoever ends it.
    response.id_tag_info = Some(IdTagInfo::new(AuthorizationStatus::Accepted));
    reply(&response)
}

fn meter_values(outlets: &mut Outlets, values: &MeterValuesRequest, said: &mut Said) -> Answer {
    let connector = values.connector_id;
    // Connector 0 is the meter of the whole station; outlets are read on their own.
    if connector != 0 {
        let evse = outlet(outlets, "connectorId", connector, said)?;
        let session = match values.transaction_id {
            Some(number) => {
                let session = stay::session_id(&evse.id, &number.to_string());
                if let Some((_, at)) = stay::named_by(number).filter(|(at, _)| *at == connector) {
                    recover(outlets, connector, number, at, said);
                }
                outlets.named(connector, &session);
                Some(session)
            }
            None => outlets.session(connector),
        };
        for value in &values.meter_value {
            take_values(outlets, connector, session.clone(), value, said);
        }
    }
    reply(&MeterValuesResponse::new())
}

/// A transaction that another process numbered tells its start with its number.
fn recover(outlets: &mut Outlets, connector: i32, number: i32, at: DateTime<Utc>, said: &mut Said) {
    let begun = Begun {
        vehicle: None,
        at,
        starts: false,
        named_by: NamedBy::Us,
    };
    outlets.begin(connector, &number.to_string(), begun, said);
}

fn register_reading(
    evse: &fleet::EvseId,
    session: Option<fleet::SessionId>,
    at: DateTime<Utc>,
    register_wh: i32,
) -> fleet::Reading {
    fleet::Reading {
        evse: evse.clone(),
        session,
        at,
        power: None,
        import_register: Some(Energy::from_wh(register_wh.into())),
        export_register: None,
        soc: None,
    }
}

fn take_values(
    outlets: &mut Outlets,
    connector: i32,
    session: Option<fleet::SessionId>,
    values: &MeterValue,
    said: &mut Said,
) {
    let samples = samples(values, said);
    outlets.sampled(connector, session, values.timestamp, &samples, said);
}

fn samples(values: &MeterValue, said: &mut Said) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(values.sampled_value.len());
    for value in &values.sampled_value {
        // Signed records pass to billing untouched; the plain register is sent beside them.
        if value.format == Some(ValueFormat::SignedData) {
            continue;
        }
        let measurand = value
            .measurand
            .as_ref()
            .map_or(DEFAULT_MEASURAND, |m| m.as_str());
        match value.value.parse::<Decimal>() {
            Ok(number) => samples.push(Sample {
                measurand: measurand.to_owned(),
                value: number,
                unit: value.unit.as_ref().map(|u| u.as_str().to_owned()),
                exponent: 0,
                phase: value.phase.as_ref().map(|p| p.as_str().to_owned()),
                location: value.location.as_ref().map(|l| l.as_str().to_owned()),
            }),
            Err(_) => said.refused.push(format!(
                "{measurand} is {:?}, expected a number",
                value.value.chars().take(40).collect::<String>()
            )),
        }
    }
    samples
}

/// A set-point as a 1.6 profile: a limit for the transaction that holds until the set-point expires. `None` if it asks
/// for discharge, which 1.6 cannot say.
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
    let mut schedule = ChargingSchedule::new(unit, vec![period]);
    schedule.duration = Some(life_seconds(setpoint.expires_at, now));
    schedule.start_schedule = Some(to_ocpp(now));
    let mut profile = ChargingProfile::new(
        target.place,
        target.stack_level,
        ChargingProfilePurpose::TxProfile,
        ChargingProfileKind::Absolute,
        schedule,
    );
    profile.transaction_id = target.transaction.parse().ok();
    Some(SetChargingProfileRequest::new(target.place, profile))
}
