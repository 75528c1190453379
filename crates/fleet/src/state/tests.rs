use super::*;
use crate::setpoint::Outcome;
use crate::{Acknowledgement, Needs, Protocol, SessionId};
use chrono::TimeDelta;
use proptest::prelude::*;
use units::Efficiency;

fn evse(n: usize) -> Evse {
    Evse {
        id: id(n),
        station: format!("north-{}", n / 2).parse().unwrap(),
        site: "north".parse().unwrap(),
        class: "depot".to_owned(),
        protocol: Protocol::Ocpp21,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(11.0),
        charge_efficiency: Efficiency::try_new(0.9).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.8).unwrap(),
    }
}

fn id(n: usize) -> EvseId {
    format!("north-{}/{}", n / 2, n % 2 + 1).parse().unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_742_400 + seconds, 0).unwrap()
}

fn now() -> DateTime<Utc> {
    at(86_400)
}

fn fleet(count: usize) -> FleetState {
    let mut fleet = FleetState::default();
    for n in 0..count {
        fleet.register(evse(n), at(-1));
    }
    fleet
}

fn session(name: &str) -> SessionId {
    name.parse().unwrap()
}

fn plug_in(n: usize, name: &str, seconds: i64) -> Telemetry {
    Telemetry::PluggedIn {
        session: session(name),
        evse: id(n),
        vehicle: None,
        at: at(seconds),
    }
}

fn unplug(n: usize, name: &str, seconds: i64) -> Telemetry {
    Telemetry::Unplugged {
        session: session(name),
        evse: id(n),
        at: at(seconds),
    }
}

fn sample(n: usize, seconds: i64) -> Reading {
    Reading {
        evse: id(n),
        session: None,
        at: at(seconds),
        power: None,
        import_register: None,
        export_register: None,
        soc: None,
    }
}

fn registers(n: usize, seconds: i64, import_wh: i64, export_wh: i64) -> Telemetry {
    Telemetry::Reading(Reading {
        import_register: Some(Energy::from_wh(import_wh)),
        export_register: Some(Energy::from_wh(export_wh)),
        ..sample(n, seconds)
    })
}

fn power(n: usize, seconds: i64, kw: f64) -> Telemetry {
    Telemetry::Reading(Reading {
        power: Some(Power::from_kw(kw)),
        ..sample(n, seconds)
    })
}

fn needs() -> Needs {
    Needs {
        departure: Some(at(30_000)),
        energy: Energy::from_kwh(20.0),
        stored: None,
        capacity: Some(Energy::from_kwh(50.0)),
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        floor: Energy::ZERO,
    }
}

fn state_needs(n: usize, name: &str, needs: Needs, seconds: i64) -> Telemetry {
    Telemetry::Needs {
        evse: id(n),
        session: session(name),
        needs,
        at: at(seconds),
    }
}

fn told(name: &str, kw: f64, seconds: i64) -> Setpoint {
    Setpoint {
        id: name.parse().unwrap(),
        evse: id(0),
        power: Power::from_kw(kw),
        mode: crate::Mode::default(),
        issued_at: at(seconds),
        expires_at: at(seconds + 900),
        signal: None,
        reason: String::new(),
    }
}

fn answered(name: &str, outcome: Outcome, seconds: i64) -> Telemetry {
    Telemetry::Acknowledged(Acknowledgement {
        setpoint: name.parse().unwrap(),
        evse: id(0),
        signal: None,
        outcome,
        detail: String::new(),
        sent_at: at(seconds),
        answered_at: at(seconds),
    })
}

fn apply(fleet: &mut FleetState, events: &[Telemetry]) -> Vec<Refusal> {
    events
        .iter()
        .flat_map(|event| fleet.apply(event, now()).refused)
        .collect()
}

fn added(fleet: &FleetState) -> Option<Energy> {
    fleet.get(&id(0)).unwrap().session.as_ref().unwrap().added
}

