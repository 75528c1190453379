//! `shoal export`: a day leaves the tables as Parquet, to the joule, and again once late data came.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

use std::path::Path;
use std::process::{Command, Output};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{MeterInterval, Needs, Reading, Session, SessionState};
use frames::table::{Column, Table};
use store::{Change, Store};
use units::{Energy, Interval, Power, Soc};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn interval(start: &str, import: i64, version: u32) -> MeterInterval {
    let start = at(start);
    MeterInterval {
        evse: "S/1".parse().unwrap(),
        site: "yard".parse().unwrap(),
        interval: Interval::try_new(start, start + TimeDelta::minutes(15)).unwrap(),
        import: Energy::from_joules(import),
        export: Energy::from_joules(7),
        covered_seconds: 900,
        version,
    }
}

fn stay(id: &str, from: &str, to: Option<&str>) -> SessionState {
    let needs = Needs {
        departure: None,
        energy: Energy::from_kwh(10.0),
        stored: None,
        capacity: None,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        floor: Energy::ZERO,
    };
    SessionState {
        session: Session {
            id: id.parse().unwrap(),
            evse: "S/1".parse().unwrap(),
            site: "yard".parse().unwrap(),
            vehicle: None,
            plugged_in: at(from),
            unplugged: to.map(at),
            needs: Some(needs),
        },
        added: Some(Energy::from_joules(35_999_999)),
        soc: None,
    }
}

fn reading(when: &str) -> Reading {
    Reading {
        evse: "S/1".parse().unwrap(),
        session: None,
        at: at(when),
        power: None,
        import_register: Some(Energy::from_joules(123_456_789)),
        export_register: None,
        soc: Some(Soc::try_new(0.5).unwrap()),
    }
}

fn export(dir: &Path, settings: &Path, rest: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shoal"))
        .arg("export")
        .arg(dir)
        .arg("--config")
        .arg(settings)
        .args(["--json"])
        .args(rest)
        .output()
        .unwrap()
}

fn ints(file: &Path, column: &str) -> Vec<Option<i64>> {
    let table = Table::read_parquet(file).unwrap();
    match table.column(column) {
        Some(Column::Int(values)) => values.clone(),
        other => panic!("{column}: {other:?}"),
    }
}

#[tokio::test]
async fn a_day_leaves_as_parquet_and_again_with_what_came_late() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let settings = folder.path().join("shoal.toml");
    std::fs::write(&settings, format!("[store]\ndir = {data:?}\n")).unwrap();
    // The day of the Dutch market that is longest: 25 hours, from 22:00 UTC.
    let rows = [
        interval("2024-10-26T21:45:00Z", 1, 1),
        interval("2024-10-26T22:00:00Z", 3_600_001, 1),
        interval("2024-10-27T22:45:00Z", 5, 1),
        interval("2024-10-27T23:00:00Z", 1, 1),
    ];
    let stays = [
        stay(
            "before",
            "2024-10-26T10:00:00Z",
            Some("2024-10-26T21:00:00Z"),
        ),
        stay(
            "within",
            "2024-10-26T20:00:00Z",
            Some("2024-10-27T06:00:00Z"),
        ),
        stay("open", "2024-10-27T06:00:00Z", None),
    ];
    let readings = [
        reading("2024-10-27T22:59:50Z"),
        reading("2024-10-27T23:00:00Z"),
    ];
    {
        let store = Store::open(&data).await.unwrap();
        let change = Change::default()
            .intervals(&rows)
            .sessions(&stays)
            .readings(readings);
        store.tables().apply(change).await.unwrap();
    }
    let day = ["--from", "2024-10-27", "--to", "2024-10-27", "--readings"];
    let done = export(&out, &settings, &day);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let expected =
        serde_json::json!({"date": "2024-10-27", "intervals": 2, "sessions": 1, "readings": 1});
    assert_eq!(said["days"][0], expected);
    let place = |kind: &str| out.join(kind).join("area=NL").join("day=2024-10-27");
    let intervals = place("intervals").join("intervals.parquet");
    assert_eq!(
        ints(&intervals, "import_joules"),
        [Some(3_600_001), Some(5)]
    );
    let sessions = place("sessions").join("sessions.parquet");
    assert_eq!(ints(&sessions, "added_joules"), [Some(35_999_999)]);
    assert_eq!(
        ints(&sessions, "stored_joules"),
        [None],
        "unknown is not zero"
    );
    let last = place("readings").join("2245Z.parquet");
    assert_eq!(ints(&last, "import_register_joules"), [Some(123_456_789)]);
    assert_eq!(ints(&last, "power_watts"), [None]);
    {
        let store = Store::open(&data).await.unwrap();
        let late = Change::default().intervals(&[interval("2024-10-26T22:00:00Z", 3_600_002, 2)]);
        store.tables().apply(late).await.unwrap();
    }
    assert!(export(&out, &settings, &day).status.success());
    assert_eq!(
        ints(&intervals, "import_joules"),
        [Some(3_600_002), Some(5)]
    );
    assert_eq!(ints(&intervals, "version"), [Some(2), Some(1)]);
    let mut left: Vec<_> = place("intervals").read_dir().unwrap().collect();
    assert_eq!(left.len(), 1, "{:?}", left.pop());
}

#[test]
fn a_day_that_is_not_over_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("shoal.toml");
    std::fs::write(&settings, "").unwrap();
    let refused = export(
        folder.path(),
        &settings,
        &["--from", "2024-01-01", "--to", "2999-01-01"],
    );
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("that day is not over"), "{said}");
}
