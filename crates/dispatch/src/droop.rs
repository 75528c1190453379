//! Frequency containment: power in proportion to the deviation (`markets.md` 4.2, after the Dutch FCR manual).

use market::rules::{Dynamics, Rule};
use units::Power;

/// A droop curve in load convention: low frequency makes fleet power fall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Droop {
    full_millihertz: f64,
    deadband_millihertz: f64,
    insensitivity_millihertz: f64,
}

impl Default for Droop {
    /// Continental FCR: full response at 200 mHz, no deadband, 10 mHz insensitivity.
    fn default() -> Self {
        Self {
            full_millihertz: 200.0,
            deadband_millihertz: 0.0,
            insensitivity_millihertz: 10.0,
        }
    }
}

impl Droop {
    /// The curve that a rule asks for; `None` for a product that does not follow frequency.
    #[must_use]
    pub fn of(rule: &Rule) -> Option<Self> {
        match rule.dynamics {
            Dynamics::Droop {
                full_millihertz,
                deadband_millihertz,
                insensitivity_millihertz,
                ..
            } => Some(Self {
                full_millihertz: f64::from(full_millihertz),
                deadband_millihertz: f64::from(deadband_millihertz),
                insensitivity_millihertz: f64::from(insensitivity_millihertz),
            }),
            Dynamics::Schedule | Dynamics::Setpoint { .. } => None,
        }
    }

    /// Share of full response at a deviation from 50 Hz, -1 to 1, same sign as the deviation. Not a number gives none.
    #[must_use]
    pub fn share(self, deviation_mhz: f64) -> f64 {
        let beyond = (deviation_mhz.abs() - self.deadband_millihertz).max(0.0);
        let span = self.full_millihertz - self.deadband_millihertz;
        (beyond / span).min(1.0).copysign(deviation_mhz)
    }

    /// Wanted change of fleet power for the awarded `capacity` (at least zero): `C * clamp(df / 0.2 Hz, -1, 1)`.
    #[must_use]
    pub fn response(self, capacity: Power, deviation_mhz: f64) -> Power {
        if deviation_mhz.is_nan() {
            return Power::ZERO;
        }
        capacity.scale(self.share(deviation_mhz))
    }

    /// Power by which the response may be off because of the insensitivity: 5 % of the capacity for Continental FCR.
    #[must_use]
    pub fn tolerance(self, capacity: Power) -> Power {
        capacity.scale(self.insensitivity_millihertz / self.full_millihertz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Area, Product, Rules};
    use proptest::prelude::*;

    #[test]
    fn the_reference_numbers_of_the_rule_book() {
        let at = "2026-01-10T00:00:00Z".parse().unwrap();
        let droop = Droop::of(Rules::built_in().at(Area::De, Product::Fcr, at).unwrap()).unwrap();
        assert_eq!(droop, Droop::default());
        let c = Power::from_mw(2.0);
        assert_eq!(droop.response(c, -100.0), Power::from_mw(-1.0), "49.900 Hz");
        assert_eq!(
            droop.response(c, 250.0),
            Power::from_mw(2.0),
            "50.250 Hz, saturated"
        );
        assert_eq!(droop.response(c, -200.0), Power::from_mw(-2.0));
        assert_eq!(droop.response(c, 0.0), Power::ZERO);
        assert_eq!(droop.response(c, f64::NAN), Power::ZERO);
        assert_eq!(droop.tolerance(c), Power::from_kw(100.0));
    }

    #[test]
    fn insensitivity_is_not_a_deadband() {
        let droop = Droop::default();
        let c = Power::from_mw(1.0);
        for around in [-150.0, -3.0, 0.0, 42.0] {
            let change = droop.response(c, around + 10.0) - droop.response(c, around);
            assert_eq!(change, Power::from_kw(50.0), "10 mHz around {around}");
        }
    }

    proptest! {
        #[test]
        fn the_response_is_odd_rises_and_never_exceeds_the_capacity(
            watts in 0_i64..100_000_000, a in -400.0_f64..400.0, b in -400.0_f64..400.0,
        ) {
            let (droop, c) = (Droop::default(), Power::from_watts(watts));
            prop_assert!(droop.response(c, a).abs() <= c);
            prop_assert_eq!(droop.response(c, -a), -droop.response(c, a));
            prop_assert!(droop.response(c, a.min(b)) <= droop.response(c, a.max(b)));
        }
    }
}
