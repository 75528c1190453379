//! The arrows between crates and the invariants of `docs/architecture.md` that `cargo metadata` can tell.
#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it met")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Crates that know no I/O: a test of them needs no runtime and a replay gives the same answer.
const PURE: [&str; 6] = [
    "units",
    "fleet",
    "market",
    "forecast",
    "portfolio",
    "dispatch",
];

/// What each crate may name besides `units`. A crate that may name a pure one may also name what that one stands on.
const ARROWS: [(&str, &[&str]); 19] = [
    ("units", &[]),
    ("fleet", &[]),
    ("market", &[]),
    ("forecast", &[]),
    ("portfolio", &["fleet", "market", "forecast"]),
    ("dispatch", &["fleet", "market"]),
    ("wire", &["fleet", "market"]),
    ("store", &["fleet", "market"]),
    ("runtime", &[]),
    ("sim", &["fleet", "market"]),
    ("frames", &["fleet", "market"]),
    ("shoal-edge", &["fleet", "wire", "store", "runtime"]),
    (
        "shoal-telemetry-ingest",
        &["fleet", "wire", "store", "runtime"],
    ),
    (
        "shoal-forecaster",
        &["forecast", "fleet", "wire", "store", "frames", "runtime"],
    ),
    (
        "shoal-optimizer",
        &["portfolio", "wire", "store", "runtime"],
    ),
    (
        "shoal-gateway",
        &["market", "dispatch", "wire", "store", "runtime"],
    ),
    ("shoal-console", &["wire", "store", "runtime"]),
    (
        "shoal-load",
        &["fleet", "market", "wire", "store", "runtime", "shoal-edge"],
    ),
    ("xtask", &[]),
];

/// The one binary names everything.
const PROGRAM: &str = "shoal";

/// Libraries that one crate keeps to itself, with those who may name them. The load tests measure the store against the bare libraries.
const KEPT: [(&str, &[&str]); 7] = [
    ("clarabel", &["portfolio"]),
    ("polars", &["frames"]),
    ("prost", &["wire"]),
    ("sqlx", &["store", "shoal-load"]),
    ("rdkafka", &["store", "shoal-load"]),
    ("ocpp-kit", &["shoal-edge", "sim", "shoal", "shoal-load"]),
    ("axum", &["runtime", "shoal-edge", "shoal-console"]),
];

struct House {
    metadata: Metadata,
}

impl House {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(root)
            .other_options(vec!["--locked".to_owned()])
            .exec()
            .expect("cargo metadata answers");
        Self { metadata }
    }

    fn members(&self) -> Vec<&Package> {
        self.metadata.workspace_packages()
    }

    fn services(&self) -> BTreeSet<String> {
        let in_services = |p: &&&Package| {
            p.manifest_path
                .parent()
                .is_some_and(|f| f.as_str().contains("/services/"))
        };
        self.members()
            .iter()
            .filter(in_services)
            .map(|p| p.name.to_string())
            .collect()
    }

    /// Members that `name` names itself, other than in tests.
    fn named_by(&self, name: &str) -> BTreeSet<String> {
        let members: BTreeSet<String> = self.members().iter().map(|p| p.name.to_string()).collect();
        let package = self.member(name);
        let used = package
            .dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development);
        used.map(|d| d.name.clone())
            .filter(|d| members.contains(d))
            .collect()
    }

    fn member(&self, name: &str) -> &Package {
        let found = self.members().into_iter().find(|p| p.name == name);
        found.unwrap_or_else(|| panic!("{name} is a member"))
    }

    /// Everything that is built into `name`, by name, other than for its tests.
    fn reached_from(&self, name: &str) -> BTreeSet<String> {
        let resolve = self
            .metadata
            .resolve
            .as_ref()
            .expect("metadata holds the graph");
        let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
        let names: BTreeMap<&PackageId, String> = self
            .metadata
            .packages
            .iter()
            .map(|p| (&p.id, p.name.to_string()))
            .collect();
        let mut open = vec![&self.member(name).id];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            for dep in &nodes[id].deps {
                let linked = dep
                    .dep_kinds
                    .iter()
                    .any(|k| k.kind == DependencyKind::Normal);
                if linked && seen.insert(&dep.pkg) {
                    open.push(&dep.pkg);
                }
            }
        }
        seen.into_iter().map(|id| names[id].clone()).collect()
    }
}

