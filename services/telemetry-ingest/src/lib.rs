#![doc = include_str!("../README.md")]

mod consumer;
mod feed;
mod fold;
mod held;
mod live;
mod order;
mod packed;
mod resume;
mod server;
mod settings;
mod storer;

pub use settings::Config;

use runtime::Clock;
use runtime::pipe::{Listener, PipeError};
use runtime::tasks::ends_all;
use store::{Log, LogError, StoreError, Tables};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use wire::proto::fleet::v1::fleet_service_server::FleetServiceServer;

use crate::consumer::Consumer;
use crate::live::Live;
use crate::server::Fleet;

/// Group under which offsets are committed, and the state of EVSEs is saved that were saved out of turn.
pub const GROUP: &str = "telemetry-ingest";

/// Group under which the state of each part of the fleet is saved. What is saved of an EVSE under [`GROUP`] is newer.
const STATES_GROUP: &str = "telemetry-ingest/states";

/// Group under which it is saved how old the snapshots of a part of the fleet are.
const SLICES_GROUP: &str = "telemetry-ingest/slices";

/// What the service is given.
#[derive(Debug)]
pub struct Deps {
    /// Says what time it is.
    pub clock: Clock,
    /// Readings and set-points in; state, intervals and quarantine out.
    pub log: Log,
    /// Sites, EVSEs, sessions, intervals.
    pub tables: Tables,
    /// Where `FleetService` is served.
    pub listener: Listener,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("telemetry_ingest.{key}: {what}")]
    Config {
        /// Which.
        key: &'static str,
        /// Why.
        what: String,
    },
    /// The log is lost.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tables are lost.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state of the fleet cannot be written out.
    #[error("snapshot of the fleet: {0}")]
    Snapshot(#[from] std::io::Error),
    /// The gRPC server ended.
    #[error(transparent)]
    Serve(#[from] PipeError),
}

/// Runs the service until `stop`; what was taken in by then is stored before it returns.
///
/// # Errors
/// [`Error`] for settings that cannot be used, or when the log, the tables or the server are lost. A restart resumes from the last
/// checkpoint.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let live = Live::load(&deps.tables, &deps.log, &deps.clock).await?;
    // Whoever ends, ends all: a fleet that is no longer followed shall not be shown as if it were.
    let ended = stop.child_token();
    let server = Fleet {
        live: live.clone(),
        clock: deps.clock,
        log: deps.log.clone(),
        tables: deps.tables.clone(),
        stop: ended.clone(),
    };
    let router = Routes::new(FleetServiceServer::new(server));
    let consumer = Consumer::new(config, live, deps.clock, &deps.log, deps.tables).await?;
    let (served, consumed) = tokio::join!(
        ends_all(ended.clone(), deps.listener.serve(router, ended.clone())),
        ends_all(ended.clone(), consumer.run(ended.clone())),
    );
    consumed.and(served.map_err(Error::from))
}
