//! Typed columns, to and from Parquet. The only module that names polars, and only its eager half.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "columns of any other foreign type are left out alike"
)]

mod parts;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use polars::prelude::{
    Column as Frame, DataType, IntoColumn, IntoSeries, KeyValueMetadata, NamedFrom, ParquetReader,
    ParquetWriter, PolarsError, SerReader, Series, TimeUnit, TimeZone,
};

use crate::InputError;
use crate::pages;
use crate::records::ends_with;

/// The values of one column. Missing is `None`, never zero.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Whole numbers.
    Int(Vec<Option<i64>>),
    /// Numbers.
    Float(Vec<Option<f64>>),
    /// Text.
    Text(Vec<Option<String>>),
    /// Instants, microseconds in UTC on disk.
    Instant(Vec<Option<DateTime<Utc>>>),
    /// True or false.
    Flag(Vec<Option<bool>>),
}

/// Columns of equal length, in order, each with a name of its own, and notes about the whole (`assumed`: ...).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    columns: Vec<(String, Column)>,
    /// Stored in the Parquet footer as key and value.
    pub notes: BTreeMap<String, String>,
}

/// A table that cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Columns differ in length.
    #[error("column {name} has {met} rows, expected {expected} like the columns before it")]
    Length {
        /// Column refused.
        name: String,
        /// Its length.
        met: usize,
        /// Length of the table.
        expected: usize,
    },
    /// Two columns have one name.
    #[error("column {0} is there already")]
    Twice(String),
    /// The name does not say what to write.
    #[error("{}: unknown kind of table, expected .csv, .csv.gz or .parquet", .0.display())]
    Kind(PathBuf),
    /// The disk refused.
    #[error("{}: cannot write", file.display())]
    Write {
        /// File to be written.
        file: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The columnar library refused.
    #[error("{}: cannot write columns", file.display())]
    Columns {
        /// File to be written.
        file: PathBuf,
        /// Cause.
        #[source]
        source: PolarsError,
    },
}

impl Column {
    /// A column of whole numbers without missing values.
    pub fn ints(values: impl IntoIterator<Item = i64>) -> Self {
        Self::Int(values.into_iter().map(Some).collect())
    }

    /// A column of numbers without missing values.
    pub fn floats(values: impl IntoIterator<Item = f64>) -> Self {
        Self::Float(values.into_iter().map(Some).collect())
    }

    /// A column of text without missing values.
    pub fn texts(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Text(values.into_iter().map(|v| Some(v.into())).collect())
    }

    /// A column of instants without missing values.
    pub fn instants(values: impl IntoIterator<Item = DateTime<Utc>>) -> Self {
        Self::Instant(values.into_iter().map(Some).collect())
    }

    /// A column of true and false without missing values.
    pub fn flags(values: impl IntoIterator<Item = bool>) -> Self {
        Self::Flag(values.into_iter().map(Some).collect())
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Int(v) => v.len(),
            Self::Float(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::Instant(v) => v.len(),
            Self::Flag(v) => v.len(),
        }
    }

    /// The value of `row` as text, empty when missing or outside.
    pub(crate) fn text(&self, row: usize) -> String {
        fn show<T: ToString>(values: &[Option<T>], row: usize) -> Option<String> {
            values.get(row)?.as_ref().map(T::to_string)
        }
        let text = match self {
            Self::Int(v) => show(v, row),
            Self::Float(v) => show(v, row),
            Self::Text(v) => show(v, row),
            Self::Flag(v) => show(v, row),
            Self::Instant(v) => v
                .get(row)
                .copied()
                .flatten()
                .map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        };
        text.unwrap_or_default()
    }

    /// True without rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    /// A table without columns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table with one more column at its right.
    ///
    /// # Errors
    /// [`TableError`] if the name is taken or the length differs.
    pub fn with(mut self, name: impl Into<String>, column: Column) -> Result<Self, TableError> {
        let name = name.into();
        if self.column(&name).is_some() {
            return Err(TableError::Twice(name));
        }
        if !self.columns.is_empty() && column.len() != self.rows() {
            return Err(TableError::Length {
                name,
                met: column.len(),
                expected: self.rows(),
            });
        }
        self.columns.push((name, column));
        Ok(self)
    }

