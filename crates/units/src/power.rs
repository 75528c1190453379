//! Active power and the energy it carries.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// Active power at a grid connection point, held as whole watts.
///
/// Positive power flows from the grid into the vehicle (charging); negative power flows back
/// (discharging). This is the load convention, used for every `Power` and [`Energy`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Power {
    watts: i64,
}

/// Energy through a connection point, held as whole joules. Same sign as [`Power`].
///
/// One watt for one second is one joule, so power over whole seconds is exact: metered intervals
/// add up to the session total with no tolerance.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Energy {
    joules: i64,
}

const JOULES_PER_WATT_HOUR: i64 = 3_600;
const JOULES_PER_KWH: f64 = 3_600_000.0;

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates: far beyond any grid"
)]
fn round_to_i64(value: f64) -> i64 {
    value.round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53: 9 petajoules")]
const fn as_f64(value: i64) -> f64 {
    value as f64
}

impl Power {
    /// No flow.
    pub const ZERO: Self = Self { watts: 0 };

    /// Power of `watts`; positive charges.
    #[must_use]
    pub const fn from_watts(watts: i64) -> Self {
        Self { watts }
    }

    /// Power of `kw` kilowatts, rounded to the nearest watt; not-a-number becomes zero.
    #[must_use]
    pub fn from_kw(kw: f64) -> Self {
        Self {
            watts: round_to_i64(kw * 1e3),
        }
    }

    /// Power of `mw` megawatts, rounded to the nearest watt; not-a-number becomes zero.
    #[must_use]
    pub fn from_mw(mw: f64) -> Self {
        Self {
            watts: round_to_i64(mw * 1e6),
        }
    }

    /// Whole watts; positive charges.
    #[must_use]
    pub const fn watts(self) -> i64 {
        self.watts
    }

    /// Kilowatts, for people and kernels.
    #[must_use]
    pub const fn kw(self) -> f64 {
        as_f64(self.watts) / 1e3
    }

    /// Megawatts, for markets.
    #[must_use]
    pub const fn mw(self) -> f64 {
        as_f64(self.watts) / 1e6
    }

    /// Size without direction.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self {
            watts: self.watts.abs(),
        }
    }

    /// True if power flows back to the grid.
    #[must_use]
    pub const fn is_export(self) -> bool {
        self.watts < 0
    }

    /// Energy that this power carries over `held`, whole seconds, exact.
    #[must_use]
    pub const fn over(self, held: TimeDelta) -> Energy {
        Energy {
            joules: self.watts * held.num_seconds(),
        }
    }

    /// This power times `factor`, rounded to the nearest watt.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        Self {
            watts: round_to_i64(as_f64(self.watts) * factor),
        }
    }
}

impl Energy {
    /// No energy.
    pub const ZERO: Self = Self { joules: 0 };

    /// Energy of `joules`; positive flows into the vehicle.
    #[must_use]
    pub const fn from_joules(joules: i64) -> Self {
        Self { joules }
    }

    /// Energy of `wh` watt hours, exact.
    #[must_use]
    pub const fn from_wh(wh: i64) -> Self {
        Self {
            joules: wh * JOULES_PER_WATT_HOUR,
        }
    }

    /// Energy of `kwh` kilowatt hours, rounded to the nearest joule; not-a-number becomes zero.
    #[must_use]
    pub fn from_kwh(kwh: f64) -> Self {
        Self {
            joules: round_to_i64(kwh * JOULES_PER_KWH),
        }
    }

    /// Whole joules.
    #[must_use]
    pub const fn joules(self) -> i64 {
        self.joules
    }

    /// Kilowatt hours, for people and kernels.
    #[must_use]
    pub const fn kwh(self) -> f64 {
        as_f64(self.joules) / JOULES_PER_KWH
    }

    /// Megawatt hours, for markets.
    #[must_use]
    pub const fn mwh(self) -> f64 {
        as_f64(self.joules) / (JOULES_PER_KWH * 1e3)
    }

    /// Mean power if this energy flows evenly over `span`; `None` for a span under one second.
    #[must_use]
    pub fn mean_power(self, span: TimeDelta) -> Option<Power> {
        let seconds = span.num_seconds();
        (seconds > 0).then(|| Power::from_watts(self.joules / seconds))
    }
}

macro_rules! additive {
    ($quantity:ident, $field:ident) => {
        impl Add for $quantity {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self {
                    $field: self.$field + other.$field,
                }
            }
        }
        impl Sub for $quantity {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self {
                    $field: self.$field - other.$field,
                }
            }
        }
        impl Neg for $quantity {
            type Output = Self;
            fn neg(self) -> Self {
                Self {
                    $field: -self.$field,
                }
            }
        }
        impl AddAssign for $quantity {
            fn add_assign(&mut self, other: Self) {
                self.$field += other.$field;
            }
        }
        impl SubAssign for $quantity {
            fn sub_assign(&mut self, other: Self) {
                self.$field -= other.$field;
            }
        }
        impl Sum for $quantity {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                values.fold(Self::ZERO, Add::add)
            }
        }
    };
}
additive!(Power, watts);
additive!(Energy, joules);

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.watts.abs() {
            0..1_000 => write!(f, "{} W", self.watts),
            1_000..1_000_000 => write!(f, "{} kW", self.kw()),
            _ => write!(f, "{} MW", self.mw()),
        }
    }
}

impl fmt::Display for Energy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} kWh", self.kwh())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn power_held_in_pieces_carries_what_it_carries_at_once(
            watts in -1_000_000_i64..1_000_000,
            pieces in prop::collection::vec(0_i64..10_000, 0..20),
        ) {
            let power = Power::from_watts(watts);
            let apart: Energy = pieces.iter().map(|s| power.over(TimeDelta::seconds(*s))).sum();
            prop_assert_eq!(apart, power.over(TimeDelta::seconds(pieces.iter().sum())));
        }

        #[test]
        fn kilowatt_hours_survive_the_way_there_and_back(joules in -1_i64 << 50..1_i64 << 50) {
            let energy = Energy::from_joules(joules);
            prop_assert_eq!(Energy::from_kwh(energy.kwh()), energy);
        }
    }

    #[test]
    fn a_kilowatt_hour_is_one_kilowatt_for_an_hour() {
        assert_eq!(
            Power::from_kw(1.0).over(TimeDelta::hours(1)),
            Energy::from_kwh(1.0)
        );
        assert_eq!(
            Energy::from_kwh(1.0).mean_power(TimeDelta::hours(1)),
            Some(Power::from_watts(1_000))
        );
        assert_eq!(Energy::from_kwh(1.0).mean_power(TimeDelta::zero()), None);
    }
}
