//! The routes.

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use serde::Serialize;

use crate::problem::Problem;
use crate::view::Lens;
use crate::view::fleet::{Filter, FleetView, SiteView};
use crate::view::live::Live;
use crate::view::trace::{Point, points};
use crate::{App, assets, command, lists, security, stream};

/// The description of the interface, as served at `/api/v1/openapi.json`.
pub const ROUTES_OPENAPI: &str = include_str!("../assets/openapi.json");

/// Bytes of a request body: a command is a few hundred.
const LARGEST_BODY: usize = 16 * 1024;

/// Every route of the interface with its method.
pub(crate) fn routes() -> Vec<(&'static str, &'static str, MethodRouter<App>)> {
    vec![
        ("get", "/api/v1/snapshot", get(snapshot)),
        ("get", "/api/v1/fleet", get(fleet)),
        ("get", "/api/v1/sites", get(sites)),
        ("get", "/api/v1/bids", get(lists::bids)),
        ("get", "/api/v1/awards", get(lists::awards)),
        ("get", "/api/v1/plan", get(lists::plan)),
        (
            "get",
            "/api/v1/dispatch/activations",
            get(lists::activations),
        ),
        ("get", "/api/v1/dispatch/effect", get(command::preview)),
        ("post", "/api/v1/dispatch/command", post(command::command)),
        ("get", "/api/v1/forecast", get(lists::forecast)),
        ("get", "/api/v1/statements", get(lists::statements)),
        ("get", "/api/v1/events", get(stream::events)),
        ("get", "/api/v1/openapi.json", get(openapi)),
    ]
}

/// The whole web server.
pub fn router(app: App) -> Router {
    let mut router = Router::new()
        .route("/", get(assets::page))
        .route("/assets/{*name}", get(assets::file));
    for (_, path, method) in routes() {
        router = router.route(path, method);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(security::headers))
        .with_state(app)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(&format!("nothing at {}", uri.path()))
}

async fn wrong_method(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take this method", uri.path()),
    )
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], ROUTES_OPENAPI)
}

/// All that the first page shows.
#[derive(Debug, Serialize)]
struct Snapshot {
    #[serde(flatten)]
    live: Live,
    points: Vec<Point>,
    fleet: FleetView,
}

type FilterQuery = Result<Query<Filter>, axum::extract::rejection::QueryRejection>;

async fn snapshot(State(app): State<App>) -> Json<Snapshot> {
    Json(Snapshot {
        live: app.live(),
        points: points(&app.shared.read(), None),
        fleet: app.fleet_view(&Filter::default()),
    })
}

async fn fleet(State(app): State<App>, filter: FilterQuery) -> Result<Json<FleetView>, Problem> {
    let Query(filter) = filter.map_err(|e| Problem::bad_request(e.body_text()))?;
    Ok(Json(app.fleet_view(&filter)))
}

async fn sites(State(app): State<App>) -> Json<Vec<SiteView>> {
    let filter = Filter {
        limit: Some(0),
        ..Filter::default()
    };
    Json(app.fleet_view(&filter).sites)
}

impl App {
    pub(crate) fn lens(&self) -> Lens {
        Lens {
            now: self.clock.now(),
            speed: self.clock.speed(),
            plan_interval: self.config.plan_interval(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_names_exactly_the_routes() {
        let document: serde_json::Value = serde_json::from_str(ROUTES_OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((method.clone(), path.clone()));
            }
        }
        let served = routes()
            .into_iter()
            .map(|(method, path, _)| (method.to_owned(), path.to_owned()))
            .collect();
        assert_eq!(described, served);
    }
}
