//! What a one-way station says and takes in OCPP 1.6.

use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::v1_6::{
    Action, AuthorizationStatus, BootNotificationRequest, ChangeConfigurationResponse,
    ChargePointErrorCode, ChargePointStatus, ChargingProfile, ChargingProfileStatus,
    ChargingRateUnit, ClearChargingProfileResponse, ClearChargingProfileStatus,
    ConfigurationStatus, CsmsRequest, GetConfigurationResponse, KeyValue, Measurand, MeterValue,
    MeterValuesRequest, ReadingContext, Reason, SampledValue, SetChargingProfileResponse,
    StartTransactionRequest, StatusNotificationRequest, StopTransactionRequest, UnitOfMeasure,
};
use units::{Energy, Power};

use super::outlet::Meter;
use super::run::{Limit, Mouth, Station, Told, ocpp_time};

const CONNECTOR: i32 = 1;
const SAMPLE_KEY: &str = "MeterValueSampleInterval";

pub(super) async fn boot(mouth: &Mouth<'_>) {
    mouth
        .call(BootNotificationRequest::new("Shoal", "Simulated 1.6"))
        .await;
    status(mouth, ChargePointStatus::Available).await;
}

async fn status(mouth: &Mouth<'_>, status: ChargePointStatus) {
    let error = ChargePointErrorCode::NoError;
    mouth
        .call(StatusNotificationRequest::new(CONNECTOR, error, status))
        .await;
}

/// Begins a transaction; `None` if it was refused.
pub(super) async fn start(mouth: &Mouth<'_>, meter: &Meter) -> Option<String> {
    status(mouth, ChargePointStatus::Preparing).await;
    let request = StartTransactionRequest::new(
        CONNECTOR,
        mouth.station.vehicle.id.as_str(),
        watt_hours(meter.import),
        ocpp_time(meter.at),
    );
    let started = mouth.call(request).await?;
    let accepted = started.id_tag_info.status == AuthorizationStatus::Accepted;
    accepted.then(|| started.transaction_id.to_string())
}

pub(super) async fn stop(mouth: &Mouth<'_>, told: &Told, meter: &Meter) {
    let Ok(transaction) = told.transaction.parse() else {
        return;
    };
    let register = watt_hours(meter.import);
    let mut request = StopTransactionRequest::new(register, ocpp_time(meter.at), transaction);
    request.reason = Some(Reason::EVDisconnected);
    mouth.call(request).await;
    status(mouth, ChargePointStatus::Available).await;
}

pub(super) async fn values(mouth: &Mouth<'_>, told: Option<&Told>, meter: &Meter, aligned: bool) {
    let context = if aligned {
        ReadingContext::SampleClock
    } else {
        ReadingContext::SamplePeriodic
    };
    let sample = |value: i64, measurand: Measurand, unit: UnitOfMeasure| {
        let mut sample = SampledValue::new(value.to_string());
        sample.context = Some(context.clone());
        sample.measurand = Some(measurand);
        sample.unit = Some(unit);
        sample
    };
    let power = meter.power.max(Power::ZERO).watts();
    let register = i64::from(watt_hours(meter.import));
    let samples = vec![
        sample(power, Measurand::PowerActiveImport, UnitOfMeasure::W),
        sample(
            register,
            Measurand::EnergyActiveImportRegister,
            UnitOfMeasure::Wh,
        ),
    ];
    let mut request = MeterValuesRequest::new(
        CONNECTOR,
        vec![MeterValue::new(ocpp_time(meter.at), samples)],
    );
    request.transaction_id = told.and_then(|t| t.transaction.parse().ok());
    mouth.call(request).await;
}

/// The register as a 1.6 meter shows it: whole watt hours, rounded down.
fn watt_hours(register: Energy) -> i32 {
    i32::try_from(register.joules() / Energy::from_wh(1).joules()).unwrap_or(i32::MAX)
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
            let taken = set.connector_id == CONNECTOR && take(station, &set.cs_charging_profiles);
            let status = if taken {
                ChargingProfileStatus::Accepted
            } else {
                ChargingProfileStatus::Rejected
            };
            ctx.reply(&SetChargingProfileResponse::new(status))
        }
        CsmsRequest::GetConfiguration(get) => {
            ctx.reply(&configuration(station, get.key.as_deref()))
        }
        CsmsRequest::ChangeConfiguration(change) => {
            let status = if change.key != SAMPLE_KEY {
                ConfigurationStatus::NotSupported
            } else if station.sample_every(&change.value) {
                ConfigurationStatus::Accepted
            } else {
                ConfigurationStatus::Rejected
            };
            ctx.reply(&ChangeConfigurationResponse::new(status))
        }
        CsmsRequest::ClearChargingProfile(_) => {
            station.release();
            let status = ClearChargingProfileStatus::Accepted;
            ctx.reply(&ClearChargingProfileResponse::new(status))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

/// What is asked for of the configuration, or all of it.
fn configuration(station: &Station, keys: Option<&[String]>) -> GetConfigurationResponse {
    let sample = station.sample_seconds().to_string();
    let unit = if station.options.amperes {
        "Current"
    } else {
        "Power"
    };
    let all = [
        ("SupportedFeatureProfiles", "Core,SmartCharging", true),
        ("ChargeProfileMaxStackLevel", "8", true),
        ("ChargingScheduleAllowedChargingRateUnit", unit, true),
        (SAMPLE_KEY, sample.as_str(), false),
    ];
    let asked = |key: &str| keys.is_none_or(|keys| keys.iter().any(|k| k == key));
    let known = all.iter().filter(|(key, ..)| asked(key));
    let known = known.map(|(key, value, readonly)| {
        let mut pair = KeyValue::new(*key, *readonly);
        pair.value = Some((*value).to_owned());
        pair
    });
    let mut response = GetConfigurationResponse::new();
    response.configuration_key = Some(known.collect());
    let unknown = keys
        .unwrap_or_default()
        .iter()
        .filter(|key| all.iter().all(|(known, ..)| known != key));
    response.unknown_key = Some(unknown.cloned().collect());
    response
}

/// A limit for the transaction in progress, one period long.
fn take(station: &Station, profile: &ChargingProfile) -> bool {
    let schedule = &profile.charging_schedule;
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return false;
    };
    let amperes = schedule.charging_rate_unit == ChargingRateUnit::A;
    let watts = station.taken(period.limit, amperes);
    watts.is_some_and(|watts| {
        station.limit(&Limit {
            transaction: profile.transaction_id.map(|t| t.to_string()),
            watts,
            start: schedule.start_schedule,
            seconds: schedule.duration,
        })
    })
}
