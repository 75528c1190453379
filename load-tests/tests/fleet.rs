//! The tool as a user starts it: small fleets over loopback, real processes, real signals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test says where, one that is skipped why"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_shoal-load"))
}

fn written(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("scenario.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs `shoal-load edge` on a scenario; the document and the exit status.
fn edge(text: &str) -> (Value, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let output = load()
        .args(["edge", "--json"])
        .arg(written(dir.path(), text))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {output:?}: {said}"));
    (document, output.status.code())
}

fn count(of: &Value, key: &str) -> u64 {
    of[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {of:#}"))
}

#[test]
fn whatever_goes_wrong_on_the_way_what_was_answered_is_on_the_log() {
    let (document, status) = edge(
        "name = \"faults\"\nseed = 3\n\
         [fleet]\nstations = 100\nconnects_per_second = 100\nhold_seconds = 6\nprocesses = 2\n\
         [behaviour]\nmeter_seconds = 1\nplugged_share = 1.0\nstay_seconds = 4\naway_seconds = 2\nv2g_share = 1.0\n\
         [security]\nprofile = 2\npassword = \"made for the run\"\n\
         [faults]\nlate_share = 0.1\nlate_seconds = 2\nlost_share = 0.1\nduplicated_share = 0.1\nswapped_share = 0.1\n\
         silent_share = 0.05\nstorms_at_seconds = [3]\n\
         [edge]\nreplicas = 2\nsetpoint_outlets = 60\nsetpoint_seconds = 1\nsettle_seconds = 0\n\
         [expect]\nlost = 0\n",
    );
    assert_eq!(status, Some(0), "{document:#}");
    let row = &document["rows"][0];
    assert_eq!(row["all_connected"], true, "{row:#}");
    assert_eq!(count(&row["balance"], "lost"), 0, "{row:#}");
    assert_eq!(count(&row["fleet"], "in_hand"), 0, "{row:#}");
    assert_eq!(count(&row["fleet"], "refused"), 0, "{row:#}");
    assert!(count(&row["balance"], "taken") > 500, "{row:#}");
    assert!(count(&row["fleet"], "faults_made") > 50, "{row:#}");
    assert!(count(&row["fleet"], "disconnects") >= 100, "{row:#}");
    assert!(
        count(&row["balance"]["setpoints"], "accepted") > 0,
        "{row:#}"
    );
    let p99 = &row["balance"]["setpoint_log_to_socket"]["p99_ms"];
    assert!(p99.as_f64().unwrap() > 0.0, "{row:#}");
}

#[test]
fn a_killed_server_costs_nothing_that_a_station_had_in_hand() {
    let (document, status) = edge(
        "name = \"storm\"\nseed = 4\n\
         [fleet]\nstations = 100\nconnects_per_second = 100\nhold_seconds = 2\ndrain_seconds = 60\n\
         [behaviour]\nmeter_seconds = 1\nplugged_share = 1.0\nstay_seconds = 10\naway_seconds = 2\n\
         [edge]\nreplicas = 2\nsettle_seconds = 0\nkill_at_seconds = 1\nrestart = true\n\
         [expect]\nlost = 0\nback_seconds = 120\n",
    );
    assert_eq!(status, Some(0), "{document:#}");
    let row = &document["rows"][0];
    assert!(row["storm"]["back_seconds"].is_f64(), "{row:#}");
    assert_eq!(count(&row["fleet"], "in_hand"), 0, "{row:#}");
    assert!(count(&row["fleet"], "connects") >= 200, "{row:#}");
}

#[test]
fn stations_that_hear_nothing_fall_back_by_their_timer() {
    let (document, status) = edge(
        "name = \"deadman\"\nseed = 5\n\
         [fleet]\nstations = 60\nconnects_per_second = 100\ndrain_seconds = 0\n\
         [behaviour]\nmeter_seconds = 1\nplugged_share = 1.0\nstay_seconds = 0\nv2g_share = 1.0\n\
         [edge]\nreplicas = 2\nsettle_seconds = 0\nkill_at_seconds = 4\nsetpoint_outlets = 60\nsetpoint_seconds = 1\n\
         setpoint_life_seconds = 6\nsetpoint_kw = -5\n\
         [expect]\nlost = 0\ndischarging_after_timer = 0\n",
    );
    assert_eq!(status, Some(0), "{document:#}");
    let deadman = &document["rows"][0]["deadman"];
    assert!(count(deadman, "discharging_before") > 0, "{deadman:#}");
    assert!(
        count(deadman, "told_before") > count(deadman, "discharging_before"),
        "1.6 follows too: {deadman:#}"
    );
    assert!(deadman["plain_again_seconds"].is_f64(), "{deadman:#}");
}

#[test]
fn what_is_expected_and_not_met_is_named_and_decides_the_status() {
    let (document, status) = edge(
        "name = \"unmet\"\n[fleet]\nstations = 4\nhold_seconds = 0\n\
         [edge]\nsettle_seconds = 0\n[expect]\nidle_kib_per_station = 0.001\nsetpoint_p99_ms = 1\n",
    );
    assert_eq!(status, Some(1), "{document:#}");
    let unmet = document["unmet"].to_string();
    assert!(unmet.contains("idle_kib_per_station is"), "{unmet}");
    assert!(
        unmet.contains("setpoint_p99_ms was not measured"),
        "a missing figure is no zero: {unmet}"
    );
}

/// A server that is not ours to start, for `stations`.
fn server(dir: &Path, scenario: &Path) -> (Child, String) {
    let mut child = load()
        .args(["serve-edge", "--replica", "0", "--listen", "127.0.0.1:0"])
        .arg("--scenario")
        .arg(scenario)
        .arg("--dir")
        .arg(dir.join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    let address = said["address"].as_str().unwrap().to_owned();
    (child, address)
}

#[test]
fn a_fleet_plays_against_a_server_that_it_did_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let text = "name = \"plain\"\n[fleet]\nstations = 40\nconnects_per_second = 100\nhold_seconds = 3\n\
                [behaviour]\nmeter_seconds = 1\nplugged_share = 1.0\n";
    let scenario = written(dir.path(), text);
    let (mut server, address) = server(dir.path(), &scenario);
    let output = load()
        .args(["stations", "--json", "--stations", "30", "--server-pid"])
        .arg(server.id().to_string())
        .arg("--url")
        .arg(format!("ws://{address}/ocpp/{{id}}"))
        .arg(&scenario)
        .output()
        .unwrap();
    // The end of its input is its stop.
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(count(&document, "connected_at_end"), 30, "{document:#}");
    let fleet = &document["fleet"];
    assert!(count(fleet, "meter_values") > 0, "{document:#}");
    assert_eq!(count(fleet, "in_hand"), 0, "{document:#}");
    assert!(
        count(&document["server"], "connected_kib") > 0,
        "{document:#}"
    );
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(
        dir.path(),
        "name = \"x\"\n[fleet]\nstations = 3\nstatons = 4\n",
    );
    let said = refused(&load().arg("edge").arg(&file).output().unwrap());
    let place = format!("error: {}:4: unknown field `statons`", file.display());
    assert!(said.contains(&place), "{said}");

    let file = written(dir.path(), "name = \"x\"\n[fleet]\nstations = 3\n");
    for (url, expected) in [
        ("wss://127.0.0.1:1/{id}", "expected ws://"),
        ("ws://127.0.0.1:1/", "expected {id}"),
        ("ws://127.0.0.1:many/{id}", "expected a port number"),
    ] {
        let mut stations = load();
        stations.arg("stations").arg(&file).args(["--url", url]);
        let said = refused(&stations.output().unwrap());
        assert!(said.contains(expected) && said.contains(url), "{said}");
    }
}

#[test]
fn a_platform_whose_processes_are_killed_loses_nothing_and_counts_nothing_twice() {
    let Some(kafka) = std::env::var_os("SHOAL_KAFKA_HOME") else {
        println!("skipped: SHOAL_KAFKA_HOME is not set, so there is no Apache Kafka to kill");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let scenario = written(
        dir.path(),
        "name = \"faults\"\nseed = 11\n\
         [fleet]\nstations = 30\nconnects_per_second = 20\nhold_seconds = 30\ndrain_seconds = 120\n\
         [behaviour]\nmeter_seconds = 2\nplugged_share = 0.8\nstay_seconds = 30\naway_seconds = 5\n\
         [faults]\nduplicated_share = 0.05\nswapped_share = 0.05\n\
         [platform]\nservices = [\"telemetry-ingest\"]\nkills = 8\ndown_seconds = 0.5\nbids_every_seconds = 1\nawards_every_seconds = 5\n",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kafka.sh");
    let output = load()
        .args(["faults", "--json"])
        .arg(scenario)
        .arg("--kafka")
        .arg(kafka)
        .arg("--kafka-script")
        .arg(script)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {output:?}: {said}"));
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    assert_eq!(count(&document, "kills"), 8, "{document:#}");
    assert!(count(&document["telemetry"], "taken") > 200, "{document:#}");
    assert!(count(&document["bids"], "taken") > 40, "{document:#}");
    assert!(count(&document["awards"], "told") > 3, "{document:#}");
}

#[test]
fn a_service_killed_in_the_middle_of_a_flood_makes_one_row_of_each_reading() {
    let Some(kafka) = std::env::var_os("SHOAL_KAFKA_HOME") else {
        println!("skipped: SHOAL_KAFKA_HOME is not set, so there is no Apache Kafka to flood");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let scenario = written(
        dir.path(),
        "name = \"flood\"\nseed = 5\n\
         [flood]\nvehicles = 500\nperiod_seconds = 60\nbacklog = 60000\nhold_seconds = 3\nkills = 2\npartitions = 6\n",
    );
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let output = load()
        .args(["flood", "--json"])
        .arg(scenario)
        .arg("--kafka")
        .arg(kafka)
        .arg("--kafka-script")
        .arg(deploy.join("kafka.sh"))
        .arg("--postgres-script")
        .arg(deploy.join("postgres.sh"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {output:?}: {said}"));
    assert_eq!(output.status.code(), Some(0), "{document:#}");
    assert_eq!(count(&document["backlog"], "kills"), 2, "{document:#}");
    let kept = &document["kept"];
    assert!(count(kept, "rows") > 60_000, "{document:#}");
    assert_eq!(kept["joules_off"].as_i64(), Some(0), "{document:#}");
    // Two hours of 500 meters.
    assert!(count(kept, "intervals") >= 500 * 7, "{document:#}");
    assert_eq!(count(kept, "intervals_different"), 0, "{document:#}");
    let held = &document["held"];
    assert_eq!(
        held["to_row"]["count"], held["readings"],
        "every row says when it was committed: {document:#}"
    );
}
