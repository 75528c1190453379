//! Scenario files: what is read, and every way to be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "helpers of tests; values stand in the files to the digit"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use frames::scenario::{self, Headroom, Imbalance, Planning, Scenario};
use frames::series::Per;
use tempfile::TempDir;

const SESSIONS: &str = "session_id,evse_id,vehicle_id,site_id,plug_in,plug_out,energy_arrival_kwh,energy_required_kwh,capacity_kwh,max_charge_kw,max_discharge_kw\n\
s1,e1,v1,home,2024-03-30T08:00:00Z,2024-03-30T16:30:00+01:00,12.5,40,60,11,11\n\
s2,e1,v2,,2024-03-30T17:00:00Z,2024-03-31T05:00:00Z,,40,60,11,0\n";

const TOML: &str = r#"name = "test"
area = "NL"
from = 2024-03-30
to = 2024-04-01

[prices]
day_ahead = { file = "da.csv", column = "price" }

[fleet]
sessions = "sessions.csv"
"#;

struct Case {
    dir: TempDir,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Hourly prices 0, 1, 2 ... over the two local days 2024-03-30 and 31 (47 hours), and the day before.
fn hourly() -> String {
    let mut text = "utc_start,price\n".to_owned();
    for hour in 0..71 {
        let start = at("2024-03-28T23:00:00Z") + TimeDelta::hours(hour);
        writeln!(text, "{},{hour}", start.to_rfc3339()).unwrap();
    }
    text
}

impl Case {
    fn new() -> Self {
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        case.put("scenario.toml", TOML)
            .put("sessions.csv", SESSIONS)
            .put("da.csv", &hourly());
        case
    }

