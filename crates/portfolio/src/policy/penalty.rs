//! What reserve sold earns, and what it costs where it is not there: by the rule book's record of the area.

use std::ops::Range;

use chrono::{DateTime, Utc};
use market::rules::{Pricing, RepeatedPenalty, Rules};
use market::{Area, Product};

use super::Run;
use crate::case::Case;

/// Below the step of any market's price, currency per MW and block: what a price loses when it is reckoned by the hour.
const PRICE_ROUNDING: f64 = 1e-6;

/// What an award of a product pays for a delivery that starts at `start`; the marginal price where there is no record.
pub(crate) fn pricing(area: Area, product: Product, start: DateTime<Utc>) -> Pricing {
    let rule = Rules::built_in().at(area, product, start);
    rule.map_or(Pricing::Marginal, |rule| rule.pricing)
}

/// What a bid is paid that asks `asked` where the auction ends at `marginal`, both currency per MW and block; `None` for
/// one that asks more and is not awarded.
pub(crate) fn pay(pricing: Pricing, asked: f64, marginal: f64) -> Option<f64> {
    (asked <= marginal + PRICE_ROUNDING).then_some(match pricing {
        Pricing::PayAsBid => asked,
        Pricing::Marginal => marginal,
    })
}

/// Penalty of a product in an area, as the rule book has it (`markets.md` 4.4, 5.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Penalty {
    /// Multiple of the capacity price taken for what is missing: 1 cuts the pay in proportion.
    factor: f64,
    /// Added from the second block on in which some of the product is missing.
    repeated: Option<RepeatedPenalty>,
}

impl Penalty {
    /// The record that holds for a delivery that starts at `start`; a cut in proportion where there is none.
    pub(crate) fn of(area: Area, product: Product, start: DateTime<Utc>) -> Self {
        let rule = Rules::built_in().at(area, product, start).ok();
        let record = rule.and_then(|rule| rule.penalty);
        Self {
            factor: record.map_or(1.0, |r| f64::from(r.unavailable_factor)),
            repeated: record.and_then(|r| r.repeated),
        }
    }

    /// Currency per MW missing for an hour. `paid` is what the award is paid per MW and hour, `energy` the price of
    /// intraday energy per `MWh`, for which the day-ahead price stands in; `capacity` the block's mean price per MW and
    /// hour, for which the published one stands in; `again` when some was missing before.
    pub(crate) fn per_mw_h(self, paid: f64, capacity: f64, energy: f64, again: bool) -> f64 {
        let added = match self.repeated {
            Some(RepeatedPenalty::CapacityOrEnergyPrice) if again => capacity.max(energy).max(0.0),
            _ => 0.0,
        };
        self.factor * paid.max(0.0) + added
    }
}

/// One block of reserve sold, settled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settled {
    /// Which reserve.
    pub(crate) product: Product,
    /// Steps of the period.
    pub(crate) steps: Range<usize>,
    /// Pay for what was sold, currency.
    pub(crate) revenue: f64,
    /// Taken for what was missing, currency.
    pub(crate) penalty: f64,
    /// Sold, MW times hours.
    pub(crate) offered_mw_h: f64,
    /// Of it missing, MW times hours.
    pub(crate) missing_mw_h: f64,
}

