//! The five policies of a back-test (contract 5) and the account of what each did.
//!
//! A policy is a pure function of a [`Case`]. `unmanaged` and the `-perfect` ones are a few lines; `v1g` and `v2g`
//! walk through the period step by step and see at each instant only what was known then.

pub mod account;
mod limits;
pub mod outcome;
mod penalty;
mod perfect;
mod qualify;
mod risk;
mod rolling;
#[cfg(test)]
mod tests;
mod unmanaged;

use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::reference::{ProblemError, SessionSchedule};

pub use account::{Account, CapacityRevenue, account};
pub use limits::limits;
pub use rolling::{DayPlan, PlannedBid, PlannedSession, PlannedStep, Score, Scored};

/// Who decides, and on what knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Policy {
    /// Full power from plug-in until the required energy is reached.
    #[serde(rename = "unmanaged")]
    Unmanaged,
    /// Charging only, on what was known at each moment.
    #[serde(rename = "v1g")]
    V1g,
    /// Charging and discharging, on what was known at each moment.
    #[serde(rename = "v2g")]
    V2g,
    /// Charging only, knowing the whole period: the bound for `v1g`.
    #[serde(rename = "v1g-perfect")]
    V1gPerfect,
    /// Charging and discharging, knowing the whole period: the bound for `v2g`.
    #[serde(rename = "v2g-perfect")]
    V2gPerfect,
}

/// A name that is no policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("policy {0:?} is unknown, expected one of unmanaged, v1g, v2g, v1g-perfect, v2g-perfect")]
pub struct PolicyNameError(pub String);

impl Policy {
    /// All policies, in the order of a report.
    pub const ALL: [Self; 5] = [
        Self::Unmanaged,
        Self::V1g,
        Self::V2g,
        Self::V1gPerfect,
        Self::V2gPerfect,
    ];

    /// Name in commands, reports and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmanaged => "unmanaged",
            Self::V1g => "v1g",
            Self::V2g => "v2g",
            Self::V1gPerfect => "v1g-perfect",
            Self::V2gPerfect => "v2g-perfect",
        }
    }

    /// Whether vehicles may discharge under it.
    #[must_use]
    pub const fn discharges(self) -> bool {
        matches!(self, Self::V2g | Self::V2gPerfect)
    }

    /// Whether it knows the whole period beforehand.
    #[must_use]
    pub const fn is_perfect(self) -> bool {
        matches!(self, Self::V1gPerfect | Self::V2gPerfect)
    }
}

impl std::str::FromStr for Policy {
    type Err = PolicyNameError;
    fn from_str(name: &str) -> Result<Self, PolicyNameError> {
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| PolicyNameError(name.to_owned()))
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a policy has no result.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum PolicyError {
    /// No schedule keeps a site within its limits.
    #[error(
        "site {site}: no schedule keeps its limits in the interval starting {at}: {excess_kw:.1} kW too much"
    )]
    Infeasible {
        /// Site name.
        site: String,
        /// Start of the interval.
        at: chrono::DateTime<chrono::Utc>,
        /// Least excess over the limit there, kW; zero where only the batteries' energy is at fault.
        excess_kw: f64,
    },
    /// The solver ended without a schedule.
    #[error("the solver stopped without a schedule: {0}")]
    Stalled(String),
    /// The case does not make a problem.
    #[error("the scenario does not make a problem")]
    Problem(#[source] ProblemError),
}

/// What one policy did over the period.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Who decided.
    pub policy: Policy,
    /// What each session did, in the order of [`Case::sessions`]; reserves in the order of [`Case::reserves`].
    pub sessions: Vec<SessionSchedule>,
    /// Day-ahead position per step, kW, positive is bought; `None` where all energy is bought at the day-ahead price.
    pub sold_kw: Option<Vec<f64>>,
    /// Reserve sold, MW: `[product][block on sale]`.
    pub sold_mw: Vec<Vec<f64>>,
    /// What reserve sold is paid, currency per MW for the whole block: `[product][block on sale]`; empty where each block
    /// is paid its published price.
    pub paid: Vec<Vec<f64>>,
    /// Reserve sold but not there, MW: `[product][step]`; empty where nothing was missing by construction.
    pub missing_mw: Vec<Vec<f64>>,
    /// How often the qualification for each product was lost; empty where it cannot be.
    pub qualifications_lost: Vec<usize>,
    /// Spans of steps sold ahead, with what each was expected to cost when its price was out, currency.
    pub planned: Vec<(std::ops::Range<usize>, f64)>,
    /// What positions of each day sold ahead cost in ways drawn afresh; empty unless asked for by [`Case::scoring`].
    pub scores: Vec<Score>,
    /// Proven distance from the optimum of R, relative; `None` where no bound was computed.
    pub relative_gap: Option<f64>,
    /// What no schedule can cost less than (objective of R); `None` where no bound was computed.
    pub lower_bound: Option<f64>,
    /// Limits whose price the solver knows, dearest first; see also [`limits`].
    pub limits: Vec<Limit>,
}

/// Something that limited a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// What it is, in words.
    pub what: String,
    /// Steps in which it bound.
    pub steps: usize,
    /// What it cost over the period, currency, where a price is known.
    pub cost: Option<f64>,
}

impl Run {
    /// Pool power per step, kW: charging and discharging apart, both at least zero.
    #[must_use]
    pub fn load(&self, case: &Case) -> (Vec<f64>, Vec<f64>) {
        let (mut charge, mut discharge) = (vec![0.0; case.grid.steps], vec![0.0; case.grid.steps]);
        for (session, done) in case.sessions.iter().zip(&self.sessions) {
            for (j, t) in session.steps().enumerate() {
                charge[t] += done.charge_kw[j];
                discharge[t] += done.discharge_kw[j];
            }
        }
        (charge, discharge)
    }
}

/// Runs one policy over the whole case.
///
/// # Errors
/// [`PolicyError`] where a perfect policy has no schedule at all; the others always have one.
pub fn run(case: &Case, policy: Policy) -> Result<Run, PolicyError> {
    match policy {
        Policy::Unmanaged => Ok(unmanaged::run(case)),
        Policy::V1gPerfect | Policy::V2gPerfect => perfect::run(case, policy),
        Policy::V1g | Policy::V2g => Ok(rolling::run(case, policy)),
    }
}

/// What `v1g` or `v2g` has decided for one delivery day when its last gate closes. Nothing after that instant is used.
///
/// `None` for a day outside the period, and for policies that bid for no day on its own.
#[must_use]
pub fn plan_day(case: &Case, policy: Policy, date: chrono::NaiveDate) -> Option<DayPlan> {
    match policy {
        Policy::V1g | Policy::V2g => rolling::plan_day(case, policy, date),
        Policy::Unmanaged | Policy::V1gPerfect | Policy::V2gPerfect => None,
    }
}
