//! Foreign files to canonical tables. Every row read is kept or refused, and every refusal has its reason.

mod assume;
mod blocks;
mod clock;
mod convert;
mod energy_charts;
mod entsoe_csv;
mod entsoe_xml;
pub(crate) mod gtfs;
mod series;
pub(crate) mod sessions;
mod smard;
mod tally;

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use chrono_tz::Tz;

pub use assume::{Assume, AssumeError};
pub use tally::{Count, Summary};

use crate::InputError;
use crate::sessions::Session;
use crate::table::Table;

/// What the user asked for besides the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the source does not know.
    pub assume: Assume,
    /// Zone of clocks without offset, instead of the format's own.
    pub zone: Option<Tz>,
    /// Zone in which shifted sessions keep their local clock, and of `from` and `to`; the zone of the source if `None`.
    pub to_zone: Option<Tz>,
    /// Whole weeks that sessions move, keeping weekday and local clock.
    pub shift_weeks: i64,
    /// First local date kept.
    pub from: Option<NaiveDate>,
    /// First local date no longer kept.
    pub to: Option<NaiveDate>,
}

/// A converted table and what became of the rows.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Canonical sessions, a series with `utc_start` and value columns, or blocks. Its notes say what was assumed.
    pub table: Table,
    /// Rows read, kept, repaired and refused.
    pub summary: Summary,
}

/// A foreign format.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Name on the command line.
    pub name: &'static str,
    /// What it reads.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Sessions(sessions::Layout),
    Series(fn(&[PathBuf], &mut tally::Tally) -> Result<series::Series, InputError>),
    Blocks(fn(&[PathBuf], &mut tally::Tally) -> Result<Table, InputError>),
}

const fn stays(name: &'static str, about: &'static str, layout: sessions::Layout) -> Format {
    Format {
        name,
        about,
        kind: Kind::Sessions(layout),
    }
}

/// All formats, in the order of the help.
pub const FORMATS: [Format; 16] = [
    stays(
        "acn",
        "sessions: ACN-Data (Caltech, JPL) as CSV",
        sessions::ACN,
    ),
    stays(
        "elaad",
        "sessions: ElaadNL public charge points",
        sessions::ELAAD,
    ),
    stays(
        "boulder",
        "sessions: City of Boulder public charging",
        sessions::BOULDER,
    ),
    stays(
        "dundee",
        "sessions: Dundee public charging",
        sessions::DUNDEE,
    ),
    stays(
        "norway",
        "sessions: Norwegian residential garages",
        sessions::NORWAY,
    ),
    Format {
        name: "prices",
        about: "series: CSV with utc_start and price columns",
        kind: Kind::Series(series::read_distinct),
    },
    Format {
        name: "reserves",
        about: "series: CSV with utc_start and reserve columns, also one row per product",
        kind: Kind::Series(series::read_distinct),
    },
    Format {
        name: "frequency",
        about: "series: CSV with utc and one-second frequency, Hz or deviation in mHz",
        kind: Kind::Series(series::read_frequency),
    },
    Format {
        name: "regelleistung-fcr",
        about: "series: FCR result table of regelleistung.net, per MW and block",
        kind: Kind::Series(blocks::read_distinct),
    },
    Format {
        name: "regelleistung-afrr",
        about: "series: aFRR capacity result or tender table of regelleistung.net",
        kind: Kind::Series(blocks::read_distinct),
    },
    Format {
        name: "regelleistung-bids",
        about: "series: anonymous bid ladder of regelleistung.net, equal bids kept",
        kind: Kind::Series(blocks::read_ladder),
    },
    Format {
        name: "entsoe-xml",
        about: "series: ENTSO-E day-ahead prices (Publication_MarketDocument)",
        kind: Kind::Series(entsoe_xml::read),
    },
    Format {
        name: "entsoe-csv",
        about: "series: day-ahead prices as exported by the ENTSO-E Transparency Platform",
        kind: Kind::Series(entsoe_csv::read),
    },
    Format {
        name: "smard-csv",
        about: "series: download of SMARD.de, German or English",
        kind: Kind::Series(smard::read),
    },
    Format {
        name: "energy-charts-json",
        about: "series: prices of api.energy-charts.info",
        kind: Kind::Series(energy_charts::read),
    },
    Format {
        name: "gtfs",
        about: "timetable: GTFS zip to the blocks its buses drive, with hours and straight-line km",
        kind: Kind::Blocks(gtfs::read),
    },
];

impl Format {
    /// The format called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FORMATS.into_iter().find(|f| f.name == name)
    }

    /// Whether it reads sessions, to which assumptions and shifts apply.
    #[must_use]
    pub const fn is_sessions(&self) -> bool {
        matches!(self.kind, Kind::Sessions(_))
    }

    /// Reads sessions as the source tells them, with nothing assumed; `None` for a format of something else.
    ///
    /// # Errors
    /// [`InputError`] for a file that cannot be read at all, as in [`Format::read`].
    pub(crate) fn stays(
        &self,
        files: &[PathBuf],
        zone: Option<Tz>,
    ) -> Option<Result<(Vec<sessions::Stay>, Summary), InputError>> {
        let Kind::Sessions(layout) = self.kind else {
            return None;
        };
        let mut tally = tally::Tally::default();
        let stays = layout.read(files, zone, &mut tally);
        Some(stays.map(|stays| {
            for stay in &stays {
                for repair in &stay.repairs {
                    tally.repair(repair, &stay.at);
                }
            }
            (stays, tally.into_summary())
        }))
    }

    /// Canonical sessions of `files`, completed as [`Format::read`] would; `None` for a format of something else.
    ///
    /// # Errors
    /// [`InputError`] for a file that cannot be read at all, as in [`Format::read`].
    pub(crate) fn sessions(
        &self,
        files: &[PathBuf],
        options: &Options,
    ) -> Option<Result<(Vec<Session>, Summary), InputError>> {
        let Kind::Sessions(layout) = self.kind else {
            return None;
        };
        let mut tally = tally::Tally::default();
        let stays = layout.read(files, options.zone, &mut tally);
        Some(stays.map(|stays| {
            let zone = options.zone.unwrap_or(layout.zone);
            let (done, _) = convert::completed(stays, self.name, zone, options, &mut tally);
            (done, tally.into_summary())
        }))
    }

    /// Reads `files` in order.
    ///
    /// # Errors
    /// [`InputError`] for a file that cannot be read at all (missing, truncated, a column that is not there). Rows that
    /// cannot be used are refused and counted instead.
    pub fn read(&self, files: &[PathBuf], options: &Options) -> Result<Imported, InputError> {
        let mut tally = tally::Tally::default();
        let table = match self.kind {
            Kind::Sessions(layout) => {
                let stays = layout.read(files, options.zone, &mut tally)?;
                let zone = options.zone.unwrap_or(layout.zone);
                convert::sessions(stays, self.name, zone, options, &mut tally)
            }
            Kind::Series(read) => {
                let zone = options.to_zone.or(options.zone).unwrap_or(Tz::UTC);
                let mut series = read(files, &mut tally)?;
                series.keep(zone, options.from, options.to, &mut tally);
                series.into_table()
            }
            Kind::Blocks(read) => Ok(read(files, &mut tally)?),
        };
        let whole = files.first().map_or(Path::new(""), PathBuf::as_path);
        let table = table.map_err(|e| InputError::file(whole, e.to_string()))?;
        let summary = tally.into_summary();
        Ok(Imported { table, summary })
    }
}
