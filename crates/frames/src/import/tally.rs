//! What became of each row.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::records::Row;

/// Rows with one fate, and where the first of them stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Number of rows.
    pub rows: usize,
    /// `FILE:LINE` of the first.
    pub first: String,
}

/// The whole account: `read = kept + refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Data rows met.
    pub rows_read: usize,
    /// Rows that went into the output (trips, where the output is one row per block).
    pub rows_kept: usize,
    /// Rows refused.
    pub rows_refused: usize,
    /// Refused rows by reason.
    pub refused: BTreeMap<String, Count>,
    /// Kept rows in which something had to be decided, by what was decided.
    pub repaired: BTreeMap<String, Count>,
    /// Remarks about the whole.
    pub notes: Vec<String>,
}

/// The account while it is kept.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    read: usize,
    refused: BTreeMap<&'static str, Count>,
    repaired: BTreeMap<&'static str, Count>,
    pub(crate) notes: Vec<String>,
}

impl Tally {
    /// One more row was met.
    pub(crate) fn read(&mut self) {
        self.read += 1;
    }

    /// A row is refused.
    pub(crate) fn refuse(&mut self, reason: &'static str, at: &str) {
        count(&mut self.refused, reason, at);
    }

    /// Something was decided about a row.
    pub(crate) fn repair(&mut self, what: &'static str, at: &str) {
        count(&mut self.repaired, what, at);
    }

    pub(crate) fn into_summary(self) -> Summary {
        let refused = self.refused.values().map(|c| c.rows).sum::<usize>();
        let named = |counts: BTreeMap<&'static str, Count>| {
            counts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
        };
        Summary {
            rows_read: self.read,
            rows_kept: self.read.saturating_sub(refused),
            rows_refused: refused,
            refused: named(self.refused),
            repaired: named(self.repaired),
            notes: self.notes,
        }
    }
}

fn count(counts: &mut BTreeMap<&'static str, Count>, key: &'static str, at: &str) {
    let entry = counts.entry(key).or_insert_with(|| Count {
        rows: 0,
        first: at.to_owned(),
    });
    entry.rows += 1;
}

/// `FILE:LINE` of a row.
pub(crate) fn at(row: &Row<'_>) -> String {
    format!("{}{}", row.file.display(), row.place)
}
