use super::*;
use crate::config::Config;
use crate::station::tests::station;
use fleet::Protocol;
use proptest::prelude::*;
use serde_json::{Value, json};

const METERED: i64 = 1_500_000;

/// Streams of a station whose monitors 1 and 2 read import and export at outlet 1.
pub(crate) fn monitored() -> Streams {
    let result = |id: i32, variable: &str| {
        json!({"status": "Accepted", "id": id, "type": "PeriodicClockAligned", "severity": 8,
            "component": {"name": "FiscalMetering", "evse": {"id": 1}}, "variable": {"name": variable}})
    };
    let answer = json!({"setMonitoringResult": [
        result(1, "EnergyImportRegister"), result(2, "EnergyExportRegister"),
    ]});
    let mut streams = Streams::default();
    assert!(
        streams
            .monitors
            .begun(&serde_json::from_value(answer).unwrap())
    );
    streams
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// An outlet whose meter told 1500 kWh in both directions, with both streams open.
fn outlets() -> Outlets {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
    outlets.streams = monitored();
    let reading = Reading {
        evse: "S/1".parse().unwrap(),
        session: None,
        at: at(0),
        power: None,
        import_register: Some(Energy::from_wh(METERED)),
        export_register: Some(Energy::from_wh(METERED)),
        soc: None,
    };
    outlets.streams.metered(1, &reading);
    for id in [1, 2] {
        open(&mut outlets, id, id);
    }
    outlets
}

fn open(outlets: &mut Outlets, id: i32, monitor: i32) -> (Value, Said) {
    let asked =
        json!({"constantStreamData": {"id": id, "variableMonitoringId": monitor, "params": {}}});
    let mut said = Said::default();
    let asked = serde_json::from_value(asked).unwrap();
    let answer = outlets.streams.open(&asked, &mut said).unwrap();
    (serde_json::from_str(answer.get()).unwrap(), said)
}

fn streamed(outlets: &mut Outlets, id: i32, data: &Value) -> Said {
    let sent = json!({"id": id, "pending": 3, "basetime": at(0).to_rfc3339(), "data": data});
    let mut said = Said::default();
    outlets.streamed(&serde_json::from_value(sent).unwrap(), &mut said);
    said
}

fn readings(said: &Said) -> Vec<(i64, Option<Energy>, Option<Energy>)> {
    let told = said.events.iter().map(|event| {
        let Telemetry::Reading(r) = event else {
            panic!("no reading: {event:?}");
        };
        assert_eq!(r.power, None, "a register is no power");
        let millis = (r.at - at(0)).num_milliseconds();
        (millis, r.import_register, r.export_register)
    });
    told.collect()
}

#[test]
fn both_registers_of_an_instant_make_one_reading() {
    let mut outlets = outlets();
    let import = json!([{"t": 1, "v": "1500000"}, {"t": 2.5, "v": "1500001.5"}]);
    assert_eq!(streamed(&mut outlets, 1, &import), Said::default());
    let export = json!([{"t": 2.5, "v": "1500.004"}, {"t": 1.0, "v": "1500"}]);
    let said = streamed(&mut outlets, 2, &export);
    assert!(said.refused.is_empty(), "{said:?}");
    let wh = |tenths: i64| Some(Energy::from_joules(tenths * 360));
    assert_eq!(
        readings(&said),
        [
            (1_000, wh(15_000_000), wh(15_000_000)),
            (2_500, wh(15_000_015), wh(15_000_040)),
        ],
        "each in its own unit, proven by what was metered"
    );
}

#[test]
fn what_waits_for_its_other_register_is_told_when_nothing_more_comes() {
    let mut outlets = outlets();
    streamed(&mut outlets, 2, &json!([{"t": 1, "v": "1500000"}]));
    let mut said = Said::default();
    outlets.streams_end(&mut said);
    assert_eq!(
        readings(&said),
        [(1_000, None, Some(Energy::from_wh(METERED)))],
        "missing is not zero"
    );
}

#[test]
fn a_register_without_its_counterpart_is_held_in_bounds_and_not_lost() {
    let mut outlets = outlets();
    let many: Vec<Value> = (0..200).map(|t| json!({"t": t, "v": "1500000"})).collect();
    let told = readings(&streamed(&mut outlets, 1, &json!(many)));
    assert_eq!(told.len(), 200 - HELD);
    assert_eq!(told[0], (0, Some(Energy::from_wh(METERED)), None));
}

#[test]
fn what_has_no_certain_meaning_is_refused_with_the_reason() {
    let mut outlets = outlets();
    for (id, value, reason) in [
        (9, "1500000", "stream 9 is not open"),
        (1, "a lot", "is no number"),
        (1, "-1", "is negative"),
        (1, "1500500", "neither in Wh nor in kWh"),
        (1, "1e300", "no number"),
    ] {
        let said = streamed(&mut outlets, id, &json!([{"t": 1, "v": value}]));
        assert_eq!(said.events, [], "{value}");
        assert!(said.refused[0].contains(reason), "{value}: {said:?}");
    }
    let (answer, said) = open(&mut outlets, 3, 77);
    assert_eq!(answer["status"], "Rejected");
    assert!(said.refused[0].contains("monitor 77"), "{said:?}");
    let unknown = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
    outlets.streams.metered = unknown.streams.metered;
    let said = streamed(&mut outlets, 1, &json!([{"t": 1, "v": "1500000"}]));
    assert!(said.refused[0].contains("unit is not known"), "{said:?}");
}

#[test]
fn a_new_meter_in_which_both_units_fit_is_not_guessed_at() {
    let mut outlets = outlets();
    let metered = Metered {
        at: at(0),
        energy: Energy::ZERO,
    };
    outlets
        .streams
        .metered
        .insert((1, Register::Import), metered);
    let said = streamed(&mut outlets, 1, &json!([{"t": 0, "v": "0.01"}]));
    assert!(said.refused[0].contains("may be Wh or kWh"), "{said:?}");
    let said = streamed(&mut outlets, 1, &json!([{"t": 0, "v": "0"}]));
    assert!(said.refused.is_empty(), "zero is zero: {said:?}");
    // A value of the same message that fits one unit only decides for the one before it.
    let both = json!([{"t": 0, "v": "0.01"}, {"t": 1, "v": "0.02"}, {"t": 2, "v": "20"}]);
    let said = streamed(&mut outlets, 1, &both);
    assert!(said.refused.is_empty(), "{said:?}");
}

#[test]
fn an_outlet_that_only_charges_needs_one_stream() {
    let mut evses = station(Protocol::Ocpp21, 2).evses;
    evses[0].max_discharge = units::Power::ZERO;
    let config = Config::default();
    let asked = |most| {
        let request = Monitors::default().begin(&evses, most, &config);
        request.set_monitoring_data.len()
    };
    assert_eq!((asked(3), asked(2), asked(0)), (3, 1, 0));
    let again = monitored().monitors.begin(&evses, 3, &config);
    assert_eq!(again.set_monitoring_data[0].id, Some(1), "replaced");
}

proptest! {
    #[test]
    fn a_streamed_register_keeps_its_direction_and_amount(wh in 0_i64..30, export in any::<bool>(), kilo in any::<bool>()) {
        let mut outlets = outlets();
        let told = METERED + wh;
        let value = if kilo { Decimal::new(told, 3).to_string() } else { told.to_string() };
        let id = if export { 2 } else { 1 };
        streamed(&mut outlets, id, &json!([{"t": 10, "v": value}]));
        let mut said = Said::default();
        outlets.streams_end(&mut said);
        let energy = Some(Energy::from_wh(told));
        let expected = if export { (10_000, None, energy) } else { (10_000, energy, None) };
        prop_assert_eq!(readings(&said), [expected]);
    }
}
