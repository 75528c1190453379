//! `MarketService` and `DispatchService`.

use std::pin::Pin;

use chrono::{DateTime, Utc};
use dispatch::activation::Delivery;
use market::{Area, BidId, BidStatus, Product, Rules, gate};
use runtime::Clock;
use runtime::latency::Probe;
use store::{NewRecord, StoreError, Tables, topic};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::proto::dispatch::v1 as dispatch_proto;
use wire::proto::dispatch::v1::command_request::Kind;
use wire::proto::dispatch::v1::dispatch_service_server::DispatchService;
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_service_server::MarketService;

use crate::control::Control;
use crate::settle::Settler;

/// Serves what was bid, won, priced and settled.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) area: Area,
    pub(crate) clock: Clock,
    pub(crate) tables: Tables,
    pub(crate) settler: Settler,
}

/// Serves the real-time half.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) control: Control,
    pub(crate) latency: Probe,
    pub(crate) stop: CancellationToken,
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn lost(e: StoreError) -> Status {
    tracing::error!("a question could not be answered: {e}");
    Status::unavailable(e.to_string())
}

fn span(from_micros: i64, to_micros: i64) -> Result<(DateTime<Utc>, DateTime<Utc>), Status> {
    let instant = |name: &str, micros| {
        DateTime::from_timestamp_micros(micros).ok_or_else(|| {
            Status::invalid_argument(format!("{name}: {micros} is outside the calendar"))
        })
    };
    Ok((
        instant("from_micros", from_micros)?,
        instant("to_micros", to_micros)?,
    ))
}

