//! Everything the service knows, and what follows from the next records. No I/O.

mod saving;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fleet::metering::{self, Meter, Taken};
use fleet::reading::Refusal;
use fleet::state::{Effect, Rules};
use fleet::{Evse, EvseId, EvseState, FleetState, Reading, SessionState, Setpoint, Telemetry};
use store::{NewRecord, Record, Topic, topic};
use wire::proto;

use crate::feed::{Batch, decode, telemetry};
use crate::held::{Held, Reached, SLICES, slice_of};
use crate::order::Order;

/// Bytes of a refused message that are kept, see `telemetry.proto`.
const ORIGINAL_BYTES: usize = 64 * 1024;

/// Kinds of events, as they are counted.
const KINDS: [&str; 6] = [
    "connection",
    "plugged_in",
    "needs",
    "reading",
    "unplugged",
    "acknowledged",
];

/// State of the fleet, its meters, and what is not stored yet.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) state: FleetState,
    /// By the place of the EVSE in `state`.
    held: Vec<Held>,
    order: Order,
    rules: metering::Rules,
    /// True if accepted readings become rows.
    keeps_readings: bool,
    /// Places of EVSEs by what has to be done about them, each once ([`crate::held::Marks`]).
    changed: Vec<usize>,
    due: Vec<usize>,
    stays: Vec<usize>,
    urgent: Vec<usize>,
    slices: Vec<Slice>,
    next_slice: usize,
    /// With the place of their EVSE.
    readings: Vec<(usize, Reading)>,
    ended: Vec<SessionState>,
    quarantine: Vec<NewRecord>,
    /// Offsets taken in since the last checkpoint, and ever.
    fresh: Reached,
    pub(crate) reached: Reached,
    taken: usize,
    counts: [u64; KINDS.len()],
}

/// A part of the fleet that is saved together.
#[derive(Debug, Clone, Default)]
struct Slice {
    /// Places of its EVSEs.
    places: Vec<usize>,
    /// Places of EVSEs that changed since they were saved; some may have been saved alone meanwhile.
    unsaved: Vec<usize>,
    /// It is saved with the next checkpoint.
    urgent: bool,
}

/// An event and its EVSE, or its station.
enum About<'a> {
    Evse(&'a EvseId),
    Station,
}

impl Fold {
    pub(crate) fn new(rules: Rules, keeps_readings: bool) -> Self {
        Self {
            state: FleetState::new(rules),
            held: Vec::new(),
            order: Order::default(),
            rules: metering::Rules::default(),
            keeps_readings,
            changed: Vec::new(),
            due: Vec::new(),
            stays: Vec::new(),
            urgent: Vec::new(),
            slices: vec![Slice::default(); SLICES],
            next_slice: 0,
            readings: Vec::new(),
            ended: Vec::new(),
            quarantine: Vec::new(),
            fresh: Reached::default(),
            reached: Reached::default(),
            taken: 0,
            counts: [0; KINDS.len()],
        }
    }

    /// Takes in readings in the order of the log.
    pub(crate) fn readings(&mut self, batch: &Batch, now: DateTime<Utc>) {
        for (record, event) in batch.records.iter().zip(&batch.events) {
            match event {
                Ok(event) => self.event(event, record, now),
                Err(reason) => self.refuse("undecodable", reason, record, now),
            }
        }
        self.took(topic::READINGS, &batch.records);
    }

    /// Takes in set-points in the order of the log: what acknowledgements are about.
    pub(crate) fn setpoints(&mut self, records: &[Record], now: DateTime<Utc>) {
        for record in records {
            match setpoint(&record.payload) {
                Ok(setpoint) => {
                    let effect = self.state.apply_setpoint(&setpoint);
                    if let Some(place) = effect.place {
                        self.held[place].seen.note(record);
                        self.unsaved(place);
                    }
                    self.effect(effect, record, now);
                }
                Err(reason) => self.refuse("undecodable", &reason, record, now),
            }
        }
        self.took(topic::SETPOINTS, records);
    }

    /// Takes in a registration; answers the state of the EVSE.
    pub(crate) fn register(&mut self, evse: Evse, now: DateTime<Utc>) -> Option<EvseState> {
        let id = evse.id.clone();
        let is_news = self.state.register(evse, now);
        let place = self.state.place(&id)?;
        if is_news {
            if self.hold(place, &id) {
                // What came for it so far was refused: its slice has to begin after that.
                self.slices[slice_of(&id)].urgent = true;
            }
            self.unsaved(place);
        }
        self.state.get(&id).cloned()
    }

    /// Makes room for what is held of the EVSE at `place`; answers whether it is new.
    fn hold(&mut self, place: usize, evse: &EvseId) -> bool {
        let is_new = place >= self.held.len();
        if is_new {
            self.held.resize_with(place + 1, Held::default);
            self.slices[slice_of(evse)].places.push(place);
        }
        is_new
    }

