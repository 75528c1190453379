//! What is kept per quarter hour for settlement and the audit, under the group of the gateway.

use chrono::{DateTime, Utc};
use market::AwardId;
use serde::Serialize;

/// Prefix of imbalance prices.
pub(crate) const IMBALANCE: &str = "imbalance/";
/// Prefix of availability records.
pub(crate) const AVAILABILITY: &str = "availability/";
/// Prefix of delivery records.
pub(crate) const DELIVERY: &str = "delivery/";
/// Prefix of frozen baselines.
pub(crate) const BASELINE: &str = "baseline/";
/// What operators ordered last.
pub(crate) const ORDER: &str = "order";

pub(crate) fn imbalance_key(start: DateTime<Utc>) -> String {
    format!("{IMBALANCE}{}", start.timestamp())
}

pub(crate) fn availability_key(award: AwardId, start: DateTime<Utc>) -> String {
    format!("{AVAILABILITY}{}/{award}", start.timestamp())
}

pub(crate) fn delivery_key(award: AwardId) -> String {
    format!("{DELIVERY}{award}")
}

pub(crate) fn baseline_key(start: DateTime<Utc>) -> String {
    format!("{BASELINE}{}", start.timestamp())
}

/// A body to keep; a value that does not serialise is not kept and says so.
pub(crate) fn body(key: String, value: &impl Serialize) -> Option<(String, String)> {
    match serde_json::to_string(value) {
        Ok(body) => Some((key, body)),
        Err(e) => {
            tracing::error!(key, "a record could not be written: {e}");
            None
        }
    }
}
