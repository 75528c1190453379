//! Who stands where: the fleet in the order of its sites, kept from cycle to cycle.
//!
//! Names are compared when somebody comes or a limit changes; a cycle counts by places only.
//!
//! ```text
//! place     0        1        2        3        EVSEs in order of their names, as the view holds them
//! site      1        0        1        2        of a place, sites in order of their names
//! order     1, 0, 2, 3                          places in order of site and name, as a split wants them
//! ```

use std::sync::Arc;

use dispatch::SiteLimit;
use dispatch::fleet::{EvseId, SiteId};

use crate::view::View;

/// Places of the EVSEs of a view and of their sites.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Version of the view that it was made for; none before the first.
    version: Option<u64>,
    order: Vec<usize>,
    site: Vec<usize>,
    names: Arc<[SiteId]>,
    limits: Vec<Option<SiteLimit>>,
}

impl Layout {
    /// Brings it up to `view`; cheap unless somebody came or a limit changed.
    pub(crate) fn follow(&mut self, view: &View) {
        if self.version != Some(view.version()) {
            *self = Self::of(view);
        }
    }

    fn of(view: &View) -> Self {
        let evses: Vec<(&EvseId, &SiteId)> = view
            .fleet()
            .iter()
            .map(|(id, state)| (id, &state.evse.site))
            .collect();
        let mut order: Vec<usize> = (0..evses.len()).collect();
        // Places are in order of the name already.
        order.sort_by(|a, b| evses[*a].1.cmp(evses[*b].1));
        let (mut site, mut names) = (vec![0; evses.len()], Vec::<SiteId>::new());
        for place in &order {
            let name = evses[*place].1;
            if names.last() != Some(name) {
                names.push(name.clone());
            }
            site[*place] = names.len() - 1;
        }
        let limits = names.iter().map(|name| view.sites.get(name).copied());
        Self {
            version: Some(view.version()),
            limits: limits.collect(),
            names: names.into(),
            order,
            site,
        }
    }

    /// Places in order of site and name.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Number of the site of a place.
    pub(crate) fn site(&self, place: usize) -> usize {
        self.site[place]
    }

    /// Limits by the number of the site; none where nobody told any.
    pub(crate) fn limits(&self) -> &[Option<SiteLimit>] {
        &self.limits
    }

    /// Names by the number of the site.
    pub(crate) fn names(&self) -> &Arc<[SiteId]> {
        &self.names
    }
}

#[cfg(test)]
mod tests {
    use dispatch::fleet::state::EvseState;
    use dispatch::fleet::{Evse, Protocol, Site};
    use proptest::prelude::*;
    use units::{Efficiency, Power};

    use super::*;

    fn state(evse: u8, site: u8) -> EvseState {
        EvseState {
            evse: Evse {
                id: format!("e{evse}").parse().unwrap(),
                station: format!("cs{evse}").parse().unwrap(),
                site: format!("s{site}").parse().unwrap(),
                class: "home".to_owned(),
                protocol: Protocol::Ocpp21,
                max_charge: Power::from_watts(11_000),
                max_discharge: Power::ZERO,
                charge_efficiency: Efficiency::try_new(1.0).unwrap(),
                discharge_efficiency: Efficiency::try_new(1.0).unwrap(),
            },
            online: true,
            changed_at: "2026-01-10T10:00:00Z".parse().unwrap(),
            session: None,
            power: None,
            setpoint: None,
            unresponsive: false,
        }
    }

    fn site(site: u8, kw: i64) -> Site {
        Site {
            id: format!("s{site}").parse().unwrap(),
            name: String::new(),
            import_limit: Power::from_watts(kw * 1_000),
            export_limit: Power::ZERO,
        }
    }

    proptest! {
        /// However EVSEs come and move, and limits change in between.
        #[test]
        fn it_says_what_the_view_says(
            came in prop::collection::vec((0_u8..20, 0_u8..5, prop::option::of((0_u8..5, 1_i64..3))), 1..40),
        ) {
            let (mut view, mut layout) = (View::default(), Layout::default());
            for (evse, at, limit) in came {
                view.take_state(state(evse, at));
                if let Some((of, kw)) = limit {
                    view.take_sites(&[site(of, kw)]);
                }
                layout.follow(&view);
                let evses: Vec<_> = view.fleet().iter().collect();
                let ordered: Vec<_> = layout.order().iter().map(|p| (&evses[*p].1.evse.site, evses[*p].0)).collect();
                prop_assert_eq!(ordered.len(), evses.len());
                prop_assert!(ordered.is_sorted_by(|a, b| a < b));
                for (place, (_, state)) in evses.iter().enumerate() {
                    let number = layout.site(place);
                    prop_assert_eq!(&layout.names()[number], &state.evse.site);
                    prop_assert_eq!(layout.limits()[number], view.sites.get(&state.evse.site).copied());
                }
            }
        }
    }
}
