//! What is sent is what arrives, for every domain type.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use chrono::{DateTime, Utc};
use fleet::metering::MeterInterval;
use fleet::schedule::{Schedule, Step};
use fleet::setpoint::Outcome;
use fleet::state::PowerAt;
use fleet::{
    Acknowledgement, Curve, Evse, EvseState, Mode, Needs, Protocol, Reading, Session, SessionState,
    Setpoint, Telemetry,
};
use market::plan::{Held, Plan, PlanStatus, PlanStep};
use market::statement::{Line, LineKind, Statement};
use market::{
    Area, Award, AwardId, Bid, BidId, BidStatus, Clearing, Direction, GridSignal, PlanId, Product,
};
use proptest::option;
use proptest::prelude::*;
use rust_decimal::Decimal;
use units::{Efficiency, Energy, Interval, Money, Power, Price, Soc};
use wire::proto;

fn name<T>() -> impl Strategy<Value = T>
where
    T: std::str::FromStr + std::fmt::Debug,
    T::Err: std::fmt::Debug,
{
    "[!-~]{1,64}".prop_map(|n| n.parse().unwrap())
}

fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    (-62_000_000_000_000_000_i64..250_000_000_000_000_000)
        .prop_map(|m| DateTime::from_timestamp_micros(m).unwrap())
}

fn interval() -> impl Strategy<Value = Interval> {
    (instant(), 1_i64..1_000_000_000_000).prop_map(|(start, micros)| {
        Interval::try_new(start, start + chrono::TimeDelta::microseconds(micros)).unwrap()
    })
}

fn curve() -> impl Strategy<Value = Curve> {
    prop::collection::btree_map(
        any::<i32>(),
        -1_000_000_i64..1_000_000,
        1..=fleet::mode::CURVE_POINTS,
    )
    .prop_map(|points| {
        let points = points.into_iter().map(|(at, watts)| fleet::CurvePoint {
            at,
            power: Power::from_watts(watts),
        });
        points.collect::<Vec<_>>().try_into().unwrap()
    })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::CentralSetpoint),
        Just(Mode::ChargingOnly),
        Just(Mode::Idle),
        curve().prop_map(Mode::LocalFrequency),
        curve().prop_map(Mode::CentralFrequency),
        any::<i32>().prop_map(Mode::Signal),
        flow().prop_map(|discharge| Mode::LocalLoadBalancing { discharge }),
    ]
}

fn flow() -> impl Strategy<Value = Power> {
    any::<i64>().prop_map(Power::from_watts)
}

fn size() -> impl Strategy<Value = Power> {
    (0..i64::MAX).prop_map(Power::from_watts)
}

fn volume() -> impl Strategy<Value = Power> {
    (1..i64::MAX).prop_map(Power::from_watts)
}

fn content() -> impl Strategy<Value = Energy> {
    (0..i64::MAX).prop_map(Energy::from_joules)
}

