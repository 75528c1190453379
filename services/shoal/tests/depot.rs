//! A depot built from a timetable, played by the program and recomputed by an independent solver, which is given the
//! sessions that the depot stands for. Skipped, with the reason, without the data or a Python with highspy.
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what it compares, and stops where it cannot"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SCENARIO: &str = r#"name = "depot"
area = "NL"
from = 2024-01-08
to = 2024-01-13
[prices]
day_ahead = { file = "DATA/prices/nl_day_ahead_hourly_20190101_20240824.csv.gz", column = "nl_eur_mwh" }
[fleet]
FLEET
[costs]
wear_per_mwh = 30.0
[[site]]
id = "north"
import_limit_kw = 400.0
export_limit_kw = 200.0
"#;
const DEPOT: &str = r#"timetable = "DATA/bus/portland_trimet_line1_gtfs_20180206.zip"
[[fleet.depot]]
id = "north"
buses = "catalogue:ebusco-3.0-12"
chargers = 4
charger_kw = 120.0
kwh_per_km = 1.1
"#;

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("SHOAL_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    if !data.join("bus").is_dir() {
        eprintln!("skipped: no data at {}", data.display());
        return None;
    }
    data.canonicalize().ok()
}

fn write(dir: &Path, name: &str, fleet: &str, data: &Path) -> PathBuf {
    let data = data.to_str().expect("a plain path");
    let file = dir.join(name);
    let text = SCENARIO.replace("FLEET", fleet).replace("DATA", data);
    std::fs::write(&file, text).expect("the scenario is written");
    file
}

#[test]
fn a_depot_of_buses_leaves_no_bus_short_and_agrees_with_an_independent_solver() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let depot = write(dir.path(), "depot.toml", DEPOT, &data);
    let out = dir.path().join("out");
    let policies = [
        "--policy",
        "unmanaged",
        "--policy",
        "v1g-perfect",
        "--policy",
        "v2g-perfect",
    ];
    let run = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args([
            "backtest",
            depot.to_str().expect("a plain path"),
            "--json",
            "--out",
        ])
        .arg(&out)
        .args(policies)
        .output()
        .expect("shoal runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let report: Value = serde_json::from_slice(&run.stdout).expect("one JSON document");
    assert!(
        report["sessions"].as_u64().is_some_and(|n| n >= 10),
        "{}",
        report["sessions"]
    );
    for policy in report["policies"].as_array().expect("policies") {
        assert_eq!(policy["short_departures"], 0, "{}", policy["name"]);
    }
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("depot north: ") && notes.contains("moved by"),
        "{notes}"
    );

    let Some(python) = std::env::var_os("SHOAL_PYTHON") else {
        eprintln!("not compared with HiGHS: SHOAL_PYTHON is not set");
        return;
    };
    let scenario = frames::scenario::load(&depot).expect("the scenario loads");
    let sessions = dir.path().join("sessions.csv");
    frames::sessions::write(&sessions, &scenario.fleet.sessions, &BTreeMap::new())
        .expect("sessions are written");
    let twin = write(
        dir.path(),
        "twin.toml",
        "sessions = \"sessions.csv\"",
        &data,
    );
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/check_scenario.py");
    let checked = Command::new(python)
        .arg(check)
        .arg(&twin)
        .arg(out.join("report.json"))
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(said.matches("agrees").count() >= 2, "{said}");
}
