//! `report.html`: the report for a person, one file that needs nothing from outside.

use std::path::Path;

use portfolio::case::Case;
use portfolio::policy::Policy;
use serde::Serialize;

use super::days::{self, AverageDay, Day, PriceBands};
use super::report::{Played, Report};

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
const CHARTS: &str = include_str!("../../../console/assets/vendor/uPlot.iife.min.js");
const CHART_STYLE: &str = include_str!("../../../console/assets/vendor/uPlot.min.css");

/// What the page's script draws.
#[derive(Debug, Serialize)]
struct Data<'a> {
    report: &'a Report,
    average_day: AverageDay,
    price_bands: PriceBands,
    /// Best and worst day of the managed policy against unmanaged; empty without both.
    days: Vec<Day>,
    /// Index of the policy the days are picked for.
    managed: Option<usize>,
    against: Option<usize>,
}

/// Writes `report.html` into `dir`.
pub(super) fn write(
    dir: &Path,
    case: &Case,
    report: &Report,
    played: &[Played],
) -> std::io::Result<()> {
    let loads = days::loads(case, played);
    let find = |policy| played.iter().position(|p| p.run.policy == policy);
    let managed = [
        Policy::V2g,
        Policy::V1g,
        Policy::V2gPerfect,
        Policy::V1gPerfect,
    ]
    .into_iter()
    .find_map(find);
    let against = find(Policy::Unmanaged);
    let picked = managed.zip(against).map_or_else(Vec::new, |(of, against)| {
        days::best_and_worst(case, played, &loads, of, against)
    });
    let data = Data {
        report,
        average_day: days::average(case, &loads),
        price_bands: days::bands(case, &loads),
        days: picked,
        managed,
        against,
    };
    // Inside a script element only `<` could end it.
    let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let title = report.scenario.replace('&', "&amp;").replace('<', "&lt;");
    let page = PAGE
        .replace("{{title}}", &title)
        .replace("{{chart_style}}", CHART_STYLE)
        .replace("{{style}}", STYLE)
        .replace("{{charts}}", CHARTS)
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &data);
    std::fs::write(dir.join("report.html"), page)
}
