//! The plan that is made again every quarter hour, from the metered state of the fleet.
//!
//! In this order it (1) keeps every vehicle on a way that still reaches what it needs in time, with a margin to catch up in; (2) keeps site
//! limits, also when all reserve is called; (3) holds the reserve that was sold, in power and in energy; (4) follows the sold
//! day-ahead position as far as deviating costs more; (5) charges in cheap hours and discharges in dear ones.
//!
//! Each vehicle is solved exactly against what the others do ([`crate::storage`]), in two rounds over the fleet; the same
//! input gives the same plan, to the watt, on any number of threads. [`Live`] remembers its last plan: who goes on as planned keeps its
//! schedule and reserve, and only what changed is solved again. Every plan carries its [`Gap`].

mod at_once;
mod carry;
mod fallback;
mod gap;
mod grid;
mod live;
mod loads;
mod parallel;
mod prices;
mod problem;
mod proof;
mod reserve;
mod schedule;
mod sweep;
#[cfg(test)]
mod tests;
mod totals;
mod vehicle;
mod words;

pub use fallback::fallback;
pub use gap::Gap;
pub use grid::{Grid, STEP};
pub use live::{Again, Live, Work};
pub use vehicle::{Plain, Task, Vehicle};

use chrono::{DateTime, Utc};
use fleet::SiteId;
use fleet::schedule::Schedule;
use market::{Area, Plan, Position, Rules};

use reserve::Lane;

/// A grid connection point.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name.
    pub id: SiteId,
    /// Most power drawn, kW.
    pub import_kw: f64,
    /// Most power fed back, kW, at least zero.
    pub export_kw: f64,
}

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
    /// The time limit came before every vehicle that changed was solved.
    #[error("time ran out before every vehicle that changed was planned")]
    OutOfTime,
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
    /// Cost and a proven bound on it.
    pub gap: Gap,
    /// How much of it was made anew.
    pub work: Work,
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
    lanes: Vec<Lane>,
    site_prices: Vec<Option<Vec<f64>>>,
    gap: Gap,
    work: Work,
}

/// Makes the plan of an input that no plan came before.
///
/// # Errors
/// [`Refused`] for series that do not fit the grid. A fleet in whatever state gets a plan.
pub fn plan(input: &Input<'_>) -> Result<Made, Refused> {
    let once = Again {
        // What one plan gains by prices of sites is not worth the time where many are tried.
        site_rounds: 0,
        ..Again::default()
    };
    Live::default().plan(input, &once)
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