    fn event(&mut self, event: &Telemetry, record: &Record, now: DateTime<Utc>) {
        let (kind, about) = kind(event);
        self.counts[kind] += 1;
        let effect = self.state.apply(event, now);
        // A clock goes on: what it refuses now it may accept the next time.
        let refused =
            |refusal: &Refusal| matches!(refusal, Refusal::Future { .. } | Refusal::Ancient { .. });
        let urgent = effect.refused.iter().any(refused);
        match about {
            About::Evse(evse) => {
                // What is refused by its instant alone was not looked up.
                if let Some(place) = effect.place.or_else(|| self.state.place(evse)) {
                    self.met(place, event, record, urgent);
                }
            }
            About::Station => {
                for place in self.of_connection(event) {
                    self.met(place, event, record, urgent);
                }
            }
        }
        self.effect(effect, record, now);
    }

    /// Notes what an EVSE has taken in, and what follows whatever its state makes of it.
    fn met(&mut self, place: usize, event: &Telemetry, record: &Record, urgent: bool) {
        self.held[place].seen.note(record);
        match event {
            Telemetry::Acknowledged(_) => self.unsaved(place),
            Telemetry::PluggedIn { .. } | Telemetry::Needs { .. } => {
                if !std::mem::replace(&mut self.held[place].marks.stay, true) {
                    self.stays.push(place);
                }
            }
            Telemetry::Connection { .. } | Telemetry::Reading(_) | Telemetry::Unplugged { .. } => {}
        }
        if urgent {
            self.urgent(place);
        }
    }

    /// Places of the EVSEs that a change of their station's connection is about.
    fn of_connection(&self, event: &Telemetry) -> Vec<usize> {
        let Telemetry::Connection { station, evses, .. } = event else {
            return Vec::new();
        };
        let registered = self.state.of_station(station);
        let places = registered
            .chain(evses)
            .filter_map(|evse| self.state.place(evse));
        places.collect()
    }

    fn effect(&mut self, effect: Effect, record: &Record, now: DateTime<Utc>) {
        for refusal in &effect.refused {
            self.refuse_event(refusal, record, now);
        }
        if let Some((place, reading)) = effect.place.zip(effect.accepted) {
            self.unsaved(place);
            let taken = self.meter(place, &reading);
            self.metered(taken, place, record, now);
            if self.keeps_readings {
                self.readings.push((place, reading));
            }
        }
        for evse in &effect.changed {
            if let Some(place) = effect.place.or_else(|| self.state.place(evse)) {
                self.unsaved(place);
                if !std::mem::replace(&mut self.held[place].marks.changed, true) {
                    self.changed.push(place);
                }
            }
        }
        self.ended.extend(effect.ended);
    }

    /// Counts an accepted reading.
    fn meter(&mut self, place: usize, reading: &Reading) -> Taken {
        let Some(tracked) = self.state.at(place) else {
            return Taken::Nothing;
        };
        let held = &mut self.held[place];
        let taken = held.meter.take(reading, &tracked.state().evse, &self.rules);
        if held.meter.is_due() && !held.marks.due {
            held.marks.due = true;
            self.due.push(place);
        }
        taken
    }

    fn metered(&mut self, taken: Taken, place: usize, record: &Record, now: DateTime<Utc>) {
        match taken {
            Taken::Counted | Taken::Nothing => {}
            // Intervals that were published before the snapshot may be others now (`Meter::restore`).
            Taken::CountedLate => self.urgent(place),
            Taken::TooLate => {
                self.refuse(
                    "meter_late",
                    "sample is too late to be metered",
                    record,
                    now,
                );
            }
            Taken::Contradicts => self.refuse(
                "meter_contradicts",
                "registers are outside what the samples before and after them allow",
                record,
                now,
            ),
        }
    }

    fn refuse_event(&mut self, refusal: &Refusal, record: &Record, now: DateTime<Utc>) {
        if refusal.is_harmless() {
            metrics::counter!("shoal_ingest_refused_total", "reason" => refusal.kind())
                .increment(1);
        } else {
            self.refuse(refusal.kind(), &refusal.to_string(), record, now);
        }
    }

    fn refuse(&mut self, kind: &'static str, reason: &str, record: &Record, now: DateTime<Utc>) {
        metrics::counter!("shoal_ingest_refused_total", "reason" => kind).increment(1);
        let kept = record.payload.len().min(ORIGINAL_BYTES);
        let refused = proto::telemetry::v1::Quarantined {
            source: record.key.clone(),
            received_at_micros: now.timestamp_micros(),
            reason: format!(
                "{} {}:{}: {reason}",
                record.topic, record.partition, record.offset
            ),
            original: record.payload.slice(..kept).to_vec(),
        };
        self.quarantine.push(NewRecord {
            topic: topic::QUARANTINE,
            key: record.key.clone(),
            payload: wire::encode(&refused),
        });
    }

