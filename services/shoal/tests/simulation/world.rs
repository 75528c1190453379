//! What the services stand on, simulated: time, network, log, tables, deaths. Everything follows from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, MeterInterval, Reading};
use market::{Award, AwardId, Bid, BidId};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::Lease;
use wire::proto::dispatch::v1::Setpoint;

/// Simulated milliseconds since the beginning.
pub(crate) type Millis = u64;

/// Faults end here: what was begun has time to come to its end.
pub(crate) const HEALED: Millis = 60_000;
/// The whole run.
pub(crate) const END: Millis = 110_000;
/// The platform's clock runs so much faster than the monotonic one, as in the demo: two hours of meters in two minutes.
pub(crate) const SPEED: u64 = 60;

/// A mistake that is put in on purpose, to see whether the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// None.
    None,
    /// Offsets are committed before what they cover is stored.
    AcknowledgesBeforeEffect,
    /// Neither the holder asks whether it still holds the office nor the edge which term is the newest.
    LeasesWithoutFence,
    /// Readings are copied into their table without a key.
    CopiesWithoutDedupe,
}

/// What happens next, to whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Gateway(usize, Act),
    Edge(Act),
    Ingest(Act),
    Station(usize, Act),
    Optimizer,
    Market(Act),
    Fault,
}

/// The part of a process that goes on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// It starts, anew or again.
    Start,
    Office,
    Beat,
    /// A beat whose writing began then was stored.
    Beaten {
        began: Duration,
    },
    Dispatch,
    Bids,
    Results,
    /// Set-points reach the log.
    Append(Vec<Setpoint>),
    Read,
    Checkpoint,
    Sample,
    /// A reading reaches the other side.
    Arrive(Reading),
    Acknowledged(DateTime<Utc>),
    Clear,
}

/// A process as the network and the machine see it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Machine {
    /// Rises with each death: what an earlier life had under way is void.
    life: u32,
    /// Does nothing until then, and knows nothing of it.
    asleep_until: Millis,
    /// Its monotonic clock: parts per thousand off, and where it began.
    drift: i64,
    began: u64,
}

impl Machine {
    /// Its own monotonic clock.
    pub(crate) fn clock(&self, now: Millis) -> Duration {
        let micros = i64::try_from(now * 1_000).unwrap_or(i64::MAX);
        let shown = micros + micros / 1_000 * self.drift;
        Duration::from_micros(self.began + shown.unsigned_abs())
    }
}

/// Machines, by number: gateways first.
pub(crate) const GATEWAYS: usize = 2;
pub(crate) const EDGE: usize = GATEWAYS;
pub(crate) const INGEST: usize = GATEWAYS + 1;
const MACHINES: usize = GATEWAYS + 2;

/// The log; one partition per topic, offsets from 1.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) readings: Vec<Reading>,
    pub(crate) setpoints: Vec<Setpoint>,
    pub(crate) bids: Vec<Bid>,
    pub(crate) awards: Vec<Award>,
}

/// The tables; each change of them is one transaction.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) lease: Option<Lease>,
    pub(crate) bids: BTreeMap<BidId, Bid>,
    pub(crate) awards: BTreeMap<AwardId, Award>,
    pub(crate) intervals: BTreeMap<(EvseId, DateTime<Utc>), MeterInterval>,
    pub(crate) readings: BTreeMap<(EvseId, DateTime<Utc>), u32>,
    /// Saved states of ingest.
    pub(crate) kept: BTreeMap<String, String>,
    pub(crate) bids_committed: usize,
    pub(crate) readings_committed: usize,
}

/// Everything that is not a service.
pub(crate) struct World {
    pub(crate) mistake: Mistake,
    pub(crate) now: Millis,
    pub(crate) log: Log,
    pub(crate) tables: Tables,
    rng: ChaCha8Rng,
    queue: BinaryHeap<Reverse<(Millis, u64)>>,
    events: BTreeMap<u64, (Option<(usize, u32)>, Event)>,
    sequence: u64,
    machines: [Machine; MACHINES],
    down: BTreeSet<usize>,
}

