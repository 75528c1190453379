//! One round of forecasts, computed from the history alone.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, Utc};
use forecast::{Forecast, Naive, Range};
use units::{Interval, Series};
use wire::forecast::{Published, Quantity};

use crate::history::{PRICES, STAYS};
use crate::{Config, History};

/// The newest forecast of each quantity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Book {
    /// By quantity; one without any history is missing.
    pub forecasts: BTreeMap<Quantity, Published>,
}

impl Book {
    /// Forecasts of all quantities at `now` from `history`. Pure: the same input gives the same book.
    #[must_use]
    pub fn make(config: &Config, history: &History, now: DateTime<Utc>) -> Self {
        let step = config.step();
        let start = now.duration_trunc(step).unwrap_or(now);
        let Ok(horizon) = Interval::try_new(start, start + config.horizon()) else {
            return Self::default();
        };
        let mut forecasts = BTreeMap::new();
        let mut keep = |quantity, made: Option<Forecast>| {
            if let Some(made) = made {
                forecasts.insert(quantity, published(config, quantity, made, now));
            }
        };
        let counts = Naive::new(config.zone, Range::AtLeastZero);
        let present = history.present(now);
        if let Some(past) = span(&present, start) {
            for (quantity, of) in STAYS {
                let series = forecast::profile(&present, past, step, of);
                let known = series.map(|s| forecast::History::measured(&s, now));
                keep(
                    quantity,
                    known.and_then(|k| counts.forecast(&k, horizon, step).ok()),
                );
            }
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
            keep(
                quantity,
                known.and_then(|k| naive.forecast(&k, horizon, step).ok()),
            );
        }
        Self { forecasts }
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

fn published(config: &Config, quantity: Quantity, made: Forecast, now: DateTime<Utc>) -> Published {
    Published {
        id: format!(
            "{}/{}/{}",
            config.pool,
            quantity.name(),
            now.timestamp_micros()
        ),
        pool: config.pool.clone(),
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
