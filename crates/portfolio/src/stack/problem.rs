//! The stacked problem as numbers: vehicles, sites, network areas and products on a grid of equal steps.
//!
//! Power is kW at the grid side (positive charges), energy kWh inside the battery, energy prices currency per MWh,
//! capacity prices currency per MW for the whole block. Symbols are those of `optimisation.md` 1 to 5.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::dimming::{Dimmed, Dimming};
use super::exclusive::Exclusive;
use super::reactive::Reactive;
use super::refund::Refund;
pub use crate::reference::Session;
use crate::reference::{Headroom, window_steps};

/// Everything that is sold, held and limited over one horizon.
///
/// Built by hand from public fields; [`Problem::check`] says what is wrong with one, and [`solve`](super::solve)
/// refuses a problem that does not pass it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Length of a step, hours (`D`).
    pub step_hours: f64,
    /// Paid per MWh charged, one per step: market price plus import adder.
    pub import_price: Vec<f64>,
    /// Earned per MWh discharged, one per step: market price less export adder.
    pub export_price: Vec<f64>,
    /// Price of the grid's carbon per MWh of net load, one per step; empty where carbon has no price.
    pub carbon_price: Vec<f64>,
    /// Wear, per MWh discharged at the grid side.
    pub wear: f64,
    /// What giving way costs.
    pub elastic: Elastic,
    /// One battery per stay.
    pub vehicles: Vec<Vehicle>,
    /// Connection points.
    pub sites: Vec<Site>,
    /// Network areas whose operator limits the sites in them together.
    pub areas: Vec<NetworkArea>,
    /// Reserve products.
    pub products: Vec<Product>,
    /// Energy orders; empty where all energy is bought and sold at the prices above.
    pub orders: Vec<Order>,
    /// Price of what the orders leave open; needed where there are orders.
    pub imbalance: Option<Imbalance>,
    /// Vehicles lost together: what is sold must be held without any one of these groups (N-1).
    pub groups: Vec<Group>,
    /// Draw that an operator may dim at any time; the plan is such that nobody leaves short for it.
    #[serde(default)]
    pub dimmings: Vec<Dimming>,
    /// Products of which at most one is sold at a time; [`solve_whole`](super::solve_whole) keeps it, the relaxation that
    /// [`solve`](super::solve) solves does not.
    #[serde(default)]
    pub exclusive: Vec<Exclusive>,
    /// How energy is kept for the reserves held.
    pub headroom: Headroom,
}

/// Prices of giving way, far above any market: the plan is never empty, and says what it relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Elastic {
    /// Per kWh missing at departure or below the level kept for emergencies.
    pub energy_per_kwh: f64,
    /// Per kWh above a site's limit.
    pub site_per_kwh: f64,
    /// Per kWh above a network area's limit.
    pub area_per_kwh: f64,
    /// Per kW and hour of an award that is not held.
    pub award_per_kw_hour: f64,
    /// Per kWh that would be missing at departure after the dimming that begins at the worst moment.
    pub dimming_per_kwh: f64,
    /// Per kvarh outside the band of reactive power that a network operator asks for.
    pub reactive_per_kvarh: f64,
}

impl Default for Elastic {
    /// 2 per kWh missing at departure (contract 6); a fuse or a network limit weighs more than any departure, and an
    /// award less than a limit. What is missing only if the draw is dimmed weighs half of what is missing for certain, and a kvar
    /// less than a kW that a departure needs.
    fn default() -> Self {
        Self {
            energy_per_kwh: 2.0,
            site_per_kwh: 20.0,
            area_per_kwh: 10.0,
            award_per_kw_hour: 5.0,
            dimming_per_kwh: 1.0,
            reactive_per_kvarh: 1.0,
        }
    }
}

/// One stay and what is kept for its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vehicle {
    /// Name, for reasons.
    pub name: String,
    /// The stay, as in the reference problem.
    pub session: Session,
    /// Level kept for emergencies from the moment it can be reached at full power, kWh; zero for none.
    pub keep_kwh: f64,
    /// Charge and discharge of the first steps of the stay that are decided already, kW; empty for none.
    #[serde(default)]
    pub fixed_kw: Vec<(f64, f64)>,
    /// Most apparent power of the charger, kVA, at least its active power either way; `None` where it draws no reactive power.
    #[serde(default)]
    pub rating_kva: Option<f64>,
}

/// A connection point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Name, for reasons.
    pub name: String,
    /// Most power drawn, kW; `None` without limit.
    pub import_kw: Option<f64>,
    /// Most power fed back, kW; `None` without limit.
    pub export_kw: Option<f64>,
    /// Load less own generation behind the point, kW per step; positive draws. Empty means none.
    pub base_kw: Vec<f64>,
    /// Charge on the highest draw of each billing period; empty for none.
    pub demand: Vec<DemandCharge>,
    /// What is known and asked of reactive power there; `None` where nobody looks at it.
    #[serde(default)]
    pub reactive: Option<Reactive>,
    /// What is given back for energy fed in; `None` for nothing.
    #[serde(default)]
    pub refund: Option<Refund>,
}

