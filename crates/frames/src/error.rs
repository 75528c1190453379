//! Bad input, named by file and place.

use std::fmt;
use std::path::{Path, PathBuf};

/// Something in a file that is not as it must be.
///
/// Prints as `FILE:LINE: what was met, what was expected`; a scenario key stands after the line, and a Parquet row is
/// named `FILE: row N`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{place}: {what}", file.display())]
pub struct InputError {
    file: PathBuf,
    place: Place,
    what: String,
}

/// Where in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Place {
    /// The file as a whole.
    #[default]
    File,
    /// A line of text, from 1.
    Line(u64),
    /// A data row of a table without lines (Parquet), from 1.
    Row(u64),
    /// A key of a configuration file and the line it stands on, from 1.
    Key(u64, String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ":{line}"),
            Self::Row(row) => write!(f, ": row {row}"),
            Self::Key(line, key) => write!(f, ":{line}: {key}"),
        }
    }
}

impl InputError {
    /// `what` was met, and what was expected, at `place` of `file`.
    pub fn new(file: impl Into<PathBuf>, place: Place, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            place,
            what: what.into(),
        }
    }

    /// About the file as a whole.
    pub fn file(file: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::new(file, Place::File, what)
    }

    /// About one line, from 1.
    pub fn line(file: impl Into<PathBuf>, line: u64, what: impl Into<String>) -> Self {
        Self::new(file, Place::Line(line), what)
    }

    /// The file that is wrong.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Where in the file.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What was met and what was expected, without the place.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }
}
