//! Prices of a seeded market: what everybody else's bids would clear at, as functions of the seed and the delivery.

use chrono::{DateTime, Datelike, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use market::Product;
use units::Interval;

use crate::dice::Dice;
use crate::waves::Waves;

const PURPOSE: u64 = 0x9c1ce;
const SUN: u64 = 0x5e4;
const NOISE: u64 = 0x401e;

/// Prices in an area whose people live by the clock of `zone`.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    seed: u64,
    zone: Tz,
    weather: Waves,
    reserve: Waves,
}

impl Prices {
    /// The prices of `seed`.
    #[must_use]
    pub fn new(seed: u64, zone: Tz) -> Self {
        let mut dice = Dice::of(seed, PURPOSE, 0);
        Self {
            seed,
            zone,
            // Wind comes and goes over days.
            weather: Waves::new(&mut dice, 8, 1.7, 12.0, 14.0),
            reserve: Waves::new(&mut dice, 6, 2.0, 20.0, 0.16),
        }
    }

    /// Day-ahead price of the delivery that starts at `start`, EUR/MWh: two peaks, a night, calmer weekends, a dip when
    /// the sun shines (below zero on a sunny summer weekend), weather over days, and a ripple inside the hour.
    #[must_use]
    pub fn day_ahead(&self, start: DateTime<Utc>) -> f64 {
        let local = start.with_timezone(&self.zone);
        let hour = f64::from(local.hour()) + f64::from(local.minute()) / 60.0;
        let weekend = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
        let shape = bump(hour, 8.2, 2.0) * 26.0 + bump(hour, 19.6, 2.3) * 44.0
            - bump(hour, 3.2, 2.8) * 20.0;
        let demand = if weekend { 0.65 * shape - 14.0 } else { shape };
        let price =
            82.0 + demand - self.sun(start) * bump(hour, 13.2, 2.9) + self.weather.at(days(start));
        let mut dice = Dice::of(self.seed, NOISE, quarter(start));
        // Solar ramps up before noon and down after it: quarters inside an hour zig-zag.
        let ripple = f64::from(local.minute()) / 15.0 - 1.5;
        let slope = if hour < 13.0 { -3.0 } else { 3.0 };
        round(price + slope * ripple * bump(hour, 13.2, 6.0) + 1.5 * dice.normal())
    }

    /// How far the sun pushes the price down at midday, EUR/MWh: strong in summer, less under cloud.
    fn sun(&self, start: DateTime<Utc>) -> f64 {
        let local = start.with_timezone(&self.zone);
        let summer =
            0.5 - 0.5 * (f64::from(local.ordinal0()) / 365.25 * std::f64::consts::TAU).cos();
        let cloud = Dice::on(self.seed, SUN, 0, local.date_naive()).between(0.45, 1.15);
        (18.0 + 82.0 * summer) * cloud
    }

    /// Clearing price of a reserve block without us, EUR per MW for the whole block.
    ///
    /// FCR and aFRR pay more at night's end and in the evening, when few machines run, and where the block is longer.
    #[must_use]
    pub fn reserve(&self, product: Product, delivery: Interval) -> f64 {
        let local = delivery.start().with_timezone(&self.zone);
        let hour = f64::from(local.hour());
        let (level, shape) = match product {
            Product::DayAhead => return self.day_ahead(delivery.start()),
            Product::Fcr => (
                12.0,
                bump(hour, 4.0, 4.0) * 8.0 + bump(hour, 20.0, 3.0) * 6.0,
            ),
            Product::AfrrUp => (6.5, bump(hour, 18.0, 3.5) * 7.0),
            Product::AfrrDown => (
                7.0,
                bump(hour, 12.0, 3.5) * 8.0 + bump(hour, 2.0, 3.0) * 3.0,
            ),
        };
        let mut dice = Dice::of(
            self.seed,
            NOISE + 1 + product as u64,
            quarter(delivery.start()),
        );
        let factor =
            (1.0 + self.reserve.at(days(delivery.start())) + 0.08 * dice.normal()).max(0.3);
        round((level + shape) * factor * delivery.hours())
    }

    /// Imbalance price of the quarter hour that starts at `start`, EUR/MWh, one price for both directions: the day-ahead
    /// price moved by the state of the whole area, a little above it on average.
    #[must_use]
    pub fn imbalance(&self, start: DateTime<Utc>) -> f64 {
        let mut dice = Dice::of(self.seed, NOISE + 9, quarter(start));
        round(self.day_ahead(start) + 2.0 + 24.0 * dice.normal())
    }
}

/// A smooth hill of height 1 around `centre`, over the midnight too; hours.
fn bump(hour: f64, centre: f64, width: f64) -> f64 {
    let away = (hour - centre + 36.0).rem_euclid(24.0) - 12.0;
    (-(away / width).powi(2)).exp()
}

fn quarter(start: DateTime<Utc>) -> u64 {
    start.timestamp().div_euclid(900).unsigned_abs()
}

#[expect(clippy::cast_precision_loss, reason = "exact for any date in use")]
fn days(at: DateTime<Utc>) -> f64 {
    at.timestamp() as f64 / 86_400.0
}

fn round(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use chrono_tz::Europe::Amsterdam;

    fn series(seed: u64, weeks: i64) -> Vec<(DateTime<Utc>, f64)> {
        let start: DateTime<Utc> = "2026-05-03T22:00:00Z".parse().unwrap();
        let prices = Prices::new(seed, Amsterdam);
        (0..weeks * 7 * 96)
            .map(|q| start + TimeDelta::minutes(15 * q))
            .map(|at| (at, prices.day_ahead(at)))
            .collect()
    }

    fn mean(prices: impl Iterator<Item = f64>) -> f64 {
        let (sum, n) = prices.fold((0.0, 0.0), |(s, n), p| (s + p, n + 1.0));
        sum / n
    }

    #[test]
    fn days_have_a_shape_weekends_are_cheaper_and_the_sun_takes_some_hours_below_zero() {
        let all = series(1, 8);
        let at_hour = |h: u32| {
            mean(
                all.iter()
                    .filter(|(at, _)| at.with_timezone(&Amsterdam).hour() == h)
                    .map(|(_, p)| *p),
            )
        };
        assert!(at_hour(19) > at_hour(8) && at_hour(8) > at_hour(3) && at_hour(3) > at_hour(13));
        let weekend = |want: bool| {
            mean(
                all.iter()
                    .filter(|(at, _)| {
                        let day = at.with_timezone(&Amsterdam).weekday();
                        matches!(day, Weekday::Sat | Weekday::Sun) == want
                    })
                    .map(|(_, p)| *p),
            )
        };
        assert!(weekend(true) + 8.0 < weekend(false));
        let negative = all.iter().filter(|(_, p)| *p < 0.0).count();
        assert!(negative > 20 && negative < all.len() / 8, "{negative}");
    }

    #[test]
    fn reserve_pays_by_the_hour_of_its_block() {
        let prices = Prices::new(1, Amsterdam);
        let start: DateTime<Utc> = "2026-06-09T22:00:00Z".parse().unwrap();
        for product in [Product::Fcr, Product::AfrrUp, Product::AfrrDown] {
            let block = Interval::try_new(start, start + TimeDelta::hours(4)).unwrap();
            let pays = prices.reserve(product, block);
            assert!((10.0..250.0).contains(&pays), "{product:?} {pays}");
        }
    }
}
