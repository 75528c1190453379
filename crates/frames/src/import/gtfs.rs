//! Timetables: GTFS zips to the blocks that vehicles drive, one row per service and block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::tally::{Tally, at};
use crate::InputError;
use crate::records::{Records, Row};
use crate::table::{Column, Table, TableError};

/// Unpacked tables of large cities stay below this; more is a mistake or an attack, bytes.
const LARGEST_TABLE: u64 = 2 << 30;
/// Mean radius of the Earth, km (IUGG).
const EARTH_KM: f64 = 6371.0088;
/// `route_type` of buses in GTFS, and the range of the extended types.
const BUS: u32 = 3;
const EXTENDED_BUS: std::ops::RangeInclusive<u32> = 700..=799;

const NOT_A_BUS: &str = "not a bus (route_type)";
const NO_BLOCK: &str = "no block_id";
const NO_TIMES: &str = "no stop times, or a time that is no HH:MM:SS";

/// What one vehicle drives on one day of a service, pull-out and deadheads not included.
#[derive(Debug, Clone, Default)]
struct Block {
    trips: i64,
    /// Seconds from local noon minus 12 h, so more than 24 h after midnight.
    start: i64,
    end: i64,
    driving: i64,
    km: f64,
}

/// A trip by its stops.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trip {
    /// Seconds from local noon minus 12 h.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Straight lines between timed stops, km.
    pub(crate) km: f64,
    /// Way by `shape_dist_traveled`, in the feed's own unit.
    pub(crate) travelled: Option<f64>,
    /// Latitude and longitude of the first and last timed stop, degrees.
    pub(crate) first: Option<(f64, f64)>,
    pub(crate) last: Option<(f64, f64)>,
}

/// One call of a trip at a stop.
#[derive(Debug, Clone, Copy)]
struct Call {
    sequence: u32,
    arrival: i64,
    departure: i64,
    place: Option<(f64, f64)>,
    travelled: Option<f64>,
}

/// Reads the bus trips of `files` and sums them by service and block; the row count of the account is trips.
pub(crate) fn read(files: &[PathBuf], tally: &mut Tally) -> Result<Table, InputError> {
    let mut blocks = BTreeMap::new();
    for file in files {
        let mut archive = open(file)?;
        let buses = buses(&mut archive, file)?;
        let trips = trips(&mut archive, file)?;
        let mut rows = table(&mut archive, file, "trips.txt")?;
        let id = rows.column("trip_id")?;
        let (route, service) = (rows.column("route_id")?, rows.column("service_id")?);
        let block = rows.column("block_id")?;
        while let Some(row) = rows.next()? {
            tally.read();
            match trip(&row, [id, route, block], &buses, &trips) {
                Ok(trip) => {
                    let key = (row.text(service).to_owned(), row.text(block).to_owned());
                    add(blocks.entry(key).or_default(), trip);
                }
                Err(reason) => tally.refuse(reason, &at(&row)),
            }
        }
    }
    let file = files.first().map_or(Path::new(""), PathBuf::as_path);
    into_table(&blocks).map_err(|e| InputError::file(file, e.to_string()))
}

pub(crate) fn open(file: &Path) -> Result<ZipArchive<File>, InputError> {
    let source = File::open(file).map_err(|e| {
        InputError::file(file, format!("cannot be opened ({e}), expected a GTFS zip"))
    })?;
    ZipArchive::new(source).map_err(|e| {
        InputError::file(
            file,
            format!("not readable as zip ({e}), expected a GTFS zip"),
        )
    })
}

/// One table of the feed, unpacked.
pub(crate) fn table(
    archive: &mut ZipArchive<File>,
    file: &Path,
    name: &str,
) -> Result<Records, InputError> {
    let place = file.join(name);
    let entry = archive.by_name(name).map_err(|e| {
        InputError::file(
            &place,
            format!("cannot be read ({e}), expected this table in the zip"),
        )
    })?;
    let mut bytes = Vec::new();
    entry
        .take(LARGEST_TABLE)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            InputError::file(
                &place,
                format!("cannot be unpacked ({e}), expected a complete zip"),
            )
        })?;
    Records::from_reader(&place, Box::new(Cursor::new(bytes)), b',')
}