    /// The column called `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(n, _)| n == name).map(|(_, c)| c)
    }

    /// Columns with their names, in order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(n, c)| (n.as_str(), c))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, c)| c.len())
    }

    /// Writes the table as its name says: `.csv`, `.csv.gz` or `.parquet`. Notes lead a CSV as `# key: value`.
    ///
    /// # Errors
    /// [`TableError`] for another ending, or when the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), TableError> {
        if ends_with(file, ".parquet") {
            return self.write_parquet(file);
        }
        let failed = |source| TableError::Write {
            file: file.to_owned(),
            source,
        };
        let zipped = ends_with(file, ".csv.gz");
        if !zipped && !ends_with(file, ".csv") {
            return Err(TableError::Kind(file.to_owned()));
        }
        let sink = BufWriter::new(File::create(file).map_err(failed)?);
        if zipped {
            let mut packed = GzEncoder::new(sink, Compression::default());
            self.write_csv(&mut packed).map_err(failed)?;
            packed
                .finish()
                .and_then(|mut sink| sink.flush())
                .map_err(failed)
        } else {
            let mut sink = sink;
            self.write_csv(&mut sink)
                .and_then(|()| sink.flush())
                .map_err(failed)
        }
    }

    fn write_csv(&self, sink: &mut dyn Write) -> std::io::Result<()> {
        for (key, value) in &self.notes {
            writeln!(sink, "# {key}: {}", value.replace(['\n', '\r'], " "))?;
        }
        let mut rows = csv::Writer::from_writer(sink);
        rows.write_record(self.columns.iter().map(|(n, _)| n))?;
        for row in 0..self.rows() {
            rows.write_record(self.columns.iter().map(|(_, c)| c.text(row)))?;
        }
        rows.flush()
    }

    /// Writes the table as one Parquet file (zstd), replacing what is there.
    ///
    /// # Errors
    /// [`TableError`] when the file cannot be written.
    pub fn write_parquet(&self, file: &Path) -> Result<(), TableError> {
        let columns = |source| TableError::Columns {
            file: file.to_owned(),
            source,
        };
        let mut frame = parts::frame(self).map_err(columns)?;
        let sink = File::create(file).map_err(|source| TableError::Write {
            file: file.to_owned(),
            source,
        })?;
        let notes = self.notes.iter().map(|(k, v)| (k.clone(), v.clone()));
        ParquetWriter::new(sink)
            .with_key_value_metadata(Some(KeyValueMetadata::from_static(notes.collect())))
            .finish(&mut frame)
            .map_err(columns)?;
        Ok(())
    }

    /// Reads a Parquet file. Columns of types that [`Column`] does not hold are left out.
    ///
    /// The columnar library trusts the counts in a file, so they are checked first; on some other damage it asserts, and
    /// such a panic is caught here and becomes an error.
    ///
    /// # Errors
    /// [`InputError`] if the file is missing, is not Parquet, or holds instants without a time zone.
    pub fn read_parquet(file: &Path) -> Result<Self, InputError> {
        guarded(file, |source| {
            pages::check(parts::read_all(&source)?)?;
            let frame = ParquetReader::new(source).finish();
            Self::from_frame(&frame.map_err(parts::unreadable)?)
        })
    }
}

/// Reads an open file by `read`; what it says, and a panic of the columnar library, becomes an error that names the file.
fn guarded<T>(file: &Path, read: impl FnOnce(File) -> Result<T, String>) -> Result<T, InputError> {
    let source = File::open(file).map_err(|e| {
        InputError::file(
            file,
            format!("cannot be opened ({e}), expected a Parquet file"),
        )
    })?;
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(source)));
    let damaged = || Err("not a readable Parquet file (its pages are damaged)".to_owned());
    read.unwrap_or_else(|_| damaged())
        .map_err(|what| InputError::file(file, format!("{what}, expected a complete Parquet file")))
}

