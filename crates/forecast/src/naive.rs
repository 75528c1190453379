//! The naive model: same weekday, same clock time. What every other model must beat, and what takes over from one that
//! is in doubt.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use units::{Band, Interval, Series};

use crate::{History, LEVELS, calendar, quantiles};

/// Weeks with data that the naive model looks back on.
const WEEKS: usize = 8;

/// Samples below which a weekday is thin and days of the same type are pooled.
const THIN: usize = 4;

/// Furthest look back: a year. Older weeks say nothing about a pool that grew since.
const FURTHEST_WEEKS: i64 = 52;

/// What values a quantity can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Any, such as a price.
    AnySign,
    /// At least zero, such as a count, an energy or a volume.
    AtLeastZero,
}

/// Quantiles of one quantity over a horizon, with their origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// One band per step.
    pub bands: Series<Band>,
    /// Name of the model.
    pub model: &'static str,
    /// Version of the model; changes whenever the same input may give another answer.
    pub version: &'static str,
    /// Newest input that may have had an influence.
    pub input_until: DateTime<Utc>,
    /// Start of the oldest input.
    pub trained_from: DateTime<Utc>,
    /// Stated reasons to doubt it, each once; empty is confidence in the model's own terms.
    pub doubts: Vec<String>,
}

/// Nothing to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHistory {
    /// Not one value is known.
    #[error("no value is known before {0}")]
    Empty(DateTime<Utc>),
    /// Steps ahead would have no length.
    #[error("forecast step is {0}, expected more than zero")]
    Step(TimeDelta),
}

/// The naive model over the local clock of a zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Naive {
    zone: Tz,
    range: Range,
    levels: Vec<f64>,
    thin: usize,
}

/// How far the model had to reach for the samples of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Weekday,
    DayType,
    AnyDay,
    Everything,
}

impl Naive {
    /// Name of the model in published forecasts.
    pub const MODEL: &'static str = "naive-same-weekday";
    /// Version of the model.
    pub const VERSION: &'static str = "1";

    /// The model with the levels of the score, pooling like days where the weekday alone is thin.
    #[must_use]
    pub fn new(zone: Tz, range: Range) -> Self {
        Self {
            zone,
            range,
            levels: LEVELS.to_vec(),
            thin: THIN,
        }
    }

    /// The model exactly as defined for scores: a single sample of the weekday is enough, so that days are pooled only
    /// where there is none at all.
    #[must_use]
    pub fn strict(zone: Tz, range: Range) -> Self {
        Self {
            thin: 1,
            ..Self::new(zone, range)
        }
    }

    /// The same model at other levels; they must rise from 0 to 1, or [`Naive::forecast`] falls back to those of the score.
    #[must_use]
    pub fn with_levels(mut self, levels: &[f64]) -> Self {
        if Band::try_new(levels.to_vec(), vec![0.0; levels.len()]).is_ok() {
            self.levels = levels.to_vec();
        }
        self
    }

    /// One band per `step` over `horizon`; a step that starts inside it is part of it. A value published ahead is returned as certain.
    ///
    /// # Errors
    /// [`NoHistory`] if nothing is known at all: an unknown is not a zero.
    pub fn forecast(
        &self,
        history: &History,
        horizon: Interval,
        step: TimeDelta,
    ) -> Result<Forecast, NoHistory> {
        if step <= TimeDelta::zero() {
            return Err(NoHistory::Step(step));
        }
        let empty = NoHistory::Empty(history.until());
        let first = history.first().ok_or(empty)?;
        let everything = self
            .band(&history.values().collect::<Vec<_>>())
            .ok_or(empty)?;
        let mut reached = Vec::new();
        let bands = horizon
            .steps(step)
            .map(|at| {
                if let Some(known) = history.known_ahead(at) {
                    return self.band(&[known]).unwrap_or_else(|| everything.clone());
                }
                let (reach, band) = self.step(history, first, at, &everything);
                reached.push(reach);
                band
            })
            .collect();
        Ok(Forecast {
            bands: Series::try_new(horizon.start(), step, bands)
                .map_err(|_| NoHistory::Step(step))?,
            model: Self::MODEL,
            version: Self::VERSION,
            input_until: history.until(),
            trained_from: first,
            doubts: doubts(&reached),
        })
    }

