//! `shoal.forecast.v1`: quantile bands and scenarios of stays.
//!
//! The domain crate of forecasts holds numbers without names of places; what is published carries both, so the
//! types of this family live here.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, SiteId};
use units::{Band, Efficiency, Energy, Interval, Power, Series};

use crate::proto::forecast::v1 as proto;
use crate::{WireError, field};

/// What a forecast is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Vehicles plugged in.
    PluggedIn,
    /// Watts by which pool power can fall.
    PowerUp,
    /// Watts by which pool power can rise.
    PowerDown,
    /// Joules still to be delivered.
    EnergyNeeded,
    /// Currency per MWh.
    DayAheadPrice,
    /// Currency per MW for the block.
    FcrPrice,
    /// Currency per MW for the block.
    AfrrUpPrice,
    /// Currency per MW for the block.
    AfrrDownPrice,
    /// Joules that must have flowed into the vehicles since the forecast was made.
    EnergyLowest,
    /// Joules that can have flowed into them since then.
    EnergyHighest,
}

impl Quantity {
    /// All quantities.
    pub const ALL: [Self; 10] = [
        Self::PluggedIn,
        Self::PowerUp,
        Self::PowerDown,
        Self::EnergyNeeded,
        Self::DayAheadPrice,
        Self::FcrPrice,
        Self::AfrrUpPrice,
        Self::AfrrDownPrice,
        Self::EnergyLowest,
        Self::EnergyHighest,
    ];

    /// Name as written in log keys and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PluggedIn => "plugged_in",
            Self::PowerUp => "power_up",
            Self::PowerDown => "power_down",
            Self::EnergyNeeded => "energy_needed",
            Self::DayAheadPrice => "day_ahead_price",
            Self::FcrPrice => "fcr_price",
            Self::AfrrUpPrice => "afrr_up_price",
            Self::AfrrDownPrice => "afrr_down_price",
            Self::EnergyLowest => "energy_lowest",
            Self::EnergyHighest => "energy_highest",
        }
    }
}

impl From<Quantity> for proto::Quantity {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::PluggedIn => Self::PluggedIn,
            Quantity::PowerUp => Self::PowerUp,
            Quantity::PowerDown => Self::PowerDown,
            Quantity::EnergyNeeded => Self::EnergyNeeded,
            Quantity::DayAheadPrice => Self::DayAheadPrice,
            Quantity::FcrPrice => Self::FcrPrice,
            Quantity::AfrrUpPrice => Self::AfrrUpPrice,
            Quantity::AfrrDownPrice => Self::AfrrDownPrice,
            Quantity::EnergyLowest => Self::EnergyLowest,
            Quantity::EnergyHighest => Self::EnergyHighest,
        }
    }
}

impl TryFrom<proto::Quantity> for Quantity {
    type Error = WireError;
    fn try_from(wire: proto::Quantity) -> Result<Self, WireError> {
        Ok(match wire {
            proto::Quantity::Unspecified => return Err(WireError::missing("quantity")),
            proto::Quantity::PluggedIn => Self::PluggedIn,
            proto::Quantity::PowerUp => Self::PowerUp,
            proto::Quantity::PowerDown => Self::PowerDown,
            proto::Quantity::EnergyNeeded => Self::EnergyNeeded,
            proto::Quantity::DayAheadPrice => Self::DayAheadPrice,
            proto::Quantity::FcrPrice => Self::FcrPrice,
            proto::Quantity::AfrrUpPrice => Self::AfrrUpPrice,
            proto::Quantity::AfrrDownPrice => Self::AfrrDownPrice,
            proto::Quantity::EnergyLowest => Self::EnergyLowest,
            proto::Quantity::EnergyHighest => Self::EnergyHighest,
        })
    }
}

/// The quantity behind the number of an enum field.
///
/// # Errors
/// [`WireError`] for an absent or unknown one.
pub fn quantity(number: i32) -> Result<Quantity, WireError> {
    proto::Quantity::try_from(number)
        .map_err(|_| WireError::invalid("quantity", format!("{number} is unknown")))
        .and_then(Quantity::try_from)
}

/// A forecast as published: quantiles on an even grid with where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Name.
    pub id: String,
    /// The pool it speaks of, or a part: `site/ID`, `class/NAME`, `area/NAME`.
    pub pool: String,
    /// What it is about, and with it the unit.
    pub quantity: Quantity,
    /// One band per step.
    pub bands: Series<Band>,
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: String,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Newest input used; nothing later may have had an influence.
    pub input_until: DateTime<Utc>,
    /// Start of the training span.
    pub trained_from: DateTime<Utc>,
    /// Stated reasons to doubt it.
    pub doubts: Vec<String>,
}

impl From<&Published> for proto::Forecast {
    fn from(forecast: &Published) -> Self {
        let bands = &forecast.bands;
        Self {
            id: forecast.id.clone(),
            pool: forecast.pool.clone(),
            quantity: proto::Quantity::from(forecast.quantity).into(),
            start_micros: bands.start().timestamp_micros(),
            step_seconds: u32::try_from(bands.step().num_seconds()).unwrap_or(u32::MAX),
            levels: bands
                .values()
                .first()
                .map(|b| b.levels().to_vec())
                .unwrap_or_default(),
            steps: bands
                .values()
                .iter()
                .map(|b| proto::Band {
                    values: b.values().to_vec(),
                })
                .collect(),
            model: forecast.model.clone(),
            model_version: forecast.version.clone(),
            made_at_micros: forecast.made_at.timestamp_micros(),
            input_until_micros: forecast.input_until.timestamp_micros(),
            trained_from_micros: forecast.trained_from.timestamp_micros(),
            doubts: forecast.doubts.clone(),
        }
    }
}

