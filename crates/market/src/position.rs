//! What we are obliged to, interval by interval.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use units::{Energy, Interval, Power};

use crate::{Award, AwardId, Direction, Product};

/// Awards in force, each once: sold energy and held reserve follow from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Position {
    awards: BTreeMap<AwardId, Award>,
}

impl Position {
    /// Adds an award, or replaces it by a later word about the same one. Saying it twice changes nothing.
    pub fn apply(&mut self, award: Award) {
        self.awards.insert(award.id, award);
    }

    /// Awards by name.
    pub fn awards(&self) -> impl Iterator<Item = &Award> {
        self.awards.values()
    }

    /// Awards whose delivery contains `at`.
    pub fn in_force(&self, at: DateTime<Utc>) -> impl Iterator<Item = &Award> {
        self.awards
            .values()
            .filter(move |a| a.delivery.contains(at))
    }

    /// Reserve sold for `at`: the power that must be held ready, at least zero.
    #[must_use]
    pub fn reserve(&self, product: Product, at: DateTime<Utc>) -> Power {
        self.in_force(at)
            .filter(|a| a.product == product && product.is_reserve())
            .map(|a| a.volume)
            .sum()
    }

    /// Power that reserve may ask the fleet to fall by and to rise by at `at`, both at least zero.
    #[must_use]
    pub fn reserve_up_down(&self, at: DateTime<Utc>) -> (Power, Power) {
        let symmetric = self.reserve(Product::Fcr, at);
        (
            symmetric + self.reserve(Product::AfrrUp, at),
            symmetric + self.reserve(Product::AfrrDown, at),
        )
    }

    /// Power traded on energy markets at `at`; positive was bought. Zero if nothing was traded.
    #[must_use]
    pub fn traded(&self, at: DateTime<Utc>) -> Power {
        self.in_force(at).map(signed_power).sum()
    }

    /// Energy traded over `interval`; positive was bought.
    #[must_use]
    pub fn traded_energy(&self, interval: Interval) -> Energy {
        self.awards
            .values()
            .filter_map(|a| {
                a.delivery
                    .overlap(interval)
                    .map(|o| signed_power(a).over(o.length()))
            })
            .sum()
    }

    /// True if any energy was traded that is delivered inside `interval`.
    #[must_use]
    pub fn has_energy(&self, interval: Interval) -> bool {
        self.awards
            .values()
            .any(|a| !a.product.is_reserve() && a.delivery.overlap(interval).is_some())
    }

    /// Forgets awards delivered before `before`.
    pub fn forget(&mut self, before: DateTime<Utc>) {
        self.awards.retain(|_, a| a.delivery.end() > before);
    }
}

/// Power of an energy award in load convention; zero for reserve, which is delivered only when called.
#[must_use]
pub fn signed_power(award: &Award) -> Power {
    match (award.product.is_reserve(), award.direction) {
        (true, _) | (false, Direction::Symmetric) => Power::ZERO,
        (false, Direction::Up) => -award.volume,
        (false, Direction::Down) => award.volume,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Area, BidId};
    use chrono::TimeDelta;
    use units::{Currency, Price};
    use uuid::Uuid;

    fn award(
        n: u128,
        product: Product,
        direction: Direction,
        start_hour: i64,
        hours: i64,
        mw: f64,
    ) -> Award {
        let base: DateTime<Utc> = "2026-01-10T23:00:00Z".parse().unwrap();
        let start = base + TimeDelta::hours(start_hour);
        Award {
            id: AwardId(Uuid::from_u128(n)),
            bid: BidId(Uuid::from_u128(n)),
            area: Area::Nl,
            product,
            direction,
            delivery: Interval::try_new(start, start + TimeDelta::hours(hours)).unwrap(),
            volume: Power::from_mw(mw),
            price: Price::new(10.into(), Currency::Eur),
            awarded_at: base,
        }
    }

    #[test]
    fn an_award_said_twice_counts_once() {
        let mut position = Position::default();
        let one = award(1, Product::Fcr, Direction::Symmetric, 0, 4, 2.0);
        position.apply(one.clone());
        position.apply(one.clone());
        assert_eq!(
            position.reserve(Product::Fcr, one.delivery.start()),
            Power::from_mw(2.0)
        );
        assert_eq!(
            position.reserve(Product::Fcr, one.delivery.end()),
            Power::ZERO
        );
        assert_eq!(
            position.reserve_up_down(one.delivery.start()),
            (Power::from_mw(2.0), Power::from_mw(2.0))
        );
    }

    #[test]
    fn sold_energy_is_negative_and_bought_energy_positive() {
        let mut position = Position::default();
        position.apply(award(1, Product::DayAhead, Direction::Down, 0, 1, 0.4));
        position.apply(award(2, Product::DayAhead, Direction::Up, 1, 1, 0.1));
        position.apply(award(3, Product::AfrrUp, Direction::Up, 0, 4, 1.0));
        let start = award(1, Product::DayAhead, Direction::Down, 0, 1, 0.4)
            .delivery
            .start();
        let whole = Interval::try_new(start, start + TimeDelta::hours(2)).unwrap();
        assert_eq!(position.traded_energy(whole), Energy::from_kwh(300.0));
        assert_eq!(position.traded(start), Power::from_mw(0.4));
        let quarter = Interval::try_new(start, start + TimeDelta::minutes(15)).unwrap();
        assert_eq!(position.traded_energy(quarter), Energy::from_kwh(100.0));
        assert_eq!(
            position.reserve_up_down(start),
            (Power::from_mw(1.0), Power::ZERO)
        );
    }
}
