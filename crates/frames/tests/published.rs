//! Scenarios that read published files where they stand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "helpers of tests; values stand in the files to the digit"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use frames::InputError;
use frames::scenario::{self, Scenario};
use tempfile::TempDir;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Hourly prices 0, 1, 2 ... over the local days 2024-03-29 to 31.
fn hourly() -> String {
    let mut text = "utc_start,price\n".to_owned();
    for hour in 0..71 {
        let start = at("2024-03-28T23:00:00Z") + TimeDelta::hours(hour);
        writeln!(text, "{},{hour}", start.to_rfc3339()).unwrap();
    }
    text
}

/// A scenario, and the folder of the data that it names.
struct Case {
    own: TempDir,
    data: TempDir,
}

impl Case {
    fn new(toml: &str) -> Self {
        let (own, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(own.path().join("scenario.toml"), toml).unwrap();
        fs::create_dir(data.path().join("prices")).unwrap();
        fs::write(data.path().join("prices/da.csv"), hourly()).unwrap();
        fs::write(
            data.path().join("garages.csv"),
            "garage_id,user_id,plug_in_local,plug_out_local,energy_kwh,session_id,shared_id,duration_hours\n\
             g,u,2019-03-30T08:00,2019-03-30T16:30,9.4,1,,\n\
             g,u,2019-03-30T18:00,,9.4,2,,\n",
        )
        .unwrap();
        Self { own, data }
    }

    fn file(&self) -> PathBuf {
        self.own.path().join("scenario.toml")
    }

    fn load(&self) -> Result<Scenario, InputError> {
        scenario::load_with_data(&self.file(), self.data.path())
    }
}

const PUBLISHED: &str = r#"name = "published"
area = "NL"
from = 2024-03-30
to = 2024-04-01

[prices]
day_ahead = { data = "prices/da.csv", column = "price" }

[fleet.sessions]
data = "garages.csv"
format = "norway"
shift_weeks = 261
assume = "capacity_kwh=60,departure_fraction=0.8,max_discharge_kw=11"
"#;

#[test]
fn published_files_are_read_where_they_stand_and_sessions_completed_as_import_would() {
    let case = Case::new(PUBLISHED);
    let s = case.load().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(s.prices.day_ahead.values[0], 24.0);
    let [session] = s.fleet.sessions.as_slice() else {
        panic!("{:?}", s.fleet.sessions)
    };
    // 261 weeks later it is a Saturday again, and eight o'clock by the clock of Amsterdam.
    assert_eq!(session.plug_in, at("2024-03-30T08:00:00+01:00"));
    assert_eq!(session.energy_required_kwh, 48.0);
    assert!((session.energy_arrival_kwh.unwrap() - (48.0 - 9.4 * 0.94)).abs() < 1e-9);
    assert_eq!(session.max_discharge_kw, 11.0);
    let note = s.notes.iter().find(|n| n.starts_with("sessions:")).unwrap();
    assert!(
        note.contains("2 rows read, 1 refused, 1 sessions"),
        "{note}"
    );
    assert!(
        note.contains("261 weeks") && note.contains("capacity_kwh=60"),
        "{note}"
    );
}

#[test]
fn published_files_that_cannot_be_read_are_refused_by_key() {
    for (from, to, parts) in [
        (
            "data = \"prices/da.csv\"",
            "data = \"da.csv\"",
            ["prices.day_ahead.data", "no file"],
        ),
        (
            "data = \"prices/da.csv\"",
            "file = \"da.csv\", data = \"prices/da.csv\"",
            ["prices.day_ahead.file", "one of them"],
        ),
        (
            "\"norway\"",
            "\"prices\"",
            ["fleet.sessions.format", "expected one of acn"],
        ),
        (
            "= 261",
            "= 0.5",
            ["fleet.sessions.shift_weeks", "whole weeks"],
        ),
        (
            "capacity_kwh=60",
            "capacity=60",
            ["fleet.sessions.assume", "unknown key"],
        ),
        (
            "shift_weeks",
            "weeks",
            ["fleet.sessions.weeks", "unknown key"],
        ),
    ] {
        assert!(PUBLISHED.contains(from), "{from}");
        let case = Case::new(&PUBLISHED.replacen(from, to, 1));
        let error = case.load().expect_err("must be refused").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn a_published_file_needs_a_data_folder() {
    let error = scenario::load(&Case::new(PUBLISHED).file()).expect_err("must be refused");
    let error = error.to_string();
    assert!(
        error.contains("prices.day_ahead.data") && error.contains("--data DIR"),
        "{error}"
    );
}
