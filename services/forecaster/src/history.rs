//! What the forecaster has seen: past stays, vehicles plugged in, prices.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, EvseState, SiteId};
use forecast::{Plugged, Stay};
use units::{Energy, Interval, Power, Series};
use wire::fleet::PastSession;
use wire::forecast::Quantity;
use wire::proto::market::v1::Clearing;

/// A price as published.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Published {
    delivery: Interval,
    price: f64,
    at: DateTime<Utc>,
}

/// Everything seen so far, each thing once.
#[derive(Debug, Clone, Default)]
pub struct History {
    stays: BTreeMap<String, PastSession>,
    places: BTreeMap<EvseId, (SiteId, String)>,
    plugged: Vec<EvseState>,
    prices: BTreeMap<(Quantity, DateTime<Utc>), Published>,
    /// Newest instant that was asked for; `None` before the first time.
    pub(crate) seen_until: Option<DateTime<Utc>>,
}

/// Quantities that come from stays, with the meaning the `forecast` crate gives them.
pub(crate) const STAYS: [(Quantity, forecast::Quantity); 4] = [
    (Quantity::PluggedIn, forecast::Quantity::PluggedIn),
    (Quantity::PowerUp, forecast::Quantity::PowerUp),
    (Quantity::PowerDown, forecast::Quantity::PowerDown),
    (Quantity::EnergyNeeded, forecast::Quantity::EnergyNeeded),
];

/// Quantities that come from prices, with the name of their product.
pub(crate) const PRICES: [(Quantity, &str); 4] = [
    (Quantity::DayAheadPrice, "day_ahead"),
    (Quantity::FcrPrice, "fcr"),
    (Quantity::AfrrUpPrice, "afrr_up"),
    (Quantity::AfrrDownPrice, "afrr_down"),
];

impl History {
    /// Adds past stays; a later word about the same stay counts.
    pub fn add_stays(&mut self, stays: Vec<PastSession>) {
        for stay in stays {
            let place = (stay.session.site.clone(), stay.class.clone());
            self.places.insert(stay.session.evse.clone(), place);
            self.stays.insert(stay.session.id.to_string(), stay);
        }
    }

    /// The fleet as it stands now.
    pub fn set_fleet(&mut self, fleet: Vec<EvseState>) {
        for state in &fleet {
            let place = (state.evse.site.clone(), state.evse.class.clone());
            self.places.insert(state.evse.id.clone(), place);
        }
        self.plugged = fleet.into_iter().filter(|s| s.session.is_some()).collect();
    }

    /// Adds published prices; ones of other products or that do not read are left out and counted.
    pub fn add_prices(&mut self, prices: &[Clearing]) -> usize {
        let mut refused = 0;
        for price in prices {
            let quantity = PRICES.iter().find(|(_, product)| *product == price.product);
            match quantity.and_then(|(q, _)| Some((*q, published(price)?))) {
                Some((quantity, published)) => {
                    self.prices
                        .insert((quantity, published.delivery.start()), published);
                }
                None => refused += 1,
            }
        }
        refused
    }

    /// Forgets what ended before `from`.
    pub fn forget(&mut self, from: DateTime<Utc>) {
        self.stays
            .retain(|_, s| s.session.unplugged.is_none_or(|u| u >= from));
        self.prices.retain(|_, p| p.delivery.end() >= from);
    }

    /// Site and class of an outlet.
    pub(crate) fn place(&self, evse: &EvseId) -> Option<&(SiteId, String)> {
        self.places.get(evse)
    }

