//! Two gateways: who holds the office, bids, results, set-points. The rules of the office are those of `store::term`, the order in
//! which bids are handed over is that of `shoal_gateway::submission`.

use std::collections::BTreeSet;
use std::time::Duration;

use market::{AwardId, BidStatus};
use shoal_gateway::submission::{Step, Submission};
use store::Lease;
use store::term::{BEAT, Right, Watch};
use wire::proto::dispatch::v1::{Setpoint, Term};

use crate::sim::{CARS, Sim, evse};
use crate::world::{Act, Event, Millis, Mistake};

const OFFICE: &str = "dispatch/NL";
/// Between two cycles.
const CYCLE: Millis = 500;
/// Bids read at once.
const BATCH: usize = 3;

/// One gateway, as it is in memory.
#[derive(Default)]
pub(crate) struct Gateway {
    runs: u64,
    watch: Watch,
    held: Option<Held>,
    submission: Option<(Submission, usize)>,
    pub(crate) position: BTreeSet<AwardId>,
}

struct Held {
    lease: Lease,
    right: Right,
    cycles: u64,
}

impl Gateway {
    /// It died; how often it ran is all that is known of it.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            runs: self.runs,
            ..Self::default()
        };
    }
}

fn beat_millis() -> Millis {
    u64::try_from(BEAT.as_millis()).unwrap_or(200)
}

impl Sim {
    pub(crate) fn gateway(&mut self, number: usize, act: Act) {
        match act {
            Act::Start => self.gateway_starts(number),
            Act::Office => self.stands(number),
            Act::Beat => self.beats(number),
            Act::Beaten { began } => self.beaten(number, began),
            Act::Dispatch => self.dispatches(number),
            Act::Bids => self.hands_over(number),
            Act::Results => self.watches_results(number),
            Act::Append(setpoints) => self.world.log.setpoints.extend(setpoints),
            other => unreachable!("{other:?}"),
        }
    }

    fn gateway_starts(&mut self, number: usize) {
        self.gateways[number].forget();
        self.gateways[number].runs += 1;
        self.world.up(number);
        self.go(number, 1, Act::Office);
    }

    fn go(&mut self, number: usize, after: Millis, act: Act) {
        self.world
            .goes_on(number, after, Event::Gateway(number, act));
    }

    /// Whether a gateway may act now, by its own clock.
    pub(crate) fn holds(&self, number: usize) -> bool {
        let now = self.world.machine(number).clock(self.world.now);
        self.gateways[number]
            .held
            .as_ref()
            .is_some_and(|held| held.right.holds(now))
    }

    /// To be asked right before each act.
    fn may_act(&self, number: usize) -> bool {
        self.world.mistake == Mistake::LeasesWithoutFence || self.holds(number)
    }

    /// The tables take a lease that replaces theirs; whether they have it then.
    fn store_lease(&mut self, lease: &Lease) -> bool {
        if lease.replaces(self.world.tables.lease.as_ref()) {
            self.world.tables.lease = Some(lease.clone());
        }
        self.world.tables.lease.as_ref() == Some(lease)
    }

    fn stands(&mut self, number: usize) {
        self.go(number, beat_millis(), Act::Office);
        if self.gateways[number].held.is_some() || self.world.fails(5) {
            return;
        }
        let now = self.world.machine(number).clock(self.world.now);
        let found = self.world.tables.lease.clone();
        let gateway = &mut self.gateways[number];
        let Some(term) = gateway.watch.look(found.as_ref(), now) else {
            return;
        };
        let lease = Lease {
            office: OFFICE.to_owned(),
            holder: format!("gateway-{number}/{}", gateway.runs),
            address: format!("http://gateway-{number}"),
            term,
            beat: 0,
        };
        if !self.store_lease(&lease) {
            return;
        }
        // What the tables remember of results that another one took in.
        let position = self.world.tables.awards.keys().copied().collect();
        let gateway = &mut self.gateways[number];
        gateway.position = position;
        gateway.submission = None;
        gateway.held = Some(Held {
            lease,
            right: Right::begun(now),
            cycles: 0,
        });
        for (after, act) in [
            (beat_millis(), Act::Beat),
            (10, Act::Dispatch),
            (20, Act::Bids),
            (30, Act::Results),
        ] {
            self.go(number, after, act);
        }
    }

    fn beats(&mut self, number: usize) {
        let began = self.world.machine(number).clock(self.world.now);
        let after = self.world.delay();
        if self.gateways[number].held.is_some() {
            self.go(number, after, Act::Beaten { began });
        }
    }

