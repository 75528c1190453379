//! Sessions on disk: `.csv`, `.csv.gz` or `.parquet`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{COLUMNS, Session};
use crate::records::{Records, Row};
use crate::table::{Column, Table, TableError};
use crate::{InputError, Place};

/// Reads sessions in the order of the file.
///
/// # Errors
/// [`InputError`] at the first row that is not a possible session: departure not after arrival, capacity below the level
/// at arrival, a negative level or power, an instant without offset, an empty or repeated name, a missing column.
pub fn read(file: &Path) -> Result<Vec<Session>, InputError> {
    let mut records = Records::open(file)?;
    let columns = COLUMNS.map(|name| records.column(name));
    let mut index = [0; COLUMNS.len()];
    for (slot, column) in index.iter_mut().zip(columns) {
        *slot = column?;
    }
    let mut sessions = Vec::new();
    let mut seen = BTreeMap::<String, Place>::new();
    while let Some(row) = records.next()? {
        let session = session(&row, &index)?;
        if let Some(first) = seen.insert(session.session_id.clone(), row.place.clone()) {
            return Err(row.error(format!(
                "session_id {:?} again, expected a name of its own (the first stands at {}{first})",
                session.session_id,
                file.display()
            )));
        }
        sessions.push(session);
    }
    Ok(sessions)
}

fn session(row: &Row<'_>, index: &[usize; COLUMNS.len()]) -> Result<Session, InputError> {
    let amount = |column: usize| match row.required(index[column])? {
        value if value < 0.0 => Err(negative(row, column, value)),
        value => Ok(value),
    };
    let arrival = row.number(index[6])?;
    if let Some(value) = arrival.filter(|v| *v < 0.0) {
        return Err(negative(row, 6, value));
    }
    let session = Session {
        session_id: row.id(index[0])?,
        evse_id: row.id(index[1])?,
        vehicle_id: row.id(index[2])?,
        site_id: row.text(index[3]).to_owned(),
        plug_in: row.instant(index[4])?,
        plug_out: row.instant(index[5])?,
        energy_arrival_kwh: arrival,
        energy_required_kwh: amount(7)?,
        capacity_kwh: amount(8)?,
        max_charge_kw: amount(9)?,
        max_discharge_kw: amount(10)?,
    };
    possible(row, &session)?;
    Ok(session)
}

fn negative(row: &Row<'_>, column: usize, value: f64) -> InputError {
    row.error(format!(
        "{} is {value}, expected zero or more",
        COLUMNS[column]
    ))
}

fn possible(row: &Row<'_>, session: &Session) -> Result<(), InputError> {
    if session.plug_out <= session.plug_in {
        return Err(row.error(format!(
            "departure plug_out {:?} is not after arrival plug_in {:?}, expected a later departure",
            session.plug_out, session.plug_in
        )));
    }
    if session.capacity_kwh <= 0.0 {
        return Err(row.error("capacity_kwh is 0, expected more than zero"));
    }
    if let Some(arrival) = session
        .energy_arrival_kwh
        .filter(|e| *e > session.capacity_kwh)
    {
        return Err(row.error(format!(
            "capacity_kwh {} is below energy_arrival_kwh {arrival}, expected at least as much",
            session.capacity_kwh
        )));
    }
    Ok(())
}

/// Writes sessions in the order given. `notes` (what was assumed, for instance) become comment lines of a CSV and key
/// and value of a Parquet file.
///
/// # Errors
/// [`TableError`] when the file cannot be written.
pub fn write(
    file: &Path,
    sessions: &[Session],
    notes: &BTreeMap<String, String>,
) -> Result<(), TableError> {
    let mut table = table(sessions)?;
    table.notes.clone_from(notes);
    table.write(file)
}

pub(crate) fn table(sessions: &[Session]) -> Result<Table, TableError> {
    let texts = |f: fn(&Session) -> &str| Column::texts(sessions.iter().map(f));
    let floats = |f: fn(&Session) -> f64| Column::floats(sessions.iter().map(f));
    Table::new()
        .with(COLUMNS[0], texts(|s| &s.session_id))?
        .with(COLUMNS[1], texts(|s| &s.evse_id))?
        .with(COLUMNS[2], texts(|s| &s.vehicle_id))?
        .with(COLUMNS[3], texts(|s| &s.site_id))?
        .with(
            COLUMNS[4],
            Column::instants(sessions.iter().map(|s| s.plug_in)),
        )?
        .with(
            COLUMNS[5],
            Column::instants(sessions.iter().map(|s| s.plug_out)),
        )?
        .with(
            COLUMNS[6],
            Column::Float(sessions.iter().map(|s| s.energy_arrival_kwh).collect()),
        )?
        .with(COLUMNS[7], floats(|s| s.energy_required_kwh))?
        .with(COLUMNS[8], floats(|s| s.capacity_kwh))?
        .with(COLUMNS[9], floats(|s| s.max_charge_kw))?
        .with(COLUMNS[10], floats(|s| s.max_discharge_kw))
}
