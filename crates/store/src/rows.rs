//! Domain values as rows.

use chrono::{DateTime, Utc};
use fleet::schedule::Schedule;
use fleet::{Evse, MeterInterval, Reading, SessionState, Site};
use market::{Award, Bid, BidId, BidStatus, Clearing, Plan, Statement};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use units::Interval;

use crate::database::partition::{INTERVAL as BY_MONTH, READING as BY_DAY};
use crate::database::{Lines, Transaction, Values, sql};
use crate::error::{StoreError, db};
use crate::lease::Lease;
use crate::upsert::Upsert;
use crate::writer::to_i64;

/// Plans of one area whose schedules are kept in the table.
const PLANS_WITH_SCHEDULES: i64 = 4;

/// One published forecast: what it is for and where it came from, the figures as a JSON document of its maker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForecastRow {
    /// Name.
    pub id: String,
    /// What is forecast (`price.day_ahead.NL`, `energy.garage-1`).
    pub series: String,
    /// What made it.
    pub model: String,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// Newest input it rests on.
    pub data_until: DateTime<Utc>,
    /// Span it covers.
    pub covers: Interval,
    /// The figures, JSON.
    pub body: String,
}

/// A plan with its documents written out.
#[derive(Debug, Clone)]
pub(crate) struct PlanRow {
    id: String,
    area: &'static str,
    solved_at: i64,
    plan: String,
    schedules: String,
}

impl PlanRow {
    pub(crate) fn new(plan: &Plan, schedules: &[Schedule]) -> Self {
        Self {
            id: plan.id.to_string(),
            area: plan.area.code(),
            solved_at: plan.solved_at.timestamp_micros(),
            plan: json(plan),
            schedules: json(&schedules),
        }
    }
}

/// Rows of one table.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    Sites(Vec<Site>),
    Evses(Vec<Evse>),
    Sessions(Vec<SessionState>),
    Readings(Vec<Reading>),
    Intervals(Vec<MeterInterval>),
    Bids(Vec<Bid>),
    BidStatus(Vec<(BidId, BidStatus)>),
    Awards(Vec<Award>),
    Clearings(Vec<Clearing>),
    Statements(Vec<Statement>),
    Plan(Box<PlanRow>),
    Forecasts(Vec<ForecastRow>),
    /// Group, key and body.
    Kept(Vec<(String, String, String)>),
    /// Who holds an office.
    Lease(Lease),
}

impl Rows {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Sites(rows) => rows.is_empty(),
            Self::Evses(rows) => rows.is_empty(),
            Self::Sessions(rows) => rows.is_empty(),
            Self::Readings(rows) => rows.is_empty(),
            Self::Intervals(rows) => rows.is_empty(),
            Self::Bids(rows) => rows.is_empty(),
            Self::BidStatus(rows) => rows.is_empty(),
            Self::Awards(rows) => rows.is_empty(),
            Self::Clearings(rows) => rows.is_empty(),
            Self::Statements(rows) => rows.is_empty(),
            Self::Plan(_) | Self::Lease(_) => false,
            Self::Forecasts(rows) => rows.is_empty(),
            Self::Kept(rows) => rows.is_empty(),
        }
    }

    pub(crate) async fn write(&self, to: &mut Transaction) -> Result<(), StoreError> {
        let (what, written) = match self {
            Self::Sites(rows) => ("upsert of sites", insert(to, &SITE, rows, site).await),
            Self::Evses(rows) => ("upsert of EVSEs", insert(to, &EVSE, rows, evse).await),
            Self::Sessions(rows) => (
                "upsert of sessions",
                insert(to, &SESSION, rows, session).await,
            ),
            Self::Readings(rows) => (
                "upsert of readings",
                insert(to, &READING, rows, reading).await,
            ),
            Self::Intervals(rows) => (
                "upsert of metered intervals",
                insert(to, &INTERVAL, rows, interval).await,
            ),
            Self::Bids(rows) => ("upsert of bids", insert(to, &BID, rows, bid).await),
            Self::BidStatus(rows) => ("status of bids", status(to, rows).await),
            Self::Awards(rows) => ("upsert of awards", insert(to, &AWARD, rows, award).await),
            Self::Clearings(rows) => (
                "upsert of clearing prices",
                insert(to, &CLEARING, rows, clearing).await,
            ),
            Self::Statements(rows) => (
                "upsert of statements",
                insert(to, &STATEMENT, rows, statement).await,
            ),
            Self::Plan(row) => ("upsert of a plan", plan(to, row).await),
            Self::Forecasts(rows) => (
                "upsert of forecasts",
                insert(to, &FORECAST, rows, forecast).await,
            ),
            Self::Kept(rows) => ("state of a consumer", kept(to, rows).await),
            Self::Lease(row) => ("lease of an office", lease(to, row).await),
        };
        written.map_err(db(what))
    }
}

