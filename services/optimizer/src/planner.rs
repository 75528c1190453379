//! The loop that plans.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use portfolio::fleet::schedule::Schedule;
use portfolio::market::plan::PlanStatus;
use portfolio::market::{Plan, Position, Rules};
use portfolio::rolling::{self, Costs, Grid, Input, Market, Plain, STEP, Site, Vehicle};
use store::{Change, NewRecord, topic};
use tokio_util::sync::CancellationToken;
use units::{Band, Interval, Series};
use wire::forecast::{Quantity, Scenario};

use crate::Shared;
use crate::sources::{Fleet, SourceError, prices};

/// Real time before a service that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Real time that awards of one auction are gathered in: one plan for all of them.
const GATHER: Duration = Duration::from_millis(30);

/// A plan with its schedules.
pub(crate) type Planned = Arc<(Plan, Vec<Schedule>)>;

/// What is expected beside what is metered; asked for again now and then.
#[derive(Debug, Default)]
struct Outlook {
    asked_at: Option<DateTime<Utc>>,
    arrivals: Option<Scenario>,
    price: Option<Series<Band>>,
}

/// Everything one plan is computed from.
struct Facts {
    grid: Grid,
    data_until: DateTime<Utc>,
    vehicles: Vec<Vehicle>,
    plain: Vec<Plain>,
    sites: Vec<Site>,
    position: Position,
    price: Vec<f64>,
    costs: Costs,
}

