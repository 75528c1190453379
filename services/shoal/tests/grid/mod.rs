//! A grid operator for services under test.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use runtime::Clock;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_operator_server::MarketOperator;

/// A grid operator whose frequency never rests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) clock: Clock,
    /// Between two signals.
    pub(crate) every: Duration,
}

type Items<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl MarketOperator for Grid {
    type WatchResultsStream = Items<proto::Result>;
    type WatchSignalsStream = Items<proto::GridSignal>;

    async fn submit_bids(
        &self,
        _: Request<proto::SubmitBidsRequest>,
    ) -> Result<Response<proto::SubmitBidsResponse>, Status> {
        Err(Status::unavailable("closed"))
    }

    async fn watch_results(
        &self,
        _: Request<proto::WatchResultsRequest>,
    ) -> Result<Response<Self::WatchResultsStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        // Open for as long as somebody listens.
        tokio::spawn(async move { sender.closed().await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn watch_signals(
        &self,
        _: Request<proto::WatchSignalsRequest>,
    ) -> Result<Response<Self::WatchSignalsStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let Self { clock, every } = *self;
        tokio::spawn(async move {
            loop {
                let now = clock.now();
                let tick = now.timestamp_millis();
                let signal = proto::GridSignal {
                    id: format!("grid-{tick}"),
                    at_micros: now.timestamp_micros(),
                    // Another one each time.
                    deviation_mhz: Some(50.0 + f64::from(u32::try_from(tick % 97).unwrap())),
                    afrr_watts: None,
                };
                if sender.send(Ok(signal)).await.is_err() {
                    return;
                }
                tokio::time::sleep(every).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
