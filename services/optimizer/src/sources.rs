//! What plans and bids rest on, as the other services tell it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use portfolio::fleet::{EvseState, Site, SiteId};
use portfolio::forecast::Stay;
use portfolio::market::{Award, Position, Product};
use portfolio::rolling::{self, Grid, Plain, Task, Vehicle};
use store::StoreError;
use tonic::transport::Channel;
use tonic::{Code, Status};
use units::{Band, Interval, Series};
use wire::WireError;
use wire::forecast::{ExpectedStay, Published, Quantity, Scenario};
use wire::proto::fleet::v1::GetFleetRequest;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::forecast::v1 as forecast;
use wire::proto::forecast::v1::forecast_service_client::ForecastServiceClient;
use wire::proto::portfolio::v1::bid_decision;

/// The largest answer accepted: scenarios of ten thousand vehicles.
const LARGEST_ANSWER: usize = 512 * 1024 * 1024;

/// Who is asked, for messages.
const FLEET: &str = "fleet service";
const FORECAST: &str = "forecast service";

/// Awards that can still matter: the running day and those sold ahead.
const AWARDS_BACK: TimeDelta = TimeDelta::days(2);
const AWARDS_AHEAD: TimeDelta = TimeDelta::days(4);

/// Why something is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{service} did not answer: {}", .source.message())]
    Call {
        service: &'static str,
        #[source]
        source: Box<Status>,
    },
    #[error("{service} said what cannot be read")]
    Wire {
        service: &'static str,
        #[source]
        source: WireError,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The fleet and its connection points.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fleet {
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) evses: Vec<EvseState>,
    pub(crate) sites: Vec<rolling::Site>,
    index: BTreeMap<SiteId, usize>,
}

impl Fleet {
    /// The fleet as answered.
    ///
    /// # Errors
    /// [`WireError`] for what does not read.
    pub(crate) fn of(answer: wire::proto::fleet::v1::Fleet) -> Result<Self, WireError> {
        let evses = answer.evses.into_iter().map(TryInto::try_into);
        let sites = answer.sites.into_iter().map(TryInto::try_into);
        let sites: Vec<Site> = sites.collect::<Result<_, _>>()?;
        Ok(Self {
            as_of: DateTime::from_timestamp_micros(answer.as_of_micros).unwrap_or_default(),
            evses: evses.collect::<Result<_, _>>()?,
            index: sites
                .iter()
                .enumerate()
                .map(|(i, s)| (s.id.clone(), i))
                .collect(),
            sites: sites
                .iter()
                .map(|s| rolling::Site {
                    id: s.id.clone(),
                    import_kw: s.import_limit.kw(),
                    export_kw: s.export_limit.kw(),
                })
                .collect(),
        })
    }

    /// Vehicles on `grid`: those to steer, and those of which nobody knows what they need.
    pub(crate) fn tasks(&self, grid: &Grid) -> (Vec<Vehicle>, Vec<Plain>) {
        let mut steered = Vec::new();
        let mut plain = Vec::new();
        for state in &self.evses {
            match Task::of(state, self.site(&state.evse.site), grid) {
                Some(Task::Steer(vehicle)) => steered.push(vehicle),
                Some(Task::Plain(vehicle)) => plain.push(vehicle),
                None => {}
            }
        }
        (steered, plain)
    }

    /// Number of a site; one that is not registered has no limit.
    fn site(&self, id: &SiteId) -> usize {
        self.index.get(id).copied().unwrap_or(usize::MAX)
    }

    /// A stay that a scenario expects.
    pub(crate) fn expected(&self, stay: &ExpectedStay, grid: &Grid) -> Option<Vehicle> {
        let site = self.site(&stay.site);
        let stay = Stay {
            outlet: (),
            span: stay.span,
            energy: stay.energy,
            stored: stay.stored,
            capacity: stay.capacity,
            max_charge: stay.max_charge,
            max_discharge: stay.max_discharge,
            floor: stay.floor,
            charge_efficiency: stay.charge_efficiency,
            discharge_efficiency: stay.discharge_efficiency,
        };
        Vehicle::expected(&stay, site, grid)
    }
}

/// The services asked.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) fleet: Channel,
    pub(crate) forecast: Channel,
    pub(crate) tables: store::Tables,
}

fn call(service: &'static str) -> impl FnOnce(Status) -> SourceError {
    move |source| SourceError::Call {
        service,
        source: Box::new(source),
    }
}

fn wrong(service: &'static str) -> impl Fn(WireError) -> SourceError {
    move |source| SourceError::Wire { service, source }
}

impl Sources {
    pub(crate) async fn fleet(&self) -> Result<Fleet, SourceError> {
        Fleet::of(self.fleet_answer().await?).map_err(wrong(FLEET))
    }

