//! What each cycle decided from, for the log: whoever reads it decides the same again ([`crate::replay`]).
//!
//! A run begins with everything the dispatcher knew; each cycle adds what came in since the one before. What is on the log
//! already, states of the fleet and plans, is pointed to.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use dispatch::fleet::Site;
use market::{Award, GridSignal};
use store::{NewRecord, Position, topic};
use wire::proto::dispatch::v1 as proto;

use crate::command::Order;
use crate::cycle::Dispatcher;
use crate::view::View;

/// Records that wait for the next set-points before they are appended by themselves: those of a quiet minute.
const WAITING: usize = 64;
/// Records that wait while the log is away; beyond, they are given up and the next cycle begins with everything again.
const MOST_WAITING: usize = 4_096;

/// What came into the view since the last cycle.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    taken: Vec<proto::Taken>,
    fleet: Position,
    fleet_moved: bool,
}

impl Journal {
    fn take(&mut self, taken: proto::taken::Taken) {
        self.taken.push(proto::Taken { taken: Some(taken) });
    }

    /// States of the fleet up to `read` were taken in.
    pub(crate) fn fleet(&mut self, read: &Position) {
        self.fleet.join(read);
        self.fleet_moved = true;
    }

    pub(crate) fn plan(&mut self, partition: u32, offset: u64, said_at: DateTime<Utc>) {
        self.take(proto::taken::Taken::Plan(proto::taken::Plan {
            read: Some(proto::Read { partition, offset }),
            said_at_micros: said_at.timestamp_micros(),
        }));
    }

    pub(crate) fn sites(&mut self, sites: &[Site]) {
        let sites = sites.iter().map(Into::into).collect();
        self.take(proto::taken::Taken::Sites(proto::taken::Sites { sites }));
    }

    pub(crate) fn award(&mut self, award: &Award) {
        self.take(proto::taken::Taken::Award(award.into()));
    }

    /// Of several signals between two cycles the newest counts.
    pub(crate) fn signal(&mut self, signal: &GridSignal) {
        self.taken
            .retain(|t| !matches!(t.taken, Some(proto::taken::Taken::Signal(_))));
        self.take(proto::taken::Taken::Signal(signal.into()));
    }

    fn drain(&mut self) -> Vec<proto::Taken> {
        if std::mem::take(&mut self.fleet_moved) {
            let read = reads(&self.fleet);
            self.take(proto::taken::Taken::Fleet(proto::taken::Fleet { read }));
        }
        std::mem::take(&mut self.taken)
    }
}

pub(crate) fn reads(position: &Position) -> Vec<proto::Read> {
    let read = |(partition, offset)| proto::Read { partition, offset };
    position.partitions().map(read).collect()
}

/// The records of one run, until they are on the log.
#[derive(Debug)]
pub(crate) struct Decisions {
    run: String,
    area: String,
    number: u64,
    order: Order,
    anew: bool,
    /// Instant of the newest cycle.
    newest: Option<DateTime<Utc>>,
    /// Day of the newest snapshot; none if the next cycle needs one.
    day: Option<NaiveDate>,
    waiting: Vec<Waiting>,
}

/// A record on its way to the log. That of a cycle is ready once it is known what became of its set-points.
#[derive(Debug)]
pub(crate) struct Waiting {
    decision: proto::Decision,
    ready: bool,
}

impl Decisions {
    /// A run that has decided nothing; `run` is a name that no other has.
    pub(crate) fn new(run: String, area: String) -> Self {
        Self {
            run,
            area,
            number: 0,
            order: Order::default(),
            anew: false,
            newest: None,
            day: None,
            waiting: Vec::new(),
        }
    }

    /// The instant of the cycle that begins `now`: set-points are named by it, and while a clock stands still, as before a
    /// simulation begins, it says the same one twice. One that was set back is believed.
    pub(crate) fn instant(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let still = |newest: &DateTime<Utc>| {
            (TimeDelta::zero()..TimeDelta::milliseconds(1)).contains(&(*newest - now))
        };
        let newest = self.newest.filter(still);
        let now = newest.map_or(now, |newest| newest + TimeDelta::microseconds(1));
        self.newest = Some(now);
        now
    }

