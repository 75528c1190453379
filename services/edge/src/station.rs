//! One station as registered, and who is plugged in at its outlets: the session model behind all versions.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{
    Evse, EvseId, Needs, Protocol, Reading, SessionId, Setpoint, StationId, Telemetry, VehicleId,
};
use ocpp_kit::types::DateTime as OcppTime;
use units::{Energy, Power};

use crate::asked::Asked;
use crate::capability::Capabilities;
use crate::instant::from_ocpp;
use crate::issuer::Signed;
use crate::meter::{self, Sample};
use crate::skew::Skew;
use crate::stay;
use crate::streams::Streams;
use crate::supply::Supplies;

/// A station and its outlets, numbered from 1 in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Station {
    pub(crate) id: StationId,
    pub(crate) protocol: Protocol,
    pub(crate) evses: Vec<Evse>,
}

impl Station {
    /// The outlet of that number, if there is one.
    pub(crate) fn evse(&self, number: i32) -> Option<&Evse> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.evses.get(index)
    }

    pub(crate) fn evse_ids(&self) -> Vec<EvseId> {
        self.evses.iter().map(|e| e.id.clone()).collect()
    }

    fn only_outlet(&self) -> Option<i32> {
        (self.evses.len() == 1).then_some(1)
    }
}

/// Energy registers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Registers {
    import: Energy,
    export: Energy,
}

/// What happened here this long ago is in the tables.
const MOMENT: Duration = Duration::from_secs(60);
/// Sources that may limit an outlet: the grid operator, an energy manager, the station itself and few others.
const LIMITS: usize = 8;
/// Stays that are over, remembered per outlet: messages of theirs may come late.
const REMEMBERED: usize = 8;

/// A stay in progress.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stay {
    pub(crate) session: SessionId,
    /// Transaction as the station calls it.
    pub(crate) transaction: String,
    /// When it began; `None` if that was before this process did.
    since: Option<DateTime<Utc>>,
    /// The station knows the name of the transaction, so it can be told something about it.
    named: bool,
    first: Option<Registers>,
    last: Option<Registers>,
    /// Energy added before this process saw the stay, from the tables.
    added_before: Option<Energy>,
    asked: Asked,
}

impl Stay {
    /// True if it was in progress at an instant, as far as its beginning is known.
    pub(crate) fn began_by(&self, at: DateTime<Utc>) -> bool {
        self.since.is_none_or(|since| since <= at)
    }
}

/// A stay in progress as the tables know it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recalled {
    pub(crate) session: SessionId,
    /// Energy added so far.
    pub(crate) added: Option<Energy>,
    pub(crate) needs: Option<Needs>,
}

/// A stay that is over.
#[derive(Debug)]
struct Past {
    session: SessionId,
    ended: DateTime<Utc>,
    /// Its beginning was heard.
    begun: bool,
}

/// Who gives a transaction its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The station (2.0.1 and 2.1): it can be told something at once.
    Station,
    /// This system, with the answer to the start (1.6): nothing about it is said before that answer.
    Us,
}

/// What a message says of the beginning of a transaction.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) vehicle: Option<VehicleId>,
    pub(crate) at: DateTime<Utc>,
    /// The message is the one that begins it.
    pub(crate) starts: bool,
    pub(crate) named_by: NamedBy,
}

/// What a frame changes once it is on the wire.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Then {
    /// Outlet whose transaction it names.
    pub(crate) names: Option<i32>,
    /// A certificate that it promised.
    pub(crate) signed: Option<Box<Signed>>,
}

/// What a message said: telemetry for the log, and what in it was refused.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) events: Vec<Telemetry>,
    pub(crate) refused: Vec<String>,
    /// What holds once the answer is on the wire.
    pub(crate) then: Then,
    /// How far the station's clock is behind ours, where that is news.
    pub(crate) skew: Option<TimeDelta>,
}

/// The outlets of one station with the stays in progress. Outlives connections.
#[derive(Debug)]
pub(crate) struct Outlets {
    pub(crate) station: Station,
    stays: BTreeMap<i32, Stay>,
    past: BTreeMap<i32, VecDeque<Past>>,
    told: BTreeMap<i32, Setpoint>,
    /// Limits set by others, by source.
    limits: BTreeMap<i32, BTreeMap<String, Power>>,
    skew: Skew,
    /// What the station can do.
    pub(crate) known: Capabilities,
    /// What it streams.
    pub(crate) streams: Streams,
    /// Phases and voltage of its outlets.
    pub(crate) supplies: Supplies,
    /// A certificate that it was promised and is to be told.
    pub(crate) signed: Option<Box<Signed>>,
    /// When its last connection to this process ended.
    left_at: Option<Instant>,
    /// When it came to this process from where another may have served it.
    pub(crate) came_at: Option<Instant>,
}

