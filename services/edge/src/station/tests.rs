use super::*;
use units::Efficiency;

pub(crate) fn station(protocol: Protocol, outlets: usize) -> Station {
    let id: StationId = "S".parse().unwrap();
    let evse = |n: usize| Evse {
        id: format!("S/{n}").parse().unwrap(),
        station: id.clone(),
        site: "site".parse().unwrap(),
        class: "home".into(),
        protocol,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(11.0),
        charge_efficiency: Efficiency::try_new(0.9).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.9).unwrap(),
    };
    Station {
        id: id.clone(),
        protocol,
        evses: (1..=outlets).map(evse).collect(),
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn begun(seconds: i64) -> Begun {
    Begun {
        vehicle: None,
        at: at(seconds),
        starts: true,
        named_by: NamedBy::Station,
    }
}

#[test]
fn a_new_transaction_ends_the_one_whose_end_was_missed() {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 2), &BTreeMap::new());
    let mut said = Said::default();
    outlets.begin(2, "a", begun(0), &mut said);
    outlets.begin(2, "a", begun(1), &mut said);
    assert_eq!(said.events.len(), 1, "heard twice, said once");
    outlets.begin(2, "b", begun(9), &mut said);
    assert!(
        matches!(&said.events[1], Telemetry::Unplugged { session, at: when, .. }
        if session.as_str() == "S/2:a" && *when == at(9))
    );
    assert_eq!(outlets.session(2).unwrap().as_str(), "S/2:b");
    assert_eq!(outlets.place_of(None, "b"), Some(2));
    assert_eq!(outlets.place_of(None, "c"), None, "two outlets: unknown");
}

#[test]
fn messages_of_a_stay_that_is_over_begin_nothing() {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
    let mut said = Said::default();
    outlets.begin(1, "a", begun(0), &mut said);
    outlets.end(1, "a", at(5), &mut said);
    outlets.begin(1, "a", begun(3), &mut said);
    assert_eq!((outlets.session(1), said.events.len()), (None, 2));
    outlets.begin(1, "b", begun(9), &mut said);
    outlets.begin(1, "a", begun(4), &mut said);
    outlets.begin(1, "never-heard", begun(1), &mut said);
    assert_eq!(outlets.session(1).unwrap().as_str(), "S/1:b");
    assert_eq!(said.events.len(), 3, "{said:?}");
}

#[test]
fn a_beginning_that_comes_after_its_end_is_told_with_it() {
    let mut outlets = Outlets::new(station(Protocol::Ocpp201, 1), &BTreeMap::new());
    let mut said = Said::default();
    outlets.end(1, "a", at(5), &mut said);
    for _ in 0..2 {
        outlets.begin(1, "a", begun(0), &mut said);
    }
    let told: Vec<_> = said.events.iter().map(Telemetry::at).collect();
    assert_eq!(told, [at(5), at(0), at(5)], "{said:?}");
    assert!(matches!(&said.events[1], Telemetry::PluggedIn { .. }));
    assert_eq!(outlets.session(1), None);
}

#[test]
fn a_transaction_that_we_name_is_not_spoken_of_before_its_name_is() {
    let mut outlets = Outlets::new(station(Protocol::Ocpp16, 1), &BTreeMap::new());
    let ours = Begun {
        named_by: NamedBy::Us,
        ..begun(0)
    };
    outlets.begin(1, "7", ours, &mut Said::default());
    assert!(!outlets.may_be_told(1));
    outlets.name(1);
    assert!(outlets.may_be_told(1));
}

#[test]
fn stays_are_recalled_after_a_restart() {
    let known = BTreeMap::from([(
        "S/1".parse().unwrap(),
        Recalled {
            session: "S/1:tx".parse().unwrap(),
            added: Some(Energy::from_wh(500)),
            needs: None,
        },
    )]);
    let outlets = Outlets::new(station(Protocol::Ocpp21, 2), &known);
    assert_eq!(outlets.place_of(None, "tx"), Some(1));
    assert_eq!(outlets.added(1), Some(Energy::from_wh(500)));
}

#[test]
fn added_energy_counts_losses_both_ways() {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
    let mut said = Said::default();
    let session = outlets.begin(1, "t", begun(0), &mut said);
    let mut read = |import: i64, export: i64| {
        let reading = Reading {
            evse: "S/1".parse().unwrap(),
            session: session.clone(),
            at: at(0),
            power: None,
            import_register: Some(Energy::from_wh(import)),
            export_register: Some(Energy::from_wh(export)),
            soc: None,
        };
        outlets.read(1, reading, &mut said);
        outlets.added(1).unwrap()
    };
    assert_eq!(read(1_000, 0), Energy::ZERO);
    assert_eq!(read(2_000, 0), Energy::from_wh(900));
    assert_eq!(read(2_000, 900), Energy::from_wh(-100));
}