/// What a crate may name: `units`, its arrows, and what the pure ones among them stand on.
fn allowed(name: &str) -> BTreeSet<&'static str> {
    let row = |wanted: &str| {
        ARROWS
            .iter()
            .find(|(n, _)| *n == wanted)
            .map(|(_, arrows)| *arrows)
    };
    let mut may: BTreeSet<&str> = row(name)
        .unwrap_or_else(|| panic!("{name} has no row in ARROWS"))
        .iter()
        .copied()
        .collect();
    for arrow in may.clone() {
        if PURE.contains(&arrow) {
            may.extend(row(arrow).unwrap_or_default());
        }
    }
    may.insert("units");
    may
}

#[test]
fn every_crate_names_only_what_its_arrows_allow() {
    let house = House::read();
    for package in house.members() {
        let name = package.name.as_str();
        if name == PROGRAM {
            continue;
        }
        let may = allowed(name);
        let wrong: Vec<_> = house
            .named_by(name)
            .into_iter()
            .filter(|n| !may.contains(n.as_str()))
            .collect();
        assert!(
            wrong.is_empty(),
            "{name} names {wrong:?}; it may name {may:?}"
        );
    }
}

#[test]
fn a_car_does_not_know_a_price_and_a_bid_does_not_know_a_car() {
    let house = House::read();
    assert!(!house.reached_from("fleet").contains("market"));
    assert!(!house.reached_from("market").contains("fleet"));
}

#[test]
fn the_pure_crates_reach_no_runtime_no_database_no_network() {
    const IMPURE: [&str; 9] = [
        "tokio",
        "sqlx",
        "tonic",
        "rdkafka",
        "tracing-subscriber",
        "hyper",
        "axum",
        "polars",
        "reqwest",
    ];
    let house = House::read();
    for name in PURE {
        let reached = house.reached_from(name);
        let wrong: Vec<_> = IMPURE
            .into_iter()
            .filter(|i| reached.contains(*i))
            .collect();
        assert!(wrong.is_empty(), "{name} reaches {wrong:?}");
    }
}

#[test]
fn the_pure_crates_ask_for_no_clock() {
    let house = House::read();
    for name in PURE {
        for dependency in house
            .member(name)
            .dependencies
            .iter()
            .filter(|d| d.name == "chrono")
        {
            let clock = dependency
                .features
                .iter()
                .find(|f| matches!(f.as_str(), "clock" | "now"));
            assert!(
                clock.is_none() && !dependency.uses_default_features,
                "{name} asks chrono for {clock:?}"
            );
        }
    }
}

#[test]
fn no_service_depends_on_another() {
    let house = House::read();
    let services = house.services();
    assert!(services.len() >= 7, "{services:?}");
    for name in services.iter().filter(|s| *s != PROGRAM) {
        let package = house.member(name);
        let wrong: Vec<_> = package
            .dependencies
            .iter()
            .map(|d| &d.name)
            .filter(|d| services.contains(*d))
            .collect();
        assert!(
            wrong.is_empty(),
            "{name} depends on {wrong:?}, tests included"
        );
    }
}

#[test]
fn the_log_carries_bytes_and_the_wire_keeps_no_store() {
    let house = House::read();
    assert!(!house.reached_from("store").contains("wire"));
    let wire = house.reached_from("wire");
    for unknown in [
        "store",
        "portfolio",
        "dispatch",
        "forecast",
        "sim",
        "clarabel",
    ] {
        assert!(!wire.contains(unknown), "wire reaches {unknown}");
    }
}

#[test]
fn the_real_time_path_never_meets_the_solver() {
    let house = House::read();
    for name in ["dispatch", "shoal-gateway", "shoal-edge"] {
        let reached = house.reached_from(name);
        assert!(
            !reached.contains("clarabel") && !reached.contains("portfolio"),
            "{name}"
        );
    }
}

#[test]
fn the_solver_is_named_in_one_module() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/portfolio/src");
    let mut open = vec![folder];
    let mut naming = BTreeSet::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("sources are readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("clarabel::")) {
                naming.insert(path);
            }
        }
    }
    assert_eq!(naming.len(), 1, "{naming:?}");
}

#[test]
fn the_simulator_reaches_no_service_but_the_program() {
    let house = House::read();
    for package in house.members() {
        let name = package.name.as_str();
        let reaches = house.reached_from(name).contains("sim");
        assert!(
            !reaches || [PROGRAM, "shoal-load"].contains(&name),
            "{name} reaches sim"
        );
    }
}

#[test]
fn heavy_libraries_stay_where_they_are_kept() {
    let house = House::read();
    for (library, keepers) in KEPT {
        for package in house.members() {
            let names = package.dependencies.iter().any(|d| {
                d.kind == DependencyKind::Normal
                    && (d.name == library || d.rename.as_deref() == Some(library))
            });
            assert!(
                !names || keepers.contains(&package.name.as_str()),
                "{} names {library}",
                package.name
            );
        }
    }
}
