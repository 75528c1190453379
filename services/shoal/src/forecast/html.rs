//! `forecast.html`: the scores for a person, one file that needs nothing from outside.

use std::path::Path;

use super::availability::Report;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("../backtest/report.css");
const SCRIPT: &str = include_str!("report.js");
const CHARTS: &str = include_str!("../../../console/assets/vendor/uPlot.iife.min.js");
const CHART_STYLE: &str = include_str!("../../../console/assets/vendor/uPlot.min.css");

/// Writes `forecast.html` into `dir`.
pub(super) fn write(dir: &Path, report: &Report) -> std::io::Result<()> {
    // Inside a script element only `<` could end it.
    let data = serde_json::to_string(report)?.replace('<', "\\u003c");
    let title = report.scenario().replace('&', "&amp;").replace('<', "&lt;");
    let page = PAGE
        .replace("{{title}}", &title)
        .replace("{{chart_style}}", CHART_STYLE)
        .replace("{{style}}", STYLE)
        .replace("{{charts}}", CHARTS)
        .replace("{{script}}", SCRIPT)
        .replace("{{data}}", &data);
    std::fs::write(dir.join("forecast.html"), page)
}
