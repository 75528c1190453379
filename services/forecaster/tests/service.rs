//! The running service against a fleet and a market that answer from a fixed history.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use runtime::Clock;
use runtime::pipe::Pipe;
use shoal_forecaster::{Config, Deps};
use store::{Store, topic};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use units::DeliveryDay;
use wire::forecast::{Published, Quantity};
use wire::proto::fleet::v1 as fleet;
use wire::proto::fleet::v1::fleet_service_server::{FleetService, FleetServiceServer};
use wire::proto::forecast::v1 as forecast;
use wire::proto::forecast::v1::forecast_service_client::ForecastServiceClient;
use wire::proto::market::v1 as market;
use wire::proto::market::v1::market_service_server::{MarketService, MarketServiceServer};
use wire::proto::telemetry::v1::Needs;

fn start() -> DateTime<Utc> {
    "2026-01-12T05:00:00Z".parse().unwrap()
}

type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the forecaster does not ask this"))
}

fn needs(departure: Option<DateTime<Utc>>) -> Needs {
    Needs {
        departure_micros: departure.map(|d| d.timestamp_micros()),
        energy_joules: 72_000_000,
        stored_joules: Some(36_000_000),
        capacity_joules: Some(216_000_000),
        max_charge_watts: 11_000,
        max_discharge_watts: 0,
        floor_joules: 0,
    }
}

/// Three cars, every day from 09:00 to 17:00 local, for ten weeks; one is plugged in.
struct Fleet;

#[tonic::async_trait]
impl FleetService for Fleet {
    async fn list_sessions(
        &self,
        request: Request<fleet::ListSessionsRequest>,
    ) -> Result<Response<fleet::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        let today = DeliveryDay::containing(start(), Amsterdam);
        let clock = |back: i64, hour| {
            today
                .plus(-back)
                .at(NaiveTime::from_hms_opt(hour, 0, 0).unwrap())
        };
        let sessions = (1..=70)
            .flat_map(|back| (0..3).map(move |car| (back, car)))
            .map(|(back, car)| fleet::PastSession {
                session_id: format!("{back}-{car}"),
                evse_id: format!("W{car}/1"),
                site_id: "work".into(),
                class: "workplace".into(),
                vehicle_id: None,
                plugged_in_micros: clock(back, 9).timestamp_micros(),
                unplugged_micros: Some(clock(back, 17).timestamp_micros()),
                needs: Some(needs(None)),
                added_joules: Some(72_000_000),
                max_charge_watts: 22_000,
                max_discharge_watts: 0,
                charge_efficiency: 0.94,
                discharge_efficiency: 0.94,
            })
            .filter(|s| {
                s.unplugged_micros
                    .is_some_and(|u| u >= request.from_micros && u < request.to_micros)
            })
            .collect();
        Ok(Response::new(fleet::ListSessionsResponse { sessions }))
    }

    async fn get_fleet(
        &self,
        _: Request<fleet::GetFleetRequest>,
    ) -> Result<Response<fleet::Fleet>, Status> {
        let evse = fleet::EvseState {
            evse_id: "W0/1".into(),
            station_id: "W0".into(),
            site_id: "work".into(),
            class: "workplace".into(),
            protocol: "ocpp2.1".into(),
            max_charge_watts: 22_000,
            charge_efficiency: 0.94,
            discharge_efficiency: 0.94,
            online: true,
            changed_at_micros: start().timestamp_micros(),
            session: Some(fleet::Session {
                session_id: "now".into(),
                vehicle_id: None,
                plugged_in_micros: (start() - TimeDelta::hours(2)).timestamp_micros(),
                needs: Some(needs(Some(start() + TimeDelta::hours(9)))),
                added_joules: Some(36_000_000),
                soc_ratio: None,
            }),
            ..Default::default()
        };
        Ok(Response::new(fleet::Fleet {
            as_of_micros: start().timestamp_micros(),
            evses: vec![evse],
            sites: Vec::new(),
        }))
    }

    async fn register(
        &self,
        _: Request<fleet::RegisterRequest>,
    ) -> Result<Response<fleet::RegisterResponse>, Status> {
        not_asked()
    }

    async fn state_needs(
        &self,
        _: Request<fleet::StateNeedsRequest>,
    ) -> Result<Response<fleet::StateNeedsResponse>, Status> {
        not_asked()
    }

    async fn list_intervals(
        &self,
        _: Request<fleet::ListIntervalsRequest>,
    ) -> Result<Response<fleet::ListIntervalsResponse>, Status> {
        not_asked()
    }

    type WatchFleetStream = Watch<fleet::EvseState>;

    async fn watch_fleet(
        &self,
        _: Request<fleet::GetFleetRequest>,
    ) -> Result<Response<Self::WatchFleetStream>, Status> {
        not_asked()
    }
}

/// Day-ahead prices of ten weeks: the hour of the day in EUR/MWh. No reserve was ever priced.
struct Market;

