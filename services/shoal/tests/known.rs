//! `shoal plan` with everything known: products of the rule book, a network area and a group, whole volumes, reasons.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tempfile::TempDir;

const SCENARIO: &str = r#"name = "known"
area = "FI"
from = 2026-01-14
to = 2026-01-17
[prices]
day_ahead = { file = "prices.csv", column = "price" }
carbon = { file = "prices.csv", column = "carbon" }
[fleet]
sessions = "sessions.csv"
keep_fraction = 0.25
[[site]]
id = "a"
peak_to_date_kw = 40.0
[[site]]
id = "b"
[costs]
wear_per_mwh = 20.0
demand_per_kw_month = 0.01
[[product]]
name = "fcr_n"
price = { file = "reserve.csv", column = "fcr_n" }
[[product]]
name = "fcr_d_up"
price = { file = "reserve.csv", column = "fcr_d_up", per = "hour" }
qualified_mw = 0.3
[[dso_area]]
id = "north"
sites = ["a", "b"]
import_limit_kw = 150.0
[[group]]
name = "back-end b"
sites = ["b"]
"#;

/// Three days of hourly prices, and vehicles that stay from six in the evening to eight in the morning: `count` of them,
/// half at each site, each `size` times a car of 20 kW.
fn case(scenario: &str, count: usize, size: usize) -> TempDir {
    let start: DateTime<Utc> = "2026-01-13T22:00:00Z".parse().unwrap();
    let (mut prices, mut reserve) = (
        "utc_start,price,carbon\n".to_owned(),
        "utc_start,utc_end,fcr_n,fcr_d_up\n".to_owned(),
    );
    for hour in 0..72 {
        let at = start + TimeDelta::hours(hour);
        let price = 60 + 50 * i64::from((hour + 4) % 24 < 12) + hour % 3;
        writeln!(prices, "{},{price},{}", at.to_rfc3339(), 5 + hour % 2).unwrap();
        let end = at + TimeDelta::hours(1);
        let row = (at.to_rfc3339(), end.to_rfc3339());
        writeln!(
            reserve,
            "{},{},{},{}",
            row.0,
            row.1,
            15 + hour % 5,
            9 + hour % 4
        )
        .unwrap();
    }
    let mut sessions = "session_id,evse_id,vehicle_id,site_id,plug_in,plug_out,energy_arrival_kwh,energy_required_kwh,capacity_kwh,max_charge_kw,max_discharge_kw\n".to_owned();
    for day in 14..16 {
        for car in 0..count {
            let site = if 2 * car < count { "a" } else { "b" };
            let energy = [20 + car % 10, 55, 60].map(|kwh| kwh * size);
            let kw = 20 * size;
            writeln!(
                sessions,
                "s{day}-{car},e{car},v{car},{site},2026-01-{day}T16:00:00Z,2026-01-{}T06:00:00Z,{},{},{},{kw},{kw}",
                day + 1,
                energy[0],
                energy[1],
                energy[2]
            )
            .unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("scenario.toml", scenario),
        ("prices.csv", prices.as_str()),
        ("reserve.csv", reserve.as_str()),
        ("sessions.csv", sessions.as_str()),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn shoal(dir: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

fn plan(dir: &TempDir, extra: &[&str]) -> Value {
    let mut arguments = vec![
        "--json",
        "plan",
        "scenario.toml",
        "--day",
        "2026-01-15",
        "--policy",
        "v2g-perfect",
    ];
    arguments.extend(extra);
    let output = shoal(dir, &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written = fs::read(dir.path().join("out/known/plan.json")).unwrap();
    assert_eq!(printed, serde_json::from_slice::<Value>(&written).unwrap());
    printed
}

fn volumes<'a>(plan: &'a Value, product: &'a str) -> impl Iterator<Item = f64> + 'a {
    let reserves = plan["reserves"].as_array().unwrap();
    reserves
        .iter()
        .filter(move |r| r["product"] == product)
        .map(|r| r["volume_mw"].as_f64().unwrap())
}

#[test]
fn a_day_with_everything_on_sale_says_what_it_sells_and_what_binds() {
    let dir = case(SCENARIO, 30, 1);
    let plan = plan(&dir, &[]);
    assert!(plan["relative_gap"].as_f64().unwrap() < 1e-4);
    assert_eq!(plan["sessions"], 60);
    assert_eq!(plan["positions"].as_array().unwrap().len(), 96);
    assert_eq!(volumes(&plan, "fcr_n").count(), 24);
    assert!(volumes(&plan, "fcr_n").any(|mw| mw > 0.01));
    // Thirty cars of 20 kW, half of them counted lost: what is sold stands on the other half.
    let most = 15.0 * 40.0 / 1000.0;
    assert!(volumes(&plan, "fcr_d_up").all(|mw| mw <= 0.3 + 1e-9 && mw <= most));
    for position in plan["positions"].as_array().unwrap() {
        assert!(position["position_kw"].as_f64().unwrap() <= 150.0 + 1e-6);
    }
    let reasons = plan["reasons"].as_array().unwrap();
    let said = |text: &str| {
        reasons
            .iter()
            .any(|r| r["sentence"].as_str().unwrap().contains(text))
    };
    assert!(
        said("area north") && said("fcr_n") && said("vehicle v3"),
        "{reasons:?}"
    );
    assert!(plan["relaxed"].as_array().unwrap().is_empty());
}

#[test]
fn whole_volumes_are_whole_and_cost_what_they_cost() {
    let large = SCENARIO
        .replace("qualified_mw = 0.3", "qualified_mw = 1.5")
        .replace("import_limit_kw = 150.0", "import_limit_kw = 2500.0");
    let dir = case(&large, 6, 30);
    let plan = plan(&dir, &["--whole"]);
    for mw in volumes(&plan, "fcr_n") {
        assert!((mw * 10.0 - (mw * 10.0).round()).abs() < 1e-9, "{mw} MW");
    }
    // Nothing, or at least the megawatt that the market asks of a bid.
    for mw in volumes(&plan, "fcr_d_up") {
        let whole = (mw * 10.0 - (mw * 10.0).round()).abs() < 1e-9;
        assert!(whole && (mw == 0.0 || mw >= 1.0), "{mw} MW");
    }
    assert!(volumes(&plan, "fcr_d_up").any(|mw| mw > 0.0));
    let any = plan["objective_of_any_volume"].as_f64().unwrap();
    assert!(plan["objective"].as_f64().unwrap() >= any - 1e-6);
}

#[test]
fn a_limit_that_cannot_hold_gives_way_by_name() {
    let tight = SCENARIO.replace("import_limit_kw = 150.0", "import_limit_kw = 30.0");
    let plan = plan(&case(&tight, 30, 1), &[]);
    let relaxed = plan["relaxed"].as_array().unwrap();
    assert!(!relaxed.is_empty());
    let owners: Vec<&str> = relaxed
        .iter()
        .map(|r| r["owner"].as_str().unwrap())
        .collect();
    assert!(
        owners
            .iter()
            .any(|o| o.starts_with("vehicle ") || *o == "area north"),
        "{owners:?}"
    );
}

#[test]
fn a_plan_stands_dimming_and_sells_down_that_stays() {
    let dimming =
        "[[dimming]]\nname = \"low voltage\"\nsites = [\"a\", \"b\"]\nlongest_minutes = 120\n";
    let scenario = |more: &str| format!("{SCENARIO}{dimming}{more}");
    let net = |plan: &Value| {
        let steps = plan["positions"].as_array().unwrap();
        let of = |p: &Value| p["position_kw"].as_f64().unwrap();
        steps.iter().map(of).collect::<Vec<f64>>()
    };
    let free = plan(&case(SCENARIO, 8, 1), &[]);
    let alone = plan(&case(&scenario(""), 8, 1), &[]);
    let managed = plan(
        &case(&scenario("energy_manager = true\nhold_down = true\n"), 8, 1),
        &[],
    );
    for plan in [&alone, &managed] {
        assert!(plan["relative_gap"].as_f64().unwrap() < 1e-4);
        assert!(plan["relaxed"].as_array().unwrap().is_empty());
        // Standing a dimming costs something.
        assert!(plan["objective"].as_f64().unwrap() > free["objective"].as_f64().unwrap() + 1e-3);
    }
    assert_ne!(net(&free), net(&alone));
    // FCR-N asks for as much Down as Up: four cars at each site share 13.02 kW while dimmed.
    assert!(volumes(&managed, "fcr_n").all(|mw| mw <= 2.0 * 0.01302 / 1.34 + 1e-6));
}

#[test]
fn bounds_that_an_operator_may_order_are_offered_at_a_price() {
    let offer = "[[constraint_offer]]\nname = \"evening\"\narea = \"north\"\nfrom = 2026-01-15T18:00:00+02:00\nto = 2026-01-15T23:00:00+02:00\nbounds_kw = [200.0, 110.0, -1000.0]\nmargin_share = 0.1\n";
    let dir = case(&format!("{SCENARIO}{offer}"), 6, 1);
    let plan = plan(&dir, &[]);
    let offers = plan["constraint_offers"].as_array().unwrap();
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0]["answered"], "2026-01-15T16:00:00Z");
    let choices = offers[0]["choices"].as_array().unwrap();
    let cost = |c: &Value| c["cost"].as_f64().unwrap();
    // Six cars of 20 kW: 200 kW are no bound, 110 kW leave room for what is sold, and nobody feeds back a megawatt.
    assert_eq!(
        (cost(&choices[0]), &choices[0]["price"]),
        (0.0, &Value::from(0.0))
    );
    let asked = choices[1]["price"].as_f64().unwrap();
    assert!((asked - 1.1 * cost(&choices[1])).abs() < 1e-9 && cost(&choices[1]) >= 0.0);
    assert!(choices[2]["price"].is_null());
    assert!(!choices[2]["gives_way"].as_array().unwrap().is_empty());
}

#[test]
fn what_only_this_plan_knows_is_refused_elsewhere_by_its_key() {
    let dir = case(SCENARIO, 2, 1);
    for arguments in [
        vec!["backtest", "scenario.toml"],
        vec!["plan", "scenario.toml", "--day", "2026-01-15"],
    ] {
        let output = shoal(&dir, &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("scenario.toml: product:"), "{error}");
    }
    for (from, to, expected) in [
        (
            "\"fcr_n\"\nprice",
            "\"dc_low\"\nprice",
            "product[0].name: \"dc_low\" is not bought in FI",
        ),
        (
            "sites = [\"a\", \"b\"]",
            "sites = [\"a\", \"c\"]",
            "dso_area[0].sites[1]: \"c\"",
        ),
        (
            "sites = [\"b\"]",
            "sites = []",
            "group[0].sites: an empty list",
        ),
        (
            "qualified_mw = 0.3",
            "qualified_mw = -1",
            "product[1].qualified_mw: -1",
        ),
        (
            "import_limit_kw = 150.0",
            "limit_kw = 150.0",
            "dso_area[0].limit_kw: unknown key",
        ),
        (
            "[[group]]",
            "[[constraint_offer]]\nname = \"n\"\narea = \"south\"\n[[group]]",
            "constraint_offer[0].area: \"south\"",
        ),
        (
            "[[group]]",
            "[[constraint_offer]]\nname = \"n\"\narea = \"north\"\nfrom = 2026-01-15T10:07:00Z\nto = 2026-01-15T11:00:00Z\nbounds_kw = 1\n[[group]]",
            "constraint_offer[0].from: 2026-01-15 10:07:00 UTC",
        ),
        (
            "[[group]]",
            "[[constraint_offer]]\nname = \"n\"\narea = \"north\"\nfrom = 2026-01-15T10:00:00Z\nto = 2026-01-15T11:00:00Z\nbounds_kw = [1, 2]\n[[group]]",
            "constraint_offer[0].bounds_kw[1]: 2",
        ),
        (
            "[[group]]",
            "[[dimming]]\nname = \"n\"\nsites = [\"a\"]\nlongest_minutes = 0\n[[group]]",
            "dimming[0].longest_minutes: 0",
        ),
        (
            "[[group]]",
            "[[dimming]]\nname = \"n\"\nsites = [\"a\"]\nlongest_minutes = 60\n[[dimming]]\nname = \"s\"\nsites = [\"a\"]\nlongest_minutes = 60\n[[group]]",
            "dimming[1].sites: \"a\" again",
        ),
    ] {
        assert!(SCENARIO.contains(from), "{from}");
        let dir = case(&SCENARIO.replace(from, to), 2, 1);
        let output = shoal(
            &dir,
            &[
                "plan",
                "scenario.toml",
                "--day",
                "2026-01-15",
                "--policy",
                "v2g-perfect",
            ],
        );
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
}
