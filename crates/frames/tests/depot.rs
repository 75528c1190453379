//! Buses from timetables: the feed's calendar, its kilometres, and the sessions of a depot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use frames::scenario::{self, Scenario};
use frames::timetable::Timetable;
use tempfile::TempDir;

const FEED: [(&str, &str); 5] = [
    ("routes.txt", "route_id,route_type\nb,3\ntram,0\n"),
    (
        "stops.txt",
        "stop_id,stop_lat,stop_lon\n1,52.0,4.0\n2,52.1,4.0\n",
    ),
    (
        "trips.txt",
        "route_id,service_id,trip_id,block_id\nb,week,t1,100\nb,week,t2,100\nb,late,t3,100\ntram,week,t4,7\n",
    ),
    (
        "stop_times.txt",
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence,shape_dist_traveled\n\
t1,08:00:00,08:00:00,1,1,0\nt1,08:30:00,08:30:00,2,9,40000\n\
t2,09:00:00,09:00:00,2,1,0\nt2,09:30:00,09:30:00,1,2,40000\n\
t3,23:50:00,23:50:00,2,1,\nt3,24:20:00,24:20:00,1,2,\nt4,08:00:00,08:00:00,1,1,\n",
    ),
    (
        "calendar.txt",
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n\
week,1,1,1,1,1,0,0,20240101,20241231\nlate,0,0,0,0,1,0,0,20240101,20241231\n",
    ),
];

