//! The walk as a whole, on made-up prices that follow load less wind.

use chrono::{Days, NaiveDate};

use super::*;

fn dice(seed: &mut u64) -> f64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    #[expect(clippy::cast_precision_loss, reason = "a test's dice")]
    let unit = (*seed >> 11) as f64 / (1_u64 << 53) as f64;
    unit - 0.5
}

/// Prices of `count` days: 0.9 per unit of residual load, and noise.
fn made_up(count: usize) -> Vec<PriceDay> {
    let mut seed = 11;
    let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
    let day = |index: usize| {
        let wind = 20.0 + 30.0 * dice(&mut seed);
        let load: Hours = std::array::from_fn(|h| if (7..20).contains(&h) { 60.0 } else { 45.0 });
        let wind: Hours = std::array::from_fn(|_| wind);
        let price = std::array::from_fn(|h| 0.9 * (load[h] - wind[h]) + 2.0 * dice(&mut seed));
        PriceDay {
            date: first + Days::new(index as u64),
            price: Some(price),
            known: vec![load, wind],
            holiday: false,
        }
    };
    (0..count).map(day).collect()
}

fn forecasts(days: Vec<PriceDay>, from: usize, to: usize) -> Vec<PriceForecast> {
    walk(&PriceDays::try_new(days).unwrap(), from, to).unwrap()
}

#[test]
fn a_forecast_is_the_same_to_the_bit_when_the_future_is_deleted_or_made_up() {
    let days = made_up(HISTORY + 3);
    let from = HISTORY;
    let whole = forecasts(days.clone(), from, from + 2);
    let mut cut = days.clone();
    cut.truncate(from + 1);
    // Not even the day's own price is known.
    cut[from].price = None;
    assert_eq!(forecasts(cut, from, from + 1), whole[..1]);
    let mut other = days;
    for day in &mut other[from + 1..] {
        day.price = Some([9_999.0; HOURS]);
        day.known = vec![[1.0; HOURS]; 2];
    }
    assert_eq!(forecasts(other, from, from + 1), whole[..1]);
}

#[test]
fn bands_never_cross_scenarios_are_finite_and_the_driver_is_found() {
    let days = made_up(HISTORY + 4);
    let found = forecasts(days.clone(), HISTORY, HISTORY + 4);
    let levels: Vec<f64> = (1..100).map(|l| f64::from(l) / 100.0).collect();
    for forecast in &found {
        for hour in 0..HOURS {
            let band = forecast.band(hour, &levels);
            assert!(band.windows(2).all(|w| w[0] <= w[1]) && band.iter().all(|v| v.is_finite()));
        }
        assert!(forecast.scenarios().count() >= 28);
        assert!(forecast.scenarios().flatten().all(f64::is_finite));
    }
    let days = PriceDays::try_new(days).unwrap();
    let scores = score(&days, HISTORY, &found, None).unwrap();
    // The noise alone has a mean absolute error of 0.5; the same weekday says nothing about the wind.
    assert!(
        scores.mae < 1.5 && scores.crps_ratio_same_weekday < 0.4,
        "{scores:?}"
    );
}

#[test]
fn too_short_a_history_is_refused_with_the_number_of_days() {
    let days = PriceDays::try_new(made_up(HISTORY)).unwrap();
    let error = walk(&days, HISTORY - 1, HISTORY).unwrap_err().to_string();
    assert!(error.contains("expected at least 119"), "{error}");
}
