//! Prices of api.energy-charts.info: two lists of equal length in one JSON document.

use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde::Deserialize;

use super::series::{NO_INSTANT, NO_NUMBER, Series, SeriesRow};
use super::tally::Tally;
use crate::InputError;
use crate::records::read_text;

#[derive(Deserialize)]
struct Document {
    unix_seconds: Vec<serde_json::Value>,
    price: Vec<serde_json::Value>,
    #[serde(default)]
    unit: String,
}

/// Reads documents with `unix_seconds` and `price`; a price of `null` stays missing.
pub(crate) fn read(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let mut series: Option<Series> = None;
    for file in files {
        let document = document(file)?;
        let series = series.get_or_insert_with(|| Series::of(&column_name(&document.unit)));
        for (index, pair) in document
            .unix_seconds
            .iter()
            .zip(&document.price)
            .enumerate()
        {
            tally.read();
            let at = format!("{}: entry {index}", file.display());
            match row(pair, &at) {
                Ok(row) => series.push(row, tally),
                Err(reason) => tally.refuse(reason, &at),
            }
        }
    }
    Ok(series.unwrap_or_default())
}

fn document(file: &Path) -> Result<Document, InputError> {
    let text = read_text(file)?;
    let document: Document = serde_json::from_str(&text).map_err(|e| {
        let line = u64::try_from(e.line()).unwrap_or(1).max(1);
        let what = format!("{e}, expected a JSON document with the lists unix_seconds and price");
        InputError::line(file, line, what)
    })?;
    if document.unix_seconds.len() != document.price.len() {
        let what = format!(
            "{} entries in price, expected {} as in unix_seconds",
            document.price.len(),
            document.unix_seconds.len()
        );
        return Err(InputError::line(file, 1, what));
    }
    Ok(document)
}

fn column_name(unit: &str) -> String {
    let currency: String = unit.chars().take_while(char::is_ascii_alphabetic).collect();
    let currency = if currency.len() == 3 {
        currency.to_ascii_lowercase()
    } else {
        "eur".to_owned()
    };
    format!("price_{currency}_mwh")
}

fn row(
    (second, price): (&serde_json::Value, &serde_json::Value),
    at: &str,
) -> Result<SeriesRow, &'static str> {
    let start = second.as_i64().and_then(|s| DateTime::from_timestamp(s, 0));
    let price = if price.is_null() {
        None
    } else {
        Some(price.as_f64().ok_or(NO_NUMBER)?)
    };
    Ok(SeriesRow {
        start: start.ok_or(NO_INSTANT)?,
        end: None,
        texts: Vec::new(),
        numbers: vec![price],
        at: at.to_owned(),
    })
}
