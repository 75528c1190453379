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
fn chargers_draw_the_reactive_power_that_is_asked_and_spare_the_transformer() {
    let reactive = |site: &str| {
        SCENARIO
            .replace(
                "keep_fraction = 0.25",
                "keep_fraction = 0.25\nkva_per_kw = 1.0",
            )
            .replace(
                "peak_to_date_kw = 40.0",
                &format!("peak_to_date_kw = 40.0\n{site}"),
            )
    };
    let none = plan(&case(SCENARIO, 8, 1), &[]);
    assert!(none["points"].as_array().unwrap().is_empty());
    let banded = reactive("reactive_low_kvar = 40.0\nrating_kva = 60.0");
    let banded = plan(&case(&banded, 8, 1), &[]);
    assert!(banded["relative_gap"].as_f64().unwrap() < 1e-4);
    let points = banded["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0]["site"]), (1, &Value::from("a")));
    let loads = points[0]["intervals"].as_array().unwrap();
    // Four chargers of 20 kVA are there from six in the evening, Helsinki time; before, nobody can draw what is asked.
    let mut there = 0;
    for load in loads {
        let (kw, kvar) = (
            load["active_kw"].as_f64().unwrap(),
            load["reactive_kvar"].as_f64().unwrap(),
        );
        assert!(kw.hypot(kvar) <= 60.0 + 1e-3, "{kw} kW, {kvar} kvar");
        there += usize::from((kvar - 40.0).abs() < 1e-3);
    }
    assert!(there >= 4 * 12, "{there} quarter hours with what is asked");
    let relaxed = banded["relaxed"].as_array().unwrap();
    let said = |r: &Value| {
        r["sentence"]
            .as_str()
            .unwrap()
            .contains("kvar less than it should")
    };
    assert!(
        !relaxed.is_empty() && relaxed.iter().all(said),
        "{relaxed:?}"
    );
}

#[test]
fn a_refund_is_told_with_the_energy_it_is_for() {
    let fees = "wear_per_mwh = 20.0\nimport_per_mwh = 60.0\n";
    let without = SCENARIO.replace("wear_per_mwh = 20.0\n", fees);
    let with = without.replace(
        fees,
        &format!("{fees}refund_per_mwh = 60.0\nrefund_basis = \"drawn\"\n"),
    );
    let (without, with) = (
        plan(&case(&without, 8, 1), &[]),
        plan(&case(&with, 8, 1), &[]),
    );
    let money = |plan: &Value| plan["objective"].as_f64().unwrap();
    assert!(money(&with) < money(&without) - 0.01);
    let fed_in = |plan: &Value| -> f64 {
        let steps = plan["positions"].as_array().unwrap();
        steps
            .iter()
            .map(|p| p["discharge_kw"].as_f64().unwrap() / 4.0)
            .sum()
    };
    assert!(fed_in(&with) > fed_in(&without) + 1.0);
    let mut refunded = 0.0;
    for point in with["points"].as_array().unwrap() {
        let (kwh, money) = (
            point["refunded_kwh"].as_f64().unwrap(),
            point["refund"].as_f64().unwrap(),
        );
        // Losses are exempt too: 60 a MWh over an efficiency of 0.94 twice.
        assert!((money - kwh * 0.06 / (0.94 * 0.94)).abs() < 1e-9);
        refunded += kwh;
    }
    assert!(refunded > 1.0 && refunded <= fed_in(&with) + 1e-3);
}

#[test]
fn products_that_exclude_each_other_are_sold_one_at_a_time() {
    let group = "[[exclusive]]\nname = \"one of both\"\nproducts = [\"fcr_n\", \"fcr_d_up\"]\n";
    let both = plan(&case(SCENARIO, 6, 1), &[]);
    let one = plan(&case(&format!("{SCENARIO}{group}"), 6, 1), &[]);
    let beside = |plan: &Value| {
        volumes(plan, "fcr_n")
            .zip(volumes(plan, "fcr_d_up"))
            .filter(|(a, b)| *a > 1e-5 && *b > 1e-5)
            .count()
    };
    assert!(beside(&both) > 0);
    assert_eq!(beside(&one), 0);
    let offers = one["exclusive_offers"].as_array().unwrap();
    let choices = offers[0]["alternatives"].as_array().unwrap();
    assert_eq!(
        (offers[0]["name"].as_str(), choices.len()),
        (Some("one of both"), 2)
    );
    for choice in choices {
        let price = choice["average_price"].as_f64().unwrap();
        assert!(price >= 0.0 && choice["gain"].as_f64().unwrap() > 0.0);
        assert!(!choice["blocks"].as_array().unwrap().is_empty());
    }
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
            "[[exclusive]]\nname = \"n\"\nproducts = [\"fcr_n\", \"ffr\"]\n[[group]]",
            "exclusive[0].products[1]: \"ffr\" is not on sale",
        ),
        (
            "[[group]]",
            "[[exclusive]]\nname = \"n\"\nproducts = [\"fcr_n\"]\n[[group]]",
            "exclusive[0].products: fewer than two",
        ),
        (
            "wear_per_mwh = 20.0",
            "wear_per_mwh = 20.0\nrefund_per_mwh = 10.0",
            "costs.refund_per_mwh: 10 is more than import_per_mwh, 0",
        ),
        (
            "wear_per_mwh = 20.0",
            "import_per_mwh = 20.0\nrefund_basis = \"all\"",
            "costs.refund_basis: \"all\", expected \"returned\" or \"drawn\"",
        ),
        (
            "peak_to_date_kw = 40.0",
            "reactive_low_kvar = 3\nreactive_high_kvar = 2",
            "site[0].reactive_high_kvar: 2 is below reactive_low_kvar, 3",
        ),
        (
            "keep_fraction = 0.25",
            "kva_per_kw = 0.9",
            "fleet.kva_per_kw: 0.9",
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
