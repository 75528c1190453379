//! What a scenario file says, checked and with its tables read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use market::Area;
use units::Currency;

use crate::frequency::FrequencySource;
use crate::series::{GridSeries, ReserveBlocks};
use crate::sessions::Session;

/// One back-test: a period, an area, its prices, a fleet and its limits.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The scenario file itself.
    pub file: PathBuf,
    /// Name for reports.
    pub name: String,
    /// Market area: zone, products, gates, currency.
    pub area: Area,
    /// First local date.
    pub from: NaiveDate,
    /// First local date after the period.
    pub to: NaiveDate,
    /// Local midnight that begins `from`.
    pub start: DateTime<Utc>,
    /// Local midnight that begins `to`.
    pub end: DateTime<Utc>,
    /// Length of one step.
    pub step: TimeDelta,
    /// Prices and reserve prices.
    pub prices: Prices,
    /// Vehicles: sessions and common parameters.
    pub fleet: FleetParameters,
    /// Sites with limits, in the order of the file.
    pub sites: Vec<Site>,
    /// Fees and wear on top of the market price.
    pub costs: Costs,
    /// Markets that may be used.
    pub markets: Markets,
    /// How policies without foresight weigh what they do not know.
    pub risk: Risk,
    /// What is sold and respected beyond the two reserves of `[markets]`.
    pub extras: Extras,
    /// Things a reader should know (a table that was not in order of time).
    pub notes: Vec<String>,
}

/// Resolved prices, currency of the area per `MWh`.
#[derive(Debug, Clone)]
pub struct Prices {
    /// Day-ahead price per step.
    pub day_ahead: GridSeries,
    /// What a deviation from the sold position costs or earns.
    pub imbalance: Imbalance,
    /// Frequency containment reserve, symmetric.
    pub fcr: Option<ReserveBlocks>,
    /// Automatic restoration reserve, up (less charging).
    pub afrr_up: Option<ReserveBlocks>,
    /// Automatic restoration reserve, down (more charging).
    pub afrr_down: Option<ReserveBlocks>,
    /// Grid frequency; read when asked for.
    pub frequency: Option<FrequencySource>,
    /// Price of the grid's carbon per `MWh` of net load; `None` where carbon has no price.
    pub carbon: Option<GridSeries>,
}

/// How deviations settle, per `MWh`.
#[derive(Debug, Clone)]
pub enum Imbalance {
    /// Published prices per step.
    Series {
        /// Paid for a `MWh` drawn beyond the position.
        short: GridSeries,
        /// Received for a `MWh` left over.
        long: GridSeries,
    },
    /// Short pays day-ahead plus this, long receives day-ahead minus this. 0 where the scenario says nothing.
    Spread(f64),
}

/// The fleet.
#[derive(Debug, Clone)]
pub struct FleetParameters {
    /// Sessions in the order of the file, also those that reach over the period's ends.
    pub sessions: Vec<Session>,
    /// Share of grid energy that reaches the battery, over 0 to 1.
    pub charge_efficiency: f64,
    /// Share of battery energy that reaches the grid, over 0 to 1.
    pub discharge_efficiency: f64,
    /// Never below this share of capacity, except that a vehicle may arrive lower; 0 to 1.
    pub min_energy_fraction: f64,
    /// First this share of vehicles, in order of `vehicle_id`, may discharge; 0 to 1.
    pub v2g_share: f64,
    /// Whether policies without foresight are told the departure at plug-in.
    pub departure_known: bool,
    /// Share of capacity kept for emergencies from the moment it can be reached, 0 to 1.
    pub keep_fraction: f64,
    /// Rating of every charger's converter per kW of its greater power, kVA, at least 1; `None` where chargers draw no reactive
    /// power of their own choice.
    pub kva_per_kw: Option<f64>,
    /// Local dates known beforehand on which it is as on a Sunday: holidays, closed days.
    pub days_off: BTreeSet<NaiveDate>,
}

/// A grid connection point with its limits.
#[derive(Debug, Clone)]
pub struct Site {
    /// The `site_id` of its sessions.
    pub id: String,
    /// Most power drawn from the grid, kW; `None` for no limit.
    pub import_limit_kw: Option<f64>,
    /// Most power fed into the grid, kW; `None` for no limit.
    pub export_limit_kw: Option<f64>,
    /// Load of everything else behind the connection point, kW per step, positive draws; `None` for zero.
    pub base_load: Option<GridSeries>,
    /// Highest draw of the month before the period begins, kW: a demand charge is owed on it already.
    pub peak_to_date_kw: f64,
    /// Reactive power there; `None` where the file says nothing of it.
    pub reactive: Option<ReactivePoint>,
    /// Drawn before the period and neither refunded nor driven away yet, kWh at the grid side.
    pub refund_ledger_kwh: f64,
}

