//! What is known of a reserve auction before its gate: which results are out, the price expected, and the price to ask.

use chrono::NaiveDate;
use forecast::price::{BlockPrice, MarginalPrice};
use market::rules::Pricing;
use units::DeliveryDay;

use super::Rolling;
use super::known::gate_of;
use crate::case::Block;
use crate::policy::outcome::mean;
use crate::policy::penalty;

/// Results of the same block of the day that make the price expected, latest first.
const LATEST: usize = 7;

/// The auction of one block as it looks before its gate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Auction {
    /// Mean of the latest marginal prices, currency per MW and block.
    pub(crate) expected: f64,
    /// How past auctions ended, per MW and hour, where what is asked is what is paid; `None` where all are paid the
    /// marginal price.
    past: Option<MarginalPrice>,
    /// Length of the block, hours.
    hours: f64,
}

/// What to ask for a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ask {
    /// Currency per MW and block.
    pub(crate) price: f64,
    /// Expected gain over what holding costs, currency per MW and block; the chance not to be awarded is in it.
    pub(crate) gain: f64,
}

impl Auction {
    /// What to ask where holding costs `cost`, currency per MW and block; `None` where nothing is to be gained.
    ///
    /// Where all are paid the marginal price, the cost. Where the price asked is paid, the past marginal price with the
    /// most expected gain: what is asked over the cost, times the chance to be awarded (`optimisation.md` 7.3).
    pub(crate) fn ask(&self, cost: f64) -> Option<Ask> {
        let (price, gain) = match &self.past {
            None => (cost, self.expected - cost),
            Some(past) => {
                let (price, gain) = past.pay_as_bid(cost / self.hours)?;
                (price * self.hours, gain * self.hours)
            }
        };
        (gain > 0.0).then_some(Ask { price, gain })
    }
}

impl Rolling<'_> {
    /// The auction of `block` of a product on delivery day `day`, as known when its gate closes.
    ///
    /// Without any result the price expected is above any cost of holding. `None` where the price asked is paid and there
    /// are too few results to tell which prices are awarded.
    pub(super) fn auction(
        &self,
        product: usize,
        day: DeliveryDay,
        block: &Block,
    ) -> Option<Auction> {
        let reserve = &self.case.reserves[product];
        let zone = self.case.area.exchange_zone();
        let local = |b: &Block| b.start.with_timezone(&zone).naive_local();
        let until = self.results_until(product, day);
        let alike: Vec<(NaiveDate, &Block)> = reserve
            .blocks
            .iter()
            .filter(|b| local(b).time() == local(block).time())
            .map(|b| (local(b).date(), b))
            .filter(|(date, _)| *date < until)
            .collect();
        let pricing = penalty::pricing(self.case.area, reserve.product, block.start);
        let past = match pricing {
            Pricing::Marginal => None,
            Pricing::PayAsBid => Some(past_prices(&alike, day.date(), until)?),
        };
        Some(Auction {
            expected: mean(alike.iter().rev().take(LATEST).map(|(_, b)| b.price))
                .unwrap_or(f64::MAX.sqrt()),
            past,
            hours: block.hours(),
        })
    }

    /// First delivery date whose result is not out when the gate for `day` closes.
    fn results_until(&self, product: usize, day: DeliveryDay) -> NaiveDate {
        let gate = |day| gate_of(self.case.area, self.case.reserves[product].product, day);
        let closes = gate(day).closes;
        let mut first = day;
        while gate(first.previous()).results > closes {
            first = first.previous();
        }
        first.date()
    }
}

/// How the auctions of one block of the day ended.
fn past_prices(
    alike: &[(NaiveDate, &Block)],
    day: NaiveDate,
    until: NaiveDate,
) -> Option<MarginalPrice> {
    let results: Vec<BlockPrice> = alike
        .iter()
        .map(|(date, b)| BlockPrice {
            date: *date,
            block: 0,
            price: b.price / b.hours(),
        })
        .collect();
    MarginalPrice::forecast(&results, day, 0, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auction(past: Option<MarginalPrice>) -> Auction {
        Auction {
            expected: 40.0,
            past,
            hours: 4.0,
        }
    }

    /// Ten days, eight of which ended at 10 per MW and hour, the others at 30.
    fn past() -> MarginalPrice {
        let day = |d| NaiveDate::from_ymd_opt(2024, 1, d).unwrap();
        let results: Vec<BlockPrice> = (1..=10)
            .map(|d| BlockPrice {
                date: day(d),
                block: 0,
                price: if d > 8 { 30.0 } else { 10.0 },
            })
            .collect();
        // Only one of them was a Sunday like the day to come: all count.
        MarginalPrice::forecast(&results, day(14), 0, day(14)).unwrap()
    }

    #[test]
    fn where_all_are_paid_the_marginal_price_the_cost_is_asked() {
        let ask = auction(None).ask(30.0).unwrap();
        assert_eq!(ask.price.to_bits(), 30.0_f64.to_bits());
        assert_eq!(ask.gain.to_bits(), 10.0_f64.to_bits());
        assert_eq!(auction(None).ask(40.0), None);
    }

    #[test]
    fn where_the_price_asked_is_paid_it_is_the_past_one_with_the_most_expected_gain() {
        let near = |ask: Option<Ask>, price: f64, gain: f64| {
            let ask = ask.unwrap();
            assert!((ask.price - price).abs() < 1e-9, "{ask:?}");
            assert!((ask.gain - gain).abs() < 1e-9, "{ask:?}");
        };
        // Four hours that cost 4: nine an hour for sure, or 29 with a fifth of a chance.
        near(auction(Some(past())).ask(4.0), 40.0, 36.0);
        // Four hours that cost 32: two for sure, or 22 with a fifth of a chance.
        near(auction(Some(past())).ask(32.0), 120.0, 17.6);
        assert_eq!(auction(Some(past())).ask(120.0), None);
    }
}
