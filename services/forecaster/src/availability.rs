//! Availability: bands of the pool and its parts, and ways the time ahead may go, from the vehicles that are plugged in now.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::EvseId;
use forecast::availability::{Availability, Bound, Coming, Expected, Forecaster, Learned, Paths};
use forecast::{Forecast, Scenario, Scenarios, Stay};
use units::{Band, Interval, Series};
use wire::forecast::Quantity;

use crate::history::STAYS;
use crate::pool::{Pool, Source};
use crate::{Config, History};

/// Seed of all draws: the same history gives the same forecast.
const SEED: u64 = 1;
/// Paths among which scenarios are chosen.
const DRAWN: usize = 64;
/// Bands of a part are told by the hour: a fleet has many parts.
const PART_STEP: TimeDelta = TimeDelta::hours(1);

const BOUNDS: [(Quantity, Bound); 2] = [
    (Quantity::EnergyLowest, Bound::Lowest),
    (Quantity::EnergyHighest, Bound::Highest),
];

/// Forecasts of one round: whose, of what, and the bands.
pub(crate) type Made = Vec<(String, Quantity, Forecast)>;

/// What the past teaches until the last local midnight before `now`, going on from what was learned before; `None` before a stay
/// has ended.
pub(crate) fn learn(
    config: &Config,
    history: &History,
    now: DateTime<Utc>,
    before: Learned,
) -> Option<Learned> {
    let pool = Pool::new(config, history, now);
    let mut forecaster = Forecaster::resume(&pool.log, before);
    pool.has_past.then(|| {
        forecaster.refit(now, &config.ask(SEED));
        forecaster.into_learned()
    })
}

/// Bands of the pool and its parts from `now` on, on the steps from `start`; none before a stay has ended.
pub(crate) fn bands(
    config: &Config,
    history: &History,
    learned: &Learned,
    (now, start): (DateTime<Utc>, DateTime<Utc>),
) -> Made {
    let pool = Pool::new(config, history, now);
    if !pool.has_past {
        return Vec::new();
    }
    let forecaster = Forecaster::resume(&pool.log, learned.clone());
    let ahead = forecaster.ahead(now, &config.ask(SEED));
    let trained_from = pool.first.unwrap_or(now);
    let mut made = Vec::new();
    let mut tell = |name: &str, paths: &Paths, every: usize| {
        let told = Told {
            ahead: &ahead,
            paths,
            every,
            trained_from,
            start,
        };
        let values = STAYS.map(|(q, of)| (q, told.forecast(q, |k| paths.band(of, k))));
        let bounds = BOUNDS.map(|(q, of)| (q, told.forecast(q, |k| paths.energy_band(of, k))));
        for (quantity, forecast) in values.into_iter().chain(bounds) {
            made.extend(forecast.map(|f| (name.to_owned(), quantity, f)));
        }
    };
    tell(&config.pool, &ahead.paths, 1);
    let hourly = PART_STEP.num_minutes() / i64::from(config.step_minutes.max(1));
    for (name, groups) in pool.parts() {
        let every = usize::try_from(hourly).unwrap_or(1).max(1);
        tell(&name, &ahead.part(&groups), every);
    }
    made
}

/// What one set of paths says.
struct Told<'a> {
    ahead: &'a Availability,
    paths: &'a Paths,
    /// Steps of the paths per step told.
    every: usize,
    trained_from: DateTime<Utc>,
    start: DateTime<Utc>,
}

impl Told<'_> {
    fn forecast(
        &self,
        quantity: Quantity,
        band: impl Fn(usize) -> Option<Band>,
    ) -> Option<Forecast> {
        let unit = unit(quantity);
        // The last instant begins no step.
        let steps = (0..self.paths.steps().saturating_sub(1)).step_by(self.every);
        let bands = steps.map(|k| {
            let band = band(k)?;
            let values = band.values().iter().map(|v| (v * unit).round()).collect();
            Band::try_new(band.levels().to_vec(), values).ok()
        });
        let bands: Option<Vec<Band>> = bands.collect();
        let every = i32::try_from(self.every).unwrap_or(1);
        Some(Forecast {
            bands: Series::try_new(self.start, self.ahead.step * every, bands?).ok()?,
            model: Forecaster::MODEL,
            version: Forecaster::VERSION,
            input_until: self.ahead.until,
            trained_from: self.trained_from,
            doubts: self.ahead.doubts.clone(),
        })
    }
}

/// Vehicles, watts and joules from vehicles, kW and kWh; prices as they are.
const fn unit(quantity: Quantity) -> f64 {
    match quantity {
        Quantity::PowerUp | Quantity::PowerDown => 1e3,
        Quantity::EnergyNeeded | Quantity::EnergyLowest | Quantity::EnergyHighest => 3.6e6,
        Quantity::PluggedIn
        | Quantity::DayAheadPrice
        | Quantity::FcrPrice
        | Quantity::AfrrUpPrice
        | Quantity::AfrrDownPrice => 1.0,
    }
}

/// Ways the time from `now` to the end of `over` may go; `None` before a stay has ended.
pub(crate) fn scenarios(
    config: &Config,
    history: &History,
    learned: &Learned,
    (now, over): (DateTime<Utc>, Interval),
) -> Option<Scenarios<EvseId>> {
    let pool = Pool::new(config, history, now);
    if !pool.has_past || learned.alarm() {
        return None;
    }
    let forecaster = Forecaster::resume(&pool.log, learned.clone());
    let ask = forecast::availability::Ask {
        paths: DRAWN,
        ..config.ask(SEED)
    };
    let count = usize::try_from(config.scenarios).unwrap_or(1);
    let drawn = forecaster.scenarios(now, over.end(), count, &ask);
    let scenario = |expected: Expected| Scenario {
        weight: expected.weight,
        days_back: 0,
        stays: stays(&pool, &expected.stays, now),
    };
    Some(Scenarios {
        scenarios: drawn.into_iter().map(scenario).collect(),
        model: Forecaster::MODEL,
        version: Forecaster::VERSION,
        input_until: now,
        doubts: Vec::new(),
    })
}

fn stays(pool: &Pool, coming: &[Coming], now: DateTime<Utc>) -> Vec<Stay<EvseId>> {
    let mut stays: Vec<Stay<EvseId>> = coming
        .iter()
        .filter_map(|coming| Some(stay(pool.sources.get(coming.source)?, coming, now)))
        .collect();
    stays.sort_by(|a, b| (a.span, &a.outlet).cmp(&(b.span, &b.outlet)));
    stays
}

/// A past stay moved to the time ahead, or the rest of one that lasts: what its driver said stands, and where nobody said when it leaves
/// the path says so.
fn stay(source: &Source, coming: &Coming, now: DateTime<Utc>) -> Stay<EvseId> {
    match source {
        Source::Past(stay) => Stay {
            span: coming.span,
            ..stay.clone()
        },
        Source::Plugged(plugged) if coming.lasts => {
            let said = plugged.departure.filter(|d| *d > now);
            let end = said.unwrap_or_else(|| coming.span.end());
            let span = Interval::try_new(plugged.stay.span.start(), end);
            Stay {
                span: span.unwrap_or(coming.span),
                ..plugged.stay.clone()
            }
        }
        // The same vehicle again, on a day to come: it needs anew what it needed.
        Source::Plugged(plugged) => Stay {
            span: coming.span,
            energy: coming.energy,
            ..plugged.stay.clone()
        },
    }
}