#[test]
fn energy_reaches_the_battery_less_what_the_charger_loses_both_ways() {
    let mut fleet = fleet(1);
    let events = [
        plug_in(0, "s", 0),
        registers(0, 0, 1_000_000, 5_000),
        registers(0, 3_600, 1_010_000, 5_000),
    ];
    assert_eq!(apply(&mut fleet, &events), vec![]);
    assert_eq!(added(&fleet), Some(Energy::from_kwh(9.0)));
    assert_eq!(
        apply(&mut fleet, &[registers(0, 7_200, 1_010_000, 13_000)]),
        vec![]
    );
    assert_eq!(added(&fleet), Some(Energy::from_kwh(9.0 - 10.0)));
}

#[test]
fn nothing_measured_is_unknown_not_zero() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "s", 0), power(0, 60, 7.0)]);
    assert_eq!(added(&fleet), None);
}

#[test]
fn without_registers_the_state_of_charge_tells_what_was_added() {
    let mut fleet = fleet(1);
    let soc = |seconds, share| {
        Telemetry::Reading(Reading {
            soc: Some(Soc::try_new(share).unwrap()),
            ..sample(0, seconds)
        })
    };
    let events = [
        plug_in(0, "s", 0),
        state_needs(0, "s", needs(), 1),
        soc(10, 0.2),
        soc(3_600, 0.5),
    ];
    assert_eq!(apply(&mut fleet, &events), vec![]);
    assert_eq!(added(&fleet), Some(Energy::from_kwh(15.0)));
}

#[test]
fn a_stay_never_counts_energy_of_the_one_before() {
    let mut fleet = fleet(1);
    let events = [
        plug_in(0, "a", 0),
        registers(0, 0, 0, 0),
        registers(0, 600, 1_000, 0),
        // Charges on unseen until it leaves, 3 kWh more.
        unplug(0, "a", 1_800),
        plug_in(0, "b", 1_900),
        registers(0, 1_910, 4_000, 0),
        registers(0, 2_500, 5_000, 0),
    ];
    assert_eq!(apply(&mut fleet, &events), vec![]);
    assert_eq!(added(&fleet), Some(Energy::from_kwh(0.9)));
}

#[test]
fn the_idle_register_before_plug_in_is_where_the_stay_begins() {
    let mut fleet = fleet(1);
    let events = [
        registers(0, 0, 4_000, 0),
        plug_in(0, "a", 60),
        registers(0, 660, 5_000, 0),
    ];
    assert_eq!(apply(&mut fleet, &events), vec![]);
    assert_eq!(added(&fleet), Some(Energy::from_kwh(0.9)));
}

#[test]
fn a_missed_unplugging_ends_the_stay_when_the_next_vehicle_comes() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "a", 0)]);
    let effect = fleet.apply(&plug_in(0, "b", 500), now());
    let ended = effect.ended.unwrap().session;
    assert_eq!((ended.id, ended.unplugged), (session("a"), Some(at(500))));
    assert_eq!(
        apply(&mut fleet, &[unplug(0, "a", 600), plug_in(0, "a", 600)]),
        vec![
            Refusal::GoneSession {
                session: session("a"),
                evse: id(0)
            },
            Refusal::GoneSession {
                session: session("a"),
                evse: id(0)
            },
        ]
    );
}

#[test]
fn a_late_sample_of_the_stay_before_is_metered_and_changes_nothing_now() {
    let mut fleet = fleet(1);
    let late = |seconds| {
        let Telemetry::Reading(mut reading) = registers(0, seconds, 500, 0) else {
            unreachable!()
        };
        reading.session = Some(session("a"));
        reading.power = Some(Power::from_kw(11.0));
        Telemetry::Reading(reading)
    };
    apply(
        &mut fleet,
        &[
            plug_in(0, "a", 0),
            registers(0, 10, 0, 0),
            unplug(0, "a", 600),
        ],
    );
    apply(
        &mut fleet,
        &[
            plug_in(0, "b", 700),
            registers(0, 700, 1_000, 0),
            power(0, 701, 3.0),
        ],
    );
    let effect = fleet.apply(&late(300), now());
    assert!(effect.accepted.is_some() && effect.refused.is_empty() && effect.changed.is_empty());
    let effect = fleet.apply(&late(650), now());
    assert!(
        effect.accepted.is_none() && effect.refused.len() == 1,
        "not of that stay"
    );
}