    fn put(&self, name: &str, text: &str) -> &Self {
        fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn toml(&self, from: &str, to: &str) -> &Self {
        assert!(TOML.contains(from), "{from}");
        self.put("scenario.toml", &TOML.replace(from, to))
    }

    fn load(&self) -> Scenario {
        scenario::load(&self.path("scenario.toml")).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The message, with the folder taken off.
    fn refusal(&self) -> String {
        let error = scenario::load(&self.path("scenario.toml")).expect_err("must be refused");
        let folder = format!("{}/", self.dir.path().display());
        error.to_string().replace(&folder, "")
    }
}

fn refused(case: &Case, parts: &[&str]) {
    let text = case.refusal();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn hourly_prices_are_held_over_their_quarters_on_a_23_hour_day() {
    let s = Case::new().load();
    assert_eq!(s.start, at("2024-03-29T23:00:00Z"));
    assert_eq!(s.end, at("2024-03-31T22:00:00Z"));
    assert_eq!(s.steps(), 96 + 92);
    assert_eq!(
        s.prices.day_ahead.values[..5],
        [24.0, 24.0, 24.0, 24.0, 25.0]
    );
    assert_eq!(s.prices.day_ahead.values.last(), Some(&70.0));
    assert_eq!(
        s.prices.day_ahead.raw.values.len(),
        71,
        "history before the period stays"
    );
    assert_eq!(s.prices.day_ahead.raw.before(s.start).1.len(), 24);
    assert_eq!(s.price_gaps_filled(), 0);
    assert!((s.step_hours() - 0.25).abs() < 1e-12);
    assert_eq!(s.step_start(4), at("2024-03-30T00:00:00Z"));
    assert!(s.notes.is_empty());
}

#[test]
fn defaults_are_those_of_the_contract() {
    let s = Case::new().load();
    assert_eq!(s.currency().code(), "EUR");
    assert!((s.fleet.charge_efficiency - 0.94).abs() < 1e-12);
    assert!(!s.fleet.departure_known);
    assert!(s.markets.day_ahead && !s.markets.fcr.enabled && !s.markets.afrr.enabled);
    assert_eq!(s.markets.fcr.headroom, Headroom::Snapshot);
    assert_eq!(s.risk.planning, Planning::Stochastic);
    assert!(s.risk.beta.abs() < 1e-12 && (s.risk.cvar_alpha - 0.95).abs() < 1e-12);
    assert!((s.risk.reserve_reliability - 0.9).abs() < 1e-12);
    assert!(matches!(s.prices.imbalance, Imbalance::Spread(x) if x.abs() < 1e-12));
}

#[test]
fn sessions_keep_an_unknown_arrival_level_unknown() {
    let s = Case::new().load();
    assert_eq!(s.fleet.sessions.len(), 2);
    assert_eq!(s.fleet.sessions[0].plug_out, at("2024-03-30T15:30:00Z"));
    assert_eq!(s.fleet.sessions[0].energy_arrival_kwh, Some(12.5));
    assert_eq!(s.fleet.sessions[1].energy_arrival_kwh, None);
    assert_eq!(s.fleet.sessions[1].site_id, "");
}

#[test]
fn a_sample_with_every_key_is_read() {
    let case = Case::new();
    let mut blocks = "utc_start,utc_end,product,price\n".to_owned();
    let mut start = at("2024-03-29T23:00:00Z");
    for hours in [4, 4, 4, 4, 4, 4, 3, 4, 4, 4, 4, 4] {
        let end = start + TimeDelta::hours(hours);
        for product in ["POS_1", "NEG_1"] {
            writeln!(
                blocks,
                "{},{},{product},{hours}",
                start.to_rfc3339(),
                end.to_rfc3339()
            )
            .unwrap();
        }
        start = end;
    }
    case.put("blocks.csv", &blocks);
    case.put("hz.csv", "utc,deviation_mhz\n2024-03-30T00:00:00Z,-12\n2024-03-30T00:00:01Z,\n2024-03-30T00:00:02Z,3\n");
    case.put(
        "scenario.toml",
        r#"
name = "everything"
area = "DE"
from = "2024-03-30"
to = 2024-04-01
step_minutes = 30

[prices]
day_ahead = { file = "da.csv", column = "price", fill = "hold" }
imbalance = { file = "da.csv", column_short = "price", column_long = "price" }
imbalance_spread = 5
fcr = { file = "blocks.csv", column = "price", where = { product = "POS_*" } }
afrr_up = { file = "blocks.csv", column = "price", where = { product = "POS_*" } }
afrr_down = { file = "blocks.csv", column = "price", where = { product = "NEG_?" }, per = "block" }
frequency = { file = ["hz.csv"], column = "deviation_mhz" }

[fleet]
sessions = "sessions.csv"
charge_efficiency = 0.9
discharge_efficiency = 0.8
min_energy_fraction = 0
v2g_share = 0.5
departure_known = true
days_off = [2024-04-01, "2024-05-01"]

[[site]]
id = "home"
import_limit_kw = 500
export_limit_kw = 250.5
base_load = { file = "da.csv", column = "price" }

[[site]]
id = "other"

[costs]
import_per_mwh = 1
export_per_mwh = -2.5
wear_per_mwh = 30.0
demand_per_kw_month = 4

[markets]
day_ahead = false
fcr = { enabled = true, power_factor = 1.25, endurance_minutes = 15, headroom = "window", recovery_steps = 4 }
afrr = { enabled = true, endurance_minutes = 30 }

[risk]
planning = "expected"
cvar_alpha = 0.8
beta = 0.25
reserve_reliability = 0.95
"#,
    );
    let s = case.load();
    assert_eq!(s.risk.planning, Planning::Expected);
    assert!((s.risk.cvar_alpha - 0.8).abs() < 1e-12 && (s.risk.beta - 0.25).abs() < 1e-12);
    assert!((s.risk.reserve_reliability - 0.95).abs() < 1e-12);
    assert_eq!(s.steps(), 94);
    let fcr = s.prices.fcr.as_ref().unwrap();
    assert_eq!(fcr.blocks.len(), 12);
    assert_eq!(fcr.blocks[6].per, Per::Block);
    assert!((fcr.blocks[6].price_per_mw() - 3.0).abs() < 1e-12);
    assert!((fcr.blocks[6].price_per_mw_hour() - 1.0).abs() < 1e-12);
    let up = s.prices.afrr_up.as_ref().unwrap();
    assert!(
        (up.blocks[0].price_per_mw() - 16.0).abs() < 1e-12,
        "per MW and hour"
    );
    let down = s.prices.afrr_down.as_ref().unwrap();
    assert!(
        (down.blocks[0].price_per_mw() - 4.0).abs() < 1e-12,
        "per block"
    );
    let frequency = s
        .prices
        .frequency
        .as_ref()
        .unwrap()
        .read(s.start, s.end)
        .unwrap();
    assert_eq!(frequency.len(), 2, "a missing second stays missing");
    assert!((frequency[0].1 + 12.0).abs() < 1e-12);
    assert_eq!(s.sites.len(), 2);
    assert_eq!(s.sites[0].base_load.as_ref().unwrap().values.len(), 94);
    assert_eq!(s.sites[1].import_limit_kw, None);
    assert_eq!(s.markets.fcr.headroom, Headroom::Window);
    assert!((s.costs.export_per_mwh + 2.5).abs() < 1e-12);
    assert!(s.fleet.departure_known);
    let off: Vec<String> = s.fleet.days_off.iter().map(ToString::to_string).collect();
    assert_eq!(off, ["2024-04-01", "2024-05-01"]);
}

#[test]
fn quarter_hourly_prices_share_an_hourly_step() {
    let case = Case::new();
    let mut text = "utc,price\n".to_owned();
    for quarter in 0..188 {
        let start = at("2024-03-29T23:00:00Z") + TimeDelta::minutes(15 * quarter);
        writeln!(text, "{},{quarter}", start.to_rfc3339()).unwrap();
    }
    case.put("da.csv", &text)
        .toml("to = 2024-04-01", "to = 2024-04-01\nstep_minutes = 60");
    let s = case.load();
    assert_eq!(s.steps(), 47);
    assert!((s.prices.day_ahead.values[1] - 5.5).abs() < 1e-12);
}

#[test]
fn a_file_that_changes_from_hours_to_quarters_is_no_gap() {
    let case = Case::new();
    let mut text = hourly().lines().take(1 + 48).collect::<Vec<_>>().join("\n") + "\n";
    for quarter in 0..92 {
        let start = at("2024-03-30T23:00:00Z") + TimeDelta::minutes(15 * quarter);
        writeln!(text, "{},{quarter}", start.to_rfc3339()).unwrap();
    }
    let s = case.put("da.csv", &text).load();
    assert_eq!(s.prices.day_ahead.values[95..98], [47.0, 0.0, 1.0]);
}

#[test]
fn rows_out_of_order_are_sorted_and_said() {
    let case = Case::new();
    let text = hourly();
    let mut lines: Vec<_> = text.lines().collect();
    lines[1..].reverse();
    let s = case.put("da.csv", &(lines.join("\n") + "\n")).load();
    assert_eq!(s.prices.day_ahead.values[0], 24.0);
    assert!(s.notes[0].contains("not in order of time"), "{:?}", s.notes);
}

#[test]
fn comment_lines_keep_line_numbers_true() {
    let case = Case::new();
    let text = SESSIONS
        .replace("s1,", "# a comment\ns1,")
        .replace(",40,60,11,0", ",40,60,-11,0");
    case.put(
        "sessions.csv",
        &format!("# assumed: capacity_kwh=60\n{text}"),
    );
    refused(
        &case,
        &[
            "sessions.csv:5: ",
            "max_charge_kw is -11",
            "expected zero or more",
        ],
    );
}

#[test]
fn gzip_and_parquet_hold_the_same_tables() {
    let case = Case::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(hourly().as_bytes()).unwrap();
    fs::write(case.path("da.csv.gz"), packed.finish().unwrap()).unwrap();
    let sessions = frames::sessions::read(&case.path("sessions.csv")).unwrap();
    frames::sessions::write(
        &case.path("sessions.parquet"),
        &sessions,
        &Default::default(),
    )
    .unwrap();
    let toml = TOML
        .replace("da.csv", "da.csv.gz")
        .replace("sessions.csv", "sessions.parquet");
    let s = case.put("scenario.toml", &toml).load();
    assert_eq!(s.fleet.sessions, sessions);
    assert_eq!(s.steps(), 188);
}

#[test]
fn a_gap_is_named_and_only_held_when_asked() {
    let case = Case::new();
    let missing = |line: &&str| {
        !line.starts_with("2024-03-30T10:00") && !line.starts_with("2024-03-30T11:00")
    };
    let text: Vec<_> = hourly()
        .lines()
        .filter(|l| missing(l))
        .map(str::to_owned)
        .collect();
    case.put("da.csv", &(text.join("\n") + "\n"));
    refused(
        &case,
        &[
            "da.csv:37: ",
            "2024-03-30T10:00:00Z/2024-03-30T11:00:00Z",
            "2024-03-30T12:00:00Z",
            "expected no gaps",
        ],
    );
    case.toml("column = \"price\"", "column = \"price\", fill = \"hold\"");
    let s = case.load();
    assert_eq!(s.price_gaps_filled(), 2);
    assert_eq!(
        s.prices.day_ahead.values[44..53],
        [34.0; 8].into_iter().chain([37.0]).collect::<Vec<_>>()
    );
}

#[test]
fn an_empty_field_is_a_gap_at_its_line() {
    let case = Case::new();
    case.put(
        "da.csv",
        &hourly().replace("2024-03-30T10:00:00+00:00,35", "2024-03-30T10:00:00+00:00,"),
    );
    refused(
        &case,
        &["da.csv:37: ", "2024-03-30T10:00:00Z/2024-03-30T11:00:00Z"],
    );
}

#[test]
fn a_series_that_ends_early_is_refused() {
    let case = Case::new();
    let text: Vec<_> = hourly().lines().take(1 + 70).map(str::to_owned).collect();
    case.put("da.csv", &(text.join("\n") + "\n"));
    refused(
        &case,
        &["da.csv:71: ", "2024-03-31T21:00:00Z/2024-03-31T22:00:00Z"],
    );
}

#[test]
fn one_missing_quarter_in_a_quarter_hourly_day_is_a_gap() {
    let case = Case::new();
    let mut text = "utc,price\n".to_owned();
    for quarter in (0..188).filter(|q| *q != 10) {
        let start = at("2024-03-29T23:00:00Z") + TimeDelta::minutes(15 * quarter);
        writeln!(text, "{},{quarter}", start.to_rfc3339()).unwrap();
    }
    case.put("da.csv", &text);
    refused(
        &case,
        &["da.csv:12: ", "2024-03-30T01:30:00Z/2024-03-30T01:45:00Z"],
    );
}

#[test]
fn bad_rows_of_a_series_are_named_by_line() {
    let case = Case::new();
    for (from, to, parts) in [
        (
            "2024-03-30T10:00:00+00:00,35",
            "2024-03-30T09:00:00+00:00,35",
            [
                "da.csv:37: ",
                "a second value for 2024-03-30T09:00:00Z",
                "da.csv:36",
            ],
        ),
        (
            "2024-03-30T10:00:00+00:00,35",
            "2024-03-30T10:00:00,35",
            ["da.csv:37: ", "without an offset", "2024-01-31T12:00:00Z"],
        ),
        (
            "2024-03-30T10:00:00+00:00,35",
            "2024-03-30T10:00:00+00:00,inf",
            ["da.csv:37: ", "price is \"inf\"", "finite number"],
        ),
        (
            "2024-03-30T10:00:00+00:00,35",
            "2024-03-30T10:00:00+00:00,NaN",
            ["da.csv:37: ", "price is \"NaN\"", "finite number"],
        ),
        (
            "2024-03-30T10:00:00+00:00,35",
            "2024-03-30T10:00:00+00:00,35,1",
            ["da.csv:37: ", "3 fields", "expected 2"],
        ),
        (
            "utc_start,price",
            "utc_start,preis",
            [
                "da.csv:1: ",
                "expected column \"price\"",
                "utc_start, preis",
            ],
        ),
        (
            "utc_start,price",
            "time,price",
            ["da.csv:1: ", "utc_start, utc, start", "time, price"],
        ),
    ] {
        case.put("da.csv", &hourly().replace(from, to));
        refused(&case, &parts);
    }
}

#[test]
fn bad_sessions_are_named_by_line() {
    let case = Case::new();
    for (from, to, parts) in [
        (
            "2024-03-31T05:00:00Z",
            "2024-03-30T05:00:00Z",
            [
                "sessions.csv:3: ",
                "is not after arrival",
                "expected a later departure",
            ],
        ),
        (
            ",12.5,40,60,",
            ",12.5,40,12,",
            [
                "sessions.csv:2: ",
                "capacity_kwh 12 is below energy_arrival_kwh 12.5",
                "expected",
            ],
        ),
        (
            ",60,11,0",
            ",60,-11,0",
            [
                "sessions.csv:3: ",
                "max_charge_kw is -11",
                "expected zero or more",
            ],
        ),
        (
            ",60,11,0",
            ",60,11,-1",
            [
                "sessions.csv:3: ",
                "max_discharge_kw is -1",
                "expected zero or more",
            ],
        ),
        (
            ",12.5,",
            ",-1,",
            [
                "sessions.csv:2: ",
                "energy_arrival_kwh is -1",
                "expected zero or more",
            ],
        ),
        (
            ",60,11,0",
            ",60,infinity,0",
            [
                "sessions.csv:3: ",
                "max_charge_kw is \"infinity\"",
                "finite number",
            ],
        ),
        (
            ",60,11,0",
            ",60,,0",
            [
                "sessions.csv:3: ",
                "max_charge_kw is empty",
                "expected a number",
            ],
        ),
        (
            "s2,e1,v2",
            "s2,e1,",
            ["sessions.csv:3: ", "vehicle_id is empty", "expected a name"],
        ),
        (
            "s2,e1,v2",
            ",e1,v2",
            ["sessions.csv:3: ", "session_id is empty", "expected a name"],
        ),
        (
            "s2,e1,v2",
            "s1,e1,v2",
            ["sessions.csv:3: ", "\"s1\" again", "sessions.csv:2"],
        ),
        (
            "2024-03-30T17:00:00Z",
            "2024-03-30T17:00:00",
            [
                "sessions.csv:3: ",
                "without an offset",
                "expected an instant",
            ],
        ),
        (
            "2024-03-30T17:00:00Z",
            "30.03.2024",
            [
                "sessions.csv:3: ",
                "plug_in is \"30.03.2024\"",
                "expected an instant",
            ],
        ),
        (
            "capacity_kwh",
            "capacity",
            [
                "sessions.csv:1: ",
                "expected column \"capacity_kwh\"",
                "capacity, max_charge_kw",
            ],
        ),
    ] {
        assert!(SESSIONS.contains(from), "{from}");
        case.put("sessions.csv", &SESSIONS.replacen(from, to, 1));
        refused(&case, &parts);
    }
}

#[test]
fn bad_keys_are_named_by_line_and_key() {
    let case = Case::new();
    for (from, to, parts) in [
        (
            "area = \"NL\"",
            "area = \"XX\"",
            ["scenario.toml:2: area: ", "\"XX\" is unknown", "DE, NL, FR"],
        ),
        (
            "area = \"NL\"",
            "",
            ["scenario.toml:", "area: key is missing", "expected an area"],
        ),
        (
            "to = 2024-04-01",
            "to = 2024-03-30",
            [
                "scenario.toml:4: to: ",
                "not after from",
                "expected a later date",
            ],
        ),
        (
            "to = 2024-04-01",
            "to = 2024-04-31",
            ["scenario.toml:4", "", "expected"],
        ),
        (
            "to = 2024-04-01",
            "to = 5",
            ["scenario.toml:4: to: 5", "expected a local date", ""],
        ),
        (
            "to = 2024-04-01",
            "to = 2024-04-01\nspeed = 1",
            [
                "scenario.toml:5: speed: unknown key",
                "step_minutes",
                "prices",
            ],
        ),
        (
            "to = 2024-04-01",
            "to = 2024-04-01\nstep_minutes = 7",
            ["scenario.toml:5: step_minutes: 7", "divisor of 60", ""],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\nspeed = 1",
            [
                "scenario.toml:11: fleet.speed: unknown key",
                "expected one of",
                "v2g_share",
            ],
        ),
        (
            "sessions.csv\"",
            "none.csv\"",
            [
                "scenario.toml:10: fleet.sessions: no file",
                "none.csv",
                "expected",
            ],
        ),
        (
            "da.csv",
            "none.csv",
            [
                "scenario.toml:7: prices.day_ahead.file: no file",
                "none.csv",
                "expected",
            ],
        ),
        (
            "column = \"price\"",
            "column = 5",
            [
                "scenario.toml:7: prices.day_ahead.column: 5",
                "expected the name of a column",
                "",
            ],
        ),
        (
            "column = \"price\"",
            "column = \"price\", fill = \"zero\"",
            [
                "scenario.toml:7: prices.day_ahead.fill: \"zero\"",
                "expected \"hold\"",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\ncharge_efficiency = 1.2",
            [
                "scenario.toml:11: fleet.charge_efficiency: 1.2",
                "from 0.01 to 1",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\ndays_off = [2024-03-29, 5]",
            [
                "scenario.toml:11: fleet.days_off[1]: 5",
                "expected a local date",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\nv2g_share = nan",
            ["scenario.toml:11: fleet.v2g_share: nan", "from 0 to 1", ""],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\ntimetable = \"gtfs.zip\"",
            [
                "scenario.toml:11: fleet.timetable: ",
                "a timetable without depot",
                "expected a table [[fleet.depot]]",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[[fleet.depot]]\nid = \"n\"",
            [
                "scenario.toml:11: fleet.depot: ",
                "a depot without timetable",
                "expected fleet.timetable",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[[site]]\nid=\"a\"\n[[site]]\nid=\"a\"",
            ["scenario.toml:14: site[1].id: ", "\"a\" again", "expected"],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[[site]]\nid=\"a\"\nimport_limit_kw = -1",
            [
                "scenario.toml:13: site[0].import_limit_kw: -1",
                "at least 0",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[markets]\nfcr = { enabled = true }",
            ["scenario.toml:", "markets.fcr is enabled", "expected"],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[markets]\nfcr = { headroom = \"x\" }",
            [
                "scenario.toml:12: markets.fcr.headroom: \"x\"",
                "\"window\"",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[risk]\nbeta = 1.5",
            ["scenario.toml:12: risk.beta: 1.5", "1", ""],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[risk]\nreserve_reliability = 1",
            [
                "scenario.toml:12: risk.reserve_reliability: 1",
                "0.9999",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[risk]\nplanning = \"hope\"",
            [
                "scenario.toml:12: risk.planning: \"hope\"",
                "\"expected\"",
                "",
            ],
        ),
        (
            "sessions.csv\"",
            "sessions.csv\"\n[costs]\nimport_per_mwh = 10\nexport_per_mwh = -40.5\nwear_per_mwh = 30",
            ["scenario.toml:11: costs: ", "-0.5", "expected 0 or more"],
        ),
        (
            "[fleet]",
            "[fleet",
            ["scenario.toml:9: ", "not valid TOML", "expected"],
        ),
    ] {
        case.toml(from, to);
        refused(&case, &parts);
    }
}

#[test]
fn a_truncated_gzip_is_named_with_a_line() {
    let case = Case::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(hourly().as_bytes()).unwrap();
    let mut bytes = packed.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(case.path("da.csv.gz"), bytes).unwrap();
    case.put("scenario.toml", &TOML.replace("da.csv", "da.csv.gz"));
    refused(
        &case,
        &[
            "da.csv.gz:",
            "gzip data end early",
            "expected a complete file",
        ],
    );
    fs::write(case.path("da.csv.gz"), b"plain text").unwrap();
    refused(&case, &["da.csv.gz:", "gzip"]);
}

#[test]
fn a_missing_scenario_and_binary_noise_are_refused() {
    let error = scenario::load(Path::new("/nowhere/at all.toml")).unwrap_err();
    assert!(
        error.to_string().contains("at all.toml: no such file"),
        "{error}"
    );
    let case = Case::new();
    fs::write(case.path("scenario.toml"), [b'a', b'\n', 0xff, 0xfe]).unwrap();
    refused(&case, &["scenario.toml:2: ", "not UTF-8"]);
}
