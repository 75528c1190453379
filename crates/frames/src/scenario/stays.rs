//! The sessions of a scenario: a canonical file, or a published one as it stands.

use super::load::{Reading, existing};
use super::prices::files;
use crate::InputError;
use crate::import::{Assume, AssumeError, FORMATS, Format, Options};
use crate::sessions::{self, Session};
use crate::tree::Leaf;

const TABLE: &str = "a file, or a table as in { data = \"sessions/x.csv.gz\", format = \"acn\" }";
const FORMAT: &str = "a session format of shoal import";

/// How far sessions may be moved, weeks: a century.
const WEEKS: (f64, f64) = (-5200.0, 5200.0);

/// Reads `fleet.sessions`.
pub(super) fn stays(
    leaf: &Leaf<'_>,
    reading: &mut Reading<'_>,
) -> Result<Vec<Session>, InputError> {
    if leaf.is_table() {
        return published(leaf, reading);
    }
    sessions::read(&existing(leaf, reading.folder)?)
}

/// A file as its publisher lays it out, completed as `shoal import` would: what is assumed and how far it is moved stand
/// in the scenario, and the clock is kept in the zone of its area.
fn published(leaf: &Leaf<'_>, reading: &mut Reading<'_>) -> Result<Vec<Session>, InputError> {
    let mut table = leaf.branch(TABLE)?;
    let files = files(&mut table, reading)?;
    let named = table.need("format", FORMAT)?;
    let format = format(&named)?;
    let assume = match table.get("assume") {
        None => Assume::default(),
        Some(leaf) => {
            let text = leaf.text("KEY=NUMBER,... as in capacity_kwh=60")?;
            text.parse()
                .map_err(|e: AssumeError| leaf.error(e.to_string()))?
        }
    };
    let shift_weeks = table.get("shift_weeks").map_or(Ok(0), |l| weeks(&l))?;
    table.finish()?;
    let options = Options {
        assume,
        to_zone: Some(reading.window.zone),
        shift_weeks,
        ..Options::default()
    };
    let read = format.sessions(&files, &options);
    let (sessions, summary) = read.ok_or_else(|| unknown(&named, format.name))??;
    reading.notes.push(format!(
        "sessions: {} read as {}, {} rows read, {} refused, {} sessions; moved {shift_weeks} weeks; assumed {assume}",
        files
            .iter()
            .filter_map(|f| f.file_name()?.to_str())
            .collect::<Vec<_>>()
            .join(", "),
        format.name,
        summary.rows_read,
        summary.rows_refused,
        sessions.len(),
    ));
    if sessions.is_empty() {
        return Err(leaf.error("no session is left, expected at least one"));
    }
    Ok(sessions)
}

fn format(leaf: &Leaf<'_>) -> Result<Format, InputError> {
    let name = leaf.text(FORMAT)?;
    Format::named(name)
        .filter(Format::is_sessions)
        .ok_or_else(|| unknown(leaf, name))
}

fn unknown(leaf: &Leaf<'_>, name: &str) -> InputError {
    let known: Vec<_> = FORMATS
        .iter()
        .filter(|f| f.is_sessions())
        .map(|f| f.name)
        .collect();
    leaf.error(format!("{name:?}, expected one of {}", known.join(", ")))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a whole number of some thousand weeks"
)]
fn weeks(leaf: &Leaf<'_>) -> Result<i64, InputError> {
    let weeks = leaf.number(WEEKS)?;
    if weeks.fract() != 0.0 {
        return Err(leaf.error(format!("{weeks}, expected whole weeks")));
    }
    Ok(weeks as i64)
}
