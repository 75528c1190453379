//! Readings at the pace of the vehicles, and how long each takes to its row and its state.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::Clock;
use sqlx::PgConnection;
use store::{Store, Subscription, topic};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wire::proto::fleet::v1::EvseState;

use super::fleet::Vehicles;
use super::scenario::Scenario;
use super::servers::Servers;
use super::{Held, between};
use crate::counts::{Quantiles, Times};
use crate::failure::Failure;

/// Readings that fall due within this time are told together, as an edge with many stations does.
const TICK: Duration = Duration::from_millis(10);
/// States that are read at once.
const BATCH: usize = 4_096;
/// After the last reading its state is met by then.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) async fn hold(
    scenario: &Scenario,
    servers: &Servers,
    store: &Store,
    questions: &mut PgConnection,
    vehicles: &Vehicles,
) -> Result<Held, Failure> {
    let states = store.log().tail(topic::FLEET_STATE).await;
    let states = states.map_err(|e| Failure::of("states of the fleet", &e))?;
    let (to_state, stop) = (Arc::new(Times::default()), CancellationToken::new());
    let begun = Clock::system().now();
    let watching = tokio::spawn(watch(states, begun, Arc::clone(&to_state), stop.clone()));
    let (before, since) = (servers.usage()?, Instant::now());
    let late = Times::default();
    let readings = tell(scenario, store, vehicles, &late).await?;
    let took = since.elapsed();
    let (cores, rss_mib) = between(before, servers.usage()?, took);
    tokio::time::sleep(SETTLE).await;
    stop.cancel();
    watching
        .await
        .map_err(|e| Failure::of("states of the fleet", &e))??;
    Ok(Held {
        readings,
        seconds: took.as_secs_f64(),
        per_second: super::bare::rate(readings, took),
        late: late.quantiles(),
        to_row: rows(questions, begun).await?,
        to_state: to_state.quantiles(),
        cores,
        rss_mib,
    })
}

/// Puts readings on the log when they are due; a sample's instant is when it is told. Answers how many.
async fn tell(
    scenario: &Scenario,
    store: &Store,
    vehicles: &Vehicles,
    late: &Times,
) -> Result<u64, Failure> {
    let first = scenario.flood.backlog;
    let origin = vehicles.instant(first);
    let since = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = first;
    let mut waiting = tokio::task::JoinSet::new();
    while since.elapsed() < scenario.hold() {
        ticks.tick().await;
        let (elapsed, now) = (since.elapsed(), Clock::system().now());
        let mut records = Vec::new();
        while let Ok(due) = (vehicles.instant(next) - origin).to_std()
            && due <= elapsed
        {
            late.add(elapsed - due);
            records.push(vehicles.record(next, now)?);
            next += 1;
        }
        let log = store.log();
        waiting.spawn(async move { log.append(records).await });
        while let Some(done) = waiting.try_join_next() {
            appended(done)?;
        }
    }
    while let Some(done) = waiting.join_next().await {
        appended(done)?;
    }
    Ok(next - first)
}

fn appended(
    done: Result<Result<(), store::LogError>, tokio::task::JoinError>,
) -> Result<(), Failure> {
    let done = done.map_err(|e| Failure::of("readings", &e))?;
    done.map_err(|e| Failure::of("readings cannot be appended", &e))
}

/// Times states that rest on a sample since `begun`.
async fn watch(
    mut states: Subscription,
    begun: DateTime<Utc>,
    times: Arc<Times>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            batch = states.next_batch(BATCH) => batch,
        };
        let batch = batch.map_err(|e| Failure::of("states of the fleet", &e))?;
        let now = Clock::system().now().timestamp_micros();
        for record in batch {
            let state: EvseState =
                wire::decode(&record.payload).map_err(|e| Failure::of("a state", &e))?;
            let sampled = state.power_at_micros.unwrap_or(0);
            if sampled >= begun.timestamp_micros() {
                let took = u64::try_from(now - sampled).unwrap_or(0);
                times.add(Duration::from_micros(took));
            }
        }
    }
}

/// Times from samples since `begun` to the commits of their rows.
async fn rows(questions: &mut PgConnection, begun: DateTime<Utc>) -> Result<Quantiles, Failure> {
    let asked = "WITH took AS (SELECT EXTRACT(EPOCH FROM pg_xact_commit_timestamp(xmin)) * 1e6 - sampled_at AS micros \
         FROM reading WHERE sampled_at >= $1 AND evse LIKE 'flood-%') \
         SELECT COUNT(*), PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY micros)::FLOAT8 / 1e3, \
         PERCENTILE_DISC(0.99) WITHIN GROUP (ORDER BY micros)::FLOAT8 / 1e3, MAX(micros)::FLOAT8 / 1e3 FROM took";
    let (count, p50_ms, p99_ms, max_ms): (i64, Option<f64>, Option<f64>, Option<f64>) =
        sqlx::query_as(asked)
            .bind(begun.timestamp_micros())
            .fetch_one(questions)
            .await
            .map_err(|e| Failure::of("commits of the rows", &e))?;
    Ok(Quantiles {
        count: count.unsigned_abs(),
        p50_ms,
        p99_ms,
        max_ms,
    })
}
