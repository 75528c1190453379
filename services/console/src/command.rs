//! Hold, release and kill switch: checked here for sense, decided by the gateway.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use wire::proto::dispatch::v1::CommandRequest;
use wire::proto::dispatch::v1::command_request::Kind as WireKind;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;

use crate::problem::Problem;
use crate::view::effect::{Effect, effect};
use crate::{App, feeds, security};

/// The longest a hold or kill may last before somebody has to think again.
const LONGEST: TimeDelta = TimeDelta::hours(24);

/// Letters of a name.
const LONGEST_NAME: usize = 64;

/// Letters of a reason.
const REASON: std::ops::RangeInclusive<usize> = 3..=500;

/// What an operator may ask of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Keep the schedule, ignore activations until the expiry.
    Hold,
    /// Follow everything again.
    Release,
    /// Every charge point falls back to plain charging.
    Kill,
}

/// A command as a program or the page sends it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Command {
    kind: Kind,
    by: String,
    reason: String,
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Commanded {
    state: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EffectQuery {
    kind: Kind,
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

impl Command {
    fn check(&self, now: DateTime<Utc>) -> Result<(), String> {
        let by = self.by.trim().chars().count();
        if by == 0 || by > LONGEST_NAME {
            return Err(format!("by: {by} letters, expected 1 to {LONGEST_NAME}"));
        }
        let reason = self.reason.trim().chars().count();
        if !REASON.contains(&reason) {
            let (least, most) = (REASON.start(), REASON.end());
            return Err(format!(
                "reason: {reason} letters, expected {least} to {most}"
            ));
        }
        match (self.kind, self.expires_at) {
            (Kind::Release, _) => Ok(()),
            (Kind::Hold | Kind::Kill, None) => {
                Err("expires_at: missing; a hold or kill must have an end".to_owned())
            }
            (Kind::Hold | Kind::Kill, Some(at)) if at <= now => {
                Err(format!("expires_at: {at} is not after now, {now}"))
            }
            (Kind::Hold | Kind::Kill, Some(at)) if at - now > LONGEST => Err(format!(
                "expires_at: {at} is more than {} hours from now, {now}",
                LONGEST.num_hours()
            )),
            (Kind::Hold | Kind::Kill, Some(_)) => Ok(()),
        }
    }
}

/// `POST /api/v1/dispatch/command`
pub(crate) async fn command(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Commanded>, Problem> {
    security::own_page(&headers, &app.config.hosts)?;
    let command: Command =
        serde_json::from_slice(&body).map_err(|e| Problem::bad_request(format!("body: {e}")))?;
    command
        .check(app.clock.now())
        .map_err(Problem::bad_request)?;
    tracing::info!(kind = ?command.kind, by = %command.by, "{:?} asks for {:?}: {:?}", command.by, command.kind, command.reason);
    let kind = match command.kind {
        Kind::Hold => WireKind::Hold,
        Kind::Release => WireKind::Release,
        Kind::Kill => WireKind::Kill,
    };
    let request = CommandRequest {
        kind: kind.into(),
        by: command.by.trim().to_owned(),
        reason: command.reason.trim().to_owned(),
        expires_at_micros: command.expires_at.map(|at| at.timestamp_micros()),
    };
    let mut client = DispatchServiceClient::new(app.services.gateway.clone());
    let state = feeds::within(client.command(request)).await?.state;
    Ok(Json(Commanded { state }))
}

/// `GET /api/v1/dispatch/effect`
pub(crate) async fn preview(
    State(app): State<App>,
    query: Result<Query<EffectQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Effect>, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let lens = app.lens();
    Ok(Json(effect(
        &app.shared.read(),
        query.kind,
        query.expires_at,
        &lens,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-03-02T10:00:00Z".parse().unwrap()
    }

    fn command(kind: Kind, by: &str, reason: &str, minutes: Option<i64>) -> Command {
        Command {
            kind,
            by: by.to_owned(),
            reason: reason.to_owned(),
            expires_at: minutes.map(|m| now() + TimeDelta::minutes(m)),
        }
    }

    #[test]
    fn a_command_needs_a_name_a_reason_and_an_end() {
        command(Kind::Hold, "Ann", "meter test", Some(15))
            .check(now())
            .unwrap();
        command(Kind::Release, "Ann", "test over", None)
            .check(now())
            .unwrap();
        for (wrong, named) in [
            (command(Kind::Hold, " ", "meter test", Some(15)), "by:"),
            (command(Kind::Hold, "Ann", "  x ", Some(15)), "reason:"),
            (
                command(Kind::Hold, "Ann", "meter test", None),
                "expires_at:",
            ),
            (command(Kind::Kill, "Ann", "smoke", Some(0)), "expires_at:"),
            (
                command(Kind::Kill, "Ann", "smoke", Some(24 * 60 + 1)),
                "expires_at:",
            ),
        ] {
            assert!(wrong.check(now()).unwrap_err().starts_with(named));
        }
    }
}
