//! `FleetService`, played, and a working morning for it to tell of.

use chrono::TimeDelta;
use tonic::{Request, Response, Status};
use wire::proto::dispatch::v1::{Activation, Cycle, Product};
use wire::proto::fleet::v1::fleet_service_server::{FleetService, FleetServiceServer};
use wire::proto::fleet::v1::*;
use wire::proto::forecast::v1::{Band, Forecast, Quantity};
use wire::proto::market::v1::{Award, Bid, Gate, Statement, StatementLine};
use wire::proto::portfolio::v1::{Held, Plan, PlanStep, Schedule, ScheduleStep};
use wire::proto::telemetry::v1::Needs;

use super::{Streamed, World, start};

const KWH: i64 = 3_600_000;

pub fn server(world: World) -> FleetServiceServer<World> {
    FleetServiceServer::new(world)
}

#[tonic::async_trait]
impl FleetService for World {
    type WatchFleetStream = Streamed<EvseState>;
    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
    async fn get_fleet(&self, _: Request<GetFleetRequest>) -> Result<Response<Fleet>, Status> {
        Ok(Response::new(self.fleet.lock().unwrap().clone()))
    }
    async fn watch_fleet(
        &self,
        _: Request<GetFleetRequest>,
    ) -> Result<Response<Streamed<EvseState>>, Status> {
        Ok(Response::new(self.stream(Vec::new(), &self.evses)))
    }
    async fn state_needs(
        &self,
        _: Request<StateNeedsRequest>,
    ) -> Result<Response<StateNeedsResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        Ok(Response::new(ListSessionsResponse::default()))
    }
    async fn list_intervals(
        &self,
        _: Request<ListIntervalsRequest>,
    ) -> Result<Response<ListIntervalsResponse>, Status> {
        Ok(Response::new(ListIntervalsResponse::default()))
    }
}

/// `minutes` after the start of the stage, as the wire says it.
pub fn micros(minutes: i64) -> i64 {
    (start() + TimeDelta::minutes(minutes)).timestamp_micros()
}

/// An outlet at work: 11 kW, 12 of 30 kWh added, leaves in 7 hours.
pub fn evse(number: usize, site: &str) -> EvseState {
    EvseState {
        evse_id: format!("{site}-{number:02}/1"),
        station_id: format!("{site}-{number:02}"),
        site_id: site.to_owned(),
        class: "workplace".to_owned(),
        protocol: "ocpp2.1".to_owned(),
        max_charge_watts: 11_000,
        max_discharge_watts: 10_000,
        charge_efficiency: 0.94,
        discharge_efficiency: 0.94,
        online: true,
        changed_at_micros: micros(-1),
        session: Some(Session {
            session_id: format!("s-{site}-{number}"),
            vehicle_id: Some(format!("car-{number:03}")),
            plugged_in_micros: micros(-95),
            needs: Some(Needs {
                departure_micros: Some(micros(7 * 60)),
                energy_joules: 30 * KWH,
                stored_joules: Some(14 * KWH),
                capacity_joules: Some(60 * KWH),
                max_charge_watts: 11_000,
                max_discharge_watts: 10_000,
                floor_joules: 6 * KWH,
            }),
            added_joules: Some(12 * KWH),
            soc_ratio: Some(0.43),
        }),
        power_watts: Some(7_400),
        power_at_micros: Some(micros(-1)),
        setpoint_watts: Some(7_400),
        setpoint_at_micros: Some(micros(-2)),
        unresponsive: false,
    }
}

/// 230 outlets at 26 sites in every state, a plan, gates, awards and 15 minutes of cycles.
pub fn morning() -> World {
    let world = World::default();
    let mut fleet = Fleet {
        as_of_micros: micros(0),
        ..Fleet::default()
    };
    let kinds = [("office", 40, 400_000), ("depot", 30, 1_500_000)];
    for (site, count, limit) in kinds {
        fleet.sites.push(registered(site, limit));
        fleet.evses.extend((0..count).map(|n| shaped(n, site)));
    }
    for home in 0..24 {
        let site = format!("street-{home:02}");
        fleet.sites.push(registered(&site, 60_000));
        let count = if home < 16 { 7 } else { 6 };
        fleet
            .evses
            .extend((0..count).map(|n| shaped(n + home, &site)));
    }
    *world.plan.lock().unwrap() = Some(plan(&fleet));
    *world.fleet.lock().unwrap() = fleet;
    *world.past.lock().unwrap() = (-900..0).map(cycle).collect();
    book(&world);
    world
}

