//! The loop that bids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use portfolio::bidding::{self, NoBids, Offered, Question};
use portfolio::market::{Bid, Position, Product, Rules};
use portfolio::rolling::{Costs, Grid, Site};
use store::{Change, NewRecord, topic};
use tokio_util::sync::CancellationToken;
use units::{Band, Interval, Series};
use wire::forecast::Quantity;

use crate::Shared;
use crate::due::{self, Due};
use crate::sources::{SourceError, prices};

/// Real time before a service that did not answer is asked again: bids are worth several attempts.
const AGAIN: Duration = Duration::from_millis(200);

/// Where nothing is traded: look again after a while, rules may be dated.
const NOTHING_DUE: TimeDelta = TimeDelta::hours(1);

/// Why bids were not made.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    NoBids(#[from] NoBids),
    #[error("the computation was lost")]
    Lost(#[from] tokio::task::JoinError),
}

/// Everything bids are computed from.
struct Facts {
    grid: Grid,
    scenarios: Vec<bidding::Scenario>,
    sites: Vec<Site>,
    position: Position,
    price: Vec<f64>,
    capacity: Vec<(Product, Series<Band>)>,
    costs: Costs,
    area: portfolio::market::Area,
    probability: f64,
}

/// Bids until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut done: BTreeSet<(Product, NaiveDate)> = BTreeSet::new();
    loop {
        let lead = shared.config.lead(shared.clock.speed());
        let now = shared.clock.now();
        let next = due::next(
            Rules::built_in(),
            shared.config.area,
            lead,
            now,
            |product, day| done.contains(&(product, day.date())),
        );
        let work = async {
            let Some(due) = next else {
                shared.clock.sleep(NOTHING_DUE).await;
                return None;
            };
            shared.clock.sleep_until(due.at).await;
            match round(&shared, &due).await {
                Ok(()) => Some(due),
                Err(failed) => {
                    let missed = shared.clock.now() >= due.closes;
                    if missed || matches!(failed, Failed::NoBids(_)) {
                        tracing::error!(
                            "no bids for {} of {}: {failed}",
                            names(&due.products),
                            due.day.date()
                        );
                        return Some(due);
                    }
                    tracing::warn!(
                        "bids for {} of {} are tried again: {failed}",
                        names(&due.products),
                        due.day.date()
                    );
                    tokio::time::sleep(AGAIN).await;
                    None
                }
            }
        };
        tokio::select! {
            finished = work => {
                if let Some(due) = finished {
                    done.extend(due.products.iter().map(|p| (*p, due.day.date())));
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

fn names(products: &[Product]) -> String {
    products
        .iter()
        .map(|p| p.name())
        .collect::<Vec<_>>()
        .join(", ")
}

async fn round(shared: &Arc<Shared>, due: &Due) -> Result<(), Failed> {
    let products = not_yet_bid(shared, due).await?;
    if products.is_empty() {
        tracing::info!(
            "bids for {} of {} stand already",
            names(&due.products),
            due.day.date()
        );
        return Ok(());
    }
    let began = shared.clock.monotonic_ms();
    let facts = facts(shared, due).await?;
    let day = due.day;
    let asked = products.clone();
    let offered = tokio::task::spawn_blocking(move || compute(&facts, day, &asked)).await??;
    let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
    metrics::histogram!("shoal_bid_seconds").record(seconds);
    if let Some(gap) = offered.gap {
        metrics::gauge!("shoal_bid_gap_ratio").set(gap);
    }
    for note in &offered.notes {
        tracing::info!("bids for {}: {note}", day.date());
    }
    let count = publish(shared, offered.bids).await?;
    tracing::info!(
        bids = count,
        seconds,
        "bid {count} times for {} of {} in {seconds:.3} s",
        names(&products),
        day.date()
    );
    Ok(())
}

/// Products of `due` for whose day no bid stands yet: a restart must not bid twice.
async fn not_yet_bid(shared: &Shared, due: &Due) -> Result<Vec<Product>, SourceError> {
    let standing = shared
        .sources
        .tables
        .bids_between(due.day.start(), due.day.end())
        .await?;
    Ok(due
        .products
        .iter()
        .copied()
        .filter(|p| {
            !standing
                .iter()
                .any(|b| b.product == *p && b.area == shared.config.area)
        })
        .collect())
}

fn compute(
    facts: &Facts,
    day: units::DeliveryDay,
    products: &[Product],
) -> Result<Offered, NoBids> {
    let question = Question {
        area: facts.area,
        rules: Rules::built_in(),
        day,
        grid: &facts.grid,
        scenarios: &facts.scenarios,
        sites: &facts.sites,
        position: &facts.position,
        price: &facts.price,
        capacity: &facts.capacity,
        probability: facts.probability,
        revision: 0,
        costs: facts.costs,
    };
    let reserves: Vec<Product> = products
        .iter()
        .copied()
        .filter(|p| p.is_reserve())
        .collect();
    if reserves.is_empty() {
        bidding::energy(&question)
    } else {
        bidding::reserve(&question, &reserves)
    }
}

async fn facts(shared: &Shared, due: &Due) -> Result<Facts, Failed> {
    let now = shared.clock.now();
    let config = &shared.config;
    let grid = until(now, due.day.end());
    let over = Interval::try_new(now, grid.end())
        .map_err(|e| NoBids::Question(format!("nothing is left to bid for: {e}")))?;
    let (fleet, scenarios, bands, capacity, published, position) = tokio::try_join!(
        shared.sources.fleet(),
        shared.sources.scenarios(over, config.scenarios),
        shared.sources.bands(Quantity::DayAheadPrice, over),
        shared.sources.capacity(over),
        shared.sources.published(config.area, &grid),
        shared.sources.position(config.area, now),
    )?;
    let price = prices(
        &grid,
        &published,
        bands.as_ref(),
        config.unknown_price_per_mwh,
    );
    let scenarios = scenarios
        .iter()
        .map(|s| bidding::Scenario {
            weight: s.weight,
            vehicles: s
                .stays
                .iter()
                .filter_map(|stay| fleet.expected(stay, &grid))
                .collect(),
        })
        .collect();
    Ok(Facts {
        scenarios,
        sites: fleet.sites,
        position,
        price,
        capacity,
        costs: config.costs(),
        area: config.area,
        probability: config.delivery_probability,
        grid,
    })
}

/// A grid from `now` to `end` at least.
fn until(now: DateTime<Utc>, end: DateTime<Utc>) -> Grid {
    let first = Grid::new(now, 1).start();
    let quarters = (end - first).num_minutes().max(15) / 15;
    Grid::new(now, usize::try_from(quarters).unwrap_or(1))
}

/// Publishes what is still in time; returns how many.
async fn publish(shared: &Shared, bids: Vec<Bid>) -> Result<usize, Failed> {
    let now = shared.clock.now();
    let (timely, late): (Vec<Bid>, Vec<Bid>) = bids.into_iter().partition(|b| now < b.gate_closes);
    if !late.is_empty() {
        metrics::counter!("shoal_bids_late_total").increment(late.len() as u64);
        tracing::error!(
            "{} bids were ready after their gate had closed and are dropped",
            late.len()
        );
    }
    let records: Vec<NewRecord> = timely
        .iter()
        .map(|bid| NewRecord {
            topic: topic::BIDS,
            key: bid.id.to_string(),
            payload: wire::encode(&wire::proto::market::v1::Bid::from(bid)),
        })
        .collect();
    if timely.is_empty() {
        return Ok(0);
    }
    shared
        .sources
        .tables
        .apply(Change::default().bids(&timely).records(records))
        .await
        .map_err(SourceError::from)?;
    for bid in &timely {
        metrics::counter!("shoal_bids_total", "product" => bid.product.name()).increment(1);
    }
    Ok(timely.len())
}