/// Whether each route is a bus.
pub(crate) fn buses(
    archive: &mut ZipArchive<File>,
    file: &Path,
) -> Result<BTreeMap<String, bool>, InputError> {
    let mut rows = table(archive, file, "routes.txt")?;
    let (id, kind) = (rows.column("route_id")?, rows.column("route_type")?);
    let mut buses = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let kind = row.text(kind).parse::<u32>().ok();
        let bus = kind.is_some_and(|k| k == BUS || EXTENDED_BUS.contains(&k));
        buses.insert(row.text(id).to_owned(), bus);
    }
    Ok(buses)
}

/// Every trip by its stop times; a trip with a time that cannot be read is left out.
pub(crate) fn trips(
    archive: &mut ZipArchive<File>,
    file: &Path,
) -> Result<BTreeMap<String, Trip>, InputError> {
    let mut stops = BTreeMap::new();
    let mut rows = table(archive, file, "stops.txt")?;
    let (id, lat, lon) = (
        rows.column("stop_id")?,
        rows.column("stop_lat")?,
        rows.column("stop_lon")?,
    );
    while let Some(row) = rows.next()? {
        if let (Ok(Some(lat)), Ok(Some(lon))) = (row.number(lat), row.number(lon)) {
            stops.insert(row.text(id).to_owned(), (lat, lon));
        }
    }
    let mut rows = table(archive, file, "stop_times.txt")?;
    let names = [
        "trip_id",
        "stop_sequence",
        "stop_id",
        "arrival_time",
        "departure_time",
    ];
    let [id, sequence, stop, arrival, departure] = names.map(|n| rows.column(n));
    let (id, sequence, stop, arrival, departure) = (id?, sequence?, stop?, arrival?, departure?);
    let travelled = rows.optional("shape_dist_traveled");
    let mut calls = BTreeMap::<String, Option<Vec<Call>>>::new();
    while let Some(row) = rows.next()? {
        let call = call(
            &row,
            [sequence, arrival, departure],
            stops.get(row.text(stop)).copied(),
            travelled.and_then(|c| row.number(c).ok().flatten()),
        );
        let entry = calls
            .entry(row.text(id).to_owned())
            .or_insert_with(|| Some(Vec::new()));
        match (entry.as_mut(), call) {
            (Some(calls), Some(call)) => calls.extend(call.timed()),
            _ => *entry = None,
        }
    }
    let whole = calls
        .into_iter()
        .filter_map(|(id, calls)| Some((id, drive(calls?)?)));
    Ok(whole.collect())
}

/// A row of stop times: timed, or a stop passed between timed ones.
enum StopTime {
    Timed(Call),
    Passed,
}

impl StopTime {
    fn timed(self) -> Option<Call> {
        match self {
            Self::Timed(call) => Some(call),
            Self::Passed => None,
        }
    }
}

fn call(
    row: &Row<'_>,
    columns: [usize; 3],
    place: Option<(f64, f64)>,
    travelled: Option<f64>,
) -> Option<StopTime> {
    let [sequence, arrival, departure] = columns.map(|c| row.text(c));
    if arrival.is_empty() && departure.is_empty() {
        return Some(StopTime::Passed);
    }
    let (arrival, departure) = match (arrival, departure) {
        ("", only) | (only, "") => (only, only),
        both => both,
    };
    Some(StopTime::Timed(Call {
        sequence: sequence.parse().ok()?,
        arrival: seconds(arrival)?,
        departure: seconds(departure)?,
        place,
        travelled,
    }))
}

