//! The published files beside the checkout, with the defects their README lists. Skipped with a message where absent;
//! `SHOAL_DATA` names another place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "helpers of tests; values stand in the files to the digit"
)]

use std::path::PathBuf;

use chrono::TimeDelta;
use frames::import::{Format, Imported, Options};
use frames::sessions;
use frames::table::Column;

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told where the data stand by the environment"
)]
fn folder() -> PathBuf {
    let near = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    std::env::var("SHOAL_DATA").map_or(near, PathBuf::from)
}

/// Imports published files; `None` where they are absent.
fn import(format: &str, names: &[&str], assume: &str) -> Option<Imported> {
    let files: Vec<_> = names.iter().map(|n| folder().join(n)).collect();
    if let Some(missing) = files.iter().find(|f| !f.is_file()) {
        println!("skipped: {} is absent; set SHOAL_DATA", missing.display());
        return None;
    }
    let options = Options {
        assume: assume.parse().unwrap(),
        ..Options::default()
    };
    let imported = Format::named(format)
        .unwrap()
        .read(&files, &options)
        .unwrap_or_else(|e| panic!("{e}"));
    let summary = &imported.summary;
    assert_eq!(summary.rows_read, summary.rows_kept + summary.rows_refused);
    Some(imported)
}

fn refused(imported: &Imported, reason: &str) -> usize {
    imported.summary.refused.get(reason).map_or(0, |c| c.rows)
}

fn repaired(imported: &Imported, what: &str) -> usize {
    imported.summary.repaired.get(what).map_or(0, |c| c.rows)
}

#[test]
fn elaad() {
    let Some(i) = import(
        "elaad",
        &["sessions/nl_elaad_public_sessions_2018.csv.gz"],
        "capacity_kwh=100",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_read, 10_188);
    assert_eq!(
        refused(&i, "start is missing or no date of the calendar"),
        1,
        "29 February"
    );
    assert_eq!(
        repaired(
            &i,
            "end is missing or no date of the calendar: start plus duration taken"
        ),
        1,
        "29 February"
    );
    assert_eq!(
        repaired(
            &i,
            "end does not fit the stated duration: start plus duration taken"
        ),
        5 + 6,
        "wrong years, clock change"
    );
    assert_eq!(repaired(&i, "negative charging time: ignored"), 10);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.csv.gz");
    i.table.write(&file).unwrap();
    assert_eq!(sessions::read(&file).unwrap().len(), i.summary.rows_kept);
}

#[test]
fn dundee() {
    let Some(i) = import(
        "dundee",
        &["sessions/gb_dundee_public_sessions_2017_2018.csv.gz"],
        "capacity_kwh=100",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_read, 67_112);
    assert_eq!(
        refused(&i, "end is missing or no date of the calendar"),
        329 - 2
    );
    assert_eq!(refused(&i, "no charge point"), 2);
    assert_eq!(refused(&i, "stays too long (longest_stay_hours)"), 42);
    let negative = refused(&i, "negative energy");
    assert!(
        (20..=29).contains(&negative),
        "{negative}: some of the 29 have no duration either"
    );
    let no_time = refused(&i, "end is not after start");
    assert!((674..=680).contains(&no_time), "{no_time}");
}

#[test]
fn boulder_norway_and_acn() {
    let Some(i) = import(
        "boulder",
        &["sessions/us_boulder_public_sessions_2018_2021.csv.gz"],
        "capacity_kwh=150",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_read, 23_597);
    assert_eq!(
        repaired(
            &i,
            "end does not fit the stated duration: start plus duration taken"
        ),
        1,
        "an end in 1968; a second one is refused for its length"
    );
    let Some(i) = import(
        "norway",
        &["sessions/no_residential_garage_sessions_2018_2020.csv.gz"],
        "",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_read, 6_878);
    assert_eq!(refused(&i, "end is missing or no date of the calendar"), 34);
    let both = [
        "sessions/us_acn_caltech_sessions_20190501_20200531.csv.gz",
        "sessions/us_acn_jpl_sessions_20190501_20191231.csv.gz",
    ];
    let Some(i) = import("acn", &both, "capacity_kwh=200") else {
        return;
    };
    assert_eq!(
        (i.summary.rows_read, i.summary.rows_kept),
        (7_973 + 11_830, 7_973 + 11_830)
    );
    assert_eq!(
        repaired(
            &i,
            "unclaimed: no driver's request, delivered energy stands for it"
        ),
        1_301 + 382
    );
}

