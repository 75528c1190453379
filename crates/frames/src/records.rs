//! Rows of a table on disk, one at a time, whatever the file is: `.csv`, `.csv.gz` or `.parquet`.
//!
//! CSV: one header row, commas (or semicolons for formats that use them), `#` starts a comment line, an empty field is
//! a missing value. Every error names file and line.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "other kinds of a foreign error are told by its own text"
)]

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, Utc};
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;

use crate::table::Table;
use crate::{InputError, Place};

/// An open table, read row by row.
pub(crate) struct Records {
    file: PathBuf,
    headers: Vec<String>,
    rows: Rows,
    row: StringRecord,
    place: Place,
}

enum Rows {
    Csv(Box<csv::Reader<Box<dyn Read>>>),
    Table(Table, usize),
}

/// One row with its place.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) file: &'a Path,
    pub(crate) place: &'a Place,
    headers: &'a [String],
    cells: &'a StringRecord,
}

/// The bytes of a text file, unpacked if it ends in `.gz`.
pub(crate) fn open(file: &Path) -> Result<Box<dyn Read>, InputError> {
    let at = |e: std::io::Error| {
        let what = match e.kind() {
            std::io::ErrorKind::NotFound => {
                "no such file, expected one that can be read".to_owned()
            }
            _ => format!("cannot be opened ({e}), expected a file that can be read"),
        };
        InputError::file(file, what)
    };
    let meta = std::fs::metadata(file).map_err(at)?;
    if meta.is_dir() {
        return Err(InputError::file(file, "is a folder, expected a file"));
    }
    let plain = BufReader::with_capacity(1 << 16, File::open(file).map_err(at)?);
    Ok(if ends_with(file, ".gz") {
        Box::new(BufReader::with_capacity(
            1 << 16,
            MultiGzDecoder::new(plain),
        ))
    } else {
        Box::new(plain)
    })
}

/// The whole text of a file, for formats that are not tables.
pub(crate) fn read_text(file: &Path) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    let done = open(file)?.read_to_end(&mut bytes);
    let lines = || 1 + bytes.iter().filter(|b| **b == b'\n').count() as u64;
    if let Err(error) = done {
        return Err(InputError::line(file, lines(), read_failure(file, &error)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let upto = error.utf8_error().valid_up_to();
        let newlines = error.as_bytes()[..upto]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        InputError::line(
            file,
            1 + newlines as u64,
            "bytes that are not UTF-8, expected UTF-8 text",
        )
    })
}

/// Whether the name ends so, in any case.
pub(crate) fn ends_with(file: &Path, suffix: &str) -> bool {
    file.to_string_lossy()
        .to_ascii_lowercase()
        .ends_with(suffix)
}

fn read_failure(file: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            "the gzip data end early, expected a complete file (is it truncated?)".to_owned()
        }
        _ if ends_with(file, ".gz") => {
            format!("unreadable gzip data ({error}), expected a gzip file")
        }
        _ => format!("unreadable ({error}), expected text"),
    }
}

impl Records {
    /// Opens a table of canonical layout: commas, or Parquet.
    pub(crate) fn open(file: &Path) -> Result<Self, InputError> {
        if ends_with(file, ".parquet") {
            return Self::from_table(file);
        }
        if ends_with(file, ".csv") || ends_with(file, ".csv.gz") {
            return Self::open_csv(file, b',');
        }
        Err(InputError::file(
            file,
            "unknown kind of table, expected .csv, .csv.gz or .parquet",
        ))
    }

    /// Opens a CSV with a given separator, whatever its name.
    pub(crate) fn open_csv(file: &Path, separator: u8) -> Result<Self, InputError> {
        Self::from_reader(file, open(file)?, separator)
    }