    /// Before the cycle at `now`: notes everything where that is due.
    pub(crate) fn begin(&mut self, view: &mut View, dispatcher: &Dispatcher, now: DateTime<Utc>) {
        let today = now.date_naive();
        if self.day == Some(today) {
            return;
        }
        self.day = Some(today);
        self.order = dispatcher.order.clone();
        self.anew = false;
        // From here on the journal says what is new.
        let mut journal = Journal::default();
        journal.fleet.join(&view.fleet_read);
        view.journal = Some(journal);
        let snapshot = dispatcher.snapshot(view, now);
        self.push(proto::decision::Decision::Snapshot(snapshot));
    }

    /// The inputs of the cycle at `now`, drained from the journal. Call it while the view is as the cycle sees it.
    pub(crate) fn inputs(
        &mut self,
        view: &mut View,
        order: &Order,
        now: DateTime<Utc>,
    ) -> proto::Step {
        let mut taken = view
            .journal
            .as_mut()
            .map(Journal::drain)
            .unwrap_or_default();
        if *order != self.order {
            self.order = order.clone();
            let said = serde_json::to_string(order).unwrap_or_default();
            taken.push(proto::Taken {
                taken: Some(proto::taken::Taken::Order(said)),
            });
        }
        proto::Step {
            at_micros: now.timestamp_micros(),
            taken,
            anew: std::mem::take(&mut self.anew),
            ..proto::Step::default()
        }
    }

    /// What the cycle made of the order: a hold that ran out is no news to whoever replays it.
    pub(crate) fn decided(&mut self, order: &Order) {
        self.order = order.clone();
    }

    /// Keeps a cycle for the log.
    pub(crate) fn push_step(&mut self, step: proto::Step) -> u64 {
        self.push(proto::decision::Decision::Step(step));
        self.number
    }

    /// What was decided before does not count as told.
    pub(crate) const fn anew(&mut self) {
        self.anew = true;
    }

    fn push(&mut self, decision: proto::decision::Decision) {
        if self.waiting.len() >= MOST_WAITING {
            tracing::warn!(
                "{MOST_WAITING} decisions could not be written down: replay finds a gap here"
            );
            self.waiting.clear();
            self.day = None;
        }
        self.number += 1;
        self.waiting.push(Waiting {
            ready: matches!(decision, proto::decision::Decision::Snapshot(_)),
            decision: proto::Decision {
                run: self.run.clone(),
                number: self.number,
                decision: Some(decision),
            },
        });
    }

    /// Says what becomes of the set-points of the cycle called `number`.
    pub(crate) fn complete(&mut self, number: u64, change: impl FnOnce(&mut proto::Step)) {
        let mut waiting = self.waiting.iter_mut().rev();
        let Some(found) = waiting.find(|waiting| waiting.decision.number == number) else {
            return;
        };
        found.ready = true;
        if let Some(proto::decision::Decision::Step(step)) = &mut found.decision.decision {
            change(step);
        }
    }

    /// Records that are to be appended before set-points, or by themselves once there are enough of them.
    pub(crate) fn take(&mut self, at_any_rate: bool) -> Vec<Waiting> {
        if !at_any_rate && self.waiting.len() < WAITING {
            return Vec::new();
        }
        let ready = self.waiting.iter().take_while(|waiting| waiting.ready);
        let ready = ready.count();
        self.waiting.drain(..ready).collect()
    }

    /// They could not be appended, or nobody knows: they wait again, and what they decided may not be on the log.
    pub(crate) fn give_back(&mut self, mut taken: Vec<Waiting>, untold: u64) {
        taken.append(&mut self.waiting);
        self.waiting = taken;
        self.complete(untold, |step| step.untold = true);
    }

    pub(crate) fn record(&self, waiting: &Waiting) -> NewRecord {
        NewRecord {
            topic: topic::DECISIONS,
            key: self.area.clone(),
            payload: wire::encode(&waiting.decision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_cycles_have_the_same_instant() {
        let mut decisions = Decisions::new("run".to_owned(), "NL".to_owned());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let later = at + TimeDelta::seconds(1);
        let back = at - TimeDelta::hours(1);
        let given = [at, at, at, back, back, later].map(|now| decisions.instant(now));
        let tick = TimeDelta::microseconds(1);
        let expected = [at, at + tick, at + tick * 2, back, back + tick, later];
        assert_eq!(given, expected);
    }
}
