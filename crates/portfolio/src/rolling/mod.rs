//! The plan that is made again every quarter hour, from the metered state of the fleet.
//!
//! In this order it (1) keeps every vehicle on a way that still reaches what it needs in time, with a margin to catch up in; (2) keeps site
//! limits, also when all reserve is called; (3) holds the reserve that was sold, in power and in energy; (4) follows the sold
//! day-ahead position as far as deviating costs more; (5) charges in cheap hours and discharges in dear ones.
//!
//! Each vehicle is solved exactly against what the others do ([`crate::storage`]), in two rounds over the fleet; the same
//! input gives the same plan, to the watt.

mod fallback;
mod grid;
mod proof;
mod reserve;
mod sweep;
#[cfg(test)]
mod tests;
mod vehicle;
mod words;

pub use fallback::fallback;
pub use grid::{Grid, STEP};
pub use sweep::Site;
pub use vehicle::{Plain, Task, Vehicle};

use chrono::{DateTime, Utc};
use fleet::schedule::Schedule;
use market::{Area, Plan, Position, Rules};

use reserve::{Call, Lane};
use vehicle::Envelope;

/// What energy costs beside the market's price, EUR per MWh at the meter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Fee on energy taken.
    pub import_per_mwh: f64,
    /// Fee on energy given.
    pub export_per_mwh: f64,
    /// Wear of a battery per MWh discharged at the grid side.
    pub wear_per_mwh: f64,
    /// What deviating from the sold position costs beside the market's price, either way.
    pub imbalance_spread: f64,
}

/// The market on the grid of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Market {
    /// Price of energy per step, EUR/MWh: published where it is, forecast elsewhere.
    pub price: Vec<f64>,
    /// Power sold or bought day-ahead per step, kW, positive bought; `None` where nothing was traded for that delivery day.
    pub position_kw: Vec<Option<f64>>,
}

/// Everything a plan rests on.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// Where the pool is sold.
    pub area: Area,
    /// Newest input, for the record.
    pub data_until: DateTime<Utc>,
    /// Steps and the present instant.
    pub grid: &'a Grid,
    /// Vehicles plugged in whose needs are known, then those expected, in order of their names.
    pub vehicles: &'a [Vehicle],
    /// Vehicles plugged in whose needs are unknown.
    pub plain: &'a [Plain],
    /// Grid connection points.
    pub sites: &'a [Site],
    /// Awards.
    pub position: &'a Position,
    /// Product rules.
    pub rules: &'a Rules,
    /// Prices and the day-ahead position.
    pub market: &'a Market,
    /// Fees, wear, imbalance.
    pub costs: Costs,
}

/// An input that cannot be planned with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A series is shorter than the grid.
    #[error("{what} has {met} steps, the plan has {expected}")]
    Length {
        /// Which series.
        what: &'static str,
        /// Its length.
        met: usize,
        /// Steps of the grid.
        expected: usize,
    },
    /// A price that is not a number.
    #[error("price of step {step} is not finite")]
    Price {
        /// Which step.
        step: usize,
    },
}

/// A plan with what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The plan of the pool.
    pub plan: Plan,
    /// One schedule per EVSE with a vehicle.
    pub schedules: Vec<Schedule>,
    /// Reserve sold that could not be placed, kW: the largest over the steps, both directions.
    pub short_kw: f64,
    /// Reserve sold that could not be placed, by product and step, kW.
    pub shortages: Vec<Shortage>,
    /// Power of the pool per step with the vehicles expected, kW.
    pub pool_kw: Vec<f64>,
}

/// Reserve that was sold and is not held in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shortage {
    /// Product.
    pub product: market::Product,
    /// Step of the grid.
    pub step: usize,
    /// Missing in the worse direction, kW.
    pub kw: f64,
}

/// The solution behind a plan.
struct Solved {
    envelopes: Vec<Envelope>,
    calls: Vec<Call>,
    lanes: Vec<Lane>,
}

/// Makes the plan.
///
/// # Errors
/// [`Refused`] for series that do not fit the grid. A fleet in whatever state gets a plan.
pub fn plan(input: &Input<'_>) -> Result<Made, Refused> {
    check(input)?;
    let solved = solve(input);
    Ok(words::made(input, &solved))
}

fn solve(input: &Input<'_>) -> Solved {
    let grid = input.grid;
    let envelopes: Vec<Envelope> = input.vehicles.iter().map(|v| v.envelope(grid)).collect();
    let calls = reserve::calls(input, grid);
    let (at_once, site_loads) =
        sweep::charge_at_once(grid, input.vehicles, input.plain, input.sites);
    let shares = reserve::allocate(
        &calls,
        input.vehicles,
        &envelopes,
        input.sites,
        &site_loads,
        grid,
    );
    let sweep = sweep::Sweep {
        grid,
        vehicles: input.vehicles,
        envelopes: &envelopes,
        plain: input.plain,
        sites: input.sites,
        calls: &calls,
        market: input.market,
        costs: input.costs,
    };
    let mut lanes = sweep.run(shares, &at_once);
    reserve::top_up(
        &calls,
        input.vehicles,
        &envelopes,
        input.sites,
        &mut lanes,
        grid,
    );
    proof::withdraw(&calls, input.vehicles, &envelopes, &mut lanes, grid);
    Solved {
        envelopes,
        calls,
        lanes,
    }
}

fn check(input: &Input<'_>) -> Result<(), Refused> {
    let expected = input.grid.len();
    for (what, met) in [
        ("price", input.market.price.len()),
        ("position", input.market.position_kw.len()),
    ] {
        if met != expected {
            return Err(Refused::Length {
                what,
                met,
                expected,
            });
        }
    }
    match input.market.price.iter().position(|p| !p.is_finite()) {
        Some(step) => Err(Refused::Price { step }),
        None => Ok(()),
    }
}

impl Market {
    /// The market as awards and prices make it: a delivery day for which energy was traded binds in each of its steps.
    #[must_use]
    pub fn new(grid: &Grid, price: Vec<f64>, position: &Position, area: Area) -> Self {
        let position_kw = (0..grid.len())
            .map(|step| {
                let at = grid.at(step);
                let day = units::DeliveryDay::containing(at, area.exchange_zone());
                position
                    .has_energy(day.interval())
                    .then(|| position.traded(at).kw())
            })
            .collect();
        Self { price, position_kw }
    }
}