#[test]
fn figures_that_cannot_be_are_taken_out_one_by_one() {
    let mut fleet = fleet(1);
    apply(
        &mut fleet,
        &[plug_in(0, "a", 0), registers(0, 0, 10_000, 0)],
    );
    let kinds = |event: &Telemetry, fleet: &mut FleetState| -> Vec<&'static str> {
        let effect = fleet.apply(event, now());
        effect.refused.iter().map(Refusal::kind).collect()
    };
    let wrong = Telemetry::Reading(Reading {
        power: Some(Power::from_kw(15.0)),
        import_register: Some(Energy::from_wh(9_000)),
        export_register: Some(Energy::from_wh(-1)),
        soc: Some(Soc::try_new(0.4).unwrap()),
        ..sample(0, 60)
    });
    assert_eq!(
        kinds(&wrong, &mut fleet),
        ["power", "register_steps_back", "register_negative"]
    );
    let soc = fleet.get(&id(0)).unwrap().session.as_ref().unwrap().soc;
    assert_eq!(soc, Some(Soc::try_new(0.4).unwrap()), "the rest goes on");
    assert_eq!(
        kinds(&registers(0, 120, 9_000_000, 0), &mut fleet),
        ["register_jumps"]
    );
    assert_eq!(kinds(&power(0, 130, -13.0), &mut fleet), ["power"]);
    assert_eq!(
        kinds(&power(0, 130, 12.0), &mut fleet),
        [""; 0],
        "within the margin"
    );
    assert_eq!(kinds(&power(0, 130, 12.0), &mut fleet), ["duplicate"]);
    assert_eq!(kinds(&power(0, 86_400 + 301, 1.0), &mut fleet), ["future"]);
    assert_eq!(kinds(&power(0, -40 * 86_400, 1.0), &mut fleet), ["ancient"]);
    assert_eq!(kinds(&power(5, 140, 1.0), &mut fleet), ["unknown_evse"]);
    let negative = Needs {
        energy: Energy::from_joules(-1),
        ..needs()
    };
    assert_eq!(
        kinds(&state_needs(0, "a", negative, 150), &mut fleet),
        ["needs"]
    );
}

#[test]
fn older_needs_never_replace_newer_ones() {
    let mut fleet = fleet(1);
    let newer = Needs {
        energy: Energy::from_kwh(30.0),
        ..needs()
    };
    let events = [
        plug_in(0, "a", 0),
        state_needs(0, "a", newer.clone(), 100),
        state_needs(0, "a", needs(), 50),
    ];
    assert!(apply(&mut fleet, &events)[0].is_harmless());
    let stay = fleet.get(&id(0)).unwrap().session.clone().unwrap();
    assert_eq!(stay.session.needs, Some(newer));
}

#[test]
fn a_station_takes_its_outlets_with_it_when_it_goes_and_old_news_does_not_count() {
    let mut fleet = fleet(4);
    let connection = |online, seconds| Telemetry::Connection {
        station: evse(0).station,
        evses: vec![],
        online,
        at: at(seconds),
    };
    let effect = fleet.apply(&connection(true, 10), now());
    assert_eq!(
        effect.changed.len(),
        2,
        "both outlets of the station and no other"
    );
    assert!(fleet.apply(&connection(false, 5), now()).changed.is_empty());
    assert!(fleet.get(&id(1)).unwrap().online);
    fleet.apply(&connection(false, 11), now());
    assert!(!fleet.get(&id(1)).unwrap().online);
}

