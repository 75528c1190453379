//! Problem R as numbers: what `contract.md` section 6 defines, on a grid of equal steps.
//!
//! Power is kW at the grid side (positive charges), energy kWh inside the battery, energy prices EUR per MWh
//! (any currency, the same throughout), capacity prices EUR per MW for the whole block.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The reference problem over a grid of `import_price.len()` steps.
///
/// Built by hand from public fields; [`Problem::check`] says what is wrong with one, and
/// [`solve`](super::solve) refuses a problem that does not pass it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Length of a step, hours.
    pub step_hours: f64,
    /// Paid per MWh charged in each step: market price plus import fee. May be negative.
    pub import_price: Vec<f64>,
    /// Earned per MWh discharged in each step: market price less export fee. May be negative.
    pub export_price: Vec<f64>,
    /// Wear, EUR per MWh discharged at the grid side.
    pub wear: f64,
    /// Price of energy missing at departure, EUR per kWh inside the battery; 2.00 in R.
    pub shortfall: f64,
    /// One battery per session.
    pub sessions: Vec<Session>,
    /// Connection points that sessions share.
    pub sites: Vec<Site>,
    /// Reserve products on sale; empty for an energy-only problem.
    pub reserves: Vec<Reserve>,
    /// How energy is kept for the reserves sold.
    pub headroom: Headroom,
}

/// One vehicle plugged in once, over the steps `first..first + share.len()`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Index into [`Problem::sites`], where the session is behind a shared limit.
    pub site: Option<usize>,
    /// First step the session touches.
    pub first: usize,
    /// Share of each step, 0 to 1, during which the vehicle is plugged in (`f`). Only steps with a
    /// share of exactly 1 may hold reserve.
    pub share: Vec<f64>,
    /// Usable capacity, kWh (`C`).
    pub capacity: f64,
    /// Energy at plug-in, kWh (`E0`).
    pub arrival: f64,
    /// Never below this level, kWh (`F`, at most `arrival`).
    pub floor: f64,
    /// Level wanted at departure, kWh: `max(F, min(required, C, E0 + ec*Pc*D*sum f))`.
    pub goal: f64,
    /// Most charging power, kW (`Pc`).
    pub charge_kw: f64,
    /// Most discharging power, kW (`Pd`); zero for a one-way charger.
    pub discharge_kw: f64,
    /// Share of grid energy that reaches the battery (`ec`), above 0, at most 1.
    pub charge_efficiency: f64,
    /// Share of battery energy that reaches the grid (`ed`), above 0, at most 1.
    pub discharge_efficiency: f64,
}

impl Session {
    /// Steps of the problem's grid that the session touches.
    #[must_use]
    pub fn steps(&self) -> Range<usize> {
        self.first..self.first + self.share.len()
    }

    /// Whether the vehicle may hold reserve in its own step `j`: only when plugged in throughout.
    #[must_use]
    pub fn whole(&self, j: usize) -> bool {
        self.share.get(j).is_some_and(|f| *f >= 1.0)
    }
}

/// A connection point: limits on base load and sessions together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Most power drawn, kW; infinite where there is no limit.
    pub import_kw: f64,
    /// Most power fed back, kW; infinite where there is no limit.
    pub export_kw: f64,
    /// Load of everything else behind the point, kW per step of the grid; positive draws. Empty means none.
    pub base_kw: Vec<f64>,
}

impl Site {
    /// Base load in a step, kW.
    #[must_use]
    pub fn base(&self, step: usize) -> f64 {
        self.base_kw.get(step).copied().unwrap_or(0.0)
    }
}

/// Which way a reserve product may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Both ways with one volume (FCR).
    Symmetric,
    /// Fleet power falls (aFRR up).
    Up,
    /// Fleet power rises (aFRR down).
    Down,
}

impl Direction {
    /// Whether the product can ask for less load.
    #[must_use]
    pub const fn has_up(self) -> bool {
        matches!(self, Self::Symmetric | Self::Up)
    }

    /// Whether the product can ask for more load.
    #[must_use]
    pub const fn has_down(self) -> bool {
        matches!(self, Self::Symmetric | Self::Down)
    }
}

/// One reserve product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    /// Which way it may be called.
    pub direction: Direction,
    /// Power kept free per power sold (1.25 for limited-energy FCR, 1 for aFRR).
    pub power_factor: f64,
    /// How long full activation must be sustained, hours.
    pub endurance_hours: f64,
    /// What is sold as one: a block has one volume throughout. Blocks of a product do not overlap.
    pub blocks: Vec<Block>,
}

impl Reserve {
    /// Steps an activation window covers on a grid of `step_hours`.
    #[must_use]
    pub fn window_steps(&self, step_hours: f64) -> usize {
        window_steps(self.endurance_hours, step_hours)
    }
}

