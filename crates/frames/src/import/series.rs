//! Series: rows of an instant, texts that tell rows of one instant apart, and numbers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::convert::limits;
use super::tally::{Tally, at};
use crate::records::{Records, Row, parse_instant};
use crate::series::START_COLUMNS;
use crate::table::{Column, Table, TableError};
use crate::{InputError, Place};

pub(super) const NO_INSTANT: &str = "start is missing, no instant, or without an offset";
pub(super) const NO_NUMBER: &str = "a value that is no finite number";
pub(super) const REPEATED: &str = "repeats an earlier row";
pub(super) const CONFLICT: &str = "another value for an instant that an earlier row has";
const OUTSIDE: &str = "not within --from and --to";

/// A series being read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// Names of the text columns.
    pub(super) texts: Vec<String>,
    /// Names of the number columns, unit last.
    pub(super) numbers: Vec<String>,
    pub(super) rows: Vec<SeriesRow>,
    pub(super) seen: HashMap<(DateTime<Utc>, Vec<String>), usize>,
}

/// One row of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeriesRow {
    pub(super) start: DateTime<Utc>,
    pub(super) end: Option<DateTime<Utc>>,
    pub(super) texts: Vec<String>,
    pub(super) numbers: Vec<Option<f64>>,
    /// `FILE:LINE`.
    pub(super) at: String,
}

impl Series {
    /// A series with one column of numbers and no texts.
    pub(super) fn of(number: &str) -> Self {
        Self {
            numbers: vec![number.to_owned()],
            ..Self::default()
        }
    }

    /// Adds a row unless its instant and texts are there already.
    pub(super) fn push(&mut self, row: SeriesRow, tally: &mut Tally) {
        let next = self.rows.len();
        let first = *self
            .seen
            .entry((row.start, row.texts.clone()))
            .or_insert(next);
        match self.rows.get(first) {
            Some(earlier) if earlier.numbers == row.numbers => tally.refuse(REPEATED, &row.at),
            Some(_) => tally.refuse(CONFLICT, &row.at),
            None => self.rows.push(row),
        }
    }

    /// Drops what starts outside the local dates `[from, to)` of `zone`.
    pub(super) fn keep(
        &mut self,
        zone: Tz,
        from: Option<NaiveDate>,
        to: Option<NaiveDate>,
        tally: &mut Tally,
    ) {
        let (from, to) = limits(zone, from, to);
        self.rows.retain(|row| {
            let inside = from.is_none_or(|f| row.start >= f) && to.is_none_or(|t| row.start < t);
            if !inside {
                tally.refuse(OUTSIDE, &row.at);
            }
            inside
        });
    }

    /// The canonical table: `utc_start`, `utc_end` where known, texts, numbers; in order of time.
    pub(super) fn into_table(mut self) -> Result<Table, TableError> {
        self.rows.sort_by_key(|r| r.start);
        let rows = &self.rows;
        let mut table =
            Table::new().with("utc_start", Column::instants(rows.iter().map(|r| r.start)))?;
        if rows.iter().any(|r| r.end.is_some()) {
            table = table.with(
                "utc_end",
                Column::Instant(rows.iter().map(|r| r.end).collect()),
            )?;
        }
        for (index, name) in self.texts.iter().enumerate() {
            let text = |r: &SeriesRow| r.texts.get(index).filter(|t| !t.is_empty()).cloned();
            table = table.with(name, Column::Text(rows.iter().map(text).collect()))?;
        }
        for (index, name) in self.numbers.iter().enumerate() {
            let number = |r: &SeriesRow| r.numbers.get(index).copied().flatten();
            table = table.with(name, Column::Float(rows.iter().map(number).collect()))?;
        }
        Ok(table)
    }
}

/// Which columns of a CSV are texts and which are numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    texts: Vec<usize>,
    numbers: Vec<usize>,
}

impl Columns {
    /// Tells columns apart by the first row that has something in them; `skip` are columns of time.
    pub(super) fn of(row: &Row<'_>, count: usize, skip: &[usize], decimal: char) -> Self {
        let mut columns = Self::default();
        for column in (0..count).filter(|c| !skip.contains(c)) {
            let text = row.text(column);
            if text.is_empty() || parse_number(text, decimal).is_ok() {
                columns.numbers.push(column);
            } else {
                columns.texts.push(column);
            }
        }
        columns
    }

    /// Names of the columns into `series`.
    pub(super) fn name(&self, headers: &[String], series: &mut Series, rename: fn(&str) -> String) {
        let names = |columns: &[usize]| columns.iter().map(|c| rename(&headers[*c])).collect();
        series.texts = names(&self.texts);
        series.numbers = names(&self.numbers);
    }

    /// The fields of a row.
    pub(super) fn read(
        &self,
        row: &Row<'_>,
        decimal: char,
    ) -> Result<(Vec<String>, Vec<Option<f64>>), &'static str> {
        let numbers = self
            .numbers
            .iter()
            .map(|c| parse_number(row.text(*c), decimal));
        let texts = self.texts.iter().map(|c| row.text(*c).to_owned()).collect();
        Ok((texts, numbers.collect::<Result<_, _>>()?))
    }
}

