//! What is usual: the same weekday and clock of past weeks, as the naive model and the climatologies have it.

use std::collections::BTreeSet;

use super::calibrate::KEPT;
use super::kind::{Days, OFF, by_week};
use super::log::Log;
use super::num::{index, narrow, real, size};
use super::observed::Observed;
use crate::{LEVELS, Quantity};

/// Weeks of the two that repeat the same weekday.
pub(crate) const WEEKS: [usize; 2] = [8, 26];
/// All that needs no model: after those, what is usual at the present level, at two paces, and what is there now with its usual change.
pub(crate) const USUAL: usize = WEEKS.len() + super::level::PACES.len() + 1;
/// Days looked back on, and where few vehicles come, so that only many weeks say something: four years.
pub(crate) const DAYS: i64 = 7 * 26 + 4;
pub(crate) const MANY_DAYS: i64 = 7 * 208 + 4;
/// Values that stand for all of a distribution.
const SPREAD: usize = 100;
/// Samples below which nothing is usual.
const FEWEST: usize = 4;

/// What the past says of days alike, hour by hour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    pub(crate) log: &'a Log,
    pub(crate) off: &'a BTreeSet<i32>,
    pub(crate) kinds: &'a Days,
    pub(crate) observed: &'a Observed,
    /// Whether few vehicles come: then the longer of the two is all that was observed.
    pub(crate) few: bool,
}

/// Samples of one hour, sorted: of the last eight weeks and of the last half year, or of all weeks where few come. Empty where nothing is usual.
pub(crate) type Weeks = [Vec<f32>; WEEKS.len()];

impl Past<'_> {
    /// Samples for the hour that begins at `target`: days of the same weekday, in the same phase of a fortnight, those beside days off
    /// left out. A day off is like no other.
    pub(crate) fn samples(&self, quantity: Quantity, target: i64) -> Weeks {
        let (day, clock) = self.log.clock(target);
        let kind = by_week(self.kinds.kind(day, self.off));
        if kind == OFF {
            return Weeks::default();
        }
        let first = self.log.clock(self.observed.start()).0;
        let alike: Vec<f32> = (1..)
            .map(|week| day - 7 * week)
            .take_while(|d| *d >= first)
            .filter(|d| self.kinds.kind(*d, self.off) == kind)
            .filter_map(|d| self.observed.at(quantity, self.log.instant(d, clock)))
            .map(narrow)
            .collect();
        let [short, long] = WEEKS;
        [short, if self.few { usize::MAX } else { long }].map(|weeks| {
            let mut some: Vec<f32> = alike.iter().copied().take(weeks).collect();
            some.sort_by(f32::total_cmp);
            if some.len() < FEWEST {
                some.clear();
            }
            some
        })
    }
}

/// Sorted samples of the hours before and after an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between<'a> {
    pub(crate) before: &'a [f32],
    pub(crate) after: &'a [f32],
    /// Part of the hour that has passed.
    pub(crate) part: f64,
}

impl<'a> Between<'a> {
    /// Of `hours` of samples from some instant on, `since` seconds after it; `None` where a sample is missing.
    pub(crate) fn of<'h: 'a>(
        hours: impl Fn(usize) -> Option<&'h [f32]>,
        since: i64,
    ) -> Option<Self> {
        let hour = |h: i64| {
            let samples = hours(usize::try_from(h).ok()?)?;
            (!samples.is_empty()).then_some(samples)
        };
        let part = real(since.rem_euclid(3600)) / 3600.0;
        let before = hour(since.div_euclid(3600))?;
        let after = if part > 0.0 {
            hour(since.div_euclid(3600) + 1)?
        } else {
            before
        };
        Some(Self {
            before,
            after,
            part,
        })
    }

    /// Values at levels that stand for all, each with its part of `share`.
    pub(crate) fn spread(&self, share: f64) -> impl Iterator<Item = (f64, f64)> + use<'a> {
        let own = *self;
        let part = share / size(SPREAD);
        (0..SPREAD).map(move |k| (own.at((size(k) + 0.5) / size(SPREAD)), part))
    }

    pub(crate) fn at(&self, level: f64) -> f64 {
        (1.0 - self.part) * linear(self.before, level) + self.part * linear(self.after, level)
    }
}

