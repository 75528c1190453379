//! Rows back to domain values. What no program of ours writes is refused with its table and column.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use units::{Currency, Interval, Money, Price};

use crate::database::{Column, Row};
use crate::error::{StoreError, db};

/// One row of `table`.
pub(crate) struct Columns<'r> {
    pub(crate) table: &'static str,
    pub(crate) row: &'r Row,
}

impl Columns<'_> {
    /// A column as the database holds it.
    pub(crate) fn raw<T: Column>(&self, column: &'static str) -> Result<T, StoreError> {
        self.row.get(column).map_err(db("column of a row"))
    }

    fn corrupt(&self, column: &'static str, value: &str, expected: &'static str) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            column,
            value: value.chars().take(80).collect(),
            expected,
        }
    }

    /// A text column that is parsed.
    pub(crate) fn parse<T: FromStr>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<T, StoreError> {
        let text: String = self.raw(column)?;
        text.parse()
            .map_err(|_| self.corrupt(column, &text, expected))
    }

    /// A text column that may be absent.
    pub(crate) fn parse_opt<T: FromStr>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.raw(column)?;
        text.map(|text| {
            text.parse()
                .map_err(|_| self.corrupt(column, &text, expected))
        })
        .transpose()
    }

    /// A text column that holds JSON.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<T, StoreError> {
        let text: String = self.raw(column)?;
        serde_json::from_str(&text).map_err(|_| self.corrupt(column, &text, expected))
    }

    /// A text column that names a variant.
    pub(crate) fn word<T: DeserializeOwned>(
        &self,
        column: &'static str,
        expected: &'static str,
    ) -> Result<T, StoreError> {
        let text: String = self.raw(column)?;
        serde_json::from_value(serde_json::Value::String(text.clone()))
            .map_err(|_| self.corrupt(column, &text, expected))
    }

    /// An instant in microseconds.
    pub(crate) fn instant(&self, column: &'static str) -> Result<DateTime<Utc>, StoreError> {
        let micros: i64 = self.raw(column)?;
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| self.corrupt(column, &micros.to_string(), "instant"))
    }

    /// An instant that may be absent.
    pub(crate) fn instant_opt(
        &self,
        column: &'static str,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let micros: Option<i64> = self.raw(column)?;
        micros.map(|_| self.instant(column)).transpose()
    }

    /// The span from `starts_at` to `ends_at`.
    pub(crate) fn interval(&self) -> Result<Interval, StoreError> {
        let (start, end) = (self.instant("starts_at")?, self.instant("ends_at")?);
        Interval::try_new(start, end)
            .map_err(|wrong| self.corrupt("ends_at", &wrong.to_string(), "later instant"))
    }

    /// A count that fits 32 bits.
    pub(crate) fn count(&self, column: &'static str) -> Result<u32, StoreError> {
        let value: i64 = self.raw(column)?;
        u32::try_from(value).map_err(|_| self.corrupt(column, &value.to_string(), "count"))
    }

    /// Columns `price` and `currency`, both or neither.
    pub(crate) fn price_opt(&self) -> Result<Option<Price>, StoreError> {
        let price: Option<Decimal> = self.parse_opt("price", "decimal")?;
        let currency: Option<Currency> = self.parse_opt("currency", "currency")?;
        Ok(price
            .zip(currency)
            .map(|(price, currency)| Price::new(price, currency)))
    }

    /// Columns `price` and `currency`.
    pub(crate) fn price(&self) -> Result<Price, StoreError> {
        Ok(Price::new(
            self.parse("price", "decimal")?,
            self.parse("currency", "currency")?,
        ))
    }

    /// Columns `total` and `currency`.
    pub(crate) fn total(&self) -> Result<Money, StoreError> {
        Ok(Money::new(
            self.parse("total", "decimal")?,
            self.parse("currency", "currency")?,
        ))
    }

    /// A value whose constructor may refuse it.
    pub(crate) fn fraction<T, E>(
        &self,
        column: &'static str,
        make: impl FnOnce(f64) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let value: f64 = self.raw(column)?;
        make(value).map_err(|_| self.corrupt(column, &value.to_string(), "share from 0 to 1"))
    }
}
