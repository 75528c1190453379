#![doc = include_str!("../README.md")]

mod absent;
mod answer;
mod asked;
mod capability;
mod commands;
mod config;
mod connection;
mod credentials;
#[cfg(test)]
mod fuzz;
mod inquiry;
mod instant;
mod issuer;
mod listing;
mod mailbox;
mod meter;
mod needs;
mod orders;
mod outbox;
mod presence;
mod registry;
mod security;
mod server;
mod sign;
#[cfg(test)]
mod signs;
mod skew;
mod station;
mod stay;
mod streams;
mod supply;
mod tls;
mod tokens;
mod v16;
mod v2;
mod v201;
mod v21;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::Clock;
use runtime::latency::Probe;
use runtime::tasks::ends_all;
use store::{Log, LogError, StoreError, Subscription, Tables, topic};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use commands::{Seen, Terms};
pub use config::{Config, ConfigError, SupplyConfig};
pub use credentials::{CredentialsError, credentials_line};
pub use security::{Profile, Security, SecurityError, check_security};
pub use tokens::TokensError;

/// Real time that connections get to say goodbye.
const GRACE: Duration = Duration::from_secs(10);

/// What the edge works with.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The one clock.
    pub clock: Clock,
    /// Telemetry out, set-points in.
    pub log: Log,
    /// Registrations and stays in progress.
    pub tables: Tables,
    /// Shared with the gateway: how long signals take to the wire.
    pub latency: Probe,
}

/// What ends the edge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys or certificates cannot be used, or the socket would be open to everybody.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The address is taken or not ours.
    #[error("charge points cannot be served at {address}")]
    Bind {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Registrations cannot be read.
    #[error("registrations cannot be read")]
    Tables(#[from] StoreError),
    /// Set-points cannot be read any more.
    #[error("set-points cannot be read")]
    Log(#[from] LogError),
}

/// An edge whose socket is open and whose place on the log is taken: nothing that arrives from now on is missed.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    address: SocketAddr,
    setpoints: Subscription,
    /// Announcements of other edges, if there are any.
    readings: Option<Subscription>,
    guard: Arc<security::Guard>,
    config: Config,
    deps: Deps,
}

impl Edge {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error`] if a setting cannot work, keys or certificates cannot be read, the address is taken or the log cannot be read.
    pub async fn bind(config: Config, deps: Deps) -> Result<Self, Error> {
        config.validate()?;
        let guard = security::Guard::new(&config.security, config.listen)?;
        let bind = |source| Error::Bind {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        // Every edge reads all set-points and takes those for the stations that are connected to it.
        let setpoints = deps.log.tail(topic::SETPOINTS).await?;
        let readings = if config.replicas {
            Some(deps.log.tail(topic::READINGS).await?)
        } else {
            None
        };
        let scheme = if guard.door.is_some() { "wss" } else { "ws" };
        tracing::info!(%address, "charge points are served at {scheme}://{address}/ocpp/{{charge point id}}");
        Ok(Self {
            listener,
            address,
            setpoints,
            readings,
            guard: Arc::new(guard),
            config,
            deps,
        })
    }

    /// Address that charge points connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves charge points until `stop` fires: then connections are closed and what they said is appended to the log.
    ///
    /// # Errors
    /// [`Error`] when registrations or set-points cannot be read.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let (outbox, appender) = outbox::new(self.deps.log.clone(), self.config.queue_records);
        // Ends waiting for a log that cannot be written, once connections had their grace.
        let abandon = CancellationToken::new();
        let halt = stop.child_token();
        let appending = tokio::spawn(ends_all(halt.clone(), appender.run(abandon.clone())));
        let registry = registry::Registry::new(self.deps.tables.clone());
        registry.refresh().await?;
        let edge = Arc::new(connection::Edge {
            registry,
            switchboard: mailbox::Switchboard::default(),
            absent: absent::Absent::new(self.config.call_timeout()),
            post: outbox::Post { outbox },
            probe: self.deps.latency.clone(),
            traced: runtime::trace::Pending::default(),
            clock: self.deps.clock,
            stop: halt.clone(),
            guard: Arc::clone(&self.guard),
            config: self.config,
        });
        let watching = self.guard.watch(halt.clone());
        let watching = tokio::spawn(ends_all(halt.clone(), watching));
        let serving = server::run(self.listener, Arc::clone(&edge));
        let mut serving = tokio::spawn(ends_all(halt.clone(), serving));
        let answering = absent::run(Arc::clone(&edge), halt.clone());
        let answering = tokio::spawn(ends_all(halt.clone(), answering));
        let watched = presence::run(Arc::clone(&edge), self.readings, halt.clone());
        let commanded = commands::run(edge, self.deps.tables, self.setpoints, halt.clone());
        let commanded = tokio::try_join!(commanded, watched).map(|_| ());
        halt.cancel();
        let farewell = async {
            if let Err(error) = (&mut serving).await {
                tracing::error!(%error, "the listener ended early: {error}");
            }
            if let Err(error) = answering.await {
                tracing::error!(%error, "nobody answered for missing stations any more: {error}");
            }
            if let Err(error) = watching.await {
                tracing::error!(%error, "nobody looked at keys and certificates any more: {error}");
            }
            if let Err(error) = appending.await {
                tracing::error!(%error, "the appender ended early: {error}");
            }
        };
        if tokio::time::timeout(GRACE, farewell).await.is_err() {
            tracing::warn!("connections did not end within {GRACE:?} and are cut");
            serving.abort();
            abandon.cancel();
        }
        Ok(commanded?)
    }
}

/// Opens the socket and serves until `stop` fires.
///
/// # Errors
/// [`Error`] if the edge cannot start or loses the log.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    Edge::bind(config, deps).await?.run(stop).await
}
