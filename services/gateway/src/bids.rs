//! Bids out, each once.

use std::time::Duration;

use market::{Bid, BidStatus, Rules};
use runtime::Clock;
use store::{Change, Position, Record, StoreError, Tables, Tenure, topic};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wire::proto::market::v1::market_operator_client::MarketOperatorClient;
use wire::proto::market::v1::{BidReceipt, SubmitBidsRequest};

use crate::{Error, GROUP};

/// Bids handed over at once: a day of quarter hours in both directions.
const BATCH: usize = 256;
/// Real time before the market is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Submits bids until `stop`, or until the office is lost.
///
/// # Errors
/// [`Error`] when the log or the tables are lost.
pub(crate) async fn run(
    log: store::Log,
    tables: Tables,
    clock: Clock,
    operator: Channel,
    tenure: &Tenure,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut market = MarketOperatorClient::new(operator);
    let mut bids = log.subscribe(topic::BIDS, GROUP).await?;
    loop {
        let batch = tokio::select! {
            batch = bids.next_batch(BATCH) => batch?,
            () = stop.cancelled() => return Ok(()),
        };
        // Log or tables may be away for a while: everything is keyed and may be done again.
        loop {
            match hand_over(&mut market, &tables, &clock, tenure, &stop, &batch).await {
                Ok(true) => break,
                Ok(false) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, bids = batch.len(), "bids are looked at again");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        match bids.commit(&Position::after(&batch)).await {
            // The next one covers it; whoever reads them again finds in their rows that the market has them.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, bids = batch.len(), "bids were sent and not committed");
            }
            done => done?,
        }
    }
}

/// Sends those of a batch that the market does not have, until it has them. False if that has to be left to whoever comes next.
async fn hand_over(
    market: &mut MarketOperatorClient<Channel>,
    tables: &Tables,
    clock: &Clock,
    tenure: &Tenure,
    stop: &CancellationToken,
    batch: &[Record],
) -> Result<bool, StoreError> {
    let mut open = Vec::new();
    for record in batch {
        match wire::decode::<wire::proto::market::v1::Bid>(&record.payload).and_then(Bid::try_from)
        {
            Ok(bid) => open.extend(unsent(tables, bid).await?),
            Err(e) => tracing::error!(
                bid.id = record.key,
                "a bid does not read and is not sent: {e}"
            ),
        }
    }
    open.dedup_by_key(|bid| bid.id);
    while !open.is_empty() {
        open = refuse_late(tables, open, clock).await?;
        if open.is_empty() {
            break;
        }
        if !tenure.is_held() {
            // Whoever holds the office now reads them again: they are not committed.
            return Ok(false);
        }
        match submit(market, tables, &open).await {
            Ok(receipts) => {
                receipt(tables, &open, receipts).await?;
                break;
            }
            Err(Failed::Store(e)) => return Err(e),
            Err(Failed::Market(status)) => {
                tracing::warn!(
                    bids = open.len(),
                    "the market did not take the bids, they are sent again: {}",
                    status.message()
                );
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.cancelled() => return Ok(false),
                }
            }
        }
    }
    Ok(true)
}

enum Failed {
    Store(StoreError),
    Market(tonic::Status),
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// The bid, unless its row says that the market has it, or that it is settled otherwise.
async fn unsent(tables: &Tables, bid: Bid) -> Result<Option<Bid>, StoreError> {
    let status = tables
        .bid(bid.id)
        .await?
        .map_or(BidStatus::Draft, |row| row.status);
    Ok(match status {
        // Submitted without a receipt: the market takes one id once, so it is safe to send it again.
        BidStatus::Draft | BidStatus::Submitted => Some(bid),
        BidStatus::Acknowledged
        | BidStatus::Awarded
        | BidStatus::Rejected
        | BidStatus::Withdrawn => None,
    })
}

/// Bids that the rules still allow; the others are not sent, and their rows say why.
async fn refuse_late(
    tables: &Tables,
    bids: Vec<Bid>,
    clock: &Clock,
) -> Result<Vec<Bid>, StoreError> {
    let now = clock.now();
    let mut good = Vec::new();
    let mut refused = Vec::new();
    for mut bid in bids {
        match bid.check(Rules::built_in(), now) {
            Ok(()) => good.push(bid),
            Err(e) => {
                tracing::error!(bid.id = %bid.id, "bid {} is not sent: {e}", bid.id);
                bid.reason = format!("not sent: {e}; {}", bid.reason);
                bid.status = BidStatus::Rejected;
                refused.push(bid);
            }
        }
    }
    if !refused.is_empty() {
        metrics::counter!("shoal_bids_refused_total").increment(refused.len() as u64);
        tables.apply(Change::default().bids(&refused)).await?;
    }
    Ok(good)
}

async fn submit(
    market: &mut MarketOperatorClient<Channel>,
    tables: &Tables,
    bids: &[Bid],
) -> Result<Vec<BidReceipt>, Failed> {
    let rows: Vec<Bid> = bids
        .iter()
        .map(|b| Bid {
            status: BidStatus::Submitted,
            ..b.clone()
        })
        .collect();
    tables.apply(Change::default().bids(&rows)).await?;
    let request = SubmitBidsRequest {
        bids: rows.iter().map(Into::into).collect(),
    };
    let answer = market.submit_bids(request).await.map_err(Failed::Market)?;
    Ok(answer.into_inner().receipts)
}

async fn receipt(
    tables: &Tables,
    bids: &[Bid],
    receipts: Vec<BidReceipt>,
) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let mut accepted = 0_u32;
    for bid in bids {
        let id = bid.id.to_string();
        let Some(receipt) = receipts.iter().find(|r| r.bid_id == id) else {
            tracing::error!(bid.id = %bid.id, "the market answered without a receipt for bid {}", bid.id);
            continue;
        };
        let mut row = bid.clone();
        if receipt.accepted {
            accepted += 1;
            row.status = BidStatus::Acknowledged;
        } else {
            tracing::warn!(bid.id = %bid.id, "the market refused bid {}: {}", bid.id, receipt.reason);
            row.reason = format!("refused: {}; {}", receipt.reason, row.reason);
            row.status = BidStatus::Rejected;
        }
        rows.push(row);
    }
    tables.apply(Change::default().bids(&rows)).await?;
    metrics::counter!("shoal_bids_sent_total").increment(u64::from(accepted));
    tracing::info!(
        bids = bids.len(),
        "the market took {accepted} of {} bids",
        bids.len()
    );
    Ok(())
}
