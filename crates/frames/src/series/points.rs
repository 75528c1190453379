//! Values with their instants, as a file has them.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use glob::Pattern;

use crate::records::{Records, Row};
use crate::{InputError, Place};

/// Names that the column of interval starts may have.
pub(crate) const START_COLUMNS: [&str; 3] = ["utc_start", "utc", "start"];
/// Names that the column of interval ends may have; it is optional.
const END_COLUMNS: [&str; 2] = ["utc_end", "end"];

/// Which rows of which files make a series.
#[derive(Debug, Clone)]
pub(crate) struct SeriesFile {
    /// Files, read one after the other.
    pub(crate) files: Vec<PathBuf>,
    /// Columns whose text must match a pattern with `*` and `?`.
    pub(crate) filter: Vec<(String, Pattern)>,
    /// Hold the last value over missing intervals.
    pub(crate) hold: bool,
}

/// One row of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) start: DateTime<Utc>,
    /// End of the interval, where the file has one.
    pub(crate) end: Option<DateTime<Utc>>,
    /// `None` where the field is empty.
    pub(crate) value: Option<f64>,
    /// Index into the files of the series.
    pub(crate) file: usize,
    pub(crate) place: Place,
}

/// Rows in order of time, and a note where the file had them in another order.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    pub(crate) source: SeriesFile,
    pub(crate) column: String,
    pub(crate) points: Vec<Point>,
    pub(crate) note: Option<String>,
}

/// Reads `column` of a series, in order of time.
///
/// # Errors
/// [`InputError`] at the row that cannot be read, or at the second row of a duplicate instant.
pub(crate) fn read(source: &SeriesFile, column: &str) -> Result<Points, InputError> {
    let mut points = Vec::new();
    for (index, file) in source.files.iter().enumerate() {
        let mut records = Records::open(file)?;
        let start = records.one_of(&START_COLUMNS)?;
        let end = END_COLUMNS.iter().find_map(|n| records.optional(n));
        let value = records.column(column)?;
        let filter = source.filter.iter();
        let filter = filter.map(|(name, p)| Ok((records.column(name)?, p)));
        let filter = filter.collect::<Result<Vec<_>, InputError>>()?;
        while let Some(row) = records.next()? {
            if filter
                .iter()
                .all(|(c, pattern)| pattern.matches(row.text(*c)))
            {
                points.push(point(&row, start, end, value, index)?);
            }
        }
    }
    let sorted = points.is_sorted_by_key(|p| p.start);
    let at = || source.files.first().cloned().unwrap_or_default();
    if points.is_empty() {
        return Err(InputError::file(
            at(),
            format!("no row for column {column:?}, expected at least one"),
        ));
    }
    points.sort_by_key(|p| p.start);
    refuse_duplicates(source, &points)?;
    let note = || {
        format!(
            "{}: rows are not in order of time; they were sorted",
            at().display()
        )
    };
    Ok(Points {
        source: source.clone(),
        column: column.to_owned(),
        points,
        note: (!sorted).then(note),
    })
}

fn point(
    row: &Row<'_>,
    start: usize,
    end: Option<usize>,
    value: usize,
    file: usize,
) -> Result<Point, InputError> {
    let at = row.instant(start)?;
    let until = end.map(|c| row.instant(c)).transpose()?;
    if let Some(until) = until.filter(|until| *until <= at) {
        return Err(row.error(format!(
            "interval ends at {until:?}, expected an end after its start {at:?}"
        )));
    }
    Ok(Point {
        start: at,
        end: until,
        value: row.number(value)?,
        file,
        place: row.place.clone(),
    })
}

fn refuse_duplicates(source: &SeriesFile, points: &[Point]) -> Result<(), InputError> {
    let twice = points
        .windows(2)
        .find(|pair| pair[0].start == pair[1].start);
    let Some([first, second]) = twice else {
        return Ok(());
    };
    let (first, second) = if (second.file, &second.place) < (first.file, &first.place) {
        (second, first)
    } else {
        (first, second)
    };
    let what = format!(
        "a second value for {:?}, expected one (the first stands at {}{})",
        second.start,
        source.files[first.file].display(),
        first.place
    );
    Err(InputError::new(
        &source.files[second.file],
        second.place.clone(),
        what,
    ))
}

/// The most frequent distance between neighbours, the smaller of equals; `None` with fewer than two starts.
pub(crate) fn usual_distance(
    starts: impl Iterator<Item = DateTime<Utc>> + Clone,
) -> Option<TimeDelta> {
    let mut counts = std::collections::BTreeMap::<TimeDelta, usize>::new();
    for (a, b) in starts.clone().zip(starts.skip(1)) {
        *counts.entry(b - a).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    counts
        .into_iter()
        .find(|(_, n)| *n == most)
        .map(|(distance, _)| distance)
}
