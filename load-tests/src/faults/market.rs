//! The other side of the gateway: takes each bid once, grants reserve, and never stops telling the frequency.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use market::{Award, BidStatus};
use runtime::Clock;
use store::Tables;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_operator_server::MarketOperator;

/// The grid operator measures once a second.
const SIGNAL: Duration = Duration::from_secs(1);
/// Between looks for results that are not told yet.
const LOOK: Duration = Duration::from_millis(50);
const QUEUE: usize = 256;

/// The market. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Market(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How often each bid came.
    bids: BTreeMap<String, u32>,
    /// Bids that came after their row said that the market has them.
    sent_again: u64,
    awards: Vec<Award>,
    /// Signals told, with their instants.
    signals: Vec<(String, DateTime<Utc>)>,
    tables: Option<Tables>,
}

impl Market {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the rows of bids that come again.
    pub(super) fn watch(&self, tables: Tables) {
        self.lock().tables = Some(tables);
    }

    /// Grants reserve, told to all who listen and to those who ask later.
    pub(crate) fn grant(&self, award: Award) {
        self.lock().awards.push(award);
    }

    /// Signals told, with their instants.
    pub(crate) fn signals(&self) -> Vec<(String, DateTime<Utc>)> {
        self.lock().signals.clone()
    }

    pub(super) fn awards(&self) -> Vec<Award> {
        self.lock().awards.clone()
    }

    /// How often each bid came.
    pub(super) fn bids(&self) -> BTreeMap<String, u32> {
        self.lock().bids.clone()
    }

    pub(super) fn sent_again(&self) -> u64 {
        self.lock().sent_again
    }

    /// True if the row says that the market has acknowledged this bid.
    async fn is_acknowledged(&self, id: &str) -> bool {
        let tables = self.lock().tables.clone();
        let (Some(tables), Ok(id)) = (tables, id.parse()) else {
            return false;
        };
        let row = tables.bid(id).await.ok().flatten();
        row.is_some_and(|bid| matches!(bid.status, BidStatus::Acknowledged | BidStatus::Awarded))
    }
}

type Items<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl MarketOperator for Market {
    async fn submit_bids(
        &self,
        request: Request<proto::SubmitBidsRequest>,
    ) -> Result<Response<proto::SubmitBidsResponse>, Status> {
        let mut receipts = Vec::new();
        for bid in request.into_inner().bids {
            let again = self.lock().bids.contains_key(&bid.id);
            if again && self.is_acknowledged(&bid.id).await {
                self.lock().sent_again += 1;
            }
            *self.lock().bids.entry(bid.id.clone()).or_default() += 1;
            receipts.push(proto::BidReceipt {
                bid_id: bid.id,
                accepted: true,
                reason: String::new(),
            });
        }
        Ok(Response::new(proto::SubmitBidsResponse { receipts }))
    }

    type WatchResultsStream = Items<proto::Result>;

    async fn watch_results(
        &self,
        request: Request<proto::WatchResultsRequest>,
    ) -> Result<Response<Self::WatchResultsStream>, Status> {
        let after = DateTime::from_timestamp_micros(request.into_inner().after_micros)
            .ok_or_else(|| Status::invalid_argument("after_micros is outside the calendar"))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let market = self.clone();
        tokio::spawn(async move {
            let mut next = 0;
            while !sender.is_closed() {
                let awards = market
                    .lock()
                    .awards
                    .get(next..)
                    .unwrap_or_default()
                    .to_vec();
                next += awards.len();
                for award in awards.iter().filter(|award| award.awarded_at > after) {
                    let told = proto::Result {
                        result: Some(proto::result::Result::Award(award.into())),
                    };
                    if sender.send(Ok(told)).await.is_err() {
                        return;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type WatchSignalsStream = Items<proto::GridSignal>;

    async fn watch_signals(
        &self,
        _: Request<proto::WatchSignalsRequest>,
    ) -> Result<Response<Self::WatchSignalsStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let market = self.clone();
        tokio::spawn(async move {
            let clock = Clock::system();
            loop {
                let now = clock.now();
                // A slow swing of 60 mHz.
                let phase = now.timestamp() % 60;
                let swing = u32::try_from((phase - 30).abs()).unwrap_or(0);
                let signal = proto::GridSignal {
                    id: format!("grid-{}", now.timestamp_millis()),
                    at_micros: now.timestamp_micros(),
                    deviation_mhz: Some(f64::from(swing) * 4.0 - 60.0),
                    afrr_watts: None,
                };
                let told = (signal.id.clone(), now);
                if sender.send(Ok(signal)).await.is_err() {
                    return;
                }
                market.lock().signals.push(told);
                tokio::time::sleep(SIGNAL).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
