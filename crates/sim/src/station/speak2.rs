//! What a bidirectional station says and takes in OCPP 2.1.

use ::fleet::Needs;
use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    Action, BootNotificationRequest, BootReason, ChargingNeeds, ChargingProfile,
    ChargingProfileKind, ChargingProfileStatus, ChargingRateUnit, ChargingState, ChargingStation,
    ClearChargingProfileResponse, ClearChargingProfileStatus, ConnectorStatus, ControlMode,
    CsmsRequest, DCChargingParameters, EVSE, EnergyTransferMode, IdToken, Measurand, MeterValue,
    MeterValuesRequest, NotifyEVChargingNeedsRequest, OperationMode, ReadingContext, Reason,
    SampledValue, SetChargingProfileResponse, StatusNotificationRequest, Transaction,
    TransactionEventEnum, TransactionEventRequest, TriggerReason, UnitOfMeasure,
    UpdateDynamicScheduleRequest, UpdateDynamicScheduleResponse, V2XChargingParameters,
};
use units::{Energy, Power};

use super::outlet::Meter;
use super::run::{Dynamic, Mouth, Station, Told, ocpp_time};

const PLACE: i32 = 1;
/// Voltage of the direct-current side; only the power counts.
const VOLTS: i64 = 800;

pub(super) async fn boot(mouth: &Mouth<'_>) {
    let station = ChargingStation::new("Simulated 2.1", "Shoal");
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

/// What the vehicle told its charger, relative to the present state of its battery.
pub(super) async fn needs(mouth: &Mouth<'_>, needs: &Needs, at: DateTime<Utc>) {
    let (Some(stored), Some(capacity)) = (needs.stored, needs.capacity) else {
        return;
    };
    let mut dc = DCChargingParameters::new(
        Decimal::from_i64(needs.max_charge.watts() / VOLTS),
        Decimal::from_i64(VOLTS),
    );
    dc.ev_max_power = Some(Decimal::from_i64(needs.max_charge.watts()));
    dc.ev_energy_capacity = Some(watt_hours(capacity));
    dc.state_of_charge = Some(per_cent(stored, capacity));
    let mut v2x = V2XChargingParameters::new();
    v2x.max_charge_power = Some(Decimal::from_i64(needs.max_charge.watts()));
    v2x.max_discharge_power = Some(Decimal::from_i64(needs.max_discharge.watts()));
    v2x.ev_target_energy_request = Some(watt_hours(needs.energy));
    v2x.ev_min_energy_request = Some(watt_hours((needs.floor - stored).max(Energy::ZERO)));
    v2x.ev_max_energy_request = Some(watt_hours(capacity - stored));
    v2x.ev_min_v2_x_energy_request = Some(watt_hours(needs.floor - stored));
    v2x.ev_max_v2_x_energy_request = Some(watt_hours(capacity - stored));
    let mode = if needs.max_discharge > Power::ZERO {
        EnergyTransferMode::DCBPT
    } else {
        EnergyTransferMode::DC
    };
    let mut asked = ChargingNeeds::new(mode);
    asked.control_mode = Some(ControlMode::DynamicControl);
    asked.departure_time = needs.departure.map(ocpp_time);
    asked.dc_charging_parameters = Some(dc);
    asked.v2x_charging_parameters = Some(v2x);
    let mut request = NotifyEVChargingNeedsRequest::new(PLACE, asked);
    request.timestamp = Some(ocpp_time(at));
    mouth.call(request).await;
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
    if let Some(stored) = meter.stored {
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
fn watt_hours(energy: Energy) -> Decimal {
    const STEPS: i128 = 10_000;
    let scaled = i128::from(energy.joules()) * STEPS;
    let joules = i128::from(Energy::from_wh(1).joules());
    let rounded = (scaled + joules / 2).div_euclid(joules);
    Decimal::new(i64::try_from(rounded).unwrap_or(i64::MAX), 4)
}

fn per_cent(stored: Energy, capacity: Energy) -> i32 {
    i32::try_from(share_of(stored, capacity, 100)).unwrap_or(100)
}

/// `stored / capacity` in `parts`, rounded down.
fn share_of(stored: Energy, capacity: Energy, parts: i64) -> i64 {
    let whole = i128::from(capacity.joules().max(1));
    let share = i128::from(stored.joules()) * i128::from(parts) / whole;
    i64::try_from(share.clamp(0, i128::from(parts))).unwrap_or(parts)
}

/// Takes a request of the other side.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are refused by name"
)]
pub(super) fn obey(
    station: &Station,
    ctx: &Ctx,
    request: &IncomingRequest,
    options: &DecodeOptions,
) -> Result<Box<RawValue>, CallError> {
    let action = Action::from_wire(&request.action)
        .ok_or_else(|| CallError::not_implemented(&request.action))?;
    match CsmsRequest::decode(action, &request.payload, options)? {
        CsmsRequest::SetChargingProfile(set) => {
            let taken = set.evse_id == PLACE && install(station, &set.charging_profile);
            ctx.reply(&SetChargingProfileResponse::new(status_of(taken)))
        }
        CsmsRequest::UpdateDynamicSchedule(update) => {
            let taken = renew(station, &update);
            ctx.reply(&UpdateDynamicScheduleResponse::new(status_of(taken)))
        }
        CsmsRequest::ClearChargingProfile(_) => {
            let (mut state, _) = station.look();
            state.dynamic = None;
            state.outlet.release();
            drop(state);
            let status = ClearChargingProfileStatus::Accepted;
            ctx.reply(&ClearChargingProfileResponse::new(status))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

fn status_of(taken: bool) -> ChargingProfileStatus {
    if taken {
        ChargingProfileStatus::Accepted
    } else {
        ChargingProfileStatus::Rejected
    }
}

/// A dynamic profile of one period for the transaction in progress.
fn install(station: &Station, profile: &ChargingProfile) -> bool {
    let [schedule] = profile.charging_schedule.as_slice() else {
        return false;
    };
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return false;
    };
    let charging_only = match &period.operation_mode {
        Some(OperationMode::CentralSetpoint) => false,
        None | Some(OperationMode::ChargingOnly) => true,
        Some(_) => return false,
    };
    let (mut state, now) = station.look();
    if profile.charging_profile_kind != ChargingProfileKind::Dynamic
        || schedule.charging_rate_unit != ChargingRateUnit::W
        || profile.transaction_id != state.transaction
    {
        return false;
    }
    let told = if charging_only {
        period.limit
    } else {
        period.setpoint
    };
    let Some(power) = told.and_then(watts) else {
        return false;
    };
    let life = schedule.duration.map(|d| TimeDelta::seconds(d.into()));
    state.dynamic = Some(Dynamic {
        id: profile.id,
        life,
        charging_only,
    });
    station.obey(&mut state, now, power, life.map(|l| now + l))
}

/// A new value for the installed profile; its life begins again.
fn renew(station: &Station, update: &UpdateDynamicScheduleRequest) -> bool {
    let (mut state, now) = station.look();
    let Some(dynamic) = state.dynamic.clone() else {
        return false;
    };
    if dynamic.id != update.charging_profile_id {
        return false;
    }
    let told = &update.schedule_update;
    let told = if dynamic.charging_only {
        told.limit
    } else {
        told.setpoint
    };
    let Some(power) = told.and_then(watts) else {
        return false;
    };
    station.obey(&mut state, now, power, dynamic.life.map(|l| now + l))
}

fn watts(value: Decimal) -> Option<Power> {
    let whole = value.round_to(0)?;
    i64::try_from(whole).ok().map(Power::from_watts)
}
