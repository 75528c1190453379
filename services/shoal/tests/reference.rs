//! The back-test on real data against an independent solver (issue "reference-energy" and "reference-fcr").
//!
//! Scenarios are made here from the data beside the project; a Python program that knows only the contract recomputes
//! them with HiGHS. `SHOAL_DATA` names the data folder (default: `../shared/data` beside the project), `SHOAL_PYTHON`
//! a Python with highspy and numpy. Without either, the test says what is missing and is skipped.
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what it compares, and stops where it cannot"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a scenario is made of.
struct Made {
    name: &'static str,
    head: &'static str,
    /// Arguments of `shoal import` before `--out`.
    sessions: &'static [&'static str],
    /// Columns of sessions to spread over two sites, so that limits bite.
    two_sites: bool,
    tail: &'static str,
}

const ELAAD: &[&str] = &[
    "elaad",
    "sessions/nl_elaad_public_sessions_2018.csv.gz",
    "--shift-weeks",
    "313",
    "--assume",
    "capacity_kwh=60,departure_fraction=0.8,max_discharge_kw=11",
    "--from",
    "2024-01-01",
    "--to",
    "2024-02-01",
];
const JPL_MARCH: &[&str] = &[
    "acn",
    "sessions/us_acn_jpl_sessions_20190501_20191231.csv.gz",
    "--shift-weeks",
    "234",
    "--to-zone",
    "Europe/Berlin",
    "--assume",
    "capacity_kwh=75,departure_fraction=0.8,max_discharge_kw=7",
    "--from",
    "2024-03-01",
    "--to",
    "2024-04-01",
];
const JPL_SUMMER: &[&str] = &[
    "acn",
    "sessions/us_acn_jpl_sessions_20190501_20191231.csv.gz",
    "--shift-weeks",
    "261",
    "--to-zone",
    "Europe/Berlin",
    "--assume",
    "capacity_kwh=75,departure_fraction=0.8,max_discharge_kw=7",
    "--from",
    "2024-05-01",
    "--to",
    "2024-08-01",
];
const NL: &str = r#"area = "NL"
from = 2024-01-01
to = 2024-02-01
[prices]
day_ahead = { file = "DATA/prices/nl_day_ahead_hourly_20190101_20240824.csv.gz", column = "nl_eur_mwh" }
imbalance_spread = 10.0
"#;
const NL_FIVE_DAYS: &str = r#"area = "NL"
from = 2024-01-08
to = 2024-01-13
[prices]
day_ahead = { file = "DATA/prices/nl_day_ahead_hourly_20190101_20240824.csv.gz", column = "nl_eur_mwh" }
imbalance_spread = 10.0
fcr = { file = "DATA/reserves/fcr_capacity_results_4h_20240101_20240824.csv.gz", column = "nl_price_eur_mw_per_block" }
afrr_up = { file = "DATA/reserves/afrr_capacity_results_de_at_4h_20240101_20240824.csv.gz", column = "de_average_capacity_price_eur_mw_h", where = { product = "POS_*" } }
afrr_down = { file = "DATA/reserves/afrr_capacity_results_de_at_4h_20240101_20240824.csv.gz", column = "de_average_capacity_price_eur_mw_h", where = { product = "NEG_*" } }
"#;
const DE_MARCH: &str = r#"area = "DE"
from = 2024-03-01
to = 2024-04-01
[prices]
day_ahead = { file = "DATA/prices/de_lu_and_neighbours_day_ahead_hourly_20230101_20240824.csv.gz", column = "de_lu_eur_mwh" }
imbalance_spread = 10.0
"#;
const DE_SUMMER: &str = r#"area = "DE"
from = 2024-05-01
to = 2024-08-01
[prices]
day_ahead = { file = "DATA/prices/de_lu_and_neighbours_day_ahead_hourly_20230101_20240824.csv.gz", column = "de_lu_eur_mwh" }
imbalance_spread = 10.0
"#;
const COSTS: &str = "[costs]\nimport_per_mwh = 5.0\nexport_per_mwh = 2.0\nwear_per_mwh = 30.0\n";
const TWO_TIGHT_SITES: &str = "[costs]\nimport_per_mwh = 5.0\nwear_per_mwh = 30.0\n
[[site]]\nid = \"garage-1\"\nimport_limit_kw = 90.0\nexport_limit_kw = 30.0
[[site]]\nid = \"garage-2\"\nimport_limit_kw = 45.0\nexport_limit_kw = 20.0\n";
const SNAPSHOT: &str = "[costs]\nwear_per_mwh = 30.0\n[markets]
fcr = { enabled = true, power_factor = 1.25, endurance_minutes = 30, headroom = \"snapshot\" }\n";
const WINDOW: &str = "[costs]\nwear_per_mwh = 30.0\n[markets]
fcr = { enabled = true, power_factor = 1.25, endurance_minutes = 30, headroom = \"window\", recovery_steps = 2 }\n";
const WINDOW_AFRR: &str = "[costs]\nwear_per_mwh = 30.0\n[markets]
fcr = { enabled = true, power_factor = 1.25, endurance_minutes = 30, headroom = \"window\", recovery_steps = 2 }
afrr = { enabled = true, endurance_minutes = 60 }\n";

/// Data and Python, or the reason why there is nothing to compare with.
fn means() -> Result<(PathBuf, PathBuf), String> {
    let data = std::env::var_os("SHOAL_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    if !data.join("prices").is_dir() {
        return Err(format!("no data at {}", data.display()));
    }
    let python = std::env::var_os("SHOAL_PYTHON").ok_or("SHOAL_PYTHON is not set")?;
    let found = Command::new(&python)
        .args(["-c", "import highspy, numpy"])
        .output();
    match found {
        Ok(out) if out.status.success() => Ok((data.canonicalize().unwrap_or(data), python.into())),
        _ => Err(format!(
            "{} has no highspy and numpy",
            Path::new(&python).display()
        )),
    }
}

fn shoal(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(args)
        .output()
        .expect("shoal runs");
    assert!(
        out.status.success(),
        "shoal {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

/// Writes sessions and scenario into `dir`; gives the scenario file.
fn make(made: &Made, data: &Path, dir: &Path) -> PathBuf {
    let source = data.join(made.sessions[1]);
    let sessions = dir.join("sessions.csv");
    let mut args = vec![
        "import",
        made.sessions[0],
        source.to_str().expect("a plain path"),
    ];
    args.extend(&made.sessions[2..]);
    args.extend(["--out", sessions.to_str().expect("a plain path")]);
    shoal(&args);
    if made.two_sites {
        spread_over_two_sites(&sessions);
    }
    let head = made
        .head
        .replace("DATA", data.to_str().expect("a plain path"));
    let text = format!(
        "name = \"{}\"\n{head}[fleet]\nsessions = \"sessions.csv\"\ndeparture_known = true\n{}",
        made.name, made.tail
    );
    let file = dir.join(format!("{}.toml", made.name));
    std::fs::write(&file, text).expect("the scenario is written");
    file
}

/// Every third session goes to the second garage.
fn spread_over_two_sites(file: &Path) {
    let text = std::fs::read_to_string(file).expect("sessions are there");
    let mut column = None;
    let mut lines = Vec::new();
    for (row, line) in text.lines().enumerate() {
        let mut cells: Vec<&str> = line.split(',').collect();
        match column {
            _ if line.starts_with('#') => {}
            None => column = cells.iter().position(|c| *c == "site_id"),
            Some(site) => cells[site] = if row % 3 == 0 { "garage-2" } else { "garage-1" },
        }
        lines.push(cells.join(","));
    }
    std::fs::write(file, lines.join("\n") + "\n").expect("sessions are written");
}

/// Back-tests `made` under `policies` and has HiGHS recompute it; gives the report, or `None` without the means.
fn compare(made: &Made, policies: &[&str]) -> Option<Value> {
    let (data, python) = match means() {
        Ok(means) => means,
        Err(reason) => {
            eprintln!("skipped {}: {reason}", made.name);
            return None;
        }
    };
    let dir = tempfile::tempdir().expect("a folder");
    let scenario = make(made, &data, dir.path());
    let out = dir.path().join("out");
    let mut args = vec![
        "backtest",
        scenario.to_str()?,
        "--json",
        "--out",
        out.to_str()?,
    ];
    for policy in policies {
        args.extend(["--policy", policy]);
    }
    let report: Value = serde_json::from_slice(&shoal(&args)).expect("one JSON document");
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/check_scenario.py");
    let checked = Command::new(python)
        .arg(check)
        .arg(&scenario)
        .arg(out.join("report.json"))
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    eprintln!("{}:\n{said}", made.name);
    assert!(
        checked.status.success(),
        "{}: {said}{}",
        made.name,
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(
        said.matches("agrees").count() >= policies.iter().filter(|p| **p != "v2g").count(),
        "{said}"
    );
    promise(&report);
    Some(report)
}

/// What `v2g` promises, and what a proven gap must be.
fn promise(report: &Value) {
    for policy in report["policies"].as_array().expect("policies") {
        let name = policy["name"].as_str().expect("a name");
        if name == "v2g" {
            assert_eq!(policy["short_departures"], 0, "{name} leaves nobody short");
            assert!(report["value_capture"].is_f64(), "value capture is printed");
        }
        if name != "unmanaged" {
            assert_eq!(policy["site_limit_breaches"], 0, "{name} breaks no limit");
        }
        if name.ends_with("-perfect") {
            let gap = policy["relative_gap"].as_f64().expect("a proven gap");
            assert!((0.0..1e-4).contains(&gap), "{name}: gap {gap}");
        }
    }
}

const WITH_V2G: &[&str] = &["unmanaged", "v2g", "v1g-perfect", "v2g-perfect"];

#[test]
fn nl_january_with_elaad_sessions_agrees() {
    let made = Made {
        name: "nl-2024-01",
        head: NL,
        sessions: ELAAD,
        two_sites: false,
        tail: COSTS,
    };
    compare(&made, WITH_V2G);
}

#[test]
fn de_march_over_the_clock_change_agrees() {
    let made = Made {
        name: "de-2024-03",
        head: DE_MARCH,
        sessions: JPL_MARCH,
        two_sites: false,
        tail: COSTS,
    };
    compare(&made, WITH_V2G);
}

#[test]
fn de_summer_with_negative_prices_agrees() {
    let made = Made {
        name: "de-2024-summer",
        head: DE_SUMMER,
        sessions: JPL_SUMMER,
        two_sites: false,
        tail: COSTS,
    };
    compare(&made, WITH_V2G);
}

#[test]
fn two_tight_sites_agree() {
    let made = Made {
        name: "tight",
        head: DE_MARCH,
        sessions: JPL_MARCH,
        two_sites: true,
        tail: TWO_TIGHT_SITES,
    };
    let report = compare(&made, WITH_V2G);
    if let Some(report) = report {
        let unmanaged = &report["policies"][0];
        assert!(
            unmanaged["site_limit_breaches"].as_u64() > Some(0),
            "the sites are tight"
        );
    }
}

#[test]
fn fcr_with_snapshot_headroom_agrees() {
    let made = Made {
        name: "fcr-snapshot",
        head: NL_FIVE_DAYS,
        sessions: ELAAD,
        two_sites: false,
        tail: SNAPSHOT,
    };
    compare(&made, WITH_V2G);
}

#[test]
fn fcr_with_window_headroom_agrees() {
    let made = Made {
        name: "fcr-window",
        head: NL_FIVE_DAYS,
        sessions: ELAAD,
        two_sites: false,
        tail: WINDOW,
    };
    compare(&made, WITH_V2G);
}

#[test]
fn fcr_with_afrr_beside_it_agrees() {
    let made = Made {
        name: "fcr-afrr",
        head: NL_FIVE_DAYS,
        sessions: ELAAD,
        two_sites: false,
        tail: WINDOW_AFRR,
    };
    compare(&made, WITH_V2G);
}
