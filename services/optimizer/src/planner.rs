//! The loop that plans.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use portfolio::fleet::schedule::Schedule;
use portfolio::market::plan::PlanStatus;
use portfolio::market::{Area, Plan, Position, Rules};
use portfolio::rolling::{
    self, Again, Costs, Grid, Input, Live, Market, Plain, Refused, STEP, Site, Vehicle, Work,
};
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

/// Rounds of the first plan in which vehicles at one site find the price of its limits; more gain little.
const SITE_ROUNDS: usize = 4;

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
#[derive(Debug, Clone)]
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
    let mut live = Live::default();
    loop {
        let began = shared.clock.now();
        let work = async {
            if let Err(error) = round(&shared, &mut outlook, &mut live).await {
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

async fn round(
    shared: &Arc<Shared>,
    outlook: &mut Outlook,
    live: &mut Live,
) -> Result<(), SourceError> {
    let began = shared.clock.monotonic_ms();
    let fleet = shared.sources.fleet().await?;
    let facts = facts(shared, outlook, &fleet).await?;
    let previous = shared.newest.borrow().clone();
    let (work, spare) = (shared.clone(), facts.clone());
    // The last plan stays with the planner that made it; a computation that broke starts from nothing.
    let mut planner = std::mem::take(live);
    let made = tokio::task::spawn_blocking(move || {
        let made = compute(&work, &facts, previous.as_deref(), &mut planner, began);
        (made, planner)
    });
    let made = match made.await {
        Ok((made, planner)) => {
            *live = planner;
            made
        }
        Err(lost) => {
            tracing::error!("the plan was lost: {lost}");
            let old = shared.newest.borrow().clone();
            spare.fallback(shared.config.area, old.as_deref())
        }
    };
    let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
    publish(shared, made, seconds).await
}

/// A plan ready to be published.
struct Ready {
    planned: (Plan, Vec<Schedule>),
    /// Reserve that could not be placed, kW.
    short_kw: f64,
    work: Work,
}

/// The plan, or the previous one clipped to now.
fn compute(
    shared: &Shared,
    facts: &Facts,
    previous: Option<&(Plan, Vec<Schedule>)>,
    live: &mut Live,
    began_ms: f64,
) -> Ready {
    let config = &shared.config;
    let market = facts.market(config.area);
    let due = began_ms + config.plan_limit_real_seconds * 1e3;
    let again = Again {
        threads: config.plan_threads,
        gate_lead: TimeDelta::minutes(config.gate_lead_minutes.into()),
        chatter_per_mwh: config.chatter_per_mwh,
        site_rounds: SITE_ROUNDS,
        out_of_time: &|| shared.clock.monotonic_ms() > due,
    };
    match live.plan(&facts.input(config.area, &market), &again) {
        Ok(made) => Ready {
            planned: (made.plan, made.schedules),
            short_kw: made.short_kw,
            work: made.work,
        },
        Err(refused) => {
            match &refused {
                Refused::OutOfTime => tracing::warn!("no new plan: {refused}"),
                Refused::Length { .. } | Refused::Price { .. } => {
                    tracing::error!("the planner refused its input: {refused}");
                }
            }
            facts.fallback(config.area, previous)
        }
    }
}

impl Facts {
    fn market(&self, area: Area) -> Market {
        Market::new(&self.grid, self.price.clone(), &self.position, area)
    }

    fn input<'a>(&'a self, area: Area, market: &'a Market) -> Input<'a> {
        Input {
            area,
            data_until: self.data_until,
            grid: &self.grid,
            vehicles: &self.vehicles,
            plain: &self.plain,
            sites: &self.sites,
            position: &self.position,
            rules: Rules::built_in(),
            market,
            costs: self.costs,
        }
    }

    /// The previous plan, clipped to what is possible.
    fn fallback(&self, area: Area, previous: Option<&(Plan, Vec<Schedule>)>) -> Ready {
        let market = self.market(area);
        let old = previous.map(|(plan, schedules)| (plan, schedules.as_slice()));
        Ready {
            planned: rolling::fallback(&self.input(area, &market), old),
            short_kw: 0.0,
            work: Work::default(),
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

async fn publish(shared: &Shared, made: Ready, seconds: f64) -> Result<(), SourceError> {
    let Ready {
        planned: (plan, schedules),
        short_kw,
        work,
    } = made;
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
    if let Some(gap) = plan.relative_gap {
        metrics::gauge!("shoal_plan_gap_ratio").set(gap);
    }
    for (why, count) in [("changed", work.changed), ("repriced", work.repriced)] {
        let solved = u64::try_from(count).unwrap_or(u64::MAX);
        metrics::counter!("shoal_plan_vehicles_solved_total", "why" => why).increment(solved);
    }
    if short_kw > 0.5 {
        tracing::warn!(plan.id = %plan.id, short_kw, "plan {} is {short_kw:.0} kW short of the reserve sold", plan.id);
    }
    tracing::info!(
        plan.id = %plan.id, schedules = schedules.len(), status, seconds,
        changed = work.changed, repriced = work.repriced,
        "planned {} vehicles in {seconds:.3} s, {} of them anew", schedules.len(), work.changed + work.repriced
    );
    shared
        .newest
        .send_replace(Some(Arc::new((plan, schedules))));
    Ok(())
}
