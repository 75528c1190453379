//! The promise: whatever the pool asks within the limits, the vehicle leaves with what it needs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::envelope::{Horizon, State, envelope};
use fleet::state::{EvseState, SessionState};
use fleet::{Evse, Needs, Protocol, Session};
use proptest::prelude::*;
use units::{Efficiency, Energy, Power};

fn start() -> DateTime<Utc> {
    "2026-01-10T18:00:00Z".parse().unwrap()
}

const HORIZON: Horizon = Horizon {
    decision: TimeDelta::seconds(60),
    margin: TimeDelta::seconds(30),
};

/// Needs `kwh` within `hours`, holds 30 of 60 kWh with a floor of 10 kWh, 11 kW both ways at 90 %.
fn car(kwh: f64, hours: f64, protocol: Protocol, stored: bool) -> EvseState {
    let efficiency = Efficiency::try_new(0.9).unwrap();
    let most = Power::from_kw(11.0);
    EvseState {
        evse: Evse {
            id: "e".parse().unwrap(),
            station: "s".parse().unwrap(),
            site: "g".parse().unwrap(),
            class: "workplace".to_owned(),
            protocol,
            max_charge: most,
            max_discharge: most,
            charge_efficiency: efficiency,
            discharge_efficiency: efficiency,
        },
        online: true,
        changed_at: start(),
        session: Some(SessionState {
            session: Session {
                id: "stay".parse().unwrap(),
                evse: "e".parse().unwrap(),
                site: "g".parse().unwrap(),
                vehicle: None,
                plugged_in: start(),
                unplugged: None,
                needs: Some(Needs {
                    departure: Some(
                        start()
                            + TimeDelta::seconds(
                                (hours * 3_600.0).round().to_string().parse().unwrap(),
                            ),
                    ),
                    energy: Energy::from_kwh(kwh),
                    stored: stored.then(|| Energy::from_kwh(30.0)),
                    capacity: stored.then(|| Energy::from_kwh(60.0)),
                    max_charge: most,
                    max_discharge: most,
                    floor: Energy::from_kwh(10.0),
                }),
            },
            added: Some(Energy::ZERO),
            soc: None,
        }),
        power: None,
        setpoint: None,
        unresponsive: false,
    }
}

fn added(state: &EvseState) -> Energy {
    state.session.as_ref().unwrap().added.unwrap()
}

fn apply(state: &mut EvseState, power: Power, seconds: i64) {
    let kwh = power.over(TimeDelta::seconds(seconds)).kwh();
    let inside = if kwh > 0.0 { kwh * 0.9 } else { kwh / 0.9 };
    let session = state.session.as_mut().unwrap();
    session.added = Some(session.added.unwrap() + Energy::from_kwh(inside));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_powers_within_the_limits_keep_the_departure_and_the_band(
        kwh in 0.0_f64..28.0, hours in 1.0_f64..8.0, asked in prop::collection::vec(0.0_f64..1.0, 1..20),
        v2g in any::<bool>(), stored in any::<bool>(),
    ) {
        let reachable = (hours - 0.05) * 11.0 * 0.9;
        let kwh = kwh.min(reachable);
        let protocol = if v2g { Protocol::Ocpp21 } else { Protocol::Ocpp16 };
        let mut state = car(kwh, hours, protocol, stored);
        let departure = state.session.as_ref().unwrap().session.needs.as_ref().unwrap().departure.unwrap();
        let mut now = start();
        let mut n = 0;
        while now + TimeDelta::seconds(60) <= departure {
            let limits = envelope(&state, now, HORIZON);
            prop_assert!(limits.low <= limits.high);
            let span = (limits.high - limits.low).kw();
            let power = limits.low + Power::from_kw(span * asked[n % asked.len()]);
            if !v2g || !stored {
                prop_assert!(limits.low >= Power::ZERO, "unknown or one-way batteries never discharge");
            }
            apply(&mut state, power, 60);
            if stored {
                prop_assert!(added(&state).kwh() >= -20.0 - 1e-3, "floor");
                prop_assert!(added(&state).kwh() <= 30.0 + 11.0 * 0.9 / 60.0, "full, within a minute of charging");
            }
            now += TimeDelta::seconds(60);
            n += 1;
        }
        let left = (departure - now).num_seconds();
        let limits = envelope(&state, now, HORIZON);
        apply(&mut state, limits.low, left);
        prop_assert!(added(&state).kwh() >= kwh - 0.02, "left with {} of {kwh} kWh", added(&state).kwh());
    }
}