/// The next term of an office goes to who asks first; within a term only its holder goes on.
async fn lease(to: &mut Transaction, lease: &Lease) -> Result<(), sqlx::Error> {
    let upsert = sql(
        "INSERT INTO lease (office, holder, address, term, beat) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (office) DO UPDATE SET holder = excluded.holder, address = excluded.address, term = excluded.term, beat = excluded.beat \
         WHERE excluded.term = lease.term + 1 \
         OR (excluded.term = lease.term AND excluded.holder = lease.holder AND excluded.beat > lease.beat)",
    );
    let upsert = upsert
        .bind(lease.office.clone())
        .bind(lease.holder.clone())
        .bind(lease.address.clone())
        .bind(to_i64(lease.term))
        .bind(to_i64(lease.beat));
    to.execute(upsert).await.map(drop)
}

pub(crate) const SITE: Upsert = Upsert::new(
    "site",
    &["id", "name", "import_limit_watts", "export_limit_watts"],
    &["id"],
);

fn site(site: &Site) -> Values<'_> {
    Values::of(16)
        .bind(site.id.as_str())
        .bind(site.name.as_str())
        .bind(site.import_limit.watts())
        .bind(site.export_limit.watts())
}

pub(crate) const EVSE: Upsert = Upsert::new(
    "evse",
    &[
        "id",
        "station",
        "site",
        "class",
        "protocol",
        "max_charge_watts",
        "max_discharge_watts",
        "charge_efficiency",
        "discharge_efficiency",
    ],
    &["id"],
);

fn evse(evse: &Evse) -> Values<'_> {
    Values::of(16)
        .bind(evse.id.as_str())
        .bind(evse.station.as_str())
        .bind(evse.site.as_str())
        .bind(evse.class.as_str())
        .bind(evse.protocol.name())
        .bind(evse.max_charge.watts())
        .bind(evse.max_discharge.watts())
        .bind(evse.charge_efficiency.share())
        .bind(evse.discharge_efficiency.share())
}

pub(crate) const SESSION: Upsert = Upsert::new(
    "session",
    &[
        "id",
        "evse",
        "site",
        "vehicle",
        "plugged_in",
        "unplugged",
        "needs",
        "added_joules",
        "soc_ratio",
    ],
    &["id"],
)
.repeating();

fn session(state: &SessionState) -> Values<'_> {
    let session = &state.session;
    Values::of(16)
        .bind(session.id.as_str())
        .bind(session.evse.as_str())
        .bind(session.site.as_str())
        .bind(session.vehicle.as_ref().map(fleet::VehicleId::as_str))
        .bind(session.plugged_in.timestamp_micros())
        .bind(session.unplugged.map(|at| at.timestamp_micros()))
        .bind(session.needs.as_ref().map(json))
        .bind(state.added.map(units::Energy::joules))
        .bind(state.soc.map(units::Soc::share))
}

pub(crate) const READING: Upsert = Upsert::new(
    "reading",
    &[
        "evse",
        "sampled_at",
        "session",
        "power_watts",
        "import_register_joules",
        "export_register_joules",
        "soc_ratio",
    ],
    &["evse", "sampled_at"],
)
.partitioned(BY_DAY);

fn reading(reading: &Reading) -> Values<'_> {
    Values::of(7)
        .bind(reading.evse.as_str())
        .bind(reading.at.timestamp_micros())
        .bind(reading.session.as_ref().map(fleet::SessionId::as_str))
        .bind(reading.power.map(units::Power::watts))
        .bind(reading.import_register.map(units::Energy::joules))
        .bind(reading.export_register.map(units::Energy::joules))
        .bind(reading.soc.map(units::Soc::share))
}

