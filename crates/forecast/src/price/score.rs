//! Scores of a walk against what came, and against the two forecasts that anyone can make.

use serde::Serialize;

use super::days::{HOURS, Hours, PriceDays};
use super::model::PriceForecast;
use crate::quantiles;

/// Weeks whose same weekday makes the naive distribution.
const NAIVE_WEEKS: usize = 8;
/// Days of errors that make a distribution of a published point forecast.
const PUBLISHED_ERROR_DAYS: usize = 56;

/// Figures over all hours of the days forecast; currency per `MWh`, shares 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PriceScores {
    /// Days scored.
    pub days: usize,
    /// Mean absolute error of the median.
    pub mae: f64,
    /// Mean CRPS: twice the mean pinball loss of the levels 1 to 99 %.
    pub crps: f64,
    /// Share of hours inside the central bands.
    pub coverage: Coverage,
    /// CRPS of the prices at the same clock hour of the last eight same weekdays.
    pub crps_same_weekday: f64,
    /// `crps` over it.
    pub crps_ratio_same_weekday: f64,
    /// Against a published point forecast, if one was given.
    pub published: Option<PublishedScores>,
}

/// Share of hours inside the central 50, 80 and 90 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coverage {
    /// Between the levels 25 and 75 %.
    pub band_50: f64,
    /// Between 10 and 90 %.
    pub band_80: f64,
    /// Between 5 and 95 %.
    pub band_90: f64,
}

/// A published point forecast on the same days, with its own errors of the last 56 days as its distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PublishedScores {
    /// Its mean absolute error.
    pub mae: f64,
    /// Its CRPS.
    pub crps: f64,
    /// Our `mae` over it.
    pub mae_ratio: f64,
    /// Our `crps` over it.
    pub crps_ratio: f64,
}

#[derive(Default)]
struct Sums {
    mae: f64,
    crps: f64,
    inside: [f64; 3],
    naive: f64,
    published: (f64, f64),
}

/// Twice the mean pinball loss of `band` at the levels 1 to 99 %.
fn crps(band: &[f64], levels: &[f64], came: f64) -> f64 {
    let loss = |(q, level): (&f64, &f64)| {
        let above = came - q;
        if above > 0.0 {
            level * above
        } else {
            (level - 1.0) * above
        }
    };
    2.0 * band.iter().zip(levels).map(loss).sum::<f64>()
        / f64::from(u32::try_from(levels.len()).unwrap_or(1))
}

/// Scores `forecasts` of consecutive days, the first of them place `from` of `days`. `published` has a point forecast for
/// every day of `days`. Days whose price is not known are left out. `None` if no day can be scored, or if there are fewer
/// than 56 days before `from`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "hours of a few years")]
pub fn score(
    days: &PriceDays,
    from: usize,
    forecasts: &[PriceForecast],
    published: Option<&[Hours]>,
) -> Option<PriceScores> {
    let all = days.days();
    if from < NAIVE_WEEKS * 7 {
        return None;
    }
    let levels: Vec<f64> = (1..100).map(|l| f64::from(l) / 100.0).collect();
    let mut sums = Sums::default();
    let mut count = 0_usize;
    for (day, forecast) in (from..).zip(forecasts) {
        let Some(came) = all.get(day)?.price else {
            continue;
        };
        count += 1;
        for hour in 0..HOURS {
            let band = forecast.band(hour, &levels);
            let value = came[hour];
            sums.mae += (band[49] - value).abs();
            sums.crps += crps(&band, &levels, value);
            for (slot, (low, high)) in sums.inside.iter_mut().zip([(24, 74), (9, 89), (4, 94)]) {
                *slot += f64::from(u8::from((band[low]..=band[high]).contains(&value)));
            }
            let past = |back: usize| Some(all[day.checked_sub(back)?].price?[hour]);
            let weekdays: Vec<_> = (1..=NAIVE_WEEKS).filter_map(|w| past(7 * w)).collect();
            sums.naive += crps(&quantiles(&weekdays, &levels)?, &levels, value);
            if let Some(points) = published {
                let point = points.get(day)?[hour];
                let error = |back: usize| Some(past(back)? - points[day - back][hour] + point);
                let spread: Vec<_> = (1..=PUBLISHED_ERROR_DAYS).filter_map(error).collect();
                sums.published.0 += (point - value).abs();
                sums.published.1 += crps(&quantiles(&spread, &levels)?, &levels, value);
            }
        }
    }
    let hours = (count * HOURS) as f64;
    (count > 0).then(|| PriceScores {
        days: count,
        mae: sums.mae / hours,
        crps: sums.crps / hours,
        coverage: Coverage {
            band_50: sums.inside[0] / hours,
            band_80: sums.inside[1] / hours,
            band_90: sums.inside[2] / hours,
        },
        crps_same_weekday: sums.naive / hours,
        crps_ratio_same_weekday: sums.crps / sums.naive,
        published: published.map(|_| PublishedScores {
            mae: sums.published.0 / hours,
            crps: sums.published.1 / hours,
            mae_ratio: sums.mae / sums.published.0,
            crps_ratio: sums.crps / sums.published.1,
        }),
    })
}
