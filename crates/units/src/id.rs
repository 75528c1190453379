//! Names of things that are not ours.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name given by somebody else (a charge point, a vehicle, a site, a bid), 1 to 64 printable characters.
///
/// Cheap to clone. Domain crates wrap it in a type of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

impl Ord for Id {
    /// In order of the text; clones of one name are told equal without a look at it.
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            Ordering::Equal
        } else {
            self.0.cmp(&other.0)
        }
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A name that is empty, too long or unprintable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("identifier {0:?} is not 1 to 64 printable ASCII characters")]
pub struct IdError(pub String);

impl Id {
    const LONGEST: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b));
        if name.is_empty() || name.len() > Self::LONGEST || !printable {
            return Err(IdError(name.chars().take(80).collect()));
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;
    fn try_from(name: String) -> Result<Self, IdError> {
        name.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
