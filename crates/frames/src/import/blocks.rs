//! Tables of regelleistung.net: products named by local date and clock, as `POS_00_04`.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;
use units::DeliveryDay;

use super::series::{Columns, NO_INSTANT, Series, SeriesRow, same_columns, slug};
use super::tally::{Tally, at};
use crate::InputError;
use crate::records::{Records, Row, ends_with, open, parse_instant};

/// Products are named by the clock of the Continental European control areas.
const ZONE: Tz = Tz::Europe__Berlin;
const DATES: [&str; 2] = ["delivery_date_local", "DATE_FROM"];
const PRODUCTS: [&str; 3] = ["product", "PRODUCTNAME", "PRODUCT"];

const NO_DATE: &str = "delivery date is missing or no date of the calendar";
const NO_PRODUCT: &str = "product is not named DIRECTION_FROM_TO by local hours";
const DISAGREES: &str = "utc_start or utc_end does not agree with date and product";

/// Results and tenders: one row per product (and country).
pub(crate) fn read_distinct(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    read(files, tally, |series, row, tally| series.push(row, tally))
}

/// A bid ladder: two equal bids are two bids.
pub(crate) fn read_ladder(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    read(files, tally, |series, row, _| series.rows.push(row))
}

fn read(
    files: &[PathBuf],
    tally: &mut Tally,
    add: fn(&mut Series, SeriesRow, &mut Tally),
) -> Result<Series, InputError> {
    let mut series = Series::default();
    let mut names = None;
    for file in files {
        let separator = separator(file)?;
        let decimal = if separator == b';' { ',' } else { '.' };
        let mut records = if ends_with(file, ".parquet") {
            Records::open(file)?
        } else {
            Records::open_csv(file, separator)?
        };
        let (date, product) = (records.one_of(&DATES)?, records.one_of(&PRODUCTS)?);
        let stated = [records.optional("utc_start"), records.optional("utc_end")];
        let headers = records.headers().to_vec();
        same_columns(file, &mut names, &headers)?;
        let mut columns: Option<Columns> = None;
        while let Some(row) = records.next()? {
            tally.read();
            let skip: Vec<_> = [Some(date), stated[0], stated[1]]
                .into_iter()
                .flatten()
                .collect();
            let columns =
                columns.get_or_insert_with(|| Columns::of(&row, headers.len(), &skip, decimal));
            if series.rows.is_empty() {
                columns.name(&headers, &mut series, slug);
            }
            match block(&row, date, product, stated, columns, decimal) {
                Ok(row) => add(&mut series, row, tally),
                Err(reason) => tally.refuse(reason, &at(&row)),
            }
        }
    }
    Ok(series)
}

/// The tables come with commas or, from a German spreadsheet, with semicolons.
fn separator(file: &std::path::Path) -> Result<u8, InputError> {
    use std::io::Read as _;
    let mut head = [0; 4096];
    let count = open(file)?.read(&mut head).unwrap_or(0);
    let line = head[..count]
        .split(|b| *b == b'\n')
        .next()
        .unwrap_or_default();
    let of = |sign: u8| line.iter().filter(|b| **b == sign).count();
    Ok(if of(b';') > of(b',') { b';' } else { b',' })
}

fn block(
    row: &Row<'_>,
    date: usize,
    product: usize,
    stated: [Option<usize>; 2],
    columns: &Columns,
    decimal: char,
) -> Result<SeriesRow, &'static str> {
    let text = row.text(date);
    let day = text.split([' ', 'T']).next().unwrap_or_default();
    let parsed = ["%Y-%m-%d", "%d.%m.%Y"]
        .iter()
        .find_map(|f| NaiveDate::parse_from_str(day, f).ok());
    let (start, end) = span(parsed.ok_or(NO_DATE)?, row.text(product))?;
    for (column, instant) in stated.into_iter().zip([start, end]) {
        let Some(column) = column else { continue };
        if parse_instant(row.text(column)).ok_or(NO_INSTANT)? != instant {
            return Err(DISAGREES);
        }
    }
    let (texts, numbers) = columns.read(row, decimal)?;
    Ok(SeriesRow {
        start,
        end: Some(end),
        texts,
        numbers,
        at: at(row),
    })
}

/// The instants of a product: its hours by the local clock, so 3 or 5 hours long on the days the clocks change.
fn span(date: NaiveDate, product: &str) -> Result<(DateTime<Utc>, DateTime<Utc>), &'static str> {
    let mut parts = product.rsplit('_');
    let mut hour = || {
        parts
            .next()
            .and_then(|p| p.parse::<u32>().ok())
            .ok_or(NO_PRODUCT)
    };
    let (to, from) = (hour()?, hour()?);
    let day = DeliveryDay::try_new(date, ZONE).map_err(|_| NO_DATE)?;
    let clock = |hour| match NaiveTime::from_hms_opt(hour, 0, 0) {
        Some(time) => Ok(day.at(time)),
        None if hour == 24 => Ok(day.end()),
        None => Err(NO_PRODUCT),
    };
    let (start, end) = (clock(from)?, clock(to)?);
    if end > start {
        Ok((start, end))
    } else {
        Err(NO_PRODUCT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_has_three_and_five_hours_on_change_days() {
        for (date, hours) in [("2024-03-30", 4), ("2024-03-31", 3), ("2024-10-27", 5)] {
            let (start, end) = span(date.parse().unwrap(), "NEGPOS_00_04").unwrap();
            assert_eq!((end - start).num_hours(), hours, "{date}");
        }
        let (start, end) = span("2024-03-31".parse().unwrap(), "POS_20_24").unwrap();
        assert_eq!(start.to_rfc3339(), "2024-03-31T18:00:00+00:00");
        assert_eq!(end.to_rfc3339(), "2024-03-31T22:00:00+00:00");
        assert_eq!(
            span("2024-03-31".parse().unwrap(), "POS_20_25"),
            Err(NO_PRODUCT)
        );
        assert_eq!(span("2024-03-31".parse().unwrap(), "POS"), Err(NO_PRODUCT));
        assert_eq!(
            span("2024-03-31".parse().unwrap(), "POS_08_04"),
            Err(NO_PRODUCT)
        );
    }
}
