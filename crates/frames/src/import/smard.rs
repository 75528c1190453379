//! Downloads of SMARD.de: semicolons, local stamps, German or English numbers.

use std::path::PathBuf;

use chrono::NaiveDateTime;
use chrono_tz::Tz;

use super::clock::RunningClock;
use super::series::{NO_INSTANT, Series, SeriesRow, parse_number, same_columns, slug};
use super::tally::{Tally, at};
use crate::InputError;
use crate::records::{Records, Row};

const ZONE: Tz = Tz::Europe__Berlin;
const SKIPPED: &str = "start in the hour that the clock change skips";

/// Layout of the stamps, by language and age of the download.
#[derive(Debug, Clone, Copy)]
struct Stamps {
    start: usize,
    /// Column of the clock where date and clock stand apart.
    clock: Option<usize>,
    /// First column with values.
    values: usize,
    decimal: char,
}

/// Reads one or more downloads; missing values (`-`) stay missing.
pub(crate) fn read(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let mut series = Series::default();
    let mut names = None;
    for file in files {
        let mut records = Records::open_csv(file, b';')?;
        let stamps = stamps(&records)?;
        let headers = records.headers().to_vec();
        same_columns(file, &mut names, &headers)?;
        series.numbers = headers[stamps.values..].iter().map(|h| slug(h)).collect();
        let mut clock = RunningClock::new(ZONE);
        while let Some(row) = records.next()? {
            tally.read();
            match values(&row, stamps, headers.len(), &mut clock) {
                Ok(row) => series.push(row, tally),
                Err(reason) => tally.refuse(reason, &at(&row)),
            }
        }
    }
    Ok(series)
}

fn stamps(records: &Records) -> Result<Stamps, InputError> {
    let start = records.one_of(&["Datum von", "Start date", "Datum", "Date"])?;
    let decimal = if records.headers()[start].starts_with("Datum") {
        ','
    } else {
        '.'
    };
    let clock = ["Anfang", "Start"].iter().find_map(|n| records.optional(n));
    let end = ["Datum bis", "End date", "Ende", "End"]
        .iter()
        .find_map(|n| records.optional(n));
    let last = [Some(start), clock, end]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(start);
    Ok(Stamps {
        start,
        clock,
        values: last + 1,
        decimal,
    })
}

fn values(
    row: &Row<'_>,
    stamps: Stamps,
    count: usize,
    clock: &mut RunningClock,
) -> Result<SeriesRow, &'static str> {
    let mut text = row.text(stamps.start).to_owned();
    if let Some(column) = stamps.clock {
        text = format!("{text} {}", row.text(column));
    }
    let local = parse_stamp(&text).ok_or(NO_INSTANT)?;
    let start = clock.next(local).ok_or(SKIPPED)?;
    let numbers = (stamps.values..count).map(|c| parse_number(row.text(c), stamps.decimal));
    Ok(SeriesRow {
        start,
        end: None,
        texts: Vec::new(),
        numbers: numbers.collect::<Result<_, _>>()?,
        at: at(row),
    })
}

fn parse_stamp(text: &str) -> Option<NaiveDateTime> {
    ["%d.%m.%Y %H:%M", "%b %d, %Y %I:%M %p", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|f| NaiveDateTime::parse_from_str(text, f).ok())
        .filter(|at| (1900..2200).contains(&chrono::Datelike::year(at)))
}
