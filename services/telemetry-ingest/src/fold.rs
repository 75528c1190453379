//! Everything the service knows, and what follows from the next records. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use fleet::metering::{self, Meter, Taken};
use fleet::reading::Refusal;
use fleet::state::{Effect, Rules, Tracked};
use fleet::{
    Evse, EvseId, EvseState, FleetState, MeterInterval, SessionState, Setpoint, Telemetry,
};
use serde::{Deserialize, Serialize};
use store::{Change, NewRecord, Position, Record, topic};
use wire::proto;

use crate::GROUP;

/// Bytes of a refused message that are kept, see `telemetry.proto`.
const ORIGINAL_BYTES: usize = 64 * 1024;

/// State of the fleet, its meters, and what is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) state: FleetState,
    pub(crate) meters: BTreeMap<EvseId, Meter>,
    rules: metering::Rules,
    /// EVSEs whose state has to be published.
    changed: BTreeSet<EvseId>,
    /// EVSEs whose saved state is out of date.
    unsaved: BTreeSet<EvseId>,
    ended: Vec<SessionState>,
    quarantine: Vec<NewRecord>,
    /// Offsets taken in.
    positions: BTreeMap<store::Topic, Position>,
    taken: usize,
}

/// One EVSE as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    tracked: Tracked,
    meter: Meter,
}

