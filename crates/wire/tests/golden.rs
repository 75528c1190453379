//! One message per family, byte by byte: what is on the log today must be readable tomorrow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, EvseState, Protocol, Setpoint, Telemetry};
use market::plan::{Held, Plan, PlanStatus, PlanStep};
use market::{Area, Bid, BidId, BidStatus, Direction, PlanId, Product};
use rust_decimal::Decimal;
use units::{Band, Currency, Efficiency, Interval, Power, Price, Series};
use uuid::Uuid;
use wire::forecast::{Published, Quantity};
use wire::{WireError, proto};

fn start() -> DateTime<Utc> {
    "2026-03-29T01:00:00Z".parse().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn setpoint() -> Setpoint {
    Setpoint {
        id: "sp-1".parse().unwrap(),
        evse: "ST1/1".parse().unwrap(),
        power: Power::from_watts(-7_400),
        issued_at: start(),
        expires_at: start() + TimeDelta::seconds(90),
        signal: Some("f-1".parse().unwrap()),
        reason: "FCR".to_owned(),
        mode: fleet::Mode::default(),
    }
}

fn bid() -> Bid {
    Bid {
        id: BidId(Uuid::from_u128(1)),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: Interval::try_new(start(), start() + TimeDelta::hours(4)).unwrap(),
        volume: Power::from_mw(1.0),
        price: Some(Price::new(Decimal::new(4210, 2), Currency::Eur)),
        divisible: true,
        gate_closes: start() - TimeDelta::hours(16),
        built_at: start() - TimeDelta::hours(17),
        delivery_probability: 0.95,
        reason: "evening".to_owned(),
        status: BidStatus::Draft,
    }
}

#[test]
fn dispatch_bytes_stand() {
    let bytes = wire::encode(&proto::dispatch::v1::Setpoint::from(&setpoint()));
    assert_eq!(
        hex(&bytes),
        concat!(
            "0a0473702d3112055354312f311898c6ffffffffffffff012080889687f4c3930328809d8bb2f4c393033203",
            "662d313a03464352"
        )
    );
}

#[test]
fn market_bytes_stand() {
    let bytes = wire::encode(&proto::market::v1::Bid::from(&bid()));
    assert_eq!(
        hex(&bytes),
        concat!(
            "0a2430303030303030302d303030302d303030302d303030302d30303030303030303030303112024e4c1a03",
            "666372220973796d6d65747269632880889687f4c393033080a8d0d9a9c4930338c0843d420534322e31304a",
            "034555525001588088adbd9dc293036080c0de8890c2930369666666666666ee3f72076576656e696e677a05",
            "6472616674"
        )
    );
}

#[test]
fn telemetry_bytes_stand() {
    let plugged = Telemetry::PluggedIn {
        session: "s-1".parse().unwrap(),
        evse: "ST1/1".parse().unwrap(),
        vehicle: None,
        at: start(),
    };
    let bytes = wire::encode(&proto::telemetry::v1::Telemetry::from(&plugged));
    assert_eq!(
        hex(&bytes),
        "12150a03732d3112055354312f312080889687f4c39303"
    );
}

#[test]
fn fleet_bytes_stand() {
    let state = EvseState {
        evse: Evse {
            id: "ST1/1".parse().unwrap(),
            station: "ST1".parse().unwrap(),
            site: "depot".parse().unwrap(),
            class: "depot".to_owned(),
            protocol: Protocol::Ocpp21,
            max_charge: Power::from_kw(120.0),
            max_discharge: Power::ZERO,
            charge_efficiency: Efficiency::try_new(0.94).unwrap(),
            discharge_efficiency: Efficiency::try_new(0.94).unwrap(),
        },
        online: true,
        changed_at: start(),
        session: None,
        power: None,
        setpoint: None,
        unresponsive: false,
    };
    let bytes = wire::encode(&proto::fleet::v1::EvseState::from(&state));
    assert_eq!(
        hex(&bytes),
        concat!(
            "0a055354312f3112035354311a056465706f7422056465706f742a076f637070322e3130c0a9074114ae47e1",
            "7a14ee3f4914ae47e17a14ee3f50015880889687f4c39303"
        )
    );
}

#[test]
fn forecast_bytes_stand() {
    let bytes = wire::encode(&proto::forecast::v1::Forecast::from(&published()));
    assert_eq!(
        hex(&bytes),
        concat!(
            "0a03662d311204706f6f6c18012080889687f4c3930328840732189a9999999999b93f000000000000e03fcd",
            "ccccccccccec3f3a1a0a18000000000000f03f00000000000000400000000000000c4042056e616976654a01",
            "315080889687f4c393035880889687f4c39303608088a2ce8bb792036a047468696e"
        )
    );
}

fn published() -> Published {
    let band = Band::try_new(vec![0.1, 0.5, 0.9], vec![1.0, 2.0, 3.5]).unwrap();
    Published {
        id: "f-1".to_owned(),
        pool: "pool".to_owned(),
        quantity: Quantity::PluggedIn,
        bands: Series::try_new(start(), TimeDelta::minutes(15), vec![band]).unwrap(),
        model: "naive".to_owned(),
        version: "1".to_owned(),
        made_at: start(),
        input_until: start(),
        trained_from: start() - TimeDelta::weeks(8),
        doubts: vec!["thin".to_owned()],
    }
}

#[test]
fn a_forecast_is_read_back_with_its_origin() {
    let message = proto::forecast::v1::Forecast::from(&published());
    assert_eq!(Published::try_from(message).unwrap(), published());
}

#[test]
fn portfolio_bytes_stand() {
    let plan = Plan {
        id: PlanId(Uuid::from_u128(2)),
        area: Area::Nl,
        solved_at: start(),
        data_until: start(),
        status: PlanStatus::Feasible,
        relative_gap: None,
        expected: None,
        steps: vec![PlanStep {
            interval: Interval::try_new(start(), start() + TimeDelta::minutes(15)).unwrap(),
            baseline: Power::from_kw(250.0),
            low: Power::from_kw(-100.0),
            high: Power::from_kw(900.0),
            held: vec![Held {
                product: Product::Fcr,
                volume: Power::from_mw(1.0),
            }],
            reason: "holding 1 MW FCR".to_owned(),
        }],
    };
    let bytes = wire::encode(&wire::portfolio::plan_message(&plan, &[]));
    assert_eq!(
        hex(&bytes),
        concat!(
            "0a2430303030303030302d303030302d303030302d303030302d30303030303030303030303212024e4c1880",
            "889687f4c393032080889687f4c393032a086665617369626c6542034555524a420880889687f4c393031080",
            "daa9b4f7c393031890a10f20e0f2f9ffffffffffff0128a0f73632090a0366637210c0843d3a10686f6c6469",
            "6e672031204d5720464352"
        )
    );
}

fn field_of(error: &WireError) -> &str {
    error.field().unwrap()
}

#[test]
fn an_absent_power_is_not_a_command_to_stop() {
    let message = proto::dispatch::v1::Setpoint {
        power_watts: None,
        ..proto::dispatch::v1::Setpoint::from(&setpoint())
    };
    let error = Setpoint::try_from(message).unwrap_err();
    assert_eq!(error.to_string(), "power_watts is missing");
}

#[test]
fn errors_name_the_field() {
    let good = || proto::market::v1::Bid::from(&bid());
    let refused = |message| Bid::try_from(message).unwrap_err();
    let bad = |change: fn(&mut proto::market::v1::Bid)| {
        let mut message = good();
        change(&mut message);
        refused(message)
    };
    for (error, field) in [
        (bad(|b| b.product = "coal".into()), "product"),
        (bad(|b| b.volume_watts = 0), "volume_watts"),
        (bad(|b| b.price = Some("1,5".into())), "price"),
        (bad(|b| b.end_micros = b.start_micros), "end_micros"),
        (
            bad(|b| b.delivery_probability = f64::NAN),
            "delivery_probability",
        ),
        (bad(|b| b.id = String::new()), "id"),
        (bad(|b| b.built_at_micros = i64::MAX), "built_at_micros"),
    ] {
        assert_eq!(field_of(&error), field, "{error}");
    }
}

#[test]
fn a_nested_error_names_the_way_to_the_field() {
    let message = proto::telemetry::v1::Telemetry {
        event: Some(proto::telemetry::v1::telemetry::Event::Needs(
            proto::telemetry::v1::NeedsStated {
                evse_id: "ST1/1".into(),
                session_id: "s-1".into(),
                needs: Some(proto::telemetry::v1::Needs {
                    energy_joules: -1,
                    ..Default::default()
                }),
                at_micros: 0,
            },
        )),
    };
    let error = Telemetry::try_from(message).unwrap_err();
    assert_eq!(
        error.to_string(),
        "needs.needs.energy_joules: -1 is negative, expected at least 0"
    );
}

#[test]
fn bytes_of_another_kind_are_refused() {
    let error = wire::decode::<proto::dispatch::v1::Setpoint>(&[0xff, 0xff]).unwrap_err();
    assert!(error.to_string().contains("Setpoint"), "{error}");
}
