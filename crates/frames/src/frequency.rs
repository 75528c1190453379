//! Grid frequency, read when asked for: a day has 86 400 samples.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::InputError;
use crate::records::Records;

/// Nominal frequency of the systems whose data are read, Hz.
const NOMINAL_HZ: f64 = 50.0;
/// A value this near to nominal is Hz and not a deviation in mHz, Hz. Grids disconnect long before.
const PLAUSIBLE_HZ: f64 = 10.0;
const START_COLUMNS: [&str; 3] = ["utc", "utc_start", "start"];

/// Where the frequency of a scenario stands. The file and its column have been seen to exist; values are read by
/// [`FrequencySource::read`].
#[derive(Debug, Clone, PartialEq)]
pub struct FrequencySource {
    /// Files, in order.
    pub files: Vec<PathBuf>,
    /// Column: Hz, or deviation from 50 Hz in mHz.
    pub column: String,
}

/// What a column of frequencies is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hertz,
    DeviationMillihertz,
}

impl FrequencySource {
    /// Looks that the files and the column exist.
    pub(crate) fn try_new(files: Vec<PathBuf>, column: String) -> Result<Self, InputError> {
        for file in &files {
            let records = Records::open(file)?;
            records.one_of(&START_COLUMNS)?;
            records.column(&column)?;
        }
        Ok(Self { files, column })
    }

    /// Samples in `[from, to)`: instant and deviation from 50 Hz in mHz, in order of time. Missing seconds are left
    /// out, not filled.
    ///
    /// The unit follows from the column's name (`..._mhz`, `..._hz`), else from the first value: near 50 it is Hz.
    ///
    /// # Errors
    /// [`InputError`] at the row that cannot be read or that repeats an instant.
    pub fn read(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<(DateTime<Utc>, f64)>, InputError> {
        let mut samples = Vec::new();
        for file in &self.files {
            let mut records = Records::open(file)?;
            let start = records.one_of(&START_COLUMNS)?;
            let column = records.column(&self.column)?;
            let mut unit = self.unit_by_name();
            while let Some(row) = records.next()? {
                let at = row.instant(start)?;
                let Some(value) = row.number(column)? else {
                    continue;
                };
                let unit = *unit.get_or_insert_with(|| unit_by_value(value));
                if at >= from && at < to {
                    samples.push((at, deviation_mhz(value, unit)));
                }
            }
        }
        samples.sort_by_key(|(at, _)| *at);
        if let Some(pair) = samples.windows(2).find(|p| p[0].0 == p[1].0) {
            let file = self.files.first().cloned().unwrap_or_default();
            let what = format!("a second sample for {:?}, expected one", pair[0].0);
            return Err(InputError::file(file, what));
        }
        Ok(samples)
    }

    fn unit_by_name(&self) -> Option<Unit> {
        let name = self.column.to_ascii_lowercase();
        if name.ends_with("_mhz") {
            Some(Unit::DeviationMillihertz)
        } else if name.ends_with("_hz") {
            Some(Unit::Hertz)
        } else {
            None
        }
    }
}

fn unit_by_value(value: f64) -> Unit {
    if (value - NOMINAL_HZ).abs() < PLAUSIBLE_HZ {
        Unit::Hertz
    } else {
        Unit::DeviationMillihertz
    }
}

fn deviation_mhz(value: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Hertz => (value - NOMINAL_HZ) * 1000.0,
        Unit::DeviationMillihertz => value,
    }
}