/// Sorted samples at the levels of the score; `None` without any.
pub(crate) fn at_levels(sorted: &[f32]) -> Option<[f32; KEPT]> {
    (!sorted.is_empty()).then(|| LEVELS.map(|l| narrow(linear(sorted, l))))
}

/// Value of sorted samples at a level, linear between them (Hyndman and Fan 1996, definition 7); zero without any.
pub(crate) fn linear(sorted: &[f32], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = level * size(last);
    let below = index(place).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    let part = place - real(i64::try_from(below).unwrap_or(0));
    f64::from(low) + f64::from(high - low) * part
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::super::visit::Visit;
    use super::*;

    /// One car more every week, from ten to noon.
    fn visits(first: DateTime<Utc>) -> Vec<Visit> {
        let cars = (0..70).flat_map(|day| (0..=day / 7).map(move |car| (day, car)));
        cars.map(|(day, car)| {
            let start = first + TimeDelta::days(day) + TimeDelta::hours(10);
            Visit {
                user: u32::try_from(car).ok(),
                ..Visit::made(start, TimeDelta::hours(2), 5.0)
            }
        })
        .collect()
    }

    #[test]
    fn the_same_weekdays_say_what_is_usual_and_days_off_neither_say_nor_have_it() {
        let monday: DateTime<Utc> = "2019-03-04T00:00:00Z".parse().unwrap();
        let log = Log::new(Tz::UTC, visits(monday));
        let until = (monday + TimeDelta::days(70)).timestamp();
        let (today, _) = log.clock(until);
        let off = BTreeSet::from([today - 14, today + 1]);
        let view = log.view(until);
        let kinds = Days::new(&view, today, &off, 24.0);
        let observed = Observed::by_kinds(&view, &kinds, &off, (DAYS, 3600));
        let past = Past {
            log: &log,
            off: &off,
            kinds: &kinds,
            observed: &observed,
            few: false,
        };
        let at = |days: i64| past.samples(Quantity::PluggedIn, until + 86_400 * days + 11 * 3600);
        // Nine cars a fortnight ago: a day off.
        let [short, long] = at(0);
        assert_eq!(short, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0]);
        assert_eq!(long.len(), 9);
        assert_eq!(at(1), Weeks::default());
    }

    #[test]
    fn where_few_come_all_weeks_say_what_is_usual() {
        let monday: DateTime<Utc> = "2019-03-04T00:00:00Z".parse().unwrap();
        let weekly = (0..40).map(|week| {
            let start = monday + TimeDelta::days(7 * week) + TimeDelta::hours(10);
            Visit::made(start, TimeDelta::hours(2), 5.0)
        });
        let log = Log::new(Tz::UTC, weekly.collect::<Vec<_>>());
        let until = (monday + TimeDelta::days(280)).timestamp();
        let (view, off) = (log.view(until), BTreeSet::new());
        let kinds = Days::new(&view, log.clock(until).0, &off, 24.0);
        let observed = Observed::by_kinds(&view, &kinds, &off, (MANY_DAYS, 3600));
        let long = |few: bool| {
            let past = Past {
                log: &log,
                off: &off,
                kinds: &kinds,
                observed: &observed,
                few,
            };
            past.samples(Quantity::PluggedIn, until + 11 * 3600)[1].len()
        };
        // The first plug-in comes after ten, so that its Monday is known at eleven.
        assert_eq!([false, true].map(long), [26, 40]);
        let month = view.mean_count(until - 28 * 86_400);
        assert!((month - 4.0 * 2.0 / (28.0 * 24.0)).abs() < 1e-3, "{month}");
    }

    #[test]
    fn values_between_samples_lie_between_them() {
        assert!((linear(&[1.0, 2.0, 4.0], 0.75) - 3.0).abs() < 1e-9);
        assert!((linear(&[7.0], 0.05) - 7.0).abs() < 1e-9);
        assert!(linear(&[], 0.5).abs() < 1e-9);
    }
}
