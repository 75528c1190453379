//! When bids are taken: wall-clock gates and rolling ones.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use units::{DeliveryDay, Interval, local_instant};

use crate::rules::{NoRule, Rule, Rules};
use crate::{Area, Product, calendar};

/// A wall-clock time relative to the delivery day D, written `D-1 12:00` or `D+1 09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WallClock {
    days: i16,
    time: NaiveTime,
}

/// Text that is not a wall-clock rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("gate rule {0:?} is not of the form `D-1 12:00`")]
pub struct WallClockError(pub String);

impl WallClock {
    /// The instant at which clocks in `zone` show this time, for the delivery day called `date`.
    #[must_use]
    pub fn instant(self, date: NaiveDate, zone: Tz) -> DateTime<Utc> {
        let days = Days::new(u64::from(self.days.unsigned_abs()));
        let on = if self.days < 0 {
            date.checked_sub_days(days)
        } else {
            date.checked_add_days(days)
        };
        local_instant(zone, on.unwrap_or(date).and_time(self.time))
    }
}

impl FromStr for WallClock {
    type Err = WallClockError;
    fn from_str(text: &str) -> Result<Self, WallClockError> {
        let wrong = || WallClockError(text.to_owned());
        let (day, time) = text.split_once(' ').ok_or_else(wrong)?;
        let offset = day.strip_prefix('D').ok_or_else(wrong)?;
        let days = if offset.is_empty() {
            0
        } else {
            offset.parse().map_err(|_| wrong())?
        };
        let time = NaiveTime::parse_from_str(time, "%H:%M").map_err(|_| wrong())?;
        Ok(Self { days, time })
    }
}

impl TryFrom<String> for WallClock {
    type Error = WallClockError;
    fn try_from(text: String) -> Result<Self, WallClockError> {
        text.parse()
    }
}

impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "D{:+} {}", self.days, self.time.format("%H:%M"))
    }
}

/// When bids are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// At a wall-clock time of a zone, in winter and summer alike: the UTC instant moves.
    Wall {
        /// Zone of the times.
        zone: Tz,
        /// First instant at which bids are taken, if limited.
        opens: Option<WallClock>,
        /// First instant at which a bid is late.
        closes: WallClock,
        /// When the result is published at the latest.
        results: WallClock,
    },
    /// A fixed span before each delivery starts, on UTC instants.
    Rolling {
        /// Span before delivery.
        before: TimeDelta,
    },
}

impl Gate {
    /// First instant at which a bid for delivery from `delivery_start` on the day of `calendar_zone` is late: a bid that arrives at the very
    /// instant is late.
    #[must_use]
    pub fn closes(self, delivery_start: DateTime<Utc>, calendar_zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Wall { zone, closes, .. } => {
                closes.instant(date_of(delivery_start, calendar_zone), zone)
            }
            Self::Rolling { before } => delivery_start - before,
        }
    }

    /// First instant at which a bid is taken; `None` where the rules name none.
    #[must_use]
    pub fn opens(self, delivery_start: DateTime<Utc>, calendar_zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Wall { zone, opens, .. } => {
                opens.map(|o| o.instant(date_of(delivery_start, calendar_zone), zone))
            }
            Self::Rolling { .. } => None,
        }
    }

    /// When the result is published at the latest; for a rolling gate, its close.
    #[must_use]
    pub fn results(self, delivery_start: DateTime<Utc>, calendar_zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Wall { zone, results, .. } => {
                results.instant(date_of(delivery_start, calendar_zone), zone)
            }
            Self::Rolling { .. } => self.closes(delivery_start, calendar_zone),
        }
    }
}

fn date_of(at: DateTime<Utc>, zone: Tz) -> NaiveDate {
    DeliveryDay::containing(at, zone).date()
}

/// First instant at which a bid for `day` under `rule` is late. With a rolling gate: for its first interval.
#[must_use]
pub fn closes(rule: &Rule, day: DeliveryDay) -> DateTime<Utc> {
    rule.gate.closes(day.start(), rule.calendar_zone)
}

/// When the result for `day` under `rule` is published at the latest.
#[must_use]
pub fn results(rule: &Rule, day: DeliveryDay) -> DateTime<Utc> {
    rule.gate.results(day.start(), rule.calendar_zone)
}

/// The next gate of a product that is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextGate {
    /// First instant at which a bid is late.
    pub closes: DateTime<Utc>,
    /// Delivery day bid for.
    pub day: DeliveryDay,
    /// That day as instants.
    pub delivery: Interval,
}

