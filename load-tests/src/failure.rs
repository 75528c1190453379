//! Why a verb did not finish, and the exit status that this deserves.

/// The text is printed as `error: TEXT` on standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Bad usage or bad input, status 2.
    #[error("{0}")]
    Input(String),
    /// The run failed for another reason, status 1.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// Exit status of the process.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Failed(_) => 1,
        }
    }

    /// A failure with its chain of causes, after what was tried.
    pub(crate) fn of(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Failed(text)
    }
}
