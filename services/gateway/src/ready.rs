//! How much reserve stands ready, where, and how much of a call went unanswered.

use std::collections::BTreeMap;
use std::sync::Arc;

use dispatch::fleet::SiteId;
use market::Product;
use units::Power;

use crate::cycle::{Fleet, contribution};
use crate::layout::Layout;

/// Power that the pool could fall and rise by from its baseline.
#[derive(Clone, Copy, Default)]
pub(crate) struct Headroom {
    pub(crate) up: Power,
    pub(crate) down: Power,
}

pub(crate) fn headroom(
    layout: &Layout,
    fleet: &Fleet<'_>,
    baseline: Power,
    fixed: Power,
) -> Headroom {
    let mut sites = vec![(Power::ZERO, Power::ZERO, Power::ZERO); layout.limits().len()];
    for member in &fleet.members {
        let site = &mut sites[layout.site(member.place)];
        if member.is_moved() {
            site.0 += member.envelope.low;
            site.1 += member.envelope.high;
        } else {
            site.2 += contribution(member);
        }
    }
    let (mut low, mut high) = (Power::ZERO, Power::ZERO);
    for ((least, most, beside), limit) in sites.into_iter().zip(layout.limits()) {
        let limit = limit.map(|l| l.beside(beside));
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
pub(crate) fn backing(layout: &Layout, fleet: &Fleet<'_>) -> Backing {
    let mut spans = vec![Power::ZERO; layout.limits().len()];
    for member in fleet.moved() {
        spans[layout.site(member.place)] += member.envelope.high - member.envelope.low;
    }
    Backing {
        sites: Arc::clone(layout.names()),
        spans,
    }
}

/// What stands behind the awards, by site.
#[derive(Debug, Default)]
pub(crate) struct Backing {
    sites: Arc<[SiteId]>,
    spans: Vec<Power>,
}

impl Backing {
    /// By the name of the site, those that can move at all.
    pub(crate) fn by_site(&self) -> BTreeMap<String, Power> {
        let sites = self.sites.iter().zip(&self.spans);
        let some = sites.filter(|(_, span)| **span > Power::ZERO);
        some.map(|(site, span)| (site.to_string(), *span)).collect()
    }
}