pub(crate) const INTERVAL: Upsert = Upsert::new(
    "meter_interval",
    &[
        "evse",
        "starts_at",
        "ends_at",
        "site",
        "import_joules",
        "export_joules",
        "covered_seconds",
        "version",
    ],
    &["evse", "starts_at"],
)
.versioned("version")
.partitioned(BY_MONTH);

fn interval(row: &MeterInterval) -> Values<'_> {
    Values::of(16)
        .bind(row.evse.as_str())
        .bind(row.interval.start().timestamp_micros())
        .bind(row.interval.end().timestamp_micros())
        .bind(row.site.as_str())
        .bind(row.import.joules())
        .bind(row.export.joules())
        .bind(i64::from(row.covered_seconds))
        .bind(i64::from(row.version))
}

pub(crate) const BID: Upsert = Upsert::new(
    "bid",
    &[
        "id",
        "area",
        "product",
        "direction",
        "starts_at",
        "ends_at",
        "volume_watts",
        "price",
        "currency",
        "divisible",
        "gate_closes",
        "built_at",
        "delivery_probability",
        "reason",
        "status",
    ],
    &["id"],
);

fn bid(bid: &Bid) -> Values<'_> {
    Values::of(16)
        .bind(bid.id.to_string())
        .bind(bid.area.code())
        .bind(bid.product.name())
        .bind(word(&bid.direction))
        .bind(bid.delivery.start().timestamp_micros())
        .bind(bid.delivery.end().timestamp_micros())
        .bind(bid.volume.watts())
        .bind(bid.price.map(|p| p.per_unit().to_string()))
        .bind(bid.price.map(|p| p.currency().code()))
        .bind(i64::from(bid.divisible))
        .bind(bid.gate_closes.timestamp_micros())
        .bind(bid.built_at.timestamp_micros())
        .bind(bid.delivery_probability)
        .bind(bid.reason.as_str())
        .bind(word(&bid.status))
}

async fn status(to: &mut Transaction, rows: &[(BidId, BidStatus)]) -> Result<(), sqlx::Error> {
    for (bid, status) in rows {
        let update = sql("UPDATE bid SET status = $1 WHERE id = $2")
            .bind(word(status))
            .bind(bid.to_string());
        to.execute(update).await?;
    }
    Ok(())
}

pub(crate) const AWARD: Upsert = Upsert::new(
    "award",
    &[
        "id",
        "bid",
        "area",
        "product",
        "direction",
        "starts_at",
        "ends_at",
        "volume_watts",
        "price",
        "currency",
        "awarded_at",
    ],
    &["id"],
);

fn award(award: &Award) -> Values<'_> {
    Values::of(16)
        .bind(award.id.to_string())
        .bind(award.bid.to_string())
        .bind(award.area.code())
        .bind(award.product.name())
        .bind(word(&award.direction))
        .bind(award.delivery.start().timestamp_micros())
        .bind(award.delivery.end().timestamp_micros())
        .bind(award.volume.watts())
        .bind(award.price.per_unit().to_string())
        .bind(award.price.currency().code())
        .bind(award.awarded_at.timestamp_micros())
}

pub(crate) const CLEARING: Upsert = Upsert::new(
    "clearing",
    &[
        "area",
        "product",
        "starts_at",
        "ends_at",
        "price",
        "currency",
        "published_at",
    ],
    &["area", "product", "starts_at"],
);

fn clearing(clearing: &Clearing) -> Values<'_> {
    Values::of(16)
        .bind(clearing.area.code())
        .bind(clearing.product.name())
        .bind(clearing.delivery.start().timestamp_micros())
        .bind(clearing.delivery.end().timestamp_micros())
        .bind(clearing.price.per_unit().to_string())
        .bind(clearing.price.currency().code())
        .bind(clearing.published_at.timestamp_micros())
}

pub(crate) const STATEMENT: Upsert = Upsert::new(
    "statement",
    &[
        "account",
        "area",
        "starts_at",
        "ends_at",
        "version",
        "lines",
        "total",
        "currency",
    ],
    &["account", "area", "starts_at", "version"],
);