#[test]
fn a_set_point_counts_once_told_and_accepted_in_whichever_order() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "a", 0)]);
    let setpoint = |fleet: &FleetState| fleet.get(&id(0)).unwrap().setpoint;
    fleet.apply_setpoint(&told("1", 5.0, 10));
    assert_eq!(setpoint(&fleet), None, "told is not accepted");
    apply(&mut fleet, &[answered("2", Outcome::Accepted, 21)]);
    assert_eq!(setpoint(&fleet), None, "accepted, but what?");
    fleet.apply_setpoint(&told("2", 6.0, 20));
    assert_eq!(setpoint(&fleet).unwrap().power, Power::from_kw(6.0));
    apply(&mut fleet, &[answered("1", Outcome::Accepted, 22)]);
    assert_eq!(
        setpoint(&fleet).unwrap().power,
        Power::from_kw(6.0),
        "an earlier one never replaces it"
    );
    fleet.apply_setpoint(&told("3", 7.0, 30));
    apply(&mut fleet, &[answered("3", Outcome::Rejected, 31)]);
    assert_eq!(setpoint(&fleet).unwrap().power, Power::from_kw(6.0));
}

#[test]
fn an_evse_that_does_not_follow_is_noticed_after_it_had_time_and_forgiven_when_it_does() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "a", 0)]);
    fleet.apply_setpoint(&told("1", -5.0, 10));
    apply(&mut fleet, &[answered("1", Outcome::Accepted, 11)]);
    let mut after = |seconds, kw| {
        apply(&mut fleet, &[power(0, seconds, kw)]);
        fleet.get(&id(0)).unwrap().unresponsive
    };
    assert!(!after(30, 7.0), "still settling");
    assert!(after(80, 7.0));
    assert!(!after(90, -4.7), "within the tolerance");
    assert!(after(100, 0.0));
    assert!(after(1_000, 0.0), "expired: nothing new is known");
    apply(&mut fleet, &[unplug(0, "a", 1_100)]);
    assert!(!fleet.get(&id(0)).unwrap().unresponsive);
}

#[test]
fn an_evse_is_judged_though_its_set_point_changes_faster_than_it_settles() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "a", 0)]);
    // A signal each four seconds, between 2 and 4 kW.
    let signals = |fleet: &mut FleetState, seconds: std::ops::Range<i64>| {
        for n in seconds.step_by(4) {
            let name = n.to_string();
            let kw = if n % 8 == 0 { 2.0 } else { 4.0 };
            fleet.apply_setpoint(&told(&name, kw, n));
            apply(fleet, &[answered(&name, Outcome::Accepted, n + 1)]);
        }
    };
    let metered = |fleet: &mut FleetState, seconds, kw| {
        apply(fleet, &[power(0, seconds, kw)]);
        fleet.get(&id(0)).unwrap().unresponsive
    };
    signals(&mut fleet, 0..40);
    assert!(!metered(&mut fleet, 40, 11.0), "still settling");
    signals(&mut fleet, 40..200);
    assert!(metered(&mut fleet, 200, 11.0), "nothing that it was told");
    assert!(!metered(&mut fleet, 201, 3.0), "between what it was told");
    assert!(metered(&mut fleet, 202, 0.0));
    // A minute after the last of them it is judged by that one alone.
    assert!(
        !metered(&mut fleet, 256, 2.0),
        "the lower one held until a minute ago"
    );
    assert!(metered(&mut fleet, 270, 2.0));
}

#[test]
fn a_corrected_registration_keeps_the_stay() {
    let mut fleet = fleet(1);
    apply(&mut fleet, &[plug_in(0, "a", 0)]);
    let corrected = Evse {
        max_charge: Power::from_kw(22.0),
        ..evse(0)
    };
    assert!(fleet.register(corrected.clone(), now()));
    assert!(!fleet.register(corrected, now()));
    let state = fleet.get(&id(0)).unwrap();
    assert!(state.session.is_some() && state.evse.max_charge == Power::from_kw(22.0));
}

/// Any event, sensible or not.
fn any_event() -> impl Strategy<Value = Telemetry> {
    let n = 0_usize..4;
    let time = -100_i64..5_000;
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    (n, time, name, 0_u8..8, any::<i32>(), 0.0_f64..1.0).prop_map(
        |(n, seconds, name, kind, figure, share)| match kind {
            0 => plug_in(n, name, seconds),
            1 => unplug(n, name, seconds),
            2 => state_needs(n, name, needs(), seconds),
            3 => registers(
                n,
                seconds,
                seconds * 3 + i64::from(figure % 50),
                seconds / 2,
            ),
            4 => power(n, seconds, f64::from(figure % 14)),
            5 => answered("1", Outcome::Accepted, seconds),
            6 => Telemetry::Reading(Reading {
                session: Some(session(name)),
                soc: Some(Soc::try_new(share).unwrap()),
                import_register: Some(Energy::from_joules(i64::from(figure))),
                ..sample(n, seconds)
            }),
            _ => Telemetry::Connection {
                station: evse(n).station,
                evses: vec![id(n)],
                online: figure % 2 == 0,
                at: at(seconds),
            },
        },
    )
}

