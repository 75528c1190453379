//! The HTTP/JSON interface over played services.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a test says what it met"
)]

mod support;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use futures_util::StreamExt;
use serde_json::{Value, json};
use shoal_console::{Config, ROUTES_OPENAPI, router};
use support::fleet::{cycle, evse, leaves, micros, morning};
use support::{Stage, World, stage};
use tower::ServiceExt;

const COMMAND: &str = "/api/v1/dispatch/command";

async fn ask(stage: &Stage, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    answer(send(router(stage.app.clone()), request).await).await
}

async fn send(router: Router, request: Request<Body>) -> Response<Body> {
    router.oneshot(request).await.unwrap()
}

async fn answer(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let expected = if status.is_success() {
        "application/json"
    } else {
        "application/problem+json"
    };
    assert_eq!(response.headers()["content-type"], expected);
    let body = to_bytes(response.into_body(), 10_000_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn command(stage: &Stage, body: Value, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut request = Request::post(COMMAND).header("host", "127.0.0.1:8080");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(
        send(
            router(stage.app.clone()),
            request.body(Body::from(body.to_string())).unwrap(),
        )
        .await,
    )
    .await
}

/// Waits until every source has spoken.
async fn ready(stage: &Stage) -> Value {
    for _ in 0..200 {
        let (_, snapshot) = ask(stage, "/api/v1/snapshot").await;
        let up = snapshot["sources"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["up"] == true);
        if up && snapshot["points"].as_array().unwrap().len() >= 900 && !snapshot["plan"].is_null()
        {
            return snapshot;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the sources never came up");
}

async fn played() -> Stage {
    let stage = stage(morning(), 1.0, Config::default(), false).await;
    ready(&stage).await;
    stage
}

#[tokio::test]
async fn the_snapshot_says_what_the_services_said() {
    let stage = stage(morning(), 1.0, Config::default(), false).await;
    let snapshot = ready(&stage).await;
    let last = cycle(-1);
    assert_eq!(
        snapshot["cycle"]["pool"]["target_kw"],
        json!(last.target_watts as f64 / 1e3)
    );
    assert_eq!(snapshot["cycle"]["pool"]["flow"], "charging");
    let up = snapshot["cycle"]["reserves"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["product"] == "afrr_up")
        .unwrap();
    assert!((up["margin_mw"].as_f64().unwrap() + 0.019).abs() < 1e-9 && up["direction"] == "up");
    assert_eq!(snapshot["gates"][0]["product"], "day_ahead");
    assert_eq!(snapshot["plan"]["age"], "fresh");
    let won: Vec<_> = snapshot["cycle"]["asking"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["won"] == true)
        .collect();
    assert_eq!((won.len(), &won[0]["who"]), (1, &json!("afrr")));
    assert_eq!(snapshot["fleet"]["total"], 230);
    let alarms = snapshot["alarms"].to_string();
    for expected in [
        "aFRR up sold beyond held",
        "cannot be full in time: 1 of 230",
        "not following set-point: 1",
    ] {
        assert!(alarms.contains(expected), "{expected}: {alarms}");
    }
}

#[tokio::test]
async fn exceptions_come_first_and_filters_are_the_servers() {
    let stage = played().await;
    let (_, fleet) = ask(&stage, "/api/v1/fleet?attention=true").await;
    let codes: Vec<_> = fleet["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["attention"][0]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        ["short", "unresponsive", "offline", "tight", "silent"]
    );
    assert_eq!(fleet["matched"], 5);
    let (_, fleet) = ask(&stage, "/api/v1/fleet?q=DEPOT&limit=3").await;
    assert_eq!(
        (&fleet["matched"], fleet["rows"].as_array().unwrap().len()),
        (&json!(30), 3)
    );
    let (_, fleet) = ask(&stage, "/api/v1/fleet?site=street-00&q=car").await;
    assert!(
        fleet["rows"]
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["site"] == "street-00")
    );
    assert_eq!(fleet["sites"].as_array().unwrap().len(), 26);
    let (status, problem) = ask(&stage, "/api/v1/fleet?colour=red").await;
    assert_eq!(
        (status, &problem["status"]),
        (StatusCode::BAD_REQUEST, &json!(400))
    );
    assert!(problem["detail"].as_str().unwrap().contains("colour"));
}

#[tokio::test]
async fn what_is_not_known_is_null() {
    let world = World::default();
    let mut quiet = evse(1, "yard");
    (
        quiet.power_watts,
        quiet.power_at_micros,
        quiet.setpoint_watts,
    ) = (None, None, None);
    quiet.session.as_mut().unwrap().needs = None;
    world.fleet.lock().unwrap().evses.push(quiet);
    let mut first = cycle(0);
    (first.actual_watts, first.deviation_mhz) = (None, None);
    world.past.lock().unwrap().push(first);
    let stage = stage(world, 1.0, Config::default(), false).await;
    let snapshot = loop {
        let (_, snapshot) = ask(&stage, "/api/v1/snapshot").await;
        if !snapshot["cycle"].is_null() && snapshot["fleet"]["total"] == 1 {
            break snapshot;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let row = &snapshot["fleet"]["rows"][0];
    for field in [
        "power_kw",
        "setpoint_kw",
        "planned_kw",
        "departure",
        "missing_kwh",
        "slack_minutes",
        "reason",
    ] {
        assert_eq!(row[field], Value::Null, "{field}");
    }
    assert_eq!(row["doing"], "unmeasured");
    assert_eq!(snapshot["fleet"]["sites"][0]["power_kw"], Value::Null);
    assert_eq!(
        snapshot["fleet"]["sites"][0]["import_limit_kw"],
        Value::Null
    );
    let pool = &snapshot["cycle"]["pool"];
    assert_eq!(
        (&pool["actual_kw"], &pool["error_kw"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&snapshot["frequency"]["hz"], &snapshot["plan"]),
        (&Value::Null, &Value::Null)
    );
    let (status, problem) = ask(&stage, "/api/v1/plan").await;
    assert_eq!(
        (status, &problem["detail"]),
        (StatusCode::NOT_FOUND, &json!("no plan has been made yet"))
    );
}

#[tokio::test]
async fn a_change_of_one_charge_point_arrives() {
    let stage = played().await;
    let mut changed = evse(1, "office");
    changed.changed_at_micros = micros(1);
    changed.unresponsive = true;
    leaves(&mut changed, 60, 40);
    stage.world.evses.send(changed).unwrap();
    for _ in 0..100 {
        let (_, fleet) = ask(&stage, "/api/v1/fleet?q=office-01&attention=true").await;
        if fleet["matched"] == 1 {
            assert_eq!(fleet["rows"][0]["attention"][0]["code"], "short");
            assert_eq!(fleet["rows"][0]["attention"][1]["code"], "unresponsive");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the change never arrived");
}

#[tokio::test]
async fn a_plan_turns_amber_after_one_interval_and_red_after_two() {
    for (minutes, age) in [(-14, "fresh"), (-16, "amber"), (-31, "red")] {
        let world = morning();
        world
            .plan
            .lock()
            .unwrap()
            .as_mut()
            .unwrap()
            .solved_at_micros = micros(minutes);
        let stage = stage(world, 1.0, Config::default(), false).await;
        let snapshot = ready(&stage).await;
        assert_eq!(snapshot["plan"]["age"], age);
        assert_eq!(
            snapshot["alarms"].to_string().contains("two intervals old"),
            age == "red"
        );
    }
}

#[tokio::test]
async fn commands_show_their_effect_reach_the_gateway_and_need_a_reason() {
    let stage = played().await;
    let until = "2026-03-02T10:40:00Z";
    let (_, effect) = ask(
        &stage,
        &format!("/api/v1/dispatch/effect?kind=kill&expires_at={until}"),
    )
    .await;
    // One of four hours of 1 MW at 60.00 per MW and block, less the seconds since the start.
    let risk: f64 = effect["payment_at_risk"].as_str().unwrap().parse().unwrap();
    assert!((14.8..=15.0).contains(&risk), "{risk}");
    assert!(
        effect["stop_discharging"].as_u64().unwrap() > 10
            && effect["pool_after_kw"].as_f64().unwrap() > 1_000.0
    );

    let json_type = [("content-type", "application/json")];
    let hold = json!({ "kind": "hold", "by": "Ann", "reason": "meter test", "expires_at": until });
    let (status, done) = command(&stage, hold.clone(), &json_type).await;
    assert_eq!((status, &done["state"]), (StatusCode::OK, &json!("held")));
    let sent = stage.world.commands.lock().unwrap().clone();
    assert_eq!(
        (sent[0].by.as_str(), sent[0].expires_at_micros),
        ("Ann", Some(micros(60)))
    );

    let mut refused = hold.clone();
    refused["reason"] = json!("not now");
    let (status, problem) = command(&stage, refused, &json_type).await;
    assert_eq!(
        (status, &problem["detail"]),
        (
            StatusCode::CONFLICT,
            &json!("a second person must release the kill switch")
        )
    );
    for (field, value) in [
        ("reason", json!("")),
        ("by", json!(" ")),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("kind", json!("stop")),
        ("expires_at", json!("2026-03-02T10:40:00")),
    ] {
        let mut wrong = hold.clone();
        wrong[field] = value;
        assert_eq!(
            command(&stage, wrong, &json_type).await.0,
            StatusCode::BAD_REQUEST,
            "{field}"
        );
    }
    let foreign = [
        ("content-type", "application/json"),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(
        command(&stage, hold.clone(), &foreign).await.0,
        StatusCode::FORBIDDEN
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(
        command(&stage, hold, &form).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(stage.world.commands.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn errors_are_problems_and_answers_keep_to_themselves() {
    let stage = stage(morning(), 1.0, Config::default(), false).await;
    let (status, problem) = ask(&stage, "/api/v1/nothing").await;
    assert_eq!(
        (status, &problem["title"]),
        (StatusCode::NOT_FOUND, &json!("Not Found"))
    );
    assert_eq!(ask(&stage, COMMAND).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        ask(&stage, "/api/v1/bids?from=yesterday").await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        ask(
            &stage,
            "/api/v1/bids?from=2026-03-03T00:00:00Z&to=2026-03-02T00:00:00Z"
        )
        .await
        .0,
        StatusCode::BAD_REQUEST
    );
    let page = send(
        router(stage.app.clone()),
        Request::get("/").body(Body::empty()).unwrap(),
    )
    .await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'")
            && policy.contains("script-src 'self'")
            && !policy.contains("unsafe")
    );
    let html =
        String::from_utf8(to_bytes(page.into_body(), 100_000).await.unwrap().to_vec()).unwrap();
    assert!(
        !html.contains("http://")
            && !html.contains("https://")
            && !html.contains("style=")
            && !html.contains("onclick")
    );
}

#[tokio::test]
async fn a_service_that_is_away_is_named_with_since_when() {
    let stage = played().await;
    stage.services.cancel();
    for _ in 0..200 {
        let (_, snapshot) = ask(&stage, "/api/v1/snapshot").await;
        let away: Vec<_> = snapshot["sources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["up"] == false)
            .collect();
        if away.len() == 5 {
            assert!(away.iter().all(|s| s["since"].is_string()
                && s["heard_at"].is_string()
                && s["detail"].is_string()));
            assert!(
                snapshot["alarms"]
                    .to_string()
                    .contains("dispatch does not answer")
            );
            assert_eq!(snapshot["fleet"]["total"], 230, "the last words stay");
            assert_eq!(
                ask(&stage, "/api/v1/bids").await.0,
                StatusCode::SERVICE_UNAVAILABLE
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody missed the services");
}

/// Reads events until `enough`, as (name, data).
async fn events(
    stage: &Stage,
    path: &str,
    mut enough: impl FnMut(&[(String, Value)]) -> bool,
) -> Vec<(String, Value)> {
    let response = send(
        router(stage.app.clone()),
        Request::get(path).body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let (mut text, mut found) = (String::new(), Vec::new());
    while !enough(&found) {
        let part = tokio::time::timeout(Duration::from_secs(120), body.next())
            .await
            .expect("an event")
            .unwrap()
            .unwrap();
        text.push_str(std::str::from_utf8(&part).unwrap());
        while let Some((event, rest)) = text
            .split_once("\n\n")
            .map(|(e, r)| (e.to_owned(), r.to_owned()))
        {
            text = rest;
            let field = |name: &str| {
                event
                    .lines()
                    .find_map(|l| l.strip_prefix(name))
                    .map(|v| v.trim().to_owned())
            };
            if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                found.push((name, serde_json::from_str(&data).unwrap()));
            }
        }
    }
    found
}

#[tokio::test]
async fn the_stream_starts_whole_goes_on_with_news_and_is_not_flooded() {
    let stage = played().await;
    let cycles = stage.world.cycles.clone();
    tokio::spawn(async move {
        for second in 0..2_000 {
            let _ = cycles.send(cycle(second));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let begun = std::time::Instant::now();
    let lives = |found: &[(String, Value)]| found.iter().filter(|(name, _)| name == "live").count();
    let found = events(&stage, "/api/v1/events?attention=true&q=", |found| {
        lives(found) >= 8
    })
    .await;
    assert!(
        begun.elapsed() > Duration::from_millis(1_200),
        "eight views in {:?}",
        begun.elapsed()
    );
    assert_eq!(found[0].1["whole"], true);
    assert!(found[0].1["points"].as_array().unwrap().len() >= 900);
    let mut numbers = Vec::new();
    for (_, live) in found.iter().filter(|(name, _)| name == "live") {
        numbers.extend(
            live["points"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["number"].as_u64().unwrap()),
        );
    }
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "no cycle is lost or told twice"
    );
    let fleets: Vec<_> = found.iter().filter(|(name, _)| name == "fleet").collect();
    assert!((1..=4).contains(&fleets.len()));
    assert_eq!(fleets[0].1["rows"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn one_browser_too_many_is_told_to_come_back_and_a_free_place_is_given_again() {
    let config = Config {
        most_watchers: 1,
        ..Config::default()
    };
    let stage = stage(World::default(), 1.0, config, true).await;
    let get = || Request::get("/api/v1/events").body(Body::empty()).unwrap();
    let first = send(router(stage.app.clone()), get()).await;
    let second = send(router(stage.app.clone()), get()).await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    for _ in 0..100 {
        if send(router(stage.app.clone()), get()).await.status() == StatusCode::OK {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place was never given back");
}

/// Where `value` is not what `schema` says, in words.
fn misfits(schema: &Value, value: &Value, all: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let named = &all[name.rsplit('/').next().unwrap()];
        assert!(named.is_object(), "{name} is not described");
        return misfits(named, value, all, place, found);
    }
    if let Some(options) = schema["anyOf"].as_array() {
        let fits = |option: &Value| {
            let mut inner = Vec::new();
            misfits(option, value, all, place, &mut inner);
            inner
        };
        let tried: Vec<_> = options.iter().map(fits).collect();
        if !tried.iter().any(Vec::is_empty) {
            found.extend(tried.into_iter().next().unwrap());
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = schema["type"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![schema["type"].clone()]);
    if !types
        .iter()
        .any(|t| t == kind || (t == "number" && kind == "integer"))
    {
        found.push(format!("{place}: {kind}, expected {types:?}"));
    }
    if schema["enum"].is_array()
        && !value.is_null()
        && !schema["enum"].as_array().unwrap().contains(value)
    {
        found.push(format!("{place}: {value} is not listed"));
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        misfits(&schema["items"], item, all, &format!("{place}[{i}]"), found);
    }
    let Some(fields) = value.as_object() else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(required.as_str().unwrap()) {
            found.push(format!("{place}: {required} is missing"));
        }
    }
    for (name, inner) in fields {
        let described = schema["properties"]
            .get(name)
            .or(schema.get("additionalProperties").filter(|a| a.is_object()));
        match described {
            Some(described) => misfits(described, inner, all, &format!("{place}.{name}"), found),
            None => found.push(format!("{place}.{name} is not described")),
        }
    }
}

#[tokio::test]
async fn every_answer_is_as_the_interface_describes_it() {
    let stage = played().await;
    let document: Value = serde_json::from_str(ROUTES_OPENAPI).unwrap();
    let (_, served) = ask(&stage, "/api/v1/openapi.json").await;
    assert_eq!(served, document);
    let all = &document["components"]["schemas"];
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("post").is_some() || path.ends_with("openapi.json") {
            continue;
        }
        let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if path.ends_with("events") {
            let told = events(&stage, path, |found| found.len() >= 2).await;
            misfits(&all["LiveEvent"], &told[0].1, all, "live", &mut found);
            misfits(&all["Fleet"], &told[1].1, all, "fleet", &mut found);
            continue;
        }
        let query = if path.ends_with("effect") {
            "?kind=hold&expires_at=2026-03-02T10:40:00Z"
        } else {
            ""
        };
        let (status, answer) = ask(&stage, &format!("{path}{query}")).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        assert!(
            answer.as_array().is_none_or(|list| !list.is_empty()),
            "{path} lists nothing to compare"
        );
        misfits(schema, &answer, all, path, &mut found);
    }
    let (_, problem) = ask(&stage, "/api/v1/nothing").await;
    misfits(&all["Problem"], &problem, all, "problem", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
