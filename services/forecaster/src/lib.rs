#![doc = include_str!("../README.md")]

mod availability;
mod book;
mod config;
mod history;
mod pool;
mod publish;
mod serve;
mod train;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use forecast::availability::Learned;
use runtime::Clock;
use runtime::pipe::{Listener, PipeError};
use runtime::tasks::ends_all;
use tokio::sync::{Mutex, RwLock, broadcast};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wire::forecast::Published;
use wire::proto::forecast::v1::forecast_service_server::ForecastServiceServer;

pub use book::Book;
pub use config::Config;
pub use history::History;

/// Real time before a service that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Forecasts a slow watcher may lag behind before it misses some.
const WATCHED: usize = 4096;

/// What the forecaster is given.
#[derive(Debug)]
pub struct Deps {
    /// The platform's clock.
    pub clock: Clock,
    /// Event log and tables.
    pub tables: store::Tables,
    /// `FleetService` of telemetry-ingest.
    pub fleet: Channel,
    /// `MarketService` of the gateway.
    pub market: Channel,
    /// Where `ForecastService` is served.
    pub listener: Listener,
}

/// Why the forecaster ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The gRPC server was lost.
    #[error("gRPC server of the forecaster")]
    Serve(#[from] PipeError),
    /// The configuration makes no sense.
    #[error("configuration of the forecaster: {0}")]
    Config(String),
}

/// State shared by the loop and the service.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) fleet: Channel,
    pub(crate) market: Channel,
    pub(crate) tables: store::Tables,
    pub(crate) history: RwLock<Arc<History>>,
    pub(crate) book: RwLock<Option<Arc<Book>>>,
    /// What the past has taught so far.
    pub(crate) learned: RwLock<Arc<Learned>>,
    /// Held by whoever is learning.
    pub(crate) training: Arc<Mutex<()>>,
    /// Forecasts as they are made, and whether each is of the whole pool by the model in service.
    pub(crate) published: broadcast::Sender<Arc<(Published, bool)>>,
}

/// Forecasts every hour and serves `ForecastService` until `stop`.
///
/// # Errors
/// [`Error`] for a configuration that makes no sense and for a lost server. A service that is away is asked again.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    config.check().map_err(Error::Config)?;
    let shared = Arc::new(Shared {
        history: RwLock::new(Arc::new(History::default())),
        book: RwLock::new(None),
        learned: RwLock::default(),
        training: Arc::default(),
        published: broadcast::Sender::new(WATCHED),
        clock: deps.clock,
        fleet: deps.fleet,
        market: deps.market,
        tables: deps.tables,
        config,
    });
    let service = ForecastServiceServer::new(serve::Service(shared.clone()));
    let router = tonic::service::Routes::new(service);
    let ended = stop.child_token();
    let rounds = tokio::spawn(ends_all(ended.clone(), rounds(shared, ended.clone())));
    let served = deps.listener.serve(router, ended.clone()).await;
    ended.cancel();
    if let Err(error) = rounds.await {
        tracing::error!("the forecasting loop ended: {error}");
    }
    Ok(served?)
}

/// One round now and one at every full hour; rounds that were slept over are not made up for.
async fn rounds(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let work = async {
            let began = shared.clock.monotonic_ms();
            match publish::round(&shared).await {
                Ok(made) => {
                    let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
                    metrics::histogram!("shoal_forecast_seconds").record(seconds);
                    tracing::info!(
                        forecasts = made,
                        "published {made} forecasts in {seconds:.3} s"
                    );
                    shared
                        .clock
                        .sleep_until(next_round(shared.clock.now(), shared.config.every()))
                        .await;
                }
                Err(error) => {
                    metrics::counter!("shoal_forecast_failures_total").increment(1);
                    tracing::warn!("no forecast this time: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The next multiple of `every` after `now`.
fn next_round(now: DateTime<Utc>, every: TimeDelta) -> DateTime<Utc> {
    now.duration_trunc(every)
        .map_or(now + every, |at| at + every)
}
