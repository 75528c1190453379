//! What a station says in OCPP 2.0.1 and 2.1 alike, in the types of 2.1.

use ::fleet::Protocol;
use chrono::{DateTime, Utc};
use ocpp_kit::RawValue;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    BootNotificationRequest, BootReason, ChargingProfile, ChargingProfileStatus, ChargingState,
    ChargingStation, ClearChargingProfileResponse, ClearChargingProfileStatus, ConnectorStatus,
    CsmsRequest, EVSE, GetVariableData, GetVariableResult, GetVariableStatus, GetVariablesResponse,
    IdToken, Measurand, MeterValue, MeterValuesRequest, ReadingContext, Reason, SampledValue,
    SetChargingProfileResponse, SetVariableData, SetVariableResult, SetVariableStatus,
    SetVariablesResponse, StatusNotificationRequest, Transaction, TransactionEventEnum,
    TransactionEventRequest, TriggerReason, UnitOfMeasure,
};
use units::{Energy, Power};

use super::outlet::Meter;
use super::run::{Mouth, PHASES, Station, Told, VOLTS, ocpp_time};
use super::stream::STREAMS;

/// Number of the only outlet.
pub(super) const PLACE: i32 = 1;

/// Takes a request that 2.0.1 and 2.1 have in common; `take` takes a profile for the outlet.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are refused by name"
)]
pub(super) fn obey(
    station: &Station,
    ctx: &Ctx,
    request: CsmsRequest,
    take: fn(&Station, &ChargingProfile) -> bool,
) -> Result<Box<RawValue>, CallError> {
    match request {
        CsmsRequest::SetChargingProfile(set) => {
            let taken = set.evse_id == PLACE && take(station, &set.charging_profile);
            ctx.reply(&SetChargingProfileResponse::new(status_of(taken)))
        }
        CsmsRequest::ClearChargingProfile(_) => {
            station.release();
            let status = ClearChargingProfileStatus::Accepted;
            ctx.reply(&ClearChargingProfileResponse::new(status))
        }
        CsmsRequest::GetVariables(get) => {
            let asked = get.get_variable_data.into_iter();
            let told = asked.map(|one| variable(station, one)).collect();
            ctx.reply(&GetVariablesResponse::new(told))
        }
        CsmsRequest::SetVariables(set) => {
            let asked = set.set_variable_data.into_iter();
            let done = asked.map(|one| change(station, one)).collect();
            ctx.reply(&SetVariablesResponse::new(done))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

pub(super) fn status_of(taken: bool) -> ChargingProfileStatus {
    if taken {
        ChargingProfileStatus::Accepted
    } else {
        ChargingProfileStatus::Rejected
    }
}

/// Component and variable of the time between samples.
const SAMPLE: (&str, &str) = ("SampledDataCtrlr", "TxUpdatedInterval");

/// What the device model says of one variable.
fn variable(station: &Station, asked: GetVariableData) -> GetVariableResult {
    let two_way = station.evse.protocol == Protocol::Ocpp21;
    let name = (asked.component.name.as_str(), asked.variable.name.as_str());
    let value = match name {
        ("SmartChargingCtrlr", "Enabled") => Some("true".to_owned()),
        ("SmartChargingCtrlr", "ProfileStackLevel") => Some("8".to_owned()),
        ("SmartChargingCtrlr", "RateUnit") if station.options.amperes && !two_way => {
            Some("A".to_owned())
        }
        ("SmartChargingCtrlr", "RateUnit") => Some("W".to_owned()),
        ("EVSE", "SupplyPhases") => Some(PHASES.to_string()),
        ("ElectricalFeed", "ACVoltage") => Some(VOLTS.to_string()),
        ("V2XChargingCtrlr", "Enabled") if two_way => Some("true".to_owned()),
        ("V2XChargingCtrlr", "SupportedOperationModes") if two_way => Some(modes(station)),
        ("MonitoringCtrlr", "MaxPeriodicEventStreams") if two_way && station.options.streams => {
            Some(STREAMS.to_string())
        }
        SAMPLE => Some(station.sample_seconds().to_string()),
        _ => None,
    };
    let status = if value.is_some() {
        GetVariableStatus::Accepted
    } else {
        GetVariableStatus::UnknownVariable
    };
    let mut result = GetVariableResult::new(status, asked.component, asked.variable);
    result.attribute_value = value;
    result
}

/// Operation modes: only a station that measures the frequency follows it.
fn modes(station: &Station) -> String {
    let mut modes =
        "ChargingOnly,CentralSetpoint,CentralFrequency,LocalLoadBalancing,Idle".to_owned();
    if station.options.frequency.is_some() {
        modes.push_str(",LocalFrequency");
    }
    modes
}

fn change(station: &Station, asked: SetVariableData) -> SetVariableResult {
    let name = (asked.component.name.as_str(), asked.variable.name.as_str());
    let status = if name != SAMPLE {
        SetVariableStatus::UnknownVariable
    } else if station.sample_every(&asked.attribute_value) {
        SetVariableStatus::Accepted
    } else {
        SetVariableStatus::Rejected
    };
    SetVariableResult::new(status, asked.component, asked.variable)
}

pub(super) async fn boot(mouth: &Mouth<'_>) {
    let model = match mouth.station.evse.protocol {
        Protocol::Ocpp21 => "Simulated 2.1",
        Protocol::Ocpp16 | Protocol::Ocpp201 => "Simulated 2.0.1",
    };
    let station = ChargingStation::new(model, "Shoal");
    mouth
        .call(BootNotificationRequest::new(station, BootReason::PowerUp))
        .await;
    status(mouth, ConnectorStatus::Available, mouth.station.now()).await;
}

async fn status(mouth: &Mouth<'_>, status: ConnectorStatus, at: DateTime<Utc>) {
    mouth
        .call(StatusNotificationRequest::new(
            ocpp_time(at),
            status,
            PLACE,
            PLACE,
        ))
        .await;
}

pub(super) async fn start(mouth: &Mouth<'_>, transaction: &str, meter: &Meter) {
    status(mouth, ConnectorStatus::Occupied, meter.at).await;
    let trigger = TriggerReason::CablePluggedIn;
    let mut event = event(
        TransactionEventEnum::Started,
        trigger,
        transaction,
        meter,
        0,
    );
    event.id_token = Some(IdToken::new(mouth.station.vehicle.id.as_str(), "Central"));
    event.meter_value = Some(vec![meter_value(
        mouth,
        meter,
        &ReadingContext::TransactionBegin,
    )]);
    mouth.call(event).await;
}

pub(super) async fn stop(mouth: &Mouth<'_>, told: &Told, meter: &Meter, sequence: i32) {
    let trigger = TriggerReason::EVDeparted;
    let kind = TransactionEventEnum::Ended;
    let mut event = event(kind, trigger, &told.transaction, meter, sequence);
    event.transaction_info.stopped_reason = Some(Reason::EVDisconnected);
    event.meter_value = Some(vec![meter_value(
        mouth,
        meter,
        &ReadingContext::TransactionEnd,
    )]);
    mouth.call(event).await;
    status(mouth, ConnectorStatus::Available, meter.at).await;
}

pub(super) async fn values(
    mouth: &Mouth<'_>,
    told: Option<&Told>,
    meter: &Meter,
    aligned: bool,
    sequence: i32,
) {
    let (context, trigger) = if aligned {
        (ReadingContext::SampleClock, TriggerReason::MeterValueClock)
    } else {
        (
            ReadingContext::SamplePeriodic,
            TriggerReason::MeterValuePeriodic,
        )
    };
    let values = vec![meter_value(mouth, meter, &context)];
    let Some(told) = told else {
        mouth.call(MeterValuesRequest::new(PLACE, values)).await;
        return;
    };
    let kind = TransactionEventEnum::Updated;
    let mut event = event(kind, trigger, &told.transaction, meter, sequence);
    event.meter_value = Some(values);
    mouth.call(event).await;
}

fn event(
    kind: TransactionEventEnum,
    trigger: TriggerReason,
    transaction: &str,
    meter: &Meter,
    sequence: i32,
) -> TransactionEventRequest {
    let mut info = Transaction::new(transaction);
    info.charging_state = Some(match meter.power {
        Power::ZERO => ChargingState::SuspendedEVSE,
        _ => ChargingState::Charging,
    });
    let mut event =
        TransactionEventRequest::new(kind, ocpp_time(meter.at), trigger, sequence, info);
    event.evse = Some(EVSE::new(PLACE));
    event
}

fn meter_value(mouth: &Mouth<'_>, meter: &Meter, context: &ReadingContext) -> MeterValue {
    let sample = |value: Decimal, measurand: Measurand, unit: &str| {
        let mut of = UnitOfMeasure::new();
        of.unit = Some(unit.to_owned());
        let mut sample = SampledValue::new(value);
        sample.measurand = Some(measurand);
        sample.context = Some(context.clone());
        sample.unit_of_measure = Some(of);
        sample
    };
    let (import, export) = (
        meter.power.max(Power::ZERO),
        (-meter.power).max(Power::ZERO),
    );
    let mut samples = vec![
        sample(
            Decimal::from_i64(import.watts()),
            Measurand::PowerActiveImport,
            "W",
        ),
        sample(
            Decimal::from_i64(export.watts()),
            Measurand::PowerActiveExport,
            "W",
        ),
        sample(
            watt_hours(meter.import),
            Measurand::EnergyActiveImportRegister,
            "Wh",
        ),
        sample(
            watt_hours(meter.export),
            Measurand::EnergyActiveExportRegister,
            "Wh",
        ),
    ];
    // Alternating current tells no state of charge.
    let tells_soc = mouth.station.evse.protocol == Protocol::Ocpp21;
    if let Some(stored) = meter.stored.filter(|_| tells_soc) {
        let thousandths = share_of(stored, mouth.station.vehicle.capacity, 100_000);
        samples.push(sample(
            Decimal::new(thousandths, 3),
            Measurand::SoC,
            "Percent",
        ));
    }
    MeterValue::new(samples, ocpp_time(meter.at))
}

/// Watt hours with four decimals: fine enough to find the joule again.
pub(super) fn watt_hours(energy: Energy) -> Decimal {
    const STEPS: i128 = 10_000;
    let scaled = i128::from(energy.joules()) * STEPS;
    let joules = i128::from(Energy::from_wh(1).joules());
    let rounded = (scaled + joules / 2).div_euclid(joules);
    Decimal::new(i64::try_from(rounded).unwrap_or(i64::MAX), 4)
}

/// `stored / capacity` in `parts`, rounded down.
pub(super) fn share_of(stored: Energy, capacity: Energy, parts: i64) -> i64 {
    let whole = i128::from(capacity.joules().max(1));
    let share = i128::from(stored.joules()) * i128::from(parts) / whole;
    i64::try_from(share.clamp(0, i128::from(parts))).unwrap_or(parts)
}