fn decimal() -> impl Strategy<Value = Decimal> {
    (any::<i64>(), 0_u32..10).prop_map(|(n, scale)| Decimal::new(n, scale))
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

fn efficiency() -> impl Strategy<Value = Efficiency> {
    (0.01_f64..=1.0).prop_map(|e| Efficiency::try_new(e).unwrap())
}

fn soc() -> impl Strategy<Value = Soc> {
    (0.0_f64..=1.0).prop_map(|s| Soc::try_new(s).unwrap())
}

fn price() -> impl Strategy<Value = Price> {
    (decimal(), one_of(&Area::ALL)).prop_map(|(d, a)| Price::new(d, a.currency()))
}

fn needs() -> impl Strategy<Value = Needs> {
    (
        option::of(instant()),
        content(),
        option::of(content()),
        option::of(content()),
        size(),
        size(),
        content(),
    )
        .prop_map(
            |(departure, energy, stored, capacity, max_charge, max_discharge, floor)| Needs {
                departure,
                energy,
                stored,
                capacity,
                max_charge,
                max_discharge,
                floor,
            },
        )
}

fn reading() -> impl Strategy<Value = Reading> {
    (
        name(),
        option::of(name()),
        instant(),
        option::of(flow()),
        option::of(content()),
        option::of(content()),
        option::of(soc()),
    )
        .prop_map(
            |(evse, session, at, power, import_register, export_register, soc)| Reading {
                evse,
                session,
                at,
                power,
                import_register,
                export_register,
                soc,
            },
        )
}

fn acknowledgement() -> impl Strategy<Value = Acknowledgement> {
    (
        name(),
        name(),
        option::of(name()),
        one_of(&[Outcome::Accepted, Outcome::Rejected, Outcome::Unreachable]),
        ".*",
        instant(),
        instant(),
    )
        .prop_map(
            |(setpoint, evse, signal, outcome, detail, sent_at, answered_at)| Acknowledgement {
                setpoint,
                evse,
                signal,
                outcome,
                detail,
                sent_at,
                answered_at,
            },
        )
}

fn telemetry() -> impl Strategy<Value = Telemetry> {
    prop_oneof![
        (
            name(),
            prop::collection::vec(name(), 0..4),
            any::<bool>(),
            instant()
        )
            .prop_map(|(station, evses, online, at)| Telemetry::Connection {
                station,
                evses,
                online,
                at
            }),
        (name(), name(), option::of(name()), instant()).prop_map(|(session, evse, vehicle, at)| {
            Telemetry::PluggedIn {
                session,
                evse,
                vehicle,
                at,
            }
        }),
        (name(), name(), needs(), instant()).prop_map(|(evse, session, needs, at)| {
            Telemetry::Needs {
                evse,
                session,
                needs,
                at,
            }
        }),
        reading().prop_map(Telemetry::Reading),
        (name(), name(), instant()).prop_map(|(session, evse, at)| Telemetry::Unplugged {
            session,
            evse,
            at
        }),
        acknowledgement().prop_map(Telemetry::Acknowledged),
    ]
}

fn evse() -> impl Strategy<Value = Evse> {
    let protocol = one_of(&[Protocol::Ocpp16, Protocol::Ocpp201, Protocol::Ocpp21]);
    (
        name(),
        name(),
        name(),
        "[a-z]{0,9}",
        protocol,
        size(),
        size(),
        efficiency(),
        efficiency(),
    )
        .prop_map(
            |(
                id,
                station,
                site,
                class,
                protocol,
                max_charge,
                max_discharge,
                charge_efficiency,
                discharge_efficiency,
            )| Evse {
                id,
                station,
                site,
                class,
                protocol,
                max_charge,
                max_discharge,
                charge_efficiency,
                discharge_efficiency,
            },
        )
}

fn session(evse: &Evse) -> impl Strategy<Value = SessionState> + use<> {
    let (evse, site) = (evse.id.clone(), evse.site.clone());
    let added = option::of(any::<i64>().prop_map(Energy::from_joules));
    (
        name(),
        option::of(name()),
        instant(),
        option::of(needs()),
        added,
        option::of(soc()),
    )
        .prop_map(
            move |(id, vehicle, plugged_in, needs, added, soc)| SessionState {
                session: Session {
                    id,
                    evse: evse.clone(),
                    site: site.clone(),
                    vehicle,
                    plugged_in,
                    unplugged: None,
                    needs,
                },
                added,
                soc,
            },
        )
}

fn evse_state() -> impl Strategy<Value = EvseState> {
    let power_at = || option::of((flow(), instant()).prop_map(|(power, at)| PowerAt { power, at }));
    evse().prop_flat_map(move |evse| {
        let stay = option::of(session(&evse));
        (
            Just(evse),
            any::<bool>(),
            instant(),
            stay,
            power_at(),
            power_at(),
            any::<bool>(),
        )
            .prop_map(
                |(evse, online, changed_at, session, power, setpoint, unresponsive)| EvseState {
                    evse,
                    online,
                    changed_at,
                    session,
                    power,
                    setpoint,
                    unresponsive,
                },
            )
    })
}

fn bid() -> impl Strategy<Value = Bid> {
    let statuses = one_of(&[
        BidStatus::Draft,
        BidStatus::Submitted,
        BidStatus::Acknowledged,
        BidStatus::Awarded,
        BidStatus::Rejected,
        BidStatus::Withdrawn,
    ]);
    let what = (one_of(&Area::ALL), one_of(&Product::ALL), direction());
    (
        any::<u128>(),
        what,
        interval(),
        volume(),
        option::of(price()),
        any::<bool>(),
        (instant(), instant()),
        0.0_f64..=1.0,
        (".*", statuses),
    )
        .prop_map(
            |(
                id,
                (area, product, direction),
                delivery,
                volume,
                price,
                divisible,
                times,
                p,
                rest,
            )| Bid {
                id: BidId(uuid::Uuid::from_u128(id)),
                area,
                product,
                direction,
                delivery,
                volume,
                price,
                divisible,
                gate_closes: times.0,
                built_at: times.1,
                delivery_probability: p,
                reason: rest.0,
                status: rest.1,
            },
        )
}

fn direction() -> impl Strategy<Value = Direction> {
    one_of(&[Direction::Up, Direction::Down, Direction::Symmetric])
}

fn award() -> impl Strategy<Value = Award> {
    let what = (one_of(&Area::ALL), one_of(&Product::ALL), direction());
    (
        any::<u128>(),
        any::<u128>(),
        what,
        interval(),
        volume(),
        price(),
        instant(),
    )
        .prop_map(
            |(id, bid, (area, product, direction), delivery, volume, price, awarded_at)| Award {
                id: AwardId(uuid::Uuid::from_u128(id)),
                bid: BidId(uuid::Uuid::from_u128(bid)),
                area,
                product,
                direction,
                delivery,
                volume,
                price,
                awarded_at,
            },
        )
}

fn statement() -> impl Strategy<Value = Statement> {
    let kinds = one_of(&[
        LineKind::Energy,
        LineKind::Imbalance,
        LineKind::Capacity,
        LineKind::Penalty,
    ]);
    let line = (
        kinds,
        one_of(&Product::ALL),
        interval(),
        any::<i64>(),
        decimal(),
    );
    (
        "[ -~]{1,20}",
        one_of(&Area::ALL),
        interval(),
        any::<u32>(),
        prop::collection::vec(line, 0..5),
        decimal(),
    )
        .prop_map(|(account, area, day, version, lines, total)| {
            let currency = area.currency();
            Statement {
                account,
                area,
                day,
                version,
                lines: lines
                    .into_iter()
                    .map(|(kind, product, interval, joules, amount)| Line {
                        kind,
                        product,
                        interval,
                        energy: Energy::from_joules(joules),
                        amount: Money::new(amount, currency),
                    })
                    .collect(),
                total: Money::new(total, currency),
            }
        })
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let step = (flow(), size(), size()).prop_map(|(power, up, down)| Step { power, up, down });
    (
        name(),
        option::of(name()),
        instant(),
        1_u32..=u32::MAX,
        prop::collection::vec(step, 0..5),
        ".*",
    )
        .prop_map(
            |(evse, session, start, step_seconds, steps, reason)| Schedule {
                evse,
                session,
                start,
                step_seconds,
                steps,
                reason,
            },
        )
}

fn plan() -> impl Strategy<Value = Plan> {
    let held =
        (one_of(&Product::ALL), size()).prop_map(|(product, volume)| Held { product, volume });
    let step = (
        interval(),
        flow(),
        flow(),
        flow(),
        prop::collection::vec(held, 0..3),
        ".*",
    )
        .prop_map(|(interval, baseline, low, high, held, reason)| PlanStep {
            interval,
            baseline,
            low,
            high,
            held,
            reason,
        });
    let status = one_of(&[
        PlanStatus::Optimal,
        PlanStatus::Feasible,
        PlanStatus::Fallback,
    ]);
    (
        any::<u128>(),
        one_of(&Area::ALL),
        instant(),
        instant(),
        status,
        option::of(0.0_f64..1e6),
        option::of(decimal()),
        prop::collection::vec(step, 0..4),
    )
        .prop_map(
            |(id, area, solved_at, data_until, status, relative_gap, expected, steps)| Plan {
                id: PlanId(uuid::Uuid::from_u128(id)),
                area,
                solved_at,
                data_until,
                status,
                relative_gap,
                expected: expected.map(|d| Money::new(d, area.currency())),
                steps,
            },
        )
}

/// Sends a value through its message and through bytes.
fn there_and_back<D, P>(value: &D) -> D
where
    P: prost::Message + Default + for<'a> From<&'a D>,
    D: TryFrom<P, Error = wire::WireError>,
{
    let bytes = wire::encode(&P::from(value));
    D::try_from(wire::decode::<P>(&bytes).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn telemetry_survives(value in telemetry()) {
        prop_assert_eq!(&there_and_back::<_, proto::telemetry::v1::Telemetry>(&value), &value);
    }

    #[test]
    fn fleet_state_survives(value in evse_state()) {
        prop_assert_eq!(&there_and_back::<_, proto::fleet::v1::EvseState>(&value), &value);
    }

    #[test]
    fn past_stays_survive(outlet in evse(), left in option::of(instant()), state in evse().prop_flat_map(|e| session(&e))) {
        let session = Session { unplugged: left, ..state.session };
        let value = wire::fleet::PastSession::new(session, state.added, &outlet);
        prop_assert_eq!(&there_and_back::<_, proto::fleet::v1::PastSession>(&value), &value);
    }

    #[test]
    fn sites_survive(id in name(), label in ".*", import_limit in size(), export_limit in size()) {
        let value = fleet::Site { id, name: label, import_limit, export_limit };
        prop_assert_eq!(&there_and_back::<_, proto::fleet::v1::Site>(&value), &value);
    }

    #[test]
    fn metered_intervals_survive(evse in name(), site in name(), interval in interval(), import in content(), export in content(),
                                 covered_seconds: u32, version: u32) {
        let value = MeterInterval { evse, site, interval, import, export, covered_seconds, version };
        prop_assert_eq!(&there_and_back::<_, proto::telemetry::v1::MeterInterval>(&value), &value);
    }

    #[test]
    fn bids_survive(value in bid()) {
        // A bid without a price keeps the currency of its area.
        prop_assert_eq!(&there_and_back::<_, proto::market::v1::Bid>(&value), &value);
    }

    #[test]
    fn awards_survive(value in award()) {
        prop_assert_eq!(&there_and_back::<_, proto::market::v1::Award>(&value), &value);
    }

    #[test]
    fn clearings_survive(area in one_of(&Area::ALL), product in one_of(&Product::ALL), delivery in interval(), price in price(), published_at in instant()) {
        let value = Clearing { area, product, delivery, price, published_at };
        prop_assert_eq!(&there_and_back::<_, proto::market::v1::Clearing>(&value), &value);
    }

    #[test]
    fn statements_survive(value in statement()) {
        prop_assert_eq!(&there_and_back::<_, proto::market::v1::Statement>(&value), &value);
    }

    #[test]
    fn signals_survive(id in "[ -~]{1,20}", at in instant(), deviation_mhz in option::of(-500.0_f64..500.0), afrr in option::of(flow())) {
        let value = GridSignal { id, at, deviation_mhz, afrr };
        prop_assert_eq!(&there_and_back::<_, proto::market::v1::GridSignal>(&value), &value);
    }

    #[test]
    fn setpoints_survive(id in name(), evse in name(), power in flow(), issued_at in instant(), expires_at in instant(),
                         signal in option::of(name()), reason in ".*", mode in mode()) {
        let value = Setpoint { id, evse, power, issued_at, expires_at, signal, reason, mode };
        prop_assert_eq!(&there_and_back::<_, proto::dispatch::v1::Setpoint>(&value), &value);
    }

    #[test]
    fn plans_survive_with_their_schedules(plan in plan(), schedules in prop::collection::vec(schedule(), 0..3)) {
        let bytes = wire::encode(&wire::portfolio::plan_message(&plan, &schedules));
        let back = wire::portfolio::plan_from_message(wire::decode(&bytes).unwrap()).unwrap();
        prop_assert_eq!(back, (plan, schedules));
    }

    #[test]
    fn no_bytes_bring_the_decoder_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::decode::<proto::telemetry::v1::Telemetry>(&bytes) {
            let _ = Telemetry::try_from(message);
        }
        if let Ok(message) = wire::decode::<proto::portfolio::v1::Plan>(&bytes) {
            let _ = wire::portfolio::plan_from_message(message);
        }
    }
}
