//! Every kind of bad input, given to the program as a person would: status 2, nothing on standard output, and a message
//! that names file, line and expectation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const SESSIONS: &str = "session_id,evse_id,vehicle_id,site_id,plug_in,plug_out,energy_arrival_kwh,energy_required_kwh,capacity_kwh,max_charge_kw,max_discharge_kw\n\
s1,e1,v1,home,2024-01-15T08:00:00Z,2024-01-15T16:00:00Z,12.5,40,60,11,11\n\
s2,e1,v2,home,2024-01-15T17:00:00Z,2024-01-15T20:00:00Z,30,40,60,11,0\n";

const SCENARIO: &str = r#"name = "bad-input"
area = "NL"
from = 2024-01-15
to = 2024-01-16

[prices]
day_ahead = { file = "da.csv", column = "price" }

[fleet]
sessions = "sessions.csv"
"#;

const ELAAD: &str = "plug_in_local,plug_out_local,energy_wh,connected_hours,charging_hours,max_power_w\n\
2018-06-04 08:00:00,2018-06-04 10:00:00,9400,2.0,1.5,7400\n";

fn prices() -> String {
    let mut text = "utc_start,price\n".to_owned();
    writeln!(text, "2024-01-14T23:00:00Z,50").unwrap();
    for hour in 0..23 {
        writeln!(text, "2024-01-15T{hour:02}:00:00Z,{}", 40 + hour).unwrap();
    }
    text
}

