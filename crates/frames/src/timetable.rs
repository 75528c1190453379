//! GTFS timetables: the blocks that buses drive on given days, with their kilometres.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use units::local_instant;

use crate::InputError;
use crate::import::gtfs::{self, Trip};

/// Way by road over the straight line between consecutive stops: 1.05 in the Portland and 1.14 in the Seattle feed
/// (medians over trips), 1.1 between them.
pub const ROAD_FACTOR: f64 = 1.1;
/// Units met in `shape_dist_traveled`, which GTFS leaves open, in km: metre, kilometre, foot, mile.
const LENGTHS: [f64; 4] = [0.001, 1.0, 0.000_304_8, 1.609_344];
/// Trips shorter than this, km, say nothing about the unit.
const TELLING_KM: f64 = 1.0;

/// A block on one day of service.
#[derive(Debug, Clone, PartialEq)]
pub struct DayBlock {
    /// `DATE/BLOCK`, the date being the scenario's.
    pub name: String,
    /// The feed's `block_id`.
    pub block_id: String,
    /// Start of its first trip.
    pub leaves: DateTime<Utc>,
    /// End of its last trip, on the day after if it runs past 24:00.
    pub returns: DateTime<Utc>,
    /// By road, with the ways between its trips; pull-out and pull-in are not in the feed.
    pub km: f64,
}

/// Bus trips with a block, and the days they run.
#[derive(Debug, Clone)]
pub struct Timetable {
    file: PathBuf,
    /// Trips by service and block.
    trips: BTreeMap<String, BTreeMap<String, Vec<Trip>>>,
    weeks: Vec<Week>,
    exceptions: BTreeMap<(NaiveDate, String), bool>,
    km_per_unit: Option<f64>,
}

#[derive(Debug, Clone)]
struct Week {
    service: String,
    days: [bool; 7],
    from: NaiveDate,
    /// Last day of service.
    to: NaiveDate,
}

impl Timetable {
    /// Reads the bus trips (`route_type` 3 and 700 to 799) that have a block.
    ///
    /// # Errors
    /// [`InputError`] naming the table of the zip that is missing or not as GTFS says, or a feed without any bus block.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let mut archive = gtfs::open(file)?;
        let buses = gtfs::buses(&mut archive, file)?;
        let all = gtfs::trips(&mut archive, file)?;
        let mut rows = gtfs::table(&mut archive, file, "trips.txt")?;
        let names = ["trip_id", "route_id", "service_id", "block_id"].map(|n| rows.column(n));
        let [id, route, service, block] = names;
        let columns = [id?, route?, service?, block?];
        let mut trips = BTreeMap::<String, BTreeMap<String, Vec<Trip>>>::new();
        let mut used = Vec::new();
        while let Some(row) = rows.next()? {
            let [id, route, service, block] = columns.map(|c| row.text(c));
            let bus = buses.get(route).copied().unwrap_or(false) && !block.is_empty();
            if let (true, Some(trip)) = (bus, all.get(id)) {
                let services = trips.entry(service.to_owned()).or_default();
                services.entry(block.to_owned()).or_default().push(*trip);
                used.push(*trip);
            }
        }
        if used.is_empty() {
            return Err(InputError::file(
                file.join("trips.txt"),
                "no bus trip with block_id and stop times, expected blocks that buses drive",
            ));
        }
        let weeks = weeks(&mut archive, file)?;
        let exceptions = exceptions(&mut archive, file, weeks.is_empty())?;
        Ok(Self {
            file: file.to_owned(),
            trips,
            weeks,
            exceptions,
            km_per_unit: km_per_unit(&used),
        })
    }

    /// The zip.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn runs(&self, service: &str, date: NaiveDate) -> bool {
        let day = date.weekday().num_days_from_monday() as usize;
        let exception = self.exceptions.get(&(date, service.to_owned()));
        exception.copied().unwrap_or_else(|| {
            self.weeks
                .iter()
                .any(|w| w.service == service && w.days[day] && (w.from..=w.to).contains(&date))
        })
    }

    /// Whether any bus runs on `date` of the feed.
    #[must_use]
    pub fn serves(&self, date: NaiveDate) -> bool {
        self.trips.keys().any(|s| self.runs(s, date))
    }

    /// First and last day named in the feed's calendar.
    #[must_use]
    pub fn span(&self) -> Option<(NaiveDate, NaiveDate)> {
        let named = self.exceptions.keys().map(|k| k.0);
        let from = self
            .weeks
            .iter()
            .map(|w| w.from)
            .chain(named.clone())
            .min()?;
        Some((from, self.weeks.iter().map(|w| w.to).chain(named).max()?))
    }

    /// Whole weeks to add to the feed's dates so that it serves `from..to`: none if it serves any of these days, else
    /// those that serve most of them, the earliest dates of the feed first.
    ///
    /// # Errors
    /// [`InputError`] if no bus runs on any day.
    pub fn weeks_to(&self, from: NaiveDate, to: NaiveDate) -> Result<i64, InputError> {
        let days: Vec<_> = from.iter_days().take_while(|d| *d < to).collect();
        let served = |weeks: i64| {
            let moved = |d: &&NaiveDate| self.serves(**d - TimeDelta::weeks(weeks));
            days.iter().filter(moved).count()
        };
        if served(0) > 0 {
            return Ok(0);
        }
        let nothing = || {
            InputError::file(
                self.file.join("calendar.txt"),
                "no bus runs on any day of the calendar, expected days of service",
            )
        };
        let (first, last) = self.span().ok_or_else(nothing)?;
        let latest = (from - first).num_days().div_euclid(7) + 1;
        let earliest = (from - last).num_days().div_euclid(7);
        let best = (earliest..=latest).rev().max_by_key(|w| (served(*w), *w));
        best.filter(|w| served(*w) > 0).ok_or_else(nothing)
    }

    /// The blocks of one day, the feed's dates moved by `weeks`; clocks are those of `zone`. Order of `block_id`.
    #[must_use]
    pub fn day(&self, date: NaiveDate, weeks: i64, zone: Tz) -> Vec<DayBlock> {
        let own = date - TimeDelta::weeks(weeks);
        let mut blocks = BTreeMap::<&str, Vec<Trip>>::new();
        for (_, services) in self.trips.iter().filter(|(s, _)| self.runs(s, own)) {
            for (block, trips) in services {
                blocks.entry(block).or_default().extend(trips);
            }
        }
        // GTFS counts from noon minus 12 hours, so that a change of clocks in the night moves no trip.
        let origin = local_instant(zone, date.and_time(NaiveTime::MIN) + TimeDelta::hours(12))
            - TimeDelta::hours(12);
        let at = |seconds: i64| origin + TimeDelta::seconds(seconds);
        let block = |(id, mut trips): (&str, Vec<Trip>)| {
            trips.sort_by_key(|t| (t.start, t.end));
            Some(DayBlock {
                name: format!("{date}/{id}"),
                block_id: id.to_owned(),
                leaves: at(trips.first()?.start),
                returns: at(trips.iter().map(|t| t.end).max()?),
                km: self.km(&trips),
            })
        };
        blocks.into_iter().filter_map(block).collect()
    }

    /// By road: `shape_dist_traveled` where given, else straight lines times [`ROAD_FACTOR`]; so too between trips.
    fn km(&self, trips: &[Trip]) -> f64 {
        let driven = trips.iter().map(|t| match (t.travelled, self.km_per_unit) {
            (Some(way), Some(unit)) => way * unit,
            _ => t.km * ROAD_FACTOR,
        });
        let between = trips.windows(2).filter_map(|pair| {
            Some(gtfs::distance_km(pair[0].last?, pair[1].first?) * ROAD_FACTOR)
        });
        driven.chain(between).sum()
    }
}

