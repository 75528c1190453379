//! The linear half: one LASSO line per clock hour on yesterday's prices and today's forecasts, over several windows
//! (LEAR, Lago, Marcjasz, De Schutter and Weron 2021; asinh of Uniejewski, Weron and Ziel 2018).

use super::days::{HOURS, Hours, PriceDays};
use super::lasso::Inputs;

/// Days before the forecast day whose prices are inputs.
const PRICE_LAGS: [usize; 4] = [1, 2, 3, 7];
/// Days before whose forecasts are inputs beside those of the day itself.
const KNOWN_LAGS: [usize; 2] = [1, 7];
/// Days before the first day that can be a row.
pub(super) const LONGEST_LAG: usize = 7;
/// Median absolute deviation to standard deviation of a normal distribution.
const MAD: f64 = 1.4826;

/// Median and spread of a window, for asinh.
#[derive(Debug, Clone, Copy)]
struct Scale {
    centre: f64,
    spread: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.collect();
        let centre = median(&mut sorted);
        for value in &mut sorted {
            *value = (*value - centre).abs();
        }
        let spread = (MAD * median(&mut sorted)).max(1e-6);
        Self { centre, spread }
    }

    fn squeeze(self, value: f64) -> f64 {
        ((value - self.centre) / self.spread).asinh()
    }

    fn stretch(self, value: f64) -> f64 {
        value.sinh() * self.spread + self.centre
    }
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        values[half]
    } else {
        (values[half - 1] + values[half]) / 2.0
    }
}

/// The forecast of day `day` from the `window` days before it; `None` with fewer, or without their prices.
pub(super) fn forecast(days: &PriceDays, day: usize, window: usize) -> Option<Hours> {
    let first = day.checked_sub(window)?;
    let start = first.checked_sub(LONGEST_LAG)?;
    let all = days.days();
    let prices: Option<Vec<Hours>> = all[start..day].iter().map(|d| d.price).collect();
    let prices = prices?;
    let price_scale = Scale::of(prices.iter().flatten().copied());
    let known_scales: Vec<_> = (0..all[day].known.len())
        .map(|k| Scale::of(all[start..day].iter().flat_map(move |d| d.known[k])))
        .collect();
    let row = |index: usize| {
        let mut row = Vec::with_capacity(260);
        for lag in PRICE_LAGS {
            row.extend(
                prices[index - lag - start]
                    .iter()
                    .map(|p| price_scale.squeeze(*p)),
            );
        }
        for (k, scale) in known_scales.iter().enumerate() {
            for lag in std::iter::once(0).chain(KNOWN_LAGS) {
                row.extend(all[index - lag].known[k].iter().map(|v| scale.squeeze(*v)));
            }
        }
        let kind = all[index].kind();
        row.extend((0..7).map(|k| f64::from(u8::from(k == kind))));
        row
    };
    let rows: Vec<_> = (first..day).map(row).collect();
    let inputs = Inputs::new(&rows);
    let today = row(day);
    let (low, high) = bounds(&prices);
    let mut hours = [0.0; HOURS];
    for (hour, slot) in hours.iter_mut().enumerate() {
        let target: Vec<_> = prices[LONGEST_LAG..]
            .iter()
            .map(|p| price_scale.squeeze(p[hour]))
            .collect();
        let value = price_scale.stretch(inputs.fit(&target).at(&today));
        // sinh turns a bold extrapolation into an absurd one.
        *slot = value.clamp(low, high);
    }
    Some(hours)
}

/// The range met, widened by half of itself on either side.
fn bounds(prices: &[Hours]) -> (f64, f64) {
    let all = || prices.iter().flatten().copied();
    let (low, high) = (
        all().fold(f64::INFINITY, f64::min),
        all().fold(f64::NEG_INFINITY, f64::max),
    );
    let margin = (high - low) / 2.0;
    (low - margin, high + margin)
}
