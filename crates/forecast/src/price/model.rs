//! The walk: lines, trees on what they miss, and bands from how wrong both were lately.

use std::sync::Arc;

use chrono::NaiveDate;

use super::days::{HOURS, Hours, PriceDay, PriceDays, PriceError};
use super::lear::{self, LONGEST_LAG};
use crate::quantiles;
use crate::trees::{Cuts, Growth, Trees};

/// Days that a line learns from; the forecast is the mean over the windows there is history for.
const WINDOWS: [usize; 3] = [56, 182, 364];
/// Days of the lines' own forecasts that the trees learn from, at most and at least.
const LEARN: (usize, usize) = (364, 28);
/// Days of errors that the bands come from, at most and at least.
const CALIBRATE: (usize, usize) = (84, 28);
/// Hours before and after whose errors count for an hour too.
const NEIGHBOURS: usize = 1;
/// Days before the first forecast that [`walk`] needs.
pub const HISTORY: usize = LONGEST_LAG + 56 + LEARN.1 + CALIBRATE.1;

const MIDDLE: Growth = Growth {
    trees: 60,
    depth: 4,
    leaf: 40,
    rate: 0.08,
    level: 0.5,
    looked_at: [1.0; 2],
};
const SPREAD: Growth = Growth {
    trees: 40,
    depth: 3,
    leaf: 60,
    rate: 0.08,
    level: 0.7,
    looked_at: [1.0; 2],
};
/// The spread never falls below this, currency per `MWh`: prices have cents.
const LEAST_SPREAD: f64 = 0.5;

/// The forecast of one day: a middle, and past days of errors in units of the spread expected for each hour.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceForecast {
    /// Day of delivery.
    pub date: NaiveDate,
    /// Median, currency per `MWh`.
    pub middle: Hours,
    /// Size of the error to be expected, same unit.
    pub spread: Hours,
    /// Whole days of errors over spread, oldest first.
    errors: Arc<Vec<Hours>>,
}

impl PriceForecast {
    /// Prices at rising `levels` (0 to 1) for clock hour `hour`; they never cross.
    #[must_use]
    pub fn band(&self, hour: usize, levels: &[f64]) -> Vec<f64> {
        let near = hour.saturating_sub(NEIGHBOURS)..=(hour + NEIGHBOURS).min(HOURS - 1);
        let sample: Vec<_> = near
            .flat_map(|h| self.errors.iter().map(move |e| e[h]))
            .collect();
        let at = |z: f64| self.middle[hour] + self.spread[hour] * z;
        quantiles(&sample, levels)
            .unwrap_or_default()
            .into_iter()
            .map(at)
            .collect()
    }

    /// One path of prices per past day: its errors as a whole, so hours keep their correlation. All are equally likely.
    pub fn scenarios(&self) -> impl Iterator<Item = Hours> {
        self.errors
            .iter()
            .map(|errors| std::array::from_fn(|h| self.middle[h] + self.spread[h] * errors[h]))
    }
}

/// Forecasts of the days `from..to` (places in `days`), each from what was known before its own gate: prices up to the
/// day before, and the `known` series up to the day itself. Every model is fitted anew for every day.
///
/// # Errors
/// [`PriceError::TooFew`] with fewer than [`HISTORY`] days of prices before `from`.
pub fn walk(days: &PriceDays, from: usize, to: usize) -> Result<Vec<PriceForecast>, PriceError> {
    let all = days.days();
    let to = to.min(all.len());
    if from >= to {
        return Ok(Vec::new());
    }
    let known = all[..from]
        .iter()
        .rev()
        .take_while(|d| d.price.is_some())
        .count();
    if known < HISTORY {
        return Err(PriceError::TooFew {
            day: all[from].date,
            met: known,
            expected: HISTORY,
        });
    }
    let first_error = from
        .saturating_sub(CALIBRATE.0)
        .max(from - known + HISTORY - CALIBRATE.1);
    let first_line = first_error
        .saturating_sub(LEARN.0)
        .max(from - known + LONGEST_LAG + WINDOWS[0]);
    let mut lines = Vec::new();
    let mut rows = Vec::new();
    let mut done: Vec<Step> = Vec::new();
    let mut forecasts = Vec::new();
    for day in first_line..to {
        let line = Line::fit(days, day)?;
        lines.push(line);
        rows.push(self::rows(days, day, first_line, &lines));
        if day < first_error {
            continue;
        }
        let step = Step::fit(days, day, first_line, &lines, &rows);
        if day >= from {
            let start = done.len().saturating_sub(CALIBRATE.0);
            let errors = done[start..].iter().filter_map(|s| s.errors(all)).collect();
            forecasts.push(PriceForecast {
                date: all[day].date,
                middle: step.middle,
                spread: step.spread,
                errors: Arc::new(errors),
            });
        }
        done.push(step);
    }
    Ok(forecasts)
}