impl TryFrom<proto::Forecast> for Published {
    type Error = WireError;
    fn try_from(wire: proto::Forecast) -> Result<Self, WireError> {
        let bands = wire
            .steps
            .into_iter()
            .enumerate()
            .map(|(i, b)| {
                Band::try_new(wire.levels.clone(), b.values)
                    .map_err(|e| WireError::invalid(&format!("steps[{i}]"), e))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let step = field::step("step_seconds", wire.step_seconds)?;
        let start = field::instant("start_micros", wire.start_micros)?;
        Ok(Self {
            id: field::text("id", &wire.id)?,
            pool: field::text("pool", &wire.pool)?,
            quantity: quantity(wire.quantity)?,
            bands: Series::try_new(start, TimeDelta::seconds(step.into()), bands)
                .map_err(|e| WireError::invalid("step_seconds", e))?,
            model: field::text("model", &wire.model)?,
            version: field::text("model_version", &wire.model_version)?,
            made_at: field::instant("made_at_micros", wire.made_at_micros)?,
            input_until: field::instant("input_until_micros", wire.input_until_micros)?,
            trained_from: field::instant("trained_from_micros", wire.trained_from_micros)?,
            doubts: wire.doubts,
        })
    }
}

/// One stay that may happen.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedStay {
    /// Grid connection point.
    pub site: SiteId,
    /// Class of the place.
    pub class: String,
    /// Outlet, for a vehicle that is plugged in now.
    pub evse: Option<EvseId>,
    /// From plug-in (or now) to plug-out.
    pub span: Interval,
    /// Energy to add, inside the battery.
    pub energy: Energy,
    /// Energy in the battery at the start; unknown is `None`.
    pub stored: Option<Energy>,
    /// Usable size of the battery, if known.
    pub capacity: Option<Energy>,
    /// Highest charging power at the grid side.
    pub max_charge: Power,
    /// Highest discharging power at the grid side as a magnitude.
    pub max_discharge: Power,
    /// Level below which it is never discharged.
    pub floor: Energy,
    /// Share of grid energy that reaches the battery.
    pub charge_efficiency: Efficiency,
    /// Share of battery energy that reaches the grid.
    pub discharge_efficiency: Efficiency,
}

impl From<&ExpectedStay> for proto::ExpectedStay {
    fn from(stay: &ExpectedStay) -> Self {
        Self {
            site_id: stay.site.to_string(),
            class: stay.class.clone(),
            evse_id: stay.evse.as_ref().map(ToString::to_string),
            from_micros: stay.span.start().timestamp_micros(),
            to_micros: stay.span.end().timestamp_micros(),
            energy_joules: stay.energy.joules(),
            stored_joules: stay.stored.map(Energy::joules),
            capacity_joules: stay.capacity.map(Energy::joules),
            max_charge_watts: stay.max_charge.watts(),
            max_discharge_watts: stay.max_discharge.watts(),
            floor_joules: stay.floor.joules(),
            charge_efficiency: stay.charge_efficiency.share(),
            discharge_efficiency: stay.discharge_efficiency.share(),
        }
    }
}

impl TryFrom<proto::ExpectedStay> for ExpectedStay {
    type Error = WireError;
    fn try_from(wire: proto::ExpectedStay) -> Result<Self, WireError> {
        let from = field::instant("from_micros", wire.from_micros)?;
        let to = field::instant("to_micros", wire.to_micros)?;
        Ok(Self {
            site: field::text("site_id", &wire.site_id)?,
            class: wire.class,
            evse: field::optional_text("evse_id", wire.evse_id.as_deref())?,
            span: Interval::try_new(from, to).map_err(|e| WireError::invalid("to_micros", e))?,
            energy: field::content("energy_joules", wire.energy_joules)?,
            stored: field::optional_content("stored_joules", wire.stored_joules)?,
            capacity: field::optional_content("capacity_joules", wire.capacity_joules)?,
            max_charge: field::size("max_charge_watts", wire.max_charge_watts)?,
            max_discharge: field::size("max_discharge_watts", wire.max_discharge_watts)?,
            floor: field::content("floor_joules", wire.floor_joules)?,
            charge_efficiency: field::efficiency("charge_efficiency", wire.charge_efficiency)?,
            discharge_efficiency: field::efficiency(
                "discharge_efficiency",
                wire.discharge_efficiency,
            )?,
        })
    }
}

/// One way the time ahead may go: stays that happen together.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Probability; those of all scenarios add to 1.
    pub weight: f64,
    /// The stays.
    pub stays: Vec<ExpectedStay>,
}

impl From<&Scenario> for proto::Scenario {
    fn from(scenario: &Scenario) -> Self {
        Self {
            weight: scenario.weight,
            stays: scenario.stays.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::Scenario> for Scenario {
    type Error = WireError;
    fn try_from(wire: proto::Scenario) -> Result<Self, WireError> {
        Ok(Self {
            weight: field::share("weight", wire.weight)?,
            stays: field::list("stays", wire.stays)?,
        })
    }
}