impl Outlets {
    /// Outlets with the stays that were in progress when the process started, as the tables know them.
    pub(crate) fn new(station: Station, known: &BTreeMap<EvseId, Recalled>) -> Self {
        let mut outlets = Self {
            station,
            stays: BTreeMap::new(),
            past: BTreeMap::new(),
            told: BTreeMap::new(),
            limits: BTreeMap::new(),
            skew: Skew::default(),
            known: Capabilities::default(),
            streams: Streams::default(),
            supplies: Supplies::default(),
            signed: None,
            left_at: None,
            came_at: None,
        };
        outlets.recall(known);
        outlets
    }

    /// A connection ended.
    pub(crate) fn left(&mut self) {
        self.left_at = Some(Instant::now());
        // It asks again.
        self.signed = None;
    }

    /// A station connects that may have been served by another process meanwhile. What the tables say replaces what was known
    /// here, unless it was here a moment ago: then the tables may not have heard of everything yet.
    pub(crate) fn returned(&mut self, known: &BTreeMap<EvseId, Recalled>) {
        if self.left_at.is_none_or(|left| left.elapsed() > MOMENT) {
            let stays = self.stays.iter().filter(|(number, stay)| {
                let evse = self.station.evse(**number);
                let recalled = evse.and_then(|evse| known.get(&evse.id));
                recalled.is_none_or(|recalled| recalled.session != stay.session)
            });
            let gone: Vec<i32> = stays.map(|(number, _)| *number).collect();
            for number in gone {
                self.stays.remove(&number);
                self.told.remove(&number);
            }
        }
        self.recall(known);
    }

    /// Takes over stays from the tables where this process knows none.
    pub(crate) fn recall(&mut self, known: &BTreeMap<EvseId, Recalled>) {
        for (number, evse) in (1..).zip(&self.station.evses) {
            let Some(recalled) = known.get(&evse.id) else {
                continue;
            };
            let session = &recalled.session;
            let prefix = format!("{}:", evse.id);
            let transaction = session.as_str().strip_prefix(&prefix).unwrap_or_default();
            self.stays.entry(number).or_insert_with(|| Stay {
                session: session.clone(),
                transaction: transaction.to_owned(),
                since: None,
                named: true,
                first: None,
                last: None,
                added_before: recalled.added,
                asked: Asked::of(recalled.needs.clone()),
            });
        }
    }

    /// The stay at an outlet.
    pub(crate) fn stay(&self, number: i32) -> Option<&Stay> {
        self.stays.get(&number)
    }

    /// The set-point that was written last.
    pub(crate) fn told(&self, number: i32) -> Option<&Setpoint> {
        self.told.get(&number)
    }

    /// Remembers the set-point that was written last.
    pub(crate) fn tell(&mut self, number: i32, setpoint: Setpoint) {
        self.told.insert(number, setpoint);
    }

    /// Session at an outlet, if one is in progress.
    pub(crate) fn session(&self, number: i32) -> Option<SessionId> {
        self.stays.get(&number).map(|s| s.session.clone())
    }

    /// Outlet where a transaction runs: as said, as remembered, or the only one there is.
    pub(crate) fn place_of(&self, said: Option<i32>, transaction: &str) -> Option<i32> {
        let remembered = || {
            let mut stays = self.stays.iter();
            stays
                .find(|(_, s)| s.transaction == transaction)
                .map(|(n, _)| *n)
        };
        said.or_else(remembered)
            .or_else(|| self.station.only_outlet())
    }

    /// A message that was not kept back told an instant of the station's clock.
    pub(crate) fn clock(&mut self, told: OcppTime, now: DateTime<Utc>, said: &mut Said) {
        said.skew = from_ocpp(told).and_then(|told| self.skew.heard(told, now));
    }

    /// A frame is on the wire.
    pub(crate) fn written(&mut self, then: Then) {
        if let Some(place) = then.names {
            self.name(place);
        }
        if then.signed.is_some() {
            self.signed = then.signed;
        }
    }

    /// The station knows the transaction at an outlet by its name from now on.
    pub(crate) fn name(&mut self, number: i32) {
        if let Some(stay) = self.stays.get_mut(&number) {
            stay.named = true;
        }
    }

    /// The station spoke of a transaction at an outlet by its name: it knows it.
    pub(crate) fn named(&mut self, number: i32, session: &SessionId) {
        if self.session(number).as_ref() == Some(session) {
            self.name(number);
        }
    }

    /// False while the station waits for the name of the transaction at that outlet: what is said about it has to wait.
    pub(crate) fn may_be_told(&self, number: i32) -> bool {
        self.stays.get(&number).is_none_or(|stay| stay.named)
    }