/// The linear half for one day.
#[derive(Debug, Clone)]
struct Line {
    mean: Hours,
    /// Shortest and longest window against the mean.
    apart: [Hours; 2],
}

impl Line {
    fn fit(days: &PriceDays, day: usize) -> Result<Self, PriceError> {
        let each: Vec<_> = WINDOWS
            .iter()
            .filter_map(|w| lear::forecast(days, day, *w))
            .collect();
        let (Some(short), Some(long)) = (each.first(), each.last()) else {
            return Err(PriceError::TooFew {
                day: days.days()[day].date,
                met: day,
                expected: WINDOWS[0] + LONGEST_LAG,
            });
        };
        #[expect(clippy::cast_precision_loss, reason = "a handful of windows")]
        let mean: Hours =
            std::array::from_fn(|h| each.iter().map(|f| f[h]).sum::<f64>() / each.len() as f64);
        let apart = [short, long].map(|f| std::array::from_fn(|h| f[h] - mean[h]));
        Ok(Self { mean, apart })
    }
}

/// Trees' inputs for the hours of `day`; `lines[i]` is that of day `first + i`, `day` included.
fn rows(days: &PriceDays, day: usize, first: usize, lines: &[Line]) -> Vec<Vec<f64>> {
    let all = days.days();
    let today = &all[day];
    let line = &lines[day - first];
    let error = |back: usize, hour: usize| {
        let index = day.checked_sub(back).filter(|d| *d >= first)?;
        Some(all[index].price?[hour] - lines[index - first].mean[hour])
    };
    let price = |back: usize| all[day - back].price.unwrap_or(line.mean);
    let (yesterday, last_week) = (price(1), price(7));
    let mean = |h: &Hours| h.iter().sum::<f64>() / 24.0;
    let error_yesterday = (0..HOURS).filter_map(|h| error(1, h)).sum::<f64>() / 24.0;
    let row = |hour: usize| {
        let before = line.mean[hour.saturating_sub(1)];
        let after = line.mean[(hour + 1).min(HOURS - 1)];
        let week: f64 = (1..=7).filter_map(|b| error(b, hour)).sum::<f64>() / 7.0;
        #[expect(clippy::cast_precision_loss, reason = "an hour and a weekday")]
        let mut row = vec![
            hour as f64,
            today.kind() as f64,
            line.mean[hour],
            line.mean[hour] - mean(&line.mean),
            line.mean[hour] - before,
            after - line.mean[hour],
            line.apart[0][hour],
            line.apart[1][hour],
            line.mean[hour] - yesterday[hour],
            line.mean[hour] - last_week[hour],
            yesterday[hour] - mean(&yesterday),
            mean(&yesterday),
            error(1, hour).unwrap_or(0.0),
            error_yesterday,
            week,
        ];
        for (k, known) in today.known.iter().enumerate() {
            let was = &all[day - 1].known[k];
            row.extend([
                known[hour],
                mean(known),
                known[hour] - was[hour],
                mean(known) - mean(was),
            ]);
        }
        if let [one, other, ..] = today.known.as_slice() {
            row.push(one[hour] - other[hour]);
            row.push(mean(one) - mean(other));
        }
        row
    };
    (0..HOURS).map(row).collect()
}

/// Middle and spread of one day.
#[derive(Debug, Clone)]
struct Step {
    day: usize,
    middle: Hours,
    spread: Hours,
}

impl Step {
    /// From the days before `day`, each with the line that was fitted before it.
    fn fit(
        days: &PriceDays,
        day: usize,
        first: usize,
        lines: &[Line],
        rows: &[Vec<Vec<f64>>],
    ) -> Self {
        let all = days.days();
        let start = day.saturating_sub(LEARN.0).max(first);
        let (mut inputs, mut missed) = (Vec::new(), Vec::new());
        for past in start..day {
            let Some(price) = all[past].price else {
                continue;
            };
            for hour in 0..HOURS {
                inputs.push(rows[past - first][hour].clone());
                missed.push(price[hour] - lines[past - first].mean[hour]);
            }
        }
        let cuts = Cuts::new(&inputs);
        let middle = Trees::fit(&cuts, &missed, MIDDLE);
        let sizes: Vec<_> = missed.iter().map(|m| m.abs()).collect();
        let spread = Trees::fit(&cuts, &sizes, SPREAD);
        let today = &rows[day - first];
        Self {
            day,
            middle: std::array::from_fn(|h| lines[day - first].mean[h] + middle.at(&today[h])),
            spread: std::array::from_fn(|h| spread.at(&today[h]).max(LEAST_SPREAD)),
        }
    }

    /// Over the spread; `None` until the prices are out.
    fn errors(&self, all: &[PriceDay]) -> Option<Hours> {
        let price = all[self.day].price?;
        Some(std::array::from_fn(|h| {
            (price[h] - self.middle[h]) / self.spread[h]
        }))
    }
}
