//! Each service of a process: its sockets opened, what it needs handed over.

use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use runtime::Clock;
use runtime::latency::Probe;
use store::{Candidate, Store};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::links::{Asked, Links};
use super::{Role, socket};
use crate::cli::CliError;

/// Files that a process has open beside its connections: database, log, admin port, libraries.
const OTHER_FILES: u64 = 256;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A service with its sockets open; it works once its future is polled.
pub(super) struct Bound {
    pub(super) role: Role,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) run: Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>,
}

/// What services are made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) links: Links,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) latency: Probe,
    pub(super) stop: CancellationToken,
}

impl Parts {
    /// Opens the sockets of a service.
    pub(super) async fn bind(&mut self, role: Role) -> Result<Bound, CliError> {
        let (addresses, run) = match role {
            Role::TelemetryIngest => self.telemetry_ingest()?,
            Role::Forecaster => self.forecaster()?,
            Role::Optimizer => self.optimizer()?,
            Role::Gateway => self.gateway()?,
            Role::Console => self.console().await?,
            Role::Edge => self.edge().await?,
        };
        Ok(Bound {
            role,
            addresses,
            run,
        })
    }

    fn telemetry_ingest(&mut self) -> Result<Begun, CliError> {
        let (listener, address) = self.links.listener(Asked::Fleet)?;
        let deps = shoal_telemetry_ingest::Deps {
            clock: self.clock,
            log: self.store.log(),
            tables: self.store.tables(),
            listener,
        };
        let config = self.config.telemetry_ingest.clone();
        let run = shoal_telemetry_ingest::run(config, deps, self.stop.clone());
        Ok((vec![address], boxed(run)))
    }

    fn forecaster(&mut self) -> Result<Begun, CliError> {
        let (listener, address) = self.links.listener(Asked::Forecast)?;
        let deps = shoal_forecaster::Deps {
            clock: self.clock,
            tables: self.store.tables(),
            fleet: self.links.channel(Asked::Fleet)?,
            market: self.links.channel(Asked::Gateway)?,
            listener,
        };
        let config = self.config.forecaster.clone();
        let run = shoal_forecaster::run(config, deps, self.stop.clone());
        Ok((vec![address], boxed(run)))
    }

    fn optimizer(&mut self) -> Result<Begun, CliError> {
        let (listener, address) = self.links.listener(Asked::Plan)?;
        let deps = shoal_optimizer::Deps {
            clock: self.clock,
            log: self.store.log(),
            tables: self.store.tables(),
            fleet: self.links.channel(Asked::Fleet)?,
            forecast: self.links.channel(Asked::Forecast)?,
            listener,
        };
        let config = self.config.optimizer.clone();
        let run = shoal_optimizer::run(config, deps, self.stop.clone());
        Ok((vec![address], boxed(run)))
    }

    fn gateway(&mut self) -> Result<Begun, CliError> {
        let (listener, address) = self.links.listener(Asked::Gateway)?;
        let deps = shoal_gateway::Deps {
            clock: self.clock,
            log: self.store.log(),
            tables: self.store.tables(),
            operator: self.links.channel(Asked::Operator)?,
            latency: self.latency.clone(),
            listener,
            candidate: self.candidate(address),
            dial: shoal_gateway::Dial::new(self.links.dial()),
        };
        let config = self.config.gateway.clone();
        let run = shoal_gateway::run(config, deps, self.stop.clone());
        Ok((vec![address], boxed(run)))
    }

    /// With the log on Kafka other processes may dispatch the same pool.
    fn candidate(&self, address: SocketAddr) -> Candidate {
        if self.config.log.kafka().is_none() {
            return Candidate::alone();
        }
        let area = self.config.gateway.area.code();
        let process = self.config.log.process(&[Role::Gateway]);
        let holder = format!(
            "{process}/{}/{}",
            std::process::id(),
            self.clock.now().timestamp_micros()
        );
        let reached = self.config.grpc.advertise.clone();
        let reached = reached.unwrap_or_else(|| format!("{}://{address}", self.links.scheme()));
        Candidate::new(
            self.store.tables(),
            &format!("dispatch/{area}"),
            &holder,
            &reached,
        )
    }

    async fn console(&mut self) -> Result<Begun, CliError> {
        let (listen, address) = socket("web.listen", self.config.web.listen).await?;
        let deps = shoal_console::Deps {
            clock: self.clock,
            fleet: self.links.channel(Asked::Fleet)?,
            forecast: self.links.channel(Asked::Forecast)?,
            plan: self.links.channel(Asked::Plan)?,
            gateway: self.links.channel(Asked::Gateway)?,
            listen,
        };
        let config = self.config.console.clone();
        let run = shoal_console::run(config, deps, self.stop.clone());
        Ok((vec![address], boxed(run)))
    }

    async fn edge(&mut self) -> Result<Begun, CliError> {
        room_for(self.config.edge.max_connections);
        let deps = shoal_edge::Deps {
            clock: self.clock,
            log: self.store.log(),
            tables: self.store.tables(),
            latency: self.latency.clone(),
        };
        let edge = shoal_edge::Edge::bind(self.config.edge.clone(), deps)
            .await
            .map_err(|e| CliError::failed(&e))?;
        let address = edge.address();
        Ok((vec![address], boxed(edge.run(self.stop.clone()))))
    }
}

type Begun = (
    Vec<SocketAddr>,
    Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>,
);

fn boxed<E: Into<BoxError> + 'static>(
    run: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>> {
    Box::pin(async move { run.await.map_err(Into::into) })
}

/// Lets the process open as many files as `connections` need, as far as the system allows.
fn room_for(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(granted) if granted < wanted => tracing::warn!(
            granted,
            wanted,
            "{granted} files may be open, {wanted} are needed for edge.max_connections: raise the limit of the process (ulimit -Hn)"
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised: {error}");
        }
    }
}
