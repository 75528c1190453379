//! What is usual at the present level: mean profiles of the kinds of days, times how busy days are now, and how far values lie around them.
//!
//! A same weekday that is repeated tells of few days, and of a level that has passed. Where visits come by chance and their pace changes
//! from week to week, more is learned from all days at once: values are taken as `level of the day × profile of its kind`, and what
//! is left, in units of the root of the profile (that of a count of independent vehicles), is pooled over hours with a like mean.

use std::collections::BTreeSet;

use super::kind::{Days, KINDS, OFF};
use super::log::Log;
use super::num::{narrow, size};
use super::observed::Observed;
use crate::Quantity;

/// Half-lives of the level and of profiles, days: of what changes fast and of what changes slowly.
pub(crate) const PACES: [(f64, f64); 2] = [(4.0, 50.0), (12.0, 100.0)];
/// Days looked back on, and days below which nothing is said.
pub(crate) const DAYS: i32 = 182;
const FEWEST: usize = 14;

/// What a day of another kind counts for at most, times how alike the kinds are.
const OTHERS: f64 = 0.4;
/// What any day counts for, so that a kind never seen has a profile.
const ANY: f64 = 0.005;
/// What a day off, or one beside it, says of the level: it has one of its own.
const OFF_COUNTS: f64 = 0.2;
/// Days at the mean level that the days around must outweigh.
const PRIOR_DAYS: f64 = 0.5;
/// Rounds in which levels and profiles are fitted in turn.
const ROUNDS: usize = 3;
/// Share of a profile's hour that is taken from each neighbour.
const NEIGHBOUR: f64 = 0.07;
/// Likeness of hours whose residuals are pooled: hours of the clock, and of the logarithm of the mean; as standard deviations.
const CLOCK: f64 = 2.0;
const MEAN: f64 = 0.2;
/// Hours of the clock beyond which residuals are not looked at.
const FURTHEST: usize = 5;
/// Places of the quantiles laid down, evenly from 0 to 1: every level of the score is one of them.
const PLACES: usize = 41;

/// The past days as they were known at an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) log: &'a Log,
    pub(crate) off: &'a BTreeSet<i32>,
    pub(crate) kinds: &'a Days,
    /// By the hour; holds the days looked back on before `today`.
    pub(crate) observed: &'a Observed,
    pub(crate) today: i32,
}

/// A past day.
#[derive(Debug)]
struct Day {
    day: i32,
    kind: usize,
    /// Values at the full local hours.
    values: [f64; 24],
}

/// Days apart, as what it counts for by its half-life.
pub(super) fn fade(days: i32, half_life: f64) -> f64 {
    (-f64::from(days) / half_life).exp2()
}

impl Known<'_> {
    fn days(&self, quantity: Quantity) -> Vec<Day> {
        let of = |day: i32| {
            let mut values = [0.0; 24];
            for (hour, value) in (0..).zip(&mut values) {
                let at = self.log.instant(day, 3600 * hour);
                *value = self.observed.at(quantity, at)?;
            }
            let kind = self.kinds.kind(day, self.off);
            Some(Day { day, kind, values })
        };
        (self.today - DAYS..self.today).filter_map(of).collect()
    }

    pub(super) fn alike(&self, a: usize, b: usize) -> f64 {
        let other = if a == b {
            1.0
        } else {
            OTHERS * self.kinds.alike(a, b)
        };
        other.max(ANY)
    }
}

/// What is usual of one quantity at one pace, in the quantity's own unit.
#[derive(Debug)]
pub(crate) struct Usual<'a> {
    known: Known<'a>,
    /// Level of today; 1 is that of the profiles.
    now: f64,
    /// By kind.
    profiles: Vec<[f64; 24]>,
    /// Residuals of past days: kind, what the day counts for by its age, residuals by hour.
    around: Vec<(usize, f64, [f64; 24])>,
    /// A part of the mean of all profiles, for logarithms of hours at which nobody is there.
    little: f64,
}

impl<'a> Usual<'a> {
    /// Of `quantity`, at half-lives `pace` of level and profile in days; `None` where fewer than two weeks are known.
    pub(crate) fn new(
        known: Known<'a>,
        quantity: Quantity,
        (of_level, of_profile): (f64, f64),
    ) -> Option<Self> {
        let days = known.days(quantity);
        if days.len() < FEWEST {
            return None;
        }
        let recent = |d: &Day| fade(known.today - d.day, of_profile);
        let (levels, now) = levels(&known, &days, (of_level, of_profile));
        let profiles: Vec<[f64; 24]> = (0..KINDS)
            .map(|kind| profile(&known, &days, &levels, (kind, of_profile)))
            .collect();
        let around = days.iter().zip(&levels).map(|(day, level)| {
            let profile = &profiles[day.kind];
            let rest = |h: usize| (day.values[h] / level - profile[h]) / profile[h].sqrt();
            (day.kind, recent(day), std::array::from_fn(rest))
        });
        let around = around.collect();
        let mean = |p: &[f64; 24]| p.iter().sum::<f64>() / 24.0;
        let little = days.iter().map(|d| mean(&profiles[d.kind])).sum::<f64>() / size(days.len());
        Some(Self {
            known,
            now,
            around,
            little: 0.02 * little,
            profiles,
        })
    }