fn registered(site: &str, limit: i64) -> Site {
    Site {
        site_id: site.to_owned(),
        name: site[..1].to_uppercase() + &site[1..].replace('-', " "),
        import_limit_watts: limit,
        export_limit_watts: limit / 2,
    }
}

fn shaped(n: usize, site: &str) -> EvseState {
    let mut evse = evse(n, site);
    if site == "depot" {
        evse.class = "depot".to_owned();
        (evse.max_charge_watts, evse.power_watts) = (120_000, Some(62_000));
    }
    match n % 11 {
        0 => evse.session = None,
        2 | 6 => evse.power_watts = Some(-6_200),
        4 => evse.power_watts = Some(0),
        5 => evse.protocol = "ocpp1.6".to_owned(),
        _ => {}
    }
    if evse.session.is_none() {
        (evse.power_watts, evse.power_at_micros, evse.setpoint_watts) = (None, None, None);
    }
    match (site, n) {
        ("office", 3) => evse.unresponsive = true,
        ("office", 7) => evse.online = false,
        ("office", 8) => evse.power_at_micros = Some(micros(-55)),
        ("depot", 1) => leaves(&mut evse, 12, 30),
        ("depot", 9) => leaves(&mut evse, 30, 42),
        ("street-04", 5) => evse.session.as_mut().unwrap().needs = None,
        _ => {}
    }
    evse
}

/// The vehicle at `evse` leaves in `minutes` and still misses `kwh`.
pub fn leaves(evse: &mut EvseState, minutes: i64, kwh: i64) {
    let needs = evse.session.as_mut().unwrap().needs.as_mut().unwrap();
    needs.departure_micros = Some(micros(minutes));
    needs.energy_joules = (12 + kwh) * KWH;
    needs.max_charge_watts = evse.max_charge_watts;
}

fn plan(fleet: &Fleet) -> Plan {
    let schedule = |evse: &EvseState| Schedule {
        evse_id: evse.evse_id.clone(),
        session_id: evse.session.as_ref().map(|s| s.session_id.clone()),
        start_micros: micros(-10),
        step_seconds: 900,
        steps: vec![
            ScheduleStep {
                power_watts: evse.power_watts.unwrap_or(0),
                up_watts: 3_000,
                down_watts: 2_000
            };
            32
        ],
        reason: match evse.power_watts.unwrap_or(0) {
            p if p < 0 => "sells at 142 EUR/MWh, buys back after 11:00 at 61".to_owned(),
            0 => "waits for the price to fall after 11:00".to_owned(),
            _ => "holds 3.0 kW FCR up while it charges".to_owned(),
        },
    };
    Plan {
        id: "plan-0940".to_owned(),
        area: "NL".to_owned(),
        solved_at_micros: micros(-4),
        data_until_micros: micros(-5),
        status: "optimal".to_owned(),
        relative_gap: Some(2.1e-6),
        expected_amount: Some("-184.37".to_owned()),
        currency: "EUR".to_owned(),
        steps: (0..96).map(plan_step).collect(),
        schedules: fleet
            .evses
            .iter()
            .filter(|e| e.session.is_some())
            .map(schedule)
            .collect(),
    }
}

fn plan_step(i: i64) -> PlanStep {
    PlanStep {
        start_micros: micros(-10 + 15 * i),
        end_micros: micros(5 + 15 * i),
        baseline_watts: 1_240_000,
        low_watts: -600_000,
        high_watts: 2_900_000,
        held: vec![Held {
            product: "fcr".to_owned(),
            volume_watts: 400_000,
        }],
        reason: "fuse of the depot binds: 11.20 EUR/MWh".to_owned(),
    }
}

