//! `ForecastService`.

use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use fleet::EvseId;
use forecast::availability::Learned;
use forecast::{Days, Stay};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use units::Interval;
use wire::forecast::{ExpectedStay, Scenario};
use wire::proto::forecast::v1 as proto;
use wire::proto::forecast::v1::forecast_service_server::ForecastService;

use crate::{Config, History, Shared, availability, book, publish};

/// The longest span that scenarios are drawn for: a question for a year is a mistake.
const LONGEST_HOURS: i64 = 24 * 8;

#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<Shared>);

fn interval(from: i64, to: i64) -> Result<Interval, Status> {
    let instant = |name: &str, micros: i64| {
        DateTime::<Utc>::from_timestamp_micros(micros).ok_or_else(|| {
            Status::invalid_argument(format!("{name}: {micros} is outside the calendar"))
        })
    };
    Interval::try_new(instant("from_micros", from)?, instant("to_micros", to)?)
        .map_err(|e| Status::invalid_argument(format!("to_micros: {e}")))
}

#[tonic::async_trait]
impl ForecastService for Service {
    async fn get_forecast(
        &self,
        request: Request<proto::GetForecastRequest>,
    ) -> Result<Response<proto::Forecast>, Status> {
        let request = request.into_inner();
        let quantity = wire::forecast::quantity(request.quantity)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let over = interval(request.from_micros, request.to_micros)?;
        let Some(book) = self.0.book.read().await.clone() else {
            return Err(Status::unavailable(
                "the first forecasts are still being made",
            ));
        };
        let name = quantity.name();
        let pool = match request.pool.as_str() {
            "" => self.0.config.pool.as_str(),
            part => part,
        };
        let forecast = book.get(pool, quantity, &request.model).ok_or_else(|| {
            let of = format!("{pool} {}", request.model);
            Status::not_found(format!(
                "{name} of {}: there is no history to forecast from",
                of.trim_end()
            ))
        })?;
        let part = book::cut(forecast, over).ok_or_else(|| {
            Status::out_of_range(format!(
                "{name}: the newest forecast does not reach {over:?}"
            ))
        })?;
        Ok(Response::new((&part).into()))
    }

    async fn get_scenarios(
        &self,
        request: Request<proto::GetScenariosRequest>,
    ) -> Result<Response<proto::GetScenariosResponse>, Status> {
        let request = request.into_inner();
        let over = interval(request.from_micros, request.to_micros)?;
        if over.length().num_hours() > LONGEST_HOURS {
            return Err(Status::invalid_argument(format!(
                "to_micros: longer than {LONGEST_HOURS} hours"
            )));
        }
        if self.0.book.read().await.is_none() {
            return Err(Status::unavailable("the history is still being read"));
        }
        let mut history = History::clone(&*self.0.history.read().await.clone());
        let now = self.0.clock.now();
        let fresh = publish::plugged(&self.0).await;
        match fresh {
            Ok(fleet) => history.set_fleet(fleet),
            Err(error) => {
                tracing::warn!("scenarios start from the fleet of the last round: {error}")
            }
        }
        let config = self.0.config.clone();
        let learned = self.0.learned.read().await.clone();
        let work = move || draw(&config, &history, &learned, (now, over));
        let scenarios = tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(scenarios))
    }

    type WatchForecastsStream = Pin<Box<dyn Stream<Item = Result<proto::Forecast, Status>> + Send>>;

    async fn watch_forecasts(
        &self,
        request: Request<proto::WatchForecastsRequest>,
    ) -> Result<Response<Self::WatchForecastsStream>, Status> {
        let parts = request.into_inner().parts;
        let later = BroadcastStream::new(self.0.published.subscribe());
        let first: Vec<proto::Forecast> = match self.0.book.read().await.as_ref() {
            Some(book) => book
                .all(&self.0.config.pool)
                .filter(|(_, whole)| parts || *whole)
                .map(|(forecast, _)| forecast.into())
                .collect(),
            None => Vec::new(),
        };
        // A watcher that was too slow missed some; the next round sends all again.
        let later = later.filter_map(move |f| {
            let made = f.ok().filter(|made| parts || made.1)?;
            Some(Ok(proto::Forecast::from(&made.0)))
        });
        Ok(Response::new(Box::pin(
            tokio_stream::iter(first).map(Ok).chain(later),
        )))
    }
}

/// Scenarios from `now` to the end of `over`; stays that end before it begins are left out. Whole past days where the model is not to be
/// trusted.
fn draw(
    config: &Config,
    history: &History,
    learned: &Learned,
    (now, over): (DateTime<Utc>, Interval),
) -> proto::GetScenariosResponse {
    let drawn =
        availability::scenarios(config, history, learned, (now, over)).unwrap_or_else(|| {
            Days::new(config.zone).scenarios(&history.past(), &history.plugged(), now, over)
        });
    for doubt in &drawn.doubts {
        tracing::warn!("scenarios are in doubt: {doubt}");
    }
    let scenarios = drawn.scenarios.iter().map(|scenario| {
        let stays = scenario
            .stays
            .iter()
            .filter(|s| s.span.end() > over.start());
        proto::Scenario::from(&Scenario {
            weight: scenario.weight,
            stays: stays.filter_map(|s| expected(history, s, now)).collect(),
        })
    });
    proto::GetScenariosResponse {
        made_at_micros: now.timestamp_micros(),
        input_until_micros: drawn.input_until.timestamp_micros(),
        scenarios: scenarios.collect(),
    }
}

fn expected(history: &History, stay: &Stay<EvseId>, now: DateTime<Utc>) -> Option<ExpectedStay> {
    let (site, class) = history.place(&stay.outlet)?;
    Some(ExpectedStay {
        site: site.clone(),
        class: class.clone(),
        evse: (stay.span.start() < now).then(|| stay.outlet.clone()),
        span: stay.span,
        energy: stay.energy,
        stored: stay.stored,
        capacity: stay.capacity,
        max_charge: stay.max_charge,
        max_discharge: stay.max_discharge,
        floor: stay.floor,
        charge_efficiency: stay.charge_efficiency,
        discharge_efficiency: stay.discharge_efficiency,
    })
}
