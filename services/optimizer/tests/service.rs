//! The running service against a fleet and a forecaster that answer from a fixed night in a depot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use portfolio::market::plan::PlanStatus;
use portfolio::market::{Area, Award, AwardId, Direction, Product};
use runtime::Clock;
use runtime::pipe::Pipe;
use shoal_optimizer::{Config, Deps};
use store::{Change, NewRecord, Store, topic};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use units::{Band, Currency, Interval, Power, Price, Series};
use wire::forecast::Published;
use wire::proto::fleet::v1 as fleet;
use wire::proto::fleet::v1::fleet_service_server::{FleetService, FleetServiceServer};
use wire::proto::forecast::v1 as forecast;
use wire::proto::forecast::v1::forecast_service_server::{ForecastService, ForecastServiceServer};
use wire::proto::portfolio::v1::GetPlanRequest;
use wire::proto::portfolio::v1::plan_service_client::PlanServiceClient;
use wire::proto::telemetry::v1::Needs;

const BUSES: usize = 40;
const KWH: i64 = 3_600_000;

fn start() -> DateTime<Utc> {
    "2026-01-12T05:40:00Z".parse().unwrap()
}

type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the optimizer does not ask this"))
}

/// Forty buses of 100 kW either way, in the depot until tomorrow morning.
struct Depot;

fn leaves() -> DateTime<Utc> {
    start() + TimeDelta::hours(25)
}