/// Reactive power at a grid connection point; positive is drawn (inductive).
#[derive(Debug, Clone, Default)]
pub struct ReactivePoint {
    /// Most apparent power through the point, kVA; `None` for no limit.
    pub rating_kva: Option<f64>,
    /// Reactive draw of everything else behind the point, kvar per step; `None` for zero.
    pub base: Option<GridSeries>,
    /// Least reactive draw that the network operator asks for, kvar; `None` for none.
    pub low_kvar: Option<f64>,
    /// Most reactive draw that the network operator asks for, kvar; `None` for none.
    pub high_kvar: Option<f64>,
    /// Highest reactive draw of the month before the period begins, kvar.
    pub peak_to_date_kvar: f64,
}

/// What is sold and respected beyond the two reserves of `[markets]`.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Further reserve products, in the order of the file.
    pub products: Vec<ProductOffer>,
    /// Network areas, in the order of the file.
    pub areas: Vec<NetworkArea>,
    /// What is lost together, in the order of the file.
    pub groups: Vec<LossGroup>,
    /// Draw that an operator may dim, in the order of the file.
    pub dimmings: Vec<Dimming>,
    /// What operators may ask of areas, in the order of the file.
    pub offers: Vec<ConstraintOffer>,
    /// Products of which one at a time is sold, in the order of the file.
    pub exclusive: Vec<ExclusiveGroup>,
}

/// Reserve products of which one at a time is sold.
#[derive(Debug, Clone)]
pub struct ExclusiveGroup {
    /// Name.
    pub name: String,
    /// Names of products of `[markets]` or `[[product]]`, each in one group at most.
    pub products: Vec<String>,
}

/// A reserve product of the market's table of holdings with its prices.
#[derive(Debug, Clone)]
pub struct ProductOffer {
    /// Name in the table; bought in the area when the period begins.
    pub name: String,
    /// Capacity prices.
    pub price: ReserveBlocks,
    /// Most that may be sold, MW; `None` without limit.
    pub qualified_mw: Option<f64>,
}

/// Sites that a network operator limits together.
#[derive(Debug, Clone)]
pub struct NetworkArea {
    /// Name.
    pub id: String,
    /// Indices into [`Scenario::sites`].
    pub sites: Vec<usize>,
    /// Most power drawn by all of them, base load included.
    pub import: AreaLimit,
    /// Most power fed in by all of them.
    pub export: AreaLimit,
}

/// A limit of an area, kW.
#[derive(Debug, Clone)]
pub enum AreaLimit {
    /// No limit.
    None,
    /// The same in every step.
    Fixed(f64),
    /// One per step.
    Series(GridSeries),
}

impl AreaLimit {
    /// The limit in a step of the period, kW.
    #[must_use]
    pub fn at(&self, step: usize) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Fixed(kw) => Some(*kw),
            Self::Series(series) => series.values.get(step).copied(),
        }
    }
}

/// Sites that are lost together: what is sold must be held without them.
#[derive(Debug, Clone)]
pub struct LossGroup {
    /// Name.
    pub name: String,
    /// Indices into [`Scenario::sites`].
    pub sites: Vec<usize>,
}

/// Sites whose charge points the network operator may dim at any time (EnWG 14a).
#[derive(Debug, Clone)]
pub struct Dimming {
    /// Name.
    pub name: String,
    /// Indices into [`Scenario::sites`]; each is in one dimming at most.
    pub sites: Vec<usize>,
    /// Longest time it may last, minutes.
    pub longest_minutes: f64,
    /// Draw left to one charge point, kW.
    pub device_kw: f64,
    /// Whether each site has an energy manager that shares out what is left to all its charge points together.
    pub energy_manager: bool,
    /// Whether no more Down is sold than is held while dimmed and after.
    pub hold_down: bool,
}

/// Bounds on the draw of an area that its operator may order.
#[derive(Debug, Clone)]
pub struct ConstraintOffer {
    /// Name.
    pub name: String,
    /// Index into [`Extras::areas`].
    pub area: usize,
    /// First instant of the bound, on a step of the grid.
    pub from: DateTime<Utc>,
    /// First instant after the bound, on a step of the grid.
    pub to: DateTime<Utc>,
    /// When the operator will have answered, on a step of the grid; `None` for the beginning of the earliest bound of all offers.
    pub answered: Option<DateTime<Utc>>,
    /// Bounds on the area's draw, kW, the widest first.
    pub bounds_kw: Vec<f64>,
    /// Paid per `MWh` that an order moves out of the window.
    pub rebound_per_mwh: f64,
    /// Asked on top, as a share of all costs.
    pub margin_share: f64,
}

