//! The other services, played over in-memory pipes with the wire interface of the real ones.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::large_futures,
    reason = "each test uses a part; a test says what it met"
)]

pub mod chromium;
pub mod fleet;
pub mod market;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use runtime::Clock;
use runtime::pipe::{Listener, Pipe};
use shoal_console::{App, Config, Deps};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::proto::dispatch::v1::dispatch_service_server::{DispatchService, DispatchServiceServer};
use wire::proto::dispatch::v1::*;
use wire::proto::forecast::v1::forecast_service_server::{ForecastService, ForecastServiceServer};
use wire::proto::forecast::v1::*;
use wire::proto::portfolio::v1::plan_service_server::{PlanService, PlanServiceServer};
use wire::proto::portfolio::v1::{GetPlanRequest, Plan};

pub type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages kept for a stream that lags.
const KEPT: usize = 4_096;

/// What the services say when asked, and what they say by themselves.
#[derive(Clone)]
pub struct World {
    pub fleet: Arc<Mutex<wire::proto::fleet::v1::Fleet>>,
    pub evses: broadcast::Sender<wire::proto::fleet::v1::EvseState>,
    pub plan: Arc<Mutex<Option<Plan>>>,
    pub plans: broadcast::Sender<Plan>,
    pub past: Arc<Mutex<Vec<Cycle>>>,
    pub cycles: broadcast::Sender<Cycle>,
    pub forecasts: Arc<Mutex<Vec<Forecast>>>,
    pub more_forecasts: broadcast::Sender<Forecast>,
    pub market: Arc<Mutex<market::Book>>,
    pub commands: Arc<Mutex<Vec<CommandRequest>>>,
    /// Ends the services and their streams.
    pub stop: CancellationToken,
}

impl Default for World {
    fn default() -> Self {
        Self {
            fleet: Arc::default(),
            evses: broadcast::Sender::new(KEPT),
            plan: Arc::default(),
            plans: broadcast::Sender::new(KEPT),
            past: Arc::default(),
            cycles: broadcast::Sender::new(KEPT),
            forecasts: Arc::default(),
            more_forecasts: broadcast::Sender::new(KEPT),
            market: Arc::default(),
            commands: Arc::default(),
            stop: CancellationToken::new(),
        }
    }
}

/// A console on a loopback port with all its services.
pub struct Stage {
    pub world: World,
    pub app: App,
    pub address: std::net::SocketAddr,
    pub stop: CancellationToken,
    /// Stops the services alone.
    pub services: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.services.cancel();
        self.stop.cancel();
    }
}

pub fn start() -> DateTime<Utc> {
    "2026-03-02T09:40:00Z".parse().unwrap()
}

/// Starts the console at [`start`] with the services of `world`; none of them if `alone`.
pub async fn stage(world: World, speed: f64, config: Config, alone: bool) -> Stage {
    let services = world.stop.clone();
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listen.local_addr().unwrap();
    let (fleet, fleet_server) = Pipe::new("fleet");
    let (forecast, forecast_server) = Pipe::new("forecast");
    let (plan, plan_server) = Pipe::new("plan");
    let (gateway, gateway_server) = Pipe::new("gateway");
    if !alone {
        serve(
            &world,
            fleet_server,
            forecast_server,
            plan_server,
            gateway_server,
            &services,
        );
    }
    let deps = Deps {
        clock: Clock::accelerated(start(), speed),
        fleet: fleet.channel(),
        forecast: forecast.channel(),
        plan: plan.channel(),
        gateway: gateway.channel(),
        listen,
    };
    let stop = CancellationToken::new();
    let (app, listen) = App::start(config, deps, stop.clone());
    let router = shoal_console::router(app.clone());
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move {
        axum::serve(listen, router)
            .with_graceful_shutdown(stopped)
            .await
    });
    Stage {
        world,
        app,
        address,
        stop,
        services,
    }
}

