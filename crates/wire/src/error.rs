//! What can be wrong with a message.

/// A message that could not become a domain value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes are not a message of this type.
    #[error("bytes are not a {message}")]
    Decode {
        /// Type that was expected.
        message: &'static str,
        /// What the decoder met.
        #[source]
        source: prost::DecodeError,
    },
    /// A field without which the message means nothing is absent.
    #[error("{field} is missing")]
    Missing {
        /// Path of the field from the message's root.
        field: String,
    },
    /// A field holds what cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field from the message's root.
        field: String,
        /// The value met and what was expected.
        problem: String,
    },
}

impl WireError {
    pub(crate) fn missing(field: &str) -> Self {
        Self::Missing {
            field: field.to_owned(),
        }
    }

    pub(crate) fn invalid(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// The same error of a message that sits in field `parent` of another one.
    pub(crate) fn inside(self, parent: &str) -> Self {
        match self {
            Self::Decode { .. } => self,
            Self::Missing { field } => Self::Missing {
                field: format!("{parent}.{field}"),
            },
            Self::Invalid { field, problem } => Self::Invalid {
                field: format!("{parent}.{field}"),
                problem,
            },
        }
    }

    /// Path of the field that is wrong; `None` if the bytes did not even decode.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Decode { .. } => None,
            Self::Missing { field } | Self::Invalid { field, .. } => Some(field),
        }
    }
}