    /// The fleet as it was answered.
    pub(crate) async fn fleet_answer(&self) -> Result<wire::proto::fleet::v1::Fleet, SourceError> {
        let answer = FleetServiceClient::new(self.fleet.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
            .get_fleet(GetFleetRequest {})
            .await
            .map_err(call(FLEET))?;
        Ok(answer.into_inner())
    }

    /// Scenarios over `over`, the likeliest `most` of them with weights that add to 1 again.
    pub(crate) async fn scenarios(
        &self,
        over: Interval,
        most: usize,
    ) -> Result<Vec<Scenario>, SourceError> {
        likeliest(self.scenarios_answer(over).await?, most).map_err(wrong(FORECAST))
    }

    /// Scenarios over `over` as they were answered.
    pub(crate) async fn scenarios_answer(
        &self,
        over: Interval,
    ) -> Result<Vec<forecast::Scenario>, SourceError> {
        let request = forecast::GetScenariosRequest {
            from_micros: over.start().timestamp_micros(),
            to_micros: over.end().timestamp_micros(),
        };
        let answer = ForecastServiceClient::new(self.forecast.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
            .get_scenarios(request)
            .await
            .map_err(call(FORECAST))?;
        Ok(answer.into_inner().scenarios)
    }

    /// The newest forecast of `quantity` over `over`; `None` if there is no history to make one from.
    pub(crate) async fn bands(
        &self,
        quantity: Quantity,
        over: Interval,
    ) -> Result<Option<Series<Band>>, SourceError> {
        let answer = self.forecast(quantity, over).await?;
        let published = answer.map(Published::try_from).transpose();
        Ok(published.map_err(wrong(FORECAST))?.map(|p| p.bands))
    }

    /// The same as it was answered.
    pub(crate) async fn forecast(
        &self,
        quantity: Quantity,
        over: Interval,
    ) -> Result<Option<forecast::Forecast>, SourceError> {
        let request = forecast::GetForecastRequest {
            quantity: forecast::Quantity::from(quantity).into(),
            from_micros: over.start().timestamp_micros(),
            to_micros: over.end().timestamp_micros(),
            ..Default::default()
        };
        let answer = ForecastServiceClient::new(self.forecast.clone())
            .max_decoding_message_size(LARGEST_ANSWER)
            .get_forecast(request)
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if matches!(status.code(), Code::NotFound | Code::OutOfRange) => Ok(None),
            Err(status) => Err(call(FORECAST)(status)),
        }
    }

    /// Capacity price forecasts of the reserve products, as they were answered.
    pub(crate) async fn capacity(
        &self,
        over: Interval,
    ) -> Result<Vec<bid_decision::Capacity>, SourceError> {
        let mut known = Vec::new();
        for (product, quantity) in [
            (Product::Fcr, Quantity::FcrPrice),
            (Product::AfrrUp, Quantity::AfrrUpPrice),
            (Product::AfrrDown, Quantity::AfrrDownPrice),
        ] {
            if let Some(forecast) = self.forecast(quantity, over).await? {
                known.push(bid_decision::Capacity {
                    product: product.name().to_owned(),
                    forecast: Some(forecast),
                });
            }
        }
        Ok(known)
    }

    pub(crate) async fn position(
        &self,
        area: portfolio::market::Area,
        now: DateTime<Utc>,
    ) -> Result<Position, SourceError> {
        let mut position = Position::default();
        for award in self.awards(area, now).await? {
            position.apply(award);
        }
        Ok(position)
    }

    /// Awards in `area` that can still matter at `now`.
    pub(crate) async fn awards(
        &self,
        area: portfolio::market::Area,
        now: DateTime<Utc>,
    ) -> Result<Vec<Award>, SourceError> {
        let mut awards = self
            .tables
            .awards_between(now - AWARDS_BACK, now + AWARDS_AHEAD)
            .await?;
        awards.retain(|award| award.area == area);
        Ok(awards)
    }

    /// Day-ahead prices published for `area` around `grid`, by start of delivery.
    pub(crate) async fn published(
        &self,
        area: portfolio::market::Area,
        grid: &Grid,
    ) -> Result<Vec<(Interval, f64)>, SourceError> {
        let clearings = self
            .tables
            .clearings_between(grid.start() - TimeDelta::hours(1), grid.end())
            .await?;
        Ok(clearings
            .into_iter()
            .filter(|c| c.area == area && c.product == Product::DayAhead)
            .map(|c| (c.delivery, c.price.to_f64()))
            .collect())
    }
}

/// The likeliest `most` scenarios, with weights that add to 1 again.
///
/// # Errors
/// [`WireError`] for one that does not read.
pub(crate) fn likeliest(
    answer: Vec<forecast::Scenario>,
    most: usize,
) -> Result<Vec<Scenario>, WireError> {
    let scenarios = answer.into_iter().map(TryInto::try_into);
    let mut scenarios: Vec<Scenario> = scenarios.collect::<Result<_, _>>()?;
    scenarios.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    scenarios.truncate(most);
    let total: f64 = scenarios.iter().map(|s| s.weight).sum();
    if total > 0.0 {
        for scenario in &mut scenarios {
            scenario.weight /= total;
        }
    }
    Ok(scenarios)
}

/// Price per step: as published, else the middle of the forecast, else a day earlier, else `unknown`.
pub(crate) fn prices(
    grid: &Grid,
    published: &[(Interval, f64)],
    forecast: Option<&Series<Band>>,
    unknown: f64,
) -> Vec<f64> {
    const DAY_STEPS: usize = 96;
    let mut prices: Vec<f64> = Vec::with_capacity(grid.len());
    for step in 0..grid.len() {
        let at = grid.at(step);
        let price = published
            .iter()
            .find(|(delivery, _)| delivery.contains(at))
            .map(|(_, price)| *price)
            .or_else(|| forecast.and_then(|f| f.at(at)).map(Band::median))
            .or_else(|| step.checked_sub(DAY_STEPS).map(|before| prices[before]))
            .filter(|p| p.is_finite())
            .unwrap_or(unknown);
        prices.push(price);
    }
    prices
}
