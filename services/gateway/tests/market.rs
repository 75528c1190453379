//! Bids and results under lost receipts, repetitions, hang-ups and restarts. A failure prints the seed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;

use market::{Award, Bid, BidStatus, Clearing};
use store::topic;
use support::{World, at, award, fcr_bid, told};
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::result::Result as Kind;

/// Half an hour before the FCR gate of the 11th.
const BEFORE_GATE: &str = "2026-01-10T06:30:00Z";

async fn statuses(world: &World) -> BTreeMap<String, BidStatus> {
    let bids = world
        .store
        .tables()
        .bids_between(at("2026-01-10T00:00:00Z"), at("2026-01-13T00:00:00Z"))
        .await
        .unwrap();
    bids.into_iter()
        .map(|b| (b.id.to_string(), b.status))
        .collect()
}

fn results(bids: &[Bid]) -> Vec<proto::Result> {
    let now = at("2026-01-10T07:30:00Z");
    let mut results = Vec::new();
    for (n, bid) in (1_u128..).zip(bids) {
        results.push(told(if n % 3 == 0 {
            Kind::Rejected(proto::BidReceipt {
                bid_id: bid.id.to_string(),
                accepted: false,
                reason: "too dear".to_owned(),
            })
        } else {
            Kind::Award((&award(bid, n, now)).into())
        }));
        let clearing = Clearing {
            area: bid.area,
            product: bid.product,
            delivery: bid.delivery,
            price: award(bid, n, now).price,
            published_at: now,
        };
        results.push(told(Kind::Clearing((&clearing).into())));
    }
    let again = results.clone();
    results.extend(again);
    results
}

async fn one_run(seed: u64) {
    let world = World::new(at(BEFORE_GATE), seed, true).await;
    let bids: Vec<Bid> = (0..6).map(|b| fcr_bid(b, at(BEFORE_GATE))).collect();
    let first = world.start();
    world.publish(&bids[..4]).await;
    world
        .until("the first bids are acknowledged", async || {
            let rows = statuses(&world).await;
            bids[..4]
                .iter()
                .all(|b| rows.get(&b.id.to_string()) == Some(&BidStatus::Acknowledged))
        })
        .await;
    let sent = world.fake.seen.lock().unwrap().bids.clone();
    first.stop().await;

    // The optimiser says everything again, and two bids more; the gateway starts anew.
    let second = world.start();
    world.publish(&bids[4..]).await;
    world.fake.seen.lock().unwrap().results = results(&bids);
    world
        .until("every bid has its end", async || {
            let rows = statuses(&world).await;
            rows.len() == 6
                && rows
                    .values()
                    .all(|s| matches!(s, BidStatus::Awarded | BidStatus::Rejected))
        })
        .await;
    second.stop().await;

    let seen = world.fake.seen.lock().unwrap().bids.clone();
    for bid in &bids[..4] {
        let id = bid.id.to_string();
        assert_eq!(
            seen[&id], sent[&id],
            "seed {seed}: an acknowledged bid was sent again after the restart"
        );
    }
    for (id, status) in statuses(&world).await {
        let n = bids.iter().position(|b| b.id.to_string() == id).unwrap() + 1;
        let expected = if n % 3 == 0 {
            BidStatus::Rejected
        } else {
            BidStatus::Awarded
        };
        assert_eq!(status, expected, "seed {seed}: bid {n}");
    }
    let mut awards: BTreeMap<String, u32> = BTreeMap::new();
    for record in world.records(topic::AWARDS).await {
        let award =
            Award::try_from(wire::decode::<proto::Award>(&record.payload).unwrap()).unwrap();
        *awards.entry(award.id.to_string()).or_default() += 1;
    }
    assert_eq!(awards.len(), 4, "seed {seed}");
    assert!(
        awards.values().all(|count| *count == 1),
        "seed {seed}: an award was published twice: {awards:?}"
    );
    assert_eq!(
        world.records(topic::PRICES).await.len(),
        6,
        "seed {seed}: each price once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bid_ends_once_whatever_is_lost_repeated_or_cut() {
    for seed in 0..6 {
        one_run(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_after_its_gate_is_not_sent_and_says_so() {
    let world = World::new(at("2026-01-10T07:00:01Z"), 0, false).await;
    let late = fcr_bid(0, at(BEFORE_GATE));
    let running = world.start();
    world.publish(std::slice::from_ref(&late)).await;
    world
        .until("the late bid is refused", async || {
            statuses(&world)
                .await
                .values()
                .all(|s| *s == BidStatus::Rejected)
        })
        .await;
    let row = world.store.tables().bid(late.id).await.unwrap().unwrap();
    assert!(
        row.reason
            .starts_with("not sent: gate closed at 2026-01-10 07:00:00 UTC"),
        "{}",
        row.reason
    );
    assert_eq!(world.fake.seen.lock().unwrap().submissions, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_can_be_withdrawn_and_a_bid_the_market_has_cannot() {
    use wire::proto::market::v1::market_service_client::MarketServiceClient;
    let world = World::new(at(BEFORE_GATE), 0, false).await;
    let (kept, draft) = (fcr_bid(0, at(BEFORE_GATE)), fcr_bid(1, at(BEFORE_GATE)));
    let running = world.start();
    world.store.tables().upsert_bid(&draft).await.unwrap();
    world.publish(std::slice::from_ref(&kept)).await;
    world
        .until("the bid is acknowledged", async || {
            statuses(&world).await.get(&kept.id.to_string()) == Some(&BidStatus::Acknowledged)
        })
        .await;
    let mut client = MarketServiceClient::new(running.channel.clone());
    let mut withdraw = async |id: String| {
        client
            .withdraw_bid(proto::WithdrawBidRequest {
                bid_id: id,
                reason: "changed mind".to_owned(),
            })
            .await
    };
    assert_eq!(
        withdraw(kept.id.to_string()).await.unwrap_err().code(),
        tonic::Code::FailedPrecondition
    );
    assert_eq!(
        withdraw("nonsense".to_owned()).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    withdraw(draft.id.to_string()).await.unwrap();
    world
        .publish(&[Bid {
            status: BidStatus::Withdrawn,
            ..draft.clone()
        }])
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(
        !world
            .fake
            .seen
            .lock()
            .unwrap()
            .bids
            .contains_key(&draft.id.to_string())
    );
    let mut gates = MarketServiceClient::new(running.channel.clone());
    let gates = gates
        .next_gates(proto::GatesRequest {})
        .await
        .unwrap()
        .into_inner()
        .gates;
    assert_eq!(
        gates
            .iter()
            .find(|g| g.product == "fcr")
            .unwrap()
            .closes_micros,
        at("2026-01-10T07:00:00Z").timestamp_micros()
    );
    running.stop().await;
}
