//! How much reserve stands ready, where, and how much of a call went unanswered.

use std::collections::BTreeMap;

use dispatch::fleet::SiteId;
use market::Product;
use units::Power;

use crate::cycle::{Fleet, contribution};
use crate::view::View;

/// Power that the pool could fall and rise by from its baseline.
#[derive(Clone, Copy, Default)]
pub(crate) struct Headroom {
    pub(crate) up: Power,
    pub(crate) down: Power,
}

pub(crate) fn headroom(view: &View, fleet: &Fleet<'_>, baseline: Power, fixed: Power) -> Headroom {
    let mut sites: BTreeMap<&SiteId, (Power, Power, Power)> = BTreeMap::new();
    for member in &fleet.flexible {
        let site = sites.entry(&member.state.evse.site).or_default();
        site.0 += member.envelope.low;
        site.1 += member.envelope.high;
    }
    for member in &fleet.fixed {
        sites.entry(&member.state.evse.site).or_default().2 += contribution(member);
    }
    let (mut low, mut high) = (Power::ZERO, Power::ZERO);
    for (site, (least, most, beside)) in sites {
        let limit = view.sites.get(site).map(|l| l.beside(beside));
        low += limit.map_or(least, |l| least.max(-l.export));
        high += limit.map_or(most, |l| most.min(l.import));
    }
    Headroom {
        up: (baseline - fixed - low).max(Power::ZERO),
        down: (fixed + high - baseline).max(Power::ZERO),
    }
}

/// Power ready for a product; restoration has what containment leaves.
pub(crate) fn held(product: Product, headroom: Headroom, fcr: Power) -> Power {
    match product {
        Product::Fcr => headroom.up.min(headroom.down),
        Product::AfrrUp => (headroom.up - fcr).max(Power::ZERO),
        Product::AfrrDown => (headroom.down - fcr).max(Power::ZERO),
        Product::DayAhead => Power::ZERO,
    }
}

/// Part of a request that was not answered: how far the pool is off beyond the tolerance, against the direction of the request.
pub(crate) fn unanswered(error: Power, request: Power, tolerance: Power) -> Power {
    let against = -error.watts() * request.watts().signum();
    Power::from_watts((against - tolerance.watts()).clamp(0, request.watts().abs()))
}

pub(crate) fn ratio(part: Power, whole: Power) -> f64 {
    if whole > Power::ZERO {
        part.kw() / whole.kw()
    } else {
        0.0
    }
}

/// Power that each site could move in either direction.
pub(crate) fn backing(fleet: &Fleet<'_>) -> BTreeMap<String, Power> {
    let mut by_site: BTreeMap<String, Power> = BTreeMap::new();
    for member in &fleet.flexible {
        let span = member.envelope.high - member.envelope.low;
        if span > Power::ZERO {
            *by_site
                .entry(member.state.evse.site.as_str().to_owned())
                .or_default() += span;
        }
    }
    by_site
}