/// The next gate of `product` in `area` that closes after `now`.
///
/// # Errors
/// [`NoRule`] if the product is not traded there within the next two weeks.
pub fn next(
    rules: &Rules,
    area: Area,
    product: Product,
    now: DateTime<Utc>,
) -> Result<NextGate, NoRule> {
    const FURTHEST_DAYS: i64 = 14;
    let missing = NoRule {
        area,
        product,
        at: now,
    };
    let today = DeliveryDay::containing(
        now,
        calendar::zone_of(rules, area, product, now).ok_or(missing)?,
    );
    (0..=FURTHEST_DAYS)
        .map(|ahead| today.plus(ahead))
        .find_map(|day| {
            let rule = rules.at(area, product, day.start()).ok()?;
            let closes = closes(rule, day);
            (closes > now).then(|| NextGate {
                closes,
                day,
                delivery: day.interval(),
            })
        })
        .ok_or(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(date: &str) -> DeliveryDay {
        DeliveryDay::try_new(date.parse().unwrap(), chrono_tz::Europe::Brussels).unwrap()
    }

    fn gate_of(product: Product, date: &str) -> DateTime<Utc> {
        let day = day(date);
        closes(
            Rules::built_in()
                .at(Area::Nl, product, day.start())
                .unwrap(),
            day,
        )
    }

    #[test]
    fn gates_keep_their_wall_clock_over_both_clock_changes() {
        for (product, date, expected) in [
            (Product::DayAhead, "2026-03-28", "2026-03-27T11:00:00Z"),
            (Product::DayAhead, "2026-03-29", "2026-03-28T11:00:00Z"),
            (Product::DayAhead, "2026-03-30", "2026-03-29T10:00:00Z"),
            (Product::DayAhead, "2026-10-24", "2026-10-23T10:00:00Z"),
            (Product::DayAhead, "2026-10-25", "2026-10-24T10:00:00Z"),
            (Product::DayAhead, "2026-10-26", "2026-10-25T11:00:00Z"),
            (Product::Fcr, "2026-03-28", "2026-03-27T07:00:00Z"),
            (Product::Fcr, "2026-03-29", "2026-03-28T07:00:00Z"),
            (Product::Fcr, "2026-03-30", "2026-03-29T06:00:00Z"),
            (Product::Fcr, "2026-10-24", "2026-10-23T06:00:00Z"),
            (Product::Fcr, "2026-10-25", "2026-10-24T06:00:00Z"),
            (Product::Fcr, "2026-10-26", "2026-10-25T07:00:00Z"),
            (Product::AfrrUp, "2026-03-29", "2026-03-28T08:00:00Z"),
            (Product::AfrrUp, "2026-03-30", "2026-03-29T07:00:00Z"),
            (Product::AfrrDown, "2026-10-25", "2026-10-24T07:00:00Z"),
            (Product::AfrrDown, "2026-10-26", "2026-10-25T08:00:00Z"),
        ] {
            assert_eq!(gate_of(product, date), at(expected), "{product:?} {date}");
        }
    }

    #[test]
    fn results_follow_their_gates() {
        let day = day("2026-03-30");
        for (product, expected) in [
            (Product::Fcr, "2026-03-29T06:30:00Z"),
            (Product::AfrrUp, "2026-03-29T07:30:00Z"),
            (Product::DayAhead, "2026-03-29T10:45:00Z"),
        ] {
            let rule = Rules::built_in()
                .at(Area::De, product, day.start())
                .unwrap();
            assert_eq!(results(rule, day), at(expected));
        }
    }

    #[test]
    fn the_rolling_gate_of_afrr_energy_closes_25_minutes_before_the_quarter_hour() {
        let quarter = at("2026-01-10T10:00:00Z");
        let rule = Rules::built_in()
            .at(Area::De, Product::AfrrUp, quarter)
            .unwrap();
        let energy = rule.energy.as_ref().unwrap();
        assert_eq!(
            energy.gate().closes(quarter, rule.calendar_zone),
            at("2026-01-10T09:35:00Z")
        );
    }

    #[test]
    fn the_next_gate_is_the_first_that_is_still_open() {
        let rules = Rules::built_in();
        let before = next(rules, Area::Nl, Product::Fcr, at("2026-03-28T06:59:59Z")).unwrap();
        assert_eq!(
            (before.day, before.closes),
            (day("2026-03-29"), at("2026-03-28T07:00:00Z"))
        );
        let at_it = next(rules, Area::Nl, Product::Fcr, at("2026-03-28T07:00:00Z")).unwrap();
        assert_eq!(
            (at_it.day, at_it.closes),
            (day("2026-03-30"), at("2026-03-29T06:00:00Z"))
        );
        assert!(next(rules, Area::Th, Product::Fcr, at("2026-03-28T07:00:00Z")).is_err());
    }

    #[test]
    fn a_rule_that_is_no_wall_clock_is_refused() {
        for text in ["", "D-1", "12:00", "D-1 25:00", "E-1 12:00", "D-x 12:00"] {
            assert!(text.parse::<WallClock>().is_err(), "{text}");
        }
        assert_eq!(
            "D-1 12:00".parse::<WallClock>().unwrap().to_string(),
            "D-1 12:00"
        );
        assert_eq!("D 10:00".parse::<WallClock>().unwrap().days, 0);
    }
}
