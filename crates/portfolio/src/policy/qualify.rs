//! Who fails too often may sell no more: the qualification for a reserve product, lost and regained (`markets.md` 4.4).

use chrono::{DateTime, TimeDelta, Utc};
use market::rules::{QualificationRule, Rules};
use market::{Area, Product};

/// The rule of a product for a delivery that starts at `start`; `None` where none is known.
pub(crate) fn rule(
    area: Area,
    product: Product,
    start: DateTime<Utc>,
) -> Option<QualificationRule> {
    let rule = Rules::built_in().at(area, product, start).ok()?;
    rule.penalty?.qualification
}

/// What a provider has delivered of one product, and whether it may offer more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Qualification {
    /// Blocks delivered since the qualification was last given: when each ended, and whether some was missing.
    delivered: Vec<(DateTime<Utc>, bool)>,
    /// Until when it is lost, every time it was.
    lost: Vec<DateTime<Utc>>,
}

impl Qualification {
    /// Whether bids are taken at `at`.
    pub(crate) fn holds(&self, at: DateTime<Utc>) -> bool {
        self.lost.last().is_none_or(|until| *until <= at)
    }

    /// How often it was lost.
    pub(crate) const fn times_lost(&self) -> usize {
        self.lost.len()
    }

    /// Takes in a block that ended at `end`. What was sold before the qualification was lost is still delivered, but
    /// says nothing about the one to come.
    pub(crate) fn delivered(&mut self, rule: QualificationRule, end: DateTime<Utc>, short: bool) {
        if !self.holds(end) {
            return;
        }
        self.delivered.push((end, short));
        let first = end - TimeDelta::days(i64::from(rule.window_days));
        self.delivered.retain(|(at, _)| *at > first);
        let blocks = self.delivered.len();
        let failed = self.delivered.iter().filter(|(_, short)| *short).count();
        let enough = blocks >= usize::try_from(rule.blocks).unwrap_or(usize::MAX);
        if enough && 100 * failed as u64 > u64::from(rule.short_percent) * blocks as u64 {
            self.lost
                .push(end + TimeDelta::days(i64::from(rule.restored_days)));
            self.delivered.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: QualificationRule = QualificationRule {
        window_days: 10,
        blocks: 4,
        short_percent: 25,
        restored_days: 30,
    };

    fn day(d: i64) -> DateTime<Utc> {
        "2024-02-01T11:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(d)
    }

    fn after(outcomes: &[bool]) -> Qualification {
        let mut qualification = Qualification::default();
        for (d, short) in (0..).zip(outcomes) {
            qualification.delivered(RULE, day(d), *short);
        }
        qualification
    }

    #[test]
    fn a_quarter_short_keeps_it_and_more_loses_it_for_its_time() {
        let kept = after(&[true, false, false, false]);
        assert!(kept.holds(day(4)));
        let lost = after(&[true, false, false, true]);
        assert!(!lost.holds(day(4)));
        assert!(!lost.holds(day(32)));
        assert!(lost.holds(day(33)));
        assert_eq!(lost.times_lost(), 1);
    }

    #[test]
    fn too_few_blocks_and_blocks_of_long_ago_tell_nothing() {
        assert!(after(&[true, true, true]).holds(day(3)));
        let mut old = after(&[true]);
        for d in 11..15 {
            old.delivered(RULE, day(d), d == 11);
        }
        assert!(old.holds(day(15)));
    }

    #[test]
    fn what_was_sold_before_the_loss_does_not_lose_it_again() {
        let mut lost = after(&[true, true, true, true, true, true]);
        assert_eq!(lost.times_lost(), 1);
        // Regained with a clean record: a first failure among few blocks is none yet.
        lost.delivered(RULE, day(40), true);
        assert!(lost.holds(day(41)));
    }

    #[test]
    fn germany_ends_the_qualification_of_whoever_is_short_in_most_blocks_and_keeps_who_keeps_ninety_percent()
     {
        for product in [Product::Fcr, Product::AfrrUp, Product::AfrrDown] {
            let rule = rule(Area::De, product, day(0)).unwrap();
            let play = |every: i64| {
                let mut qualification = Qualification::default();
                for d in 0..200 {
                    qualification.delivered(rule, day(d), d % every == every - 1);
                }
                qualification.times_lost()
            };
            assert_eq!(play(10), 0, "{product:?}");
            assert!(play(2) >= 2, "{product:?}");
        }
        assert_eq!(rule(Area::Nl, Product::Fcr, day(0)), None);
    }
}