    fn step(
        &self,
        history: &History,
        first: DateTime<Utc>,
        at: DateTime<Utc>,
        everything: &Band,
    ) -> (Reach, Band) {
        let weekday = self.same_weekday(history, first, at);
        if weekday.len() >= self.thin
            && let Some(band) = self.band(&weekday)
        {
            return (Reach::Weekday, band);
        }
        for (reach, like) in [(Reach::DayType, true), (Reach::AnyDay, false)] {
            let pooled = self.same_time(history, first, at, like);
            if pooled.len() >= self.thin.min(THIN)
                && let Some(band) = self.band(&pooled)
            {
                return (reach, band);
            }
        }
        (Reach::Everything, everything.clone())
    }

    /// Same weekday and clock time of the last eight weeks that have data.
    fn same_weekday(&self, history: &History, first: DateTime<Utc>, at: DateTime<Utc>) -> Vec<f64> {
        let mut samples = Vec::with_capacity(WEEKS + 1);
        let mut weeks = 0;
        for back in 1..=FURTHEST_WEEKS {
            let instants = calendar::same_clock(self.zone, at, -7 * back);
            if weeks == WEEKS || instants.last().is_some_and(|i| *i < first - history.step()) {
                break;
            }
            let known: Vec<f64> = instants.into_iter().filter_map(|i| history.at(i)).collect();
            weeks += usize::from(!known.is_empty());
            samples.extend(known);
        }
        samples
    }

    /// Same clock time of every day of the last eight weeks, or only of days of the same type.
    fn same_time(
        &self,
        history: &History,
        first: DateTime<Utc>,
        at: DateTime<Utc>,
        like: bool,
    ) -> Vec<f64> {
        let weekend = calendar::is_weekend(calendar::date(self.zone, at));
        let mut samples = Vec::new();
        for back in 1..=7 * FURTHEST_WEEKS {
            let instants = calendar::same_clock(self.zone, at, -back);
            if samples.len() >= 7 * WEEKS
                || instants.last().is_some_and(|i| *i < first - history.step())
            {
                break;
            }
            samples.extend(
                instants
                    .into_iter()
                    .filter(|i| {
                        !like || calendar::is_weekend(calendar::date(self.zone, *i)) == weekend
                    })
                    .filter_map(|i| history.at(i)),
            );
        }
        samples
    }

    fn band(&self, samples: &[f64]) -> Option<Band> {
        let mut values = quantiles(samples, &self.levels)?;
        if self.range == Range::AtLeastZero {
            for value in &mut values {
                *value = value.max(0.0);
            }
        }
        Band::try_new(self.levels.clone(), values).ok()
    }
}

