//! Delivery days: local midnight to local midnight, 23, 24 or 25 hours long.

use chrono::{
    DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::Interval;

/// One delivery day of a market area: local midnight to the next local midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliveryDay {
    date: NaiveDate,
    zone: Tz,
}

/// A day outside what the calendar can hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("date {0} is outside the calendar (years -262143 to 262142)")]
pub struct DayError(pub NaiveDate);

/// The instant at which clocks in `zone` show `local`.
///
/// A time that occurs twice (autumn) means the first of the two; one that the spring change skips means the
/// instant of the change, the first that exists after it.
#[must_use]
pub fn local_instant(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.to_utc(),
        LocalResult::None => first_after_gap(zone, local),
    }
}

/// Clocks jump by at most a few hours: walk minute by minute to the first local time that exists.
fn first_after_gap(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    const LONGEST_GAP_MINUTES: i64 = 26 * 60;
    (1..=LONGEST_GAP_MINUTES)
        .find_map(|m| {
            zone.from_local_datetime(&(local + TimeDelta::minutes(m)))
                .earliest()
        })
        .map_or_else(|| local.and_utc(), |at| at.to_utc())
}

impl DeliveryDay {
    /// The day that clocks in `zone` call `date`.
    ///
    /// # Errors
    /// [`DayError`] for the last date of the calendar, which has no day after it.
    pub fn try_new(date: NaiveDate, zone: Tz) -> Result<Self, DayError> {
        if date.checked_add_days(Days::new(2)).is_none()
            || date.checked_sub_days(Days::new(2)).is_none()
        {
            return Err(DayError(date));
        }
        Ok(Self { date, zone })
    }

    /// The day of `zone` that contains `at`.
    #[must_use]
    pub fn containing(at: DateTime<Utc>, zone: Tz) -> Self {
        Self {
            date: at.with_timezone(&zone).date_naive(),
            zone,
        }
    }

    /// Local date.
    #[must_use]
    pub const fn date(self) -> NaiveDate {
        self.date
    }

    /// Zone whose midnights bound the day.
    #[must_use]
    pub const fn zone(self) -> Tz {
        self.zone
    }

    /// First instant of the day.
    #[must_use]
    pub fn start(self) -> DateTime<Utc> {
        self.at(NaiveTime::MIN)
    }

    /// First instant of the next day.
    #[must_use]
    pub fn end(self) -> DateTime<Utc> {
        self.next().start()
    }

    /// The day as a span of instants.
    ///
    /// # Panics
    /// Never: the next midnight is after this one in every zone.
    #[must_use]
    pub fn interval(self) -> Interval {
        #[expect(
            clippy::expect_used,
            reason = "the next midnight is after this one in every zone"
        )]
        Interval::try_new(self.start(), self.end()).expect("a day has a positive length")
    }

    /// Start of every market time unit, in order. A 15-minute market has 96 on most days, 92 when the clocks
    /// go forward and 100 when they go back.
    pub fn interval_starts(self, unit: TimeDelta) -> impl Iterator<Item = DateTime<Utc>> {
        self.interval().steps(unit)
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The day before.
    #[must_use]
    pub fn previous(self) -> Self {
        self.plus(-1)
    }

    /// The day `days` later (earlier if negative); stays put at the calendar's ends.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self {
            date: self
                .date
                .checked_add_signed(TimeDelta::days(days))
                .unwrap_or(self.date),
            zone: self.zone,
        }
    }

    /// The instant at which local clocks show `time` on this day; see [`local_instant`] for change days.
    #[must_use]
    pub fn at(self, time: NaiveTime) -> DateTime<Utc> {
        local_instant(self.zone, self.date.and_time(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{America::Los_Angeles, Asia::Bangkok, Europe::Berlin};

    fn day(date: &str, zone: Tz) -> DeliveryDay {
        DeliveryDay::try_new(date.parse().unwrap(), zone).unwrap()
    }

    fn quarters(date: &str, zone: Tz) -> usize {
        day(date, zone)
            .interval_starts(TimeDelta::minutes(15))
            .count()
    }

    #[test]
    fn a_day_has_92_96_or_100_quarter_hours() {
        for (date, count) in [("2026-03-28", 96), ("2026-03-29", 92), ("2026-03-30", 96)] {
            assert_eq!(quarters(date, Berlin), count, "{date}");
        }
        for (date, count) in [("2026-10-24", 96), ("2026-10-25", 100), ("2026-10-26", 96)] {
            assert_eq!(quarters(date, Berlin), count, "{date}");
        }
        assert_eq!(quarters("2026-03-08", Los_Angeles), 92);
        assert_eq!(quarters("2026-03-29", Bangkok), 96);
    }

    #[test]
    fn change_days_start_where_the_rule_book_says() {
        assert_eq!(
            day("2026-03-29", Berlin).start().to_rfc3339(),
            "2026-03-28T23:00:00+00:00"
        );
        assert_eq!(
            day("2026-10-25", Berlin).start().to_rfc3339(),
            "2026-10-24T22:00:00+00:00"
        );
    }

    #[test]
    fn a_skipped_local_time_is_the_instant_of_the_change() {
        let skipped = "2026-03-29T02:30:00".parse().unwrap();
        assert_eq!(
            local_instant(Berlin, skipped).to_rfc3339(),
            "2026-03-29T01:00:00+00:00"
        );
    }
}
