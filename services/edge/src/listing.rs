//! Files with an entry a line, read again when they change.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// When a file was written, and its length: two writings within one tick of the clock seldom have the same length.
pub(crate) type Stamp = (SystemTime, u64);

/// The text of a file with its stamp, unless that is the one `known`.
///
/// # Errors
/// What the system says.
pub(crate) fn changed(path: &Path, known: Option<Stamp>) -> io::Result<Option<(Stamp, String)>> {
    let meta = std::fs::metadata(path)?;
    let stamp = (meta.modified()?, meta.len());
    if known == Some(stamp) {
        return Ok(None);
    }
    Ok(Some((stamp, std::fs::read_to_string(path)?)))
}

/// Entries with the numbers of their lines. Empty lines and those that begin with `#` say nothing.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