#[tonic::async_trait]
impl MarketService for Market {
    async fn list_bids(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListBidsResponse>, Status> {
        let asked = request.into_inner();
        let (from, to) = span(asked.from_micros, asked.to_micros)?;
        let bids = self.tables.bids_between(from, to).await.map_err(lost)?;
        Ok(Response::new(proto::ListBidsResponse {
            bids: bids.iter().map(Into::into).collect(),
        }))
    }

    async fn list_awards(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListAwardsResponse>, Status> {
        let asked = request.into_inner();
        let (from, to) = span(asked.from_micros, asked.to_micros)?;
        let awards = self.tables.awards_between(from, to).await.map_err(lost)?;
        Ok(Response::new(proto::ListAwardsResponse {
            awards: awards.iter().map(Into::into).collect(),
        }))
    }

    async fn list_prices(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListPricesResponse>, Status> {
        let asked = request.into_inner();
        let (from, to) = span(asked.from_micros, asked.to_micros)?;
        let prices = self
            .tables
            .clearings_between(from, to)
            .await
            .map_err(lost)?;
        Ok(Response::new(proto::ListPricesResponse {
            prices: prices.iter().map(Into::into).collect(),
        }))
    }

    /// Stored statements, and for the day that is running what is over so far, version 0.
    async fn list_statements(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListStatementsResponse>, Status> {
        let asked = request.into_inner();
        let (from, to) = span(asked.from_micros, asked.to_micros)?;
        let mut statements = self
            .tables
            .statements_between(from, to)
            .await
            .map_err(lost)?;
        for mut provisional in self.settler.provisional().await.map_err(lost)? {
            let stored = statements
                .iter()
                .any(|s| s.account == provisional.account && s.day == provisional.day);
            if from <= provisional.day.start() && provisional.day.start() < to && !stored {
                provisional.version = 0;
                statements.push(provisional);
            }
        }
        Ok(Response::new(proto::ListStatementsResponse {
            statements: statements.iter().map(Into::into).collect(),
        }))
    }

    async fn next_gates(
        &self,
        _: Request<proto::GatesRequest>,
    ) -> Result<Response<proto::GatesResponse>, Status> {
        let now = self.clock.now();
        let gates = Product::ALL
            .into_iter()
            .filter_map(|product| {
                let next = gate::next(Rules::built_in(), self.area, product, now).ok()?;
                Some(proto::Gate {
                    product: product.name().to_owned(),
                    closes_micros: next.closes.timestamp_micros(),
                    delivery_start_micros: next.delivery.start().timestamp_micros(),
                    delivery_end_micros: next.delivery.end().timestamp_micros(),
                })
            })
            .collect();
        Ok(Response::new(proto::GatesResponse { gates }))
    }

    /// Takes back a bid that has not been sent. The market takes nothing back: a bid it has stands.
    async fn withdraw_bid(
        &self,
        request: Request<proto::WithdrawBidRequest>,
    ) -> Result<Response<proto::WithdrawBidResponse>, Status> {
        let asked = request.into_inner();
        let id: BidId = asked.bid_id.parse().map_err(|_| {
            Status::invalid_argument(format!("bid_id: {:?} is not a UUID", asked.bid_id))
        })?;
        let bid = self.tables.bid(id).await.map_err(lost)?;
        let mut bid = bid.ok_or_else(|| Status::not_found(format!("bid {id} is unknown")))?;
        if bid.status != BidStatus::Draft {
            return Err(Status::failed_precondition(format!(
                "bid {id} is {:?}: only a draft can be withdrawn",
                bid.status
            )));
        }
        bid.status = BidStatus::Withdrawn;
        bid.reason = format!("withdrawn: {}; {}", asked.reason, bid.reason);
        self.tables.upsert_bid(&bid).await.map_err(lost)?;
        tracing::info!(bid.id = %id, "bid {id} was withdrawn: {}", asked.reason);
        Ok(Response::new(proto::WithdrawBidResponse {}))
    }
}

fn activation(delivery: &Delivery) -> dispatch_proto::Activation {
    dispatch_proto::Activation {
        award_id: delivery.award.id.to_string(),
        product: delivery.award.product.name().to_owned(),
        start_micros: delivery.award.delivery.start().timestamp_micros(),
        end_micros: delivery.award.delivery.end().timestamp_micros(),
        volume_watts: delivery.award.volume.watts(),
        cycles: delivery.cycles,
        cycles_in_tolerance: delivery.in_tolerance,
        mean_abs_error_watts: delivery.mean_abs_error_watts(),
        largest_request_watts: delivery.largest_request.watts(),
        followed: delivery.followed(),
    }
}

#[tonic::async_trait]
impl DispatchService for Dispatch {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<dispatch_proto::Cycle, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<dispatch_proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // A watcher that is too slow misses cycles; the next one says how things stand.
        let cycles =
            BroadcastStream::new(self.control.watch()).filter_map(|cycle| cycle.ok().map(Ok));
        let stop = self.stop.clone();
        let until_stop = async_stream(cycles, stop);
        Ok(Response::new(Box::pin(until_stop)))
    }

    async fn list_activations(
        &self,
        request: Request<dispatch_proto::ListActivationsRequest>,
    ) -> Result<Response<dispatch_proto::ListActivationsResponse>, Status> {
        let asked = request.into_inner();
        let (from, to) = span(asked.from_micros, asked.to_micros)?;
        let mut activations: Vec<_> = self
            .control
            .dispatcher()
            .deliveries
            .values()
            .filter(|d| d.award.delivery.start() < to && from < d.award.delivery.end())
            .map(activation)
            .collect();
        activations.sort_by(|a, b| {
            (a.start_micros, &a.product, &a.award_id).cmp(&(
                b.start_micros,
                &b.product,
                &b.award_id,
            ))
        });
        Ok(Response::new(dispatch_proto::ListActivationsResponse {
            activations,
        }))
    }

    async fn command(
        &self,
        request: Request<dispatch_proto::CommandRequest>,
    ) -> Result<Response<dispatch_proto::CommandResponse>, Status> {
        let asked = request.into_inner();
        if asked.by.trim().is_empty() || asked.reason.trim().is_empty() {
            return Err(Status::invalid_argument(
                "by and reason: an order needs a name and a reason",
            ));
        }
        let now = self.control.clock().now();
        let until = asked
            .expires_at_micros
            .map(|m| span(m, m).map(|(at, _)| at))
            .transpose()?;
        if until.is_some_and(|until| until <= now) {
            return Err(Status::invalid_argument(
                "expires_at_micros: is in the past",
            ));
        }
        let kind = asked.kind();
        if kind == Kind::Unspecified {
            return Err(Status::invalid_argument(
                "kind: expected hold, release or kill",
            ));
        }
        // The audit comes before the effect.
        let record = NewRecord {
            topic: topic::COMMANDS,
            key: asked.by.clone(),
            payload: wire::encode(&asked),
        };
        let state = self
            .control
            .order(record, |order| match kind {
                Kind::Hold => order.hold(until),
                Kind::Release => order.release(asked.by.trim()),
                Kind::Kill => order.kill(),
                Kind::Unspecified => {}
            })
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?
            .to_owned();
        tracing::warn!(
            "{} ordered {kind:?} ({}): dispatch is {state}",
            asked.by,
            asked.reason
        );
        self.control
            .cycle(now)
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(dispatch_proto::CommandResponse { state }))
    }

    async fn latency(
        &self,
        _: Request<dispatch_proto::LatencyRequest>,
    ) -> Result<Response<dispatch_proto::LatencyResponse>, Status> {
        let seen = self.latency.quantiles();
        Ok(Response::new(dispatch_proto::LatencyResponse {
            signals: seen.signals,
            p50_ms: seen.p50_ms,
            p99_ms: seen.p99_ms,
            max_ms: seen.max_ms,
        }))
    }
}

/// `items` until they end or `stop` fires: a watcher must not keep the server from ending.
fn async_stream<T: Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
    stop: CancellationToken,
) -> impl Stream<Item = T> + Send {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let mut items = std::pin::pin!(items);
        loop {
            let item = tokio::select! {
                item = items.next() => item,
                () = stop.cancelled() => return,
                () = sender.closed() => return,
            };
            let Some(item) = item else { return };
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}