impl Fold {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            state: FleetState::new(rules),
            ..Self::default()
        }
    }

    /// Takes in readings in the order of the log.
    pub(crate) fn readings(&mut self, records: &[Record], now: DateTime<Utc>) {
        for record in records {
            match decode::<proto::telemetry::v1::Telemetry, Telemetry>(&record.payload) {
                Ok(event) => self.event(&event, record, now),
                Err(reason) => {
                    self.refuse("undecodable", &reason, record, now);
                }
            }
        }
        self.took(records);
    }

    /// Takes in set-points in the order of the log: what acknowledgements are about.
    pub(crate) fn setpoints(&mut self, records: &[Record], now: DateTime<Utc>) {
        for record in records {
            match decode::<proto::dispatch::v1::Setpoint, Setpoint>(&record.payload) {
                Ok(setpoint) => {
                    let evse = setpoint.evse.clone();
                    let effect = self.state.apply_setpoint(&setpoint);
                    self.unsaved.insert(evse);
                    self.effect(effect, record, now);
                }
                Err(reason) => {
                    self.refuse("undecodable", &reason, record, now);
                }
            }
        }
        self.took(records);
    }

    /// Takes in a registration; answers the state of the EVSE.
    pub(crate) fn register(&mut self, evse: Evse, now: DateTime<Utc>) -> Option<EvseState> {
        let id = evse.id.clone();
        if self.state.register(evse, now) {
            self.unsaved.insert(id.clone());
        }
        self.state.get(&id).cloned()
    }

    fn event(&mut self, event: &Telemetry, record: &Record, now: DateTime<Utc>) {
        let kind = match event {
            Telemetry::Connection { .. } => "connection",
            Telemetry::PluggedIn { .. } => "plugged_in",
            Telemetry::Needs { .. } => "needs",
            Telemetry::Reading(_) => "reading",
            Telemetry::Unplugged { .. } => "unplugged",
            Telemetry::Acknowledged(_) => "acknowledged",
        };
        metrics::counter!("shoal_ingest_events_total", "kind" => kind).increment(1);
        if let Telemetry::Acknowledged(ack) = event {
            self.unsaved.insert(ack.evse.clone());
        }
        let effect = self.state.apply(event, now);
        self.effect(effect, record, now);
    }

    fn effect(&mut self, effect: Effect, record: &Record, now: DateTime<Utc>) {
        for refusal in &effect.refused {
            self.refuse_event(refusal, record, now);
        }
        if let Some(reading) = &effect.accepted {
            self.unsaved.insert(reading.evse.clone());
            if let Some(state) = self.state.get(&reading.evse) {
                let meter = self.meters.entry(reading.evse.clone()).or_default();
                let taken = meter.take(reading, &state.evse, &self.rules);
                self.metered(taken, record, now);
            }
        }
        self.unsaved.extend(effect.changed.iter().cloned());
        self.changed.extend(effect.changed);
        self.ended.extend(effect.ended);
    }

    fn metered(&mut self, taken: Taken, record: &Record, now: DateTime<Utc>) {
        match taken {
            Taken::Counted | Taken::Nothing => {}
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

    fn took(&mut self, records: &[Record]) {
        self.taken += records.len();
        if let Some(topic) = records.first().map(|record| record.topic) {
            let position = self.positions.entry(topic).or_default();
            position.join(&Position::after(records));
        }
    }

    /// States that changed since the last call, in order of their EVSE.
    pub(crate) fn take_changed(&mut self) -> Vec<EvseState> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .iter()
            .filter_map(|evse| self.state.get(evse).cloned())
            .collect()
    }

    /// Records taken in since the last checkpoint.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// True if a checkpoint would store something.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.taken > 0 || !self.unsaved.is_empty()
    }

    /// Everything that has to be stored together with the offsets taken in. Counts as stored from now on.
    pub(crate) fn checkpoint(&mut self) -> Change {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut intervals = Vec::new();
        let mut sessions = std::mem::take(&mut self.ended);
        let mut saved = Vec::new();
        for evse in &unsaved {
            let Some(tracked) = self.state.tracked(evse) else {
                continue;
            };
            let state = tracked.state();
            sessions.extend(state.session.clone());
            let meter = self.meters.get_mut(evse);
            let meter = meter.map(|meter| {
                intervals.extend(meter.publish(&state.evse));
                meter.clone()
            });
            saved.extend(save(evse, tracked, meter.unwrap_or_default()));
        }
        let records = intervals.iter().map(interval_record);
        let mut change = Change::default()
            .records(records.chain(std::mem::take(&mut self.quarantine)))
            .intervals(&intervals)
            .sessions(&sessions)
            .keep(GROUP, saved);
        for (topic, position) in std::mem::take(&mut self.positions) {
            change = change.commit(topic, GROUP, &position);
        }
        self.taken = 0;
        change
    }

    /// Gives back an EVSE saved by an earlier run. One that cannot be read begins anew, and says so.
    pub(crate) fn restore(&mut self, evse: &str, body: &str) {
        match serde_json::from_str::<Saved>(body) {
            Ok(saved) => {
                let id = saved.tracked.state().evse.id.clone();
                self.meters.insert(id, saved.meter);
                self.state.restore(saved.tracked);
            }
            Err(error) => {
                metrics::counter!("shoal_ingest_unreadable_states_total").increment(1);
                tracing::error!(evse.id = evse, error = %error, "saved state of EVSE {evse} is unreadable, it begins anew");
            }
        }
    }

    /// Gives back intervals published by an earlier run.
    pub(crate) fn restore_intervals(&mut self, intervals: &[MeterInterval]) {
        for interval in intervals {
            if let Some(meter) = self.meters.get_mut(&interval.evse) {
                meter.restore(interval);
            }
        }
    }
}

fn save(evse: &EvseId, tracked: &Tracked, meter: Meter) -> Option<(String, String)> {
    let saved = Saved {
        tracked: tracked.clone(),
        meter,
    };
    match serde_json::to_string(&saved) {
        Ok(body) => Some((evse.to_string(), body)),
        Err(error) => {
            tracing::error!(evse.id = %evse, error = %error, "state of EVSE {evse} cannot be saved");
            None
        }
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

/// The domain value in `bytes`; the error is the reason in words.
fn decode<M, T>(bytes: &Bytes) -> Result<T, String>
where
    M: wire::Message + Default,
    T: TryFrom<M, Error = wire::WireError>,
{
    let message: M = wire::decode(bytes).map_err(|error| error.to_string())?;
    T::try_from(message).map_err(|error| error.to_string())
}
