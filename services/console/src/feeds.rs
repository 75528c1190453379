//! Follows the other services and folds what they say into the state. Each feed starts again after its service went away.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};
use wire::proto::dispatch::v1::WatchRequest;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::fleet::v1::GetFleetRequest;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::forecast::v1::WatchForecastsRequest;
use wire::proto::forecast::v1::forecast_service_client::ForecastServiceClient;
use wire::proto::market::v1::market_service_client::MarketServiceClient;
use wire::proto::market::v1::{GatesRequest, ListRequest};
use wire::proto::portfolio::v1::GetPlanRequest;
use wire::proto::portfolio::v1::plan_service_client::PlanServiceClient;

use crate::App;
use crate::config::real_seconds;
use crate::state::{Source, State};

/// The largest message accepted: a fleet of 100 000 outlets with their sessions.
pub(crate) const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// Real time between attempts to reach a service.
const AGAIN: Duration = Duration::from_secs(1);

/// Real time between questions about gates and awards.
const MARKET_POLL: Duration = Duration::from_secs(2);

/// Real time after which the whole fleet is asked for again, in case a change was lost with a connection.
const WHOLE_FLEET: Duration = Duration::from_secs(30);

/// Real time a question may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Awards shown and counted: those that are delivered about now.
const NEAR: TimeDelta = TimeDelta::hours(24);

/// Starts all feeds; they end with the stop of `app`.
pub fn spawn(app: &App) {
    tokio::spawn(keep(app.clone(), Source::Fleet, fleet));
    tokio::spawn(keep(app.clone(), Source::Plan, plans));
    tokio::spawn(keep(app.clone(), Source::Dispatch, cycles));
    tokio::spawn(keep(app.clone(), Source::Forecast, forecasts));
    tokio::spawn(keep(app.clone(), Source::Market, market));
}

/// Runs `follow` again and again until the stop.
async fn keep<F, W>(app: App, source: Source, follow: F)
where
    F: Fn(App) -> W,
    W: Future<Output = Result<(), Status>>,
{
    loop {
        let ended = tokio::select! {
            ended = follow(app.clone()) => ended,
            () = app.stop.cancelled() => return,
        };
        let why = ended
            .err()
            .map_or_else(|| "the stream ended".to_owned(), |e| e.message().to_owned());
        let now = app.clock.now();
        if app.shared.write(|state| state.lost(source, now, &why)) {
            tracing::warn!(source = source.name(), "{} is away: {why}", source.name());
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = app.stop.cancelled() => return,
        }
    }
}

impl App {
    fn fold(&self, source: Source, change: impl FnOnce(&mut State)) {
        let now = self.clock.now();
        self.shared.write(|state| {
            state.heard(source, now);
            change(state);
        });
    }
}

async fn fleet(app: App) -> Result<(), Status> {
    let channel = app.services.fleet.clone();
    let mut client = FleetServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    // The stream first, so that no change falls between the two answers.
    let mut changes = client.watch_fleet(GetFleetRequest {}).await?.into_inner();
    let mut whole = tokio::time::interval(WHOLE_FLEET);
    loop {
        tokio::select! {
            _ = whole.tick() => {
                let fleet = within(client.get_fleet(GetFleetRequest {})).await?;
                app.fold(Source::Fleet, |state| state.take_fleet(fleet));
            }
            change = changes.next() => match change {
                Some(evse) => {
                    let evse = evse?;
                    app.fold(Source::Fleet, |state| state.take_evse(evse));
                }
                None => return Ok(()),
            }
        }
    }
}

async fn plans(app: App) -> Result<(), Status> {
    let channel = app.services.plan.clone();
    let mut client = PlanServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    let plans = client.watch_plans(GetPlanRequest {}).await?.into_inner();
    match within(client.get_plan(GetPlanRequest {})).await {
        Ok(plan) => app.fold(Source::Plan, |state| state.take_plan(plan)),
        Err(none) if none.code() == tonic::Code::NotFound => app.fold(Source::Plan, |_| ()),
        Err(other) => return Err(other),
    }
    each(plans, |plan| {
        app.fold(Source::Plan, |state| state.take_plan(plan))
    })
    .await
}

async fn cycles(app: App) -> Result<(), Status> {
    let mut client = DispatchServiceClient::new(app.services.gateway.clone());
    let cycles = client.watch(WatchRequest {}).await?.into_inner();
    let window = app.config.trace(app.clock.speed());
    each(cycles, |cycle| {
        app.fold(Source::Dispatch, |state| state.take_cycle(cycle, window))
    })
    .await
}

async fn forecasts(app: App) -> Result<(), Status> {
    let mut client = ForecastServiceClient::new(app.services.forecast.clone());
    let forecasts = client
        .watch_forecasts(WatchForecastsRequest::default())
        .await?
        .into_inner();
    app.fold(Source::Forecast, |_| ());
    each(forecasts, |forecast| {
        app.fold(Source::Forecast, |state| {
            state.forecasts.insert(forecast.quantity, forecast);
        });
    })
    .await
}

async fn market(app: App) -> Result<(), Status> {
    let channel = app.services.gateway.clone();
    let mut client = MarketServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    loop {
        let gates = within(client.next_gates(GatesRequest {})).await?.gates;
        let now = app.clock.now();
        let ahead = NEAR.max(real_seconds(MARKET_POLL.as_secs_f64(), app.clock.speed()) * 2);
        let awards = within(client.list_awards(span(now - NEAR, now + ahead)))
            .await?
            .awards;
        app.fold(Source::Market, |state| {
            state.gates = gates;
            state.awards = awards;
        });
        tokio::time::sleep(MARKET_POLL).await;
    }
}

pub(crate) fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> ListRequest {
    ListRequest {
        from_micros: from.timestamp_micros(),
        to_micros: to.timestamp_micros(),
    }
}

/// Hands every message of a stream to `take`.
async fn each<T>(mut stream: Streaming<T>, mut take: impl FnMut(T)) -> Result<(), Status> {
    while let Some(message) = stream.next().await {
        take(message?);
    }
    Ok(())
}

/// The answer, or `DEADLINE_EXCEEDED`.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {PATIENCE:?}"
        ))),
    }
}
