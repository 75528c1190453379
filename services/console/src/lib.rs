#![doc = include_str!("../README.md")]

mod api;
mod assets;
mod command;
mod config;
pub mod feeds;
mod lists;
mod problem;
mod security;
pub mod state;
mod stream;
pub mod view;

use std::sync::Arc;

use runtime::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use api::{ROUTES_OPENAPI, router};
pub use assets::{UPLOT_CSS, UPLOT_JS, UPLOT_LICENSE};
pub use config::Config;

use crate::state::Shared;

/// How long requests in hand may take to finish after a stop.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// What the console is given.
#[derive(Debug)]
pub struct Deps {
    /// The platform's clock; ages and countdowns are told by it.
    pub clock: Clock,
    /// `FleetService` of telemetry-ingest.
    pub fleet: Channel,
    /// `ForecastService` of the forecaster.
    pub forecast: Channel,
    /// `PlanService` of the optimizer.
    pub plan: Channel,
    /// `MarketService` and `DispatchService` of the gateway.
    pub gateway: Channel,
    /// Bound socket of the web server.
    pub listen: TcpListener,
}

/// Why the console ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket was lost.
    #[error("web server of the console")]
    Serve(#[source] std::io::Error),
}

/// The gRPC channels of [`Deps`].
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) fleet: Channel,
    pub(crate) forecast: Channel,
    pub(crate) plan: Channel,
    pub(crate) gateway: Channel,
}

/// Everything a request handler may use.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) services: Services,
    pub(crate) shared: Shared,
    pub(crate) watchers: stream::Watchers,
    pub(crate) stop: CancellationToken,
}

impl App {
    /// Starts the tasks that follow the other services; they end with `stop`.
    #[must_use]
    pub fn start(config: Config, deps: Deps, stop: CancellationToken) -> (Self, TcpListener) {
        let app = Self {
            config: Arc::new(config),
            clock: deps.clock,
            services: Services {
                fleet: deps.fleet,
                forecast: deps.forecast,
                plan: deps.plan,
                gateway: deps.gateway,
            },
            shared: Shared::default(),
            watchers: stream::Watchers::default(),
            stop,
        };
        feeds::spawn(&app);
        stream::spawn_publisher(&app);
        (app, deps.listen)
    }
}

/// Serves the console until `stop`; then requests in hand get two seconds.
///
/// # Errors
/// [`Error::Serve`] if the socket is lost. A service that is away is no error: its panel says since when.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    let (app, listen) = App::start(config, deps, stop.clone());
    if let Ok(address) = listen.local_addr() {
        tracing::info!(%address, "console listens on http://{address}");
    }
    let serving =
        axum::serve(listen, router(app)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(Error::Serve),
        () = overdue => Ok(()),
    }
}
