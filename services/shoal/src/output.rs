//! Standard output: text for people, or one JSON document for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::CliError;

/// Where a verb writes its result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// `json`: the user asked for one JSON document.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the user asked for JSON: progress and notes then go to standard error only.
    #[expect(dead_code, reason = "verbs with progress bars ask it")]
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints the result once: `document` as JSON, or the lines of `text`.
    ///
    /// A closed pipe (`shoal ... | head`) is the reader's choice and no error.
    ///
    /// # Errors
    /// Status 1 when standard output cannot be written for another reason.
    pub(crate) fn result(
        self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        let mut body = if self.json {
            serde_json::to_string_pretty(document).map_err(|e| CliError::failed(&e))?
        } else {
            text()
        };
        if !body.ends_with('\n') {
            body.push('\n');
        }
        let mut out = io::stdout().lock();
        match out.write_all(body.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Prints `error: TEXT` to standard error.
    pub(crate) fn error(self, error: &CliError) {
        // Nobody is left to tell when standard error itself is gone.
        let _ = writeln!(io::stderr().lock(), "error: {error}");
    }
}

/// A note for the person at the terminal, to standard error: standard output is for the result.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell when standard error itself is gone.
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
