//! The other side of the gateway: the simulated exchange and grid operator behind the `MarketOperator` service.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use market::{Award, GridSignal, Product};
use runtime::Clock;
use sim::exchange::{Exchange, Outcome};
use sim::frequency::Frequency;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use units::Power;
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_operator_server::MarketOperator;

/// Results and signals that a slow gateway may leave waiting before the operator waits for it.
const QUEUE: usize = 4_096;
/// The operator measures once a second.
const SIGNAL_PERIOD: TimeDelta = TimeDelta::seconds(1);
/// Real time between two signals at least: more often than this no loop of the platform runs.
const SHORTEST_REAL_MS: f64 = 50.0;

/// One message of the result stream and when it was published.
#[derive(Debug, Clone)]
struct Published {
    at: DateTime<Utc>,
    result: proto::Result,
}

#[derive(Debug)]
struct State {
    exchange: Exchange,
    published: Vec<Published>,
    awards: Vec<Award>,
}

/// The simulated market operator. Clones share one exchange.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    clock: Clock,
    frequency: Arc<Frequency>,
    state: Arc<Mutex<State>>,
    /// Number of published results, for those who wait for more.
    grown: watch::Sender<usize>,
    signal_period: TimeDelta,
}

impl Operator {
    /// An operator over `exchange`, which already granted us `awards`.
    pub(super) fn new(
        clock: Clock,
        exchange: Exchange,
        frequency: Frequency,
        awards: Vec<Award>,
    ) -> Self {
        let state = State {
            exchange,
            published: Vec::new(),
            awards,
        };
        Self {
            signal_period: period(&clock),
            clock,
            frequency: Arc::new(frequency),
            state: Arc::new(Mutex::new(state)),
            grown: watch::Sender::new(0),
        }
    }

    /// Time between two signals: a second, lengthened at high speeds.
    pub(super) const fn signal_period(&self) -> TimeDelta {
        self.signal_period
    }

    /// Publishes results as their time comes, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let now = self.clock.now();
            let count = {
                let mut state = self.lock();
                for outcome in state.exchange.publish(now) {
                    if let Outcome::Award(award) = &outcome {
                        state.awards.push(award.clone());
                    }
                    let published = Published {
                        at: now,
                        result: to_wire(&outcome),
                    };
                    state.published.push(published);
                }
                state.published.len()
            };
            self.grown
                .send_if_modified(|n| std::mem::replace(n, count) != count);
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(self.signal_period) => {}
            }
        }
    }

    /// What the grid says at `at`.
    fn signal(&self, at: DateTime<Utc>) -> GridSignal {
        let share = self.frequency.afrr_share(at);
        let product = if share < 0.0 {
            Product::AfrrUp
        } else {
            Product::AfrrDown
        };
        let awarded: Power = self
            .lock()
            .awards
            .iter()
            .filter(|a| a.product == product && a.delivery.contains(at))
            .map(|a| a.volume)
            .sum();
        GridSignal {
            id: format!("grid-{}", at.timestamp_millis()),
            at,
            deviation_mhz: Some(self.frequency.deviation_mhz(at)),
            afrr: (awarded > Power::ZERO).then(|| awarded.scale(share)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Results from number `from` on.
    fn results_from(&self, from: usize) -> Vec<Published> {
        self.lock()
            .published
            .get(from..)
            .unwrap_or_default()
            .to_vec()
    }

    fn take(&self, bid: proto::Bid) -> proto::BidReceipt {
        let id = bid.id.clone();
        let taken = market::Bid::try_from(bid)
            .map_err(|e| e.to_string())
            .and_then(|bid| {
                self.lock()
                    .exchange
                    .submit(bid, self.clock.now())
                    .map_err(|e| e.to_string())
            });
        proto::BidReceipt {
            bid_id: id,
            accepted: taken.is_ok(),
            reason: taken.err().unwrap_or_default(),
        }
    }
}

/// Time between two signals at the clock's speed.
pub(super) fn period(clock: &Clock) -> TimeDelta {
    let lengthened = SHORTEST_REAL_MS * clock.speed();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "speeds are bounded: at most a quarter of an hour"
    )]
    let lengthened = TimeDelta::milliseconds(lengthened.ceil() as i64);
    lengthened.max(SIGNAL_PERIOD)
}

fn to_wire(outcome: &Outcome) -> proto::Result {
    use proto::result::Result as Kind;
    let kind = match outcome {
        Outcome::Award(award) => Kind::Award(award.into()),
        Outcome::Clearing(clearing) => Kind::Clearing(clearing.into()),
        Outcome::Rejected { bid, reason } => Kind::Rejected(proto::BidReceipt {
            bid_id: bid.to_string(),
            accepted: false,
            reason: reason.clone(),
        }),
        Outcome::Imbalance { delivery, price } => Kind::Imbalance(proto::Imbalance {
            area: market::Area::Nl.code().to_owned(),
            start_micros: delivery.start().timestamp_micros(),
            end_micros: delivery.end().timestamp_micros(),
            price_short: price.per_unit().to_string(),
            price_long: price.per_unit().to_string(),
            currency: price.currency().code().to_owned(),
        }),
    };
    proto::Result { result: Some(kind) }
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MarketOperator for Operator {
    async fn submit_bids(
        &self,
        request: Request<proto::SubmitBidsRequest>,
    ) -> Result<Response<proto::SubmitBidsResponse>, Status> {
        let receipts = request
            .into_inner()
            .bids
            .into_iter()
            .map(|bid| self.take(bid))
            .collect();
        Ok(Response::new(proto::SubmitBidsResponse { receipts }))
    }

    type WatchResultsStream = Sent<proto::Result>;

    async fn watch_results(
        &self,
        request: Request<proto::WatchResultsRequest>,
    ) -> Result<Response<Self::WatchResultsStream>, Status> {
        let after = DateTime::from_timestamp_micros(request.into_inner().after_micros)
            .ok_or_else(|| Status::invalid_argument("after_micros is outside the calendar"))?;
        let (out, stream) = mpsc::channel(QUEUE);
        let (operator, mut grown) = (self.clone(), self.grown.subscribe());
        tokio::spawn(async move {
            let mut next = 0;
            loop {
                let results = operator.results_from(next);
                next += results.len();
                for published in results.into_iter().filter(|p| p.at > after) {
                    if out.send(Ok(published.result)).await.is_err() {
                        return;
                    }
                }
                if grown.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type WatchSignalsStream = Sent<proto::GridSignal>;

    async fn watch_signals(
        &self,
        _: Request<proto::WatchSignalsRequest>,
    ) -> Result<Response<Self::WatchSignalsStream>, Status> {
        // A signal that waits is a signal that is old: one at a time, the newest next.
        let (out, stream) = mpsc::channel(1);
        let operator = self.clone();
        tokio::spawn(async move {
            let mut next = operator.clock.now();
            loop {
                let signal = operator.signal(operator.clock.now());
                if out.send(Ok((&signal).into())).await.is_err() {
                    return;
                }
                next = (next + operator.signal_period).max(operator.clock.now());
                operator.clock.sleep_until(next).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
