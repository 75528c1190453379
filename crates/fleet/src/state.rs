//! What is plugged in now: a fold over what stations told.
//!
//! [`FleetState::apply`] is deterministic: the same events in the same order give the same state, on whichever machine
//! and however often they are applied in between.

mod follow;
mod live;
mod tracked;

pub use follow::Following;
pub use tracked::Tracked;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Power, Soc};

use crate::reading::{self, Limits, Refusal};
use crate::{Evse, EvseId, Reading, Session, Setpoint, StationId, Telemetry};

/// One stay as far as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionState {
    /// The stay.
    pub session: Session,
    /// Energy that reached the battery since plug-in; `None` before anything was measured.
    pub added: Option<Energy>,
    /// Newest state of charge, where the vehicle tells it.
    pub soc: Option<Soc>,
}

/// A power and the instant it was measured or accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAt {
    /// Power at the grid side; positive charges.
    pub power: Power,
    /// When.
    pub at: DateTime<Utc>,
}

/// One EVSE as it stands, as it travels on `fleet.state.v1` (key: EVSE).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvseState {
    /// The outlet as registered.
    pub evse: Evse,
    /// True while its station is connected.
    pub online: bool,
    /// Instant of the newest event that changed this state.
    pub changed_at: DateTime<Utc>,
    /// Stay in progress, if a vehicle is plugged in.
    pub session: Option<SessionState>,
    /// Newest metered power.
    pub power: Option<PowerAt>,
    /// Newest set-point that the station accepted.
    pub setpoint: Option<PowerAt>,
    /// True while metered power does not follow an accepted set-point.
    pub unresponsive: bool,
}

impl EvseState {
    /// What samples change.
    fn measured(&self) -> Measured {
        let stay = self.session.as_ref();
        (
            self.power,
            self.unresponsive,
            stay.map(|stay| (stay.added, stay.soc)),
        )
    }

    /// What events change.
    fn seen(&self) -> Seen {
        let session = self.session.clone();
        (
            self.online,
            session,
            self.power,
            self.setpoint,
            self.unresponsive,
        )
    }
}

type Measured = (Option<PowerAt>, bool, Option<(Option<Energy>, Option<Soc>)>);

type Seen = (
    bool,
    Option<SessionState>,
    Option<PowerAt>,
    Option<PowerAt>,
    bool,
);

/// Rules of the fold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rules {
    /// What is believed of a reading.
    pub limits: Limits,
    /// When an EVSE counts as not following its set-point.
    pub following: Following,
}

/// What an event did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effect {
    /// Place of the EVSE that it was about, if that was looked up ([`FleetState::place`]).
    pub place: Option<usize>,
    /// EVSEs whose state is another now, in order.
    pub changed: Vec<EvseId>,
    /// A stay that ended with it, as far as it went.
    pub ended: Option<SessionState>,
    /// What is left of a reading after checks: what metering may count.
    pub accepted: Option<Reading>,
    /// What was refused of it; empty if nothing.
    pub refused: Vec<Refusal>,
}

impl Effect {
    fn refused(refusal: Refusal) -> Self {
        Self {
            refused: vec![refusal],
            ..Self::default()
        }
    }
}

/// The fleet as it stands.
#[derive(Debug, Clone, Default)]
pub struct FleetState {
    rules: Rules,
    tracked: Vec<Tracked>,
    /// Place of each EVSE, for an event.
    places: HashMap<EvseId, usize>,
    /// The same in order of their name.
    names: BTreeMap<EvseId, usize>,
    stations: HashMap<StationId, BTreeSet<EvseId>>,
}

/// The same rules, and the same of each EVSE.
impl PartialEq for FleetState {
    fn eq(&self, other: &Self) -> bool {
        let all = |fleet: &Self| fleet.names.len();
        let pairs = self.names.iter().zip(&other.names);
        self.rules == other.rules
            && self.stations == other.stations
            && all(self) == all(other)
            && pairs.into_iter().all(|((name, here), (same, there))| {
                name == same && self.tracked[*here] == other.tracked[*there]
            })
    }
}

impl FleetState {
    /// An empty fleet under `rules`.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes in an EVSE, or a correction of one; answers whether anything is new. What it did so far stays.
    pub fn register(&mut self, evse: Evse, now: DateTime<Utc>) -> bool {
        match self.found(&evse.id) {
            Some(tracked) if tracked.state.evse == evse => return false,
            Some(tracked) => {
                let before = std::mem::replace(&mut tracked.state.evse, evse.clone());
                tracked.state.changed_at = tracked.state.changed_at.max(now);
                if let Some(same) = self.stations.get_mut(&before.station) {
                    same.remove(&evse.id);
                }
            }
            None => self.insert(Tracked::new(evse.clone(), now)),
        }
        self.stations
            .entry(evse.station)
            .or_default()
            .insert(evse.id);
        true
    }

