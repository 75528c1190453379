//! What reserve asks of a reservoir (`markets.md` 4.3, after the Dutch FCR manual and the regional policy it implements).

use chrono::TimeDelta;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use units::{Energy, Power};

use crate::rules::Endurance;

impl Endurance {
    /// Energy that must be available in each direction for `capacity`, at the grid side.
    #[must_use]
    pub fn energy(&self, capacity: Power) -> Energy {
        capacity.over(TimeDelta::minutes(i64::from(self.minutes)))
    }

    /// How long that energy must last at a constant deviation that asks for `share` (0 to 1) of full response: longer in proportion.
    /// `None` where nothing is asked.
    #[must_use]
    pub fn lasts(&self, share: f64) -> Option<TimeDelta> {
        (share > 0.0).then(|| {
            let seconds = f64::from(self.minutes) * 60.0 / share.min(1.0);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates: no deviation lasts that long"
            )]
            TimeDelta::seconds(seconds.round() as i64)
        })
    }

    /// Converter power needed in each direction for `capacity` of an independent unit with a limited reservoir.
    #[must_use]
    pub fn rated_power(&self, capacity: Power) -> Power {
        let watts = Decimal::from(capacity.watts()) * self.power_factor;
        Power::from_watts(watts.ceil().to_i64().unwrap_or(i64::MAX))
    }
}

/// Band of the state of charge outside which reserve mode answers only the fast part of a deviation: lowest and highest share for
/// `capacity` from a reservoir of `energy`, with blending over `activation`.
///
/// `None` for an empty reservoir, or one too small to have a band.
#[must_use]
pub fn reserve_mode_band(
    capacity: Power,
    energy: Energy,
    activation: TimeDelta,
) -> Option<(f64, f64)> {
    if energy <= Energy::ZERO {
        return None;
    }
    let margin = capacity.over(activation).kwh() / energy.kwh();
    (margin < 0.5).then_some((margin, 1.0 - margin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;
    use crate::{Area, Product};

    fn fcr() -> &'static Endurance {
        let at = "2026-01-10T00:00:00Z".parse().unwrap();
        let rule = Rules::built_in().at(Area::Nl, Product::Fcr, at).unwrap();
        rule.endurance.as_ref().unwrap()
    }

    #[test]
    fn a_megawatt_of_fcr_needs_half_a_megawatt_hour_each_way() {
        assert_eq!(fcr().energy(Power::from_mw(1.0)), Energy::from_kwh(500.0));
    }

    #[test]
    fn at_100_mhz_the_same_energy_lasts_an_hour() {
        assert_eq!(fcr().lasts(100.0 / 200.0), Some(TimeDelta::minutes(60)));
        assert_eq!(fcr().lasts(1.0), Some(TimeDelta::minutes(30)));
        assert_eq!(fcr().lasts(0.0), None);
    }

    #[test]
    fn the_reserve_mode_band_of_two_megawatt_hours_for_a_megawatt() {
        let (low, high) = reserve_mode_band(
            Power::from_mw(1.0),
            Energy::from_kwh(2_000.0),
            TimeDelta::minutes(5),
        )
        .unwrap();
        assert!((low - 1.0 / 24.0).abs() < 1e-12 && (high - 23.0 / 24.0).abs() < 1e-12);
        assert_eq!(
            reserve_mode_band(Power::from_mw(1.0), Energy::ZERO, TimeDelta::minutes(5)),
            None
        );
    }

    #[test]
    fn an_independent_unit_needs_a_quarter_more_power_than_it_sells() {
        assert_eq!(fcr().rated_power(Power::from_mw(1.0)), Power::from_mw(1.25));
    }
}
