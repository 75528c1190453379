//! Telemetry-ingest: readings are folded by the platform's own `FleetState` and `Meter`; what is stored is stored with the offset
//! it belongs to.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use fleet::metering::{self, Meter};
use fleet::state::{Rules, Tracked};
use fleet::{Evse, EvseId, FleetState, MeterInterval, Reading, Telemetry};
use serde::{Deserialize, Serialize};

use crate::sim::{Sim, fleet_of_cars};
use crate::world::{Act, Event, INGEST, Millis, Mistake};

/// Readings taken at once.
const BATCH: usize = 5;
/// Between two checkpoints.
const CHECKPOINT: Millis = 700;

/// What ingest has in memory.
#[derive(Default)]
pub(crate) struct Ingest {
    state: FleetState,
    meters: BTreeMap<EvseId, Meter>,
    unsaved: BTreeSet<EvseId>,
    /// Rows of readings that are not stored yet.
    rows: Vec<(EvseId, DateTime<Utc>)>,
    read: usize,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    tracked: Tracked,
    meter: Meter,
}

impl Ingest {
    fn new() -> Self {
        let mut state = FleetState::new(Rules::default());
        for evse in fleet_of_cars() {
            state.register(evse, crate::world::beginning());
        }
        Self {
            state,
            ..Self::default()
        }
    }

    pub(crate) fn take(&mut self, reading: &Reading, now: DateTime<Utc>) {
        self.rows.push((reading.evse.clone(), reading.at));
        let effect = self.state.apply(&Telemetry::Reading(reading.clone()), now);
        let Some(accepted) = effect.accepted else {
            return;
        };
        let evse = self
            .state
            .get(&accepted.evse)
            .expect("registered")
            .evse
            .clone();
        let meter = self.meters.entry(accepted.evse.clone()).or_default();
        meter.take(&accepted, &evse, &metering::Rules::default());
        self.unsaved.insert(accepted.evse);
    }

    /// Every interval that is over, and what is to be saved.
    pub(crate) fn checkpoint(&mut self) -> (Vec<MeterInterval>, Vec<(String, String)>) {
        let (mut intervals, mut saved) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.unsaved) {
            let tracked = self
                .state
                .place(&id)
                .and_then(|place| self.state.at(place))
                .expect("registered")
                .clone();
            let evse: Evse = tracked.state().evse.clone();
            let meter = self.meters.entry(id.clone()).or_default();
            intervals.extend(meter.publish(&evse));
            let body = Saved {
                tracked,
                meter: meter.clone(),
            };
            saved.push((id.to_string(), serde_json::to_string(&body).expect("saved")));
        }
        (intervals, saved)
    }
}

/// The same in one go, without a death: what the tables must hold.
pub(crate) fn reference(
    readings: &[Reading],
    now: DateTime<Utc>,
) -> BTreeMap<(EvseId, DateTime<Utc>), MeterInterval> {
    let mut ingest = Ingest::new();
    readings
        .iter()
        .for_each(|reading| ingest.take(reading, now));
    let (intervals, _) = ingest.checkpoint();
    let keyed = |i: MeterInterval| ((i.evse.clone(), i.interval.start()), i);
    intervals.into_iter().map(keyed).collect()
}

impl Sim {
    pub(crate) fn ingest(&mut self, act: Act) {
        match act {
            Act::Start => self.ingest_starts(),
            Act::Read => self.reads(),
            Act::Checkpoint => self.stores(),
            other => unreachable!("{other:?}"),
        }
    }

    fn ingest_starts(&mut self) {
        let mut ingest = Ingest::new();
        ingest.read = self.world.tables.readings_committed;
        for body in self.world.tables.kept.values() {
            let saved: Saved = serde_json::from_str(body).expect("as saved");
            let id = saved.tracked.state().evse.id.clone();
            ingest.meters.insert(id, saved.meter);
            ingest.state.restore(saved.tracked);
        }
        for interval in self.world.tables.intervals.values() {
            if let Some(meter) = ingest.meters.get_mut(&interval.evse) {
                meter.restore(interval);
            }
        }
        self.ingest = ingest;
        self.world.up(INGEST);
        self.world.goes_on(INGEST, 1, Event::Ingest(Act::Read));
        let due = Event::Ingest(Act::Checkpoint);
        self.world.goes_on(INGEST, CHECKPOINT, due);
    }

    fn reads(&mut self) {
        let now = self.world.wall();
        let all = &self.world.log.readings;
        let batch: Vec<_> = all
            .iter()
            .skip(self.ingest.read)
            .take(BATCH)
            .cloned()
            .collect();
        self.ingest.read += batch.len();
        batch
            .iter()
            .for_each(|reading| self.ingest.take(reading, now));
        if self.world.mistake == Mistake::AcknowledgesBeforeEffect {
            self.world.tables.readings_committed = self.ingest.read;
        }
        let after = self.world.delay();
        self.world.goes_on(INGEST, after, Event::Ingest(Act::Read));
    }

    /// One transaction: intervals, rows, what is needed to go on, offset. Rows go in before it where they are copied in bulk: their
    /// key makes that safe.
    fn stores(&mut self) {
        for (evse, at) in std::mem::take(&mut self.ingest.rows) {
            let count = self.world.tables.readings.entry((evse, at)).or_default();
            if self.world.mistake == Mistake::CopiesWithoutDedupe {
                *count += 1;
            } else {
                *count = 1;
            }
        }
        let due = Event::Ingest(Act::Checkpoint);
        self.world.goes_on(INGEST, CHECKPOINT, due);
        // The process dies between the copy and the transaction, or the transaction is refused and it starts anew.
        if self.world.fails(4) {
            return self.dies(INGEST);
        }
        let (intervals, saved) = self.ingest.checkpoint();
        let tables = &mut self.world.tables;
        for interval in intervals {
            let key = (interval.evse.clone(), interval.interval.start());
            let stored = tables.intervals.get(&key);
            // An older version never replaces a newer one.
            if stored.is_none_or(|stored| stored.version <= interval.version) {
                tables.intervals.insert(key, interval);
            }
        }
        tables.kept.extend(saved);
        tables.readings_committed = self.ingest.read.max(tables.readings_committed);
    }
}