impl Site {
    /// Base load in a step, kW.
    #[must_use]
    pub fn base(&self, step: usize) -> f64 {
        self.base_kw.get(step).copied().unwrap_or(0.0)
    }
}

/// A charge on the highest draw within some steps (`optimisation.md` 4.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DemandCharge {
    /// Steps whose draw counts: the charged hours of one billing period.
    pub steps: Vec<usize>,
    /// Per kW of the period's peak.
    pub per_kw: f64,
    /// Peak of the period before the horizon, kW.
    pub to_date_kw: f64,
    /// What is billed at least, kW: the ratchet's share of the highest peak of the months before; zero without.
    pub ratchet_kw: f64,
}

/// An area of a network operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkArea {
    /// Name, for reasons.
    pub name: String,
    /// Indices of the sites in it.
    pub sites: Vec<usize>,
    /// Most power drawn by all of them, base load included, kW per step; `None` without limit then.
    pub import_kw: Vec<Option<f64>>,
    /// Most power fed back by all of them, kW per step; `None` without limit then.
    pub export_kw: Vec<Option<f64>>,
}

/// What one direction of a product asks per kW sold (`optimisation.md` 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// Power kept free per power sold (`au`, `ad`); more than zero.
    pub power: f64,
    /// Share of the kept power that an activation can take from or add to the battery (`su`, `sd`); the rest is kept for
    /// energy management. Zero where all of it is management.
    pub delivered: f64,
    /// How long the delivered part must be sustained, hours (`h`).
    pub endurance_hours: f64,
}

impl Way {
    /// Steps an activation window covers on a grid of `step_hours`.
    #[must_use]
    pub fn window_steps(&self, step_hours: f64) -> usize {
        window_steps(self.endurance_hours, step_hours)
    }
}

/// One reserve product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Name, for reasons.
    pub name: String,
    /// What Up asks; `None` where the product never asks for less load.
    pub up: Option<Way>,
    /// What Down asks; `None` where the product never asks for more load.
    pub down: Option<Way>,
    /// Smallest volume of a bid, MW; zero for any.
    pub minimum_mw: f64,
    /// Volumes are whole numbers of it, MW; zero for any.
    pub step_mw: f64,
    /// What is sold as one. Blocks of a product do not overlap.
    pub blocks: Vec<Block>,
}

/// One tradable block of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Steps of the grid it covers.
    pub steps: Range<usize>,
    /// Per MW for the whole block.
    pub price: f64,
    /// Most that may be sold, MW (what is qualified); `None` without limit.
    pub most_mw: Option<f64>,
    /// Sold already, MW: held from now on, paid whatever is decided here.
    pub awarded_mw: f64,
    /// Whether more may be sold.
    pub open: bool,
}

/// An energy order: one power over its steps (a quarter hour, an hour, a block).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Steps of the grid it covers.
    pub steps: Range<usize>,
    /// Mid price, per MWh.
    pub price: f64,
    /// Paid above and received below the mid price, per MWh; zero for an auction.
    pub half_spread: f64,
    /// Bought already, kW; below zero where it was sold.
    pub held_kw: f64,
    /// Whether more may be bought or sold.
    pub open: bool,
    /// Most that may be bought or sold beyond what is held, kW.
    pub most_kw: f64,
}

/// What is paid for the difference between load and orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imbalance {
    /// Paid per MWh drawn beyond the orders, one per step.
    pub short: Vec<f64>,
    /// Received per MWh bought and not drawn, one per step; at most `short`.
    pub long: Vec<f64>,
}

/// Vehicles that are lost together: a back-end, a charger brand, an area that is cut off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Name, for reasons.
    pub name: String,
    /// Indices of the vehicles.
    pub vehicles: Vec<usize>,
}

/// What is done and sold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// One entry per vehicle, in the problem's order.
    pub vehicles: Vec<VehicleSchedule>,
    /// Volume sold beyond awards, MW: `[product][block]`.
    pub sold_mw: Vec<Vec<f64>>,
    /// Bought (above zero) or sold beyond what is held, kW, one per order.
    pub ordered_kw: Vec<f64>,
}

/// What one vehicle does; every per-step vector has `share.len()` entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VehicleSchedule {
    /// Charging power, kW.
    pub charge_kw: Vec<f64>,
    /// Discharging power, kW.
    pub discharge_kw: Vec<f64>,
    /// Energy at the boundaries, kWh; one entry more than there are steps.
    pub energy_kwh: Vec<f64>,
    /// Held, one entry per product.
    pub held: Vec<Held>,
    /// What it does if it is dimmed; `None` where nobody may dim it.
    pub dimmed: Option<Dimmed>,
    /// Reactive power, kvar, positive draws; empty where the charger has none to give or nobody asks for it.
    #[serde(default)]
    pub reactive_kvar: Vec<f64>,
}