fn to_frame(name: &str, column: &Column) -> Result<Frame, PolarsError> {
    let name = name.into();
    Ok(match column {
        Column::Int(v) => Series::new(name, v).into_column(),
        Column::Float(v) => Series::new(name, v).into_column(),
        Column::Text(v) => Series::new(name, v).into_column(),
        Column::Flag(v) => Series::new(name, v).into_column(),
        Column::Instant(v) => {
            let micros: Vec<_> = v
                .iter()
                .map(|at| at.map(|at| at.timestamp_micros()))
                .collect();
            let ints = Series::new(name, micros);
            ints.i64()?
                .clone()
                .into_datetime(TimeUnit::Microseconds, Some(TimeZone::UTC))
                .into_series()
                .into_column()
        }
    })
}

fn from_frame(series: &Series) -> Result<Option<Column>, String> {
    let text = |e: PolarsError| e.to_string();
    let cast = |to: &DataType| series.cast(to).map_err(text);
    let dtype = series.dtype();
    Ok(Some(match dtype {
        DataType::Boolean => Column::Flag(series.bool().map_err(text)?.iter().collect()),
        DataType::Datetime(_, None) => {
            return Err("instants have no time zone, expected UTC".to_owned());
        }
        DataType::Datetime(unit, Some(_)) => Column::Instant(instants(series, *unit)?),
        t if t.is_integer() => Column::Int(
            cast(&DataType::Int64)?
                .i64()
                .map_err(text)?
                .iter()
                .collect(),
        ),
        t if t.is_float() => Column::Float(
            cast(&DataType::Float64)?
                .f64()
                .map_err(text)?
                .iter()
                .collect(),
        ),
        t if t.is_string() || t.is_categorical() => {
            let strings = cast(&DataType::String)?;
            let strings = strings.str().map_err(text)?;
            Column::Text(strings.iter().map(|v| v.map(str::to_owned)).collect())
        }
        _ => return Ok(None),
    }))
}

fn instants(series: &Series, unit: TimeUnit) -> Result<Vec<Option<DateTime<Utc>>>, String> {
    let physical = series.to_physical_repr();
    let ticks = physical.i64().map_err(|e| e.to_string())?;
    let instant = |tick: i64| match unit {
        TimeUnit::Nanoseconds => Some(DateTime::from_timestamp_nanos(tick)),
        TimeUnit::Microseconds => DateTime::from_timestamp_micros(tick),
        TimeUnit::Milliseconds => DateTime::from_timestamp_millis(tick),
    };
    let checked =
        |tick| instant(tick).ok_or_else(|| format!("instant {tick} is outside the calendar"));
    ticks
        .iter()
        .map(|tick| tick.map(checked).transpose())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        let at: DateTime<Utc> = "2024-03-31T00:15:00.000123Z".parse().unwrap();
        let mut table = Table::new()
            .with("n", Column::Int(vec![Some(i64::MAX), None]))
            .and_then(|t| t.with("x", Column::Float(vec![Some(0.1), None])))
            .and_then(|t| t.with("who", Column::Text(vec![Some("é".into()), None])))
            .and_then(|t| t.with("at", Column::Instant(vec![Some(at), None])))
            .and_then(|t| t.with("ok", Column::Flag(vec![Some(true), None])))
            .unwrap();
        table.write_parquet(&file).unwrap();
        assert_eq!(Table::read_parquet(&file).unwrap(), table);
        table
            .notes
            .insert("assumed".into(), "capacity_kwh=60".into());
        table.write_parquet(&file).unwrap();
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let error = Table::new()
            .with("a", Column::ints([1]))
            .and_then(|t| t.with("b", Column::ints([1, 2])))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "column b has 2 rows, expected 1 like the columns before it"
        );
    }

    #[test]
    fn a_file_that_is_not_parquet_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        std::fs::write(&file, b"PAR1 but not really").unwrap();
        let text = Table::read_parquet(&file).unwrap_err().to_string();
        assert!(
            text.contains("t.parquet: not a readable Parquet file"),
            "{text}"
        );
    }
}