fn serve(
    world: &World,
    fleet: Listener,
    forecast: Listener,
    plan: Listener,
    gateway: Listener,
    stop: &CancellationToken,
) {
    let w = world.clone();
    let routers = [
        (fleet, Routes::new(fleet::server(w.clone()))),
        (forecast, Routes::new(ForecastServiceServer::new(w.clone()))),
        (plan, Routes::new(PlanServiceServer::new(w.clone()))),
        (
            gateway,
            Routes::new(market::server(w.clone())).add_service(DispatchServiceServer::new(w)),
        ),
    ];
    for (listener, router) in routers {
        tokio::spawn(listener.serve(router, stop.clone()));
    }
}

/// `first`, then what comes.
impl World {
    fn stream<T: Clone + Send + 'static>(
        &self,
        first: Vec<T>,
        more: &broadcast::Sender<T>,
    ) -> Streamed<T> {
        let stop = self.stop.clone();
        let mut more = more.subscribe();
        Box::pin(async_stream::stream! {
            for message in first {
                yield Ok(message);
            }
            while let Some(Ok(message)) = stop.run_until_cancelled(more.recv()).await {
                yield Ok(message);
            }
        })
    }
}

#[tonic::async_trait]
impl PlanService for World {
    type WatchPlansStream = Streamed<Plan>;
    async fn get_plan(&self, _: Request<GetPlanRequest>) -> Result<Response<Plan>, Status> {
        let plan = self.plan.lock().unwrap().clone();
        plan.map(Response::new)
            .ok_or_else(|| Status::not_found("no plan yet"))
    }
    async fn watch_plans(
        &self,
        _: Request<GetPlanRequest>,
    ) -> Result<Response<Streamed<Plan>>, Status> {
        Ok(Response::new(self.stream(Vec::new(), &self.plans)))
    }
}

#[tonic::async_trait]
impl ForecastService for World {
    type WatchForecastsStream = Streamed<Forecast>;
    async fn get_forecast(
        &self,
        _: Request<GetForecastRequest>,
    ) -> Result<Response<Forecast>, Status> {
        Err(Status::not_found("none"))
    }
    async fn get_scenarios(
        &self,
        _: Request<GetScenariosRequest>,
    ) -> Result<Response<GetScenariosResponse>, Status> {
        Err(Status::not_found("none"))
    }
    async fn watch_forecasts(
        &self,
        _: Request<WatchForecastsRequest>,
    ) -> Result<Response<Streamed<Forecast>>, Status> {
        let first = self.forecasts.lock().unwrap().clone();
        Ok(Response::new(self.stream(first, &self.more_forecasts)))
    }
}

#[tonic::async_trait]
impl DispatchService for World {
    type WatchStream = Streamed<Cycle>;
    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Streamed<Cycle>>, Status> {
        let past = self.past.lock().unwrap().clone();
        Ok(Response::new(self.stream(past, &self.cycles)))
    }
    async fn list_activations(
        &self,
        _: Request<ListActivationsRequest>,
    ) -> Result<Response<ListActivationsResponse>, Status> {
        let activations = self.market.lock().unwrap().activations.clone();
        Ok(Response::new(ListActivationsResponse { activations }))
    }
    async fn command(
        &self,
        request: Request<CommandRequest>,
    ) -> Result<Response<CommandResponse>, Status> {
        let command = request.into_inner();
        if command.reason.contains("not now") {
            return Err(Status::failed_precondition(
                "a second person must release the kill switch",
            ));
        }
        let state = match command.kind() {
            command_request::Kind::Hold => "held",
            command_request::Kind::Kill => "killed",
            command_request::Kind::Release | command_request::Kind::Unspecified => "running",
        };
        self.commands.lock().unwrap().push(command);
        Ok(Response::new(CommandResponse {
            state: state.to_owned(),
        }))
    }
    async fn latency(
        &self,
        _: Request<LatencyRequest>,
    ) -> Result<Response<LatencyResponse>, Status> {
        Ok(Response::new(LatencyResponse::default()))
    }
}
