#![doc = include_str!("../README.md")]

mod bids;
mod command;
mod config;
mod control;
mod cycle;
mod decisions;
mod layout;
mod office;
mod quarter;
mod ready;
mod records;
pub mod replay;
mod results;
mod serve;
mod settle;
pub mod submission;
mod view;
mod wanted;

pub use config::Config;

use runtime::Clock;
use runtime::front::{self, Seat};
use runtime::latency::Probe;
use runtime::pipe::{Listener, PipeError};
use runtime::tasks::ends_all;
use store::{Candidate, Log, LogError, StoreError, Tables};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::office::Office;
use crate::view::Shared;

/// Group under which offsets are committed and records are kept.
pub const GROUP: &str = "gateway";

/// Real time before a gateway that could not hold the office stands for it again.
const STAND_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// What the gateway works with.
#[derive(Debug)]
pub struct Deps {
    /// The one clock.
    pub clock: Clock,
    /// Bids, plans and fleet state in; awards, prices, set-points and statements out.
    pub log: Log,
    /// Bids, awards, prices, metered intervals, statements.
    pub tables: Tables,
    /// `MarketOperator`: the market and the grid operator.
    pub operator: Channel,
    /// Shared with the edge: how long signals take to the wire.
    pub latency: Probe,
    /// Where `MarketService` and `DispatchService` are served.
    pub listener: Listener,
    /// One gateway of an area decides at a time.
    pub candidate: Candidate,
    /// How the one that decides is reached.
    pub dial: Dial,
}

type Reach = dyn Fn(&str) -> Option<Channel> + Send + Sync;

/// Makes a channel to an address; none if it is no address.
pub struct Dial(Box<Reach>);

impl Dial {
    /// Reaches an address by `reach`.
    #[must_use]
    pub fn new(reach: impl Fn(&str) -> Option<Channel> + Send + Sync + 'static) -> Self {
        Self(Box::new(reach))
    }

    /// For a gateway without rivals.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(|_| None)
    }
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dial")
    }
}

/// What ends the gateway.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be used.
    #[error("gateway.{key}: {what}")]
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
    /// The gRPC server ended.
    #[error(transparent)]
    Serve(#[from] PipeError),
}

impl Error {
    /// True if the same may succeed later: a broker or the database is away.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Log(error) => error.is_retryable(),
            Self::Store(error) => error.is_retryable(),
            Self::Config { .. } | Self::Serve(_) => false,
        }
    }
}

/// Runs the gateway until `stop`; then what is over is settled provisionally. Set-points sent expire by themselves.
///
/// With rivals it waits until it is elected, follows fleet and plans meanwhile, and passes calls on to who is. Once the office is lost
/// nothing is decided any more, and it waits again.
///
/// # Errors
/// [`Error`] for settings that cannot be used, or when the log, the tables or the server refuse for good. Whoever is away, market, log or
/// tables, is asked again for ever.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let Deps {
        clock,
        log,
        tables,
        operator,
        latency,
        listener,
        candidate,
        dial,
    } = deps;
    let shared = Shared::load(config.area, &tables, clock.now()).await?;
    let (seat, seated) = watch::channel(Seat::Nobody);
    let ended = stop.child_token();
    let office = Office {
        config: config.clone(),
        clock,
        log: log.clone(),
        tables: tables.clone(),
        operator,
        latency,
        shared: shared.clone(),
        told: std::sync::Mutex::default(),
    };
    let fleet = shared
        .clone()
        .follow_fleet(log.clone(), tables, ended.clone());
    let plans = shared
        .clone()
        .follow_plans(config.area, log.clone(), clock, ended.clone());
    let (a, b, c, d) = tokio::join!(
        ends_all(ended.clone(), answer(listener, seated, &ended)),
        ends_all(ended.clone(), fleet),
        ends_all(ended.clone(), plans),
        ends_all(
            ended.clone(),
            stand(&office, &candidate, &dial, &seat, &ended)
        ),
    );
    a.and(b.map_err(Error::from))
        .and(c.map_err(Error::from))
        .and(d)
}

/// Serves whoever has the seat; from the first time on that somebody has.
async fn answer(
    listener: Listener,
    mut seated: watch::Receiver<Seat>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    tokio::select! {
        _ = seated.wait_for(|seat| !matches!(seat, Seat::Nobody)) => {}
        () = stop.cancelled() => return Ok(()),
    }
    let routes = front::routes(seated);
    Ok(listener.serve(routes, stop.clone()).await?)
}

/// Stands for the office, holds it as long as it may, and stands again.
async fn stand(
    office: &Office,
    candidate: &Candidate,
    dial: &Dial,
    seat: &watch::Sender<Seat>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    loop {
        let tenure = tokio::select! {
            tenure = candidate.elected(|address| {
                seat.send_replace(dial.0(address).map_or(Seat::Nobody, Seat::There));
            }) => tenure,
            () = stop.cancelled() => return Ok(()),
        };
        let ended = stop.child_token();
        let held = office.hold(&tenure, seat, &ended);
        let lost = async {
            tenure.lost().await;
            tracing::warn!(
                "the office of the dispatcher is lost: nothing is decided here any more"
            );
            ended.cancel();
            std::future::pending().await
        };
        let held = tokio::select! {
            held = held => held,
            never = lost => never,
        };
        seat.send_replace(Seat::Nobody);
        tenure.resign().await;
        match held {
            Err(error) if error.is_retryable() && !stop.is_cancelled() => {
                tracing::error!(%error, "the office cannot be held for now: {error}");
                tokio::time::sleep(STAND_AGAIN).await;
            }
            held => held?,
        }
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}