/// The unit of `shape_dist_traveled`: of those in use, the one nearest to what the straight lines say.
fn km_per_unit(trips: &[Trip]) -> Option<f64> {
    let telling = trips.iter().filter(|t| t.km > TELLING_KM);
    let mut ratios: Vec<_> = telling
        .filter_map(|t| Some(t.km * ROAD_FACTOR / t.travelled?))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let measured = *ratios.get(ratios.len() / 2)?;
    let off = |unit: &f64| (measured / unit).ln().abs();
    LENGTHS.into_iter().min_by(|a, b| off(a).total_cmp(&off(b)))
}

type Archive = zip::ZipArchive<std::fs::File>;

fn has(archive: &Archive, name: &str) -> bool {
    archive.file_names().any(|n| n == name)
}

fn date(row: &crate::records::Row<'_>, column: usize) -> Result<NaiveDate, InputError> {
    let text = row.text(column);
    let date = NaiveDate::parse_from_str(text, "%Y%m%d").ok();
    date.filter(|d| (1900..2200).contains(&d.year()))
        .ok_or_else(|| row.error(format!("{text:?}, expected a date as in 20180131")))
}

/// `calendar.txt`, which a feed may leave out if `calendar_dates.txt` names every day.
fn weeks(archive: &mut Archive, file: &Path) -> Result<Vec<Week>, InputError> {
    if !has(archive, "calendar.txt") && has(archive, "calendar_dates.txt") {
        return Ok(Vec::new());
    }
    let mut rows = gtfs::table(archive, file, "calendar.txt")?;
    let service = rows.column("service_id")?;
    let (from, to) = (rows.column("start_date")?, rows.column("end_date")?);
    let names = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let mut columns = [0; 7];
    for (column, name) in columns.iter_mut().zip(names) {
        *column = rows.column(name)?;
    }
    let mut weeks = Vec::new();
    while let Some(row) = rows.next()? {
        weeks.push(Week {
            service: row.text(service).to_owned(),
            days: columns.map(|c| row.text(c) == "1"),
            from: date(&row, from)?,
            to: date(&row, to)?,
        });
    }
    Ok(weeks)
}

/// `calendar_dates.txt`: days on which a service runs in addition, or does not.
fn exceptions(
    archive: &mut Archive,
    file: &Path,
    needed: bool,
) -> Result<BTreeMap<(NaiveDate, String), bool>, InputError> {
    let mut exceptions = BTreeMap::new();
    if !needed && !has(archive, "calendar_dates.txt") {
        return Ok(exceptions);
    }
    let mut rows = gtfs::table(archive, file, "calendar_dates.txt")?;
    let names = ["service_id", "date", "exception_type"].map(|n| rows.column(n));
    let [service, day, kind] = names;
    let (service, day, kind) = (service?, day?, kind?);
    while let Some(row) = rows.next()? {
        let runs = match row.text(kind) {
            "1" => true,
            "2" => false,
            other => {
                let what = format!("exception_type {other:?}, expected 1 (added) or 2 (removed)");
                return Err(row.error(what));
            }
        };
        exceptions.insert((date(&row, day)?, row.text(service).to_owned()), runs);
    }
    Ok(exceptions)
}

/// Names of distinct blocks, for messages.
#[must_use]
pub fn block_ids(blocks: &[DayBlock]) -> BTreeSet<&str> {
    blocks.iter().map(|b| b.block_id.as_str()).collect()
}
