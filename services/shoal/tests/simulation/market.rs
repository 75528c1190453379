//! The market and who bids: it takes one id once, its answers may be lost, and it awards what it has after the gate.

use std::collections::BTreeSet;

use market::bid::Offer;
use market::{Area, Award, AwardId, Bid, BidId, Direction, Product, Rules};
use units::{Currency, Power, Price};
use wire::proto::market::v1::BidReceipt;

use crate::sim::Sim;
use crate::world::{Act, Event, Millis};

/// Bids of a run.
const BIDS: u32 = 12;
/// After the gate, which is at 100 s of the run.
const CLEARED: Millis = 101_000;

#[derive(Default)]
pub(crate) struct Market {
    taken: BTreeSet<BidId>,
    offers: Vec<Bid>,
    pub(crate) awards: Vec<Award>,
}

impl Market {
    pub(crate) fn has(&self, bid: BidId) -> bool {
        self.taken.contains(&bid)
    }

    pub(crate) fn offers(&self) -> &[Bid] {
        &self.offers
    }
}

impl Sim {
    /// The optimizer bids: row and record in one transaction.
    pub(crate) fn bids(&mut self) {
        let count = u32::try_from(self.world.log.bids.len()).unwrap_or(u32::MAX);
        if count >= BIDS {
            return;
        }
        let now = self.world.wall();
        let hour = i64::from(count % 20);
        let start: chrono::DateTime<chrono::Utc> =
            "2026-01-12T23:00:00Z".parse().expect("an instant");
        let offer = Offer {
            area: Area::Nl,
            product: Product::DayAhead,
            direction: Direction::Down,
            delivery_start: start + chrono::TimeDelta::hours(hour),
            volume: Power::from_kw(500.0),
            price: Some(Price::new(50.into(), Currency::Eur)),
            divisible: true,
            revision: 0,
            delivery_probability: 1.0,
            reason: "simulated".to_owned(),
        };
        let bid = Bid::try_new(Rules::built_in(), offer, now).expect("a lawful bid");
        self.world.tables.bids.insert(bid.id, bid.clone());
        self.world.log.bids.push(bid);
        let after = self.world.between(500, 5_000);
        self.world.later(after, Event::Optimizer);
    }

    /// Bids reach the market, or not; its answer reaches the gateway, or not.
    pub(crate) fn market_takes(&mut self, bids: &[Bid]) -> Option<Vec<BidReceipt>> {
        if self.world.fails(10) {
            return None;
        }
        let now = self.world.wall();
        let mut receipts = Vec::new();
        for bid in bids {
            let accepted = now < bid.gate_closes;
            if accepted && self.market.taken.insert(bid.id) {
                self.market.offers.push(bid.clone());
            }
            receipts.push(BidReceipt {
                bid_id: bid.id.to_string(),
                accepted,
                reason: String::new(),
            });
        }
        (!self.world.fails(10)).then_some(receipts)
    }

    pub(crate) fn market_acts(&mut self, act: &Act) {
        match act {
            Act::Start => self.world.later(CLEARED, Event::Market(Act::Clear)),
            _ => self.clears(),
        }
    }

    fn clears(&mut self) {
        let at = self.world.wall();
        let award = |bid: &Bid| Award {
            id: AwardId(bid.id.0),
            bid: bid.id,
            area: bid.area,
            product: bid.product,
            direction: bid.direction,
            delivery: bid.delivery,
            volume: bid.volume,
            price: Price::new(40.into(), Currency::Eur),
            awarded_at: at,
        };
        self.market.awards = self.market.offers.iter().map(award).collect();
    }
}
