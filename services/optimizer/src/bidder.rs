//! The loop that bids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use portfolio::bidding::NoBids;
use portfolio::market::{Bid, Product, Rules};
use store::{Change, NewRecord, topic};
use tokio_util::sync::CancellationToken;
use units::Interval;
use wire::forecast::Quantity;
use wire::proto::portfolio::v1::{BidDecision, bid_decision};

use crate::Shared;
use crate::decision::{self, DecisionError};
use crate::due::{self, Due};
use crate::sources::SourceError;

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
    #[error(transparent)]
    Decision(#[from] DecisionError),
    #[error("the computation was lost")]
    Lost(#[from] tokio::task::JoinError),
}

impl Failed {
    /// Whether the same would come of asking again.
    const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::NoBids(_) | Self::Decision(DecisionError::NoBids(_))
        )
    }
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
                    if missed || failed.is_final() {
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
    let asked = inquire(shared, due, &products).await?;
    let day = due.day;
    let (asked, offered) = tokio::task::spawn_blocking(move || {
        let offered = decision::decide(&asked);
        (asked, offered)
    })
    .await?;
    let offered = offered?;
    let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
    metrics::histogram!("shoal_bid_seconds").record(seconds);
    if let Some(gap) = offered.gap {
        metrics::gauge!("shoal_bid_gap_ratio").set(gap);
    }
    for note in &offered.notes {
        tracing::info!("bids for {}: {note}", day.date());
    }
    let count = publish(shared, offered.bids, asked).await?;
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

/// What `products` of a day are decided from, as the log will have it.
async fn inquire(shared: &Shared, due: &Due, products: &[Product]) -> Result<BidDecision, Failed> {
    let now = shared.clock.now();
    let config = &shared.config;
    let grid = decision::until(now, due.day.end());
    let over = Interval::try_new(now, grid.end())
        .map_err(|e| NoBids::Question(format!("nothing is left to bid for: {e}")))?;
    let (fleet, scenarios, day_ahead_price, capacity, published, awards) = tokio::try_join!(
        shared.sources.fleet_answer(),
        shared.sources.scenarios_answer(over),
        shared.sources.forecast(Quantity::DayAheadPrice, over),
        shared.sources.capacity(over),
        shared.sources.published(config.area, &grid),
        shared.sources.awards(config.area, now),
    )?;
    let published = published
        .into_iter()
        .map(|(span, price)| bid_decision::Published {
            start_micros: span.start().timestamp_micros(),
            end_micros: span.end().timestamp_micros(),
            price_per_mwh: price,
        });
    Ok(BidDecision {
        area: config.area.code().to_owned(),
        at_micros: now.timestamp_micros(),
        day: due.day.date().to_string(),
        zone: due.day.zone().to_string(),
        products: products.iter().map(|p| p.name().to_owned()).collect(),
        fleet: Some(fleet),
        scenarios,
        day_ahead_price,
        capacity,
        published: published.collect(),
        awards: awards.iter().map(Into::into).collect(),
        settings: Some(config.bid_settings()),
        release: decision::RELEASE.to_owned(),
        bid_ids: Vec::new(),
    })
}

/// Publishes what is still in time; returns how many.
async fn publish(shared: &Shared, bids: Vec<Bid>, mut asked: BidDecision) -> Result<usize, Failed> {
    let now = shared.clock.now();
    let (timely, late): (Vec<Bid>, Vec<Bid>) = bids.into_iter().partition(|b| now < b.gate_closes);
    if !late.is_empty() {
        metrics::counter!("shoal_bids_late_total").increment(late.len() as u64);
        tracing::error!(
            "{} bids were ready after their gate had closed and are dropped",
            late.len()
        );
    }
    asked.bid_ids = timely.iter().map(|bid| bid.id.to_string()).collect();
    let decided = NewRecord {
        topic: topic::BID_DECISIONS,
        key: asked.area.clone(),
        payload: wire::encode(&asked),
    };
    let records = std::iter::once(decided).chain(timely.iter().map(decision::record));
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