/// Steps an activation window covers: the endurance over the length of a step, both hours, rounded up (a hair of rounding
/// aside), at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "endurances are hours, steps minutes"
)]
pub(crate) fn window_steps(endurance_hours: f64, step_hours: f64) -> usize {
    (endurance_hours / step_hours - 1e-9).ceil().max(1.0) as usize
}

/// One tradable block of a reserve product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Steps of the grid the block covers.
    pub steps: Range<usize>,
    /// EUR per MW for the whole block.
    pub price: f64,
}

/// How much energy a vehicle keeps for the reserve it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Headroom {
    /// Full activation must be sustainable from either boundary of the step alone.
    Snapshot,
    /// Every activation window of the product's endurance must be sustainable while the old schedule
    /// still runs for `recovery_steps` steps after it.
    Window {
        /// Steps until a changed schedule takes effect (`L`).
        recovery_steps: usize,
    },
}

/// What every session does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// One entry per session, in the problem's order.
    pub sessions: Vec<SessionSchedule>,
    /// Volume sold, MW: `[product][block]`.
    pub block_mw: Vec<Vec<f64>>,
}

impl Schedule {
    /// Energy missing at departure over all sessions, kWh.
    #[must_use]
    pub fn short_kwh(&self) -> f64 {
        self.sessions.iter().map(|s| s.short_kwh).sum()
    }
}

/// What one session does; every per-step vector has `share.len()` entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionSchedule {
    /// Charging power per step, kW (mean over the whole step).
    pub charge_kw: Vec<f64>,
    /// Discharging power per step, kW (mean over the whole step).
    pub discharge_kw: Vec<f64>,
    /// Energy at the boundaries, kWh; one entry more than there are steps.
    pub energy_kwh: Vec<f64>,
    /// Energy missing at departure, kWh.
    pub short_kwh: f64,
    /// Reserve held, one entry per product of the problem; empty where the problem has none.
    pub reserves: Vec<Held>,
}

/// Reserve one session holds for one product, kW per step, before the power factor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The part of Up that only cancels charging (`ruc`).
    pub up_charge_kw: Vec<f64>,
    /// The part of Up that draws on the battery (`rud`).
    pub up_discharge_kw: Vec<f64>,
    /// Down (`rd`).
    pub down_kw: Vec<f64>,
}

impl Held {
    /// Up reserve in step `j`, kW (`ru`).
    #[must_use]
    pub fn up_kw(&self, j: usize) -> f64 {
        self.up_charge_kw.get(j).copied().unwrap_or(0.0)
            + self.up_discharge_kw.get(j).copied().unwrap_or(0.0)
    }
}

/// What solving a problem ended in.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A feasible schedule with a proven bound; how good it is says [`Answer::relative_gap`].
    Solved(Box<Answer>),
    /// No schedule keeps a site within its limits.
    Infeasible(Infeasible),
    /// The solver got stuck without any schedule that could be repaired.
    Stalled {
        /// The solver's last word.
        reason: String,
    },
}

impl Outcome {
    /// The answer, if there is one.
    #[must_use]
    pub fn answer(self) -> Option<Answer> {
        match self {
            Self::Solved(answer) => Some(*answer),
            Self::Infeasible(_) | Self::Stalled { .. } => None,
        }
    }
}

/// Where a problem has no solution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Infeasible {
    /// Index into [`Problem::sites`].
    pub site: usize,
    /// Step of the grid. Exact where base load and the vehicles plugged in then cannot meet the limit at all; else
    /// the step that weighs most in the proof that the batteries cannot carry the site through.
    pub step: usize,
    /// Least excess over the limit that step would have on its own, kW; zero where only the batteries' energy is at fault.
    pub excess_kw: f64,
}

/// A feasible schedule and how far it can be from the best.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What every session does; passes [`check`](super::check).
    pub schedule: Schedule,
    /// Net cost plus the price of missing energy, EUR, recomputed from the schedule.
    pub objective: f64,
    /// Energy and wear less capacity payments, EUR.
    pub net_cost: f64,
    /// No schedule costs less than this, EUR; valid whatever the solver did.
    pub lower_bound: f64,
    /// `(objective - lower_bound) / max(|objective|, 1 cent)`, never negative.
    pub relative_gap: f64,
    /// Shadow prices.
    pub duals: Duals,
    /// Iterations of the interior point over all components; zero where the dynamic programme sufficed.
    pub iterations: u32,
}

/// Shadow prices of an [`Answer`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Duals {
    /// Value of one more kWh in the battery at each boundary, EUR per kWh: `[session][boundary 1..=m]`.
    /// Empty for a session solved together with others.
    pub energy: Vec<Vec<f64>>,
    /// Value of one more kW of import at a site, EUR per kW: `(site, step, value)`, only where it binds.
    pub import: Vec<(usize, usize, f64)>,
    /// Value of one more kW of export at a site, EUR per kW: `(site, step, value)`, only where it binds.
    pub export: Vec<(usize, usize, f64)>,
}
