//! Canonical charging sessions.

mod file;
pub mod many;

pub(crate) use file::table;
pub use file::{read, write};

use chrono::{DateTime, Utc};

/// Column names, in order.
pub const COLUMNS: [&str; 11] = [
    "session_id",
    "evse_id",
    "vehicle_id",
    "site_id",
    "plug_in",
    "plug_out",
    "energy_arrival_kwh",
    "energy_required_kwh",
    "capacity_kwh",
    "max_charge_kw",
    "max_discharge_kw",
];

/// One stay of a vehicle at a charge point. Energies are inside the battery, powers at the grid side.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Unique in its file.
    pub session_id: String,
    /// Connector.
    pub evse_id: String,
    /// Vehicle.
    pub vehicle_id: String,
    /// Site, as named under `[[site]]`; a site without entry has no limit. May be empty.
    pub site_id: String,
    /// Arrival.
    pub plug_in: DateTime<Utc>,
    /// Departure, after `plug_in`.
    pub plug_out: DateTime<Utc>,
    /// Level at arrival, kWh; `None` is unknown, never zero.
    pub energy_arrival_kwh: Option<f64>,
    /// Level wanted at departure, kWh, not negative.
    pub energy_required_kwh: f64,
    /// Usable capacity, kWh, more than zero.
    pub capacity_kwh: f64,
    /// Most power drawn, kW, not negative.
    pub max_charge_kw: f64,
    /// Most power fed back, kW, not negative.
    pub max_discharge_kw: f64,
}
