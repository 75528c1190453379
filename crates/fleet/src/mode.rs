//! How an EVSE finds its power while a set-point holds: the operation modes of OCPP 2.1 that a pool uses.

use serde::{Deserialize, Serialize};
use units::Power;

/// Points that a curve may have, OCPP 2.1 `v2xFreqWattCurve` and `v2xSignalWattCurve`.
pub const CURVE_POINTS: usize = 20;

/// Most that a power may be in either direction: more than any outlet carries, and sums stay far from what can be counted.
pub const MOST: Power = Power::from_watts(10_000_000_000);

fn is_beyond(power: Power) -> bool {
    !(-MOST..=MOST).contains(&power)
}

/// One point of a curve: at `at`, `power` is added to the power of the set-point. Positive charges.
///
/// For a frequency curve `at` is in millihertz, for a signal curve it is the value of the balancing signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Frequency in millihertz, or signal.
    pub at: i32,
    /// Added to the power of the set-point.
    pub power: Power,
}

/// A curve of one to [`CURVE_POINTS`] points in rising order: straight between points, held beyond the ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<CurvePoint>", into = "Vec<CurvePoint>")]
pub struct Curve(Vec<CurvePoint>);

/// A curve that no station can follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CurveError {
    /// Too few or too many points.
    #[error("a curve has {0} points, expected 1 to {CURVE_POINTS}")]
    Points(usize),
    /// A power that no outlet carries.
    #[error("a curve gives {0}, expected at most {MOST} either way")]
    Power(Power),
    /// Points that do not rise.
    #[error("a curve goes from {before} to {after}, expected rising points")]
    Order {
        /// A point.
        before: i32,
        /// The point after it.
        after: i32,
    },
}

impl TryFrom<Vec<CurvePoint>> for Curve {
    type Error = CurveError;
    fn try_from(points: Vec<CurvePoint>) -> Result<Self, CurveError> {
        if !(1..=CURVE_POINTS).contains(&points.len()) {
            return Err(CurveError::Points(points.len()));
        }
        if let Some(point) = points.iter().find(|point| is_beyond(point.power)) {
            return Err(CurveError::Power(point.power));
        }
        match points.windows(2).find(|pair| pair[0].at >= pair[1].at) {
            Some(pair) => Err(CurveError::Order {
                before: pair[0].at,
                after: pair[1].at,
            }),
            None => Ok(Self(points)),
        }
    }
}

impl From<Curve> for Vec<CurvePoint> {
    fn from(curve: Curve) -> Self {
        curve.0
    }
}

impl Curve {
    /// Its points in rising order; at least one.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.0
    }

    /// Power that the curve gives at `at`, rounded towards zero between points.
    #[must_use]
    pub fn power(&self, at: i32) -> Power {
        let after = self.0.partition_point(|point| point.at < at);
        match (after.checked_sub(1).map(|n| self.0[n]), self.0.get(after)) {
            (Some(low), Some(high)) => {
                let (run, whole) = (
                    i64::from(at) - i64::from(low.at),
                    i64::from(high.at) - i64::from(low.at),
                );
                let rise = i128::from((high.power - low.power).watts());
                let share = rise * i128::from(run) / i128::from(whole);
                low.power + Power::from_watts(i64::try_from(share).unwrap_or(0))
            }
            (Some(point), None) => point.power,
            (None, point) => point.map_or(Power::ZERO, |p| p.power),
        }
    }

    fn lowest(&self) -> Power {
        self.0.iter().map(|p| p.power).min().unwrap_or(Power::ZERO)
    }
}

/// How an EVSE finds its power while a set-point holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The power as told, renewed set-point by set-point. A station that knows limits only takes it as one.
    #[default]
    CentralSetpoint,
    /// The station decides, from zero up to the power told; never a discharge.
    ChargingOnly,
    /// No transfer; the contactor may open.
    Idle,
    /// The power told plus what the curve gives for the grid frequency, in millihertz, that the station measures.
    LocalFrequency(Curve),
    /// The power told plus what the curve gives for the newest balancing signal.
    CentralFrequency(Curve),
    /// A new value of the balancing signal. The power told is what it comes to: a station without a curve takes that.
    Signal(i32),
    /// The station keeps its site within bounds: charging up to the power told, discharging up to this magnitude.
    LocalLoadBalancing {
        /// At least zero.
        discharge: Power,
    },
}

/// A set-point that contradicts its mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModeError {
    /// A discharge in a mode that has none.
    #[error("{mode} with {power}, expected a power of at least zero")]
    Discharge {
        /// Mode.
        mode: &'static str,
        /// As told.
        power: Power,
    },
    /// A power that no outlet carries.
    #[error("{0} is more than an outlet carries, expected at most {MOST} either way")]
    Beyond(Power),
    /// Idle with a power.
    #[error("idle with {0}, expected no power")]
    Idle(Power),
}

