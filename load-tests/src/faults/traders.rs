//! Bids as an optimiser publishes them, and reserve as a market grants it, now and then.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DurationRound as _, TimeDelta};
use market::{Area, Award, AwardId, Bid, BidId, Direction, Offer, Product, Rules, gate};
use runtime::Clock;
use store::{Change, NewRecord, Store, topic};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use units::{Currency, Interval, Power, Price};
use uuid::Uuid;
use wire::proto::market::v1 as proto;

use super::market::Market;
use crate::failure::Failure;
use crate::scenario::{Platform, seconds};

/// The broker may be dead for as long.
const STORED_WITHIN: Duration = Duration::from_secs(120);
/// Bids published at once.
const AT_ONCE: u32 = 4;

/// Publishes and grants until `stop`; answers the bids published.
pub(super) async fn run(
    said: Platform,
    store: Store,
    market: Market,
    stop: CancellationToken,
) -> Result<BTreeSet<BidId>, Failure> {
    let clock = Clock::system();
    market.watch(store.tables());
    let mut published = BTreeSet::new();
    let mut bids = interval(seconds(said.bids_every_seconds));
    let mut awards = interval(seconds(said.awards_every_seconds));
    bids.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut revision, mut granted) = (0, 0);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(published),
            _ = awards.tick() => {
                granted += 1;
                market.grant(award(granted, &clock)?);
            }
            _ = bids.tick() => {
                let some: Result<Vec<Bid>, Failure> =
                    (0..AT_ONCE).map(|n| bid(revision + n, &clock)).collect();
                revision += AT_ONCE;
                let some = some?;
                publish(&store, &some).await?;
                published.extend(some.iter().map(|bid| bid.id));
            }
        }
    }
}

/// The row and the record together, again after a refusal that may pass: both are keyed.
async fn publish(store: &Store, bids: &[Bid]) -> Result<(), Failure> {
    let deadline = Instant::now() + STORED_WITHIN;
    loop {
        let records = bids.iter().map(|bid| NewRecord {
            topic: topic::BIDS,
            key: bid.id.to_string(),
            payload: wire::encode(&proto::Bid::from(bid)),
        });
        let change = Change::default().bids(bids).records(records);
        match store.tables().apply(change).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                tracing::info!(%error, "bids are published again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(Failure::of("bids cannot be published", &error)),
        }
    }
}

/// A bid for the first quarter hour of the next day-ahead auction; the revision makes it another one each time.
fn bid(revision: u32, clock: &Clock) -> Result<Bid, Failure> {
    let now = clock.now();
    let rules = Rules::built_in();
    let next = gate::next(rules, Area::Nl, Product::DayAhead, now)
        .map_err(|e| Failure::of("day-ahead auction", &e))?;
    let offer = Offer {
        area: Area::Nl,
        product: Product::DayAhead,
        direction: Direction::Up,
        delivery_start: next.delivery.start(),
        volume: Power::from_mw(0.1),
        price: Some(Price::new(100.into(), Currency::Eur)),
        divisible: true,
        revision,
        delivery_probability: 0.95,
        reason: "load test".to_owned(),
    };
    Bid::try_new(rules, offer, now).map_err(|e| Failure::of("a bid", &e))
}

/// Ten kilowatts of frequency containment for the hours around now.
fn award(n: u128, clock: &Clock) -> Result<Award, Failure> {
    let now = clock.now();
    let hour = now
        .duration_trunc(TimeDelta::hours(1))
        .map_err(|e| Failure::of("an hour", &e))?;
    let delivery = Interval::try_new(hour, hour + TimeDelta::hours(4))
        .map_err(|e| Failure::of("a block", &e))?;
    Ok(Award {
        id: AwardId(Uuid::from_u128(n)),
        bid: BidId(Uuid::from_u128(n)),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery,
        volume: Power::from_kw(1.0),
        price: Price::new(40.into(), Currency::Eur),
        awarded_at: now,
    })
}