/// All blocks on sale, by product and time.
pub(crate) fn blocks(case: &Case, run: &Run) -> Vec<Settled> {
    let mut settled = Vec::new();
    let hours = case.grid.hours();
    for (p, reserve) in case.reserves.iter().enumerate() {
        let mut again = false;
        for (b, (block, steps)) in reserve.on_sale().enumerate() {
            let sold = run.sold_mw.get(p).and_then(|x| x.get(b)).copied();
            let missing = run.missing_mw.get(p).map_or(&[][..], |m| &m[steps.clone()]);
            let rule = Penalty::of(case.area, reserve.product, block.start);
            let paid = run.paid.get(p).and_then(|x| x.get(b)).copied();
            let paid = paid.unwrap_or(block.price);
            let (own, published) = (paid / block.hours(), block.price / block.hours());
            let rate = |t: usize| rule.per_mw_h(own, published, case.prices.day_ahead[t], again);
            let penalty = steps
                .clone()
                .zip(missing)
                .map(|(t, mw)| mw * hours * rate(t))
                .sum();
            again |= missing.iter().any(|mw| *mw > 0.0);
            settled.push(Settled {
                product: reserve.product,
                steps,
                revenue: sold.unwrap_or(0.0) * paid,
                penalty,
                offered_mw_h: sold.unwrap_or(0.0) * block.hours(),
                missing_mw_h: missing.iter().sum::<f64>() * hours,
            });
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> DateTime<Utc> {
        "2024-02-01T11:00:00Z".parse().unwrap()
    }

    fn of(area: Area, product: Product) -> Penalty {
        Penalty::of(area, product, delivery())
    }

    #[test]
    fn an_award_of_german_and_dutch_afrr_is_paid_what_its_bid_asked() {
        for area in [Area::De, Area::Nl] {
            for product in [Product::AfrrUp, Product::AfrrDown] {
                let pricing = pricing(area, product, delivery());
                assert_eq!(pay(pricing, 7.5, 12.0), Some(7.5), "{area:?}");
                assert_eq!(pay(pricing, 12.0, 12.0), Some(12.0), "{area:?}");
                assert_eq!(pay(pricing, 12.01, 12.0), None, "{area:?}");
            }
        }
    }

    #[test]
    fn other_awards_are_paid_the_marginal_price() {
        for (area, product) in [
            (Area::De, Product::Fcr),
            (Area::Nl, Product::Fcr),
            (Area::Fr, Product::AfrrUp),
            (Area::Th, Product::AfrrUp),
        ] {
            let pricing = pricing(area, product, delivery());
            assert_eq!(pay(pricing, 7.5, 12.0), Some(12.0), "{area:?}");
            assert_eq!(pay(pricing, 12.01, 12.0), None, "{area:?}");
        }
    }

    #[test]
    fn what_is_cut_is_the_pay_of_the_award_and_what_is_added_is_the_price_of_the_block() {
        let afrr = of(Area::De, Product::AfrrUp);
        let first = afrr.per_mw_h(5.0, 12.0, -80.0, false);
        assert_eq!(first.to_bits(), 5.0_f64.to_bits());
        let again = afrr.per_mw_h(5.0, 12.0, -80.0, true);
        assert_eq!(again.to_bits(), 17.0_f64.to_bits());
    }

    #[test]
    fn germany_cuts_the_pay_and_takes_the_dearer_of_capacity_and_energy_when_afrr_is_missing_again()
    {
        let fcr = of(Area::De, Product::Fcr);
        assert_eq!(
            fcr.per_mw_h(12.0, 12.0, 80.0, false).to_bits(),
            12.0_f64.to_bits()
        );
        assert_eq!(
            fcr.per_mw_h(12.0, 12.0, 80.0, true).to_bits(),
            12.0_f64.to_bits()
        );
        let afrr = of(Area::De, Product::AfrrUp);
        assert_eq!(
            afrr.per_mw_h(12.0, 12.0, 80.0, false).to_bits(),
            12.0_f64.to_bits()
        );
        assert_eq!(
            afrr.per_mw_h(12.0, 12.0, 80.0, true).to_bits(),
            92.0_f64.to_bits()
        );
        assert_eq!(
            afrr.per_mw_h(12.0, 12.0, -80.0, true).to_bits(),
            24.0_f64.to_bits()
        );
    }

    #[test]
    fn the_netherlands_take_five_times_the_price_for_fcr() {
        let fcr = of(Area::Nl, Product::Fcr);
        assert_eq!(
            fcr.per_mw_h(12.0, 12.0, 80.0, true).to_bits(),
            60.0_f64.to_bits()
        );
    }

    #[test]
    fn an_area_without_a_record_pays_for_what_is_there() {
        let fcr = of(Area::Th, Product::Fcr);
        assert_eq!(
            fcr.per_mw_h(12.0, 12.0, 80.0, true).to_bits(),
            12.0_f64.to_bits()
        );
    }
}
