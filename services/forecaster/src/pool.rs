//! The pool as the availability forecast sees it: visits in numbered groups, and the stays they stand for.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fleet::{EvseId, EvseState, SiteId, VehicleId};
use forecast::availability::{Log, Metered, Said, Slack, Visit};
use forecast::{Plugged, Stay};
use units::{Efficiency, Energy, Interval};
use wire::fleet::PastSession;

use crate::config::Config;
use crate::history::{self, History};

/// Groups whose paths are kept apart at most: each takes a megabyte for every past day that is repeated. A fleet at more places is told by
/// class and area.
const MOST_GROUPS: usize = 48;

/// What a group has in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// `None` where sites are too many to be told apart.
    site: Option<SiteId>,
    class: String,
    area: Option<String>,
}

/// A stay behind a visit.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// It has ended.
    Past(Stay<EvseId>),
    /// It lasts; its energy is what is still to be added.
    Plugged(Plugged<EvseId>),
}

/// All visits known at an instant.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) log: Log,
    /// In the order in which the log counts its visits.
    pub(crate) sources: Vec<Source>,
    groups: Vec<Place>,
    /// Start of the oldest visit.
    pub(crate) first: Option<DateTime<Utc>>,
    /// Whether one visit at least has ended.
    pub(crate) has_past: bool,
}

/// Numbers for names, in order of their first sight.
#[derive(Debug)]
struct Numbers<K>(BTreeMap<K, u32>);

impl<K: Ord + Clone> Numbers<K> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn of(&mut self, name: &K) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(name.clone()).or_insert(next)
    }
}

impl Pool {
    /// The visits of `history` as known at `now`.
    pub(crate) fn new(config: &Config, history: &History, now: DateTime<Utc>) -> Self {
        let areas = &config.areas;
        let ended = history.sessions().filter_map(|past| {
            let stay = history::ended(past).filter(|s| s.span.end() <= now)?;
            Some(Seen::past(past, stay))
        });
        let lasting = history
            .states()
            .iter()
            .filter_map(|state| Seen::plugged(state, now));
        let seen: Vec<Seen> = ended.chain(lasting).collect();
        let mut places = Numbers::new();
        for visit in &seen {
            places.of(&visit.place(areas, true));
        }
        let by_site = places.0.len() <= MOST_GROUPS;
        if !by_site {
            tracing::warn!(
                "{} places are too many to forecast one by one: by class and area only",
                places.0.len()
            );
        }
        let (mut places, mut classes) = (Numbers::new(), Numbers::new());
        let (mut outlets, mut users) = (Numbers::new(), Numbers::new());
        let visits: Vec<Visit> = seen
            .iter()
            .map(|visit| {
                let place = visit.place(areas, by_site);
                Visit {
                    group: places.of(&place),
                    class: classes.of(&place.class),
                    outlet: Some(outlets.of(&visit.stay().outlet)),
                    user: visit.vehicle.as_ref().map(|v| users.of(v)),
                    ..visit.visit.clone()
                }
            })
            .collect();
        let mut groups: Vec<(Place, u32)> = places.0.into_iter().collect();
        groups.sort_by_key(|g| g.1);
        Self {
            first: visits.iter().map(|v| v.span.start()).min(),
            has_past: seen.iter().any(|v| matches!(v.source, Source::Past(_))),
            log: Log::new(config.zone, &visits).with_days_off(config.days_off.iter().copied()),
            sources: seen.into_iter().map(|v| v.source).collect(),
            groups: groups.into_iter().map(|g| g.0).collect(),
        }
    }

    /// Sites, classes and network areas with the groups they consist of.
    pub(crate) fn parts(&self) -> BTreeMap<String, Vec<u32>> {
        let mut parts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (number, place) in (0..).zip(&self.groups) {
            let site = place.site.as_ref().map(|s| format!("site/{s}"));
            let area = place.area.as_ref().map(|a| format!("area/{a}"));
            let class = Some(format!("class/{}", place.class));
            for name in [site, class, area].into_iter().flatten() {
                parts.entry(name).or_default().push(number);
            }
        }
        parts
    }
}

/// A visit with what is known of it beside.
struct Seen {
    visit: Visit,
    vehicle: Option<VehicleId>,
    site: SiteId,
    class: String,
    source: Source,
}

impl Seen {
    fn past(past: &PastSession, stay: Stay<EvseId>) -> Self {
        let needs = past.session.needs.as_ref();
        Self {
            visit: visit(&stay, stay.energy, needs.and_then(|n| n.departure), None),
            vehicle: past.session.vehicle.clone(),
            site: past.session.site.clone(),
            class: past.class.clone(),
            source: Source::Past(stay),
        }
    }

    fn plugged(state: &EvseState, now: DateTime<Utc>) -> Option<Self> {
        let plugged = history::plugged(state)?;
        let session = state.session.as_ref()?;
        let needs = session.session.needs.as_ref();
        let metered = session.added.map(|added| Metered {
            at: now,
            energy: at_grid(added.max(Energy::ZERO), plugged.stay.charge_efficiency),
        });
        // It lasts: its end is not known, and nothing looks at it.
        let begun = plugged.stay.span.start().min(now);
        let span = Interval::try_new(begun, now + chrono::TimeDelta::days(1)).ok()?;
        let stay = Stay {
            span,
            ..plugged.stay.clone()
        };
        let asked = needs.map_or(Energy::ZERO, |n| n.energy);
        let departure = needs.and_then(|n| n.departure);
        Some(Self {
            visit: visit(&stay, asked, departure, metered),
            vehicle: session.session.vehicle.clone(),
            site: state.evse.site.clone(),
            class: state.evse.class.clone(),
            source: Source::Plugged(plugged),
        })
    }

    fn stay(&self) -> &Stay<EvseId> {
        match &self.source {
            Source::Past(stay) => stay,
            Source::Plugged(plugged) => &plugged.stay,
        }
    }

    fn place(&self, areas: &BTreeMap<SiteId, String>, by_site: bool) -> Place {
        Place {
            site: by_site.then(|| self.site.clone()),
            class: self.class.clone(),
            area: areas.get(&self.site).cloned(),
        }
    }
}

/// A stay at the grid's side: `energy` inside the battery was wanted in all. Group, class, outlet and user are not numbered yet.
fn visit(
    stay: &Stay<EvseId>,
    energy: Energy,
    departure: Option<DateTime<Utc>>,
    metered: Option<Metered>,
) -> Visit {
    let energy = at_grid(energy, stay.charge_efficiency);
    let slack = stay.stored.zip(stay.capacity).map(|(stored, capacity)| {
        let room = (capacity - stored - stay.energy).max(Energy::ZERO);
        let spare = (stored - stay.floor).max(Energy::ZERO);
        Slack {
            room: at_grid(room, stay.charge_efficiency),
            spare: Energy::from_kwh(spare.kwh() * stay.discharge_efficiency.share()),
        }
    });
    Visit {
        span: stay.span,
        energy,
        charge: stay.max_charge,
        rating: Some(stay.max_charge),
        discharge: stay.max_discharge,
        outlet: None,
        user: None,
        group: 0,
        class: 0,
        metered,
        slack,
        said: departure.map(|departure| Said {
            departure,
            energy: Some(energy),
        }),
    }
}

/// What the grid gives for so much energy inside a battery.
fn at_grid(inside: Energy, efficiency: Efficiency) -> Energy {
    Energy::from_kwh(inside.kwh() / efficiency.share())
}
