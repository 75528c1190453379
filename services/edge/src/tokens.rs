//! Who may charge: a list kept here, or everybody whom the operator's own system lets charge.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::listing::{self, Stamp};

/// Longest token, OCPP 2.1 `IdTokenType.idToken`.
const LONGEST: usize = 255;

/// A file of tokens that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// It cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line that is no token. Tokens belong to people and are not repeated.
    #[error("{}:{line}: expected one token of at most {LONGEST} characters without spaces", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
    },
}

/// Tokens that may charge.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    list: Option<List>,
}

struct List {
    path: PathBuf,
    known: Mutex<Known>,
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {}", self.path.display())
    }
}

#[derive(Default)]
struct Known {
    changed: Option<Stamp>,
    tokens: HashSet<String>,
}

impl Tokens {
    /// Reads the list; without one every token is accepted.
    ///
    /// # Errors
    /// [`TokensError`] naming the file and the line.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, TokensError> {
        let list = path.map(|path| List {
            path: path.to_owned(),
            known: Mutex::default(),
        });
        let tokens = Self { list };
        tokens.reload()?;
        Ok(tokens)
    }

    /// Reads the list again if it changed since.
    ///
    /// # Errors
    /// [`TokensError`]; what was known stays.
    pub(crate) fn reload(&self) -> Result<(), TokensError> {
        let Some(List { path, known }) = &self.list else {
            return Ok(());
        };
        let read = |source| TokensError::Read {
            path: path.clone(),
            source,
        };
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let read_before = lock().changed;
        let Some((stamp, text)) = listing::changed(path, read_before).map_err(read)? else {
            return Ok(());
        };
        let (changed, tokens) = (Some(stamp), parse(path, &text)?);
        *lock() = Known { changed, tokens };
        Ok(())
    }

    /// True if that token may charge. Tokens are told apart without regard to case, OCPP 1.6 `CiString20Type`, OCPP 2.1
    /// `identifierString`.
    pub(crate) fn allow(&self, token: &str) -> bool {
        let Some(list) = &self.list else {
            return true;
        };
        let known = list.known.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = known.tokens.contains(&token.to_lowercase());
        if !allowed {
            metrics::counter!("shoal_edge_tokens_refused_total").increment(1);
        }
        allowed
    }
}

/// One token per line.
pub(crate) fn parse(path: &Path, text: &str) -> Result<HashSet<String>, TokensError> {
    let mut tokens = HashSet::new();
    for (line, token) in listing::entries(text) {
        if token.len() > LONGEST || token.contains(char::is_whitespace) {
            return Err(TokensError::Line {
                path: path.to_owned(),
                line,
            });
        }
        tokens.insert(token.to_lowercase());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_list_everybody_charges_and_with_one_those_on_it() {
        assert!(Tokens::default().allow("anybody"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# depot\n\nBus-17\n").unwrap();
        let tokens = Tokens::open(Some(file.path())).unwrap();
        assert!(tokens.allow("bus-17") && tokens.allow("BUS-17"));
        assert!(!tokens.allow("bus-18"));
        std::fs::write(file.path(), "bus-18 and-more").unwrap();
        let error = tokens.reload().unwrap_err().to_string();
        assert!(error.contains(":1: ") && !error.contains("bus"), "{error}");
        assert!(tokens.allow("bus-17"), "what was known stays");
        std::fs::write(file.path(), "bus-18").unwrap();
        tokens.reload().unwrap();
        assert!(tokens.allow("bus-18") && !tokens.allow("bus-17"));
    }
}
