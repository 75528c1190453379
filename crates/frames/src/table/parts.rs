//! Tables larger than memory: a Parquet file written and read part by part.

use std::fs::File;
use std::path::Path;

use polars::prelude::{DataFrame, ParquetReader, ParquetWriter, PolarsError, SerReader};

use super::{Table, TableError, from_frame, guarded, to_frame};
use crate::{InputError, pages};

impl Table {
    /// Writes tables of the same columns one after the other into one Parquet file (zstd), each a row group of its own; `None` without any.
    ///
    /// # Errors
    /// [`TableError`] when the file cannot be written, or a part has other columns than the first.
    pub fn write_parquet_parts(
        file: &Path,
        parts: impl IntoIterator<Item = Self>,
    ) -> Result<Option<usize>, TableError> {
        let columns = |source| TableError::Columns {
            file: file.to_owned(),
            source,
        };
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else {
            return Ok(None);
        };
        let sink = File::create(file).map_err(|source| TableError::Write {
            file: file.to_owned(),
            source,
        })?;
        let frame = frame(&first).map_err(columns)?;
        let writer = ParquetWriter::new(sink).batched(frame.schema());
        let mut writer = writer.map_err(columns)?;
        writer.write_batch(&frame).map_err(columns)?;
        let mut rows = first.rows();
        drop((first, frame));
        for part in parts {
            let frame = self::frame(&part).map_err(columns)?;
            writer.write_batch(&frame).map_err(columns)?;
            rows += part.rows();
        }
        writer.finish().map_err(columns)?;
        Ok(Some(rows))
    }

    /// Reads the named columns of a Parquet file, at most `rows` rows at a time, in order. `take` is told the row (from 0) at which a part
    /// begins. A column of a type that [`super::Column`] does not hold is left out of the parts.
    ///
    /// # Errors
    /// [`InputError`] as [`Table::read_parquet`] gives it, if a column is missing, and the first that `take` answers.
    pub fn read_parquet_parts(
        file: &Path,
        columns: &[&str],
        rows: usize,
        take: &mut dyn FnMut(usize, &Self) -> Result<(), InputError>,
    ) -> Result<usize, InputError> {
        let all = guarded(file, |source| {
            pages::check(read_all(&source)?)?;
            let mut reader = ParquetReader::new(source);
            let schema = reader.schema().map_err(unreadable)?;
            if let Some(name) = columns.iter().find(|c| !schema.contains(c)) {
                return Err(format!("column {name} is missing"));
            }
            reader.num_rows().map_err(unreadable)
        })?;
        for from in (0..all).step_by(rows.max(1)) {
            let part = guarded(file, |source| {
                let names = columns.iter().map(|c| (*c).to_owned()).collect();
                let frame = ParquetReader::new(source)
                    .with_columns(Some(names))
                    .with_slice(Some((from, rows.max(1))))
                    .finish()
                    .map_err(unreadable)?;
                Self::from_frame(&frame)
            })?;
            take(from, &part)?;
        }
        Ok(all)
    }

    pub(super) fn from_frame(frame: &DataFrame) -> Result<Self, String> {
        let mut table = Self::new();
        for series in frame.columns() {
            let name = series.name().to_string();
            let column = from_frame(series.as_materialized_series())
                .map_err(|what| format!("column {name}: {what}"))?;
            if let Some(column) = column {
                table = table.with(name, column).map_err(|e| e.to_string())?;
            }
        }
        Ok(table)
    }
}

pub(super) fn frame(table: &Table) -> Result<DataFrame, PolarsError> {
    let frames = table.columns.iter().map(|(n, c)| to_frame(n, c));
    DataFrame::new(table.rows(), frames.collect::<Result<Vec<_>, _>>()?)
}

/// The bytes of a file from its beginning on.
pub(super) fn read_all(mut source: &File) -> Result<Vec<u8>, String> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    source
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot be read ({e})"))?;
    Ok(bytes)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what the library gives is turned into words"
)]
pub(super) fn unreadable(error: PolarsError) -> String {
    format!("not a readable Parquet file: {error}")
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    fn part(from: i64) -> Table {
        let names = (from..from + 4).map(|i| format!("n{i}"));
        Table::new()
            .with("i", Column::ints(from..from + 4))
            .and_then(|t| t.with("name", Column::texts(names)))
            .unwrap()
    }

    #[test]
    fn parts_come_back_in_order_whatever_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        let written = Table::write_parquet_parts(&file, [0, 4, 8].map(part)).unwrap();
        assert_eq!(written, Some(12));
        assert_eq!(Table::read_parquet(&file).unwrap().rows(), 12);
        for rows in [1, 3, 4, 5, 100] {
            let mut found = Vec::new();
            let all = Table::read_parquet_parts(&file, &["name"], rows, &mut |from, part| {
                assert_eq!(from, found.len());
                assert_eq!(part.columns().len(), 1);
                let Some(Column::Text(names)) = part.column("name") else {
                    unreachable!("names are text")
                };
                found.extend(names.iter().flatten().cloned());
                Ok(())
            });
            assert_eq!(all.unwrap(), 12);
            let expected: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_missing_column_and_a_damaged_file_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.parquet");
        part(0).write_parquet(&file).unwrap();
        let read = |column| {
            let found = Table::read_parquet_parts(&file, &[column], 2, &mut |_, _| Ok(()));
            found.unwrap_err().to_string()
        };
        assert!(read("who").contains("t.parquet: column who is missing"));
        std::fs::write(&file, b"PAR1 but not really").unwrap();
        assert!(read("name").contains("t.parquet: not a readable Parquet file"));
    }
}
