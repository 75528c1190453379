//! What a one-way station says and takes in OCPP 2.0.1 beside what it shares with 2.1.

use ::fleet::Needs;
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::v2_0_1::{
    ACChargingParameters, Action, ChargingNeeds, ChargingProfile, ChargingProfileStatus,
    ChargingRateUnit, ClearChargingProfileResponse, ClearChargingProfileStatus, CsmsRequest,
    EnergyTransferMode, NotifyEVChargingNeedsRequest, SetChargingProfileResponse,
};
use units::Energy;

use super::run::{Limit, Mouth, Station, ocpp_time};
use super::speak2::PLACE;

/// Phase voltage and phases of the outlet; only the energy and the departure count.
const VOLTS: i64 = 230;
const PHASES: i64 = 3;
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
            let taken = set.evse_id == PLACE && take(station, &set.charging_profile);
            let status = if taken {
                ChargingProfileStatus::Accepted
            } else {
                ChargingProfileStatus::Rejected
            };
            ctx.reply(&SetChargingProfileResponse::new(status))
        }
        CsmsRequest::ClearChargingProfile(_) => {
            station.release();
            let status = ClearChargingProfileStatus::Accepted;
            ctx.reply(&ClearChargingProfileResponse::new(status))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

/// A limit in watts for the transaction in progress, one period long.
fn take(station: &Station, profile: &ChargingProfile) -> bool {
    let [schedule] = profile.charging_schedule.as_slice() else {
        return false;
    };
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return false;
    };
    schedule.charging_rate_unit == ChargingRateUnit::W
        && station.limit(&Limit {
            transaction: profile.transaction_id.clone(),
            watts: period.limit,
            start: schedule.start_schedule,
            seconds: schedule.duration,
        })
}