    /// A transaction began or was heard of for the first time. One that is known already says nothing new; another one
    /// at the same outlet is over, unless this message is a late one of a stay before.
    pub(crate) fn begin(
        &mut self,
        number: i32,
        transaction: &str,
        begun: Begun,
        said: &mut Said,
    ) -> Option<SessionId> {
        let evse = self.station.evse(number)?.id.clone();
        let session = stay::session_id(&evse, transaction);
        if self.is_late(number, &session, &begun, said) {
            return Some(session);
        }
        if let Some(left) = self.stays.remove(&number) {
            self.remember(number, left.session.clone(), begun.at, true);
            said.events.push(Telemetry::Unplugged {
                session: left.session,
                evse: evse.clone(),
                at: begun.at,
            });
        }
        let stay = Stay {
            session: session.clone(),
            transaction: transaction.to_owned(),
            since: Some(begun.at),
            named: begun.named_by == NamedBy::Station,
            first: None,
            last: None,
            added_before: Some(Energy::ZERO),
            asked: Asked::default(),
        };
        self.stays.insert(number, stay);
        said.events.push(Telemetry::PluggedIn {
            session: session.clone(),
            evse,
            vehicle: begun.vehicle,
            at: begun.at,
        });
        Some(session)
    }

    /// True for a message of the stay in progress, of one that is over, or of one from before the one in progress. A
    /// beginning that arrives after its end is told with its end.
    fn is_late(
        &mut self,
        number: i32,
        session: &SessionId,
        begun: &Begun,
        said: &mut Said,
    ) -> bool {
        let current = self.stays.get_mut(&number);
        if let Some(stay) = current {
            if stay.session == *session {
                // Messages may overtake the one that began the stay.
                stay.since = stay.since.map(|since| since.min(begun.at));
                return true;
            }
            if stay.since.is_some_and(|since| begun.at < since) {
                return true;
            }
        }
        let mut past = self.past.entry(number).or_default().iter_mut();
        let Some(known) = past.find(|past| past.session == *session) else {
            return false;
        };
        if begun.starts && !known.begun {
            known.begun = true;
            let evse = self.station.evse(number).map(|e| e.id.clone());
            said.events.extend(evse.into_iter().flat_map(|evse| {
                let begin = Telemetry::PluggedIn {
                    session: session.clone(),
                    evse: evse.clone(),
                    vehicle: begun.vehicle.clone(),
                    at: begun.at,
                };
                let end = Telemetry::Unplugged {
                    session: session.clone(),
                    evse,
                    at: known.ended.max(begun.at),
                };
                [begin, end]
            }));
        }
        true
    }

    fn remember(&mut self, number: i32, session: SessionId, ended: DateTime<Utc>, begun: bool) {
        let past = self.past.entry(number).or_default();
        if past.iter().any(|known| known.session == session) {
            return;
        }
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(Past {
            session,
            ended,
            begun,
        });
    }

    /// A transaction ended.
    pub(crate) fn end(
        &mut self,
        number: i32,
        transaction: &str,
        at: DateTime<Utc>,
        said: &mut Said,
    ) {
        let Some(evse) = self.station.evse(number).map(|e| e.id.clone()) else {
            return;
        };
        let session = stay::session_id(&evse, transaction);
        let current = self
            .stays
            .get(&number)
            .is_some_and(|s| s.session == session);
        if current {
            self.stays.remove(&number);
            self.told.remove(&number);
        }
        self.remember(number, session.clone(), at, current);
        said.events.push(Telemetry::Unplugged { session, evse, at });
    }

    /// The vehicle at an outlet stated what it needs.
    pub(crate) fn state(&mut self, number: i32, needs: Needs, at: DateTime<Utc>, said: &mut Said) {
        if let Some(stay) = self.stays.get_mut(&number) {
            stay.asked.state(needs);
        }
        self.restate(number, at, said);
    }

    /// The driver of a transaction wants to charge now (or no more, with `None`).
    pub(crate) fn prioritise(
        &mut self,
        transaction: &str,
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        said: &mut Said,
    ) {
        let stay = self.stays.iter_mut();
        let mut stay = stay.filter(|(_, stay)| stay.transaction == transaction);
        if let Some((number, stay)) = stay.next() {
            stay.asked.prioritise(since);
            let number = *number;
            self.restate(number, now, said);
        }
    }

