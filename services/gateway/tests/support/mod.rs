//! A market operator for tests: it takes each bid id once, loses receipts, repeats itself and hangs up, all from one seed.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market::{Area, Award, AwardId, Bid, BidId, Direction, Offer, Product, Rules};
use runtime::Clock;
use runtime::latency::Probe;
use runtime::pipe::Pipe;
use shoal_gateway::{Config, Deps, Dial};
use store::{Candidate, Change, NewRecord, Position, Store, topic};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use units::{Currency, Power, Price};
use uuid::Uuid;
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_operator_server::{MarketOperator, MarketOperatorServer};

/// Only a test that fails waits so long, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often each bid id arrived.
    pub(crate) bids: BTreeMap<String, u32>,
    pub(crate) submissions: u32,
    pub(crate) watches: u32,
    /// Results to tell, all of them to everyone who asks.
    pub(crate) results: Vec<proto::Result>,
    pub(crate) dice: u64,
    pub(crate) signals: Option<mpsc::Sender<Result<proto::GridSignal, Status>>>,
}

impl Seen {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// True: one call in three fails, before or after it had its effect; streams end early.
    pub(crate) faulty: bool,
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MarketOperator for Fake {
    type WatchResultsStream = Items<proto::Result>;
    type WatchSignalsStream = Items<proto::GridSignal>;

    async fn submit_bids(
        &self,
        request: Request<proto::SubmitBidsRequest>,
    ) -> Result<Response<proto::SubmitBidsResponse>, Status> {
        let mut seen = self.seen.lock().unwrap();
        seen.submissions += 1;
        let luck = if self.faulty { seen.roll(6) } else { 5 };
        if luck == 0 {
            return Err(Status::unavailable("not heard"));
        }
        let bids = request.into_inner().bids;
        let receipts = bids
            .into_iter()
            .map(|bid| {
                *seen.bids.entry(bid.id.clone()).or_default() += 1;
                proto::BidReceipt {
                    bid_id: bid.id,
                    accepted: true,
                    reason: String::new(),
                }
            })
            .collect();
        if luck == 1 {
            return Err(Status::unavailable("taken, and the receipt is lost"));
        }
        Ok(Response::new(proto::SubmitBidsResponse { receipts }))
    }

    async fn watch_results(
        &self,
        _: Request<proto::WatchResultsRequest>,
    ) -> Result<Response<Self::WatchResultsStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let mut seen = self.seen.lock().unwrap();
        seen.watches += 1;
        let cut = if self.faulty {
            Some(seen.roll(40))
        } else {
            None
        };
        drop(seen);
        let all = self.seen.clone();
        tokio::spawn(async move {
            let mut next = 0;
            loop {
                if cut.is_some_and(|cut| next as u64 > cut) {
                    let _ = sender.send(Err(Status::unavailable("hung up"))).await;
                    return;
                }
                let result = all.lock().unwrap().results.get(next).cloned();
                match result {
                    Some(result) => {
                        next += 1;
                        if sender.send(Ok(result)).await.is_err() {
                            return;
                        }
                    }
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
                if sender.is_closed() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn watch_signals(
        &self,
        _: Request<proto::WatchSignalsRequest>,
    ) -> Result<Response<Self::WatchSignalsStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        self.seen.lock().unwrap().signals = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One platform: a store, a fake market, and a gateway that can be stopped and started again.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) fake: Fake,
    pub(crate) clock: Clock,
    pub(crate) probe: Probe,
    operator: Pipe,
    stop_market: CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) channel: Channel,
    stop: CancellationToken,
    task: JoinHandle<Result<(), shoal_gateway::Error>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    pub(crate) async fn new(start: DateTime<Utc>, seed: u64, faulty: bool) -> Self {
        Self::with_speed(start, seed, faulty, 1.0).await
    }

    pub(crate) async fn with_speed(
        start: DateTime<Utc>,
        seed: u64,
        faulty: bool,
        speed: f64,
    ) -> Self {
        let store = Store::in_memory().await.unwrap();
        Self::over(store, start, seed, faulty, speed)
    }

    /// Over a store that may be kept on disk.
    pub(crate) fn over(
        store: Store,
        start: DateTime<Utc>,
        seed: u64,
        faulty: bool,
        speed: f64,
    ) -> Self {
        let fake = Fake {
            faulty,
            ..Fake::default()
        };
        fake.seen.lock().unwrap().dice = seed;
        let (operator, listener) = Pipe::new("operator");
        let stop_market = CancellationToken::new();
        let router = Routes::new(MarketOperatorServer::new(fake.clone()));
        tokio::spawn(listener.serve(router, stop_market.clone()));
        Self {
            store,
            fake,
            clock: Clock::accelerated(start, speed),
            probe: Probe::new(),
            operator,
            stop_market,
        }
    }

    pub(crate) fn start(&self) -> Running {
        self.start_as(Candidate::alone())
    }

    /// A gateway that decides as long as it holds the office.
    pub(crate) fn start_as(&self, candidate: Candidate) -> Running {
        let (pipe, listener) = Pipe::new("gateway");
        let stop = CancellationToken::new();
        let deps = Deps {
            clock: self.clock,
            log: self.store.log(),
            tables: self.store.tables(),
            operator: self.operator.channel(),
            latency: self.probe.clone(),
            listener,
            candidate,
            dial: Dial::nobody(),
        };
        let task = tokio::spawn(shoal_gateway::run(Config::default(), deps, stop.clone()));
        Running {
            channel: pipe.channel(),
            stop,
            task,
        }
    }

    /// The optimiser's side: the row and the record together.
    pub(crate) async fn publish(&self, bids: &[Bid]) {
        let records = bids.iter().map(|b| NewRecord {
            topic: topic::BIDS,
            key: b.id.to_string(),
            payload: wire::encode(&proto::Bid::from(b)),
        });
        self.store
            .tables()
            .apply(Change::default().bids(bids).records(records))
            .await
            .unwrap();
    }

    pub(crate) async fn records(&self, of: store::Topic) -> Vec<store::Record> {
        let log = self.store.log();
        if log.newest(of).await.unwrap().is_start() {
            Vec::new()
        } else {
            let mut reader = log.replay(of, &Position::default()).unwrap();
            reader.next_batch(100_000).await.unwrap()
        }
    }

    pub(crate) async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("{what} did not happen within {PATIENCE:?}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_market.cancel();
    }
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A bid for FCR of one megawatt in block `block` of 11 January 2026.
pub(crate) fn fcr_bid(block: i64, now: DateTime<Utc>) -> Bid {
    let offer = Offer {
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery_start: at("2026-01-10T23:00:00Z") + TimeDelta::hours(4 * block),
        volume: Power::from_mw(1.0),
        price: Some(Price::new(30.into(), Currency::Eur)),
        divisible: true,
        revision: 0,
        delivery_probability: 0.9,
        reason: "test".to_owned(),
    };
    Bid::try_new(Rules::built_in(), offer, now).unwrap()
}

pub(crate) fn award(bid: &Bid, n: u128, at: DateTime<Utc>) -> Award {
    Award {
        id: AwardId(Uuid::from_u128(n)),
        bid: bid.id,
        area: bid.area,
        product: bid.product,
        direction: bid.direction,
        delivery: bid.delivery,
        volume: bid.volume,
        price: Price::new(42.into(), Currency::Eur),
        awarded_at: at,
    }
}

pub(crate) fn told(result: proto::result::Result) -> proto::Result {
    proto::Result {
        result: Some(result),
    }
}

pub(crate) fn id_of(text: &str) -> BidId {
    text.parse().unwrap()
}
