//! Instants as OCPP writes them.

use chrono::{DateTime, Utc};
use ocpp_kit::types::DateTime as OcppTime;

/// Our instant of theirs, to the microsecond. `None` outside the calendar.
pub(crate) fn from_ocpp(at: OcppTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.timestamp().as_microsecond())
}

/// Their instant of ours, to the microsecond.
pub(crate) fn to_ocpp(at: DateTime<Utc>) -> OcppTime {
    jiff::Timestamp::from_microsecond(at.timestamp_micros())
        .map_or(OcppTime::UNIX_EPOCH, OcppTime::from_timestamp)
}

/// Whole seconds from `now` until something expires, rounded up, at least one.
pub(crate) fn life_seconds(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> i32 {
    const MILLIS: i64 = 1_000;
    let life = (expires_at - now).num_milliseconds();
    let seconds = life.div_euclid(MILLIS) + i64::from(life.rem_euclid(MILLIS) > 0);
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}
