//! Reactive power of chargers that can shift the phase of their current: the circle `p^2 + q^2 <= S^2` as a second-order cone
//! (`optimisation.md` 3).
//!
//! ```text
//!      q                charger: |(p + Down, q)| <= S  and  |(p - Up, q)| <= S       with all reserve activated, either way
//!    __|__              point:   |(P + Down, Q)| <= rating,  |(P - Up, Q)| <= rating     base load included
//!   /  |  \             band:    low <= Q <= high
//!  |---+---| p          charge:  per kvar of the period's highest Q above what is free
//!   \__|__/
//! ```
//!
//! `q` is kept while reserve is activated. While a dimming lasts and after it, active power goes first: what a charger then
//! has left for `q`, and the rating of the point, are not looked at.

mod done;
mod rows;

use serde::{Deserialize, Serialize};

pub use done::site_kvar;
pub(super) use done::{fit, gives, peak_cost};
pub(super) use rows::{Rows, build, shared};

use super::problem::Problem;

/// Reactive power at a connection point; positive is drawn (inductive), as active power is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reactive {
    /// Reactive draw of everything else behind the point, kvar per step; empty means none.
    pub base_kvar: Vec<f64>,
    /// Most apparent power through the point, kVA: what its transformer is made for; `None` without limit.
    pub rating_kva: Option<f64>,
    /// Least reactive draw that the network operator asks for, kvar; `None` without.
    pub low_kvar: Option<f64>,
    /// Most reactive draw that the network operator asks for, kvar; `None` without.
    pub high_kvar: Option<f64>,
    /// Charges on the highest reactive draw of each billing period; empty for none.
    pub charges: Vec<ReactiveCharge>,
}

/// A charge on the highest reactive draw within some steps (`markets.md` 12, power factor).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReactiveCharge {
    /// Steps whose draw counts.
    pub steps: Vec<usize>,
    /// Per kvar of the period's highest draw above what is free.
    pub per_kvar: f64,
    /// Free of charge, kvar: a share of the period's peak of active power so far. A higher peak later would make more of it
    /// free, which is not counted on.
    pub free_kvar: f64,
    /// Highest draw of the period before the horizon, kvar.
    pub to_date_kvar: f64,
}

impl ReactiveCharge {
    /// What is owed for whatever is done, kvar.
    fn owed(&self) -> f64 {
        (self.to_date_kvar - self.free_kvar).max(0.0)
    }
}

impl Reactive {
    /// Reactive base load in a step, kvar.
    #[must_use]
    pub fn base(&self, step: usize) -> f64 {
        self.base_kvar.get(step).copied().unwrap_or(0.0)
    }

    /// Whether anything at the point asks for reactive power or limits it.
    fn matters(&self) -> bool {
        self.rating_kva.is_some()
            || self.low_kvar.is_some()
            || self.high_kvar.is_some()
            || !self.charges.is_empty()
    }
}

/// Rating of a vehicle's charger, kVA, where its reactive power is of any use.
pub(super) fn rating(problem: &Problem, vehicle: &super::Vehicle) -> Option<f64> {
    let site = problem.sites.get(vehicle.session.site?)?;
    let useful = site.reactive.as_ref().is_some_and(Reactive::matters);
    vehicle.rating_kva.filter(|_| useful)
}
