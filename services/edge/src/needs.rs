//! What a vehicle needs, from the charging needs of OCPP 2.1 (ISO 15118-20 through the station).

use fleet::{Evse, Needs};
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{ChargingNeeds, EnergyTransferMode, V2XChargingParameters};
use units::{Energy, Power};

use crate::instant::from_ocpp;
use crate::sign::{self, QuantityError};

/// Charging needs from which nothing can be planned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NeedsError {
    #[error(
        "charging needs name no energy: expected evTargetEnergyRequest or energyAmount of the DC or AC parameters"
    )]
    NoEnergy,
    #[error("{field}: {source}")]
    Quantity {
        field: &'static str,
        source: QuantityError,
    },
}

/// State of charge is told in whole percent; a figure that agrees to this share of the battery replaces it.
const SOC_STEP: f64 = 0.01;

/// Needs counted from plug-in. Stations tell energies relative to the present state of the battery; `added` is what
/// reached it since plug-in.
///
/// Discharge is allowed only in a bidirectional transfer mode, with a discharge power and a lower edge of the band
/// given, and where the energy in the battery is known.
///
/// # Errors
/// [`NeedsError`] if no energy is named or a number fits no quantity.
pub(crate) fn needs(
    asked: &ChargingNeeds,
    evse: &Evse,
    added: Energy,
) -> Result<Needs, NeedsError> {
    let v2x = asked.v2x_charging_parameters.as_ref();
    let dc = asked.dc_charging_parameters.as_ref();
    let ac = asked.ac_charging_parameters.as_ref();
    let to_add = first([
        (
            "evTargetEnergyRequest",
            v2x.and_then(|v| v.ev_target_energy_request),
        ),
        (
            "dcChargingParameters.energyAmount",
            dc.and_then(|d| d.energy_amount),
        ),
        (
            "acChargingParameters.energyAmount",
            ac.map(|a| a.energy_amount),
        ),
    ]);
    let (field, to_add) = to_add.ok_or(NeedsError::NoEnergy)?;
    let to_add = joules(field, to_add)?;
    let capacity = dc.and_then(|d| d.ev_energy_capacity);
    let capacity = capacity
        .map(|c| joules("evEnergyCapacity", c))
        .transpose()?;
    let soc = dc.and_then(|d| d.state_of_charge);
    let stored = stored_now(capacity, soc, v2x)?;
    let (max_discharge, floor) = discharge(asked, v2x, stored, evse)?;
    Ok(Needs {
        departure: asked.departure_time.and_then(from_ocpp),
        energy: (to_add + added).max(Energy::ZERO),
        stored: stored.map(|s| s - added),
        capacity,
        max_charge: max_charge(asked, evse)?,
        max_discharge,
        floor,
    })
}

fn max_charge(asked: &ChargingNeeds, evse: &Evse) -> Result<Power, NeedsError> {
    let v2x = asked.v2x_charging_parameters.as_ref();
    let dc = asked.dc_charging_parameters.as_ref();
    let told = first([
        ("maxChargePower", v2x.and_then(|v| v.max_charge_power)),
        ("evMaxPower", dc.and_then(|d| d.ev_max_power)),
    ]);
    let told = told.map(|(field, value)| watts(field, value)).transpose()?;
    Ok(told.map_or(evse.max_charge, |p| p.min(evse.max_charge)))
}

/// Energy in the battery now: state of charge times capacity, made precise by the room that is left where it agrees.
fn stored_now(
    capacity: Option<Energy>,
    soc: Option<i32>,
    v2x: Option<&V2XChargingParameters>,
) -> Result<Option<Energy>, NeedsError> {
    let (Some(capacity), Some(soc)) = (capacity, soc) else {
        return Ok(None);
    };
    let coarse = Energy::from_kwh(capacity.kwh() * f64::from(soc.clamp(0, 100)) / 100.0);
    let Some(room) = v2x.and_then(|v| v.ev_max_energy_request) else {
        return Ok(Some(coarse));
    };
    let precise = capacity - joules("evMaxEnergyRequest", room)?;
    let apart = (precise.kwh() - coarse.kwh()).abs();
    let agree = apart <= capacity.kwh() * SOC_STEP;
    Ok(Some(if agree { precise } else { coarse }))
}