/// `HH:MM:SS`, hours may exceed 24.
fn seconds(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(|p| p.trim().parse::<u16>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = hours < 168 && minutes < 60 && seconds < 60 && parts.next().is_none();
    valid.then(|| i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds))
}

fn drive(mut calls: Vec<Call>) -> Option<Trip> {
    calls.sort_by_key(|c| c.sequence);
    let (first, last) = (*calls.first()?, *calls.last()?);
    let (start, end) = (first.departure, last.arrival);
    let legs = calls
        .windows(2)
        .filter_map(|pair| Some(distance_km(pair[0].place?, pair[1].place?)));
    let way = || Some(last.travelled? - first.travelled?);
    (end > start).then(|| Trip {
        start,
        end,
        km: legs.sum(),
        travelled: way().filter(|way| way.is_finite() && *way > 0.0),
        first: first.place,
        last: last.place,
    })
}

/// Great-circle distance by the haversine formula, degrees in, km out.
pub(crate) fn distance_km((lat_a, lon_a): (f64, f64), (lat_b, lon_b): (f64, f64)) -> f64 {
    let (phi_a, phi_b) = (lat_a.to_radians(), lat_b.to_radians());
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let h = half(lat_a, lat_b) + phi_a.cos() * phi_b.cos() * half(lon_a, lon_b);
    2.0 * EARTH_KM * h.min(1.0).sqrt().asin()
}

fn trip(
    row: &Row<'_>,
    [id, route, block]: [usize; 3],
    buses: &BTreeMap<String, bool>,
    trips: &BTreeMap<String, Trip>,
) -> Result<Trip, &'static str> {
    if !buses.get(row.text(route)).copied().unwrap_or(false) {
        return Err(NOT_A_BUS);
    }
    if row.text(block).is_empty() {
        return Err(NO_BLOCK);
    }
    trips.get(row.text(id)).copied().ok_or(NO_TIMES)
}

fn add(block: &mut Block, trip: Trip) {
    let first = block.trips == 0;
    block.start = if first {
        trip.start
    } else {
        block.start.min(trip.start)
    };
    block.end = if first {
        trip.end
    } else {
        block.end.max(trip.end)
    };
    block.trips += 1;
    block.driving += trip.end - trip.start;
    block.km += trip.km;
}

fn clock(seconds: i64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of a service are far below 2^53"
)]
fn into_table(blocks: &BTreeMap<(String, String), Block>) -> Result<Table, TableError> {
    let hours = |seconds: i64| seconds as f64 / 3600.0;
    let mut table = Table::new()
        .with(
            "service_id",
            Column::texts(blocks.keys().map(|k| k.0.as_str())),
        )?
        .with(
            "block_id",
            Column::texts(blocks.keys().map(|k| k.1.as_str())),
        )?
        .with("trips", Column::ints(blocks.values().map(|b| b.trips)))?
        .with(
            "start_local",
            Column::texts(blocks.values().map(|b| clock(b.start))),
        )?
        .with(
            "end_local",
            Column::texts(blocks.values().map(|b| clock(b.end))),
        )?
        .with(
            "span_hours",
            Column::floats(blocks.values().map(|b| hours(b.end - b.start))),
        )?
        .with(
            "driving_hours",
            Column::floats(blocks.values().map(|b| hours(b.driving))),
        )?
        .with(
            "straight_km",
            Column::floats(blocks.values().map(|b| (b.km * 1e3).round() / 1e3)),
        )?;
    let note = "straight lines between timed stops, without pull-out and deadheads; clocks run past 24:00:00";
    table.notes.insert("distance".to_owned(), note.to_owned());
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_past_midnight() {
        assert_eq!(seconds("25:10:05"), Some(90_605));
        assert_eq!(clock(90_605), "25:10:05");
        for bad in ["", "10:60:00", "10:00", "10:00:00:00", "-1:00:00"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_degree_of_latitude_is_111_km() {
        assert!((distance_km((52.0, 4.0), (53.0, 4.0)) - 111.195).abs() < 0.01);
    }
}
