//! The flexible part of the fleet, laid out for splitting.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::TimeDelta;
use fleet::{EvseId, SiteId};
use units::Power;

/// One EVSE that the pool may move.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// Outlet.
    pub id: EvseId,
    /// Grid connection point.
    pub site: SiteId,
    /// Planned power now.
    pub plan: Power,
    /// Planned share of a call that lowers pool power, at least zero.
    pub up: Power,
    /// Planned share of a call that raises pool power, at least zero.
    pub down: Power,
    /// Lowest power.
    pub low: Power,
    /// Highest power.
    pub high: Power,
    /// Lowest power if it charges at all; zero if any power is possible.
    pub min_charge: Power,
    /// How unwilling it is to leave its plan, more than zero; larger moves less.
    pub weight: f64,
    /// True if it charges now: what is on is kept on before others are switched on.
    pub on: bool,
    /// What it was told last, while that holds.
    pub told: Option<Told>,
}

/// A power that a unit was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Power.
    pub power: Power,
    /// For how long it has been the same.
    pub age: TimeDelta,
}

/// Limits of a grid connection point, what the units of the pool may use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteLimit {
    /// Most that may be taken from the grid; below zero where something else takes more than the fuse carries.
    pub import: Power,
    /// Most that may be given to the grid as a magnitude; below zero likewise.
    pub export: Power,
}

impl SiteLimit {
    /// What is left beside `power` that flows at the same place.
    #[must_use]
    pub fn beside(self, power: Power) -> Self {
        Self {
            import: self.import - power,
            export: self.export + power,
        }
    }
}

/// Units by site, then by name: the same fleet gives the same pool in whatever order it is told.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    pub(crate) ids: Vec<EvseId>,
    pub(crate) sites: Vec<Site>,
    pub(crate) plan: Vec<f64>,
    pub(crate) up: Vec<f64>,
    pub(crate) down: Vec<f64>,
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<f64>,
    pub(crate) min_charge: Vec<f64>,
    /// 1 / weight.
    pub(crate) ease: Vec<f64>,
    pub(crate) on: Vec<bool>,
    pub(crate) told: Vec<Option<Told>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) units: Range<usize>,
    /// Lowest and highest power of the connection point, W.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "watts of one EVSE or site are far below 2^53"
)]
pub(crate) const fn real(power: Power) -> f64 {
    power.watts() as f64
}

impl Pool {
    /// A pool of `units` under the limits of their sites; a site without an entry has none.
    ///
    /// Where `low` and `high` of a unit cross, `low` counts: a need comes before a limit of comfort. A plan outside is brought inside; a weight
    /// that is not a positive number counts as 1.
    #[must_use]
    pub fn new(mut units: Vec<Unit>, limits: &BTreeMap<SiteId, SiteLimit>) -> Self {
        units.sort_by(|a, b| (&a.site, &a.id).cmp(&(&b.site, &b.id)));
        units.dedup_by(|a, b| a.id == b.id && a.site == b.site);
        let sites: Vec<SiteId> = units.iter().map(|unit| unit.site.clone()).collect();
        Self::in_order(units, |i| limits.get(&sites[i]).copied())
    }

    /// The same of `units` that are in order of site, then name, each once: they keep their places. `limit` says what holds at the site of
    /// the unit at a place.
    #[must_use]
    pub fn in_order(units: Vec<Unit>, limit: impl Fn(usize) -> Option<SiteLimit>) -> Self {
        debug_assert!(units.is_sorted_by(|a, b| (&a.site, &a.id) < (&b.site, &b.id)));
        let mut pool = Self::default();
        let mut last: Option<SiteId> = None;
        for (i, unit) in units.into_iter().enumerate() {
            if last.as_ref() == Some(&unit.site) {
                if let Some(site) = pool.sites.last_mut() {
                    site.units.end = i + 1;
                }
            } else {
                let limit = limit(i);
                pool.sites.push(Site {
                    units: i..i + 1,
                    low: limit.map_or(f64::NEG_INFINITY, |l| -real(l.export)),
                    high: limit.map_or(f64::INFINITY, |l| real(l.import)),
                });
                last = Some(unit.site.clone());
            }
            pool.push(unit);
        }
        pool
    }

    fn push(&mut self, unit: Unit) {
        let low = real(unit.low);
        let high = real(unit.high).max(low);
        self.low.push(low);
        self.high.push(high);
        self.plan.push(real(unit.plan).clamp(low, high));
        self.up.push(real(unit.up).max(0.0));
        self.down.push(real(unit.down).max(0.0));
        let min_charge = real(unit.min_charge);
        self.min_charge
            .push(if min_charge > high { 0.0 } else { min_charge });
        let usable = unit.weight.is_finite() && unit.weight > 0.0;
        self.ease.push(if usable { 1.0 / unit.weight } else { 1.0 });
        self.on.push(unit.on);
        self.told.push(unit.told);
        self.ids.push(unit.id);
    }

    /// Number of units.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True without units.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Names in the order of a split.
    #[must_use]
    pub fn ids(&self) -> &[EvseId] {
        &self.ids
    }

    /// Sum of the planned powers, watts.
    #[must_use]
    pub fn planned(&self) -> Power {
        #[expect(clippy::cast_possible_truncation, reason = "whole watts")]
        Power::from_watts(self.plan.iter().sum::<f64>() as i64)
    }
}
