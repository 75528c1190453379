//! One function per kind of field: what a bare number or text must be before the domain sees it.

use std::fmt::Display;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use units::{Currency, Efficiency, Energy, Interval, Money, Power, Price, Soc};

use crate::WireError;

type Result<T> = std::result::Result<T, WireError>;

pub(crate) fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| WireError::missing(field))
}

/// A nested message that must be there.
pub(crate) fn message<P, D>(field: &str, value: Option<P>) -> Result<D>
where
    D: TryFrom<P, Error = WireError>,
{
    D::try_from(required(field, value)?).map_err(|e| e.inside(field))
}

/// A nested message that may be absent.
pub(crate) fn optional_message<P, D>(field: &str, value: Option<P>) -> Result<Option<D>>
where
    D: TryFrom<P, Error = WireError>,
{
    value
        .map(|v| D::try_from(v).map_err(|e| e.inside(field)))
        .transpose()
}

/// Nested messages; an error names the index.
pub(crate) fn list<P, D>(field: &str, values: Vec<P>) -> Result<Vec<D>>
where
    D: TryFrom<P, Error = WireError>,
{
    values
        .into_iter()
        .enumerate()
        .map(|(i, v)| D::try_from(v).map_err(|e| e.inside(&format!("{field}[{i}]"))))
        .collect()
}

/// Text that is the name of something; empty text is a missing field.
pub(crate) fn text<T>(field: &str, value: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    if value.is_empty() {
        return Err(WireError::missing(field));
    }
    value.parse().map_err(|e| WireError::invalid(field, e))
}

pub(crate) fn optional_text<T>(field: &str, value: Option<&str>) -> Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    value.map(|v| text(field, v)).transpose()
}

pub(crate) fn texts<T>(field: &str, values: &[String]) -> Result<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    values
        .iter()
        .enumerate()
        .map(|(i, v)| text(&format!("{field}[{i}]"), v))
        .collect()
}

pub(crate) fn instant(field: &str, micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| {
        WireError::invalid(
            field,
            format!("{micros} microseconds is outside the calendar"),
        )
    })
}

pub(crate) fn optional_instant(field: &str, micros: Option<i64>) -> Result<Option<DateTime<Utc>>> {
    micros.map(|m| instant(field, m)).transpose()
}

/// `start_micros` and `end_micros` of a message.
pub(crate) fn interval(start: i64, end: i64) -> Result<Interval> {
    let start = instant("start_micros", start)?;
    let end = instant("end_micros", end)?;
    Interval::try_new(start, end).map_err(|e| WireError::invalid("end_micros", e))
}

fn at_least_zero(field: &str, value: i64) -> Result<i64> {
    if value < 0 {
        return Err(WireError::invalid(
            field,
            format!("{value} is negative, expected at least 0"),
        ));
    }
    Ok(value)
}

/// Power that is a size, not a flow.
pub(crate) fn size(field: &str, watts: i64) -> Result<Power> {
    at_least_zero(field, watts).map(Power::from_watts)
}

/// A traded volume: more than nothing.
pub(crate) fn volume(field: &str, watts: i64) -> Result<Power> {
    if watts <= 0 {
        return Err(WireError::invalid(
            field,
            format!("{watts} W is not more than 0 W"),
        ));
    }
    Ok(Power::from_watts(watts))
}

/// Energy that is a content, not a flow.
pub(crate) fn content(field: &str, joules: i64) -> Result<Energy> {
    at_least_zero(field, joules).map(Energy::from_joules)
}

pub(crate) fn optional_content(field: &str, joules: Option<i64>) -> Result<Option<Energy>> {
    joules.map(|j| content(field, j)).transpose()
}

pub(crate) fn optional_soc(field: &str, ratio: Option<f64>) -> Result<Option<Soc>> {
    ratio
        .map(|r| Soc::try_new(r).map_err(|e| WireError::invalid(field, e)))
        .transpose()
}

pub(crate) fn efficiency(field: &str, share: f64) -> Result<Efficiency> {
    Efficiency::try_new(share).map_err(|e| WireError::invalid(field, e))
}

pub(crate) fn finite(field: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(WireError::invalid(field, format!("{value} is not finite")))
    }
}

pub(crate) fn optional_finite(field: &str, value: Option<f64>) -> Result<Option<f64>> {
    value.map(|v| finite(field, v)).transpose()
}

pub(crate) fn share(field: &str, value: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(WireError::invalid(
            field,
            format!("{value} is not a share from 0 to 1"),
        ))
    }
}

/// Length of a step: more than zero seconds.
pub(crate) fn step(field: &str, seconds: u32) -> Result<u32> {
    if seconds == 0 {
        return Err(WireError::invalid(field, "0 is not a length of a step"));
    }
    Ok(seconds)
}

fn decimal(field: &str, value: &str) -> Result<Decimal> {
    if value.is_empty() {
        return Err(WireError::missing(field));
    }
    Decimal::from_str_exact(value)
        .map_err(|e| WireError::invalid(field, format!("{value:?} is not a decimal: {e}")))
}

/// `price` with `currency`.
pub(crate) fn price(field: &str, value: &str, currency: Currency) -> Result<Price> {
    decimal(field, value).map(|d| Price::new(d, currency))
}

/// An amount with `currency`.
pub(crate) fn money(field: &str, value: &str, currency: Currency) -> Result<Money> {
    decimal(field, value).map(|d| Money::new(d, currency))
}

/// One of a closed list of words.
pub(crate) fn word<T: Copy>(field: &str, value: &str, words: &[(T, &str)]) -> Result<T> {
    if value.is_empty() {
        return Err(WireError::missing(field));
    }
    words
        .iter()
        .find(|(_, w)| *w == value)
        .map(|(t, _)| *t)
        .ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(_, w)| *w).collect();
            WireError::invalid(
                field,
                format!("{value:?} is unknown, expected one of {}", known.join(", ")),
            )
        })
}
