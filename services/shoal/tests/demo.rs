//! The whole loop as a user starts it: the built program, real sockets, a clock that runs fast.

use std::io;
use std::process::{Command, Output};

fn demo(args: &[&str]) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_shoal"))
        .arg("demo")
        .args(args)
        .output()
}

#[test]
fn a_small_fleet_is_forecast_steered_and_leaves_with_what_it_needs() {
    let args = [
        "--for",
        "8s",
        "--speed",
        "900",
        "--vehicles",
        "24",
        "--buses",
        "6",
        "--headless",
        "--json",
    ];
    let output = demo(&args).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let outcome: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one JSON document");
    let count = |key: &str| outcome[key].as_u64().unwrap_or_default();
    assert!(count("forecasts_made") > 0, "{outcome:#}");
    assert!(count("departures") > 0, "{outcome:#}");
    assert_eq!(count("vehicles_left_short"), 0, "{outcome:#}");
    let accepted = &outcome["setpoints"]["accepted"];
    assert!(accepted.as_u64().unwrap_or_default() > 0, "{outcome:#}");
    // Too small a fleet for whole megawatts: nothing is sold that it cannot deliver.
    assert_eq!(outcome["awards"]["fcr"]["count"], 0, "{outcome:#}");
    let pool = outcome["statements"][0]["account"].as_str();
    assert_eq!(pool, Some("pool"), "{outcome:#}");
}

#[test]
fn options_that_cannot_be_played_are_refused_by_name() {
    for (args, expected) in [
        (["--speed", "0"], "--speed: met 0"),
        (["--for", "10ms"], "--for: met 10ms"),
        (["--vehicles", "900000"], "--vehicles: met 900030"),
    ] {
        let output = demo(&args).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}