fn doubts(reached: &[Reach]) -> Vec<String> {
    let count = |reach| reached.iter().filter(|r| **r == reach).count();
    let total = reached.len();
    [
        (
            Reach::DayType,
            "too few weeks of this weekday: days of the same type were pooled",
        ),
        (
            Reach::AnyDay,
            "too few days of this type: all days were pooled",
        ),
        (
            Reach::Everything,
            "this time of day was never seen: the whole history was pooled",
        ),
    ]
    .into_iter()
    .filter(|(reach, _)| count(*reach) > 0)
    .map(|(reach, words)| format!("{words} ({} of {total} steps)", count(reach)))
    .collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "whole numbers, exact in floating point")]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn hours(
        start: &str,
        count: usize,
        value: impl Fn(DateTime<Utc>) -> Option<f64>,
    ) -> Series<Option<f64>> {
        let start = at(start);
        let values = (0..count)
            .map(|i| value(start + TimeDelta::hours(i64::try_from(i).unwrap())))
            .collect();
        Series::try_new(start, TimeDelta::hours(1), values).unwrap()
    }

    fn ahead(from: DateTime<Utc>, hours: i64) -> Interval {
        Interval::try_new(from, from + TimeDelta::hours(hours)).unwrap()
    }

    /// Hours since the epoch, so that every sample says where it came from.
    fn stamp(at: DateTime<Utc>) -> f64 {
        f64::from(u32::try_from(at.timestamp() / 3_600).unwrap())
    }

    #[test]
    fn the_last_eight_weeks_of_the_weekday_and_no_other_hour_are_used() {
        let until = at("2024-06-17T00:00:00Z");
        let series = hours("2024-01-01T00:00:00Z", 24 * 168, |t| Some(stamp(t)));
        let naive = Naive::strict(Berlin, Range::AnySign).with_levels(&[0.0, 0.5, 1.0]);
        let made = naive
            .forecast(
                &History::measured(&series, until),
                ahead(until, 1),
                TimeDelta::hours(1),
            )
            .unwrap();
        let band = &made.bands.values()[0];
        let week = 168.0;
        assert_eq!(band.values()[2], stamp(until) - week);
        assert_eq!(band.values()[0], stamp(until) - 8.0 * week);
        assert_eq!(band.values()[1], stamp(until) - 4.5 * week);
        assert!(made.doubts.is_empty());
    }

    #[test]
    fn weeks_without_data_are_skipped_not_counted_as_zero() {
        let until = at("2024-06-17T00:00:00Z");
        let hole = at("2024-05-01T00:00:00Z")..at("2024-06-10T00:00:00Z");
        let series = hours("2024-01-01T00:00:00Z", 24 * 168, |t| {
            (!hole.contains(&t)).then(|| stamp(t))
        });
        let naive = Naive::strict(Berlin, Range::AtLeastZero).with_levels(&[0.0, 1.0]);
        let made = naive
            .forecast(
                &History::measured(&series, until),
                ahead(until, 1),
                TimeDelta::hours(1),
            )
            .unwrap();
        let weeks_back = |n: i64| stamp(until - TimeDelta::weeks(n));
        // 2024-06-10 is one week back; the hole takes weeks 2 to 6; seven older ones follow, the oldest in winter time, when
        // the same clock time was an hour later in UTC.
        assert_eq!(
            made.bands.values()[0].values(),
            &[weeks_back(13) + 1.0, weeks_back(1)]
        );
    }

    #[test]
    fn a_repeated_hour_gives_two_samples_and_a_skipped_one_none() {
        // Clocks go back on Sunday 2024-10-27: 02:00 local occurs at 00:00Z and at 01:00Z.
        let until = at("2024-11-03T00:00:00Z");
        let series = hours("2024-10-20T00:00:00Z", 24 * 14, |t| Some(stamp(t)));
        let naive = Naive::strict(Berlin, Range::AnySign).with_levels(&[0.0, 0.5, 1.0]);
        let two =
            Interval::try_new(at("2024-11-03T01:00:00Z"), at("2024-11-03T02:00:00Z")).unwrap();
        let made = naive
            .forecast(&History::measured(&series, until), two, TimeDelta::hours(1))
            .unwrap();
        assert_eq!(
            made.bands.values()[0].values(),
            &[
                stamp(at("2024-10-20T00:00:00Z")),
                stamp(at("2024-10-27T00:00:00Z")),
                stamp(at("2024-10-27T01:00:00Z"))
            ]
        );
        // Clocks went forward on Sunday 2024-03-31: 02:00 local was skipped.
        let until = at("2024-04-07T00:00:00Z");
        let series = hours("2024-03-24T00:00:00Z", 24 * 14, |t| Some(stamp(t)));
        let skipped =
            Interval::try_new(at("2024-04-07T00:00:00Z"), at("2024-04-07T01:00:00Z")).unwrap();
        let made = naive
            .forecast(
                &History::measured(&series, until),
                skipped,
                TimeDelta::hours(1),
            )
            .unwrap();
        assert_eq!(
            made.bands.values()[0].values(),
            &[stamp(at("2024-03-24T01:00:00Z")); 3]
        );
    }

    #[test]
    fn a_horizon_over_a_change_day_has_23_or_25_hours() {
        let series = hours("2024-01-01T00:00:00Z", 24 * 400, |t| Some(stamp(t)));
        let naive = Naive::new(Berlin, Range::AnySign);
        for (from, to, count) in [
            ("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z", 23),
            ("2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z", 25),
        ] {
            let day = Interval::try_new(at(from), at(to)).unwrap();
            let made = naive
                .forecast(
                    &History::measured(&series, at(from)),
                    day,
                    TimeDelta::hours(1),
                )
                .unwrap();
            assert_eq!(made.bands.len(), count);
            assert!(made.doubts.is_empty(), "{:?}", made.doubts);
        }
    }

    #[test]
    fn without_history_there_is_an_error_and_with_little_a_doubt() {
        let until = at("2024-06-17T12:00:00Z");
        let naive = Naive::new(Berlin, Range::AtLeastZero);
        let nothing = hours("2024-06-01T00:00:00Z", 10, |_| None);
        let refused = naive.forecast(
            &History::measured(&nothing, until),
            ahead(until, 4),
            TimeDelta::hours(1),
        );
        assert_eq!(refused.unwrap_err(), NoHistory::Empty(until));

        let few = hours("2024-06-17T06:00:00Z", 6, |_| Some(-3.0));
        let made = naive
            .forecast(
                &History::measured(&few, until),
                ahead(until, 36),
                TimeDelta::minutes(15),
            )
            .unwrap();
        assert_eq!(made.bands.len(), 144);
        assert!(
            made.doubts[0].contains("whole history"),
            "{:?}",
            made.doubts
        );
        assert!(
            made.bands
                .values()
                .iter()
                .flat_map(Band::values)
                .all(|v| *v == 0.0)
        );
    }

    #[test]
    fn what_was_published_ahead_is_certain_and_the_rest_forecast() {
        let until = at("2024-06-17T12:00:00Z");
        let series = hours("2024-04-01T00:00:00Z", 24 * 78, |t| Some(stamp(t)));
        let naive = Naive::new(Berlin, Range::AnySign);
        let made = naive
            .forecast(
                &History::published(&series, until),
                ahead(until, 24),
                TimeDelta::hours(1),
            )
            .unwrap();
        let known_to = at("2024-04-01T00:00:00Z") + TimeDelta::days(78);
        for (interval, band) in made.bands.iter() {
            let certain = band.values().first() == band.values().last();
            assert_eq!(certain, interval.start() < known_to, "{interval:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whatever_the_future_holds_the_forecast_is_the_same(
            noise in prop::collection::vec(prop::option::of(-1e6_f64..1e6), 200), minutes in 0_i64..60,
        ) {
            let until = at("2024-06-17T00:00:00Z") + TimeDelta::minutes(minutes);
            let past = |t: DateTime<Utc>| (t + TimeDelta::hours(1) <= until).then(|| stamp(t));
            let start = at("2024-04-01T00:00:00Z");
            let calm = hours("2024-04-01T00:00:00Z", 24 * 84, past);
            let wild = hours("2024-04-01T00:00:00Z", 24 * 84, |t| {
                past(t).or_else(|| noise[usize::try_from((t - start).num_hours()).unwrap() % noise.len()])
            });
            let naive = Naive::new(Berlin, Range::AnySign);
            let made = |s| naive.forecast(&History::measured(s, until), ahead(until, 36), TimeDelta::hours(1)).unwrap();
            prop_assert_eq!(made(&calm), made(&wild));
        }

        #[test]
        fn bands_are_finite_and_never_negative_where_they_must_not_be(
            values in prop::collection::vec(prop::option::of(-1e9_f64..1e9), 1..500),
        ) {
            let until = at("2024-06-17T00:00:00Z");
            let start = until - TimeDelta::hours(i64::try_from(values.len()).unwrap());
            let series = Series::try_new(start, TimeDelta::hours(1), values).unwrap();
            let naive = Naive::new(Berlin, Range::AtLeastZero);
            if let Ok(made) = naive.forecast(&History::measured(&series, until), ahead(until, 48), TimeDelta::minutes(30)) {
                prop_assert_eq!(made.bands.len(), 96);
                prop_assert!(made.bands.values().iter().flat_map(Band::values).all(|v| v.is_finite() && *v >= 0.0));
            }
        }
    }
}
