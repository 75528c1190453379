//! What bids are decided from, as it goes on the log with them, and the decision itself: live and replayed it is the same function
//! of the same message.

use chrono::{DateTime, NaiveDate, Utc};
use portfolio::bidding::{self, NoBids, Offered, Question};
use portfolio::market::{Area, Award, Bid, Position, Product, Rules};
use portfolio::rolling::{Costs, Grid, Site};
use store::{NewRecord, topic};
use units::{Band, DeliveryDay, Interval, Series};
use wire::WireError;
use wire::forecast::Published;
use wire::proto::portfolio::v1::BidDecision;

use crate::sources::{Fleet, likeliest, prices};

/// Release that decides: bids of another one may differ.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A decision on the log that cannot be made again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecisionError {
    /// A part of it does not read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A field does not read.
    #[error("{field}: met {met:?}, expected {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        met: String,
        /// What should.
        expected: &'static str,
    },
    /// Nothing can be bid.
    #[error(transparent)]
    NoBids(#[from] NoBids),
}

/// Everything bids are computed from.
struct Facts {
    area: Area,
    day: DeliveryDay,
    products: Vec<Product>,
    grid: Grid,
    scenarios: Vec<bidding::Scenario>,
    sites: Vec<Site>,
    position: Position,
    price: Vec<f64>,
    capacity: Vec<(Product, Series<Band>)>,
    costs: Costs,
    probability: f64,
}

/// Decides the bids that a message is about.
///
/// # Errors
/// [`DecisionError`] for a message that does not read, or when nothing can be bid.
pub(crate) fn decide(said: &BidDecision) -> Result<Offered, DecisionError> {
    Ok(Facts::of(said)?.compute()?)
}

/// The records of the bids that were decided and published then.
///
/// # Errors
/// As it was decided: [`DecisionError`].
pub fn decide_again(said: &BidDecision) -> Result<Vec<NewRecord>, DecisionError> {
    let offered = decide(said)?;
    let published = |bid: &&Bid| said.bid_ids.contains(&bid.id.to_string());
    Ok(offered.bids.iter().filter(published).map(record).collect())
}

/// A bid as it goes on the log.
pub(crate) fn record(bid: &Bid) -> NewRecord {
    NewRecord {
        topic: topic::BIDS,
        key: bid.id.to_string(),
        payload: wire::encode(&wire::proto::market::v1::Bid::from(bid)),
    }
}

/// A grid from `now` to `end` at least.
pub(crate) fn until(now: DateTime<Utc>, end: DateTime<Utc>) -> Grid {
    let first = Grid::new(now, 1).start();
    let quarters = (end - first).num_minutes().max(15) / 15;
    Grid::new(now, usize::try_from(quarters).unwrap_or(1))
}

fn field<T>(
    field: &'static str,
    met: &str,
    expected: &'static str,
    read: Option<T>,
) -> Result<T, DecisionError> {
    read.ok_or_else(|| DecisionError::Field {
        field,
        met: met.to_owned(),
        expected,
    })
}

impl Facts {
    fn of(said: &BidDecision) -> Result<Self, DecisionError> {
        let now = instant("at_micros", said.at_micros)?;
        let date = field(
            "day",
            &said.day,
            "a date",
            said.day.parse::<NaiveDate>().ok(),
        )?;
        let zone = field("zone", &said.zone, "a time zone", said.zone.parse().ok())?;
        let day = DeliveryDay::try_new(date, zone).ok();
        let day = field("day", &said.day, "a day of the zone", day)?;
        let area = field("area", &said.area, "an area", said.area.parse().ok())?;
        let product = |name: &String| {
            let known = Product::ALL.into_iter().find(|p| p.name() == name);
            field("products", name, "a product", known)
        };
        let settings = said.settings.unwrap_or_default();
        let grid = until(now, day.end());
        let fleet = Fleet::of(said.fleet.clone().unwrap_or_default())?;
        let scenarios = likeliest(said.scenarios.clone(), settings.scenarios as usize)?;
        let published = said.published.iter().map(|p| {
            let span = Interval::try_new(
                instant("published", p.start_micros)?,
                instant("published", p.end_micros)?,
            );
            let met = p.end_micros.to_string();
            let span = field("published", &met, "an end after the start", span.ok())?;
            Ok((span, p.price_per_mwh))
        });
        let published = published.collect::<Result<Vec<_>, DecisionError>>()?;
        let bands = said.day_ahead_price.clone().map(Published::try_from);
        let bands = bands.transpose()?.map(|published| published.bands);
        let capacity = said.capacity.iter().map(|c| {
            let forecast = c.forecast.clone().unwrap_or_default();
            Ok((product(&c.product)?, Published::try_from(forecast)?.bands))
        });
        let mut position = Position::default();
        for award in &said.awards {
            position.apply(Award::try_from(award.clone())?);
        }
        let stays = scenarios.iter().map(|s| bidding::Scenario {
            weight: s.weight,
            vehicles: s
                .stays
                .iter()
                .filter_map(|stay| fleet.expected(stay, &grid))
                .collect(),
        });
        Ok(Self {
            area,
            day,
            products: said
                .products
                .iter()
                .map(product)
                .collect::<Result<_, _>>()?,
            scenarios: stays.collect(),
            position,
            price: prices(
                &grid,
                &published,
                bands.as_ref(),
                settings.unknown_price_per_mwh,
            ),
            capacity: capacity.collect::<Result<_, DecisionError>>()?,
            costs: Costs {
                import_per_mwh: settings.import_per_mwh,
                export_per_mwh: settings.export_per_mwh,
                wear_per_mwh: settings.wear_per_mwh,
                imbalance_spread: settings.imbalance_spread,
            },
            probability: settings.delivery_probability,
            sites: fleet.sites,
            grid,
        })
    }

    fn compute(&self) -> Result<Offered, NoBids> {
        let question = Question {
            area: self.area,
            rules: Rules::built_in(),
            day: self.day,
            grid: &self.grid,
            scenarios: &self.scenarios,
            sites: &self.sites,
            position: &self.position,
            price: &self.price,
            capacity: &self.capacity,
            probability: self.probability,
            revision: 0,
            costs: self.costs,
        };
        let reserves: Vec<Product> = self
            .products
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
}

fn instant(name: &'static str, micros: i64) -> Result<DateTime<Utc>, DecisionError> {
    let read = DateTime::from_timestamp_micros(micros);
    field(
        name,
        &micros.to_string(),
        "microseconds inside the calendar",
        read,
    )
}