impl Mode {
    /// Name in OCPP 2.1.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CentralSetpoint => "CentralSetpoint",
            Self::ChargingOnly => "ChargingOnly",
            Self::Idle => "Idle",
            Self::LocalFrequency(_) => "LocalFrequency",
            Self::CentralFrequency(_) | Self::Signal(_) => "CentralFrequency",
            Self::LocalLoadBalancing { .. } => "LocalLoadBalancing",
        }
    }

    /// Checks that `power` makes sense in this mode.
    ///
    /// # Errors
    /// [`ModeError`] for a discharge where the mode has none, or a power in idle.
    pub fn check(&self, power: Power) -> Result<(), ModeError> {
        let refuse = |power| {
            Err(ModeError::Discharge {
                mode: self.name(),
                power,
            })
        };
        if is_beyond(power) {
            return Err(ModeError::Beyond(power));
        }
        match self {
            Self::LocalLoadBalancing { discharge } if is_beyond(*discharge) => {
                Err(ModeError::Beyond(*discharge))
            }
            Self::ChargingOnly | Self::LocalLoadBalancing { .. } if power.is_export() => {
                refuse(power)
            }
            Self::LocalLoadBalancing { discharge } if discharge.is_export() => refuse(*discharge),
            Self::Idle if power != Power::ZERO => Err(ModeError::Idle(power)),
            Self::CentralSetpoint
            | Self::ChargingOnly
            | Self::Idle
            | Self::LocalFrequency(_)
            | Self::CentralFrequency(_)
            | Self::Signal(_)
            | Self::LocalLoadBalancing { .. } => Ok(()),
        }
    }

    /// The lowest power that this mode can lead to with a `power` that passed [`Self::check`]: negative if the vehicle may be
    /// discharged.
    #[must_use]
    pub fn lowest(&self, power: Power) -> Power {
        match self {
            Self::CentralSetpoint | Self::Signal(_) => power,
            Self::ChargingOnly | Self::Idle => Power::ZERO,
            Self::LocalFrequency(curve) | Self::CentralFrequency(curve) => power + curve.lowest(),
            Self::LocalLoadBalancing { discharge } => -*discharge,
        }
    }

    /// Lowest and highest metered power that follow a set-point of `power`; `None` where the station's own measurement or a
    /// later signal decides, so that the meter alone tells nothing.
    #[must_use]
    pub fn expected(&self, power: Power) -> Option<(Power, Power)> {
        match self {
            Self::CentralSetpoint | Self::Signal(_) => Some((power, power)),
            Self::Idle => Some((Power::ZERO, Power::ZERO)),
            Self::ChargingOnly => Some((Power::ZERO, power)),
            Self::LocalLoadBalancing { discharge } => {
                let most = 0_i64.saturating_sub(discharge.watts());
                Some((Power::from_watts(most), power))
            }
            Self::LocalFrequency(_) | Self::CentralFrequency(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(points: &[(i32, i64)]) -> Result<Curve, CurveError> {
        let point = |(at, watts): &(i32, i64)| CurvePoint {
            at: *at,
            power: Power::from_watts(*watts),
        };
        points.iter().map(point).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn a_droop_is_straight_between_its_points_and_held_beyond() {
        let droop = curve(&[(49_800, -8_000), (49_990, 0), (50_010, 0), (50_200, 8_000)]).unwrap();
        let at = |mhz| droop.power(mhz).watts();
        assert_eq!(
            [
                at(49_000),
                at(49_800),
                at(49_895),
                at(50_000),
                at(50_105),
                at(51_000)
            ],
            [-8_000, -8_000, -4_000, 0, 4_000, 8_000]
        );
    }

    #[test]
    fn a_curve_has_points_and_they_rise() {
        assert_eq!(curve(&[]), Err(CurveError::Points(0)));
        assert_eq!(
            curve(&[(1, 0), (1, 5)]).unwrap_err().to_string(),
            "a curve goes from 1 to 1, expected rising points"
        );
        let long: Vec<_> = (0..21).map(|n| (n, 0)).collect();
        assert_eq!(curve(&long), Err(CurveError::Points(21)));
    }

    #[test]
    fn a_discharge_is_seen_in_every_mode() {
        let droop = curve(&[(-100, -5_000), (100, 5_000)]).unwrap();
        let kw = Power::from_kw;
        assert_eq!(Mode::CentralSetpoint.lowest(kw(-7.0)), kw(-7.0));
        assert_eq!(
            Mode::LocalFrequency(droop.clone()).lowest(kw(3.0)),
            kw(-2.0)
        );
        assert_eq!(Mode::CentralFrequency(droop).lowest(kw(6.0)), kw(1.0));
        let balancing = Mode::LocalLoadBalancing { discharge: kw(4.0) };
        assert_eq!(balancing.lowest(kw(11.0)), kw(-4.0));
        assert_eq!(Mode::ChargingOnly.lowest(kw(11.0)), Power::ZERO);
        assert!(Mode::ChargingOnly.check(kw(-1.0)).is_err());
        assert!(Mode::Idle.check(kw(1.0)).is_err());
        let beyond = Power::from_watts(i64::MIN);
        assert!(Mode::CentralSetpoint.check(beyond).is_err());
        assert!(
            Mode::LocalLoadBalancing { discharge: beyond }
                .check(kw(1.0))
                .is_err()
        );
        assert_eq!(
            curve(&[(0, i64::MAX)]),
            Err(CurveError::Power(Power::from_watts(i64::MAX)))
        );
    }

    proptest! {
        #[test]
        fn a_curve_gives_nothing_beyond_its_points(
            mut ats in prop::collection::btree_set(any::<i32>(), 1..=20), at in any::<i32>(), watts in prop::collection::vec(-400_000_i64..400_000, 20),
        ) {
            let points: Vec<_> = std::mem::take(&mut ats).into_iter().zip(watts).collect();
            let curve = curve(&points).unwrap();
            let powers = points.iter().map(|(_, watts)| *watts);
            let (low, high) = (powers.clone().min().unwrap(), powers.max().unwrap());
            prop_assert!((low..=high).contains(&curve.power(at).watts()));
        }
    }
}
