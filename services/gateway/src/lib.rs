#![doc = include_str!("../README.md")]

mod bids;
mod command;
mod config;
mod control;
mod cycle;
mod quarter;
mod ready;
mod records;
mod results;
mod serve;
mod settle;
mod view;
mod wanted;

use std::time::Duration;

pub use config::Config;

use chrono::TimeDelta;
use runtime::Clock;
use runtime::latency::Probe;
use runtime::pipe::{Listener, PipeError};
use store::{Log, LogError, StoreError, Tables};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use wire::proto::dispatch::v1::dispatch_service_server::DispatchServiceServer;
use wire::proto::market::v1::market_service_server::MarketServiceServer;

use crate::control::Control;
use crate::results::Results;
use crate::settle::Settler;
use crate::view::Shared;

/// Group under which offsets are committed and records are kept.
pub const GROUP: &str = "gateway";

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

/// Runs the gateway until `stop`; then what is over is settled provisionally. Set-points sent expire by themselves.
///
/// # Errors
/// [`Error`] for settings that cannot be used, or when the log, the tables or the server are lost. A market that cannot be reached is
/// asked again for ever.
pub async fn run(config: Config, deps: Deps, stop: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let Deps {
        clock,
        log,
        tables,
        operator,
        latency,
        listener,
    } = deps;
    let now = clock.now();
    let shared = Shared::load(config.area, &tables, now).await?;
    let pace = config.pace(clock.speed());
    let least_real =
        Duration::from_millis(u64::from(config.least_real_cycle_ms)).min(clock.real(pace.cycle));
    let control = Control::load(
        config.area,
        pace,
        least_real,
        shared.clone(),
        clock,
        log.clone(),
        tables.clone(),
    )
    .await?;
    let settler = Settler {
        area: config.area,
        tables: tables.clone(),
        clock,
        after: TimeDelta::minutes(i64::from(config.settle_after_minutes)),
        correct_after: TimeDelta::hours(i64::from(config.correct_after_hours)),
    };
    let results = Results::load(tables.clone(), shared.clone(), now).await?;
    let ended = stop.child_token();
    let router = Server::builder()
        .add_service(MarketServiceServer::new(serve::Market {
            area: config.area,
            clock,
            tables: tables.clone(),
            settler: settler.clone(),
        }))
        .add_service(DispatchServiceServer::new(serve::Dispatch {
            control: control.clone(),
            latency: latency.clone(),
            stop: ended.clone(),
        }));
    let (wake, woken) = watch::channel(0);
    tracing::info!(area = %config.area, cycle = %pace.cycle, "gateway of {}: one cycle each {}", config.area, pace.cycle);
    let ending = |task: Result<(), Error>| {
        // Whoever ends, ends all.
        ended.cancel();
        task
    };
    let (a, b, c, d, e, f, g, h) = tokio::join!(
        async {
            ending(
                listener
                    .serve(router, ended.clone())
                    .await
                    .map_err(Error::from),
            )
        },
        async {
            ending(
                shared
                    .clone()
                    .follow_fleet(log.clone(), tables.clone(), ended.clone())
                    .await
                    .map_err(Error::from),
            )
        },
        async {
            ending(
                shared
                    .clone()
                    .follow_plans(config.area, log.clone(), clock, ended.clone())
                    .await
                    .map_err(Error::from),
            )
        },
        async {
            ending(
                bids::run(
                    log.clone(),
                    tables.clone(),
                    clock,
                    operator.clone(),
                    ended.clone(),
                )
                .await,
            )
        },
        async { ending(results.run(operator.clone(), ended.clone()).await) },
        async {
            ending(
                results::signals(
                    shared.clone(),
                    operator.clone(),
                    latency,
                    clock,
                    wake,
                    ended.clone(),
                )
                .await,
            )
        },
        async { ending(control.run(woken, ended.clone()).await) },
        async { ending(settler.run(ended.clone()).await) },
    );
    a.and(b).and(c).and(d).and(e).and(f).and(g).and(h)
}
