#![doc = include_str!("../README.md")]

mod bidder;
mod config;
mod decision;
mod due;
mod planner;
mod serve;
mod sources;

use std::sync::Arc;

use runtime::Clock;
use runtime::pipe::{Listener, PipeError};
use runtime::tasks::ends_all;
use store::{LogError, StoreError, topic};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wire::proto::portfolio::v1::plan_service_server::PlanServiceServer;

pub use config::Config;
pub use decision::{DecisionError, decide_again};
use planner::Planned;
use sources::Sources;

/// Awards taken from the log at once.
const AWARDS_AT_ONCE: usize = 512;

/// What the optimizer is given.
#[derive(Debug)]
pub struct Deps {
    /// The platform's clock.
    pub clock: Clock,
    /// Event log: awards wake the planner.
    pub log: store::Log,
    /// Plans and bids out; awards and prices in.
    pub tables: store::Tables,
    /// `FleetService` of telemetry-ingest.
    pub fleet: Channel,
    /// `ForecastService` of the forecaster.
    pub forecast: Channel,
    /// Where `PlanService` is served.
    pub listener: Listener,
}

/// Why the optimizer ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration makes no sense.
    #[error("configuration of the optimizer: {0}")]
    Config(String),
    /// The log is lost.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tables are lost.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gRPC server was lost.
    #[error("gRPC server of the optimizer")]
    Serve(#[from] PipeError),
}

/// State shared by the loops and the service.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) sources: Sources,
    pub(crate) newest: watch::Sender<Option<Planned>>,
    pub(crate) awarded: Notify,
}

/// Plans, bids and serves `PlanService` until `stop`.
///
/// # Errors
/// [`Error`] for a configuration that makes no sense and for a lost log, table or server. A service that is away is asked again.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    config.check().map_err(Error::Config)?;
    // A plan from before a restart is better than none until the first new one.
    let before = deps.tables.latest_plan(config.area).await?.map(Arc::new);
    let awards = deps.log.tail(topic::AWARDS).await?;
    let shared = Arc::new(Shared {
        clock: deps.clock,
        sources: Sources {
            fleet: deps.fleet,
            forecast: deps.forecast,
            tables: deps.tables,
        },
        newest: watch::Sender::new(before),
        awarded: Notify::new(),
        config,
    });
    let service = PlanServiceServer::new(serve::Service(shared.newest.subscribe()));
    let router = tonic::service::Routes::new(service);
    let ended = stop.child_token();
    let planner = planner::run(shared.clone(), ended.clone());
    let bidder = bidder::run(shared.clone(), ended.clone());
    let planner = tokio::spawn(ends_all(ended.clone(), planner));
    let bidder = tokio::spawn(ends_all(ended.clone(), bidder));
    let (woken, served) = tokio::join!(
        ends_all(ended.clone(), watch_awards(&shared, awards, ended.clone())),
        ends_all(ended.clone(), deps.listener.serve(router, ended.clone())),
    );
    for (name, task) in [("planner", planner), ("bidder", bidder)] {
        if let Err(lost) = task.await {
            tracing::error!("the {name} was lost: {lost}");
        }
    }
    woken?;
    Ok(served?)
}

/// Wakes the planner for each batch of awards.
async fn watch_awards(
    shared: &Shared,
    mut awards: store::Subscription,
    stop: CancellationToken,
) -> Result<(), LogError> {
    loop {
        tokio::select! {
            batch = awards.next_batch(AWARDS_AT_ONCE) => {
                batch?;
                shared.awarded.notify_one();
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}
