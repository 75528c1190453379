//! Day-ahead prices as exported by the ENTSO-E Transparency Platform, before and after its change of 2024.

use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::clock::RunningClock;
use super::series::{NO_INSTANT, Series, SeriesRow, parse_number};
use super::tally::{Tally, at};
use crate::InputError;
use crate::records::{Records, Row};

const SKIPPED: &str = "start in the hour that the clock change skips";
const NO_PRICE: &str = "no price";

/// Reads exports whose header names the zone of the stamps, as in `MTU (CET/CEST)`.
pub(crate) fn read(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let mut series: Option<Series> = None;
    for file in files {
        let mut records = Records::open_csv(file, b',')?;
        let stamp = find(&records, file, "MTU")?;
        let zone = zone(file, &records.headers()[stamp])?;
        let price = find(&records, file, "Day-ahead Price")?;
        let currency = records.optional("Currency");
        let kinds = ["Area", "Sequence"]
            .iter()
            .filter_map(|n| records.optional(n))
            .collect::<Vec<_>>();
        let header = records.headers()[price].clone();
        let names: Vec<_> = kinds
            .iter()
            .map(|c| records.headers()[*c].to_ascii_lowercase())
            .collect();
        let mut clock = RunningClock::new(zone);
        let mut of_earlier = None;
        while let Some(row) = records.next()? {
            tally.read();
            let series = series.get_or_insert_with(|| Series {
                texts: names.clone(),
                ..Series::of(&column_name(&header, currency.map_or("", |c| row.text(c))))
            });
            // Exports of several sequences stand one after the other, each from its first hour on.
            let kind: Vec<_> = kinds.iter().map(|c| row.text(*c).to_owned()).collect();
            if of_earlier.as_ref() != Some(&kind) {
                clock = RunningClock::new(zone);
                of_earlier = Some(kind.clone());
            }
            match value(&row, stamp, price, kind, &mut clock) {
                Ok(row) => series.push(row, tally),
                Err(reason) => tally.refuse(reason, &at(&row)),
            }
        }
    }
    let file = files.first().map_or(Path::new(""), PathBuf::as_path);
    series.ok_or_else(|| InputError::line(file, 1, "no row, expected rows below the header"))
}

fn find(records: &Records, file: &Path, start: &str) -> Result<usize, InputError> {
    let found = records.headers().iter().position(|h| h.starts_with(start));
    found.ok_or_else(|| {
        let met = records.headers().join(", ");
        InputError::line(
            file,
            1,
            format!("expected a column {start:?} (...), met the columns {met}"),
        )
    })
}

fn zone(file: &Path, header: &str) -> Result<Tz, InputError> {
    let name = header.split(['(', ')']).nth(1).unwrap_or_default();
    match name {
        "UTC" => Ok(Tz::UTC),
        "CET/CEST" => Ok(Tz::Europe__Brussels),
        "WET/WEST" => Ok(Tz::Europe__Lisbon),
        "EET/EEST" => Ok(Tz::Europe__Helsinki),
        _ => {
            let what = format!(
                "zone of {header:?}, expected UTC, CET/CEST, WET/WEST or EET/EEST in brackets"
            );
            Err(InputError::line(file, 1, what))
        }
    }
}

/// `price_eur_mwh` from `Day-ahead Price [EUR/MWh]` or from the column of currencies.
fn column_name(header: &str, currency: &str) -> String {
    let unit = header
        .split(['[', '(', ']', ')'])
        .nth(1)
        .unwrap_or_default();
    let currency = if currency.is_empty() {
        unit.split('/').next().unwrap_or_default()
    } else {
        currency
    };
    let known = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_alphabetic());
    let currency = if known {
        currency.to_ascii_lowercase()
    } else {
        "eur".to_owned()
    };
    format!("price_{currency}_mwh")
}

fn value(
    row: &Row<'_>,
    stamp: usize,
    price: usize,
    texts: Vec<String>,
    clock: &mut RunningClock,
) -> Result<SeriesRow, &'static str> {
    let text = row
        .text(stamp)
        .split(" - ")
        .next()
        .unwrap_or_default()
        .trim();
    let start = instant(text, clock)?;
    let number = parse_number(row.text(price), '.')?.ok_or(NO_PRICE)?;
    Ok(SeriesRow {
        start,
        end: None,
        texts,
        numbers: vec![Some(number)],
        at: at(row),
    })
}

/// A stamp, with `(CET)` or `(CEST)` behind it in the repeated hour of newer exports.
fn instant(text: &str, clock: &mut RunningClock) -> Result<DateTime<Utc>, &'static str> {
    let (stamp, abbreviation) = text.split_once('(').unwrap_or((text, ""));
    let local = ["%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M"]
        .iter()
        .find_map(|f| NaiveDateTime::parse_from_str(stamp.trim(), f).ok())
        .filter(|at| (1900..2200).contains(&chrono::Datelike::year(at)))
        .ok_or(NO_INSTANT)?;
    let hours = match abbreviation.trim_end_matches(')') {
        "" => return clock.next(local).ok_or(SKIPPED),
        "UTC" | "WET" => 0,
        "CET" | "WEST" => 1,
        "CEST" | "EET" => 2,
        "EEST" => 3,
        _ => return Err(NO_INSTANT),
    };
    let offset = FixedOffset::east_opt(hours * 3600).ok_or(NO_INSTANT)?;
    Ok(local.and_utc() - TimeDelta::seconds(offset.local_minus_utc().into()))
}
