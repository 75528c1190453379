//! A day of the demo is decided again from its log, to the byte; one byte that changed is found.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn shoal(arguments: &[&str], dir: &Path) -> Output {
    let mut shoal = Command::new(env!("CARGO_BIN_EXE_shoal"));
    shoal.args(arguments).arg(dir).output().unwrap()
}

fn replay(day: &str, dir: &Path) -> (Output, Value) {
    let output = shoal(&["replay", "--json", "--day", day, "--data"], dir);
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, document)
}

/// Changes one byte in the first place of the database where `text` stands.
fn flip(dir: &Path, text: &[u8]) {
    let file = dir.join("shoal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn a_day_of_the_demo_replays_to_the_byte_and_a_byte_that_changed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // From six to half past eight, the first gate in between, with a fall of frequency.
    let demo = [
        "demo",
        "--headless",
        "--for",
        "22s",
        "--speed",
        "400",
        "--vehicles",
        "40",
        "--buses",
        "4",
        "--seed",
        "3",
        "--data-dir",
    ];
    let played = shoal(&demo, &data);
    assert!(played.status.success(), "{played:?}");

    let (output, day) = replay("2026-06-09", &data);
    assert!(output.status.success(), "{output:?}");
    for (kind, least) in [("bids", 0), ("setpoints", 300), ("intervals", 50)] {
        let found = day[kind]["found_again"].as_u64().unwrap();
        assert!(found >= least, "{kind}: {found} of at least {least}: {day}");
        // A slow machine may miss the gate; what was bid is found again.
        assert_eq!(day[kind]["differences"], 0, "{day}");
        assert_eq!(day[kind]["not_checked"], 0, "{day}");
    }

    // The power of a set-point stands before its instants, its reason after them.
    flip(&data, b"follows its plan");
    let (output, day) = replay("2026-06-09", &data);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(day["damaged_records"], 1, "{day}");
    assert_eq!(day["damaged"][0]["topic"], "dispatch.setpoints.v1", "{day}");
    assert_eq!(day["setpoints"]["differences"], 1, "{day}");
    assert!(
        day["setpoints"]["first_difference"]["id"].is_string(),
        "{day}"
    );
    assert_eq!(day["intervals"]["differences"], 0, "{day}");
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (output, _) = replay("2026-06-09", dir.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("holds no log"), "{said}");
    assert!(!dir.path().join("shoal.db").exists(), "nothing is made");
    let (output, _) = replay("9th of June", dir.path());
    assert_eq!(output.status.code(), Some(2));
}
