//! Bids out, each once.

use std::time::Duration;

use market::{Bid, BidStatus};
use runtime::Clock;
use store::{Change, Position, Record, StoreError, Tables, Tenure, topic};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wire::proto::market::v1::market_operator_client::MarketOperatorClient;
use wire::proto::market::v1::{BidReceipt, SubmitBidsRequest};

use crate::submission::{Step, Submission};
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
    let mut submission = Submission::default();
    for record in batch {
        match wire::decode::<wire::proto::market::v1::Bid>(&record.payload).and_then(Bid::try_from)
        {
            Ok(bid) => {
                let row = tables.bid(bid.id).await?;
                submission.take(bid, row.map(|row| row.status));
            }
            Err(e) => tracing::error!(
                bid.id = record.key,
                "a bid does not read and is not sent: {e}"
            ),
        }
    }
    loop {
        match submission.next(clock.now(), tenure.is_held()) {
            Step::Done => return Ok(true),
            // Whoever holds the office now reads them again: they are not committed.
            Step::Leave => return Ok(false),
            Step::Store(rows) => {
                let refused = rows.iter().filter(|row| row.status == BidStatus::Rejected);
                metrics::counter!("shoal_bids_refused_total").increment(refused.count() as u64);
                tables.apply(Change::default().bids(&rows)).await?;
            }
            Step::Send(bids) => match send(market, &bids).await {
                Ok(receipts) => {
                    let rows = submission.answered(&receipts);
                    tables.apply(Change::default().bids(&rows)).await?;
                    told(&bids, &rows);
                }
                Err(status) => {
                    tracing::warn!(
                        bids = bids.len(),
                        "the market did not take the bids, they are sent again: {}",
                        status.message()
                    );
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stop.cancelled() => return Ok(false),
                    }
                }
            },
        }
    }
}

async fn send(
    market: &mut MarketOperatorClient<Channel>,
    bids: &[Bid],
) -> Result<Vec<BidReceipt>, tonic::Status> {
    let request = SubmitBidsRequest {
        bids: bids.iter().map(Into::into).collect(),
    };
    Ok(market.submit_bids(request).await?.into_inner().receipts)
}

fn told(bids: &[Bid], rows: &[Bid]) {
    let accepted = rows
        .iter()
        .filter(|row| row.status == BidStatus::Acknowledged);
    let accepted = accepted.count();
    metrics::counter!("shoal_bids_sent_total").increment(accepted as u64);
    tracing::info!(
        bids = bids.len(),
        "the market took {accepted} of {} bids",
        bids.len()
    );
}