#[tonic::async_trait]
impl MarketService for Market {
    async fn list_prices(
        &self,
        request: Request<market::ListRequest>,
    ) -> Result<Response<market::ListPricesResponse>, Status> {
        let request = request.into_inner();
        let prices = (-70 * 24..18)
            .map(|hour| start() + TimeDelta::hours(hour))
            .map(|at| market::Clearing {
                area: "NL".into(),
                product: "day_ahead".into(),
                start_micros: at.timestamp_micros(),
                end_micros: (at + TimeDelta::hours(1)).timestamp_micros(),
                price: at.format("%H").to_string(),
                currency: "EUR".into(),
                published_at_micros: (at - TimeDelta::hours(24)).timestamp_micros(),
            })
            .filter(|p| p.start_micros >= request.from_micros && p.start_micros < request.to_micros)
            .collect();
        Ok(Response::new(market::ListPricesResponse { prices }))
    }

    async fn list_bids(
        &self,
        _: Request<market::ListRequest>,
    ) -> Result<Response<market::ListBidsResponse>, Status> {
        not_asked()
    }

    async fn list_awards(
        &self,
        _: Request<market::ListRequest>,
    ) -> Result<Response<market::ListAwardsResponse>, Status> {
        not_asked()
    }

    async fn list_statements(
        &self,
        _: Request<market::ListRequest>,
    ) -> Result<Response<market::ListStatementsResponse>, Status> {
        not_asked()
    }

    async fn next_gates(
        &self,
        _: Request<market::GatesRequest>,
    ) -> Result<Response<market::GatesResponse>, Status> {
        not_asked()
    }

    async fn withdraw_bid(
        &self,
        _: Request<market::WithdrawBidRequest>,
    ) -> Result<Response<market::WithdrawBidResponse>, Status> {
        not_asked()
    }
}

/// Starts the forecaster with its surroundings; answers its client end and the store.
async fn running(stop: &CancellationToken) -> (Channel, Store) {
    let store = Store::in_memory().await.unwrap();
    let (fleet, fleet_listener) = Pipe::new("fleet");
    let (market, market_listener) = Pipe::new("market");
    let (forecast, listener) = Pipe::new("forecast");
    let fleet_router = Routes::new(FleetServiceServer::new(Fleet));
    tokio::spawn(fleet_listener.serve(fleet_router, stop.clone()));
    let market_router = Routes::new(MarketServiceServer::new(Market));
    tokio::spawn(market_listener.serve(market_router, stop.clone()));
    let deps = Deps {
        clock: Clock::accelerated(start(), 600.0),
        tables: store.tables(),
        fleet: fleet.channel(),
        market: market.channel(),
        listener,
    };
    let config = Config {
        areas: [("work".parse().unwrap(), "north".to_owned())].into(),
        ..Config::default()
    };
    tokio::spawn(shoal_forecaster::run(config, deps, stop.clone()));
    (forecast.channel(), store)
}

fn ask(quantity: Quantity) -> forecast::GetForecastRequest {
    forecast::GetForecastRequest {
        quantity: forecast::Quantity::from(quantity).into(),
        from_micros: (start() + TimeDelta::hours(1)).timestamp_micros(),
        to_micros: (start() + TimeDelta::hours(40)).timestamp_micros(),
        ..Default::default()
    }
}

fn ask_of(quantity: Quantity, pool: &str, model: &str) -> forecast::GetForecastRequest {
    forecast::GetForecastRequest {
        pool: pool.to_owned(),
        model: model.to_owned(),
        ..ask(quantity)
    }
}

