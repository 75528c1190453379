//! The order in which bids are handed over, so that each reaches the market once in effect whatever breaks in between. No I/O.
//!
//! ```text
//! look up the row ─► refuse what is late ─► ask for the office ─► store "submitted" ─► send ─► store the receipt ─► commit
//!                            ▲                                                           │
//!                            └────────────── the market did not answer ──────────────────┘
//! ```
//!
//! Between any two steps the process may die: the bids are read again, and their rows say how far they came. The market takes one
//! id once, so that what was sent without a receipt is sent again.

use chrono::{DateTime, Utc};
use market::{Bid, BidStatus, Rules};
use wire::proto::market::v1::BidReceipt;

/// Bids of one batch that the market does not have.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    open: Vec<Bid>,
    state: State,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// To be checked against the rules.
    #[default]
    Check,
    /// Their rows are to say that they are sent.
    Mark,
    Send,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Store these rows, then ask again.
    Store(Vec<Bid>),
    /// Send these, then say what the market answered.
    Send(Vec<Bid>),
    /// Nothing: the batch may be committed.
    Done,
    /// Somebody else holds the office now: the batch must not be committed, he reads it again.
    Leave,
}

impl Submission {
    /// Takes in a bid of the batch, and how its row says it stands, if it has one. A bid that the market has, or that is settled
    /// otherwise, is not handed over.
    pub fn take(&mut self, bid: Bid, row: Option<BidStatus>) {
        match row.unwrap_or(BidStatus::Draft) {
            // Submitted without a receipt: the market takes one id once, so it is safe to send it again.
            BidStatus::Draft | BidStatus::Submitted => {
                if !self.open.iter().any(|other| other.id == bid.id) {
                    self.open.push(bid);
                }
            }
            BidStatus::Acknowledged
            | BidStatus::Awarded
            | BidStatus::Rejected
            | BidStatus::Withdrawn => {}
        }
    }

    /// What is to be done at `now` by one who holds the office or does not. What was to be done before is done.
    pub fn next(&mut self, now: DateTime<Utc>, held: bool) -> Step {
        if self.open.is_empty() {
            return Step::Done;
        }
        match self.state {
            State::Check => {
                let refused = self.refuse_late(now);
                self.state = State::Mark;
                if refused.is_empty() {
                    self.next(now, held)
                } else {
                    Step::Store(refused)
                }
            }
            _ if !held => Step::Leave,
            State::Mark => {
                self.state = State::Send;
                Step::Store(self.marked())
            }
            State::Send => {
                self.state = State::Check;
                Step::Send(self.marked())
            }
        }
    }

    /// What the market answered to what was sent: the rows to store, after which the submission is done.
    pub fn answered(&mut self, receipts: &[BidReceipt]) -> Vec<Bid> {
        let open = std::mem::take(&mut self.open);
        let row = |mut bid: Bid| {
            let id = bid.id.to_string();
            let Some(receipt) = receipts.iter().find(|r| r.bid_id == id) else {
                tracing::error!(bid.id = %bid.id, "the market answered without a receipt for bid {}", bid.id);
                return None;
            };
            if receipt.accepted {
                bid.status = BidStatus::Acknowledged;
            } else {
                tracing::warn!(bid.id = %bid.id, "the market refused bid {}: {}", bid.id, receipt.reason);
                bid.reason = format!("refused: {}; {}", receipt.reason, bid.reason);
                bid.status = BidStatus::Rejected;
            }
            Some(bid)
        };
        open.into_iter().filter_map(row).collect()
    }

    /// How many the market does not have.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    fn marked(&self) -> Vec<Bid> {
        let marked = |bid: &Bid| Bid {
            status: BidStatus::Submitted,
            ..bid.clone()
        };
        self.open.iter().map(marked).collect()
    }

    /// Bids that the rules do not allow any more leave the batch; their rows say why.
    fn refuse_late(&mut self, now: DateTime<Utc>) -> Vec<Bid> {
        let mut refused = Vec::new();
        self.open
            .retain(|bid| match bid.check(Rules::built_in(), now) {
                Ok(()) => true,
                Err(e) => {
                    tracing::error!(bid.id = %bid.id, "bid {} is not sent: {e}", bid.id);
                    refused.push(Bid {
                        reason: format!("not sent: {e}; {}", bid.reason),
                        status: BidStatus::Rejected,
                        ..bid.clone()
                    });
                    false
                }
            });
        refused
    }
}