/// A finite number with `decimal` as its decimal sign and the other sign between groups of three digits; `None` for an
/// empty field or a dash.
pub(super) fn parse_number(text: &str, decimal: char) -> Result<Option<f64>, &'static str> {
    if matches!(text, "" | "-" | "n/e" | "N/A") {
        return Ok(None);
    }
    let group = if decimal == '.' { ',' } else { '.' };
    let (whole, fraction) = text.split_once(decimal).unwrap_or((text, ""));
    let mut groups = whole.split(group);
    let first = groups
        .next()
        .unwrap_or_default()
        .trim_start_matches(['-', '+']);
    let grouped = whole.contains(group);
    if fraction.contains(group)
        || (grouped && (first.is_empty() || first.len() > 3 || groups.any(|g| g.len() != 3)))
    {
        return Err(NO_NUMBER);
    }
    let plain = format!("{}.{fraction}", whole.replace(group, ""));
    let plain = plain.strip_suffix('.').unwrap_or(&plain);
    let value = plain.parse::<f64>().ok().filter(|v| v.is_finite());
    value.map(Some).ok_or(NO_NUMBER)
}

/// A header as a column name: lower case, `eur_mwh` for `[€/MWh]`.
pub(super) fn slug(header: &str) -> String {
    let spelled = header
        .replace('€', "eur")
        .replace('£', "gbp")
        .replace(['ä', 'Ä'], "ae")
        .replace(['ö', 'Ö'], "oe");
    let spelled = spelled
        .replace(['ü', 'Ü'], "ue")
        .replace('ß', "ss")
        .to_lowercase();
    let words = spelled
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// A CSV whose first time column is an instant; a second row for one instant and texts is refused.
pub(crate) fn read_distinct(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let mut series = Series::default();
    let mut names: Option<Vec<String>> = None;
    for file in files {
        let mut records = Records::open(file)?;
        let start = records.one_of(&START_COLUMNS)?;
        let end = records.optional("utc_end");
        let headers = records.headers().to_vec();
        same_columns(file, &mut names, &headers)?;
        let mut columns: Option<Columns> = None;
        while let Some(row) = records.next()? {
            tally.read();
            let skip: Vec<_> = [Some(start), end].into_iter().flatten().collect();
            let columns =
                columns.get_or_insert_with(|| Columns::of(&row, headers.len(), &skip, '.'));
            if series.rows.is_empty() {
                columns.name(&headers, &mut series, str::to_owned);
            }
            match whole_row(&row, start, end, columns) {
                Ok(row) => series.push(row, tally),
                Err(reason) => tally.refuse(reason, &at(&row)),
            }
        }
    }
    if series.numbers.is_empty() {
        let file = files.first().map_or(Path::new(""), PathBuf::as_path);
        return Err(InputError::line(
            file,
            1,
            "no usable row, expected rows below the header",
        ));
    }
    Ok(series)
}

pub(super) fn same_columns(
    file: &Path,
    names: &mut Option<Vec<String>>,
    headers: &[String],
) -> Result<(), InputError> {
    let first = names.get_or_insert_with(|| headers.to_vec());
    if first.as_slice() == headers {
        return Ok(());
    }
    let what = format!(
        "the columns {}, expected those of the first file: {}",
        headers.join(", "),
        first.join(", ")
    );
    Err(InputError::new(file, Place::Line(1), what))
}

fn whole_row(
    row: &Row<'_>,
    start: usize,
    end: Option<usize>,
    columns: &Columns,
) -> Result<SeriesRow, &'static str> {
    let begun = parse_instant(row.text(start)).ok_or(NO_INSTANT)?;
    let end = end.map(|c| row.text(c)).filter(|t| !t.is_empty());
    let end = end
        .map(|t| parse_instant(t).filter(|e| *e > begun).ok_or(NO_INSTANT))
        .transpose()?;
    let (texts, numbers) = columns.read(row, '.')?;
    Ok(SeriesRow {
        start: begun,
        end,
        texts,
        numbers,
        at: at(row),
    })
}

/// One-second frequency: missing seconds are counted and left out.
pub(crate) fn read_frequency(files: &[PathBuf], tally: &mut Tally) -> Result<Series, InputError> {
    let series = read_distinct(files, tally)?;
    let mut starts: Vec<_> = series.rows.iter().map(|r| r.start).collect();
    starts.sort_unstable();
    let second = TimeDelta::seconds(1);
    let missing: i64 = starts
        .windows(2)
        .map(|p| (p[1] - p[0] - second).num_seconds().max(0))
        .sum();
    let longest = starts.windows(2).max_by_key(|p| p[1] - p[0]);
    if let Some(gap) = longest.filter(|p| p[1] - p[0] > second) {
        tally.notes.push(format!(
            "{missing} seconds are missing between the first and the last sample (left out, not filled); \
             the longest gap is {} to {}",
            gap[0].to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            gap[1].to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ));
    }
    Ok(series)
}
