//! Settings of the service.

use chrono::TimeDelta;
use dispatch::envelope::Horizon;
use market::Area;
use serde::{Deserialize, Serialize};
use units::Power;

use crate::Error;

/// Full activation time of FCR (`markets.md` 4.2); lengthened with the cycle.
const SETTLING: TimeDelta = TimeDelta::seconds(30);

/// Settings of the service, section `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the pool is sold.
    pub area: Area,
    /// Seconds of the clock between two dispatch cycles.
    pub cycle_seconds: u32,
    /// Least real time between two cycles, ms: a clock that runs fast lengthens the cycle.
    pub least_real_cycle_ms: u32,
    /// Seconds for which a set-point holds; lengthened with the cycle.
    pub setpoint_seconds: u32,
    /// Seconds for which a set-point holds that follows the plan of a vehicle with at least that much time to spare.
    pub planned_seconds: u32,
    /// Change of one EVSE below which no set-point is sent, watts.
    pub threshold_watts: i64,
    /// Age of a plan in minutes above which vehicles charge safely instead.
    pub oldest_plan_minutes: u32,
    /// Age of a grid signal in seconds above which it is no longer followed; lengthened with the cycle.
    pub oldest_signal_seconds: u32,
    /// Time to spare of a vehicle that the pool never uses, seconds.
    pub margin_seconds: u32,
    /// Real time from a decision to the charger, ms; part of the horizon that limits look ahead.
    pub latency_real_ms: u32,
    /// Minutes after the end of a delivery day at which it is settled: meters have reported.
    pub settle_after_minutes: u32,
    /// Hours after the end of a delivery day at which it is settled again if late data changed it.
    pub correct_after_hours: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            area: Area::Nl,
            cycle_seconds: 1,
            // A tenth of the processor time of two cores at 10 000 EVSEs.
            least_real_cycle_ms: 50,
            // Two missed minutes of telemetry; then the station charges safely by itself.
            setpoint_seconds: 120,
            // A market time unit: by then there is another plan. A large pool is told less often.
            planned_seconds: 900,
            // Resolution of a current limit in tenths of an ampere on three phases.
            threshold_watts: 69,
            // Three quarter hours without a solve.
            oldest_plan_minutes: 45,
            oldest_signal_seconds: 10,
            margin_seconds: 120,
            latency_real_ms: 50,
            settle_after_minutes: 10,
            correct_after_hours: 6,
        }
    }
}

impl Config {
    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn check(&self) -> Result<(), Error> {
        let positive = [
            ("cycle_seconds", self.cycle_seconds),
            ("least_real_cycle_ms", self.least_real_cycle_ms),
            ("setpoint_seconds", self.setpoint_seconds),
            ("planned_seconds", self.planned_seconds),
            ("oldest_plan_minutes", self.oldest_plan_minutes),
            ("oldest_signal_seconds", self.oldest_signal_seconds),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config {
                key,
                what: "must be more than zero".to_owned(),
            });
        }
        if self.threshold_watts < 0 {
            return Err(Error::Config {
                key: "threshold_watts",
                what: "must not be negative".to_owned(),
            });
        }
        Ok(())
    }

    /// Spans that follow from the speed of the clock.
    pub(crate) fn pace(&self, speed: f64) -> Pace {
        let real = |ms: u32| milliseconds(f64::from(ms) * speed);
        let seconds = |s: u32| TimeDelta::seconds(i64::from(s));
        let cycle = seconds(self.cycle_seconds).max(real(self.least_real_cycle_ms));
        let expiry = seconds(self.setpoint_seconds).max(cycle * 10);
        Pace {
            cycle,
            expiry,
            planned: seconds(self.planned_seconds).max(expiry),
            oldest_signal: seconds(self.oldest_signal_seconds).max(cycle * 4),
            settling: SETTLING.max(cycle * 2),
            oldest_plan: TimeDelta::minutes(i64::from(self.oldest_plan_minutes)),
            horizon: Horizon {
                decision: cycle * 2 + real(self.latency_real_ms),
                // A clock that runs fast leaves no less real time to spare.
                margin: seconds(self.margin_seconds).max(cycle * 4),
            },
            threshold: Power::from_watts(self.threshold_watts),
        }
    }
}

/// Spans of one run, in time of the clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) cycle: TimeDelta,
    /// How long a set-point holds at least, however little time a vehicle has to spare: the margin is for that.
    pub(crate) expiry: TimeDelta,
    /// How long one holds at most that follows the plan.
    pub(crate) planned: TimeDelta,
    pub(crate) oldest_signal: TimeDelta,
    /// Time the fleet gets to answer a signal or a vehicle that left.
    pub(crate) settling: TimeDelta,
    pub(crate) oldest_plan: TimeDelta,
    pub(crate) horizon: Horizon,
    pub(crate) threshold: Power,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a real second at the fastest clock is 30 years"
)]
pub(crate) fn milliseconds(ms: f64) -> TimeDelta {
    TimeDelta::try_milliseconds(ms as i64).unwrap_or(TimeDelta::MAX)
}
