//! What the user says about vehicles that the source does not know.

use std::fmt;
use std::str::FromStr;

/// Usable capacity where nothing is said, kWh: a common battery electric car.
const CAPACITY_KWH: f64 = 60.0;
/// Charging power where neither the source nor the user knows it, kW: three phases of 16 A.
const MAX_CHARGE_KW: f64 = 11.0;
/// Share of metered energy that reaches the battery where nothing is said (contract, section 3).
const CHARGE_EFFICIENCY: f64 = 0.94;
/// Longer stays are stuck records, hours: one week.
const LONGEST_STAY_HOURS: f64 = 168.0;

/// Assumptions, all written into the output's header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assume {
    /// Usable capacity, kWh.
    pub capacity_kwh: f64,
    /// Level at arrival as a share of capacity; unknown if `None`.
    pub arrival_fraction: Option<f64>,
    /// Level wanted at departure as a share of capacity; if `None`, arrival plus what was charged.
    pub departure_fraction: Option<f64>,
    /// Charging power where the source does not know it, kW.
    pub max_charge_kw: f64,
    /// Discharging power, kW.
    pub max_discharge_kw: f64,
    /// Share of metered energy that reaches the battery.
    pub charge_efficiency: f64,
    /// A stay as long as this, or longer, is refused, hours.
    pub longest_stay_hours: f64,
}

/// An assumption that cannot be understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AssumeError {
    /// No `=`.
    #[error("--assume {0:?}: expected KEY=NUMBER, as in capacity_kwh=60")]
    Shape(String),
    /// A key that is not known.
    #[error(
        "--assume {0:?}: unknown key, expected one of capacity_kwh, arrival_fraction, departure_fraction, \
         max_charge_kw, max_discharge_kw, charge_efficiency, longest_stay_hours"
    )]
    Key(String),
    /// A value outside what the key may be.
    #[error("--assume {key}={met}: expected a number from {low} to {high}")]
    Value {
        /// Key.
        key: String,
        /// Text met.
        met: String,
        /// Least.
        low: f64,
        /// Most.
        high: f64,
    },
}

impl Default for Assume {
    fn default() -> Self {
        Self {
            capacity_kwh: CAPACITY_KWH,
            arrival_fraction: None,
            departure_fraction: None,
            max_charge_kw: MAX_CHARGE_KW,
            max_discharge_kw: 0.0,
            charge_efficiency: CHARGE_EFFICIENCY,
            longest_stay_hours: LONGEST_STAY_HOURS,
        }
    }
}

impl FromStr for Assume {
    type Err = AssumeError;

    /// From `key=number,key=number`; what is not named keeps its default.
    fn from_str(text: &str) -> Result<Self, AssumeError> {
        let mut assume = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| AssumeError::Shape(part.to_owned()))?;
            assume.set(key.trim(), value.trim())?;
        }
        Ok(assume)
    }
}

impl Assume {
    fn set(&mut self, key: &str, text: &str) -> Result<(), AssumeError> {
        let number = |low: f64, high: f64| {
            let value = text
                .parse::<f64>()
                .ok()
                .filter(|v| (low..=high).contains(v));
            value.ok_or_else(|| AssumeError::Value {
                key: key.to_owned(),
                met: text.to_owned(),
                low,
                high,
            })
        };
        match key {
            "capacity_kwh" => self.capacity_kwh = number(0.1, 10_000.0)?,
            "arrival_fraction" => self.arrival_fraction = Some(number(0.0, 1.0)?),
            "departure_fraction" => self.departure_fraction = Some(number(0.0, 1.0)?),
            "max_charge_kw" => self.max_charge_kw = number(0.0, 10_000.0)?,
            "max_discharge_kw" => self.max_discharge_kw = number(0.0, 10_000.0)?,
            "charge_efficiency" => self.charge_efficiency = number(0.01, 1.0)?,
            "longest_stay_hours" => self.longest_stay_hours = number(0.01, 100_000.0)?,
            _ => return Err(AssumeError::Key(key.to_owned())),
        }
        Ok(())
    }
}

impl fmt::Display for Assume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capacity_kwh={}", self.capacity_kwh)?;
        let mut share = |name, value: Option<f64>| match value {
            Some(value) => write!(f, ", {name}={value}"),
            None => write!(f, ", {name} unknown"),
        };
        share("arrival_fraction", self.arrival_fraction)?;
        share("departure_fraction", self.departure_fraction)?;
        write!(
            f,
            ", max_charge_kw={} where the source does not know it, max_discharge_kw={}, charge_efficiency={}, \
             longest_stay_hours={}",
            self.max_charge_kw,
            self.max_discharge_kw,
            self.charge_efficiency,
            self.longest_stay_hours
        )
    }
}
