//! How far forecasts of the last days lay off, as a share of what they said: of all hours lately, and of each hour of the clock.

use super::calibrate::{KEPT, Past};
use super::num::size;

/// Leads that are looked at, hours: a day and a half ahead, where the present says little.
const LEADS: std::ops::RangeInclusive<usize> = 13..=36;
/// Lead from which on the whole is taken, hours; of what comes sooner the present says more.
const WHOLE: usize = 12;
/// Age at which an error counts half, days: of all hours, and of an hour of the clock.
const LEVEL_HALF_LIFE: f64 = 5.0;
const CLOCK_HALF_LIFE: f64 = 14.0;
/// Forecasts without error that the errors of all hours must outweigh, and those of one hour.
const LEVEL_PRIOR: f64 = 72.0;
const CLOCK_PRIOR: f64 = 34.0;
/// Likeness of hours of the clock, as a standard deviation, and of working days and days off.
const NEAR: f64 = 1.5;
const OTHER_CLASS: f64 = 0.3;
/// Parts of both errors that are taken: the rest was chance, or has passed.
const LEVEL_TAKEN: f64 = 0.2;
const CLOCK_TAKEN: f64 = 0.3;
/// Furthest that a forecast is moved, as shares of its mean.
const MOST: (f64, f64) = (-0.7, 2.0);

/// Shares of a forecast's mean by which it is moved, by class of day and local hour.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drift {
    shares: [[f64; 24]; 2],
}

/// Errors and means, weighted.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    error: f64,
    mean: f64,
}

impl Sum {
    fn add(&mut self, weight: f64, other: Self) {
        self.error += weight * other.error;
        self.mean += weight * other.mean;
    }
}

/// Mean of a distribution given by the levels of the score, each standing for the levels nearest to it.
pub(crate) fn mean(levels: &[f64; KEPT]) -> f64 {
    const NEAREST: [f64; KEPT] = [0.075, 0.1, 0.2, 0.25, 0.2, 0.1, 0.075];
    levels.iter().zip(NEAREST).map(|(l, w)| w * l).sum()
}

impl Drift {
    /// Learns from forecasts whose outcome is known.
    pub(crate) fn learn(past: &[Past]) -> Self {
        let mut all = Sum::default();
        let mut clock = [[Sum::default(); 24]; 2];
        let (mut total, mut count) = (0.0, 0.0);
        for one in past.iter().filter(|p| LEADS.contains(&p.lead)) {
            let mean = mean(&one.levels.map(f64::from));
            let of = Sum {
                error: one.outcome - mean,
                mean,
            };
            all.add((-one.age / LEVEL_HALF_LIFE).exp2(), of);
            let recent = (-one.age / CLOCK_HALF_LIFE).exp2();
            let own = usize::from(one.off);
            clock[own][one.hour].add(recent, of);
            clock[1 - own][one.hour].add(OTHER_CLASS * recent, of);
            total += mean;
            count += 1.0;
        }
        if total <= 0.0 {
            return Self::default();
        }
        let usual = total / count;
        let level = LEVEL_TAKEN * all.error / (all.mean + LEVEL_PRIOR * usual);
        let shares = clock.map(|clock| {
            std::array::from_fn(|hour| {
                let of = around(&clock, hour);
                let own = CLOCK_TAKEN * of.error / (of.mean + CLOCK_PRIOR * usual);
                (level + own).clamp(MOST.0, MOST.1)
            })
        });
        Self { shares }
    }

    /// Share of its mean by which a forecast `lead` hours ahead is moved, for local hour `hour` of a working day or a day `off`.
    pub(crate) fn at(&self, lead: usize, hour: usize, off: bool) -> f64 {
        let ahead = size(lead.min(WHOLE)) / size(WHOLE);
        ahead * self.shares[usize::from(off)][hour.min(23)]
    }
}

/// The sums of the hours around one, around the clock.
fn around(clock: &[Sum; 24], hour: usize) -> Sum {
    let mut sum = Sum::default();
    for (other, of) in clock.iter().enumerate() {
        let apart = other.abs_diff(hour);
        let far = size(apart.min(24 - apart)) / NEAR;
        sum.add((-0.5 * far * far).exp(), *of);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn past(outcome: impl Fn(u32, usize) -> f64) -> Vec<Past> {
        let days = (0..28).flat_map(|day| (0..24).map(move |hour| (day, hour)));
        days.map(|(day, hour)| Past {
            lead: 24,
            hour,
            off: day % 7 >= 5,
            age: f64::from(day),
            levels: [5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 15.0],
            outcome: outcome(day, hour),
        })
        .collect()
    }

    #[test]
    fn an_hour_that_is_always_busier_than_said_is_lifted_and_others_hardly() {
        let drift = Drift::learn(&past(|_, hour| if hour == 18 { 15.0 } else { 10.0 }));
        assert!(drift.at(24, 18, false) > 0.02, "{drift:?}");
        assert!(drift.at(24, 6, false).abs() < 0.01, "{drift:?}");
    }

    #[test]
    fn a_week_that_was_quieter_than_said_lowers_all_hours() {
        let drift = Drift::learn(&past(|day, _| if day < 7 { 5.0 } else { 10.0 }));
        for hour in 0..24 {
            assert!(
                (-0.4..-0.05).contains(&drift.at(24, hour, false)),
                "{drift:?}"
            );
        }
    }

    #[test]
    fn nothing_is_moved_where_nothing_was_forecast_or_nothing_was_there() {
        assert!(Drift::learn(&[]).at(24, 12, true).abs() < 1e-12);
        let mut empty = past(|_, _| 0.0);
        empty.iter_mut().for_each(|p| p.levels = [0.0; KEPT]);
        assert!(Drift::learn(&empty).at(24, 12, false).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_less_than_the_error(share in 0.0_f64..3.0) {
            let drift = Drift::learn(&past(|_, _| 10.0 * share));
            let taken = drift.at(24, 12, false);
            prop_assert!(taken.abs() <= (share - 1.0).abs() + 1e-9, "{taken}");
            prop_assert!(taken * (share - 1.0) >= -1e-9, "{taken}");
        }
    }
}