    /// Quantiles for the hour that begins at `target`, evenly from the lowest to the highest.
    pub(crate) fn at(&self, target: i64) -> Vec<f32> {
        let (day, clock) = self.known.log.clock(target);
        let kind = self.known.kinds.kind(day, self.known.off);
        let hour = usize::try_from(clock / 3600).unwrap_or(0).min(23);
        let mean = self.profiles[kind][hour];
        let rests = self.rests(kind, hour, mean);
        let of = |rest: f64| narrow((self.now * (mean + mean.sqrt() * rest)).max(0.0));
        quantiles(&rests).into_iter().map(of).collect()
    }

    /// Residuals at hours like this one with their weights, in order.
    fn rests(&self, kind: usize, hour: usize, mean: f64) -> Vec<(f64, f64)> {
        let log_mean = |m: f64| (m + self.little).ln();
        let bell = |far: f64| (-0.5 * far * far).exp();
        let hours: Vec<(usize, f64)> = (hour.saturating_sub(FURTHEST)..=(hour + FURTHEST).min(23))
            .map(|h| (h, bell(size(h.abs_diff(hour)) / CLOCK)))
            .collect();
        // Every day of a kind has the same means.
        let by_kind: Vec<Vec<(usize, f64)>> = (0..KINDS)
            .map(|k| {
                let alike = self.known.alike(kind, k);
                let of = |&(h, near): &(usize, f64)| {
                    let far = (log_mean(self.profiles[k][h]) - log_mean(mean)) / MEAN;
                    (far.abs() < 3.0).then(|| (h, alike * near * bell(far)))
                };
                hours.iter().filter_map(of).collect()
            })
            .collect();
        let mut rests = Vec::new();
        for (kind, recent, around) in &self.around {
            let hours = by_kind[*kind].iter();
            rests.extend(hours.map(|(h, weight)| (around[*h], recent * weight)));
        }
        rests.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        rests
    }
}

/// Mean profile of days of `kind` at level 1. Never zero, so that residuals have a unit.
fn profile(
    known: &Known<'_>,
    days: &[Day],
    levels: &[f64],
    (kind, half_life): (usize, f64),
) -> [f64; 24] {
    let (mut sums, mut total) = ([0.0; 24], 0.0);
    for (day, level) in days.iter().zip(levels) {
        let weight = known.alike(kind, day.kind) * fade(known.today - day.day, half_life);
        total += weight;
        for (sum, value) in sums.iter_mut().zip(&day.values) {
            *sum += weight * value / level;
        }
    }
    let mean = sums.map(|s| s / total);
    std::array::from_fn(|h| {
        let beside = mean[(h + 1) % 24] + mean[(h + 23) % 24];
        (1.0 - 2.0 * NEIGHBOUR) * mean[h] + NEIGHBOUR * beside + 1e-3
    })
}

/// Level of each day, and that of today, beside what is usual of their kinds: fitted in turn with the means of the kinds.
fn levels(known: &Known<'_>, days: &[Day], (of_level, of_kind): (f64, f64)) -> (Vec<f64>, f64) {
    let counts = |d: &Day| if d.kind >= OFF { OFF_COUNTS } else { 1.0 };
    let means: Vec<f64> = days
        .iter()
        .map(|d| d.values.iter().sum::<f64>() / 24.0)
        .collect();
    let mut levels = vec![1.0; days.len()];
    let mut now = 1.0;
    for _ in 0..ROUNDS {
        let usual: Vec<f64> = (0..KINDS)
            .map(|kind| {
                let (mut sum, mut total) = (0.0, 0.0);
                for ((day, mean), level) in days.iter().zip(&means).zip(&levels) {
                    let weight = known.alike(kind, day.kind) * fade(known.today - day.day, of_kind);
                    sum += weight * mean / level;
                    total += weight;
                }
                sum / total
            })
            .collect();
        let all = days.iter().map(|d| usual[d.kind]).sum::<f64>() / size(days.len());
        let prior = PRIOR_DAYS * all + 1e-9;
        let level = |at: i32| {
            let (mut came, mut expected) = (prior, prior);
            for (day, mean) in days.iter().zip(&means) {
                let weight = counts(day) * fade((at - day.day).abs(), of_level);
                came += weight * mean;
                expected += weight * usual[day.kind];
            }
            (came / expected).max(0.1)
        };
        now = level(known.today);
        levels = days.iter().map(|d| level(d.day)).collect();
    }
    (levels, now)
}

