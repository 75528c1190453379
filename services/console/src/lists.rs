//! Lists of the market and the dispatcher, asked for when somebody asks.

use axum::Json;
use axum::extract::{Query, State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::dispatch::v1::{Activation, ListActivationsRequest};
use wire::proto::forecast::v1::{Forecast, Quantity};
use wire::proto::market::v1::market_service_client::MarketServiceClient;
use wire::proto::market::v1::{Award, Bid, Statement, StatementLine};
use wire::proto::portfolio::v1::{Plan, PlanStep};

use crate::feeds::{LARGEST_MESSAGE, span, within};
use crate::problem::Problem;
use crate::view::{at, kw, kwh, mw, said};
use crate::{App, Services};

/// What is listed if nobody says: yesterday, today and tomorrow.
const PAST: TimeDelta = TimeDelta::hours(24);
const AHEAD: TimeDelta = TimeDelta::hours(48);

/// The longest span listed at once.
const LONGEST: TimeDelta = TimeDelta::days(31);

type Instant = Option<DateTime<Utc>>;

/// Delivery between two instants.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    from: Instant,
    to: Instant,
}

type SpanQuery = Result<Query<Span>, axum::extract::rejection::QueryRejection>;

fn bounds(app: &App, query: SpanQuery) -> Result<(DateTime<Utc>, DateTime<Utc>), Problem> {
    let Query(asked) = query.map_err(|e| Problem::bad_request(e.body_text()))?;
    let now = app.clock.now();
    let from = asked.from.unwrap_or(now - PAST);
    let to = asked.to.unwrap_or(from.max(now) + AHEAD);
    if to <= from {
        return Err(Problem::bad_request(format!(
            "to: {to} is not after from, {from}"
        )));
    }
    if to - from > LONGEST {
        return Err(Problem::bad_request(format!(
            "to: more than {} days after from, {from}",
            LONGEST.num_days()
        )));
    }
    Ok((from, to))
}