fn discharge(
    asked: &ChargingNeeds,
    v2x: Option<&V2XChargingParameters>,
    stored: Option<Energy>,
    evse: &Evse,
) -> Result<(Power, Energy), NeedsError> {
    let modes = [
        EnergyTransferMode::ACBPT,
        EnergyTransferMode::ACBPTDER,
        EnergyTransferMode::DCBPT,
        EnergyTransferMode::DCACDPBPT,
    ];
    let told = v2x.and_then(|v| Some((v.max_discharge_power?, v.ev_min_v2_x_energy_request?)));
    let (Some((power, edge)), Some(stored)) = (told, stored) else {
        return Ok((Power::ZERO, Energy::ZERO));
    };
    if !modes.contains(&asked.requested_energy_transfer) {
        return Ok((Power::ZERO, Energy::ZERO));
    }
    let power = watts("maxDischargePower", power)?;
    let floor = stored + joules("evMinV2XEnergyRequest", edge)?;
    Ok((power.min(evse.max_discharge), floor.max(Energy::ZERO)))
}

fn first<const N: usize>(
    fields: [(&'static str, Option<Decimal>); N],
) -> Option<(&'static str, Decimal)> {
    fields
        .into_iter()
        .find_map(|(field, value)| Some((field, value?)))
}

fn joules(field: &'static str, watt_hours: Decimal) -> Result<Energy, NeedsError> {
    sign::energy(watt_hours, None, 0).map_err(|source| NeedsError::Quantity { field, source })
}

fn watts(field: &'static str, value: Decimal) -> Result<Power, NeedsError> {
    sign::magnitude(value).map_err(|source| NeedsError::Quantity { field, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::tests::station;
    use fleet::Protocol;
    use ocpp_kit::v2_1::DCChargingParameters;

    fn asked(mode: EnergyTransferMode) -> ChargingNeeds {
        let number = Decimal::from_i64;
        let mut dc = DCChargingParameters::new(number(32), number(400));
        dc.ev_energy_capacity = Some(number(60_000));
        dc.state_of_charge = Some(42);
        let mut v2x = V2XChargingParameters::new();
        v2x.max_charge_power = Some(number(7_400));
        v2x.max_discharge_power = Some(number(22_000));
        v2x.ev_target_energy_request = Some(number(20_000));
        v2x.ev_max_energy_request = Some(number(35_000));
        v2x.ev_min_v2_x_energy_request = Some(number(-13_000));
        let mut asked = ChargingNeeds::new(mode);
        asked.dc_charging_parameters = Some(dc);
        asked.v2x_charging_parameters = Some(v2x);
        asked
    }

    fn outlet() -> Evse {
        station(Protocol::Ocpp21, 1).evses.remove(0)
    }

    #[test]
    fn relative_energies_become_absolute_and_count_from_plug_in() {
        let added = Energy::from_wh(5_000);
        let needs = needs(&asked(EnergyTransferMode::DCBPT), &outlet(), added).unwrap();
        assert_eq!(
            needs.stored,
            Some(Energy::from_wh(20_000)),
            "room left is precise: 25 kWh now"
        );
        assert_eq!(needs.energy, Energy::from_wh(25_000));
        assert_eq!(needs.floor, Energy::from_wh(12_000));
        assert_eq!(needs.max_charge, Power::from_watts(7_400));
        assert_eq!(
            needs.max_discharge,
            Power::from_kw(11.0),
            "the outlet is the limit"
        );
    }

    #[test]
    fn no_discharge_without_a_bidirectional_mode_or_with_anything_unknown() {
        let one_way = needs(&asked(EnergyTransferMode::DC), &outlet(), Energy::ZERO).unwrap();
        assert_eq!(one_way.max_discharge, Power::ZERO);
        let mut no_soc = asked(EnergyTransferMode::DCBPT);
        no_soc
            .dc_charging_parameters
            .as_mut()
            .unwrap()
            .state_of_charge = None;
        let needs = needs(&no_soc, &outlet(), Energy::ZERO).unwrap();
        assert_eq!((needs.max_discharge, needs.stored), (Power::ZERO, None));
    }

    #[test]
    fn needs_without_energy_are_refused() {
        let empty = ChargingNeeds::new(EnergyTransferMode::DC);
        assert_eq!(
            needs(&empty, &outlet(), Energy::ZERO),
            Err(NeedsError::NoEnergy)
        );
    }

    #[test]
    fn a_state_of_charge_that_contradicts_the_room_left_wins() {
        let mut odd = asked(EnergyTransferMode::DCBPT);
        odd.dc_charging_parameters.as_mut().unwrap().state_of_charge = Some(80);
        let needs = needs(&odd, &outlet(), Energy::ZERO).unwrap();
        assert_eq!(needs.stored, Some(Energy::from_wh(48_000)));
    }
}
