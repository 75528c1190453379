//! Distributions for bidding: the marginal capacity price of a block, and what the imbalance settles above day-ahead.

use chrono::{Datelike, NaiveDate, Weekday};

use crate::quantiles;

/// Auction results of the last so many days count.
const WINDOW_DAYS: i64 = 56;
/// A distribution from fewer results is none.
const LEAST_RESULTS: usize = 8;

/// Result of one block on one day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockPrice {
    /// Local date of delivery.
    pub date: NaiveDate,
    /// Block of the day, from 0.
    pub block: usize,
    /// Marginal accepted price, per MW and block or per MW and hour as the product has it.
    pub price: f64,
}

/// Kinds of days that auctions tell apart.
fn kind(date: NaiveDate) -> u8 {
    match date.weekday() {
        Weekday::Sat => 1,
        Weekday::Sun => 2,
        Weekday::Mon | Weekday::Tue | Weekday::Wed | Weekday::Thu | Weekday::Fri => 0,
    }
}

/// Past marginal prices as a distribution for the next auction.
#[derive(Debug, Clone, PartialEq)]
pub struct MarginalPrice {
    /// Sorted.
    sample: Vec<f64>,
}

impl MarginalPrice {
    /// For `block` of `day` from the results of deliveries before `known_until` (the gate's last published day is the
    /// day before it), those of the same block and kind of day (working day, Saturday, Sunday) within 56 days; all
    /// kinds where these are fewer than eight. `None` with fewer than eight of any kind.
    #[must_use]
    pub fn forecast(
        results: &[BlockPrice],
        day: NaiveDate,
        block: usize,
        known_until: NaiveDate,
    ) -> Option<Self> {
        let recent = |r: &&BlockPrice| {
            let age = (day - r.date).num_days();
            r.block == block
                && r.date < known_until
                && (1..=WINDOW_DAYS).contains(&age)
                && r.price.is_finite()
        };
        let prices = |same: bool| -> Vec<f64> {
            let alike = |r: &&BlockPrice| !same || kind(r.date) == kind(day);
            results
                .iter()
                .filter(recent)
                .filter(alike)
                .map(|r| r.price)
                .collect()
        };
        let mut sample = prices(true);
        if sample.len() < LEAST_RESULTS {
            sample = prices(false);
        }
        sample.sort_by(f64::total_cmp);
        (sample.len() >= LEAST_RESULTS).then_some(Self { sample })
    }

    /// Quantiles at `levels`.
    #[must_use]
    pub fn band(&self, levels: &[f64]) -> Vec<f64> {
        quantiles(&self.sample, levels).unwrap_or_default()
    }

    /// Probability that a bid at `price` is accepted: that the marginal price is no lower.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a few dozen results")]
    pub fn accepted(&self, price: f64) -> f64 {
        let below = self.sample.partition_point(|p| *p < price);
        (self.sample.len() - below) as f64 / self.sample.len() as f64
    }

    /// Price with the largest expected surplus `(b - cost) (1 - F(b))` under pay-as-bid, and that surplus; only prices
    /// of the sample can be best. `None` if no price above `cost` was ever accepted.
    #[must_use]
    pub fn pay_as_bid(&self, cost: f64) -> Option<(f64, f64)> {
        let surplus = |b: f64| (b, (b - cost) * self.accepted(b));
        let above = self.sample.iter().copied().filter(|b| *b > cost);
        above.map(surplus).max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Quantiles of the spread between a later price (intraday, imbalance) and day-ahead, by clock hour.
///
/// `past` holds clock hour and spread; `None` for an hour with fewer than eight values.
#[must_use]
pub fn spread_band(past: &[(usize, f64)], hour: usize, levels: &[f64]) -> Option<Vec<f64>> {
    let sample: Vec<_> = past
        .iter()
        .filter(|(h, v)| *h == hour && v.is_finite())
        .map(|p| p.1)
        .collect();
    (sample.len() >= LEAST_RESULTS).then(|| quantiles(&sample, levels))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;
    use proptest::prelude::*;

    fn results(prices: &[f64]) -> (Vec<BlockPrice>, NaiveDate) {
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let on = |i: usize| first + Days::new(i as u64);
        let all = prices
            .iter()
            .enumerate()
            .map(|(i, p)| BlockPrice {
                date: on(i),
                block: 2,
                price: *p,
            })
            .collect();
        (all, on(prices.len()))
    }

    #[test]
    fn the_best_pay_as_bid_price_weighs_margin_against_acceptance() {
        let (past, day) = results(&[10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 12.0, 12.0, 50.0]);
        let prices = MarginalPrice::forecast(&past, day, 2, day).unwrap();
        // Eight of the ten were working days. At 10 sure to be taken, surplus 10; at 50 once in eight, surplus 6.25.
        assert!((prices.pay_as_bid(0.0).unwrap().0 - 10.0).abs() < 1e-12);
        assert!((prices.pay_as_bid(9.0).unwrap().0 - 50.0).abs() < 1e-12);
        assert_eq!(prices.pay_as_bid(50.0), None);
        assert!(MarginalPrice::forecast(&past, day, 3, day).is_none());
    }

    proptest! {
        #[test]
        fn results_not_yet_published_change_nothing(
            prices in prop::collection::vec(0.0_f64..100.0, 40..80), future in prop::collection::vec(0.0_f64..1e6, 1..20),
        ) {
            let (mut past, day) = results(&prices);
            let before = MarginalPrice::forecast(&past, day, 2, day);
            past.extend((0_u64..).zip(&future).map(|(i, p)| BlockPrice { date: day + Days::new(i), block: 2, price: *p }));
            prop_assert_eq!(&MarginalPrice::forecast(&past, day, 2, day), &before);
            let band = before.unwrap().band(&[0.05, 0.5, 0.95]);
            prop_assert!(band.windows(2).all(|w| w[0] <= w[1]));
        }
    }
}
