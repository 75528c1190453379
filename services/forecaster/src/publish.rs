//! One round: bring the history up to date, forecast, publish.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::EvseState;
use store::{Change, ForecastRow, NewRecord, StoreError, topic};
use tonic::Status;
use wire::WireError;
use wire::fleet::PastSession;
use wire::forecast::Published;
use wire::proto;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::market::v1::market_service_client::MarketServiceClient;

use crate::{Book, History, Shared, train};

/// The largest answer accepted: ten weeks of stays of ten thousand vehicles.
const LARGEST_ANSWER: usize = 512 * 1024 * 1024;

/// What late data may still change: asked for again in every round.
const AGAIN: TimeDelta = TimeDelta::hours(6);

/// How far ahead prices are published: the day after tomorrow's end is beyond every auction.
const AHEAD: TimeDelta = TimeDelta::days(3);

/// Why a round did not end in forecasts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error("{service} did not answer: {}", .source.message())]
    Call {
        service: &'static str,
        #[source]
        source: Box<Status>,
    },
    #[error("fleet service said what cannot be read")]
    Wire(#[from] WireError),
    #[error("forecasts were not stored")]
    Store(#[from] StoreError),
    #[error("the computation was lost")]
    Lost(#[from] tokio::task::JoinError),
}

/// Returns how many forecasts were published.
pub(crate) async fn round(shared: &Arc<Shared>) -> Result<usize, RoundError> {
    let now = shared.clock.now();
    let mut history = History::clone(&*shared.history.read().await.clone());
    let from = history
        .seen_until
        .map_or(now - shared.config.history(), |seen| seen - AGAIN);
    history.add_stays(past(shared, from, now).await?);
    history.set_fleet(plugged(shared).await?);
    // Without prices, stays are forecast all the same.
    match prices(shared, from, now + AHEAD).await {
        Ok(prices) => {
            let refused = history.add_prices(&prices);
            if refused > 0 {
                tracing::warn!(refused, "{refused} prices did not read and were left out");
            }
        }
        Err(error) => tracing::warn!("prices stay as they were: {error}"),
    }
    history.seen_until = Some(now);
    history.forget(now - shared.config.history());
    let history = Arc::new(history);
    *shared.history.write().await = history.clone();
    let learned = shared.learned.read().await.clone();
    let config = shared.config.clone();
    let of = history.clone();
    let book = tokio::task::spawn_blocking(move || Book::make(&config, &of, &learned, now)).await?;
    let count = publish(shared, book).await?;
    train::if_due(shared, history, now).await;
    Ok(count)
}

async fn publish(shared: &Shared, book: Book) -> Result<usize, RoundError> {
    let pool = &shared.config.pool;
    let made: Vec<(&Published, bool)> = book.all(pool).collect();
    let count = made.len();
    let rows: Vec<ForecastRow> = made.iter().filter_map(|(f, _)| row(pool, f)).collect();
    let records: Vec<NewRecord> = made.iter().map(|(f, _)| record(pool, f)).collect();
    shared
        .tables
        .apply(Change::default().forecasts(&rows).records(records))
        .await?;
    for (forecast, whole) in made {
        metrics::counter!("shoal_forecasts_made_total", "quantity" => forecast.quantity.name())
            .increment(1);
        // Nobody may be watching.
        let _ = shared.published.send(Arc::new((forecast.clone(), whole)));
    }
    *shared.book.write().await = Some(Arc::new(book));
    Ok(count)
}

fn record(pool: &str, forecast: &Published) -> NewRecord {
    NewRecord {
        topic: topic::FORECASTS,
        key: Book::series(pool, forecast),
        payload: wire::encode(&proto::forecast::v1::Forecast::from(forecast)),
    }
}

fn row(pool: &str, forecast: &Published) -> Option<ForecastRow> {
    let bands = &forecast.bands;
    let steps: Vec<&[f64]> = bands.values().iter().map(units::Band::values).collect();
    let end = bands.iter().last()?.0.end();
    let body = serde_json::json!({
        "quantity": forecast.quantity.name(),
        "start": bands.start(),
        "step_seconds": bands.step().num_seconds(),
        "levels": bands.values().first()?.levels(),
        "steps": steps,
        "model_version": forecast.version,
        "trained_from": forecast.trained_from,
        "doubts": forecast.doubts,
    });
    Some(ForecastRow {
        id: forecast.id.clone(),
        series: Book::series(pool, forecast),
        model: forecast.model.clone(),
        issued_at: forecast.made_at,
        data_until: forecast.input_until,
        covers: units::Interval::try_new(bands.start(), end).ok()?,
        body: body.to_string(),
    })
}

fn call(service: &'static str) -> impl FnOnce(Status) -> RoundError {
    move |source| RoundError::Call {
        service,
        source: Box::new(source),
    }
}

async fn past(
    shared: &Shared,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<PastSession>, RoundError> {
    let request = proto::fleet::v1::ListSessionsRequest {
        from_micros: from.timestamp_micros(),
        to_micros: to.timestamp_micros(),
    };
    let answer = FleetServiceClient::new(shared.fleet.clone())
        .max_decoding_message_size(LARGEST_ANSWER)
        .list_sessions(request)
        .await
        .map_err(call("fleet service"))?;
    let sessions = answer.into_inner().sessions;
    Ok(sessions
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>()?)
}

/// The fleet as it stands.
pub(crate) async fn plugged(shared: &Shared) -> Result<Vec<EvseState>, RoundError> {
    let answer = FleetServiceClient::new(shared.fleet.clone())
        .max_decoding_message_size(LARGEST_ANSWER)
        .get_fleet(proto::fleet::v1::GetFleetRequest {})
        .await
        .map_err(call("fleet service"))?;
    let evses = answer.into_inner().evses;
    Ok(evses
        .into_iter()
        .map(TryInto::try_into)
        .collect::<Result<_, _>>()?)
}

async fn prices(
    shared: &Shared,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<proto::market::v1::Clearing>, RoundError> {
    let request = proto::market::v1::ListRequest {
        from_micros: from.timestamp_micros(),
        to_micros: to.timestamp_micros(),
    };
    let answer = MarketServiceClient::new(shared.market.clone())
        .max_decoding_message_size(LARGEST_ANSWER)
        .list_prices(request)
        .await
        .map_err(call("market service"))?;
    Ok(answer.into_inner().prices)
}