#[tonic::async_trait]
impl FleetService for Depot {
    async fn get_fleet(
        &self,
        _: Request<fleet::GetFleetRequest>,
    ) -> Result<Response<fleet::Fleet>, Status> {
        let evses = (0..BUSES)
            .map(|i| fleet::EvseState {
                evse_id: format!("D{i:02}/1"),
                station_id: format!("D{i:02}"),
                site_id: "depot".into(),
                class: "depot".into(),
                protocol: "ocpp2.1".into(),
                max_charge_watts: 100_000,
                max_discharge_watts: 100_000,
                charge_efficiency: 0.94,
                discharge_efficiency: 0.94,
                online: true,
                changed_at_micros: start().timestamp_micros(),
                session: Some(fleet::Session {
                    session_id: format!("s{i:02}"),
                    vehicle_id: None,
                    plugged_in_micros: (start() - TimeDelta::hours(2)).timestamp_micros(),
                    needs: Some(Needs {
                        departure_micros: Some(leaves().timestamp_micros()),
                        energy_joules: 100 * KWH,
                        stored_joules: Some(140 * KWH),
                        capacity_joules: Some(300 * KWH),
                        max_charge_watts: 100_000,
                        max_discharge_watts: 100_000,
                        floor_joules: 30 * KWH,
                    }),
                    added_joules: Some(0),
                    soc_ratio: None,
                }),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(fleet::Fleet {
            as_of_micros: start().timestamp_micros(),
            evses,
            sites: vec![fleet::Site {
                site_id: "depot".into(),
                name: "Depot".into(),
                import_limit_watts: 4_000_000,
                export_limit_watts: 4_000_000,
            }],
        }))
    }

    async fn list_sessions(
        &self,
        _: Request<fleet::ListSessionsRequest>,
    ) -> Result<Response<fleet::ListSessionsResponse>, Status> {
        not_asked()
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

/// The same buses in two scenarios; flat energy prices, FCR at 80 EUR/MW a block.
struct Forecaster;

#[tonic::async_trait]
impl ForecastService for Forecaster {
    async fn get_forecast(
        &self,
        request: Request<forecast::GetForecastRequest>,
    ) -> Result<Response<forecast::Forecast>, Status> {
        let quantity = wire::forecast::quantity(request.get_ref().quantity).unwrap();
        let value = match quantity.name() {
            "day_ahead_price" => 70.0,
            "fcr_price" => 80.0,
            _ => return Err(Status::not_found("no history")),
        };
        let band =
            Band::try_new(vec![0.1, 0.5, 0.9], vec![0.8 * value, value, 1.2 * value]).unwrap();
        let grid = start() - TimeDelta::minutes(40);
        let published = Published {
            id: "f".into(),
            pool: "pool".into(),
            quantity,
            bands: Series::try_new(grid, TimeDelta::minutes(15), vec![band; 200]).unwrap(),
            model: "fixed".into(),
            version: "1".into(),
            made_at: start(),
            input_until: start(),
            trained_from: start(),
            doubts: Vec::new(),
        };
        Ok(Response::new((&published).into()))
    }

    async fn get_scenarios(
        &self,
        _: Request<forecast::GetScenariosRequest>,
    ) -> Result<Response<forecast::GetScenariosResponse>, Status> {
        let stay = |i: usize| forecast::ExpectedStay {
            site_id: "depot".into(),
            class: "depot".into(),
            evse_id: Some(format!("D{i:02}/1")),
            from_micros: (start() - TimeDelta::hours(2)).timestamp_micros(),
            to_micros: leaves().timestamp_micros(),
            energy_joules: 100 * KWH,
            stored_joules: Some(140 * KWH),
            capacity_joules: Some(300 * KWH),
            max_charge_watts: 100_000,
            max_discharge_watts: 100_000,
            floor_joules: 30 * KWH,
            charge_efficiency: 0.94,
            discharge_efficiency: 0.94,
        };
        let scenario = |buses| forecast::Scenario {
            weight: 0.5,
            stays: (0..buses).map(stay).collect(),
        };
        Ok(Response::new(forecast::GetScenariosResponse {
            made_at_micros: start().timestamp_micros(),
            input_until_micros: start().timestamp_micros(),
            scenarios: vec![scenario(BUSES), scenario(BUSES - 10)],
        }))
    }

    type WatchForecastsStream = Watch<forecast::Forecast>;

    async fn watch_forecasts(
        &self,
        _: Request<forecast::WatchForecastsRequest>,
    ) -> Result<Response<Self::WatchForecastsStream>, Status> {
        not_asked()
    }
}

async fn running(stop: &CancellationToken, speed: f64) -> (Channel, Store, Clock) {
    let store = Store::in_memory().await.unwrap();
    let (fleet, fleet_listener) = Pipe::new("fleet");
    let (forecast, forecast_listener) = Pipe::new("forecast");
    let (plan, listener) = Pipe::new("plan");
    let fleet_router = Routes::new(FleetServiceServer::new(Depot));
    tokio::spawn(fleet_listener.serve(fleet_router, stop.clone()));
    let forecast_router = Routes::new(ForecastServiceServer::new(Forecaster));
    tokio::spawn(forecast_listener.serve(forecast_router, stop.clone()));
    let clock = Clock::accelerated(start(), speed);
    let deps = Deps {
        clock,
        log: store.log(),
        tables: store.tables(),
        fleet: fleet.channel(),
        forecast: forecast.channel(),
        listener,
    };
    tokio::spawn(shoal_optimizer::run(Config::default(), deps, stop.clone()));
    (plan.channel(), store, clock)
}

/// The next plan for which `wanted` holds.
async fn plan(
    client: &mut PlanServiceClient<Channel>,
    wanted: impl Fn(&portfolio::market::Plan) -> bool,
) -> (
    portfolio::market::Plan,
    Vec<portfolio::fleet::schedule::Schedule>,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(answer) = client.get_plan(GetPlanRequest {}).await {
            let made = wire::portfolio::plan_from_message(answer.into_inner()).unwrap();
            if wanted(&made.0) {
                return made;
            }
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no such plan in 120 s"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bus_gets_a_schedule_and_the_plan_is_kept() {
    let stop = CancellationToken::new();
    let (channel, store, _) = running(&stop, 1.0).await;
    let mut client = PlanServiceClient::new(channel);
    let (plan, schedules) = plan(&mut client, |p| p.status == PlanStatus::Feasible).await;
    assert_eq!(schedules.len(), BUSES);
    assert!(
        schedules
            .iter()
            .all(|s| s.session.is_some() && !s.steps.is_empty())
    );
    // 40 buses need 100 kWh each before they leave, within the 30 hours planned; of the first step only the rest is left.
    let left = |s: &portfolio::market::plan::PlanStep| {
        let ahead = Interval::try_new(s.interval.start().max(plan.solved_at), s.interval.end());
        ahead.map_or(0.0, Interval::hours)
    };
    let energy: f64 = plan.steps.iter().map(|s| s.baseline.kw() * left(s)).sum();
    assert!((energy - 40.0 * 100.0 / 0.94).abs() < 60.0, "{energy} kWh");
    let kept = store.tables().latest_plan(Area::Nl).await.unwrap().unwrap();
    assert_eq!(kept.1.len(), BUSES);
    assert!(store.log().newest(topic::PLANS).await.unwrap().total() >= 1);
    stop.cancel();
}

/// Every record of a topic that has some.
async fn read(store: &Store, topic: store::Topic) -> Vec<store::Record> {
    let mut reader = store.log().replay(topic, &Default::default()).unwrap();
    reader.next_batch(10_000).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bids_are_out_before_their_gate_and_an_award_is_held_by_the_next_plan() {
    let stop = CancellationToken::new();
    // 80 minutes until the FCR gate pass in 8 s.
    let (channel, store, clock) = running(&stop, 600.0).await;
    let gate: DateTime<Utc> = "2026-01-12T07:00:00Z".parse().unwrap();
    let (from, to) = (start(), start() + TimeDelta::hours(48));
    let bids = loop {
        let bids = store.tables().bids_between(from, to).await.unwrap();
        if !bids.is_empty() {
            break bids;
        }
        assert!(clock.now() < gate, "no bids before the gate");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(clock.now() < gate);
    let fcr: Vec<_> = bids.iter().filter(|b| b.product == Product::Fcr).collect();
    assert!(!fcr.is_empty());
    for bid in &fcr {
        assert_eq!(bid.gate_closes, gate);
        // The lean scenario has 30 buses: 3 MW / 1.25 at most.
        assert!(
            bid.volume <= Power::from_mw(2.0) && bid.built_at < gate,
            "{bid:?}"
        );
    }
    let newest = store.log().newest(topic::BIDS).await.unwrap();
    assert_eq!(newest.total(), bids.len() as u64);

    // What they were decided from is on the log beside them and gives the same bids again.
    let decided = read(&store, topic::BID_DECISIONS).await;
    let again = decided.iter().flat_map(|record| {
        let decision = wire::decode(&record.payload).unwrap();
        shoal_optimizer::decide_again(&decision).unwrap()
    });
    let again: Vec<_> = again.map(|bid| (bid.key, bid.payload)).collect();
    let logged = read(&store, topic::BIDS).await.into_iter();
    let logged: Vec<_> = logged.map(|bid| (bid.key, bid.payload)).collect();
    assert_eq!(logged[..again.len()], again[..], "to the byte");
    assert!(!again.is_empty());

    // An award for the block that runs now and the next: the planner must hold it.
    let award = Award {
        id: AwardId(fcr[0].id.0),
        bid: fcr[0].id,
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: Interval::try_new(start(), start() + TimeDelta::hours(8)).unwrap(),
        volume: Power::from_mw(1.0),
        price: Price::new(80.into(), Currency::Eur),
        awarded_at: start(),
    };
    let record = NewRecord {
        topic: topic::AWARDS,
        key: award.id.to_string(),
        payload: wire::encode(&wire::proto::market::v1::Award::from(&award)),
    };
    store
        .tables()
        .apply(
            Change::default()
                .awards(std::slice::from_ref(&award))
                .records([record]),
        )
        .await
        .unwrap();
    let mut client = PlanServiceClient::new(channel);
    let holds = |p: &portfolio::market::Plan| {
        p.steps
            .iter()
            .any(|s| s.held.iter().any(|h| h.volume == Power::from_mw(1.0)))
    };
    let (_, schedules) = plan(&mut client, holds).await;
    let up: Power = schedules.iter().map(|s| s.steps[1].up).sum();
    assert!(up >= Power::from_mw(1.0), "{up}");
    stop.cancel();
}
