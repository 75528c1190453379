//! Dashboards, alert rules and the chart name only metrics that the code exports, and each alert has its page.
#![expect(clippy::expect_used, reason = "a test says what it met")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Macros of the crate `metrics` that name a metric.
const MACROS: [&str; 3] = ["counter!(", "gauge!(", "histogram!("];

/// What Prometheus appends to the name of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files below `folder` whose names end in one of `endings`, with their text.
fn texts(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut open = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if endings
                .iter()
                .any(|ending| path.to_string_lossy().ends_with(ending))
            {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds nothing to check");
    found
}

/// The names of our metrics in `text`.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c))
        .filter(|name| name.starts_with("shoal_") && name.len() > "shoal_".len())
        .map(str::to_owned)
        .collect()
}

/// The names that the code gives to the macros.
fn exported() -> BTreeSet<String> {
    let mut exported = BTreeSet::new();
    for folder in ["crates", "services"] {
        for (_, text) in texts(folder, &[".rs"]) {
            for call in MACROS.iter().flat_map(|name| text.split(name).skip(1)) {
                let argument = call.trim_start().strip_prefix('"');
                exported.extend(argument.and_then(|a| Some(a.split_once('"')?.0.to_owned())));
            }
        }
    }
    exported
}

fn alerts() -> Vec<String> {
    let rules = root().join("helm/shoal/files/alerts.yaml");
    let rules = std::fs::read_to_string(rules).expect("the rules");
    let name = |line: &str| Some(line.trim().strip_prefix("- alert: ")?.to_owned());
    rules.lines().filter_map(name).collect()
}

#[test]
fn every_metric_on_a_dashboard_or_in_a_rule_is_exported_by_the_code() {
    let exported = exported();
    assert!(exported.len() > 40, "{exported:?}");
    let mut watched = BTreeSet::new();
    let files = [
        texts("helm/shoal", &[".json", ".yaml"]),
        texts("deploy", &[".json", ".yaml", ".yml"]),
        texts("deploy/runbooks", &[".md"]),
    ];
    for (path, text) in files.into_iter().flatten() {
        for name in names(&text) {
            let base = PARTS
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .filter(|base| base.ends_with("_seconds"))
                .unwrap_or(&name);
            assert!(
                exported.contains(base),
                "{}: {name} is not exported",
                path.display()
            );
            watched.insert(base.to_owned());
        }
    }
    assert!(watched.len() > 40, "{watched:?}");
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    let pages = texts("deploy/runbooks", &[".md"]);
    let told: BTreeSet<String> = pages
        .iter()
        .filter_map(|(path, _)| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(told, alerts.iter().cloned().collect());
    assert_eq!(told.len(), alerts.len(), "an alert is named twice");
    for (path, text) in pages {
        for heading in ["## What it means", "## What to look at", "## What to do"] {
            assert!(text.contains(heading), "{}: {heading}", path.display());
        }
    }
}

#[test]
fn an_alert_leads_to_its_own_page() {
    let rules = root().join("helm/shoal/files/alerts.yaml");
    let rules = std::fs::read_to_string(rules).expect("the rules");
    for (rule, name) in rules.split("- alert: ").skip(1).zip(alerts()) {
        let page = format!("runbook_url: deploy/runbooks/{name}.md");
        assert!(rule.contains(&page), "{name}: expected {page}");
        assert!(rule.contains("severity: page") || rule.contains("severity: ticket"));
    }
}
