//! Energy that frequency containment reserve is asked for, from one-second frequency.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::quantiles;

/// Proportional answer to frequency: nothing inside the dead band, all at full deviation and beyond.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Droop {
    /// No answer up to here, mHz.
    pub dead_band_mhz: f64,
    /// Full answer from here on, mHz, more than the dead band.
    pub full_mhz: f64,
}

impl Droop {
    /// FCR of Continental Europe: proportional to 200 mHz, no dead band (the 10 mHz are a tolerance of measurement;
    /// Commission Regulation (EU) 2017/1485, annex V).
    pub const FCR: Self = Self {
        dead_band_mhz: 0.0,
        full_mhz: 200.0,
    };

    /// Share of the award called by a deviation from 50 Hz in mHz: positive is Up (less load), from low frequency.
    #[must_use]
    pub fn share(self, deviation_mhz: f64) -> f64 {
        let beyond = (deviation_mhz.abs() - self.dead_band_mhz).max(0.0);
        let size = (beyond / (self.full_mhz - self.dead_band_mhz)).min(1.0);
        if deviation_mhz < 0.0 { size } else { -size }
    }
}

/// What one interval called for per MW of award.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// First instant.
    pub start: DateTime<Utc>,
    /// `MWh` per MW called Up, not negative.
    pub up: f64,
    /// `MWh` per MW called Down, not negative.
    pub down: f64,
}

impl Activation {
    /// Up and Down together: what wears the battery.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.up + self.down
    }

    /// Up less Down: what drains it.
    #[must_use]
    pub fn net(&self) -> f64 {
        self.up - self.down
    }
}

/// Activation of every whole interval of `length` (from the epoch on) from one-second samples of the deviation in mHz,
/// in order of time. A missing second holds none: the mean of those present stands for it. Intervals with less than
/// `least_share` (0 to 1) of their seconds are left out, and counted in the second value.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of an interval")]
pub fn activations(
    samples: &[(DateTime<Utc>, f64)],
    droop: Droop,
    length: TimeDelta,
    least_share: f64,
) -> (Vec<Activation>, usize) {
    let start_of = |at: DateTime<Utc>| at.duration_trunc(length).ok();
    let seconds = length.num_seconds() as f64;
    let (mut kept, mut sparse) = (Vec::new(), 0);
    for chunk in samples.chunk_by(|a, b| start_of(a.0) == start_of(b.0)) {
        let Some(start) = chunk.first().and_then(|s| start_of(s.0)) else {
            continue;
        };
        let count = chunk.len() as f64;
        if count < least_share * seconds {
            sparse += 1;
            continue;
        }
        let shares = || chunk.iter().map(|(_, mhz)| droop.share(*mhz));
        let hours = seconds / 3600.0 / count;
        kept.push(Activation {
            start,
            up: shares().map(|s| s.max(0.0)).sum::<f64>() * hours,
            down: shares().map(|s| (-s).max(0.0)).sum::<f64>() * hours,
        });
    }
    (kept, sparse)
}

/// Mean and quantiles of activation over intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedActivation {
    /// Mean `MWh` per MW called Up, and called Down.
    pub mean: (f64, f64),
    /// Quantiles of Up at the levels asked for.
    pub up: Vec<f64>,
    /// Quantiles of Down.
    pub down: Vec<f64>,
    /// Quantiles of Up less Down.
    pub net: Vec<f64>,
}

/// What to expect of the next interval: all past ones alike. `None` without any.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count of intervals")]
pub fn expected(past: &[Activation], levels: &[f64]) -> Option<ExpectedActivation> {
    let of = |value: fn(&Activation) -> f64| {
        let values: Vec<_> = past.iter().map(value).collect();
        quantiles(&values, levels).map(|q| (values.iter().sum::<f64>() / past.len() as f64, q))
    };
    let (up, down) = (of(|a| a.up)?, of(|a| a.down)?);
    Some(ExpectedActivation {
        mean: (up.0, down.0),
        up: up.1,
        down: down.1,
        net: of(Activation::net)?.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(at: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_100 + at, 0).unwrap()
    }

    #[test]
    fn half_the_full_deviation_for_an_hour_is_half_a_megawatt_hour_up() {
        let samples: Vec<_> = (0..3600).map(|s| (second(s), -100.0)).collect();
        let (quarters, sparse) = activations(&samples, Droop::FCR, TimeDelta::minutes(15), 0.9);
        assert_eq!(sparse, 0);
        let up: f64 = quarters.iter().map(|a| a.up).sum();
        assert!((up - 0.5).abs() < 1e-12 && quarters.iter().all(|a| a.down.abs() < 1e-12));
        assert_eq!(quarters.len(), 4);
    }

    #[test]
    fn a_quarter_hour_with_a_hole_is_left_out_and_counted() {
        let samples: Vec<_> = (0..1800)
            .filter(|s| !(200..900).contains(s))
            .map(|s| (second(s), 50.0))
            .collect();
        let (quarters, sparse) = activations(&samples, Droop::FCR, TimeDelta::minutes(15), 0.9);
        assert_eq!((quarters.len(), sparse), (1, 1));
        assert!(expected(&[], &[0.5]).is_none());
    }

    #[test]
    fn a_dead_band_is_silent_and_full_deviation_is_all() {
        let droop = Droop {
            dead_band_mhz: 10.0,
            full_mhz: 200.0,
        };
        assert!(droop.share(-10.0).abs() < 1e-12);
        assert!((droop.share(-105.0) - 0.5).abs() < 1e-12);
        assert!((droop.share(900.0) + 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn energy_is_never_negative_and_never_more_than_the_award(values in prop::collection::vec(-400.0_f64..400.0, 900..2700)) {
            let samples: Vec<_> = (0..).zip(&values).map(|(s, v)| (second(s), *v)).collect();
            let (quarters, _) = activations(&samples, Droop::FCR, TimeDelta::minutes(15), 0.5);
            for a in &quarters {
                prop_assert!(a.up >= 0.0 && a.down >= 0.0 && a.throughput() <= 0.25 + 1e-12);
            }
            let levels = [0.1, 0.5, 0.9];
            if let Some(e) = expected(&quarters, &levels) {
                prop_assert!(e.up.windows(2).all(|w| w[0] <= w[1]) && e.net.windows(2).all(|w| w[0] <= w[1]));
            }
        }
    }
}
