//! Delivery days cut into market time units and blocks.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use units::{DeliveryDay, Interval};

use crate::rules::{Delivery, Rule, Rules};
use crate::{Area, Product};

/// The delivery intervals of `day` under `rule`, in order: 92, 96 or 100 quarter hours, or always six blocks of four
/// wall-clock hours.
#[must_use]
pub fn deliveries(rule: &Rule, day: DeliveryDay) -> Vec<Interval> {
    match rule.delivery {
        Delivery::Units { unit_minutes } => units(day, TimeDelta::minutes(i64::from(unit_minutes))),
        Delivery::Blocks { block_hours } => blocks(day, block_hours),
    }
}

/// The delivery interval of `rule` that starts at `start`; `None` if no delivery starts there.
#[must_use]
pub fn delivery_at(rule: &Rule, start: DateTime<Utc>) -> Option<Interval> {
    let day = DeliveryDay::containing(start, rule.calendar_zone);
    deliveries(rule, day)
        .into_iter()
        .find(|d| d.start() == start)
}

/// The delivery day of `area` for `product` that contains `at`; `None` if it is not traded then.
#[must_use]
pub fn day_of(
    rules: &Rules,
    area: Area,
    product: Product,
    at: DateTime<Utc>,
) -> Option<DeliveryDay> {
    zone_of(rules, area, product, at).map(|zone| DeliveryDay::containing(at, zone))
}

pub(crate) fn zone_of(
    rules: &Rules,
    area: Area,
    product: Product,
    at: DateTime<Utc>,
) -> Option<Tz> {
    rules
        .at(area, product, at)
        .ok()
        .map(|rule| rule.calendar_zone)
}

/// Equal units from the start of the day.
#[must_use]
pub fn units(day: DeliveryDay, unit: TimeDelta) -> Vec<Interval> {
    day.interval_starts(unit)
        .filter_map(|start| Interval::try_new(start, start + unit).ok())
        .collect()
}

/// Blocks between wall-clock hours `0, block_hours, 2*block_hours, ...`: the one that holds a clock change is an hour
/// shorter or longer.
#[must_use]
pub fn blocks(day: DeliveryDay, block_hours: u32) -> Vec<Interval> {
    let boundary = |hour: u32| {
        NaiveTime::from_hms_opt(hour, 0, 0).map_or_else(|| day.end(), |time| day.at(time))
    };
    (0..24)
        .step_by(block_hours.max(1) as usize)
        .filter_map(|hour| Interval::try_new(boundary(hour), boundary(hour + block_hours)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(date: &str) -> DeliveryDay {
        DeliveryDay::try_new(date.parse().unwrap(), chrono_tz::Europe::Berlin).unwrap()
    }

    fn of(product: Product, date: &str) -> Vec<Interval> {
        let day = day(date);
        deliveries(
            Rules::built_in()
                .at(Area::De, product, day.start())
                .unwrap(),
            day,
        )
    }

    #[test]
    fn quarter_hours_are_92_96_or_100() {
        for (date, count, start) in [
            ("2026-03-28", 96, "2026-03-27T23:00:00Z"),
            ("2026-03-29", 92, "2026-03-28T23:00:00Z"),
            ("2026-10-24", 96, "2026-10-23T22:00:00Z"),
            ("2026-10-25", 100, "2026-10-24T22:00:00Z"),
            ("2026-10-26", 96, "2026-10-25T23:00:00Z"),
        ] {
            let units = of(Product::DayAhead, date);
            assert_eq!(units.len(), count, "{date}");
            assert_eq!(units[0].start(), start.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(units[count - 1].end(), day(date).end());
        }
    }

    #[test]
    fn the_day_ahead_is_hourly_before_october_2025() {
        assert_eq!(of(Product::DayAhead, "2025-09-30").len(), 24);
        assert_eq!(of(Product::DayAhead, "2025-10-01").len(), 96);
        assert_eq!(of(Product::DayAhead, "2025-03-30").len(), 23);
    }

    #[test]
    fn six_blocks_remain_on_change_days_and_the_first_is_3_or_5_hours() {
        for (date, first_hours, boundaries) in [
            (
                "2026-03-29",
                3,
                [
                    "2026-03-28T23:00:00Z",
                    "2026-03-29T02:00:00Z",
                    "2026-03-29T06:00:00Z",
                ],
            ),
            (
                "2026-10-25",
                5,
                [
                    "2026-10-24T22:00:00Z",
                    "2026-10-25T03:00:00Z",
                    "2026-10-25T07:00:00Z",
                ],
            ),
            (
                "2026-03-30",
                4,
                [
                    "2026-03-29T22:00:00Z",
                    "2026-03-30T02:00:00Z",
                    "2026-03-30T06:00:00Z",
                ],
            ),
        ] {
            let blocks = of(Product::Fcr, date);
            assert_eq!(blocks.len(), 6, "{date}");
            assert_eq!(blocks[0].length(), TimeDelta::hours(first_hours));
            assert!(
                blocks[1..]
                    .iter()
                    .all(|b| b.length() == TimeDelta::hours(4))
            );
            assert!(blocks.windows(2).all(|w| w[0].end() == w[1].start()));
            for (block, expected) in blocks.iter().zip(boundaries) {
                assert_eq!(block.start(), expected.parse::<DateTime<Utc>>().unwrap());
            }
            assert_eq!(blocks[5].end(), day(date).end());
        }
    }

    #[test]
    fn a_delivery_is_found_by_its_start_only() {
        let start = "2026-03-29T02:00:00Z".parse().unwrap();
        let rule = Rules::built_in().at(Area::De, Product::Fcr, start).unwrap();
        assert_eq!(
            delivery_at(rule, start).unwrap().length(),
            TimeDelta::hours(4)
        );
        assert_eq!(delivery_at(rule, start + TimeDelta::hours(1)), None);
    }
}
