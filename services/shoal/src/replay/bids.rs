//! Bids, decided again from what the optimiser wrote down of each decision.

use std::collections::BTreeMap;

use store::{Log, Position, Record, topic};
use units::Interval;
use wire::proto::market::v1::Bid;
use wire::proto::portfolio::v1::BidDecision;

use super::Failed;
use super::found::{Kind, parting};
use super::topics::Topics;

/// Compares the bids that were built in `day`, whatever day they are for.
pub(super) async fn replay(log: &Log, day: Interval) -> Result<Kind, Failed> {
    let mut kind = Kind::default();
    let mut built = built(log, day, &mut kind).await?;
    let mut decisions = Topics::open(log, topic::BID_DECISIONS, &Position::default()).await?;
    loop {
        let batch = decisions.next().await?;
        if batch.is_empty() {
            break;
        }
        for record in batch {
            again(&record, day, &mut built, &mut kind);
        }
    }
    let left = built.len() as u64;
    kind.unchecked(left, "what they were decided from is not on the log");
    Ok(kind)
}

async fn built(
    log: &Log,
    day: Interval,
    kind: &mut Kind,
) -> Result<BTreeMap<String, Record>, Failed> {
    let mut built = BTreeMap::new();
    let all = Topics::open(log, topic::BIDS, &Position::default()).await?;
    for record in all.all().await? {
        match wire::decode::<Bid>(&record.payload) {
            Ok(bid) if super::within(day, bid.built_at_micros) => {
                built.insert(record.key.clone(), record);
            }
            Ok(_) => {}
            Err(error) => kind.differs(format!("record {}", record.offset), error.to_string()),
        }
    }
    Ok(built)
}

fn again(record: &Record, day: Interval, built: &mut BTreeMap<String, Record>, kind: &mut Kind) {
    let Ok(decision) = wire::decode::<BidDecision>(&record.payload) else {
        return kind.differs(format!("record {}", record.offset), "is no decision");
    };
    if !super::within(day, decision.at_micros) {
        return;
    }
    let name = format!("{} {}", decision.day, decision.products.join("+"));
    let decided = match shoal_optimizer::decide_again(&decision) {
        Ok(decided) => decided,
        Err(error) => return kind.differs(name, error.to_string()),
    };
    if decided.len() != decision.bid_ids.len() {
        let (then, now) = (decision.bid_ids.len(), decided.len());
        kind.differs(name, format!("{then} bids then, {now} now"));
    }
    for bid in decided {
        match built.remove(&bid.key) {
            Some(logged) if logged.payload == bid.payload => kind.found_again += 1,
            Some(logged) => {
                let read = |bytes| wire::decode::<Bid>(bytes);
                let what = match (read(&logged.payload), read(&bid.payload)) {
                    (Ok(logged), Ok(again)) => parting(&logged, &again),
                    (Err(error), _) | (_, Err(error)) => error.to_string(),
                };
                kind.differs(bid.key, what);
            }
            None => kind.differs(bid.key, "is not on the log"),
        }
    }
}