    fn beaten(&mut self, number: usize, began: Duration) {
        let Some(held) = &mut self.gateways[number].held else {
            return;
        };
        held.lease.beat += 1;
        let lease = held.lease.clone();
        if self.world.fails(5) {
            return self.go(number, beat_millis(), Act::Beat);
        }
        self.store_lease(&lease);
        let found = self.world.tables.lease.as_ref().map(|found| found.term);
        let now = self.world.machine(number).clock(self.world.now);
        let held = self.gateways[number].held.as_mut();
        let goes_on =
            held.is_some_and(|held| found == Some(held.lease.term) && held.right.renew(began, now));
        if goes_on {
            self.go(number, beat_millis(), Act::Beat);
        } else {
            self.gateways[number].held = None;
        }
    }

    /// One cycle: decided now, on the log a while later.
    fn dispatches(&mut self, number: usize) {
        let at = self.world.wall().timestamp_micros();
        let Some(held) = &mut self.gateways[number].held else {
            return;
        };
        held.cycles += 1;
        let (term, cycles) = (held.lease.term, held.cycles);
        let setpoint = |car: usize| Setpoint {
            id: format!("{at}-{car}-{term}"),
            evse_id: evse(car).to_string(),
            power_watts: Some(i64::try_from(cycles % 11).unwrap_or(0) * 1_000),
            issued_at_micros: at,
            expires_at_micros: at + 120_000_000,
            term: Some(Term {
                office: OFFICE.to_owned(),
                number: term,
            }),
            ..Setpoint::default()
        };
        let setpoints: Vec<Setpoint> = (0..CARS).map(setpoint).collect();
        // Between the decision and the question whether it may be told, a process can be put to sleep.
        if self.world.fails(3) {
            self.world.pause(number);
        }
        if self.may_act(number) {
            let under_way = self.world.delay();
            let twice = self.world.fails(5).then(|| self.world.delay());
            for after in std::iter::once(under_way).chain(twice) {
                // Under way it outlives its sender.
                let arrives = Event::Gateway(number, Act::Append(setpoints.clone()));
                self.world.later(after, arrives);
            }
        }
        self.go(number, CYCLE, Act::Dispatch);
    }

    /// One step of handing over bids.
    fn hands_over(&mut self, number: usize) {
        if self.gateways[number].held.is_none() {
            return;
        }
        let after = self.world.delay();
        if self.gateways[number].submission.is_none() && !self.reads_bids(number) {
            return self.go(number, 200, Act::Bids);
        }
        let (now, may_act) = (self.world.wall(), self.may_act(number));
        let Some((submission, end)) = &mut self.gateways[number].submission else {
            return;
        };
        let end = *end;
        match submission.next(now, may_act) {
            Step::Store(rows) => {
                if self.world.fails(3) {
                    // Looked at again from the beginning.
                    self.gateways[number].submission = None;
                } else {
                    self.store_bids(rows);
                }
            }
            Step::Send(bids) => {
                if let Some(receipts) = self.market_takes(&bids) {
                    let rows = submission_of(&mut self.gateways[number]).answered(&receipts);
                    self.store_bids(rows);
                }
            }
            Step::Done => {
                let committed = &mut self.world.tables.bids_committed;
                *committed = end.max(*committed);
                self.gateways[number].submission = None;
            }
            Step::Leave => self.gateways[number].submission = None,
        }
        self.go(number, after, Act::Bids);
    }

    /// The next batch, with what the rows say; false if there is none.
    fn reads_bids(&mut self, number: usize) -> bool {
        let from = self.world.tables.bids_committed;
        let all = &self.world.log.bids;
        let batch: Vec<_> = all.iter().skip(from).take(BATCH).cloned().collect();
        if batch.is_empty() {
            return false;
        }
        let end = from + batch.len();
        if self.world.mistake == Mistake::AcknowledgesBeforeEffect {
            self.world.tables.bids_committed = end;
        }
        let mut submission = Submission::default();
        for bid in batch {
            let row = self.world.tables.bids.get(&bid.id);
            let row = row.map(|row| row.status);
            submission.take(bid, row);
        }
        self.gateways[number].submission = Some((submission, end));
        true
    }

    fn store_bids(&mut self, rows: Vec<market::Bid>) {
        for row in rows {
            self.world.tables.bids.insert(row.id, row);
        }
    }

    /// Results are told again from the beginning now and then; each counts once.
    fn watches_results(&mut self, number: usize) {
        if self.gateways[number].held.is_none() {
            return;
        }
        let told = self.market.awards.clone();
        for award in told {
            if self.gateways[number].position.contains(&award.id) || self.world.fails(20) {
                continue;
            }
            if !self.may_act(number) {
                break;
            }
            // One transaction: row, record, what became of the bid; then memory.
            if let Some(row) = self.world.tables.bids.get_mut(&award.bid) {
                row.status = BidStatus::Awarded;
            }
            self.world.tables.awards.insert(award.id, award.clone());
            self.world.log.awards.push(award.clone());
            if self.world.fails(5) {
                break;
            }
            self.gateways[number].position.insert(award.id);
        }
        self.go(number, 1_000, Act::Results);
    }
}

fn submission_of(gateway: &mut Gateway) -> &mut Submission {
    &mut gateway.submission.as_mut().expect("under way").0
}
