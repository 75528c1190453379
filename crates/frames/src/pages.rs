//! Are the pages of a Parquet file what its footer says? Asked before anything is decoded.
//!
//! The columnar library reserves memory for as many values as a page claims to hold. A damaged claim of 2^64 values ends
//! the process, and nobody can catch that. Here the claims are counted first: the pages of a column chunk hold what the
//! chunk says, a flat chunk as many values as its group has rows, the groups as many rows as the file.

use std::fmt::Display;
use std::io::Cursor;

use polars_parquet::parquet::compression::DecompressionContext;
use polars_parquet::parquet::metadata::ColumnChunkMetadata;
use polars_parquet::parquet::page::{CompressedPage, Page};
use polars_parquet::parquet::read::{PageReader, decompress, get_page_iterator, read_metadata};

/// Checks every page of the file in `bytes`; only dictionaries are decompressed.
///
/// # Errors
/// What does not fit, in words.
pub(crate) fn check(bytes: Vec<u8>) -> Result<(), String> {
    let most = bytes.len();
    let file = Cursor::new(bytes.into());
    let metadata = read_metadata(&mut file.clone()).map_err(unreadable)?;
    let mut rows = 0_usize;
    for group in &metadata.row_groups {
        rows = rows.saturating_add(group.num_rows());
        for chunk in group.parquet_columns() {
            let values = values_of(chunk, group.num_rows())?;
            let pages =
                get_page_iterator(chunk, file.clone(), Vec::new(), most).map_err(unreadable)?;
            pages_hold(pages, values).map_err(|what| format!("{}: {what}", name(chunk)))?;
        }
    }
    if metadata.num_rows == rows {
        return Ok(());
    }
    let said = metadata.num_rows;
    Err(format!("the file says {said} rows, its groups {rows}"))
}

/// Values of a column chunk in a group of `rows`.
fn values_of(chunk: &ColumnChunkMetadata, rows: usize) -> Result<usize, String> {
    let said = chunk.num_values();
    let is_list = chunk.descriptor().descriptor.max_rep_level > 0;
    usize::try_from(said)
        .ok()
        .filter(|values| is_list || *values == rows)
        .ok_or_else(|| format!("{} says {said} values for {rows} rows", name(chunk)))
}

/// Do `pages` hold just `values`?
fn pages_hold(pages: PageReader, values: usize) -> Result<(), String> {
    let mut left = values;
    for page in pages {
        match page.map_err(unreadable)? {
            CompressedPage::Data(page) => {
                let held = page.num_values();
                left = left
                    .checked_sub(held)
                    .ok_or_else(|| format!("a page says {held} values where {left} are left"))?;
            }
            dictionary @ CompressedPage::Dict(_) => dictionary_holds(dictionary)?,
        }
    }
    if left == 0 {
        return Ok(());
    }
    Err(format!("{left} values of {values} are in no page"))
}

/// An entry of a dictionary takes a bit at least.
fn dictionary_holds(page: CompressedPage) -> Result<(), String> {
    let mut room = Vec::new();
    let page = decompress(page, &mut room, &mut DecompressionContext::Unset);
    match page.map_err(unreadable)? {
        Page::Dict(page) if page.num_values / 8 > page.buffer.len() => {
            let (said, bytes) = (page.num_values, page.buffer.len());
            Err(format!(
                "the dictionary says {said} values in {bytes} bytes"
            ))
        }
        Page::Dict(_) | Page::Data(_) => Ok(()),
    }
}

fn name(chunk: &ColumnChunkMetadata) -> String {
    format!("column {}", chunk.descriptor().path_in_schema.join("."))
}

fn unreadable(error: impl Display) -> String {
    format!("not a readable Parquet file: {error}")
}
