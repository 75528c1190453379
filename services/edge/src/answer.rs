//! Answers to calls, in the terms that all versions share.

use chrono::{DateTime, Utc};
use fleet::Evse;
use ocpp_kit::RawValue;
use ocpp_kit::rpc::{CallError, ErrorCode};
use serde::Serialize;

use crate::config::SupplyConfig;
use crate::issuer::Issuer;
use crate::station::{Outlets, Said};
use crate::tokens::Tokens;

/// What an answer depends on beside the message and its station.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) heartbeat_seconds: u32,
    pub(crate) tokens: &'a Tokens,
    pub(crate) supply: &'a SupplyConfig,
    /// Who signs certificates of stations, if anybody does.
    pub(crate) issuer: Option<&'a Issuer>,
}

/// Answer to a call.
pub(crate) type Answer = Result<Box<RawValue>, CallError>;

/// Serialises an answer.
pub(crate) fn reply<R: Serialize>(response: &R) -> Answer {
    serde_json::value::to_raw_value(response)
        .map_err(|error| CallError::internal(format!("answer cannot be written: {error}")))
}

/// An error for content that makes no sense here; the reason is kept.
pub(crate) fn senseless(reason: String, said: &mut Said) -> CallError {
    said.refused.push(reason.clone());
    CallError::new(ErrorCode::PropertyConstraintViolation, reason)
}

/// The outlet of that number, named by `field` of a message.
///
/// # Errors
/// The error to answer with if the station has no such outlet.
pub(crate) fn outlet<'a>(
    outlets: &'a Outlets,
    field: &str,
    number: i32,
    said: &mut Said,
) -> Result<&'a Evse, CallError> {
    outlets.station.evse(number).ok_or_else(|| {
        let known = outlets.station.evses.len();
        senseless(
            format!("{field} is {number}, registered are 1 to {known}"),
            said,
        )
    })
}