proptest! {
    #[test]
    fn state_rebuilt_from_the_log_equals_the_live_state(
        events in prop::collection::vec(any_event(), 0..150),
        saved_at in 0_usize..150,
    ) {
        let mut live = fleet(3);
        for event in &events {
            live.apply(event, now());
        }
        let mut rebuilt = fleet(3);
        apply(&mut rebuilt, &events);
        prop_assert_eq!(&rebuilt, &live);

        // The same through a snapshot taken anywhere on the way.
        let (before, after) = events.split_at(saved_at.min(events.len()));
        let mut first = fleet(3);
        apply(&mut first, before);
        let mut resumed = FleetState::default();
        for state in first.iter() {
            let saved = serde_json::to_string(first.at(first.place(&state.evse.id).unwrap()).unwrap()).unwrap();
            resumed.restore(serde_json::from_str(&saved).unwrap());
        }
        apply(&mut resumed, after);
        prop_assert_eq!(&resumed, &live);
    }

    #[test]
    fn an_event_told_twice_in_a_row_is_told_once(
        events in prop::collection::vec(any_event(), 0..100),
    ) {
        let mut once = fleet(3);
        apply(&mut once, &events);
        let mut twice = fleet(3);
        for event in &events {
            twice.apply(event, now());
            twice.apply(event, now());
        }
        let states = |fleet: &FleetState| fleet.iter().cloned().collect::<Vec<_>>();
        prop_assert_eq!(states(&twice), states(&once));
    }

    #[test]
    fn what_is_reported_as_changed_is_exactly_what_changed(
        events in prop::collection::vec(any_event(), 0..100),
    ) {
        let mut fleet = fleet(3);
        for event in &events {
            let before: Vec<_> = fleet.iter().cloned().collect();
            let effect = fleet.apply(event, now());
            let changed: Vec<_> = before
                .iter()
                .zip(fleet.iter())
                .filter(|(then, now)| then != now)
                .map(|(_, now)| now.evse.id.clone())
                .collect();
            prop_assert_eq!(changed, effect.changed);
        }
    }

    #[test]
    fn time_moves_forward_in_what_is_known(
        events in prop::collection::vec(any_event(), 0..100),
    ) {
        let mut fleet = fleet(3);
        for event in &events {
            let before: Vec<_> = fleet.iter().cloned().collect();
            fleet.apply(event, now());
            for (then, now) in before.iter().zip(fleet.iter()) {
                prop_assert!(now.changed_at >= then.changed_at);
                prop_assert!(now.power.map(|p| p.at) >= then.power.map(|p| p.at));
            }
        }
    }
}

#[test]
fn a_reading_of_any_age_never_overflows() {
    let mut fleet = fleet(1);
    for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let event = Telemetry::Reading(Reading { at, ..sample(0, 0) });
        assert_eq!(fleet.apply(&event, now()).refused.len(), 1);
    }
    let huge = Telemetry::Reading(Reading {
        import_register: Some(Energy::from_joules(i64::MAX)),
        power: Some(Power::from_watts(i64::MIN)),
        ..sample(0, 10)
    });
    apply(
        &mut fleet,
        &[plug_in(0, "a", 0), registers(0, 0, 0, 0), huge],
    );
    fleet.register(evse(1), now());
    let first = Telemetry::Reading(Reading {
        evse: id(1),
        import_register: Some(Energy::from_joules(i64::MAX)),
        export_register: Some(Energy::from_joules(i64::MAX)),
        ..sample(0, 10)
    });
    apply(
        &mut fleet,
        &[first, registers(1, TimeDelta::hours(1).num_seconds(), 0, 0)],
    );
}
