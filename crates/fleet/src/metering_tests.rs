use super::*;
use crate::Protocol;
use proptest::prelude::*;
use units::Efficiency;

fn evse() -> Evse {
    Evse {
        id: "north-1/1".parse().unwrap(),
        station: "north-1".parse().unwrap(),
        site: "north".parse().unwrap(),
        class: "depot".to_owned(),
        protocol: Protocol::Ocpp21,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(11.0),
        charge_efficiency: Efficiency::try_new(0.9).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.9).unwrap(),
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_742_400 + seconds, 0).unwrap()
}

fn reading(seconds: i64, import: i64, export: i64) -> Reading {
    Reading {
        evse: evse().id,
        session: None,
        at: at(seconds),
        power: None,
        import_register: Some(Energy::from_joules(import)),
        export_register: Some(Energy::from_joules(export)),
        soc: None,
    }
}

fn metered(readings: &[Reading]) -> Meter {
    let mut meter = Meter::default();
    for reading in readings {
        meter.take(reading, &evse(), &Rules::default());
    }
    meter
}

/// Samples in order of time: seconds since the last one and what the registers grew by.
fn walk(steps: &[(i64, i64, i64)]) -> Vec<Reading> {
    let (mut t, mut import, mut export) = (37, 1_000_000, 500_000);
    let mut readings = vec![reading(t, import, export)];
    for (seconds, more_import, more_export) in steps {
        t += seconds;
        import += more_import;
        export += more_export;
        readings.push(reading(t, import, export));
    }
    readings
}

proptest! {
    #[test]
    fn intervals_add_up_to_the_register_difference(
        steps in prop::collection::vec((1_i64..=960, 0_i64..10_000_000, 0_i64..10_000_000), 0..200),
    ) {
        let readings = walk(&steps);
        let meter = metered(&readings);
        let (import, export) = meter.total();
        prop_assert_eq!(import.joules(), steps.iter().map(|s| s.1).sum::<i64>());
        prop_assert_eq!(export.joules(), steps.iter().map(|s| s.2).sum::<i64>());
    }

    #[test]
    fn a_gap_is_neither_energy_nor_time(
        steps in prop::collection::vec((1_i64..=4_000, 0_i64..10_000_000), 0..40),
    ) {
        let steps: Vec<_> = steps.into_iter().map(|(s, e)| (s, e, 0)).collect();
        let meter = metered(&walk(&steps));
        let covered: Vec<_> = steps.iter().filter(|s| s.0 <= 960).collect();
        prop_assert_eq!(meter.total().0.joules(), covered.iter().map(|s| s.1).sum::<i64>());
        let seconds: i64 = meter.open.values().map(|m| m.covered_seconds).sum();
        prop_assert_eq!(seconds, covered.iter().map(|s| s.0).sum::<i64>());
        for measured in meter.open.values() {
            prop_assert!((0..=900).contains(&measured.covered_seconds));
            prop_assert!(measured.import >= Energy::ZERO && measured.export >= Energy::ZERO);
        }
    }

    #[test]
    fn neither_order_nor_repetition_matters_within_the_time_of_refinement(
        steps in prop::collection::vec((1_i64..=100, 0_i64..10_000_000, 0_i64..10_000_000), 1..16),
        keys in prop::collection::vec(any::<u32>(), 34),
    ) {
        let readings = walk(&steps);
        let mut shuffled: Vec<_> = readings.iter().chain(&readings).cloned().zip(keys).collect();
        shuffled.sort_by_key(|(_, key)| *key);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(reading, _)| reading).collect();
        prop_assume!(readings.iter().all(|r| shuffled.contains(r)));
        prop_assert_eq!(metered(&readings), metered(&shuffled));
    }

    #[test]
    fn publishing_on_the_way_changes_no_figure(
        steps in prop::collection::vec((1_i64..=2_000, 0_i64..10_000_000, 0_i64..10_000_000), 1..60),
    ) {
        let readings = walk(&steps);
        let at_once = metered(&readings).publish(&evse());
        let mut meter = Meter::default();
        let mut newest = BTreeMap::new();
        for reading in &readings {
            meter.take(reading, &evse(), &Rules::default());
            for interval in meter.publish(&evse()) {
                newest.insert(interval.interval.start(), interval);
            }
        }
        let on_the_way: Vec<_> = newest.into_values().collect();
        prop_assert_eq!(on_the_way, at_once);
    }

    #[test]
    fn a_meter_resumes_from_its_snapshot_and_what_it_published(
        steps in prop::collection::vec((1_i64..=2_000, 0_i64..10_000_000, 0_i64..10_000_000), 2..40),
        stop in 1_usize..38,
    ) {
        let readings = walk(&steps);
        let stop = stop.min(readings.len() - 1);
        let mut through = metered(&readings[..stop]);
        let published = through.publish(&evse());
        let mut resumed: Meter =
            serde_json::from_str(&serde_json::to_string(&through).unwrap()).unwrap();
        for interval in &published {
            resumed.restore(interval);
        }
        for reading in &readings[stop..] {
            through.take(reading, &evse(), &Rules::default());
            resumed.take(reading, &evse(), &Rules::default());
        }
        prop_assert_eq!(through.publish(&evse()), resumed.publish(&evse()));
    }
}

