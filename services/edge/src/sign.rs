//! Signs and units at the border to OCPP. Inside, positive charges, in whole watts and joules; what OCPP wants differs
//! from field to field (see each function). No other module converts.

use ocpp_kit::types::Decimal;
use units::{Energy, Power};

use crate::supply::{Rate, Supply};

/// A number that does not fit a quantity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum QuantityError {
    #[error("{0} is beyond what can be counted")]
    TooLarge(Decimal),
    #[error("unit {0:?} is not one of {1}")]
    Unit(String, &'static str),
    #[error("{0} is negative, expected a magnitude")]
    Negative(Decimal),
}

/// OCPP 1.6 `limit` and the `limit` of 2.1: at least zero, charging only, one decimal. `None` where discharge is asked
/// for: 1.6 has no field for it.
pub(crate) fn charge_limit(power: Power) -> Option<Decimal> {
    (!power.is_export()).then(|| Decimal::new(power.watts().saturating_mul(10), 1))
}

/// `limit` of 1.6 and 2.0.1 in amperes per phase: rounded down to the one decimal there is, so that phases and voltage give
/// at most the power asked for. `None` where discharge is asked for.
pub(crate) fn current_limit(power: Power, supply: Supply) -> Option<Decimal> {
    let centiwatts = power.watts().checked_mul(100).filter(|p| *p >= 0)?;
    let deciamperes = centiwatts / supply.centiwatts_per_deciampere();
    Some(Decimal::new(deciamperes, 1))
}

/// `limit` of 1.6 and 2.0.1 in the unit that the station takes.
pub(crate) fn limit(power: Power, rate: Rate) -> Option<Decimal> {
    match rate {
        Rate::Watts => charge_limit(power),
        Rate::Amperes(supply) => current_limit(power, supply),
    }
}

/// Power of a current in each phase, rounded down: a limit of somebody else lets through no more than that.
///
/// # Errors
/// If it is negative or too large.
pub(crate) fn power_of_current(amperes: Decimal, supply: Supply) -> Result<Power, QuantityError> {
    if amperes.signum() < 0 {
        return Err(QuantityError::Negative(amperes));
    }
    let milliwatts = scaled(amperes, supply.centiwatts_per_deciampere(), 2)?;
    Ok(Power::from_watts(milliwatts / 1_000))
}

/// OCPP 2.1 `setpoint`: signed like ours, negative discharges.
pub(crate) fn setpoint(power: Power) -> Decimal {
    Decimal::from_i64(power.watts())
}

/// OCPP 2.1 `dischargeLimit` of a magnitude: at most zero, in line with `setpoint`.
pub(crate) fn discharge_limit(magnitude: Power) -> Decimal {
    Decimal::from_i64(-magnitude.abs().watts())
}

/// OCPP 2.1 power of a curve and `v2xBaseline`: signed like ours.
pub(crate) fn curve_power(power: Power) -> Decimal {
    Decimal::from_i64(power.watts())
}

/// Frequency of a `v2xFreqWattCurve` in hertz.
pub(crate) fn hertz(millihertz: i32) -> Decimal {
    Decimal::new(millihertz.into(), 3)
}

/// Power from `Power.Active.Import` and `Power.Active.Export`, two measurands of at least zero.
pub(crate) fn net_power(import: Option<Power>, export: Option<Power>) -> Option<Power> {
    match (import, export) {
        (None, None) => None,
        (import, export) => Some(import.unwrap_or_default() - export.unwrap_or_default()),
    }
}

/// `maxChargePower` and `maxDischargePower` of 2.1: both magnitudes, as in `fleet::Needs`.
///
/// # Errors
/// If it is negative or too large.
pub(crate) fn magnitude(watts: Decimal) -> Result<Power, QuantityError> {
    if watts.signum() < 0 {
        return Err(QuantityError::Negative(watts));
    }
    scaled(watts, 1, 0).map(Power::from_watts)
}