    /// Reads a CSV from `source`; `file` is for messages.
    pub(crate) fn from_reader(
        file: &Path,
        source: Box<dyn Read>,
        separator: u8,
    ) -> Result<Self, InputError> {
        let mut reader = ReaderBuilder::new()
            .comment(Some(b'#'))
            .delimiter(separator)
            .from_reader(source);
        let place = |r: &csv::Reader<_>| r.position().line().max(1);
        let headers = match reader.headers() {
            Ok(headers) => headers.clone(),
            Err(error) => {
                let line = place(&reader);
                return Err(csv_error(file, &error, line));
            }
        };
        let clean = |h: &str| h.trim_start_matches('\u{feff}').trim().to_owned();
        let headers: Vec<_> = headers.iter().map(clean).collect();
        if headers.iter().all(String::is_empty) {
            return Err(InputError::line(
                file,
                1,
                "no header, expected a row of column names",
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            headers,
            rows: Rows::Csv(Box::new(reader)),
            row: StringRecord::new(),
            place: Place::File,
        })
    }

    fn from_table(file: &Path) -> Result<Self, InputError> {
        if !file.exists() {
            return Err(InputError::file(
                file,
                "no such file, expected one that can be read",
            ));
        }
        let table = Table::read_parquet(file)?;
        Ok(Self {
            file: file.to_owned(),
            headers: table.columns().map(|(n, _)| n.to_owned()).collect(),
            rows: Rows::Table(table, 0),
            row: StringRecord::new(),
            place: Place::File,
        })
    }

    /// Column names in order.
    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Index of the column `name`.
    pub(crate) fn column(&self, name: &str) -> Result<usize, InputError> {
        self.optional(name)
            .ok_or_else(|| self.no_column(&format!("column {name:?}")))
    }

    /// Index of the column `name`, if it is there.
    pub(crate) fn optional(&self, name: &str) -> Option<usize> {
        self.headers.iter().position(|h| h == name)
    }

    /// Index of the first of several names that is there.
    pub(crate) fn one_of(&self, names: &[&str]) -> Result<usize, InputError> {
        let found = names.iter().find_map(|n| self.optional(n));
        found.ok_or_else(|| self.no_column(&format!("one of the columns {}", names.join(", "))))
    }

    fn no_column(&self, wanted: &str) -> InputError {
        let what = format!(
            "expected {wanted}, met the columns {}",
            self.headers.join(", ")
        );
        match self.rows {
            Rows::Csv(_) => InputError::line(&self.file, 1, what),
            Rows::Table(..) => InputError::file(&self.file, what),
        }
    }

    /// The next row, `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, InputError> {
        let more = match &mut self.rows {
            Rows::Csv(reader) => {
                let result = reader.read_record(&mut self.row);
                let line = self
                    .row
                    .position()
                    .map_or(reader.position().line(), csv::Position::line);
                self.place = Place::Line(line);
                result.map_err(|e| csv_error(&self.file, &e, reader.position().line().max(1)))?
            }
            Rows::Table(table, next) => {
                let more = *next < table.rows();
                if more {
                    self.row = table.columns().map(|(_, c)| c.text(*next)).collect();
                    *next += 1;
                    self.place = Place::Row(*next as u64);
                }
                more
            }
        };
        Ok(more.then_some(Row {
            file: &self.file,
            place: &self.place,
            headers: &self.headers,
            cells: &self.row,
        }))
    }
}

fn csv_error(file: &Path, error: &csv::Error, line: u64) -> InputError {
    let at = |pos: &Option<csv::Position>| pos.as_ref().map_or(line, csv::Position::line);
    match error.kind() {
        ErrorKind::Io(error) => InputError::line(file, line, read_failure(file, error)),
        ErrorKind::Utf8 { pos, .. } => InputError::line(
            file,
            at(pos),
            "bytes that are not UTF-8, expected UTF-8 text",
        ),
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => InputError::line(
            file,
            at(pos),
            format!("{len} fields, expected {expected_len} like the header"),
        ),
        _ => InputError::line(
            file,
            line,
            format!("not readable as CSV ({error}), expected rows of text"),
        ),
    }
}

impl<'a> Row<'a> {
    /// An error about this row.
    pub(crate) fn error(&self, what: impl Into<String>) -> InputError {
        InputError::new(self.file, self.place.clone(), what)
    }

    /// The field as text without blanks around it; empty when missing.
    pub(crate) fn text(&self, column: usize) -> &'a str {
        self.cells.get(column).unwrap_or_default().trim()
    }

    fn name(&self, column: usize) -> &'a str {
        self.headers.get(column).map_or("?", String::as_str)
    }

    /// The field as a name, not empty.
    pub(crate) fn id(&self, column: usize) -> Result<String, InputError> {
        match self.text(column) {
            "" => Err(self.error(format!("{} is empty, expected a name", self.name(column)))),
            name => Ok(name.to_owned()),
        }
    }

    /// The field as a finite number; `None` when missing.
    pub(crate) fn number(&self, column: usize) -> Result<Option<f64>, InputError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(self.error(format!(
                "{} is {text:?}, expected a finite number",
                self.name(column)
            ))),
        }
    }

    /// The field as a finite number that must be there.
    pub(crate) fn required(&self, column: usize) -> Result<f64, InputError> {
        self.number(column)?
            .ok_or_else(|| self.error(format!("{} is empty, expected a number", self.name(column))))
    }

    /// The field as an instant.
    pub(crate) fn instant(&self, column: usize) -> Result<DateTime<Utc>, InputError> {
        let text = self.text(column);
        parse_instant(text).ok_or_else(|| {
            let name = self.name(column);
            let lacks = if looks_local(text) { " without an offset" } else { "" };
            self.error(format!(
                "{name} is {text:?}{lacks}, expected an instant with Z or an offset, as in 2024-01-31T12:00:00Z"
            ))
        })
    }
}

/// An RFC 3339 instant; seconds may be left out.
pub(crate) fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    parse_offset(text).map(|at| at.to_utc())
}

/// An RFC 3339 instant with its offset; seconds may be left out.
pub(crate) fn parse_offset(text: &str) -> Option<DateTime<FixedOffset>> {
    let full = DateTime::parse_from_rfc3339(text).ok();
    full.or_else(|| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z").ok())
        .filter(|at| (1900..2200).contains(&chrono::Datelike::year(at)))
}

fn looks_local(text: &str) -> bool {
    [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ]
    .iter()
    .any(|f| chrono::NaiveDateTime::parse_from_str(text, f).is_ok())
}