proptest! {
    #[test]
    fn a_meter_resumes_from_an_older_snapshot_by_the_samples_since(
        steps in prop::collection::vec((1_i64..=2_000, 0_i64..10_000_000, 0_i64..10_000_000), 2..60),
        cuts in prop::collection::vec(1_usize..58, 2),
        every in 1_usize..6,
    ) {
        let readings = walk(&steps);
        let cut = |n: usize| n.min(readings.len() - 1);
        let (saved_at, died_at) = (cut(cuts[0].min(cuts[1])), cut(cuts[0].max(cuts[1])));
        let rules = Rules::default();
        let mut through = Meter::default();
        let (mut table, mut snapshot) = (BTreeMap::new(), String::new());
        for (n, reading) in readings.iter().enumerate().take(died_at) {
            if n == saved_at {
                snapshot = serde_json::to_string(&through).unwrap();
            }
            through.take(reading, &evse(), &rules);
            if n % every == 0 || n + 1 == died_at || n + 1 == saved_at {
                for interval in through.publish(&evse()) {
                    table.insert(interval.interval.start(), interval);
                }
            }
        }
        if saved_at == died_at {
            snapshot = serde_json::to_string(&through).unwrap();
        }
        let mut resumed: Meter = serde_json::from_str(&snapshot).unwrap();
        table.values().for_each(|interval| resumed.restore(interval));
        for reading in &readings[saved_at..died_at] {
            resumed.take(reading, &evse(), &rules);
        }
        table.values().for_each(|interval| resumed.restore(interval));
        prop_assert_eq!(&resumed.open, &through.open);
        prop_assert!(!resumed.is_due());
        // What neither will change again may be remembered by one of them only.
        for (start, measured) in &resumed.published {
            prop_assert_eq!(Some(measured), through.published.get(start));
        }
        for reading in &readings[died_at..] {
            through.take(reading, &evse(), &rules);
            resumed.take(reading, &evse(), &rules);
        }
        prop_assert_eq!(through.publish(&evse()), resumed.publish(&evse()));
    }
}

#[test]
fn a_sample_pair_across_an_edge_is_split_by_time() {
    // 20 minutes from 10 minutes before the edge: with the longest pair of 16 minutes this is a gap; 15 minutes is not.
    let mut meter = metered(&[reading(600, 0, 0), reading(1_500, 9_000, 900)]);
    assert_eq!(meter.publish(&evse())[0].import.joules(), 3_000);
    let mut meter = metered(&[reading(600, 0, 0), reading(1_800, 9_000, 900)]);
    assert_eq!(meter.publish(&evse()), vec![]);
}

#[test]
fn an_interval_is_published_when_it_is_over_and_again_when_late_data_change_it() {
    let mut meter = metered(&[reading(0, 0, 0), reading(600, 600, 0)]);
    assert_eq!(meter.publish(&evse()), vec![]);
    meter.take(&reading(3_600, 3_600, 0), &evse(), &Rules::default());
    let first = meter.publish(&evse());
    assert_eq!((first[0].version, first[0].covered_seconds), (1, 600));
    assert_eq!(meter.publish(&evse()), vec![], "nothing changed");

    meter.take(&reading(1_200, 1_200, 0), &evse(), &Rules::default());
    let second = meter.publish(&evse());
    assert_eq!((second[0].version, second[0].covered_seconds), (2, 900));
    assert_eq!(second[0].import.joules(), 900);
    assert_eq!((second[1].version, second[1].covered_seconds), (1, 300));
}

#[test]
fn a_station_that_sends_its_queue_after_the_live_sample_fills_the_gap_exactly() {
    let queue: Vec<_> = (1..300).map(|n| reading(n * 60, n * 1_000, 0)).collect();
    let mut live_first = metered(&[reading(0, 0, 0), reading(300 * 60, 300_000, 0)]);
    for late in &queue {
        assert_eq!(
            live_first.take(late, &evse(), &Rules::default()),
            Taken::CountedLate
        );
    }
    assert_eq!(live_first.total().0.joules(), 300_000);
    assert!(
        live_first
            .publish(&evse())
            .iter()
            .all(|i| i.covered_seconds == 900)
    );
}

#[test]
fn memory_is_bounded_by_the_time_of_refinement() {
    let mut meter = Meter::default();
    for n in 0..20_000 {
        meter.take(&reading(n * 60, n * 1_000, 0), &evse(), &Rules::default());
        meter.publish(&evse());
    }
    assert!(meter.samples.len() < 40, "{} samples", meter.samples.len());
    assert!(meter.open.len() <= 2 && meter.published.len() < 200);
}

#[test]
fn what_is_days_late_is_told_apart() {
    let mut meter = metered(&[reading(0, 0, 0), reading(3 * 86_400, 1, 0)]);
    assert_eq!(
        meter.take(&reading(60, 1, 0), &evse(), &Rules::default()),
        Taken::TooLate
    );
}

#[test]
fn an_unknown_export_of_a_vehicle_that_may_discharge_is_not_zero() {
    let mut meter = Meter::default();
    let mut partial = reading(0, 0, 0);
    partial.export_register = None;
    assert_eq!(
        meter.take(&partial, &evse(), &Rules::default()),
        Taken::Nothing
    );
    let one_way = Evse {
        max_discharge: Power::ZERO,
        ..evse()
    };
    assert_eq!(
        meter.take(&partial, &one_way, &Rules::default()),
        Taken::Counted
    );
}

#[test]
fn a_sample_that_contradicts_its_neighbours_does_not_count() {
    let mut meter = metered(&[reading(0, 100, 0), reading(600, 700, 0)]);
    for wrong in [reading(300, 50, 0), reading(300, 701, 0)] {
        let taken = meter.take(&wrong, &evse(), &Rules::default());
        assert_eq!(taken, Taken::Contradicts);
    }
    assert_eq!(meter.total().0.joules(), 600);
}