/// A folder with a scenario that is right.
struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        case.put("scenario.toml", SCENARIO);
        case.put("sessions.csv", SESSIONS);
        case.put("da.csv", &prices());
        case.put("elaad.csv", ELAAD);
        case
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A new case in which `from` of the file `name` reads `to`.
    fn with(name: &str, from: &str, to: &str) -> Self {
        let case = Self::new();
        let text = fs::read_to_string(case.path(name)).unwrap();
        assert!(text.contains(from), "{from:?} is not in {name}");
        case.put(name, &text.replacen(from, to, 1));
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shoal(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_shoal"))
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    fn backtest(&self) -> Output {
        self.shoal(&[
            "backtest",
            "scenario.toml",
            "--policy",
            "unmanaged",
            "--out",
            "out",
            "--json",
        ])
    }

    fn import(&self, format: &str, file: &str) -> Output {
        self.shoal(&["import", format, file, "--out", "out.csv", "--json"])
    }
}

/// Status 2, silence on standard output, no panic, and every part in the message.
fn refused(output: &Output, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!message.contains("panicked"), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn the_untouched_scenario_runs() {
    let output = Case::new().backtest();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sessions"], 2);
}

#[test]
fn an_unknown_key_is_refused() {
    let case = Case::with("scenario.toml", "[fleet]", "[fleet]\nspeed = 1");
    refused(
        &case.backtest(),
        &[
            "error: ",
            "scenario.toml:10: fleet.speed: unknown key",
            "expected one of",
        ],
    );
}

#[test]
fn a_missing_file_is_refused() {
    let case = Case::with("scenario.toml", "da.csv", "none.csv");
    refused(
        &case.backtest(),
        &[
            "scenario.toml:7: prices.day_ahead.file: no file",
            "none.csv",
            "expected",
        ],
    );
    let case = Case::new();
    refused(
        &case.shoal(&["backtest", "none.toml"]),
        &["error: none.toml: no such file", "expected"],
    );
    refused(
        &case.import("elaad", "none.csv"),
        &["error: none.csv: no such file", "expected"],
    );
}

#[test]
fn a_gap_is_refused_by_its_first_interval() {
    let case = Case::with("da.csv", "2024-01-15T10:00:00Z,50\n", "");
    refused(
        &case.backtest(),
        &[
            "da.csv:13: ",
            "2024-01-15T10:00:00Z/2024-01-15T11:00:00Z",
            "expected no gaps",
        ],
    );
}

#[test]
fn a_duplicate_instant_is_refused() {
    let case = Case::with(
        "da.csv",
        "2024-01-15T10:00:00Z,50\n",
        "2024-01-15T09:00:00Z,50\n",
    );
    refused(
        &case.backtest(),
        &[
            "da.csv:13: a second value for 2024-01-15T09:00:00Z",
            "expected one",
        ],
    );
}

#[test]
fn an_instant_without_offset_is_refused() {
    let case = Case::with("da.csv", "2024-01-15T10:00:00Z", "2024-01-15T10:00:00");
    refused(
        &case.backtest(),
        &["da.csv:13: ", "without an offset", "expected an instant"],
    );
    let case = Case::with("sessions.csv", "2024-01-15T17:00:00Z", "2024-01-15 17:00");
    refused(
        &case.backtest(),
        &[
            "sessions.csv:3: plug_in",
            "without an offset",
            "expected an instant",
        ],
    );
}

#[test]
fn impossible_sessions_are_refused() {
    for (from, to, part) in [
        (
            "2024-01-15T20:00:00Z",
            "2024-01-15T16:00:00Z",
            "is not after arrival",
        ),
        (
            ",30,40,60,",
            ",30,40,20,",
            "capacity_kwh 20 is below energy_arrival_kwh 30",
        ),
        (",60,11,0", ",60,-11,0", "max_charge_kw is -11"),
        (",60,11,0", ",60,11,-1", "max_discharge_kw is -1"),
        (",60,11,0", ",60,NaN,0", "max_charge_kw is \"NaN\""),
        (",60,11,0", ",inf,11,0", "capacity_kwh is \"inf\""),
        ("s2,e1,v2", ",e1,v2", "session_id is empty"),
        ("s2,e1,v2", "s1,e1,v2", "\"s1\" again"),
    ] {
        let case = Case::with("sessions.csv", from, to);
        refused(&case.backtest(), &["sessions.csv:3: ", part, "expected"]);
    }
}

#[test]
fn a_non_finite_price_is_refused() {
    for value in ["NaN", "inf", "1e999", "-infinity"] {
        let case = Case::with(
            "da.csv",
            "2024-01-15T10:00:00Z,50",
            &format!("2024-01-15T10:00:00Z,{value}"),
        );
        refused(
            &case.backtest(),
            &["da.csv:13: ", value, "expected a finite number"],
        );
    }
}

#[test]
fn a_truncated_gzip_is_refused() {
    let case = Case::with("scenario.toml", "da.csv", "da.csv.gz");
    // A stored (uncompressed) block that announces more bytes than follow.
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 0, 4, 0xff, 0xfb];
    bytes.extend(prices().into_bytes());
    fs::write(case.path("da.csv.gz"), &bytes).unwrap();
    refused(
        &case.backtest(),
        &[
            "da.csv.gz:",
            "gzip data end early",
            "expected a complete file",
        ],
    );
    let mut bytes = bytes[..15].to_vec();
    bytes.extend(ELAAD.as_bytes());
    fs::write(case.path("elaad.csv.gz"), &bytes).unwrap();
    refused(
        &case.import("elaad", "elaad.csv.gz"),
        &["elaad.csv.gz:3: ", "gzip data end early", "expected"],
    );
}

#[test]
fn a_wrong_column_is_refused_with_those_that_exist() {
    let case = Case::with("da.csv", "price", "preis");
    refused(
        &case.backtest(),
        &["da.csv:1: expected column \"price\"", "utc_start, preis"],
    );
    let case = Case::with("sessions.csv", "capacity_kwh", "capacity");
    refused(
        &case.backtest(),
        &[
            "sessions.csv:1: expected column \"capacity_kwh\"",
            "capacity, max_charge_kw",
        ],
    );
    let case = Case::with("elaad.csv", "energy_wh", "energy");
    refused(
        &case.import("elaad", "elaad.csv"),
        &[
            "elaad.csv:1: expected column \"energy_wh\"",
            "plug_out_local, energy",
        ],
    );
}

#[test]
fn a_torn_row_is_refused() {
    let case = Case::with("elaad.csv", ",1.5,7400", "");
    refused(
        &case.import("elaad", "elaad.csv"),
        &["elaad.csv:2: 4 fields", "expected 6"],
    );
    let case = Case::with("da.csv", "2024-01-15T10:00:00Z,50", "2024-01-15T10:00:00Z");
    refused(&case.backtest(), &["da.csv:13: 1 fields", "expected 2"]);
}

#[test]
fn a_broken_scenario_is_refused() {
    for (from, to, part) in [
        ("[fleet]", "[fleet", "scenario.toml:9: not valid TOML"),
        (
            "to = 2024-01-16",
            "to = 2024-01-15",
            "scenario.toml:4: to: 2024-01-15 is not after from",
        ),
        (
            "\"NL\"",
            "\"ATLANTIS\"",
            "scenario.toml:2: area: area \"ATLANTIS\" is unknown",
        ),
    ] {
        refused(
            &Case::with("scenario.toml", from, to).backtest(),
            &[part, "expected"],
        );
    }
}

#[test]
fn bad_usage_is_refused() {
    let case = Case::new();
    let shoal = |arguments: &[&str]| case.shoal(arguments);
    refused(
        &shoal(&["import", "elaad", "elaad.csv"]),
        &["error: ", "--out"],
    );
    refused(
        &shoal(&["import", "tarot", "elaad.csv", "--out", "x.csv"]),
        &["error: ", "tarot", "elaad"],
    );
    refused(
        &shoal(&["import", "elaad", "elaad.csv", "--out", "x.xlsx"]),
        &["error: --out x.xlsx", "expected .csv"],
    );
    let assume = |text| {
        shoal(&[
            "import",
            "elaad",
            "elaad.csv",
            "--out",
            "x.csv",
            "--assume",
            text,
        ])
    };
    refused(
        &assume("capacity_kwh=full"),
        &["error: --assume capacity_kwh=full", "expected a number"],
    );
    refused(
        &assume("battery=60"),
        &["error: --assume \"battery\"", "expected one of"],
    );
    refused(&shoal(&["fly"]), &["error: ", "fly"]);
}

#[test]
fn refused_rows_are_counted_and_the_rest_goes_on() {
    let case = Case::with(
        "elaad.csv",
        "2018-06-04 08:00:00,2018-06-04 10",
        "2018-02-29 08:00:00,2018-06-04 10",
    );
    let text = fs::read_to_string(case.path("elaad.csv")).unwrap();
    case.put(
        "elaad.csv",
        &format!("{text}2018-06-04 08:00:00,2018-06-04 10:00:00,9400,2.0,1.5,7400\n"),
    );
    let output = case.import("elaad", "elaad.csv");
    assert_eq!(output.status.code(), Some(0));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            &summary["rows_read"],
            &summary["rows_kept"],
            &summary["rows_refused"]
        ),
        (&2.into(), &1.into(), &1.into())
    );
    let reason = &summary["refused"]["start is missing or no date of the calendar"];
    assert_eq!(
        (&reason["rows"], &reason["first"]),
        (&1.into(), &"elaad.csv:2".into())
    );
    let written = fs::read_to_string(case.path("out.csv")).unwrap();
    assert!(
        written.starts_with("# assumed: capacity_kwh=60"),
        "{written}"
    );
}
