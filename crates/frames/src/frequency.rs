//! Grid frequency, read when asked for: a day has 86 400 samples.

use std::path::PathBuf;

/// Where the frequency of a scenario stands. The file and its column have been seen to exist; values are read by
/// [`FrequencySource::read`].
#[derive(Debug, Clone, PartialEq)]
pub struct FrequencySource {
    /// Files, in order.
    pub files: Vec<PathBuf>,
    /// Column: Hz, or deviation from 50 Hz in mHz.
    pub column: String,
}