#[test]
fn every_price_file_is_kept_whole() {
    for (name, rows, minutes) in [
        ("de_day_ahead_hourly_20190101_20201231", 17_544, 60),
        ("de_15min_auction_20240101_20240824", 22_748, 15),
        (
            "de_lu_and_neighbours_day_ahead_15min_20251201_20251220",
            1_920,
            15,
        ),
        (
            "de_lu_and_neighbours_day_ahead_hourly_20230101_20240824",
            14_447,
            60,
        ),
        ("dk_day_ahead_hourly_20210101_20221231", 17_520, 60),
        (
            "gb_epex_da_system_price_dynamic_containment_30min_202204",
            1_440,
            30,
        ),
        (
            "gb_market_index_and_system_price_30min_20240401_20250630",
            21_888,
            30,
        ),
    ] {
        let Some(i) = import("prices", &[&format!("prices/{name}.csv.gz")], "") else {
            return;
        };
        assert_eq!(
            (i.summary.rows_kept, i.summary.rows_refused),
            (rows, 0),
            "{name}"
        );
        let Some(Column::Instant(starts)) = i.table.column("utc_start") else {
            panic!("{name}")
        };
        let step = TimeDelta::minutes(minutes);
        assert!(
            starts
                .windows(2)
                .all(|p| p[1].unwrap() - p[0].unwrap() == step),
            "{name}"
        );
    }
    let Some(i) = import(
        "prices",
        &["prices/nl_day_ahead_hourly_20190101_20240824.csv.gz"],
        "",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_kept, 49_510);
}

#[test]
fn every_reserve_file_is_kept_whole() {
    let kept = |format: &str, name: &str| {
        import(format, &[name], "").map(|i| (i.summary.rows_kept, i.summary.rows_refused))
    };
    for (format, name, rows) in [
        (
            "regelleistung-fcr",
            "reserves/fcr_capacity_results_4h_20240101_20240824.csv.gz",
            1_422,
        ),
        (
            "regelleistung-afrr",
            "reserves/afrr_capacity_results_de_at_4h_20240101_20240824.csv.gz",
            2_844,
        ),
        (
            "regelleistung-afrr",
            "reserves/afrr_capacity_tenders_de_at_20240101_20240824.csv.gz",
            2_844,
        ),
        (
            "reserves",
            "reserves/dk1_afrr_capacity_day_ahead_forecasts_hourly_20250101_20250508.csv.gz",
            3_022,
        ),
        (
            "reserves",
            "reserves/gb_dynamic_response_clearing_4h_winter_2024_25.csv.gz",
            5_544,
        ),
    ] {
        let Some(counts) = kept(format, name) else {
            return;
        };
        assert_eq!(counts, (rows, 0), "{name}");
    }
}

#[test]
fn frequency_gaps_are_counted() {
    let Some(i) = import(
        "frequency",
        &["frequency/ce_frequency_1s_2024-08-21_with_gaps.csv.gz"],
        "",
    ) else {
        return;
    };
    assert_eq!((i.summary.rows_kept, i.summary.rows_refused), (37_425, 0));
    assert!(i.summary.notes[0].contains("seconds are missing"));
    let Some(i) = import(
        "frequency",
        &["frequency/gb_frequency_1s_20220401_local_day.csv.gz"],
        "",
    ) else {
        return;
    };
    assert_eq!(i.summary.rows_kept, 86_400);
    assert!(i.summary.notes.is_empty(), "no second is missing");
}

#[test]
fn timetables() {
    let blocks = |name: &str| {
        import("gtfs", &[&format!("bus/{name}.zip")], "")
            .map(|i| (i.summary.rows_kept, i.table.rows()))
    };
    let Some(portland) = blocks("portland_trimet_line1_gtfs_20180206") else {
        return;
    };
    assert_eq!(portland, (78, 13), "5 blocks, on several services");
    let Some((trips, _)) = blocks("seattle_sound_transit_gtfs_20171116") else {
        return;
    };
    assert_eq!(trips, 2_066);
    let partial = folder().join("bus/bangkok_gtfs_partial_20230422.zip");
    let error = Format::named("gtfs")
        .unwrap()
        .read(&[partial], &Options::default())
        .unwrap_err();
    assert!(error.to_string().contains("stop_times.txt"), "{error}");
}