    /// Stays as they were told.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &PastSession> {
        self.stays.values()
    }

    /// Outlets with a vehicle.
    pub(crate) fn states(&self) -> &[EvseState] {
        &self.plugged
    }

    /// Stays that ended, as the forecast sees them.
    pub(crate) fn past(&self) -> Vec<Stay<EvseId>> {
        self.stays.values().filter_map(ended).collect()
    }

    /// Vehicles plugged in.
    pub(crate) fn plugged(&self) -> Vec<Plugged<EvseId>> {
        self.plugged.iter().filter_map(plugged).collect()
    }

    /// Stays that ended and those that last, the latter up to `now`: for counting what was there.
    pub(crate) fn present(&self, now: DateTime<Utc>) -> Vec<Stay<EvseId>> {
        let mut stays = self.past();
        for state in &self.plugged {
            let begun = state.session.as_ref().map(|s| s.session.plugged_in);
            let span = begun.and_then(|b| Interval::try_new(b, now).ok());
            if let (Some(span), Some(vehicle)) = (span, plugged(state)) {
                let energy = state
                    .session
                    .as_ref()
                    .and_then(|s| s.session.needs.as_ref())
                    .map_or(Energy::ZERO, |n| n.energy);
                stays.push(Stay {
                    span,
                    energy,
                    ..vehicle.stay
                });
            }
        }
        stays
    }

    /// Prices of `quantity` known at `now`, held over the steps of their delivery; `None` if there are none.
    pub(crate) fn prices(
        &self,
        quantity: Quantity,
        now: DateTime<Utc>,
        step: TimeDelta,
    ) -> Option<Series<Option<f64>>> {
        let known: Vec<&Published> = self
            .prices
            .range((quantity, DateTime::<Utc>::MIN_UTC)..=(quantity, DateTime::<Utc>::MAX_UTC))
            .map(|(_, p)| p)
            .filter(|p| p.at <= now)
            .collect();
        let start = known.first()?.delivery.start();
        let end = known.iter().map(|p| p.delivery.end()).max()?;
        let over = Interval::try_new(start, end).ok()?;
        let starts: Vec<DateTime<Utc>> = over.steps(step).collect();
        let mut values = vec![None; starts.len()];
        for published in known {
            let from = starts.partition_point(|s| *s < published.delivery.start());
            let to = starts.partition_point(|s| *s < published.delivery.end());
            values[from..to].fill(Some(published.price));
        }
        Series::try_new(start, step, values).ok()
    }
}

fn published(price: &Clearing) -> Option<Published> {
    let instant = DateTime::from_timestamp_micros;
    Some(Published {
        delivery: Interval::try_new(instant(price.start_micros)?, instant(price.end_micros)?)
            .ok()?,
        price: price.price.parse().ok().filter(|p: &f64| p.is_finite())?,
        at: instant(price.published_at_micros)?,
    })
}

/// What a stay needed: as stated, else what it took.
pub(crate) fn ended(past: &PastSession) -> Option<Stay<EvseId>> {
    let session = &past.session;
    let needs = session.needs.as_ref();
    let stored = needs.and_then(|n| n.stored);
    let limit = |own: Power, vehicle: Option<Power>| vehicle.map_or(own, |v| v.min(own));
    Some(Stay {
        outlet: session.evse.clone(),
        span: Interval::try_new(session.plugged_in, session.unplugged?).ok()?,
        energy: needs
            .map(|n| n.energy)
            .or(past.added)
            .unwrap_or(Energy::ZERO)
            .max(Energy::ZERO),
        stored,
        capacity: needs.and_then(|n| n.capacity),
        max_charge: limit(past.max_charge, needs.map(|n| n.max_charge)),
        max_discharge: if stored.is_some() {
            limit(past.max_discharge, needs.map(|n| n.max_discharge))
        } else {
            Power::ZERO
        },
        floor: needs.map_or(Energy::ZERO, |n| n.floor),
        charge_efficiency: past.charge_efficiency,
        discharge_efficiency: past.discharge_efficiency,
    })
}

/// A vehicle plugged in, with what it still needs.
pub(crate) fn plugged(state: &EvseState) -> Option<Plugged<EvseId>> {
    let stay = state.session.as_ref()?;
    let needs = stay.session.needs.as_ref();
    let added = stay.added.unwrap_or(Energy::ZERO);
    let evse = &state.evse;
    let stored = needs
        .and_then(|n| n.stored)
        .map(|s| (s + added).max(Energy::ZERO));
    let begun = stay.session.plugged_in;
    Some(Plugged {
        stay: Stay {
            outlet: evse.id.clone(),
            span: Interval::try_new(begun, begun + TimeDelta::microseconds(1)).ok()?,
            energy: needs.map_or(Energy::ZERO, |n| (n.energy - added).max(Energy::ZERO)),
            stored,
            capacity: needs.and_then(|n| n.capacity),
            max_charge: needs.map_or(evse.max_charge, |n| n.max_charge.min(evse.max_charge)),
            max_discharge: match (needs, stored) {
                (Some(n), Some(_)) if evse.protocol.can_discharge() => {
                    n.max_discharge.min(evse.max_discharge)
                }
                _ => Power::ZERO,
            },
            floor: needs.map_or(Energy::ZERO, |n| n.floor),
            charge_efficiency: evse.charge_efficiency,
            discharge_efficiency: evse.discharge_efficiency,
        },
        departure: needs.and_then(|n| n.departure),
    })
}