async fn first(client: &mut ForecastServiceClient<Channel>) {
    let mut seen = client
        .watch_forecasts(forecast::WatchForecastsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let one = tokio::time::timeout(Duration::from_secs(120), seen.next())
        .await
        .unwrap();
    one.unwrap().unwrap();
    // All of a round are published together; the book follows at once.
    while client.get_forecast(ask(Quantity::PluggedIn)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forecasts_are_published_with_their_origin_and_served() {
    let stop = CancellationToken::new();
    let (channel, store) = running(&stop).await;
    let mut client = ForecastServiceClient::new(channel);
    first(&mut client).await;

    let answer = client
        .get_forecast(ask(Quantity::PluggedIn))
        .await
        .unwrap()
        .into_inner();
    let plugged_in = Published::try_from(answer).unwrap();
    let noon = "2026-01-13T11:00:00Z".parse().unwrap();
    let night = "2026-01-13T02:00:00Z".parse().unwrap();
    // Three cars came each day; they may come as known drivers do, or as strangers, of whom there are sometimes fewer.
    let at_noon = plugged_in.bands.at(noon).unwrap();
    assert!((at_noon.median() - 3.0).abs() < 1e-9, "{at_noon:?}");
    let plausible = |count: &f64| (0.0..=4.0).contains(count);
    assert!(at_noon.values().iter().all(plausible), "{at_noon:?}");
    assert_eq!(plugged_in.bands.at(night).unwrap().values(), &[0.0; 7]);
    assert!(plugged_in.input_until <= plugged_in.made_at && !plugged_in.model.is_empty());

    let answer = client
        .get_forecast(ask(Quantity::DayAheadPrice))
        .await
        .unwrap()
        .into_inner();
    let price = Published::try_from(answer).unwrap();
    assert!((price.bands.at(noon).unwrap().median() - 11.0).abs() < 1e-9);

    let refused = client
        .get_forecast(ask(Quantity::FcrPrice))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");

    assert!(store.log().newest(topic::FORECASTS).await.unwrap().total() >= 5);
    let rows = store
        .tables()
        .forecasts_between("pool/plugged_in", start(), start() + TimeDelta::hours(1))
        .await
        .unwrap();
    assert_eq!(rows[0].model, plugged_in.model);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_bounds_and_the_challenger_are_told_apart_and_stored() {
    let stop = CancellationToken::new();
    let (channel, store) = running(&stop).await;
    let mut client = ForecastServiceClient::new(channel);
    first(&mut client).await;
    let noon: DateTime<Utc> = "2026-01-13T11:00:00Z".parse().unwrap();
    let mut median = async |quantity, pool: &str, model: &str| {
        let asked = client.get_forecast(ask_of(quantity, pool, model)).await;
        let published = Published::try_from(asked.unwrap().into_inner()).unwrap();
        (published.bands.at(noon).unwrap().median(), published.model)
    };
    let (pool, model) = median(Quantity::PluggedIn, "", "").await;
    assert_eq!(model, "availability-paths");
    // All cars stand at one site of one class.
    for part in ["site/work", "class/workplace", "area/north"] {
        let (own, _) = median(Quantity::PluggedIn, part, "").await;
        assert!((own - pool).abs() < 1e-9, "{part}: {own} of {pool}");
    }
    let (low, _) = median(Quantity::EnergyLowest, "", "").await;
    let (high, _) = median(Quantity::EnergyHighest, "", "").await;
    assert!(0.0 < low && low < high, "{low} {high}");
    let (naive, model) = median(Quantity::PluggedIn, "", "naive-same-weekday").await;
    assert!((naive - 3.0).abs() < 1e-9 && model == "naive-same-weekday");

    let unknown = client
        .get_forecast(ask_of(Quantity::PluggedIn, "site/moon", ""))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert!(unknown.message().contains("site/moon"), "{unknown}");
    for series in [
        "pool/energy_lowest",
        "pool/site/work/plugged_in",
        "pool/plugged_in/naive-same-weekday",
    ] {
        let rows = store
            .tables()
            .forecasts_between(series, start(), start() + TimeDelta::hours(2))
            .await
            .unwrap();
        let body: serde_json::Value = serde_json::from_str(&rows[0].body).unwrap();
        assert!(body["trained_from"].is_string(), "{series}: {body}");
        assert!(rows[0].data_until <= rows[0].issued_at);
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_takes_its_place_while_the_service_goes_on() {
    let stop = CancellationToken::new();
    let (channel, _store) = running(&stop).await;
    let mut client = ForecastServiceClient::new(channel);
    first(&mut client).await;
    let learned = async {
        loop {
            let answer = client.get_forecast(ask(Quantity::PluggedIn)).await;
            let doubts = answer.unwrap().into_inner().doubts;
            if !doubts.iter().any(|d| d.contains("not learned")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), learned)
        .await
        .unwrap();
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_hold_the_vehicle_plugged_in_and_the_cars_of_past_days() {
    let stop = CancellationToken::new();
    let (channel, _store) = running(&stop).await;
    let mut client = ForecastServiceClient::new(channel);
    first(&mut client).await;
    let answer = client
        .get_scenarios(forecast::GetScenariosRequest {
            from_micros: start().timestamp_micros(),
            to_micros: (start() + TimeDelta::hours(30)).timestamp_micros(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.scenarios.len(), 8);
    let mut others = Vec::new();
    for scenario in &answer.scenarios {
        let now: Vec<_> = scenario
            .stays
            .iter()
            .filter(|s| s.evse_id.is_some())
            .collect();
        assert_eq!(now.len(), 1);
        // 20 kWh asked for, 10 added: 10 to go, 20 inside.
        assert_eq!(
            (now[0].energy_joules, now[0].stored_joules),
            (36_000_000, Some(72_000_000))
        );
        others.push(scenario.stays.len() - now.len());
    }
    // W1 and W2 today, all three tomorrow, where they come as on past days.
    others.sort_unstable();
    assert!(others.contains(&5), "{others:?}");
    assert!((4..=6).contains(&others[4]), "{others:?}");
    stop.cancel();
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let store = Store::in_memory().await.unwrap();
    let (pipe, listener) = Pipe::new("forecast");
    let deps = Deps {
        clock: Clock::system(),
        tables: store.tables(),
        fleet: pipe.channel(),
        market: pipe.channel(),
        listener,
    };
    let config = Config {
        step_minutes: 7,
        ..Config::default()
    };
    let refused = shoal_forecaster::run(config, deps, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("step_minutes"), "{refused}");
}
