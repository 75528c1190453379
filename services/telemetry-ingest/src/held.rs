//! What the service holds of one EVSE beside its state, and what of it is saved.

use fleet::EvseId;
use fleet::metering::Meter;
use fleet::state::Tracked;
use serde::{Deserialize, Serialize};
use store::{Position, Record, Topic, topic};

/// Parts in which the fleet is saved, one after the other: writing all of it with each checkpoint would cost more than
/// everything else. A slice is the same EVSEs whoever looks: the number is part of what is stored.
pub(crate) const SLICES: usize = 256;

/// One EVSE.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) meter: Meter,
    /// Newest records that it has taken in.
    pub(crate) seen: Seen,
    pub(crate) marks: Marks,
}

/// What has to be done about an EVSE; each but the last says that it is in the list of that name.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "six things that are independent of each other"
)]
pub(crate) struct Marks {
    /// Its state has to be published.
    pub(crate) changed: bool,
    /// Its saved state is out of date.
    pub(crate) unsaved: bool,
    /// It is saved with the next checkpoint: what it took in may have another effect the next time.
    pub(crate) urgent: bool,
    /// It has intervals to publish.
    pub(crate) due: bool,
    /// The row of its stay is out of date in more than energy and state of charge.
    pub(crate) stay: bool,
    /// A row of its own has what is saved of it; its slice has what was saved before.
    pub(crate) alone: bool,
}

/// Newest records of one EVSE, per partition: those of its own key, and those of its station.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    readings: Vec<(u32, u64)>,
    setpoints: Vec<(u32, u64)>,
}

impl Seen {
    fn of(&self, topic: Topic) -> &Vec<(u32, u64)> {
        if topic == topic::SETPOINTS {
            &self.setpoints
        } else {
            &self.readings
        }
    }

    pub(crate) fn note(&mut self, record: &Record) {
        let seen = if record.topic == topic::SETPOINTS {
            &mut self.setpoints
        } else {
            &mut self.readings
        };
        match seen.iter_mut().find(|(part, _)| *part == record.partition) {
            Some((_, newest)) => *newest = record.offset.max(*newest),
            None => seen.push((record.partition, record.offset)),
        }
    }

    pub(crate) fn covers(&self, record: &Record) -> bool {
        let seen = self.of(record.topic);
        seen.iter()
            .any(|(part, newest)| *part == record.partition && *newest >= record.offset)
    }
}

/// One EVSE as it is saved.
#[derive(Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) tracked: Tracked,
    pub(crate) meter: Meter,
    /// None was written by a release that saved everything with each checkpoint.
    pub(crate) seen: Option<Seen>,
}

#[derive(Serialize)]
struct Saving<'a> {
    tracked: &'a Tracked,
    meter: &'a Meter,
    seen: &'a Seen,
}

/// `tracked` and `held` as they are kept.
pub(crate) fn save(tracked: &Tracked, held: &Held) -> Option<String> {
    let evse = &tracked.state().evse.id;
    let saving = Saving {
        tracked,
        meter: &held.meter,
        seen: &held.seen,
    };
    match serde_json::to_string(&saving) {
        Ok(body) => Some(body),
        Err(error) => {
            tracing::error!(evse.id = %evse, error = %error, "state of EVSE {evse} cannot be saved");
            None
        }
    }
}

/// A position in both topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) readings: Position,
    pub(crate) setpoints: Position,
}

/// [`Reached`] as it is kept.
#[derive(Serialize, Deserialize)]
struct Written {
    readings: Vec<(u32, u64)>,
    setpoints: Vec<(u32, u64)>,
}

impl Reached {
    pub(crate) fn of(&self, topic: Topic) -> &Position {
        if topic == topic::SETPOINTS {
            &self.setpoints
        } else {
            &self.readings
        }
    }

    pub(crate) fn of_mut(&mut self, topic: Topic) -> &mut Position {
        if topic == topic::SETPOINTS {
            &mut self.setpoints
        } else {
            &mut self.readings
        }
    }

    pub(crate) fn covers(&self, record: &Record) -> bool {
        self.of(record.topic).of(record.partition) >= record.offset
    }

    pub(crate) fn text(&self) -> String {
        let written = Written {
            readings: self.readings.partitions().collect(),
            setpoints: self.setpoints.partitions().collect(),
        };
        // Numbers in lists have no failing case.
        serde_json::to_string(&written).unwrap_or_default()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_str(text)?;
        let position = |parts: Vec<(u32, u64)>| {
            let mut position = Position::default();
            for (part, offset) in parts {
                position.advance(part, offset);
            }
            position
        };
        Ok(Self {
            readings: position(written.readings),
            setpoints: position(written.setpoints),
        })
    }
}

/// The slice of an EVSE: FNV-1a of its name, <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(crate) fn slice_of(evse: &EvseId) -> usize {
    let hash = evse.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash as usize % SLICES
}

/// Name under which the position of a slice is kept.
pub(crate) fn slice_key(slice: usize) -> String {
    format!("{slice}/{SLICES}")
}
