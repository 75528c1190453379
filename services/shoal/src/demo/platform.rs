//! The platform in one process: every service over the embedded log, SQLite and in-memory gRPC pipes.

use std::net::SocketAddr;
use std::time::Duration;

use market::Area;
use runtime::Clock;
use runtime::latency::Probe;
use runtime::pipe::{Listener, Pipe};
use runtime::tasks::{Duty, Tasks};
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::fleet::v1::{EvseState, GetFleetRequest};
use wire::proto::market::v1::market_operator_server::MarketOperatorServer;

use super::operator::Operator;

/// Real time that services get to finish what is in hand.
const GRACE: Duration = Duration::from_secs(10);
/// Real time in which stations connect and the first plan is made, before the clock runs.
pub(super) const WARM_UP: Duration = Duration::from_secs(4);

/// Ends of the pipes between the services.
pub(super) struct Pipes {
    fleet: (Pipe, Listener),
    forecast: (Pipe, Listener),
    plan: (Pipe, Listener),
    gateway: (Pipe, Listener),
    operator: (Pipe, Listener),
}

/// Channels to the running services.
#[derive(Debug, Clone)]
pub(super) struct Channels {
    pub(super) fleet: Channel,
    pub(super) gateway: Channel,
    /// Nobody may ask for plans when there is no console; its service runs all the same.
    _plan: Pipe,
}

impl Pipes {
    /// One pipe per service that is called.
    pub(super) fn new() -> Self {
        Self {
            fleet: Pipe::new("fleet"),
            forecast: Pipe::new("forecast"),
            plan: Pipe::new("plan"),
            gateway: Pipe::new("gateway"),
            operator: Pipe::new("operator"),
        }
    }
}

/// What the services are started with.
pub(super) struct Parts {
    pub(super) area: Area,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) operator: Operator,
    pub(super) edge: shoal_edge::Edge,
    pub(super) latency: Probe,
    /// Stays in progress at the start.
    pub(super) stays: usize,
    /// Bound socket of the console; none when headless.
    pub(super) console: Option<TcpListener>,
}

/// Starts every service under `stop`.
pub(super) fn start(parts: Parts, pipes: Pipes, stop: &CancellationToken) -> (Tasks, Channels) {
    let Parts {
        area,
        clock,
        store,
        operator,
        edge,
        latency,
        stays,
        console,
    } = parts;
    let (log, tables) = (store.log(), store.tables());
    let channels = Channels {
        fleet: pipes.fleet.0.channel(),
        gateway: pipes.gateway.0.channel(),
        _plan: pipes.plan.0.clone(),
    };
    let mut tasks = Tasks::new(stop.clone(), GRACE);
    let run = operator.clone().run(stop.clone());
    tasks.spawn("exchange", Duty::Essential, async move {
        run.await;
        Ok::<(), runtime::pipe::PipeError>(())
    });
    let router = Routes::new(MarketOperatorServer::new(operator));
    tasks.spawn(
        "market operator",
        Duty::Essential,
        pipes.operator.1.serve(router, stop.clone()),
    );
    tasks.spawn("edge", Duty::Essential, edge.run(stop.clone()));
    let ingest = shoal_telemetry_ingest::Deps {
        clock,
        log: log.clone(),
        tables: tables.clone(),
        listener: pipes.fleet.1,
    };
    tasks.spawn(
        "telemetry-ingest",
        Duty::Essential,
        shoal_telemetry_ingest::run(Default::default(), ingest, stop.clone()),
    );
    let forecaster = shoal_forecaster::Deps {
        clock,
        tables: tables.clone(),
        fleet: pipes.fleet.0.channel(),
        market: pipes.gateway.0.channel(),
        listener: pipes.forecast.1,
    };
    let config = shoal_forecaster::Config {
        zone: area.zone(),
        ..Default::default()
    };
    tasks.spawn(
        "forecaster",
        Duty::Essential,
        shoal_forecaster::run(config, forecaster, stop.clone()),
    );
    let optimizer = shoal_optimizer::Deps {
        clock,
        log: log.clone(),
        tables: tables.clone(),
        fleet: pipes.fleet.0.channel(),
        forecast: pipes.forecast.0.channel(),
        listener: pipes.plan.1,
    };
    let seen = fleet_is_in(pipes.fleet.0.channel(), stays);
    let stopped = stop.clone();
    tasks.spawn("optimizer", Duty::Essential, async move {
        seen.await;
        let config = shoal_optimizer::Config {
            area,
            ..Default::default()
        };
        shoal_optimizer::run(config, optimizer, stopped).await
    });
    let gateway = shoal_gateway::Deps {
        clock,
        log,
        tables,
        operator: pipes.operator.0.channel(),
        latency,
        listener: pipes.gateway.1,
        candidate: store::Candidate::alone(),
        dial: shoal_gateway::Dial::nobody(),
    };
    let config = shoal_gateway::Config {
        area,
        ..Default::default()
    };
    tasks.spawn(
        "gateway",
        Duty::Essential,
        shoal_gateway::run(config, gateway, stop.clone()),
    );
    if let Some(listen) = console {
        let console = shoal_console::Deps {
            clock,
            fleet: pipes.fleet.0.channel(),
            forecast: pipes.forecast.0.channel(),
            plan: pipes.plan.0.channel(),
            gateway: pipes.gateway.0.channel(),
            listen,
        };
        let config = shoal_console::Config {
            zone: area.zone(),
            ..Default::default()
        };
        tasks.spawn(
            "console",
            Duty::Essential,
            shoal_console::run(config, console, stop.clone()),
        );
    }
    (tasks, channels)
}

/// Waits until `stays` vehicles have said what they need, or until the clock is about to run: the first plan shall be one
/// for the fleet that is there.
async fn fleet_is_in(fleet: Channel, stays: usize) {
    const LOOK_AGAIN: Duration = Duration::from_millis(50);
    let mut client = FleetServiceClient::new(fleet).max_decoding_message_size(usize::MAX);
    let deadline = tokio::time::Instant::now() + WARM_UP / 2;
    while tokio::time::Instant::now() < deadline {
        if let Ok(answer) = client.get_fleet(GetFleetRequest {}).await {
            let stated = |e: &EvseState| e.session.as_ref().is_some_and(|s| s.needs.is_some());
            if answer
                .into_inner()
                .evses
                .iter()
                .filter(|e| stated(e))
                .count()
                >= stays
            {
                return;
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Opens the socket of the console.
///
/// # Errors
/// The address and why it cannot be had.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, crate::cli::CliError> {
    TcpListener::bind(address).await.map_err(|e| {
        crate::cli::CliError::Input(format!(
            "--listen: met {address}, which cannot be opened ({e}), expected a free address"
        ))
    })
}