/// Watts of a power measurand.
///
/// # Errors
/// If the unit is no power or the value too large.
pub(crate) fn power(
    value: Decimal,
    unit: Option<&str>,
    exponent: i32,
) -> Result<Power, QuantityError> {
    let factor = match unit.unwrap_or("W") {
        "W" => 1,
        "kW" => 1_000,
        other => return Err(QuantityError::Unit(other.to_owned(), "W, kW")),
    };
    scaled(value, factor, exponent).map(Power::from_watts)
}

/// Joules of an energy measurand.
///
/// # Errors
/// If the unit is no energy or the value too large.
pub(crate) fn energy(
    value: Decimal,
    unit: Option<&str>,
    exponent: i32,
) -> Result<Energy, QuantityError> {
    let factor = match unit.unwrap_or("Wh") {
        "Wh" => 3_600,
        "kWh" => 3_600_000,
        other => return Err(QuantityError::Unit(other.to_owned(), "Wh, kWh")),
    };
    scaled(value, factor, exponent).map(Energy::from_joules)
}

/// Nearest whole number of `value * factor * 10^exponent`.
fn scaled(value: Decimal, factor: i64, exponent: i32) -> Result<i64, QuantityError> {
    value
        .checked_pow10(exponent)
        .and_then(|v| v.checked_mul(Decimal::from_i64(factor)))
        .and_then(|v| v.round_to(0))
        .and_then(|v| i64::try_from(v).ok())
        .filter(|v| v.unsigned_abs() < 1 << 53)
        .ok_or(QuantityError::TooLarge(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_discharge_comes_out_of_every_border_with_the_right_direction() {
        let discharge = Power::from_kw(-7.4);
        assert_eq!(setpoint(discharge).to_string(), "-7400");
        assert_eq!(charge_limit(discharge), None);
        assert_eq!(charge_limit(Power::ZERO).unwrap().to_string(), "0.0");
        assert_eq!(discharge_limit(-discharge).to_string(), "-7400");
        assert_eq!(curve_power(discharge).to_string(), "-7400");
        assert_eq!(hertz(49_800).to_string(), "49.800");
        assert_eq!(
            net_power(Some(Power::ZERO), Some(Power::from_watts(7_400))),
            Some(discharge)
        );
        assert_eq!(
            net_power(None, Some(Power::from_watts(7_400))),
            Some(discharge)
        );
        assert_eq!(
            magnitude(Decimal::from_i64(7_400)),
            Ok(Power::from_watts(7_400))
        );
        assert!(magnitude(Decimal::from_i64(-7_400)).is_err());
    }

    #[test]
    fn a_charge_comes_out_of_every_border_with_the_right_direction() {
        let charge = Power::from_kw(11.0);
        assert_eq!(setpoint(charge).to_string(), "11000");
        assert_eq!(charge_limit(charge).unwrap().to_string(), "11000.0");
        assert_eq!(net_power(Some(charge), None), Some(charge));
        assert_eq!(net_power(None, None), None);
    }

    #[test]
    fn units_and_exponents_are_honoured() {
        let value: Decimal = "12.345".parse().unwrap();
        assert_eq!(power(value, Some("kW"), 0), Ok(Power::from_watts(12_345)));
        assert_eq!(power(value, None, 3), Ok(Power::from_watts(12_345)));
        assert_eq!(
            energy(value, Some("kWh"), 0),
            Ok(Energy::from_joules(44_442_000))
        );
        assert_eq!(
            energy(value, Some("A"), 0).unwrap_err().to_string(),
            "unit \"A\" is not one of Wh, kWh"
        );
    }

    proptest! {
        #[test]
        fn joules_survive_four_decimals_of_a_watt_hour(joules in 0_i64..1 << 45) {
            let ten_thousandths = (i128::from(joules) * 10_000 + 1_800) / 3_600;
            let wh = Decimal::new(i64::try_from(ten_thousandths).unwrap(), 4);
            prop_assert_eq!(energy(wh, Some("Wh"), 0), Ok(Energy::from_joules(joules)));
        }

        #[test]
        fn no_number_panics(mantissa in any::<i64>(), scale in 0_u8..19, exponent in any::<i32>()) {
            let _ = energy(Decimal::new(mantissa, scale), Some("kWh"), exponent);
            let _ = power(Decimal::new(mantissa, scale), Some("kW"), exponent);
        }
    }
}