/// Plans until `stop`: now, at every quarter hour, and when `shared.awarded` says that something was sold.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut outlook = Outlook::default();
    loop {
        let began = shared.clock.now();
        let work = async {
            if let Err(error) = round(&shared, &mut outlook).await {
                tracing::warn!("no plan this time: {error}");
                tokio::time::sleep(AGAIN).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(shared.config.plan_every_real_ms)).await;
            let next = began.duration_trunc(STEP).unwrap_or(began) + STEP;
            skipped(shared.clock.now(), next);
            tokio::select! {
                () = shared.clock.sleep_until(next) => {}
                () = shared.awarded.notified() => tokio::time::sleep(GATHER).await,
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Counts quarter hours that began while the plan before them was still being made.
fn skipped(now: DateTime<Utc>, due: DateTime<Utc>) {
    let behind = (now - due).num_minutes() / STEP.num_minutes();
    if let Ok(behind @ 1..) = u64::try_from(behind) {
        metrics::counter!("shoal_plans_skipped_total").increment(behind);
    }
}

async fn round(shared: &Arc<Shared>, outlook: &mut Outlook) -> Result<(), SourceError> {
    let began = shared.clock.monotonic_ms();
    let fleet = shared.sources.fleet().await?;
    let facts = facts(shared, outlook, &fleet).await?;
    let previous = shared.newest.borrow().clone();
    let area = shared.config.area;
    let made =
        tokio::task::spawn_blocking(move || compute(area, &facts, previous.as_deref())).await;
    let (planned, short_kw) = match made {
        Ok(made) => made,
        Err(lost) => {
            // The computation itself broke: the previous plan still stands, clipped to now.
            tracing::error!("the plan was lost: {lost}");
            let grid = Grid::new(shared.clock.now(), shared.config.steps());
            let (vehicles, plain) = fleet.tasks(&grid);
            let old = shared.newest.borrow().clone();
            let old = old.as_deref().map(|(p, s)| (p, s.as_slice()));
            (rolling::fallback(area, &grid, &vehicles, &plain, old), 0.0)
        }
    };
    let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
    publish(shared, planned, short_kw, seconds).await
}

/// The plan, or the previous one clipped to now; and the reserve that could not be placed, kW.
fn compute(
    area: portfolio::market::Area,
    facts: &Facts,
    previous: Option<&(Plan, Vec<Schedule>)>,
) -> ((Plan, Vec<Schedule>), f64) {
    let market = Market::new(&facts.grid, facts.price.clone(), &facts.position, area);
    let input = Input {
        area,
        data_until: facts.data_until,
        grid: &facts.grid,
        vehicles: &facts.vehicles,
        plain: &facts.plain,
        sites: &facts.sites,
        position: &facts.position,
        rules: Rules::built_in(),
        market: &market,
        costs: facts.costs,
    };
    match rolling::plan(&input) {
        Ok(made) => ((made.plan, made.schedules), made.short_kw),
        Err(refused) => {
            tracing::error!("the planner refused its input: {refused}");
            let old = previous.map(|(p, s)| (p, s.as_slice()));
            let plugged: Vec<Vehicle> = facts
                .vehicles
                .iter()
                .filter(|v| v.evse.is_some())
                .cloned()
                .collect();
            (
                rolling::fallback(area, &facts.grid, &plugged, &facts.plain, old),
                0.0,
            )
        }
    }
}

async fn facts(
    shared: &Shared,
    outlook: &mut Outlook,
    fleet: &Fleet,
) -> Result<Facts, SourceError> {
    let now = shared.clock.now();
    let grid = Grid::new(now, shared.config.steps());
    look_ahead(shared, outlook, &grid).await;
    let (mut vehicles, plain) = fleet.tasks(&grid);
    if let Some(scenario) = &outlook.arrivals {
        let arrivals = scenario
            .stays
            .iter()
            .filter(|s| s.evse.is_none() && s.span.start() > now);
        vehicles.extend(arrivals.filter_map(|s| fleet.expected(s, &grid)));
    }
    let area = shared.config.area;
    let published = shared.sources.published(area, &grid).await?;
    let price = prices(
        &grid,
        &published,
        outlook.price.as_ref(),
        shared.config.unknown_price_per_mwh,
    );
    Ok(Facts {
        data_until: fleet.as_of.min(now),
        vehicles,
        plain,
        sites: fleet.sites.clone(),
        position: shared.sources.position(area, now).await?,
        price,
        costs: shared.config.costs(),
        grid,
    })
}

/// Refreshes what is expected; a plan is made without it where it is not to be had.
async fn look_ahead(shared: &Shared, outlook: &mut Outlook, grid: &Grid) {
    let every = TimeDelta::minutes(shared.config.forecast_every_minutes.into());
    if outlook.asked_at.is_some_and(|at| grid.now() - at < every) {
        return;
    }
    let Ok(over) = Interval::try_new(grid.now(), grid.end()) else {
        return;
    };
    let answers = tokio::join!(
        shared.sources.scenarios(over, 1),
        shared.sources.bands(Quantity::DayAheadPrice, over)
    );
    match answers {
        (Ok(scenarios), Ok(price)) => {
            outlook.arrivals = scenarios.into_iter().next();
            outlook.price = price;
            outlook.asked_at = Some(grid.now());
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("planned without news from the forecaster: {error}")
        }
    }
}

async fn publish(
    shared: &Shared,
    (plan, schedules): (Plan, Vec<Schedule>),
    short_kw: f64,
    seconds: f64,
) -> Result<(), SourceError> {
    let status = match plan.status {
        PlanStatus::Optimal => "optimal",
        PlanStatus::Feasible => "feasible",
        PlanStatus::Fallback => "fallback",
    };
    let record = NewRecord {
        topic: topic::PLANS,
        key: plan.area.to_string(),
        payload: wire::encode(&wire::portfolio::plan_message(&plan, &schedules)),
    };
    shared
        .sources
        .tables
        .apply(Change::default().plan(&plan, &schedules).records([record]))
        .await?;
    metrics::counter!("shoal_plans_total", "status" => status).increment(1);
    metrics::histogram!("shoal_plan_seconds").record(seconds);
    metrics::gauge!("shoal_plan_reserve_short_watts").set(short_kw * 1e3);
    if short_kw > 0.5 {
        tracing::warn!(plan.id = %plan.id, short_kw, "plan {} is {short_kw:.0} kW short of the reserve sold", plan.id);
    }
    tracing::info!(
        plan.id = %plan.id, schedules = schedules.len(), status, seconds,
        "planned {} vehicles in {seconds:.3} s", schedules.len()
    );
    shared
        .newest
        .send_replace(Some(Arc::new((plan, schedules))));
    Ok(())
}