/// What one vehicle holds for one product, kW per step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Delivered part of Up that only cancels charging.
    pub up_charge_kw: Vec<f64>,
    /// Delivered part of Up that draws on the battery.
    pub up_discharge_kw: Vec<f64>,
    /// All power kept for Up, delivered or not.
    pub up_kw: Vec<f64>,
    /// All power kept for Down, delivered or not.
    pub down_kw: Vec<f64>,
}

/// Shadow prices: what one more unit of each limit would save over the horizon. `None` where there is no such limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Per kW of a site's import limit: `[site][step]`.
    pub site_import: Vec<Vec<f64>>,
    /// Per kW of a site's export limit: `[site][step]`.
    pub site_export: Vec<Vec<f64>>,
    /// Per kW of an area's import limit: `[area][step]`.
    pub area_import: Vec<Vec<f64>>,
    /// Per kW of an area's export limit: `[area][step]`.
    pub area_export: Vec<Vec<f64>>,
    /// Per kVA of a site's rating: `[site][step]`.
    pub site_rating: Vec<Vec<f64>>,
    /// Per kvar that everything else at a site draws less: `[site][step]`; below zero where more of it would save.
    pub site_reactive: Vec<Vec<f64>>,
    /// Per kWh more on the ledger of a site's refund before the horizon.
    pub site_ledger: Vec<f64>,
    /// Per MW and step that the pool need not hold Up: `[product][step]`.
    pub hold_up: Vec<Vec<f64>>,
    /// Per MW and step that the pool need not hold Down: `[product][step]`.
    pub hold_down: Vec<Vec<f64>>,
    /// Per MW of the most that may be sold: `[product][block]`.
    pub block: Vec<Vec<f64>>,
    /// What one more unit at each vehicle would save.
    pub vehicles: Vec<VehiclePrices>,
}

/// What one more unit at one vehicle would save over the horizon, currency; `None` where there is none to have or the
/// saving jumps exactly there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct VehiclePrices {
    /// Per kW of charging power.
    pub charge_kw: Option<f64>,
    /// Per kW of discharging power; `None` for a one-way charger.
    pub discharge_kw: Option<f64>,
    /// Per kWh of usable capacity.
    pub capacity_kwh: Option<f64>,
    /// Per kWh in the battery at arrival.
    pub arrival_kwh: Option<f64>,
    /// Per kWh less owed at departure.
    pub goal_kwh: Option<f64>,
    /// Per kWh less to be in the battery after a dimming; `None` where nobody may dim it.
    pub dimming_kwh: Option<f64>,
    /// Per kVA of the charger's rating; `None` where its reactive power is of no use.
    pub rating_kva: Option<f64>,
    /// Per hour of plug-in before arrival, within the first step; `None` where the stay begins with a whole step.
    pub earlier_hour: Option<f64>,
    /// Per hour of plug-in after departure, within the last step; `None` where the stay ends with a whole step.
    pub later_hour: Option<f64>,
}

/// Who has to do with something that was relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "index")]
pub enum Owner {
    /// Index into [`Problem::vehicles`].
    Vehicle(usize),
    /// Index into [`Problem::sites`].
    Site(usize),
    /// Index into [`Problem::areas`].
    Area(usize),
    /// Index into [`Problem::products`].
    Product(usize),
}

/// Something that had to give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relaxation {
    /// Whose limit, departure or award it is.
    pub owner: Owner,
    /// Which of its rows.
    pub what: Relaxed,
    /// First step concerned; the step after the last for a departure.
    pub step: usize,
    /// By how much at most, kW or kWh.
    pub amount: f64,
    /// Price of one unit over the steps concerned, currency per kW or kWh.
    pub price: f64,
    /// What it costs in the objective, currency.
    pub cost: f64,
    /// The same as a sentence.
    pub sentence: String,
}

/// Rows that may give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relaxed {
    /// Energy at departure, kWh.
    Departure,
    /// Level kept for emergencies, kWh.
    Kept,
    /// Energy at departure after a dimming that begins in this step, kWh.
    Dimmed,
    /// Import limit, kW.
    Import,
    /// Import limit after a dimming, kW.
    ImportAfter,
    /// Export limit, kW.
    Export,
    /// Rating of a connection point, kVA.
    Rating,
    /// Least reactive draw, kvar.
    ReactiveLow,
    /// Most reactive draw, kvar.
    ReactiveHigh,
    /// Award, Up, kW of the power to be kept.
    AwardUp,
    /// Award, Down, kW of the power to be kept.
    AwardDown,
}

/// A feasible schedule and how far it can be from the best.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What is done and sold.
    pub schedule: Schedule,
    /// Money of the schedule, relaxations priced in; recomputed from the schedule alone.
    pub objective: f64,
    /// No schedule has a lower objective; valid whatever the solver did.
    pub lower_bound: f64,
    /// `(objective - lower_bound) / max(|objective|, 1 cent)`, never negative.
    pub relative_gap: f64,
    /// Everything that had to give by more than a watt or a watt-hour.
    pub relaxed: Vec<Relaxation>,
    /// Shadow prices.
    pub prices: Prices,
    /// Iterations of the solver.
    pub iterations: u32,
}
