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