    fn took(&mut self, topic: Topic, records: &[Record]) {
        self.taken += records.len();
        for record in records {
            let fresh = self.fresh.of_mut(topic);
            fresh.advance(record.partition, record.offset);
        }
        for (count, kind) in self.counts.iter_mut().zip(KINDS) {
            if *count > 0 {
                metrics::counter!("shoal_ingest_events_total", "kind" => kind)
                    .increment(std::mem::take(count));
            }
        }
    }

    fn unsaved(&mut self, place: usize) {
        if !std::mem::replace(&mut self.held[place].marks.unsaved, true)
            && let Some(evse) = self.name(place)
        {
            let slice = slice_of(evse);
            self.slices[slice].unsaved.push(place);
        }
    }

    fn urgent(&mut self, place: usize) {
        self.unsaved(place);
        if !std::mem::replace(&mut self.held[place].marks.urgent, true) {
            self.urgent.push(place);
        }
    }

    fn name(&self, place: usize) -> Option<&EvseId> {
        let tracked = self.state.at(place)?;
        Some(&tracked.state().evse.id)
    }

    /// What is held of an EVSE.
    pub(crate) fn held(&self, evse: &EvseId) -> Option<&Held> {
        self.held.get(self.state.place(evse)?)
    }

    /// True if a state has to be published.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// States that changed since the last call, in order of their EVSE.
    pub(crate) fn take_changed(&mut self) -> Vec<EvseState> {
        let mut changed = std::mem::take(&mut self.changed);
        let rank = self.order.of(&self.state);
        changed.sort_unstable_by_key(|place| rank[*place]);
        let state = |place: &usize| {
            self.held[*place].marks.changed = false;
            Some(self.state.at(*place)?.state().clone())
        };
        changed.iter().filter_map(state).collect()
    }

    /// Records taken in since the last checkpoint.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// True if a checkpoint would store something that a restart does not find again by itself.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.taken > 0
            || self
                .slices
                .iter()
                .any(|s| s.urgent || !s.unsaved.is_empty())
    }

    /// Start of the first interval that a sample could still change.
    pub(crate) fn first_interval(&self) -> Option<DateTime<Utc>> {
        let meters = self.held.iter().map(|held| &held.meter);
        meters.filter_map(Meter::first_interval).min()
    }

    /// Takes in a reading once more that had its effects in an earlier run, unless `is_in` says that the snapshot of its EVSE has
    /// it. What a clock refused then is in the snapshot.
    pub(crate) fn reading_again(
        &mut self,
        record: &Record,
        is_in: impl Fn(&EvseId, &Held) -> bool,
    ) {
        let Ok(event) = telemetry(&record.payload) else {
            return;
        };
        let about = match kind(&event).1 {
            About::Evse(evse) => self.state.place(evse).into_iter().collect(),
            About::Station => self.of_connection(&event),
        };
        let known = |place: &usize| {
            let name = self.name(*place);
            name.is_none_or(|evse| is_in(evse, &self.held[*place]))
        };
        if about.iter().all(known) {
            return;
        }
        let effect = self.state.apply(&event, event.at());
        if let Some((place, reading)) = effect.place.zip(effect.accepted) {
            self.meter(place, &reading);
        }
        for place in about {
            self.held[place].seen.note(record);
            self.unsaved(place);
        }
    }

    /// The same for a set-point.
    pub(crate) fn setpoint_again(&mut self, record: &Record) {
        if let Ok(setpoint) = setpoint(&record.payload)
            && let Some(place) = self.state.apply_setpoint(&setpoint).place
        {
            self.held[place].seen.note(record);
            self.unsaved(place);
        }
    }
}

/// Place among [`KINDS`], and what the event is about.
fn kind(event: &Telemetry) -> (usize, About<'_>) {
    match event {
        Telemetry::Connection { .. } => (0, About::Station),
        Telemetry::PluggedIn { evse, .. } => (1, About::Evse(evse)),
        Telemetry::Needs { evse, .. } => (2, About::Evse(evse)),
        Telemetry::Reading(reading) => (3, About::Evse(&reading.evse)),
        Telemetry::Unplugged { evse, .. } => (4, About::Evse(evse)),
        Telemetry::Acknowledged(ack) => (5, About::Evse(&ack.evse)),
    }
}

/// A state as a record.
pub(crate) fn state_record(state: &EvseState) -> NewRecord {
    NewRecord {
        topic: topic::FLEET_STATE,
        key: state.evse.id.to_string(),
        payload: wire::encode(&proto::fleet::v1::EvseState::from(state)),
    }
}

fn setpoint(bytes: &Bytes) -> Result<Setpoint, String> {
    decode::<proto::dispatch::v1::Setpoint, Setpoint>(bytes)
}