    /// Gives back an EVSE as it was saved before a restart.
    pub fn restore(&mut self, tracked: Tracked) {
        let evse = &tracked.state.evse;
        self.stations
            .entry(evse.station.clone())
            .or_default()
            .insert(evse.id.clone());
        self.insert(tracked);
    }

    fn insert(&mut self, tracked: Tracked) {
        let id = tracked.state.evse.id.clone();
        if let Some(place) = self.places.get(&id) {
            self.tracked[*place] = tracked;
            return;
        }
        self.places.insert(id.clone(), self.tracked.len());
        self.names.insert(id, self.tracked.len());
        self.tracked.push(tracked);
    }

    fn found(&mut self, evse: &EvseId) -> Option<&mut Tracked> {
        let place = self.places.get(evse)?;
        self.tracked.get_mut(*place)
    }

    /// Place of an EVSE: from 0 in the order in which they were taken in, and the same for ever.
    #[must_use]
    pub fn place(&self, evse: &EvseId) -> Option<usize> {
        self.places.get(evse).copied()
    }

    /// Places of all EVSEs in order of their name.
    pub fn places(&self) -> impl ExactSizeIterator<Item = usize> {
        self.names.values().copied()
    }

    /// Everything known of the EVSE at a place, to be saved.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Tracked> {
        self.tracked.get(place)
    }

    /// State of one EVSE, if it is registered.
    #[must_use]
    pub fn get(&self, evse: &EvseId) -> Option<&EvseState> {
        self.at(self.place(evse)?).map(Tracked::state)
    }

    /// EVSEs of a station, in order of their name.
    pub fn of_station(&self, station: &StationId) -> impl Iterator<Item = &EvseId> {
        self.stations.get(station).into_iter().flatten()
    }

    /// All EVSEs in order of their name.
    pub fn iter(&self) -> impl Iterator<Item = &EvseState> {
        self.names
            .values()
            .map(|place| self.tracked[*place].state())
    }

    /// Takes in one event. `now` is our time of receipt; it only serves to refuse instants that cannot be.
    pub fn apply(&mut self, event: &Telemetry, now: DateTime<Utc>) -> Effect {
        if let Err(refusal) = reading::check_instant(event.at(), now, &self.rules.limits) {
            return Effect::refused(refusal);
        }
        let evse = match event {
            Telemetry::Connection {
                station,
                evses,
                online,
                at,
            } => return self.connection(station, evses, *online, *at),
            Telemetry::PluggedIn { evse, .. }
            | Telemetry::Needs { evse, .. }
            | Telemetry::Unplugged { evse, .. } => evse,
            Telemetry::Reading(reading) => &reading.evse,
            Telemetry::Acknowledged(ack) => &ack.evse,
        };
        let Some(place) = self.place(evse) else {
            return Effect::refused(Refusal::UnknownEvse(evse.clone()));
        };
        let tracked = &mut self.tracked[place];
        let (mut effect, is_another) = if let Telemetry::Reading(reading) = event {
            let before = tracked.state.measured();
            let effect = tracked.reading(reading, now, &self.rules);
            (effect, tracked.state.measured() != before)
        } else {
            let before = tracked.state.seen();
            let effect = tracked.apply(event, now, &self.rules);
            (effect, tracked.state.seen() != before)
        };
        effect.place = Some(place);
        if is_another {
            tracked.state.changed_at = tracked.state.changed_at.max(event.at());
            effect.changed.push(evse.clone());
        }
        effect
    }

    /// Takes in a set-point on its way to an EVSE: what its acknowledgement will be about.
    pub fn apply_setpoint(&mut self, setpoint: &Setpoint) -> Effect {
        let Some(place) = self.place(&setpoint.evse) else {
            return Effect::refused(Refusal::UnknownEvse(setpoint.evse.clone()));
        };
        let tracked = &mut self.tracked[place];
        let before = tracked.state.setpoint;
        tracked.told(setpoint);
        let mut effect = Effect {
            place: Some(place),
            ..Effect::default()
        };
        if tracked.state.setpoint != before {
            effect.changed.push(setpoint.evse.clone());
        }
        effect
    }

    fn connection(
        &mut self,
        station: &StationId,
        evses: &[EvseId],
        online: bool,
        at: DateTime<Utc>,
    ) -> Effect {
        let registered = self.stations.get(station).cloned().unwrap_or_default();
        let named = evses.iter().filter(|evse| self.places.contains_key(*evse));
        let all: BTreeSet<EvseId> = named.cloned().chain(registered).collect();
        if all.is_empty() {
            return Effect::refused(Refusal::UnknownStation(station.clone()));
        }
        let mut effect = Effect::default();
        for evse in all {
            if let Some(tracked) = self.found(&evse)
                && tracked.connected(online, at)
            {
                effect.changed.push(evse);
            }
        }
        effect
    }
}

#[cfg(test)]
mod tests;