/// Weighted quantiles of values in order at [`PLACES`] levels evenly from 0 to 1: each value stands in the middle of its weight, between
/// two it is linear.
pub(super) fn quantiles(values: &[(f64, f64)]) -> Vec<f64> {
    let total: f64 = values.iter().map(|v| v.1).sum();
    let mut places = Vec::with_capacity(values.len());
    let mut below = 0.0;
    for (_, weight) in values {
        places.push((below + 0.5 * weight) / total);
        below += weight;
    }
    let of = |place: usize| {
        let level = size(place) / size(PLACES - 1);
        let above = places.partition_point(|p| *p < level);
        match (
            above.checked_sub(1).and_then(|i| values.get(i)),
            values.get(above),
        ) {
            (Some(low), Some(high)) => {
                let (from, to) = (places[above - 1], places[above]);
                low.0 + (high.0 - low.0) * (level - from) / (to - from).max(f64::MIN_POSITIVE)
            }
            (Some(only), None) | (None, Some(only)) => only.0,
            (None, None) => 0.0,
        }
    };
    (0..PLACES).map(of).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;
    use proptest::prelude::*;

    use super::super::visit::Visit;
    use super::*;

    const FIRST: &str = "2019-03-04T00:00:00Z";

    /// `cars` of a day, Monday first, come at eight and at fourteen for two hours each.
    fn log(days: i32, cars: impl Fn(i32) -> i32) -> Log {
        let first: DateTime<Utc> = FIRST.parse().unwrap();
        let all = (0..days).flat_map(|day| (0..cars(day)).map(move |car| (day, car)));
        let visits = all.flat_map(|(day, car)| [8, 14].map(|hour| (day, car, hour)));
        let visits = visits.map(|(day, car, hour)| {
            let start = first + TimeDelta::days(day.into()) + TimeDelta::hours(hour);
            Visit {
                user: u32::try_from(car).ok(),
                ..Visit::made(start, TimeDelta::hours(2), 5.0)
            }
        });
        Log::new(Tz::UTC, visits.collect::<Vec<_>>())
    }

    /// Median of the count at `hour` of the `ahead`th day from the end of `days` days on, by pace; `None` where nothing is said.
    fn medians(log: &Log, days: i32, (ahead, hour): (i64, i64)) -> Option<[f32; PACES.len()]> {
        let first: DateTime<Utc> = FIRST.parse().unwrap();
        let midnight = (first + TimeDelta::days(days.into())).timestamp();
        let medians = |known: Known<'_>| {
            let usual = PACES.map(|pace| Usual::new(known, Quantity::PluggedIn, pace));
            let target = midnight + 86_400 * ahead + 3600 * hour;
            let [Some(fast), Some(slow)] = &usual else {
                return None;
            };
            Some([fast, slow].map(|u| u.at(target)[(PLACES - 1) / 2]))
        };
        log.small(midnight, DAYS, medians)?
    }

    #[test]
    fn a_pool_that_doubled_lately_is_said_to_be_twice_as_full_and_the_faster_pace_says_more() {
        let log = log(84, |day| if day < 70 { 10 } else { 20 });
        let [fast, slow] = medians(&log, 84, (1, 9)).unwrap();
        assert!(fast > slow, "{fast} {slow}");
        assert!((17.0..21.0).contains(&fast), "{fast}");
    }

    #[test]
    fn hours_and_kinds_of_days_keep_their_own_profile() {
        let busy = |day: i32| if day % 7 < 5 { 20 } else { 4 };
        let log = log(70, busy);
        let [monday, _] = medians(&log, 70, (0, 9)).unwrap();
        assert!((18.0..22.0).contains(&monday), "{monday}");
        let [night, _] = medians(&log, 70, (0, 3)).unwrap();
        assert!(night < 1.0, "{night}");
        // Two days from a Friday on.
        let [sunday, _] = medians(&log, 68, (1, 9)).unwrap();
        assert!((3.0..6.0).contains(&sunday), "{sunday}");
    }

    #[test]
    fn less_than_two_weeks_say_nothing() {
        assert_eq!(medians(&log(13, |_| 5), 13, (0, 9)), None);
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_lie_among_the_values(
            values in prop::collection::vec((-5.0_f64..5.0, 0.01_f64..2.0), 1..40),
        ) {
            let mut values = values;
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let quantiles = quantiles(&values);
            prop_assert_eq!(quantiles.len(), PLACES);
            prop_assert!(quantiles.windows(2).all(|w| w[0] <= w[1] + 1e-12));
            let (low, high) = (values[0].0, values[values.len() - 1].0);
            prop_assert!(quantiles[0] >= low && quantiles[PLACES - 1] <= high);
        }
    }
}
