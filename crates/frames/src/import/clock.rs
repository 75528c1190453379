//! Clocks without offset: each local time happens once, twice or never.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// What a local time means in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// One instant.
    Once(DateTime<Utc>),
    /// The hour that autumn repeats: first and second pass.
    Twice(DateTime<Utc>, DateTime<Utc>),
    /// The hour that spring skips.
    Never,
}

/// The instants at which clocks of `zone` show `local`.
pub(crate) fn localise(zone: Tz, local: NaiveDateTime) -> Local {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Local::Once(at.to_utc()),
        LocalResult::Ambiguous(first, second) => Local::Twice(first.to_utc(), second.to_utc()),
        LocalResult::None => Local::Never,
    }
}

/// A clock read in order of time: in a repeated hour, a stamp that does not advance belongs to the second pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunningClock {
    zone: Tz,
    last: Option<DateTime<Utc>>,
}

impl RunningClock {
    pub(crate) const fn new(zone: Tz) -> Self {
        Self { zone, last: None }
    }

    /// The instant of the next stamp; `None` in the skipped hour.
    pub(crate) fn next(&mut self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        let at = match localise(self.zone, local) {
            Local::Once(at) => at,
            Local::Twice(first, second) if self.last.is_some_and(|last| first <= last) => second,
            Local::Twice(first, _) => first,
            Local::Never => return None,
        };
        self.last = Some(at);
        Some(at)
    }
}

/// A date and time in one of the shapes met in session files: blank or `T`, with or without seconds.
pub(crate) fn parse_local(text: &str) -> Option<NaiveDateTime> {
    [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ]
    .iter()
    .find_map(|f| NaiveDateTime::parse_from_str(text, f).ok())
    .filter(|at| (1900..2200).contains(&chrono::Datelike::year(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn local(text: &str) -> NaiveDateTime {
        parse_local(text).unwrap()
    }

    #[test]
    fn the_skipped_hour_never_happens_and_the_repeated_one_happens_twice() {
        let zone = Tz::Europe__Amsterdam;
        assert_eq!(localise(zone, local("2018-03-25 02:30")), Local::Never);
        let Local::Twice(first, second) = localise(zone, local("2018-10-28 02:30")) else {
            panic!("repeated");
        };
        assert_eq!(second - first, TimeDelta::hours(1));
    }

    #[test]
    fn a_running_clock_counts_both_passes_of_the_repeated_hour() {
        let mut clock = RunningClock::new(Tz::Europe__Berlin);
        let stamps = [
            "2023-10-29 01:00",
            "2023-10-29 02:00",
            "2023-10-29 02:00",
            "2023-10-29 03:00",
        ];
        let at: Vec<_> = stamps
            .iter()
            .map(|s| clock.next(local(s)).unwrap())
            .collect();
        assert!(
            at.windows(2).all(|p| p[1] - p[0] == TimeDelta::hours(1)),
            "{at:?}"
        );
    }

    #[test]
    fn a_day_that_does_not_exist_is_no_time() {
        assert_eq!(parse_local("2018-02-29 07:37:53"), None);
    }

    proptest! {
        #[test]
        fn every_instant_is_among_those_its_local_clock_means(seconds in 1_500_000_000_i64..1_800_000_000, zone in 0_usize..6) {
            let zone = [Tz::Europe__Amsterdam, Tz::America__Los_Angeles, Tz::Europe__London, Tz::Asia__Bangkok, Tz::America__Denver, Tz::UTC][zone];
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            match localise(zone, at.with_timezone(&zone).naive_local()) {
                Local::Once(only) => prop_assert_eq!(only, at),
                Local::Twice(first, second) => prop_assert!(first < second && (first == at || second == at)),
                Local::Never => prop_assert!(false, "{} exists", at),
            }
        }

        #[test]
        fn a_running_clock_gives_back_an_hourly_grid(hours in 0_i64..70_000) {
            let zone = Tz::Europe__Berlin;
            let mut clock = RunningClock::new(zone);
            let start = DateTime::from_timestamp(1_500_000_000 - 1_500_000_000 % 3600 + hours * 3600 / 16 * 16, 0).unwrap();
            let start = start - TimeDelta::hours(3);
            // Begin outside a repeated hour, as every export of whole days does.
            prop_assume!(matches!(localise(zone, start.with_timezone(&zone).naive_local()), Local::Once(_)));
            for hour in 0..30 {
                let at = start + TimeDelta::hours(hour);
                prop_assert_eq!(clock.next(at.with_timezone(&zone).naive_local()), Some(at));
            }
        }
    }
}