fn statement(statement: &Statement) -> Values<'_> {
    Values::of(16)
        .bind(statement.account.as_str())
        .bind(statement.area.code())
        .bind(statement.day.start().timestamp_micros())
        .bind(statement.day.end().timestamp_micros())
        .bind(i64::from(statement.version))
        .bind(json(&statement.lines))
        .bind(statement.total.amount().to_string())
        .bind(statement.total.currency().code())
}

pub(crate) const FORECAST: Upsert = Upsert::new(
    "forecast",
    &[
        "id",
        "series",
        "model",
        "issued_at",
        "data_until",
        "starts_at",
        "ends_at",
        "body",
    ],
    &["id"],
);

fn forecast(row: &ForecastRow) -> Values<'_> {
    Values::of(16)
        .bind(row.id.as_str())
        .bind(row.series.as_str())
        .bind(row.model.as_str())
        .bind(row.issued_at.timestamp_micros())
        .bind(row.data_until.timestamp_micros())
        .bind(row.covers.start().timestamp_micros())
        .bind(row.covers.end().timestamp_micros())
        .bind(row.body.as_str())
}

const KEPT: Upsert = Upsert::new(
    "consumer_state",
    &["group_name", "state_key", "body"],
    &["group_name", "state_key"],
)
.repeating();

fn state((group, key, body): &(String, String, String)) -> Values<'_> {
    Values::of(3)
        .bind(group.as_str())
        .bind(key.as_str())
        .bind(body.as_str())
}

async fn kept(to: &mut Transaction, rows: &[(String, String, String)]) -> Result<(), sqlx::Error> {
    /// Keys per statement.
    const FORGOTTEN: usize = 128;
    insert(to, &KEPT, rows, state).await?;
    let empty: Vec<_> = rows.iter().filter(|(_, _, body)| body.is_empty()).collect();
    for some in empty.chunk_by(|(group, ..), (same, ..)| group == same) {
        for some in some.chunks(FORGOTTEN) {
            let places: Vec<String> = (2..some.len() + 2).map(|n| format!("${n}")).collect();
            // What was kept again under its key is not empty.
            let forget = format!(
                "DELETE FROM consumer_state WHERE group_name = $1 AND state_key IN ({}) AND body = ''",
                places.join(", ")
            );
            let forget = sql(AssertSqlSafe(forget)).bind(some[0].0.clone());
            let keys = some.iter().map(|(_, key, _)| key.clone());
            to.execute(keys.fold(forget, |forget, key| forget.bind(key)))
                .await?;
        }
    }
    Ok(())
}

const PLAN: Upsert = Upsert::new("plan", &["id", "area", "solved_at", "body"], &["id"]);

const SCHEDULES: Upsert = Upsert::new(
    "plan_schedules",
    &["plan", "area", "solved_at", "body"],
    &["plan"],
);

async fn plan(to: &mut Transaction, row: &PlanRow) -> Result<(), sqlx::Error> {
    for (upsert, body) in [(&PLAN, &row.plan), (&SCHEDULES, &row.schedules)] {
        let values = Values::of(4)
            .bind(row.id.as_str())
            .bind(row.area)
            .bind(row.solved_at)
            .bind(body.as_str());
        to.insert(upsert, vec![values]).await?;
    }
    let older = sql(
        "DELETE FROM plan_schedules WHERE area = $1 AND plan NOT IN \
         (SELECT plan FROM plan_schedules WHERE area = $1 ORDER BY solved_at DESC, plan DESC LIMIT $2)",
    );
    to.execute(older.bind(row.area).bind(PLANS_WITH_SCHEDULES))
        .await?;
    Ok(())
}

/// Writes each of `rows` as `values` says.
async fn insert<'r, T: Sync>(
    to: &mut Transaction,
    upsert: &Upsert,
    rows: &'r [T],
    values: fn(&'r T) -> Values<'r>,
) -> Result<(), sqlx::Error> {
    to.insert(upsert, Lines::of(rows, values)).await
}

#[expect(
    clippy::expect_used,
    reason = "derived serialisation of structs with text keys has no failing case"
)]
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a struct with text keys is JSON")
}

/// The name that serde gives to a variant without fields.
fn word<T: Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}
