//! What a one-way station says and takes in OCPP 2.0.1 beside what it shares with 2.1.

use ::fleet::Needs;
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::v2_0_1::{
    ACChargingParameters, Action, ChargingNeeds, CsmsRequest, EnergyTransferMode,
    NotifyEVChargingNeedsRequest,
};
use ocpp_kit::v2_1::{self, ChargingProfile, ChargingRateUnit};
use units::Energy;

use super::run::{Limit, Mouth, PHASES, Station, VOLTS, ocpp_time};
use super::speak2::{self, PLACE};

/// Least current of a vehicle, IEC 61851-1.
const LEAST_AMPERES: i32 = 6;

/// What the vehicle told its charger over ISO 15118-2: the energy to add and when it leaves.
pub(super) async fn needs(mouth: &Mouth<'_>, needs: &Needs) {
    let watt_hour = Energy::from_wh(1).joules();
    // Rounded up: the vehicle does not leave short for a fraction.
    let whole = -(-needs.energy.joules()).div_euclid(watt_hour);
    let amperes = needs.max_charge.watts() / (VOLTS * PHASES);
    let number = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let ac =
        ACChargingParameters::new(number(whole), LEAST_AMPERES, number(amperes), number(VOLTS));
    let mut asked = ChargingNeeds::new(EnergyTransferMode::ACThreePhase);
    asked.departure_time = needs.departure.map(ocpp_time);
    asked.ac_charging_parameters = Some(ac);
    let request = NotifyEVChargingNeedsRequest::new(asked, PLACE);
    mouth.call(request).await;
}

/// Takes a request of the other side: checked against the schemas of 2.0.1, then taken as the message of 2.1 that holds it.
pub(super) fn obey(
    station: &Station,
    ctx: &Ctx,
    request: &IncomingRequest,
    options: &DecodeOptions,
) -> Result<Box<RawValue>, CallError> {
    let action = Action::from_wire(&request.action)
        .ok_or_else(|| CallError::not_implemented(&request.action))?;
    CsmsRequest::decode(action, &request.payload, options)?;
    let action = v2_1::Action::from_wire(&request.action)
        .ok_or_else(|| CallError::not_implemented(&request.action))?;
    let request = v2_1::CsmsRequest::decode(action, &request.payload, options)?;
    speak2::obey(station, ctx, request, take)
}

/// A limit for the transaction in progress, one period long.
fn take(station: &Station, profile: &ChargingProfile) -> bool {
    let [schedule] = profile.charging_schedule.as_slice() else {
        return false;
    };
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return false;
    };
    let amperes = schedule.charging_rate_unit == ChargingRateUnit::A;
    let watts = period.limit.and_then(|limit| station.taken(limit, amperes));
    watts.is_some_and(|watts| {
        station.limit(&Limit {
            transaction: profile.transaction_id.clone(),
            watts,
            start: schedule.start_schedule,
            seconds: schedule.duration,
        })
    })
}