impl Services {
    fn market(&self) -> MarketServiceClient<tonic::transport::Channel> {
        MarketServiceClient::new(self.gateway.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }
}

/// One bid.
#[derive(Debug, Serialize)]
pub(crate) struct BidView {
    id: String,
    product: String,
    direction: String,
    start: Instant,
    end: Instant,
    volume_mw: f64,
    price: Option<String>,
    currency: String,
    gate_closes_at: Instant,
    built_at: Instant,
    delivery_probability: f64,
    status: String,
    reason: Option<String>,
}

impl From<Bid> for BidView {
    fn from(bid: Bid) -> Self {
        Self {
            id: bid.id,
            product: bid.product,
            direction: bid.direction,
            start: at(bid.start_micros),
            end: at(bid.end_micros),
            volume_mw: mw(bid.volume_watts),
            price: bid.price,
            currency: bid.currency,
            gate_closes_at: at(bid.gate_closes_micros),
            built_at: at(bid.built_at_micros),
            delivery_probability: bid.delivery_probability,
            status: bid.status,
            reason: said(&bid.reason),
        }
    }
}

/// `GET /api/v1/bids`
pub(crate) async fn bids(
    State(app): State<App>,
    query: SpanQuery,
) -> Result<Json<Vec<BidView>>, Problem> {
    let (from, to) = bounds(&app, query)?;
    let bids = within(app.services.market().list_bids(span(from, to)))
        .await?
        .bids;
    Ok(Json(bids.into_iter().map(Into::into).collect()))
}

/// One award.
#[derive(Debug, Serialize)]
pub(crate) struct AwardView {
    id: String,
    bid_id: String,
    product: String,
    direction: String,
    start: Instant,
    end: Instant,
    volume_mw: f64,
    price: String,
    currency: String,
    awarded_at: Instant,
}

impl From<Award> for AwardView {
    fn from(award: Award) -> Self {
        Self {
            id: award.id,
            bid_id: award.bid_id,
            product: award.product,
            direction: award.direction,
            start: at(award.start_micros),
            end: at(award.end_micros),
            volume_mw: mw(award.volume_watts),
            price: award.price,
            currency: award.currency,
            awarded_at: at(award.awarded_at_micros),
        }
    }
}

/// `GET /api/v1/awards`
pub(crate) async fn awards(
    State(app): State<App>,
    query: SpanQuery,
) -> Result<Json<Vec<AwardView>>, Problem> {
    let (from, to) = bounds(&app, query)?;
    let awards = within(app.services.market().list_awards(span(from, to)))
        .await?
        .awards;
    Ok(Json(awards.into_iter().map(Into::into).collect()))
}

/// One statement.
#[derive(Debug, Serialize)]
pub(crate) struct StatementView {
    account: String,
    start: Instant,
    end: Instant,
    version: u32,
    total: String,
    currency: String,
    lines: Vec<LineView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LineView {
    kind: String,
    product: String,
    start: Instant,
    end: Instant,
    energy_kwh: f64,
    amount: String,
}

impl From<Statement> for StatementView {
    fn from(statement: Statement) -> Self {
        let line = |line: StatementLine| LineView {
            kind: line.kind,
            product: line.product,
            start: at(line.start_micros),
            end: at(line.end_micros),
            energy_kwh: kwh(line.energy_joules),
            amount: line.amount,
        };
        Self {
            account: statement.account,
            start: at(statement.start_micros),
            end: at(statement.end_micros),
            version: statement.version,
            total: statement.total,
            currency: statement.currency,
            lines: statement.lines.into_iter().map(line).collect(),
        }
    }
}

/// `GET /api/v1/statements`
pub(crate) async fn statements(
    State(app): State<App>,
    query: SpanQuery,
) -> Result<Json<Vec<StatementView>>, Problem> {
    let (from, to) = bounds(&app, query)?;
    let listed = within(app.services.market().list_statements(span(from, to)))
        .await?
        .statements;
    Ok(Json(listed.into_iter().map(Into::into).collect()))
}

/// Delivery of one award.
#[derive(Debug, Serialize)]
pub(crate) struct ActivationView {
    award_id: String,
    product: String,
    start: Instant,
    end: Instant,
    volume_mw: f64,
    cycles: u32,
    cycles_in_tolerance: u32,
    mean_abs_error_kw: f64,
    largest_request_kw: f64,
    followed: bool,
}

impl From<Activation> for ActivationView {
    fn from(activation: Activation) -> Self {
        Self {
            award_id: activation.award_id,
            product: activation.product,
            start: at(activation.start_micros),
            end: at(activation.end_micros),
            volume_mw: mw(activation.volume_watts),
            cycles: activation.cycles,
            cycles_in_tolerance: activation.cycles_in_tolerance,
            mean_abs_error_kw: activation.mean_abs_error_watts / 1e3,
            largest_request_kw: kw(activation.largest_request_watts),
            followed: activation.followed,
        }
    }
}

/// `GET /api/v1/dispatch/activations`
pub(crate) async fn activations(
    State(app): State<App>,
    query: SpanQuery,
) -> Result<Json<Vec<ActivationView>>, Problem> {
    let (from, to) = bounds(&app, query)?;
    let request = ListActivationsRequest {
        from_micros: from.timestamp_micros(),
        to_micros: to.timestamp_micros(),
    };
    let mut client = DispatchServiceClient::new(app.services.gateway.clone());
    let listed = within(client.list_activations(request)).await?.activations;
    Ok(Json(listed.into_iter().map(Into::into).collect()))
}

/// The newest plan with its intervals.
#[derive(Debug, Serialize)]
pub(crate) struct PlanDocument {
    id: String,
    area: String,
    solved_at: Instant,
    data_until: Instant,
    status: String,
    relative_gap: Option<f64>,
    expected: Option<String>,
    currency: String,
    steps: Vec<StepView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StepView {
    start: Instant,
    end: Instant,
    baseline_kw: f64,
    low_kw: f64,
    high_kw: f64,
    held: Vec<HeldView>,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct HeldView {
    product: String,
    volume_mw: f64,
}

impl From<&PlanStep> for StepView {
    fn from(step: &PlanStep) -> Self {
        let held = step.held.iter().map(|h| HeldView {
            product: h.product.clone(),
            volume_mw: mw(h.volume_watts),
        });
        Self {
            start: at(step.start_micros),
            end: at(step.end_micros),
            baseline_kw: kw(step.baseline_watts),
            low_kw: kw(step.low_watts),
            high_kw: kw(step.high_watts),
            held: held.collect(),
            reason: said(&step.reason),
        }
    }
}

impl From<&Plan> for PlanDocument {
    fn from(plan: &Plan) -> Self {
        Self {
            id: plan.id.clone(),
            area: plan.area.clone(),
            solved_at: at(plan.solved_at_micros),
            data_until: at(plan.data_until_micros),
            status: plan.status.clone(),
            relative_gap: plan.relative_gap,
            expected: plan.expected_amount.clone(),
            currency: plan.currency.clone(),
            steps: plan.steps.iter().map(Into::into).collect(),
        }
    }
}

/// `GET /api/v1/plan`
pub(crate) async fn plan(State(app): State<App>) -> Result<Json<PlanDocument>, Problem> {
    let state = app.shared.read();
    let plan = state
        .plan
        .as_ref()
        .ok_or_else(|| Problem::not_found("no plan has been made yet"))?;
    Ok(Json(plan.into()))
}

/// One forecast: bands by interval, in the unit its quantity names.
#[derive(Debug, Serialize)]
pub(crate) struct ForecastView {
    id: String,
    pool: String,
    quantity: &'static str,
    unit: &'static str,
    start: Instant,
    step_seconds: u32,
    levels: Vec<f64>,
    steps: Vec<Vec<f64>>,
    model: String,
    model_version: String,
    made_at: Instant,
    input_until: Instant,
    doubts: Vec<String>,
}

impl From<&Forecast> for ForecastView {
    fn from(forecast: &Forecast) -> Self {
        let (quantity, unit, factor) = quantity(forecast.quantity());
        let band = |values: &[f64]| values.iter().map(|v| v * factor).collect();
        Self {
            id: forecast.id.clone(),
            pool: forecast.pool.clone(),
            quantity,
            unit,
            start: at(forecast.start_micros),
            step_seconds: forecast.step_seconds,
            levels: forecast.levels.clone(),
            steps: forecast.steps.iter().map(|s| band(&s.values)).collect(),
            model: forecast.model.clone(),
            model_version: forecast.model_version.clone(),
            made_at: at(forecast.made_at_micros),
            input_until: at(forecast.input_until_micros),
            doubts: forecast.doubts.clone(),
        }
    }
}

/// Name, unit for people, and factor to it.
const fn quantity(quantity: Quantity) -> (&'static str, &'static str, f64) {
    match quantity {
        Quantity::Unspecified => ("unspecified", "", 1.0),
        Quantity::PluggedIn => ("plugged_in", "vehicles", 1.0),
        Quantity::PowerUp => ("power_up", "kW", 1e-3),
        Quantity::PowerDown => ("power_down", "kW", 1e-3),
        Quantity::EnergyNeeded => ("energy_needed", "kWh", 1.0 / 3.6e6),
        Quantity::DayAheadPrice => ("day_ahead_price", "per MWh", 1.0),
        Quantity::FcrPrice => ("fcr_price", "per MW and block", 1.0),
        Quantity::AfrrUpPrice => ("afrr_up_price", "per MW and block", 1.0),
        Quantity::AfrrDownPrice => ("afrr_down_price", "per MW and block", 1.0),
        Quantity::EnergyLowest => ("energy_lowest", "kWh", 1.0 / 3.6e6),
        Quantity::EnergyHighest => ("energy_highest", "kWh", 1.0 / 3.6e6),
    }
}

/// `GET /api/v1/forecast`
pub(crate) async fn forecast(State(app): State<App>) -> Json<Vec<ForecastView>> {
    Json(
        app.shared
            .read()
            .forecasts
            .values()
            .map(Into::into)
            .collect(),
    )
}