/// The cycle `seconds` after the start.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
pub fn cycle(seconds: i64) -> Cycle {
    let t = seconds as f64;
    let dip = if (-420..-300).contains(&seconds) {
        -140.0
    } else {
        0.0
    };
    let deviation = 18.0 * (t / 47.0).sin() + 9.0 * (t / 11.0).cos() + dip;
    let baseline = 1_240_000;
    let fcr = (400_000.0 * (deviation / 200.0).clamp(-1.0, 1.0)) as i64;
    let afrr = if seconds > -180 { -120_000 } else { 0 };
    let target = baseline + fcr + afrr;
    let at = (start() + TimeDelta::seconds(seconds)).timestamp_micros();
    Cycle {
        at_micros: at,
        signal_id: Some(format!("f-{seconds}")),
        deviation_mhz: Some(deviation),
        frequency_at_micros: Some(at),
        baseline_watts: baseline,
        fcr_watts: fcr,
        afrr_watts: afrr,
        target_watts: target,
        actual_watts: Some(
            target + (22_000.0 * (t / 5.0).sin()) as i64 + if dip < 0.0 { 14_000 } else { 0 },
        ),
        measured_evses: 198,
        connected_evses: 207,
        tolerance_watts: 40_000,
        shortfall_watts: 0,
        products: [
            ("fcr", 400_000, 452_000),
            ("afrr_up", 300_000, 281_000),
            ("afrr_down", 200_000, 350_000),
        ]
        .map(|(product, sold_watts, held_watts)| Product {
            product: product.to_owned(),
            sold_watts,
            held_watts,
        })
        .to_vec(),
        setpoints: 12,
        state: "running".to_owned(),
        alarms: Vec::new(),
        winner: if afrr == 0 {
            "fcr".to_owned()
        } else {
            "afrr".to_owned()
        },
    }
}

fn book(world: &World) {
    let mut book = world.market.lock().unwrap();
    book.gates = [
        ("fcr", -2 * 60 + 24 * 60),
        ("day_ahead", 80),
        ("afrr_up", 21 * 60),
    ]
    .map(|(product, closes)| Gate {
        product: product.to_owned(),
        closes_micros: micros(closes),
        delivery_start_micros: micros(14 * 60),
        delivery_end_micros: micros(38 * 60),
    })
    .to_vec();
    book.awards = vec![Award {
        id: "a-1".to_owned(),
        bid_id: "b-1".to_owned(),
        area: "NL".to_owned(),
        product: "fcr".to_owned(),
        direction: "symmetric".to_owned(),
        start_micros: micros(-100),
        end_micros: micros(140),
        volume_watts: 1_000_000,
        price: "60.00".to_owned(),
        currency: "EUR".to_owned(),
        awarded_at_micros: micros(-1_400),
    }];
    book.bids = vec![Bid {
        id: "b-1".to_owned(),
        product: "fcr".to_owned(),
        direction: "symmetric".to_owned(),
        start_micros: micros(-100),
        end_micros: micros(140),
        volume_watts: 1_000_000,
        price: Some("41.50".to_owned()),
        currency: "EUR".to_owned(),
        delivery_probability: 0.99,
        status: "awarded".to_owned(),
        ..Bid::default()
    }];
    book.statements = vec![Statement {
        account: "pool".to_owned(),
        start_micros: micros(-1_440),
        end_micros: micros(0),
        version: 1,
        lines: vec![StatementLine {
            kind: "energy".to_owned(),
            product: "day_ahead".to_owned(),
            energy_joules: 7_200_000,
            amount: "-0.31".to_owned(),
            ..StatementLine::default()
        }],
        total: "-0.31".to_owned(),
        currency: "EUR".to_owned(),
        ..Statement::default()
    }];
    book.activations = vec![Activation {
        award_id: "a-1".to_owned(),
        product: "fcr".to_owned(),
        volume_watts: 1_000_000,
        cycles: 900,
        cycles_in_tolerance: 896,
        mean_abs_error_watts: 9_500.0,
        followed: true,
        ..Activation::default()
    }];
    world.forecasts.lock().unwrap().push(Forecast {
        id: "f-1".to_owned(),
        quantity: Quantity::PowerUp.into(),
        start_micros: micros(0),
        step_seconds: 900,
        levels: vec![0.1, 0.5, 0.9],
        steps: vec![Band {
            values: vec![400_000.0, 500_000.0, 650_000.0],
        }],
        ..Forecast::default()
    });
}