    /// Somebody else limits an outlet, or all of them with `None`; without a limit the one of that source is lifted.
    pub(crate) fn limit(
        &mut self,
        number: Option<i32>,
        source: &str,
        limit: Option<Power>,
        now: DateTime<Utc>,
        said: &mut Said,
    ) {
        let all = (1..).zip(&self.station.evses).map(|(number, _)| number);
        let named: Vec<i32> = all
            .filter(|n| number.is_none_or(|named| named == *n || named == 0))
            .collect();
        for number in named {
            let limits = self.limits.entry(number).or_default();
            match limit {
                Some(limit) if limits.len() < LIMITS || limits.contains_key(source) => {
                    limits.insert(source.to_owned(), limit);
                }
                Some(_) => said
                    .refused
                    .push(format!("more than {LIMITS} sources limit an outlet")),
                None => {
                    limits.remove(source);
                }
            }
            self.restate(number, now, said);
        }
    }

    /// Tells the needs at an outlet as the pool should see them now.
    fn restate(&self, number: i32, at: DateTime<Utc>, said: &mut Said) {
        let (Some(stay), Some(evse)) = (self.stays.get(&number), self.station.evse(number)) else {
            return;
        };
        if let Some(needs) = stay.asked.effective(self.limited_to(number)) {
            said.events.push(Telemetry::Needs {
                evse: evse.id.clone(),
                session: stay.session.clone(),
                needs,
                at,
            });
        }
    }

    fn limited_to(&self, number: i32) -> Option<Power> {
        self.limits.get(&number)?.values().min().copied()
    }

    /// A meter sample at an outlet.
    pub(crate) fn read(&mut self, number: i32, reading: Reading, said: &mut Said) {
        if let Some(stay) = self.stays.get_mut(&number)
            && reading.session.as_ref() == Some(&stay.session)
            && let Some(import) = reading.import_register
        {
            let export = reading.export_register.unwrap_or_default();
            let registers = Registers { import, export };
            stay.first.get_or_insert(registers);
            stay.last = Some(registers);
        }
        said.events.push(Telemetry::Reading(reading));
    }

    /// Samples that were taken together at an outlet.
    pub(crate) fn sampled(
        &mut self,
        number: i32,
        session: Option<SessionId>,
        at: OcppTime,
        samples: &[Sample],
        said: &mut Said,
    ) {
        let (Some(when), Some(evse)) = (from_ocpp(at), self.station.evse(number)) else {
            said.refused
                .push(format!("timestamp {at} is outside the calendar"));
            return;
        };
        // Only a station that takes amperes alone needs it.
        if self.known.watts == Some(false) {
            self.supplies.meter(number, samples);
        }
        let (reading, refused) = meter::reading(&evse.id, session, when, samples);
        said.refused.extend(refused);
        if self.known.streams.is_some() {
            self.streams.metered(number, &reading);
        }
        if meter::says_something(&reading) {
            self.read(number, reading, said);
        }
    }

    /// Checks that the station can be told a set-point and that it may lead to the power it may lead to: discharge only where the outlet is registered for it
    /// and the vehicle agreed to it.
    ///
    /// # Errors
    /// Why not, for the acknowledgement.
    pub(crate) fn permit(&self, number: i32, setpoint: &Setpoint) -> Result<(), String> {
        self.known.permit(setpoint)?;
        let lowest = setpoint.mode.lowest(setpoint.power);
        if !lowest.is_export() {
            return Ok(());
        }
        let evse = self.station.evse(number);
        let allowed = evse.map_or(Power::ZERO, |evse| evse.max_discharge);
        if allowed == Power::ZERO {
            return Err(format!(
                "discharge is not allowed at EVSE {}",
                setpoint.evse
            ));
        }
        let stay = self.stays.get(&number);
        let agreed = stay.and_then(|stay| stay.asked.effective(self.limited_to(number)));
        match agreed.map_or(Power::ZERO, |needs| needs.max_discharge) {
            Power::ZERO => Err("the vehicle has not agreed to discharge".to_owned()),
            _ if lowest.abs() > allowed => Err(format!(
                "{} asks for a discharge of {}, more than the {allowed} of the outlet",
                setpoint.mode.name(),
                lowest.abs()
            )),
            _ => Ok(()),
        }
    }

    /// Energy that reached the battery since plug-in, as far as registers tell; `None` if that is unknown.
    pub(crate) fn added(&self, number: i32) -> Option<Energy> {
        let stay = self.stays.get(&number)?;
        let evse = self.station.evse(number)?;
        let before = stay.added_before?;
        let (Some(first), Some(last)) = (stay.first, stay.last) else {
            return Some(before);
        };
        let charged = (last.import - first.import).kwh() * evse.charge_efficiency.share();
        let discharged = (last.export - first.export).kwh() / evse.discharge_efficiency.share();
        Some(before + Energy::from_kwh(charged - discharged))
    }
}

#[cfg(test)]
pub(crate) mod tests;
