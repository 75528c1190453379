//! More canonical sessions than memory should hold: one at a time from a Parquet file, with numbers for names.

use std::collections::HashMap;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::COLUMNS;
use crate::table::{Column, Table};
use crate::{InputError, Place};

/// Rows decoded at a time.
const ROWS: usize = 1 << 18;

/// A session as a forecaster needs it. Names are numbers in order of their first sight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stay {
    /// Connector.
    pub evse: u32,
    /// Vehicle.
    pub vehicle: u32,
    /// Site, a place among the names that [`each`] gives back.
    pub site: u32,
    /// Arrival.
    pub plug_in: DateTime<Utc>,
    /// Departure, after `plug_in`.
    pub plug_out: DateTime<Utc>,
    /// What it took to the required level, kWh; all of that level where the one at arrival is unknown.
    pub energy_kwh: f64,
    /// Most power drawn, kW, not negative.
    pub max_charge_kw: f64,
    /// Most power fed back, kW, not negative.
    pub max_discharge_kw: f64,
}

/// Hands every session of a Parquet file to `take`, in the order of the file, and gives back the names of the sites. Names of sessions
/// are not looked at: whoever takes the stays drops what is told twice.
///
/// # Errors
/// [`InputError`] at the first row that is not a possible session, and as [`Table::read_parquet_parts`] gives it.
pub fn each(file: &Path, take: &mut dyn FnMut(Stay, &str)) -> Result<Vec<String>, InputError> {
    let mut names: [Names; 3] = Default::default();
    Table::read_parquet_parts(file, &WANTED, ROWS, &mut |from, part| {
        let columns = Columns::of(part).map_err(|what| InputError::file(file, what))?;
        for row in 0..part.rows() {
            let stay = columns.stay(row, &mut names).map_err(|what| {
                let place = Place::Row((from + row + 1).try_into().unwrap_or(u64::MAX));
                InputError::new(file, place, what)
            })?;
            let site = columns.names[2][row].as_deref().unwrap_or_default();
            take(stay, site);
        }
        Ok(())
    })?;
    let [_, _, sites] = names;
    let mut sites: Vec<(String, u32)> = sites.0.into_iter().collect();
    sites.sort_by_key(|s| s.1);
    Ok(sites.into_iter().map(|s| s.0).collect())
}

const WANTED: [&str; 9] = [
    COLUMNS[1],
    COLUMNS[2],
    COLUMNS[3],
    COLUMNS[4],
    COLUMNS[5],
    COLUMNS[6],
    COLUMNS[7],
    COLUMNS[9],
    COLUMNS[10],
];

/// Numbers for names, in order of their first sight.
#[derive(Default)]
struct Names(HashMap<String, u32>);

impl Names {
    fn of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(name.to_owned(), number);
        number
    }
}

/// The columns of a part, each of its type.
struct Columns<'a> {
    names: [&'a [Option<String>]; 3],
    instants: [&'a [Option<DateTime<Utc>>]; 2],
    /// Level at arrival and at departure, kWh, and powers, kW.
    amounts: [&'a [Option<f64>]; 4],
}

impl<'a> Columns<'a> {
    fn of(part: &'a Table) -> Result<Self, String> {
        Ok(Self {
            names: [
                texts(part, WANTED[0])?,
                texts(part, WANTED[1])?,
                texts(part, WANTED[2])?,
            ],
            instants: [instants(part, WANTED[3])?, instants(part, WANTED[4])?],
            amounts: [
                floats(part, WANTED[5])?,
                floats(part, WANTED[6])?,
                floats(part, WANTED[7])?,
                floats(part, WANTED[8])?,
            ],
        })
    }

    fn stay(&self, row: usize, names: &mut [Names; 3]) -> Result<Stay, String> {
        let text = |column: usize| self.names[column][row].as_deref().unwrap_or_default();
        let instant = |column: usize| {
            let missing = || format!("{} is missing, expected an instant", WANTED[3 + column]);
            self.instants[column][row].ok_or_else(missing)
        };
        let amount = |column: usize| match self.amounts[column][row] {
            Some(value) if value.is_finite() && value >= 0.0 => Ok(value),
            Some(value) => Err(format!(
                "{} is {value}, expected zero or more",
                WANTED[5 + column]
            )),
            None => Err(format!(
                "{} is missing, expected a number",
                WANTED[5 + column]
            )),
        };
        if text(0).is_empty() || text(1).is_empty() {
            return Err("evse_id and vehicle_id: one is missing, expected a name".to_owned());
        }
        let (plug_in, plug_out) = (instant(0)?, instant(1)?);
        if plug_out <= plug_in {
            return Err(format!(
                "plug_out {plug_out} is not after plug_in {plug_in}, expected a later departure"
            ));
        }
        let arrival = match self.amounts[0][row] {
            None => 0.0,
            Some(_) => amount(0)?,
        };
        Ok(Stay {
            evse: names[0].of(text(0)),
            vehicle: names[1].of(text(1)),
            site: names[2].of(text(2)),
            plug_in,
            plug_out,
            energy_kwh: (amount(1)? - arrival).max(0.0),
            max_charge_kw: amount(2)?,
            max_discharge_kw: amount(3)?,
        })
    }
}

fn texts<'a>(part: &'a Table, name: &str) -> Result<&'a [Option<String>], String> {
    match part.column(name) {
        Some(Column::Text(values)) => Ok(values),
        _ => Err(format!("column {name} holds no text")),
    }
}

fn floats<'a>(part: &'a Table, name: &str) -> Result<&'a [Option<f64>], String> {
    match part.column(name) {
        Some(Column::Float(values)) => Ok(values),
        _ => Err(format!("column {name} holds no numbers with a fraction")),
    }
}

fn instants<'a>(part: &'a Table, name: &str) -> Result<&'a [Option<DateTime<Utc>>], String> {
    match part.column(name) {
        Some(Column::Instant(values)) => Ok(values),
        _ => Err(format!("column {name} holds no instants")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Session, write};
    use super::*;

    fn session(number: i64) -> Session {
        let plug_in = DateTime::from_timestamp(1_700_000_000 + 600 * number, 0).unwrap();
        Session {
            session_id: format!("s{number}"),
            evse_id: format!("e{}", number % 3),
            vehicle_id: format!("v{}", number % 2),
            site_id: "north".into(),
            plug_in,
            plug_out: plug_in + chrono::TimeDelta::hours(2),
            energy_arrival_kwh: (number != 1).then_some(10.0),
            energy_required_kwh: 25.0,
            capacity_kwh: 60.0,
            max_charge_kw: 11.0,
            max_discharge_kw: 0.0,
        }
    }

    #[test]
    fn stays_come_in_order_with_a_number_for_each_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.parquet");
        let sessions: Vec<_> = (0..5).map(session).collect();
        write(&file, &sessions, &BTreeMap::new()).unwrap();
        let mut found = Vec::new();
        let sites = each(&file, &mut |stay, site| {
            assert_eq!(site, "north");
            found.push((stay.evse, stay.vehicle, stay.energy_kwh));
        });
        assert_eq!(sites.unwrap(), ["north"]);
        let expected = [
            (0, 0, 15.0),
            (1, 1, 25.0),
            (2, 0, 15.0),
            (0, 1, 15.0),
            (1, 0, 15.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_departure_before_the_arrival_is_refused_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.parquet");
        let mut sessions: Vec<_> = (0..3).map(session).collect();
        sessions[1].plug_out = sessions[1].plug_in;
        write(&file, &sessions, &BTreeMap::new()).unwrap();
        let error = each(&file, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("s.parquet: row 2: plug_out"), "{error}");
    }
}