/// Per `MWh` through the meter, on top of the market price.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Costs {
    /// Per `MWh` drawn.
    pub import_per_mwh: f64,
    /// Per `MWh` fed in, taken off the price received.
    pub export_per_mwh: f64,
    /// Per `MWh` discharged, at the grid side.
    pub wear_per_mwh: f64,
    /// Per kW of the highest draw of each month.
    pub demand_per_kw_month: f64,
    /// Per kvar of the highest reactive draw of each month above what is free.
    pub reactive_per_kvar_month: f64,
    /// Share of the month's highest active draw that is free of reactive draw, kvar per kW.
    pub reactive_free_share: f64,
    /// Given back per `MWh` exempted of energy that returns to the grid where it was drawn; at most what is paid on import.
    pub refund_per_mwh: f64,
    /// Which energy a refund exempts.
    pub refund_basis: RefundBasis,
}

/// Which energy a refund exempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefundBasis {
    /// What returns to the grid; losses stay charged.
    #[default]
    Returned,
    /// What was drawn for it, storage losses included.
    Drawn,
}

/// Markets a policy may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Markets {
    /// Day-ahead energy; without it nothing is sold ahead and all energy settles as imbalance.
    pub day_ahead: bool,
    /// Frequency containment reserve.
    pub fcr: Fcr,
    /// Automatic restoration reserve.
    pub afrr: Afrr,
}

/// What policies without foresight plan on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planning {
    /// The mean of what may come.
    Expected,
    /// All of it, as scenarios.
    Stochastic,
}

/// How policies without foresight weigh what they do not know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// Expected values or scenarios.
    pub planning: Planning,
    /// Level of the conditional value at risk, 0 to below 1.
    pub cvar_alpha: f64,
    /// Weight of the worst `1 - cvar_alpha` of outcomes beside the mean, 0 to 1.
    pub beta: f64,
    /// Probability with which reserve sold is held throughout its block, 0 to below 1.
    pub reserve_reliability: f64,
}

/// Frequency containment reserve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fcr {
    /// Whether it is offered. `prices.fcr` is present when it is.
    pub enabled: bool,
    /// Power kept free per unit of reserve sold, at least 1.
    pub power_factor: f64,
    /// Full activation that the battery must be able to follow, minutes.
    pub endurance_minutes: f64,
    /// How energy head-room is asked for.
    pub headroom: Headroom,
    /// Steps that the fleet has to recover after an activation (window rule).
    pub recovery_steps: u32,
}

/// Rule for the energy kept free for reserves (contract, reference problem R).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headroom {
    /// Full activation over the endurance from either boundary of the step.
    Snapshot,
    /// Full activation over any window of the endurance, with recovery.
    Window,
}

/// Automatic frequency restoration reserve; power factor 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Afrr {
    /// Whether it is offered. At least one of `prices.afrr_up` and `prices.afrr_down` is present when it is.
    pub enabled: bool,
    /// Full activation that the battery must be able to follow, minutes.
    pub endurance_minutes: f64,
}

impl Scenario {
    /// Zone whose midnights bound local dates.
    #[must_use]
    pub const fn zone(&self) -> Tz {
        self.area.zone()
    }

    /// Currency of every price and cost.
    #[must_use]
    pub const fn currency(&self) -> Currency {
        self.area.currency()
    }

    /// Number of steps in the period.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.prices.day_ahead.values.len()
    }

    /// First instant of step `index`.
    #[must_use]
    pub fn step_start(&self, index: usize) -> DateTime<Utc> {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        self.start + self.step * index
    }

    /// Length of one step in hours (`D` of reference problem R).
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a step has at most a day of seconds"
    )]
    pub fn step_hours(&self) -> f64 {
        self.step.num_seconds() as f64 / 3600.0
    }

    /// Missing intervals that `fill = "hold"` held over, in the price series.
    #[must_use]
    pub fn price_gaps_filled(&self) -> usize {
        let imbalance = match &self.prices.imbalance {
            Imbalance::Series { short, long } => short.gaps_filled + long.gaps_filled,
            Imbalance::Spread(_) => 0,
        };
        let blocks = [
            &self.prices.fcr,
            &self.prices.afrr_up,
            &self.prices.afrr_down,
        ]
        .into_iter()
        .flatten()
        .chain(self.extras.products.iter().map(|p| &p.price))
        .map(|b| b.gaps_filled)
        .sum::<usize>();
        let carbon = self.prices.carbon.as_ref().map_or(0, |c| c.gaps_filled);
        self.prices.day_ahead.gaps_filled + imbalance + blocks + carbon
    }
}