#[test]
fn no_time_to_spare_is_full_power_outside_the_pool() {
    let state = car(9.9, 1.0, Protocol::Ocpp21, true);
    let limits = envelope(&state, start(), HORIZON);
    assert_eq!(limits.state, State::Locked);
    assert_eq!(
        (limits.low, limits.high),
        (Power::from_kw(11.0), Power::from_kw(11.0))
    );
    let roomy = envelope(&car(9.9, 2.0, Protocol::Ocpp21, true), start(), HORIZON);
    assert!(
        roomy.is_flexible() && roomy.low == Power::from_kw(-11.0),
        "{roomy:?}"
    );
}

#[test]
fn who_said_nothing_charges_plainly() {
    let mut state = car(10.0, 5.0, Protocol::Ocpp21, true);
    state
        .session
        .as_mut()
        .unwrap()
        .session
        .needs
        .as_mut()
        .unwrap()
        .departure = None;
    assert_eq!(envelope(&state, start(), HORIZON).state, State::Unmanaged);
    state.session.as_mut().unwrap().session.needs = None;
    let limits = envelope(&state, start(), HORIZON);
    assert_eq!(
        (limits.state, limits.low),
        (State::Unmanaged, Power::from_kw(11.0))
    );
}

#[test]
fn who_is_away_or_offline_is_told_nothing() {
    let mut state = car(10.0, 5.0, Protocol::Ocpp21, true);
    state.online = false;
    assert_eq!(envelope(&state, start(), HORIZON).state, State::Absent);
    state.online = true;
    state.session = None;
    assert_eq!(envelope(&state, start(), HORIZON).state, State::Absent);
}

#[test]
fn an_unmet_need_after_departure_is_charged_and_a_met_one_is_left_alone() {
    let late = start() + TimeDelta::hours(6);
    let mut state = car(10.0, 5.0, Protocol::Ocpp21, true);
    assert_eq!(envelope(&state, late, HORIZON).state, State::Locked);
    state.session.as_mut().unwrap().added = Some(Energy::from_kwh(12.0));
    let limits = envelope(&state, late, HORIZON);
    assert!(
        limits.low >= Power::ZERO,
        "nothing is taken from a vehicle that may leave any moment"
    );
}

#[test]
fn a_one_way_car_charges_at_six_amperes_or_not_at_all() {
    let mut state = car(10.0, 9.0, Protocol::Ocpp16, false);
    state.evse.max_discharge = Power::ZERO;
    assert_eq!(
        envelope(&state, start(), HORIZON).min_charge,
        Power::from_watts(4_140)
    );
    // 50 Wh still needed do not fill a minute at 6 A: the need is rounded up, the car stops by itself.
    state.session.as_mut().unwrap().added = Some(Energy::from_kwh(9.95));
    let limits = envelope(&state, start(), HORIZON);
    assert_eq!(
        (limits.low, limits.high),
        (Power::ZERO, Power::from_watts(4_140))
    );
}

#[test]
fn energy_that_may_have_left_since_the_last_reading_is_counted() {
    use fleet::state::PowerAt;
    let now = start() + TimeDelta::minutes(30);
    let mut state = car(20.0, 5.0, Protocol::Ocpp21, true);
    let quiet = envelope(&state, now, HORIZON).laxity.unwrap();
    state.power = Some(PowerAt {
        power: Power::from_kw(3.0),
        at: now - TimeDelta::minutes(15),
    });
    assert_eq!(
        envelope(&state, now, HORIZON).laxity.unwrap(),
        quiet,
        "charging counts when it is measured"
    );
    state.setpoint = Some(PowerAt {
        power: Power::from_kw(-9.0),
        at: now - TimeDelta::minutes(10),
    });
    let lost = quiet - envelope(&state, now, HORIZON).laxity.unwrap();
    // 9 kW for a quarter hour is 2.5 kWh inside; at 9.9 kW inside that is 15 min 9 s.
    assert_eq!(lost.num_seconds(), 909);
}
