//! The page's files, embedded: one binary, no other host.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// The chart library as a plain script that defines `uPlot`, for pages and stand-alone reports.
pub const UPLOT_JS: &str = include_str!("../assets/vendor/uPlot.iife.min.js");

/// Style sheet of the chart library.
pub const UPLOT_CSS: &str = include_str!("../assets/vendor/uPlot.min.css");

/// Licence of the chart library, to be kept with every copy of it.
pub const UPLOT_LICENSE: &str = include_str!("../assets/vendor/uPlot.LICENSE");

const PAGE: &str = include_str!("../assets/index.html");
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Name, content type and content of everything below `/assets/`.
const FILES: [(&str, &str, &str); 15] = [
    ("vendor/uPlot.js", SCRIPT, UPLOT_JS),
    ("vendor/uPlot.css", STYLE, UPLOT_CSS),
    (
        "vendor/uPlot.LICENSE",
        "text/plain; charset=utf-8",
        UPLOT_LICENSE,
    ),
    ("icon.svg", IMAGE, include_str!("../assets/icon.svg")),
    ("look.css", STYLE, include_str!("../assets/look.css")),
    ("control.css", STYLE, include_str!("../assets/control.css")),
    ("theme.js", SCRIPT, include_str!("../assets/theme.js")),
    ("control.js", SCRIPT, include_str!("../assets/control.js")),
    ("stream.js", SCRIPT, include_str!("../assets/stream.js")),
    ("format.js", SCRIPT, include_str!("../assets/format.js")),
    ("strip.js", SCRIPT, include_str!("../assets/strip.js")),
    ("charts.js", SCRIPT, include_str!("../assets/charts.js")),
    ("side.js", SCRIPT, include_str!("../assets/side.js")),
    ("fleet.js", SCRIPT, include_str!("../assets/fleet.js")),
    ("keys.js", SCRIPT, include_str!("../assets/keys.js")),
];

/// The control room.
pub(crate) async fn page() -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, HTML),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        PAGE,
    )
}

/// One file below `/assets/`.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, _, _)| *file == name) {
        Some((_, kind, text)) => (
            [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "no-cache"),
            ],
            *text,
        )
            .into_response(),
        None => Problem::not_found(&format!("no file {name}")).into_response(),
    }
}