fn zip(dir: &Path, tables: &[(&str, &str)]) -> PathBuf {
    let file = dir.join("gtfs.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&file).unwrap());
    for (name, text) in tables {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    file
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Real feeds, or a printed reason to skip.
fn real(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("SHOAL_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let file = shared.join("bus").join(name);
    if !file.is_file() {
        println!("skipped: no {}", file.display());
    }
    file.is_file().then_some(file)
}

fn scenario_toml(from: &str, to: &str, timetable: &str, depots: &str) -> String {
    format!(
        "name = \"depot\"\narea = \"NL\"\nfrom = {from}\nto = {to}\n\n[prices]\nday_ahead = {{ file = \"da.csv\", column = \"price\" }}\n\n\
[fleet]\ntimetable = \"{timetable}\"\n{depots}"
    )
}

fn load(
    dir: &Path,
    from: &str,
    days: i64,
    timetable: &str,
    depots: &str,
) -> Result<Scenario, String> {
    let first = day(from);
    let to = (first + TimeDelta::days(days)).to_string();
    let mut text = "utc_start,price\n".to_owned();
    let start = first.and_hms_opt(0, 0, 0).unwrap().and_utc() - TimeDelta::hours(3);
    for hour in 0..24 * days + 6 {
        writeln!(text, "{},50", (start + TimeDelta::hours(hour)).to_rfc3339()).unwrap();
    }
    fs::write(dir.join("da.csv"), text).unwrap();
    let file = dir.join("scenario.toml");
    fs::write(&file, scenario_toml(from, &to, timetable, depots)).unwrap();
    scenario::load(&file).map_err(|e| e.to_string())
}

const NORTH: &str = "[[fleet.depot]]\nid = \"north\"\nbuses = \"catalogue:ebusco-3.0-12\"\nchargers = 30\ncharger_kw = 120.0\nkwh_per_km = 1.1\n";

#[test]
fn a_block_runs_on_the_days_of_its_services_and_past_midnight() {
    let dir = TempDir::new().unwrap();
    let feed = Timetable::read(&zip(dir.path(), &FEED)).unwrap();
    let zone = Tz::Europe__Amsterdam;
    let thursday = feed.day(day("2024-06-06"), 0, zone);
    assert_eq!(thursday.len(), 1);
    assert_eq!(thursday[0].returns, at("2024-06-06T07:30:00Z"));
    let friday = feed.day(day("2024-06-07"), 0, zone);
    assert_eq!(
        friday[0].returns,
        at("2024-06-07T22:20:00Z"),
        "24:20 is after midnight"
    );
    assert!(
        feed.day(day("2024-06-08"), 0, zone).is_empty(),
        "no service on Saturday"
    );
    // 40 000 ft twice; the third trip has no distance: 11.12 km straight times the road factor.
    let (two, three) = (thursday[0].km, friday[0].km);
    assert!((two - 24.384).abs() < 1e-9, "{two}");
    assert!(
        (three - two - 11.119_5 * 1.1 * 2.0).abs() < 0.01,
        "{three}: with the way from t2 to t3"
    );
}

#[test]
fn clocks_count_from_noon_so_a_change_of_clocks_moves_no_trip() {
    let dir = TempDir::new().unwrap();
    let dates = "service_id,date,exception_type\nweek,20240331,1\nweek,20240606,2\n";
    let mut tables = FEED.to_vec();
    tables.push(("calendar_dates.txt", dates));
    let feed = Timetable::read(&zip(dir.path(), &tables)).unwrap();
    let change = feed.day(day("2024-03-31"), 0, Tz::Europe__Amsterdam);
    assert_eq!(
        change[0].leaves,
        at("2024-03-31T06:00:00Z"),
        "08:00 summer time"
    );
    assert!(
        feed.day(day("2024-06-06"), 0, Tz::UTC).is_empty(),
        "removed by an exception"
    );
}

#[test]
fn a_depot_becomes_sessions_that_carry_the_battery_from_stay_to_stay() {
    let dir = TempDir::new().unwrap();
    zip(dir.path(), &FEED);
    let scenario = load(dir.path(), "2024-06-03", 5, "gtfs.zip", NORTH).unwrap();
    let sessions = &scenario.fleet.sessions;
    let inside: Vec<_> = sessions
        .iter()
        .filter(|s| s.plug_in >= scenario.start && s.plug_out <= scenario.end)
        .collect();
    assert_eq!(inside.len(), 4, "four nights between five working days");
    for night in &inside {
        // Leaves with 35 kWh and 1.25 times the 26.8 kWh of the block; comes back with 35 and a quarter of it.
        assert!((night.energy_arrival_kwh.unwrap() - (35.0 + 0.25 * 24.384 * 1.1)).abs() < 1e-3);
        assert!(night.energy_required_kwh > night.energy_arrival_kwh.unwrap());
        assert_eq!(
            (night.site_id.as_str(), night.max_charge_kw),
            ("north", 120.0)
        );
    }
    assert!(
        scenario
            .notes
            .iter()
            .any(|n| n.contains("depot north: 1 buses")),
        "{:?}",
        scenario.notes
    );
}

#[test]
fn a_timetable_of_another_year_is_moved_by_whole_weeks_and_says_so() {
    let dir = TempDir::new().unwrap();
    zip(dir.path(), &FEED);
    let scenario = load(dir.path(), "2021-06-07", 5, "gtfs.zip", NORTH).unwrap();
    assert!(!scenario.fleet.sessions.is_empty());
    assert!(
        scenario.notes.iter().any(|n| n.contains("moved by -")),
        "{:?}",
        scenario.notes
    );
}

#[test]
fn blocks_are_dealt_by_chargers_and_a_second_load_is_the_same() {
    let Some(file) = real("seattle_sound_transit_gtfs_20171116.zip") else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let south = NORTH
        .replace("north", "south")
        .replace("chargers = 30", "chargers = 10");
    let depots = format!("{NORTH}{south}");
    let timetable = file.to_str().unwrap();
    let one = load(dir.path(), "2017-11-27", 7, timetable, &depots).unwrap();
    let two = load(dir.path(), "2017-11-27", 7, timetable, &depots).unwrap();
    assert_eq!(one.fleet.sessions, two.fleet.sessions);
    let mut count = BTreeMap::<&str, usize>::new();
    for session in &one.fleet.sessions {
        *count.entry(&session.site_id).or_default() += 1;
    }
    assert!(
        count["north"] > count["south"] && count["south"] > 20,
        "{count:?}"
    );
    println!("{:?}", one.notes);
    never_more_than_chargers(&one, "south", 10);
    never_more_than_chargers(&one, "north", 30);
}

fn never_more_than_chargers(scenario: &Scenario, site: &str, chargers: usize) {
    let of_site: Vec<_> = scenario
        .fleet
        .sessions
        .iter()
        .filter(|s| s.site_id == site)
        .collect();
    for session in &of_site {
        let now = session.plug_in;
        let plugged = of_site
            .iter()
            .filter(|s| s.plug_in <= now && now < s.plug_out)
            .count();
        assert!(plugged <= chargers, "{plugged} at {site} at {now}");
    }
}

#[test]
fn the_real_feeds_have_their_blocks_and_a_plausible_number_of_kilometres() {
    for (name, date, blocks, speed) in [
        (
            "portland_trimet_line1_gtfs_20180206.zip",
            "2018-02-06",
            4,
            5.0..20.0,
        ),
        (
            "seattle_sound_transit_gtfs_20171116.zip",
            "2017-11-29",
            90,
            15.0..60.0,
        ),
    ] {
        let Some(file) = real(name) else { return };
        let feed = Timetable::read(&file).unwrap();
        let day = feed.day(day(date), 0, Tz::America__Los_Angeles);
        assert!(day.len() >= blocks, "{name}: {} blocks", day.len());
        let km: f64 = day.iter().map(|b| b.km).sum();
        let seconds: i64 = day
            .iter()
            .map(|b| (b.returns - b.leaves).num_seconds())
            .sum();
        #[allow(clippy::cast_precision_loss, reason = "a day of seconds")]
        let mean = km / (seconds as f64 / 3600.0);
        println!(
            "{name}: {} blocks, {km:.0} km, {mean:.1} km/h with pauses",
            day.len()
        );
        assert!(speed.contains(&mean), "{name}: {mean} km/h with pauses");
    }
}

#[test]
fn a_feed_without_stop_times_is_refused_by_the_table_that_lacks() {
    let Some(file) = real("bangkok_gtfs_partial_20230422.zip") else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let error = load(dir.path(), "2023-05-01", 2, file.to_str().unwrap(), NORTH).unwrap_err();
    assert!(
        error.contains("bangkok_gtfs_partial_20230422.zip/stop_times.txt"),
        "{error}"
    );
    assert!(error.contains("expected this table in the zip"), "{error}");
}

#[test]
fn a_block_that_no_bus_can_do_is_counted_and_named() {
    let dir = TempDir::new().unwrap();
    zip(dir.path(), &FEED);
    let small = NORTH.replace("\"catalogue:ebusco-3.0-12\"", "{ capacity_kwh = 50.0 }");
    let scenario = load(dir.path(), "2024-06-03", 5, "gtfs.zip", &small).unwrap();
    let note = scenario
        .notes
        .iter()
        .find(|n| n.contains("longer than the battery"));
    assert!(
        note.is_some_and(|n| n.contains("2024-06-07/100")),
        "{:?}",
        scenario.notes
    );
}

#[test]
fn what_a_depot_does_not_say_rightly_is_refused_by_key() {
    let dir = TempDir::new().unwrap();
    zip(dir.path(), &FEED);
    for (from, to, parts) in [
        (
            "ebusco-3.0-12",
            "nessie",
            ["fleet.depot[0].buses", "ebusco-3.0-12"],
        ),
        ("catalogue:", "", ["fleet.depot[0].buses", "catalogue:ID"]),
        (
            "chargers = 30",
            "chargers = 0",
            ["fleet.depot[0].chargers: 0", "from 1"],
        ),
        (
            "charger_kw = 120.0",
            "charger_kw = -1",
            ["fleet.depot[0].charger_kw: -1", "from 0.1"],
        ),
        (
            "kwh_per_km = 1.1\n",
            "",
            ["fleet.depot[0].kwh_per_km", "expected a number"],
        ),
        ("chargers", "charger", ["fleet.depot[0]", "expected"]),
        (
            "id = \"north\"\n",
            "",
            ["fleet.depot[0].id", "expected a name"],
        ),
    ] {
        let error = load(
            dir.path(),
            "2024-06-03",
            2,
            "gtfs.zip",
            &NORTH.replace(from, to),
        )
        .unwrap_err();
        assert!(
            error.contains("scenario.toml:") && parts.iter().all(|p| error.contains(p)),
            "{error}"
        );
    }
    let error = load(dir.path(), "2024-06-03", 2, "none.zip", NORTH).unwrap_err();
    assert!(
        error.contains("fleet.timetable: no file") && error.contains("expected a GTFS zip"),
        "{error}"
    );
    let mut bad = FEED.to_vec();
    bad[4].1 = "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\nweek,1,1,1,1,1,0,0,2024-01-01,20241231\n";
    zip(dir.path(), &bad);
    let error = load(dir.path(), "2024-06-03", 2, "gtfs.zip", NORTH).unwrap_err();
    assert!(
        error.contains("calendar.txt:2") && error.contains("expected a date"),
        "{error}"
    );
}
