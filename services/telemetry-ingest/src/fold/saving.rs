//! What is stored of the fold, and how it comes back: snapshots of the fleet in slices, beside rows that follow from events.

use fleet::{EvseId, MeterInterval, Reading};
use store::{Change, NewRecord, topic};
use wire::proto;

use super::Fold;
use crate::held::{Held, Marks, SLICES, Saved, save, slice_key};
use crate::packed::{pack, unpack};
use crate::{GROUP, SLICES_GROUP, STATES_GROUP};

/// Records that a restart may have to take in again: as many as some seconds of work. Saving a hundred thousand EVSEs with fewer of them
/// costs the database more than their rows do.
const AGAIN: usize = 4_000_000;

/// A slice whose turn it is to be saved.
struct Turn {
    number: usize,
    /// Places of its EVSEs that changed since they were saved.
    unsaved: Vec<usize>,
}

impl Fold {
    /// Everything that has to be stored together with the offsets taken in, with the snapshot of some EVSEs, or `whole` that of all.
    /// Counts as stored from now on.
    ///
    /// # Errors
    /// [`std::io::Error`] if there is no memory for it: what was taken in is lost here, and not from the log.
    pub(crate) fn checkpoint(&mut self, whole: bool) -> std::io::Result<Change> {
        let mut intervals = Vec::new();
        for place in std::mem::take(&mut self.due) {
            if let Some(tracked) = self.state.at(place) {
                let held = &mut self.held[place];
                held.marks.due = false;
                intervals.extend(held.meter.publish(&tracked.state().evse));
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.reached.readings.join(&fresh.readings);
        self.reached.setpoints.join(&fresh.setpoints);
        let (slices, places) = self.snapshot(whole);
        let mut sessions = std::mem::take(&mut self.ended);
        if whole {
            // Figures of stays in progress; otherwise a row of each that nobody asked for.
            let unsaved = slices.iter().flat_map(|slice| &slice.unsaved);
            let states = unsaved.filter_map(|place| self.state.at(*place));
            sessions.extend(states.filter_map(|tracked| tracked.state().session.clone()));
        }
        let mut alone = self.save_alone(places);
        let mut states = Vec::with_capacity(slices.len());
        for slice in &slices {
            states.extend(self.save_slice(slice, &mut alone)?);
        }
        for place in std::mem::take(&mut self.stays) {
            self.held[place].marks.stay = false;
            let tracked = self.state.at(place);
            sessions.extend(tracked.and_then(|tracked| tracked.state().session.clone()));
        }
        let at = self.reached.text();
        let slices = slices.iter().map(|s| (slice_key(s.number), at.clone()));
        let readings = self.take_readings();
        let records = intervals.iter().map(interval_record);
        let mut change = Change::default()
            .records(records.chain(std::mem::take(&mut self.quarantine)))
            .readings(readings)
            .intervals(&intervals)
            .sessions(&sessions)
            .keep(GROUP, alone)
            .keep(STATES_GROUP, states)
            .keep(SLICES_GROUP, slices);
        for topic in [topic::READINGS, topic::SETPOINTS] {
            let position = fresh.of(topic);
            if !position.is_start() {
                change = change.commit(topic, GROUP, position);
            }
        }
        self.taken = 0;
        Ok(change)
    }

    /// Accepted readings since the last checkpoint, in the order of the table's index: behind, there are many of each EVSE, and neighbours
    /// are written one after the other.
    fn take_readings(&mut self) -> Vec<Reading> {
        let mut readings = std::mem::take(&mut self.readings);
        self.readings.reserve(readings.len());
        let rank = self.order.of(&self.state);
        readings.sort_unstable_by_key(|(place, reading)| (rank[*place], reading.at));
        readings.into_iter().map(|(_, reading)| reading).collect()
    }

    /// Slices whose turn it is, and the EVSEs of others that have to be saved at once.
    fn snapshot(&mut self, whole: bool) -> (Vec<Turn>, Vec<usize>) {
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
        let turns: Vec<Turn> = slices.into_iter().map(|n| self.turn(n)).collect();
        let mut places = std::mem::take(&mut self.urgent);
        // What was saved with its slice is not marked any more.
        places.retain(|place| std::mem::take(&mut self.held[*place].marks.urgent));
        (turns, places)
    }

    /// Takes from a slice what makes it unsaved.
    fn turn(&mut self, number: usize) -> Turn {
        let slice = &mut self.slices[number];
        slice.urgent = false;
        let mut unsaved = std::mem::take(&mut slice.unsaved);
        // What was saved alone meanwhile may be in the list twice.
        unsaved.retain(|place| {
            let marks = &mut self.held[*place].marks;
            marks.urgent = false;
            std::mem::take(&mut marks.unsaved)
        });
        Turn { number, unsaved }
    }

    /// Rows of EVSEs that are saved out of turn.
    fn save_alone(&mut self, places: Vec<usize>) -> Vec<(String, String)> {
        let mut rows = Vec::with_capacity(places.len());
        for place in places {
            let held = &mut self.held[place];
            (held.marks.unsaved, held.marks.alone) = (false, true);
            if let Some(tracked) = self.state.at(place) {
                let body = save(tracked, held);
                rows.extend(body.map(|body| (tracked.state().evse.id.to_string(), body)));
            }
        }
        rows
    }

    /// The row of a slice, unless it has all that there is; rows that its EVSEs have `alone` go with it.
    fn save_slice(
        &mut self,
        turn: &Turn,
        alone: &mut Vec<(String, String)>,
    ) -> std::io::Result<Option<(String, String)>> {
        if turn.unsaved.is_empty() {
            return Ok(None);
        }
        let slice = &self.slices[turn.number];
        let mut lines = Vec::with_capacity(slice.places.len());
        for place in &slice.places {
            let held = &mut self.held[*place];
            if let Some(tracked) = self.state.at(*place) {
                lines.extend(save(tracked, held));
                if std::mem::take(&mut held.marks.alone) {
                    alone.push((tracked.state().evse.id.to_string(), String::new()));
                }
            }
        }
        Ok(Some((slice_key(turn.number), pack(&lines)?)))
    }

    /// Gives back a slice saved by an earlier run, each EVSE as [`Fold::restore`] does.
    pub(crate) fn restore_slice(&mut self, slice: &str, body: &str) {
        match unpack(body) {
            Ok(lines) => {
                for line in lines.lines() {
                    self.restore(slice, line);
                }
            }
            Err(error) => {
                metrics::counter!("shoal_ingest_unreadable_states_total").increment(1);
                tracing::error!(slice, %error, "slice {slice} of saved states is unreadable, its EVSEs begin anew");
            }
        }
    }

    /// Gives back an EVSE that has a row of its own; see [`Fold::restore`].
    pub(crate) fn restore_alone(&mut self, evse: &str, body: &str) -> Option<(EvseId, bool)> {
        let restored = self.restore(evse, body);
        if let Some(place) = restored.as_ref().and_then(|(id, _)| self.state.place(id)) {
            self.held[place].marks.alone = true;
        }
        restored
    }

    /// Gives back an EVSE saved by an earlier run; answers whether records since its snapshot are to be taken in again. One that
    /// cannot be read begins anew, and says so.
    fn restore(&mut self, evse: &str, body: &str) -> Option<(EvseId, bool)> {
        match serde_json::from_str::<Saved>(body) {
            Ok(saved) => {
                let id = saved.tracked.state().evse.id.clone();
                let goes_on = saved.seen.is_some();
                let held = Held {
                    meter: saved.meter,
                    seen: saved.seen.unwrap_or_default(),
                    marks: Marks::default(),
                };
                self.state.restore(saved.tracked);
                let place = self.state.place(&id)?;
                self.hold(place, &id);
                self.held[place] = held;
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
            if let Some(place) = self.state.place(&interval.evse) {
                self.held[place].meter.restore(interval);
            }
        }
    }
}

fn interval_record(interval: &MeterInterval) -> NewRecord {
    NewRecord {
        topic: topic::METER_INTERVALS,
        key: interval.evse.to_string(),
        payload: wire::encode(&proto::telemetry::v1::MeterInterval::from(interval)),
    }
}
