//! Local clock arithmetic: the same time on another day.

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;

/// The instants at which clocks in `zone` show, `days` later (earlier if negative), what they show at `at`.
///
/// None if the clock change skips that time, two if it occurs twice.
pub(crate) fn same_clock(zone: Tz, at: DateTime<Utc>, days: i64) -> Vec<DateTime<Utc>> {
    let local = at.with_timezone(&zone).naive_local();
    let Some(moved) = local.checked_add_signed(TimeDelta::days(days)) else {
        return Vec::new();
    };
    match zone.from_local_datetime(&moved) {
        LocalResult::Single(one) => vec![one.to_utc()],
        LocalResult::Ambiguous(first, second) => vec![first.to_utc(), second.to_utc()],
        LocalResult::None => Vec::new(),
    }
}

/// `at` moved by whole local days; a skipped time becomes the first instant after the gap, a repeated one the first.
pub(crate) fn moved(zone: Tz, at: DateTime<Utc>, days: i64) -> DateTime<Utc> {
    let local = at.with_timezone(&zone).naive_local();
    local
        .checked_add_signed(TimeDelta::days(days))
        .map_or(at, |to| units::local_instant(zone, to))
}

pub(crate) fn date(zone: Tz, at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&zone).date_naive()
}

pub(crate) fn is_weekend(date: NaiveDate) -> bool {
    matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
}
