//! A network operator that may dim the draw of charge points for a while (EnWG 14a), as a contingency.
//!
//! What a vehicle draws while dimmed (`a`) and after (`z`) is decided beforehand, the same whenever the dimming begins:
//!
//! ```text
//! |---- plan: c, d ----|-- dimmed: a --|-------- after: z --------| departure
//!                      s             s + n
//! e[s] + ec*D*( sum a[s..s+n] + sum z[s+n..] ) + short >= goal         for every boundary s of the stay
//! ```
//!
//! Both are means of a step, as every power. One pair for all beginnings is what makes the rows few; it gives away something only where vehicles share
//! what is left or a limit. A shorter dimming leaves no less, since `a <= z`.

mod done;
mod rows;

use serde::{Deserialize, Serialize};

use super::problem::{Problem, Vehicle};
use crate::reference::window_steps;
pub(super) use done::{fit, most, read, recovery, short};
pub(super) use rows::{Contingency, build, shared};

/// Charge points whose draw an operator may dim together, at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dimming {
    /// Name, for reasons.
    pub name: String,
    /// Longest time it may last, hours; counted in whole steps.
    pub hours: f64,
    /// Draw that is left. A vehicle is in one entry of one dimming at most.
    pub left: Vec<Left>,
    /// Whether no more Down is sold than is held while dimmed and after. Down by ceasing to discharge is not counted.
    pub holds_down: bool,
}

/// What is left of the draw of some vehicles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// Indices of the vehicles: one behind a charge point of its own, all of a site behind an energy manager.
    pub vehicles: Vec<usize>,
    /// Most that they draw together while dimmed, kW; discharge is not limited and not counted.
    pub kw: f64,
}

/// What one vehicle does if it is dimmed; every vector has one entry per step of the stay, kW.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dimmed {
    /// Draw while dimmed.
    pub during_kw: Vec<f64>,
    /// Draw from the end of the dimming on.
    pub after_kw: Vec<f64>,
    /// Down still held while dimmed, one vector per product.
    pub down_kw: Vec<Vec<f64>>,
}

/// What one vehicle is exposed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exposed {
    pub(super) dimming: usize,
    /// Longest dimming, steps.
    steps: usize,
    /// Draw left, alone or shared with others, kW.
    kw: f64,
    shared: bool,
    /// Whether an import limit may hold it back after the dimming.
    limited: bool,
    holds_down: bool,
}

impl Exposed {
    /// Most that `vehicle` draws while dimmed in the stay's step `j`, kW as a mean of the step.
    pub(super) fn most(&self, vehicle: &Vehicle, j: usize) -> f64 {
        vehicle.session.share[j] * self.kw.min(vehicle.session.charge_kw).max(0.0)
    }

    /// First step of the stay after a dimming that begins with step `begin`. One that begins or ends within a step in which
    /// the vehicle comes or goes counts through that step, so that beginnings between boundaries are no worse.
    pub(super) fn end(&self, vehicle: &Vehicle, begin: usize) -> usize {
        let share = &vehicle.session.share;
        let partly = |j: usize| share.get(j).is_some_and(|f| *f < 1.0);
        let end = begin + self.steps + usize::from(partly(begin));
        (end + usize::from(partly(end))).min(share.len())
    }
}

/// Weight of a vehicle's mean power of a step while it is plugged in: all of it falls into its share of the step.
pub(super) fn while_in(problem: &Problem, (v, j): (usize, usize)) -> f64 {
    1.0 / problem.vehicles[v].session.share[j].clamp(f64::MIN_POSITIVE, 1.0)
}

/// What a vehicle is exposed to; `None` where nobody may dim it or nothing is owed that a dimming could take.
pub(super) fn exposed(problem: &Problem, vehicle: usize) -> Option<Exposed> {
    let (dimming, left) = problem
        .dimmings
        .iter()
        .enumerate()
        .find_map(|(d, record)| {
            let mine = record.left.iter().find(|l| l.vehicles.contains(&vehicle));
            mine.map(|left| (d, left))
        })?;
    let record = &problem.dimmings[dimming];
    let site = problem.vehicles[vehicle].session.site;
    let limited = site.is_some_and(|site| {
        problem.sites[site].import_kw.is_some()
            || problem
                .areas
                .iter()
                .any(|a| a.sites.contains(&site) && a.import_kw.iter().any(Option::is_some))
    });
    Some(Exposed {
        dimming,
        steps: window_steps(record.hours, problem.step_hours),
        kw: left.kw,
        shared: left.vehicles.len() > 1,
        limited,
        holds_down: record.holds_down,
    })
}

/// A site or an area, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Site(usize),
    Area(usize),
}

impl Place {
    pub(super) fn all(problem: &Problem) -> impl Iterator<Item = Self> + use<> {
        let sites = (0..problem.sites.len()).map(Place::Site);
        sites.chain((0..problem.areas.len()).map(Place::Area))
    }

    /// Whether a vehicle stands there.
    pub(super) fn has(self, problem: &Problem, vehicle: usize) -> bool {
        let Some(site) = problem.vehicles[vehicle].session.site else {
            return false;
        };
        match self {
            Self::Site(own) => own == site,
            Self::Area(area) => problem.areas[area].sites.contains(&site),
        }
    }

    /// Import limit in a step, kW.
    fn import(self, problem: &Problem, step: usize) -> Option<f64> {
        match self {
            Self::Site(site) => problem.sites[site].import_kw,
            Self::Area(area) => problem.areas[area].import_kw.get(step).copied().flatten(),
        }
    }

    /// Room that base load leaves vehicles under the import limit in a step, kW; `None` without limit.
    pub(super) fn room(self, problem: &Problem, step: usize) -> Option<f64> {
        let limit = self.import(problem, step)?;
        Some((limit - self.base(problem, step)).max(0.0))
    }

    /// Price of exceeding a limit for a step, per kW.
    pub(super) fn price(self, problem: &Problem) -> f64 {
        let elastic = &problem.elastic;
        let per_kwh = match self {
            Self::Site(_) => elastic.site_per_kwh,
            Self::Area(_) => elastic.area_per_kwh,
        };
        per_kwh * problem.step_hours
    }

    /// Base load in a step, kW.
    fn base(self, problem: &Problem, step: usize) -> f64 {
        match self {
            Self::Site(site) => problem.sites[site].base(step),
            Self::Area(area) => {
                let sites = problem.areas[area].sites.iter();
                sites.map(|site| problem.sites[*site].base(step)).sum()
            }
        }
    }
}
