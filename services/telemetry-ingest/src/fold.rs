//! Everything the service knows, and what follows from the next records. No I/O.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fleet::metering::{self, Meter, Taken};
use fleet::reading::Refusal;
use fleet::state::{Effect, Rules};
use fleet::{
    Evse, EvseId, EvseState, FleetState, MeterInterval, Reading, SessionState, Setpoint, Telemetry,
};
use store::{Change, NewRecord, Record, Topic, topic};
use wire::proto;

use crate::held::{Held, Marks, Reached, SLICES, Saved, save, slice_key, slice_of};
use crate::{GROUP, SLICES_GROUP};

/// Bytes of a refused message that are kept, see `telemetry.proto`.
const ORIGINAL_BYTES: usize = 64 * 1024;

/// Records that a restart may have to take in again: as many as some seconds of work.
const AGAIN: usize = 1_000_000;

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
    pub(crate) held: HashMap<EvseId, Held>,
    rules: metering::Rules,
    /// True if accepted readings become rows.
    keeps_readings: bool,
    /// EVSEs by what has to be done about them, each once ([`Marks`]).
    changed: Vec<EvseId>,
    due: Vec<EvseId>,
    stays: Vec<EvseId>,
    urgent: Vec<EvseId>,
    slices: Vec<Slice>,
    next_slice: usize,
    readings: Vec<Reading>,
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
    /// EVSEs that changed since they were saved; some may have been saved alone meanwhile.
    unsaved: Vec<EvseId>,
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
            held: HashMap::new(),
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
    pub(crate) fn readings(&mut self, records: &[Record], now: DateTime<Utc>) {
        for record in records {
            match telemetry(&record.payload) {
                Ok(event) => self.event(&event, record, now),
                Err(reason) => self.refuse("undecodable", &reason, record, now),
            }
        }
        self.took(topic::READINGS, records);
    }

    /// Takes in set-points in the order of the log: what acknowledgements are about.
    pub(crate) fn setpoints(&mut self, records: &[Record], now: DateTime<Utc>) {
        for record in records {
            match setpoint(&record.payload) {
                Ok(setpoint) => {
                    let effect = self.state.apply_setpoint(&setpoint);
                    self.note(&setpoint.evse, record);
                    self.unsaved(&setpoint.evse);
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
        if self.state.register(evse, now) {
            if !self.held.contains_key(&id) {
                self.held.insert(id.clone(), Held::default());
                // What came for it so far was refused: its slice has to begin after that.
                self.slices[slice_of(&id)].urgent = true;
            }
            self.unsaved(&id);
        }
        self.state.get(&id).cloned()
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
                self.note(evse, record);
                match event {
                    Telemetry::Acknowledged(_) => self.unsaved(evse),
                    Telemetry::PluggedIn { .. } | Telemetry::Needs { .. } => {
                        self.mark(evse, |fold| &mut fold.stays, |marks| &mut marks.stay);
                    }
                    Telemetry::Connection { .. }
                    | Telemetry::Reading(_)
                    | Telemetry::Unplugged { .. } => {}
                }
                if urgent {
                    self.urgent(evse);
                }
            }
            About::Station => {
                for evse in self.of_connection(event) {
                    self.note(&evse, record);
                    if urgent {
                        self.urgent(&evse);
                    }
                }
            }
        }
        self.effect(effect, record, now);
    }

    /// EVSEs that a change of their station's connection is about.
    fn of_connection(&self, event: &Telemetry) -> Vec<EvseId> {
        let Telemetry::Connection { station, evses, .. } = event else {
            return Vec::new();
        };
        let registered = self.state.of_station(station);
        registered.chain(evses).cloned().collect()
    }

    fn effect(&mut self, effect: Effect, record: &Record, now: DateTime<Utc>) {
        for refusal in &effect.refused {
            self.refuse_event(refusal, record, now);
        }
        if let Some(reading) = effect.accepted {
            self.unsaved(&reading.evse);
            let taken = self.meter(&reading);
            self.metered(taken, &reading.evse, record, now);
            if self.keeps_readings {
                self.readings.push(reading);
            }
        }
        for evse in &effect.changed {
            self.unsaved(evse);
            self.mark(evse, |fold| &mut fold.changed, |marks| &mut marks.changed);
        }
        self.ended.extend(effect.ended);
    }

    /// Counts an accepted reading.
    fn meter(&mut self, reading: &Reading) -> Taken {
        let Some(state) = self.state.get(&reading.evse) else {
            return Taken::Nothing;
        };
        let Some(held) = self.held.get_mut(&reading.evse) else {
            return Taken::Nothing;
        };
        let taken = held.meter.take(reading, &state.evse, &self.rules);
        if held.meter.is_due() && !held.marks.due {
            held.marks.due = true;
            self.due.push(reading.evse.clone());
        }
        taken
    }

    fn metered(&mut self, taken: Taken, evse: &EvseId, record: &Record, now: DateTime<Utc>) {
        match taken {
            Taken::Counted | Taken::Nothing => {}
            // Intervals that were published before the snapshot may be others now (`Meter::restore`).
            Taken::CountedLate => self.urgent(evse),
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

    fn note(&mut self, evse: &EvseId, record: &Record) {
        if let Some(held) = self.held.get_mut(evse) {
            held.seen.note(record);
        }
    }

    fn unsaved(&mut self, evse: &EvseId) {
        let slice = slice_of(evse);
        self.mark(
            evse,
            |fold| &mut fold.slices[slice].unsaved,
            |marks| &mut marks.unsaved,
        );
    }

    fn urgent(&mut self, evse: &EvseId) {
        self.unsaved(evse);
        self.mark(evse, |fold| &mut fold.urgent, |marks| &mut marks.urgent);
    }

    fn mark(
        &mut self,
        evse: &EvseId,
        list: impl Fn(&mut Self) -> &mut Vec<EvseId>,
        mark: impl Fn(&mut Marks) -> &mut bool,
    ) {
        let Some(held) = self.held.get_mut(evse) else {
            return;
        };
        if !std::mem::replace(mark(&mut held.marks), true) {
            list(self).push(evse.clone());
        }
    }

    /// True if a state has to be published.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// States that changed since the last call, in order of their EVSE.
    pub(crate) fn take_changed(&mut self) -> Vec<EvseState> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        let state = |evse: &EvseId| {
            self.held.get_mut(evse)?.marks.changed = false;
            self.state.get(evse).cloned()
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

    /// Everything that has to be stored together with the offsets taken in, with the snapshot of some EVSEs, or `whole` that of all.
    /// Counts as stored from now on.
    pub(crate) fn checkpoint(&mut self, whole: bool) -> Change {
        let mut intervals = Vec::new();
        for evse in std::mem::take(&mut self.due) {
            let held = self.held.get_mut(&evse);
            if let Some((held, state)) = held.zip(self.state.get(&evse)) {
                held.marks.due = false;
                intervals.extend(held.meter.publish(&state.evse));
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.reached.readings.join(&fresh.readings);
        self.reached.setpoints.join(&fresh.setpoints);
        let (slices, evses) = self.snapshot(whole);
        let mut sessions = std::mem::take(&mut self.ended);
        let mut saved = Vec::with_capacity(evses.len());
        for evse in evses {
            let tracked = self.state.tracked(&evse);
            if let Some((tracked, held)) = tracked.zip(self.held.get_mut(&evse)) {
                (held.marks.unsaved, held.marks.urgent) = (false, false);
                sessions.extend(tracked.state().session.clone());
                saved.extend(save(&evse, tracked, held));
            }
        }
        for evse in std::mem::take(&mut self.stays) {
            if let Some((held, state)) = self.held.get_mut(&evse).zip(self.state.get(&evse)) {
                held.marks.stay = false;
                sessions.extend(state.session.clone());
            }
        }
        let at = self.reached.text();
        let slices = slices.into_iter().map(|n| (slice_key(n), at.clone()));
        // Neighbours in the table's index come one after the other: behind, a checkpoint holds many readings of each EVSE.
        let mut readings = std::mem::take(&mut self.readings);
        readings.sort_unstable_by(|a, b| (&a.evse, a.at).cmp(&(&b.evse, b.at)));
        let records = intervals.iter().map(interval_record);
        let mut change = Change::default()
            .records(records.chain(std::mem::take(&mut self.quarantine)))
            .readings(&readings)
            .intervals(&intervals)
            .sessions(&sessions)
            .keep(GROUP, saved)
            .keep(SLICES_GROUP, slices);
        for topic in [topic::READINGS, topic::SETPOINTS] {
            let position = fresh.of(topic);
            if !position.is_start() {
                change = change.commit(topic, GROUP, position);
            }
        }
        self.taken = 0;
        change
    }

    /// Slices whose turn it is, and what of them and beside them has to be saved.
    fn snapshot(&mut self, whole: bool) -> (Vec<usize>, Vec<EvseId>) {
        let turns = if whole {
            SLICES
        } else {
            (self.taken * SLICES).div_ceil(AGAIN).clamp(1, SLICES)
        };
        let mut slices: Vec<usize> = (0..turns).map(|n| (self.next_slice + n) % SLICES).collect();
        self.next_slice = (self.next_slice + turns) % SLICES;
        let urgent = |n: &usize| self.slices[*n].urgent && !slices.contains(n);
        let more: Vec<usize> = (0..SLICES).filter(urgent).collect();
        slices.extend(more);
        let mut evses = std::mem::take(&mut self.urgent);
        for slice in &slices {
            self.slices[*slice].urgent = false;
            let unsaved = std::mem::take(&mut self.slices[*slice].unsaved);
            let held = |evse: &EvseId| self.held.get(evse).map(|held| held.marks);
            // What is urgent is in the list already; what was is saved.
            evses.extend(
                unsaved
                    .into_iter()
                    .filter(|e| held(e).is_some_and(|m| m.unsaved && !m.urgent)),
            );
        }
        (slices, evses)
    }

    /// Gives back an EVSE saved by an earlier run; answers whether records since its snapshot are to be taken in again. One that
    /// cannot be read begins anew, and says so.
    pub(crate) fn restore(&mut self, evse: &str, body: &str) -> Option<(EvseId, bool)> {
        match serde_json::from_str::<Saved>(body) {
            Ok(saved) => {
                let id = saved.tracked.state().evse.id.clone();
                let goes_on = saved.seen.is_some();
                let held = Held {
                    meter: saved.meter,
                    seen: saved.seen.unwrap_or_default(),
                    marks: Marks::default(),
                };
                self.held.insert(id.clone(), held);
                self.state.restore(saved.tracked);
                Some((id, goes_on))
            }
            Err(error) => {
                metrics::counter!("shoal_ingest_unreadable_states_total").increment(1);
                tracing::error!(evse.id = evse, error = %error, "saved state of EVSE {evse} is unreadable, it begins anew");
                None
            }
        }
    }

    /// Gives back intervals published by an earlier run: before the records since the snapshots are taken in again, and after.
    pub(crate) fn restore_intervals(&mut self, intervals: &[MeterInterval]) {
        for interval in intervals {
            if let Some(held) = self.held.get_mut(&interval.evse) {
                held.meter.restore(interval);
            }
        }
    }

    /// Start of the first interval that a sample could still change.
    pub(crate) fn first_interval(&self) -> Option<DateTime<Utc>> {
        let meters = self.held.values().map(|held| &held.meter);
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
            About::Evse(evse) => vec![evse.clone()],
            About::Station => self.of_connection(&event),
        };
        let known = |evse: &EvseId| self.held.get(evse).is_none_or(|held| is_in(evse, held));
        if about.iter().all(known) {
            return;
        }
        let effect = self.state.apply(&event, event.at());
        if let Some(reading) = &effect.accepted {
            self.meter(reading);
        }
        for evse in &about {
            self.note(evse, record);
            self.unsaved(evse);
        }
    }

    /// The same for a set-point.
    pub(crate) fn setpoint_again(&mut self, record: &Record) {
        if let Ok(setpoint) = setpoint(&record.payload) {
            self.state.apply_setpoint(&setpoint);
            self.note(&setpoint.evse, record);
            self.unsaved(&setpoint.evse);
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

fn interval_record(interval: &MeterInterval) -> NewRecord {
    NewRecord {
        topic: topic::METER_INTERVALS,
        key: interval.evse.to_string(),
        payload: wire::encode(&proto::telemetry::v1::MeterInterval::from(interval)),
    }
}

fn telemetry(bytes: &Bytes) -> Result<Telemetry, String> {
    decode::<proto::telemetry::v1::Telemetry, Telemetry>(bytes)
}

fn setpoint(bytes: &Bytes) -> Result<Setpoint, String> {
    decode::<proto::dispatch::v1::Setpoint, Setpoint>(bytes)
}

/// The domain value in `bytes`; the error is the reason in words.
fn decode<M, T>(bytes: &Bytes) -> Result<T, String>
where
    M: wire::Message + Default,
    T: TryFrom<M, Error = wire::WireError>,
{
    let message: M = wire::decode(bytes).map_err(|error| error.to_string())?;
    T::try_from(message).map_err(|error| error.to_string())
}
