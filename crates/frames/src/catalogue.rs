//! Reference tables of buses and chargers, with the source of every value.

use std::path::Path;

use serde::Serialize;

use crate::InputError;
use crate::records::{Records, Row};

/// A type of bus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bus {
    /// Name in a scenario: `catalogue:ID`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Length, m.
    pub length_m: f64,
    /// Published nominal size of the battery, kWh.
    pub battery_kwh: f64,
    /// Part of it that is planned with, kWh.
    pub usable_kwh: f64,
    /// Highest charging power of the vehicle, kW; `None` if not published: the charger decides.
    pub max_charge_kw: Option<f64>,
    /// Where the values were published.
    pub source: String,
    /// Columns whose value is an assumption.
    pub assumed: String,
}

/// A type of charger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Charger {
    /// Its name.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Highest output, kW.
    pub max_kw: f64,
    /// `AC` or `DC`.
    pub current: String,
    /// How the vehicle is connected.
    pub connection: String,
    /// Where the values were published.
    pub source: String,
}

/// All buses, in order of the table.
///
/// # Errors
/// [`InputError`] if the table that comes with the program is not as its own header says.
pub fn buses() -> Result<Vec<Bus>, InputError> {
    rows("buses.csv", include_str!("../data/buses.csv"), |row, at| {
        Ok(Bus {
            id: row.id(at("id")?)?,
            name: row.text(at("name")?).to_owned(),
            length_m: row.required(at("length_m")?)?,
            battery_kwh: row.required(at("battery_kwh")?)?,
            usable_kwh: row.required(at("usable_kwh")?)?,
            max_charge_kw: row.number(at("max_charge_kw")?)?,
            source: row.text(at("source")?).to_owned(),
            assumed: row.text(at("assumed")?).to_owned(),
        })
    })
}

/// All chargers, in order of the table.
///
/// # Errors
/// [`InputError`] if the table that comes with the program is not as its own header says.
pub fn chargers() -> Result<Vec<Charger>, InputError> {
    let text = include_str!("../data/chargers.csv");
    rows("chargers.csv", text, |row, at| {
        Ok(Charger {
            id: row.id(at("id")?)?,
            name: row.text(at("name")?).to_owned(),
            max_kw: row.required(at("max_kw")?)?,
            current: row.text(at("current")?).to_owned(),
            connection: row.text(at("connection")?).to_owned(),
            source: row.text(at("source")?).to_owned(),
        })
    })
}

type Place<'a> = &'a dyn Fn(&str) -> Result<usize, InputError>;

fn rows<T>(
    name: &str,
    text: &'static str,
    read: impl Fn(&Row<'_>, Place<'_>) -> Result<T, InputError>,
) -> Result<Vec<T>, InputError> {
    let file = Path::new("catalogue").join(name);
    let mut records = Records::from_reader(&file, Box::new(text.as_bytes()), b',')?;
    let headers = records.headers().to_vec();
    let at = |column: &str| {
        let place = headers.iter().position(|h| h == column);
        place.ok_or_else(|| InputError::file(&file, format!("no column {column}")))
    };
    let mut all = Vec::new();
    while let Some(row) = records.next()? {
        all.push(read(&row, &at)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_has_a_name_of_its_own_a_source_and_values_that_can_be() {
        let (buses, chargers) = (buses().unwrap(), chargers().unwrap());
        let ids: BTreeSet<_> = buses.iter().map(|b| &b.id).collect();
        assert_eq!(ids.len(), buses.len());
        for bus in &buses {
            assert!(bus.source.len() > 10, "{}", bus.id);
            assert!(
                0.0 < bus.usable_kwh && bus.usable_kwh <= bus.battery_kwh,
                "{}",
                bus.id
            );
            // The catalogue says which of its values nobody published.
            assert!(bus.usable_kwh < bus.battery_kwh || bus.assumed.contains("usable_kwh"));
        }
        let ids: BTreeSet<_> = chargers.iter().map(|c| &c.id).collect();
        assert_eq!(ids.len(), chargers.len());
        for charger in &chargers {
            assert!(
                charger.source.len() > 10 && charger.max_kw > 0.0,
                "{}",
                charger.id
            );
            assert!(
                ["AC", "DC"].contains(&charger.current.as_str()),
                "{}",
                charger.id
            );
        }
    }
}