impl World {
    pub(crate) fn new(seed: u64, mistake: Mistake) -> Self {
        let mut world = Self {
            mistake,
            now: 0,
            log: Log::default(),
            tables: Tables::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            machines: [Machine::default(); MACHINES],
            down: BTreeSet::new(),
        };
        for number in 0..MACHINES {
            // Quartz is off by parts per million; ten parts per thousand is a broken one.
            world.machines[number].drift = world.rng.random_range(-10..=10);
            world.machines[number].began = world.rng.random_range(0..1_000_000_000);
        }
        world
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.rng.random_range(from..=to)
    }

    /// True in `per_cent` of cases while there are faults.
    pub(crate) fn fails(&mut self, per_cent: u64) -> bool {
        self.between(0, 99) < per_cent && self.now < HEALED
    }

    /// How long a message takes: mostly some milliseconds, at times seconds, so that later ones overtake it.
    pub(crate) fn delay(&mut self) -> Millis {
        if self.fails(5) {
            self.between(200, 3_000)
        } else {
            self.between(1, 30)
        }
    }

    /// The clock of the platform, the same for all services of a run, on a Monday before noon: the gate of the day-ahead market
    /// closes after 100 s of the run.
    pub(crate) fn wall(&self) -> DateTime<Utc> {
        beginning() + TimeDelta::milliseconds(i64::try_from(self.now * SPEED).unwrap_or(0))
    }

    pub(crate) fn machine(&self, number: usize) -> &Machine {
        &self.machines[number]
    }

    /// Something that happens outside of machines after `after`.
    pub(crate) fn later(&mut self, after: Millis, event: Event) {
        self.push(after, None, event);
    }

    /// Something that a machine goes on with after `after`, unless it dies.
    pub(crate) fn goes_on(&mut self, machine: usize, after: Millis, event: Event) {
        let life = self.machines[machine].life;
        self.push(after, Some((machine, life)), event);
    }

    fn push(&mut self, after: Millis, of: Option<(usize, u32)>, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.events.insert(self.sequence, (of, event));
    }

    /// The next event; none at the end of the run.
    pub(crate) fn next(&mut self) -> Option<Event> {
        loop {
            let Reverse((at, number)) = self.queue.pop()?;
            let (of, event) = self.events.remove(&number)?;
            if at > END {
                return None;
            }
            self.now = at;
            let Some((machine, life)) = of else {
                return Some(event);
            };
            let found = &self.machines[machine];
            if found.life != life {
                continue;
            }
            if at < found.asleep_until {
                let after = found.asleep_until - at;
                self.push(after, of, event);
                continue;
            }
            return Some(event);
        }
    }

    /// Kills a machine; answers after how long it starts again.
    pub(crate) fn kill(&mut self, machine: usize) -> Millis {
        self.machines[machine].life += 1;
        self.down.insert(machine);
        self.between(100, 4_000)
    }

    /// It has started.
    pub(crate) fn up(&mut self, machine: usize) {
        self.down.remove(&machine);
    }

    pub(crate) fn is_up(&self, machine: usize) -> bool {
        !self.down.contains(&machine)
    }

    /// Stops a machine for a while, as SIGSTOP or a busy host does.
    pub(crate) fn pause(&mut self, machine: usize) {
        let pause = self.between(300, 3_000);
        self.machines[machine].asleep_until = self.now + pause;
    }

    /// One machine of all.
    pub(crate) fn any(&mut self) -> usize {
        let last = MACHINES as u64 - 1;
        usize::try_from(self.between(0, last)).unwrap_or(0)
    }
}

pub(crate) fn beginning() -> DateTime<Utc> {
    "2026-01-12T09:20:00Z".parse().expect("an instant")
}
