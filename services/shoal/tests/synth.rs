//! `shoal synth` as a person would use it: what it writes is a scenario that `shoal backtest` takes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn shoal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(args)
        .output()
        .unwrap()
}

fn synth(folder: &Path, day: &str) -> Output {
    let folder = folder.to_str().unwrap();
    shoal(&[
        "synth",
        folder,
        "--vehicles",
        "24",
        "--buses",
        "3",
        "--area",
        "DE",
        "--day",
        day,
        "--seed",
        "5",
        "--json",
    ])
}

#[test]
fn a_made_day_is_back_tested_to_a_proven_gap_on_ordinary_days_and_on_clock_changes() {
    for day in ["2024-06-12", "2024-03-31", "2024-10-27"] {
        let folder = tempfile::tempdir().unwrap();
        let made = synth(folder.path(), day);
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let written: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let scenario = folder.path().join("scenario.toml");
        let out = folder.path().join("out");
        let tested = shoal(&[
            "backtest",
            scenario.to_str().unwrap(),
            "--policy",
            "v2g-perfect",
            "--out",
            out.to_str().unwrap(),
            "--json",
        ]);
        assert!(
            tested.status.success(),
            "{}",
            String::from_utf8_lossy(&tested.stderr)
        );
        let report: serde_json::Value = serde_json::from_slice(&tested.stdout).unwrap();
        assert_eq!(report["sessions"], written["sessions"], "{day}");
        assert_eq!(report["sessions_skipped"], 0);
        assert!(
            report["policies"][0]["relative_gap"].as_f64().unwrap() < 1e-4,
            "{day}"
        );
        assert!(
            report["policies"][0]["reserve_offered_mw_h"]
                .as_f64()
                .unwrap()
                > 0.0,
            "{day}"
        );
    }
}

#[test]
fn the_same_seed_writes_the_same_files_and_another_scenario_is_not_joined() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(synth(one.path(), "2024-06-12").status.success());
    assert!(synth(two.path(), "2024-06-12").status.success());
    for name in ["scenario.toml", "sessions.csv", "prices.csv", "fcr.csv"] {
        assert_eq!(
            fs::read(one.path().join(name)).unwrap(),
            fs::read(two.path().join(name)).unwrap(),
            "{name}"
        );
    }
    fs::write(two.path().join("other.toml"), "").unwrap();
    let refused = synth(two.path(), "2024-06-12");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("other.toml"));
}
