//! Grid frequency and the restoration signal that follows it, as functions of the seed and the instant.

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use crate::dice::Dice;
use crate::waves::Waves;

const PURPOSE: u64 = 0xf2e9;
const AFRR: u64 = 0xaf22;

/// How deep the one large disturbance of a run goes: 49.8 Hz.
const FALL_MHZ: f64 = -200.0;
/// From the loss of a power station to the lowest point.
const FALL_SECONDS: f64 = 8.0;
/// How long frequency stays down before restoration takes hold.
const HELD_SECONDS: f64 = 150.0;
/// How long the way back takes.
const RECOVERY_SECONDS: f64 = 420.0;

/// A wandering frequency that falls to 49.8 Hz once.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequency {
    slow: Waves,
    fast: Waves,
    falls_at: Option<DateTime<Utc>>,
    seed: u64,
}

impl Frequency {
    /// The frequency of `seed`; it falls to 49.8 Hz at `falls_at`, if that is given.
    #[must_use]
    pub fn new(seed: u64, falls_at: Option<DateTime<Utc>>) -> Self {
        let mut dice = Dice::of(seed, PURPOSE, 0);
        Self {
            // Continental Europe wanders by about 20 mHz (standard deviation), most of it over minutes.
            slow: Waves::new(&mut dice, 12, 180.0, 5_400.0, 15.0),
            fast: Waves::new(&mut dice, 10, 7.0, 150.0, 8.0),
            falls_at,
            seed,
        }
    }

    /// Millihertz above 50 Hz, to the millihertz.
    #[must_use]
    pub fn deviation_mhz(&self, at: DateTime<Utc>) -> f64 {
        let seconds = seconds(at);
        let calm = self.slow.at(seconds) + self.fast.at(seconds) + hour_change(at);
        let fall = self
            .falls_at
            .map_or(0.0, |falls_at| fall((at - falls_at).as_seconds_f64()));
        // While the disturbance lasts it rules, so that it reaches 49.8 Hz whatever the weather.
        let share = (fall / FALL_MHZ).clamp(0.0, 1.0);
        (calm * (1.0 - share) + fall).round()
    }

    /// Share of awarded automatic frequency restoration reserve that is called at `at`, from -1 (all of Up: fleet power
    /// falls) to 1 (all of Down). It changes over five minutes, the full activation time.
    #[must_use]
    pub fn afrr_share(&self, at: DateTime<Utc>) -> f64 {
        const QUARTER_SECONDS: f64 = 900.0;
        const RAMP_SECONDS: f64 = 300.0;
        let into = seconds(at).rem_euclid(QUARTER_SECONDS);
        let now = self.wanted(at);
        if into >= RAMP_SECONDS {
            return now;
        }
        let before = self.wanted(at - TimeDelta::minutes(15));
        before + (now - before) * into / RAMP_SECONDS
    }

    /// What is wanted once the ramp of this quarter hour is over. Most quarter hours call little or nothing.
    fn wanted(&self, at: DateTime<Utc>) -> f64 {
        let quarter = at.timestamp().div_euclid(900).unsigned_abs();
        let mut dice = Dice::of(self.seed, AFRR, quarter);
        if self
            .falls_at
            .is_some_and(|f| f - TimeDelta::minutes(15) < at && at < f + TimeDelta::minutes(15))
        {
            return -1.0;
        }
        if dice.happens(0.35) {
            -dice.between(0.15, 1.0)
        } else if dice.happens(0.40) {
            dice.between(0.15, 1.0)
        } else {
            0.0
        }
    }
}

/// Schedules that change on the hour pull frequency down in the evening hours and up at night, for a few minutes.
fn hour_change(at: DateTime<Utc>) -> f64 {
    let into = f64::from((at.minute() * 60 + at.second() + 300) % 3_600) - 300.0;
    let sign = if (5..21).contains(&at.hour()) {
        -1.0
    } else {
        1.0
    };
    sign * 22.0 * (-(into / 160.0).powi(2)).exp()
}

/// The disturbance, `seconds` after it began.
fn fall(seconds: f64) -> f64 {
    let held = FALL_SECONDS + HELD_SECONDS;
    if seconds <= 0.0 || seconds >= held + RECOVERY_SECONDS {
        0.0
    } else if seconds < FALL_SECONDS {
        FALL_MHZ * seconds / FALL_SECONDS
    } else if seconds < held {
        FALL_MHZ
    } else {
        FALL_MHZ * (1.0 - (seconds - held) / RECOVERY_SECONDS)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for the next 285 000 years"
)]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-06-09T04:00:00Z".parse().unwrap()
    }

    #[test]
    fn it_wanders_like_continental_europe() {
        let frequency = Frequency::new(1, None);
        let day: Vec<f64> = (0..86_400)
            .step_by(5)
            .map(|s| frequency.deviation_mhz(start() + TimeDelta::seconds(s)))
            .collect();
        let n = 86_400.0 / 5.0;
        let mean = day.iter().sum::<f64>() / n;
        let deviation = (day.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 5.0, "{mean}");
        assert!((12.0..30.0).contains(&deviation), "{deviation}");
        assert!(day.iter().all(|d| d.abs() < 120.0));
    }

    #[test]
    fn it_falls_to_49_8_hz_once_and_comes_back() {
        let at = start() + TimeDelta::hours(5);
        let frequency = Frequency::new(1, Some(at));
        assert!((frequency.deviation_mhz(at + TimeDelta::seconds(60)) + 200.0).abs() < 0.5);
        let calm = Frequency::new(1, None);
        for hours in [-2, 2] {
            let other = at + TimeDelta::hours(hours);
            assert!((frequency.deviation_mhz(other) - calm.deviation_mhz(other)).abs() < 0.5);
        }
    }

    #[test]
    fn restoration_is_called_both_ways_without_jumps() {
        let frequency = Frequency::new(1, None);
        let shares: Vec<f64> = (0..86_400)
            .map(|s| frequency.afrr_share(start() + TimeDelta::seconds(s)))
            .collect();
        assert!(shares.iter().any(|s| *s < -0.5) && shares.iter().any(|s| *s > 0.5));
        assert!(shares.windows(2).all(|w| (w[1] - w[0]).abs() < 0.02));
    }
}
