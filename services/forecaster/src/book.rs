//! One round of forecasts, computed from the history alone.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, Utc};
use forecast::availability::Learned;
use forecast::{Forecast, Naive, Range};
use units::{Interval, Series};
use wire::forecast::{Published, Quantity};

use crate::history::{PRICES, STAYS};
use crate::{Config, History, availability};

/// Whose forecast, of what, by which model; the empty model is the one in service.
type Key = (String, Quantity, String);

/// The newest forecasts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Book {
    /// By pool or part, quantity and model; what has no history is missing.
    forecasts: BTreeMap<Key, Published>,
}

impl Book {
    /// Forecasts of all quantities at `now` from `history`, with what was `learned` from it before. Pure: the same input gives the same
    /// book.
    #[must_use]
    pub fn make(config: &Config, history: &History, learned: &Learned, now: DateTime<Utc>) -> Self {
        let step = config.step();
        let start = now.duration_trunc(step).unwrap_or(now);
        let Ok(horizon) = Interval::try_new(start, start + config.horizon()) else {
            return Self::default();
        };
        let mut book = Self::default();
        for (name, quantity, made) in availability::bands(config, history, learned, (now, start)) {
            book.keep(config, &name, (quantity, None), made, now);
        }
        // Where nothing has ended yet the challenger is the only one there is.
        let beside = (!book.forecasts.is_empty()).then_some(Naive::MODEL);
        for (quantity, made) in naive_stays(config, history, horizon, now) {
            book.keep(config, &config.pool, (quantity, beside), made, now);
        }
        for (quantity, _) in PRICES {
            let range = if quantity == Quantity::DayAheadPrice {
                Range::AnySign
            } else {
                Range::AtLeastZero
            };
            let known = history
                .prices(quantity, now, step)
                .map(|s| forecast::History::published(&s, now));
            let naive = Naive::new(config.zone, range);
            if let Some(made) = known.and_then(|k| naive.forecast(&k, horizon, step).ok()) {
                book.keep(config, &config.pool, (quantity, None), made, now);
            }
        }
        book
    }

    fn keep(
        &mut self,
        config: &Config,
        pool: &str,
        (quantity, challenger): (Quantity, Option<&str>),
        made: Forecast,
        now: DateTime<Utc>,
    ) {
        let model = challenger.unwrap_or_default().to_owned();
        let part = if pool == config.pool {
            config.pool.clone()
        } else {
            format!("{}/{pool}", config.pool)
        };
        let mut made = published(&part, quantity, made, now);
        if !model.is_empty() {
            made.id = format!("{}/{model}", made.id);
        }
        made.pool = pool.to_owned();
        self.forecasts
            .insert((pool.to_owned(), quantity, model), made);
    }

    /// The newest forecast of `quantity` for a pool or part by a model; the empty model is the one in service.
    #[must_use]
    pub fn get(&self, pool: &str, quantity: Quantity, model: &str) -> Option<&Published> {
        self.forecasts
            .get(&(pool.to_owned(), quantity, model.to_owned()))
    }

    /// Every forecast, with whether it is of the whole pool by the model in service.
    pub fn all(&self, pool: &str) -> impl Iterator<Item = (&Published, bool)> {
        let whole = move |key: &Key| key.0 == pool && key.2.is_empty();
        self.forecasts.iter().map(move |(key, f)| (f, whole(key)))
    }

    /// Name of a forecast in keys of the log and of the tables.
    #[must_use]
    pub fn series(pool: &str, forecast: &Published) -> String {
        let part = if forecast.pool == pool {
            String::new()
        } else {
            format!("/{}", forecast.pool)
        };
        let challenger = forecast.id.ends_with(Naive::MODEL);
        let model = if challenger {
            format!("/{}", Naive::MODEL)
        } else {
            String::new()
        };
        format!("{pool}{part}/{}{model}", forecast.quantity.name())
    }
}

/// The naive model of vehicles, power and energy of the whole pool.
fn naive_stays(
    config: &Config,
    history: &History,
    horizon: Interval,
    now: DateTime<Utc>,
) -> Vec<(Quantity, Forecast)> {
    let naive = Naive::new(config.zone, Range::AtLeastZero);
    let present: Vec<_> = history.present(now).into_iter().map(at_grid).collect();
    let Some(past) = span(&present, horizon.start()) else {
        return Vec::new();
    };
    let forecast = |of| {
        let series = forecast::profile(&present, past, config.step(), of)?;
        let known = forecast::History::measured(&series, now);
        naive.forecast(&known, horizon, config.step()).ok()
    };
    STAYS
        .into_iter()
        .filter_map(|(quantity, of)| Some((quantity, forecast(of)?)))
        .collect()
}

/// A stay with its energy as the grid gives it.
fn at_grid<K>(stay: forecast::Stay<K>) -> forecast::Stay<K> {
    let Ok(lossless) = units::Efficiency::try_new(1.0) else {
        return stay;
    };
    forecast::Stay {
        energy: units::Energy::from_kwh(stay.energy.kwh() / stay.charge_efficiency.share()),
        charge_efficiency: lossless,
        ..stay
    }
}

/// From the first stay, on the grid of `until`, to `until`.
fn span<K>(stays: &[forecast::Stay<K>], until: DateTime<Utc>) -> Option<Interval> {
    let first = stays.iter().map(|s| s.span.start()).min()?;
    let start = first
        .duration_trunc(chrono::TimeDelta::hours(1))
        .unwrap_or(first);
    Interval::try_new(start, until).ok()
}

fn published(pool: &str, quantity: Quantity, made: Forecast, now: DateTime<Utc>) -> Published {
    Published {
        id: format!("{pool}/{}/{}", quantity.name(), now.timestamp_micros()),
        pool: pool.to_owned(),
        quantity,
        bands: made.bands,
        model: made.model.to_owned(),
        version: made.version.to_owned(),
        made_at: now,
        input_until: made.input_until,
        trained_from: made.trained_from,
        doubts: made.doubts,
    }
}

/// The part of a forecast that `over` asks for; `None` if it covers nothing of it.
pub(crate) fn cut(forecast: &Published, over: Interval) -> Option<Published> {
    let bands = &forecast.bands;
    let inside: Vec<(DateTime<Utc>, &units::Band)> = bands
        .iter()
        .filter(|(interval, _)| interval.overlap(over).is_some())
        .map(|(interval, band)| (interval.start(), band))
        .collect();
    let start = inside.first()?.0;
    let values = inside.into_iter().map(|(_, band)| band.clone()).collect();
    Some(Published {
        bands: Series::try_new(start, bands.step(), values).ok()?,
        ..forecast.clone()
    })
}
