//! What selling one MW of a reserve product obliges to hold: dated records, read once from `data/holdings.toml`.
//!
//! Reserves that are held at the same time add up in power and in energy (`markets.md` 4.3, 6.2, 7.1). The table holds every
//! product that a pool can stack, also those whose bids and settlement [`Rules`](crate::Rules) does not know.

use std::sync::LazyLock;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Deserialize;
use units::Interval;

use crate::Area;

/// What one direction asks per power sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Power an activation can deliver.
    pub delivered: Decimal,
    /// Power kept beside it for energy management, which no activation takes.
    pub management: Decimal,
    /// How long the delivered power must be sustained, seconds.
    pub endurance_seconds: u32,
}

/// One product in its areas over one period of validity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Where it is bought.
    pub areas: Vec<Area>,
    /// Name as in scenarios: `fcr`, `afrr_up`, `fcr_n`, `fcr_d_up`, `ffr`, `dc_low`, ...
    pub name: String,
    /// First local date of delivery under this record.
    pub valid_from: NaiveDate,
    /// First local date no longer under it.
    pub valid_to: Option<NaiveDate>,
    /// Zone of the delivery day.
    pub calendar_zone: Tz,
    /// Wall-clock length of a block, minutes; the block that holds a clock change is an hour shorter or longer.
    pub block_minutes: u32,
    /// How long before midnight the delivery day begins, minutes.
    #[serde(default)]
    pub begins_before_midnight_minutes: u32,
    /// What Up asks; `None` where the product never asks for less load.
    pub up: Option<Need>,
    /// What Down asks; `None` where the product never asks for more load.
    pub down: Option<Need>,
    /// Smallest volume, watts.
    pub minimum_watts: i64,
    /// Volumes are whole numbers of it, watts.
    pub step_watts: i64,
    /// Whether a bid may be taken in part.
    pub divisible: bool,
}

/// A table of holdings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldingsError {
    /// Not TOML of the expected shape.
    #[error("table of holdings does not read: {0}")]
    Shape(#[from] toml::de::Error),
    /// A record contradicts itself or another.
    #[error("{name} from {from}: {what}")]
    Record {
        /// Product of the record.
        name: String,
        /// Its first date.
        from: NaiveDate,
        /// What is wrong.
        what: &'static str,
    },
}

/// Every holding, in order of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holdings {
    holding: Vec<Holding>,
}

static BUILT_IN: LazyLock<Holdings> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the embedded table is read by a test of this crate"
    )]
    Holdings::from_toml(include_str!("../data/holdings.toml")).expect("the embedded table is valid")
});

impl Holdings {
    /// The table that ships with this version.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// A table from TOML text of the shape of `data/holdings.toml`.
    ///
    /// # Errors
    /// [`HoldingsError`] naming the record and what it contradicts.
    pub fn from_toml(text: &str) -> Result<Self, HoldingsError> {
        let table: Self = toml::from_str(text)?;
        for (index, record) in table.holding.iter().enumerate() {
            let clash = table.holding[..index]
                .iter()
                .any(|other| record.clashes(other));
            let wrong = record
                .contradiction()
                .or(clash.then_some("another record is valid then"));
            if let Some(what) = wrong {
                return Err(HoldingsError::Record {
                    name: record.name.clone(),
                    from: record.valid_from,
                    what,
                });
            }
        }
        Ok(table)
    }

    /// The record for delivery that starts at `start`; `None` where the product was not bought in that area then.
    #[must_use]
    pub fn at(&self, area: Area, name: &str, start: DateTime<Utc>) -> Option<&Holding> {
        self.holding
            .iter()
            .find(|h| h.name == name && h.areas.contains(&area) && h.holds_on(h.day_of(start)))
    }

    /// Every record.
    pub fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.holding.iter()
    }
}

impl Holding {
    fn holds_on(&self, date: NaiveDate) -> bool {
        self.valid_from <= date && self.valid_to.is_none_or(|to| date < to)
    }

    fn lead(&self) -> TimeDelta {
        TimeDelta::minutes(i64::from(self.begins_before_midnight_minutes))
    }

    /// Date of the delivery day that contains `at`.
    #[must_use]
    pub fn day_of(&self, at: DateTime<Utc>) -> NaiveDate {
        (at.with_timezone(&self.calendar_zone).naive_local() + self.lead()).date()
    }

    /// Blocks of the delivery day `date`, in order.
    #[must_use]
    pub fn blocks(&self, date: NaiveDate) -> Vec<Interval> {
        let length = TimeDelta::minutes(i64::from(self.block_minutes));
        let begin = date.and_time(NaiveTime::MIN) - self.lead();
        let Some(end) = date
            .checked_add_days(Days::new(1))
            .map(|d| d.and_time(NaiveTime::MIN) - self.lead())
        else {
            return Vec::new();
        };
        let mut edges = Vec::new();
        let mut wall = begin;
        while wall <= end {
            // A wall-clock edge that clocks skip is the instant of the change; one they repeat is its first, and for
            // blocks of an hour the repeated hour is a block of its own.
            let local = self.calendar_zone.from_local_datetime(&wall);
            let both = [local.earliest(), local.latest()];
            edges.extend(both.into_iter().flatten().map(|at| at.with_timezone(&Utc)));
            wall += length;
        }
        edges.sort_unstable();
        edges.dedup();
        let hour_blocks = self.block_minutes <= 60;
        if !hour_blocks {
            edges = edges_of_days(edges);
        }
        edges
            .windows(2)
            .filter_map(|pair| Interval::try_new(pair[0], pair[1]).ok())
            .collect()
    }

    fn clashes(&self, other: &Self) -> bool {
        let apart = self.valid_to.is_some_and(|to| to <= other.valid_from)
            || other.valid_to.is_some_and(|to| to <= self.valid_from);
        self.name == other.name && !apart && self.areas.iter().any(|a| other.areas.contains(a))
    }

    fn contradiction(&self) -> Option<&'static str> {
        let bad = |need: &Need| {
            need.delivered.is_sign_negative()
                || need.management.is_sign_negative()
                || (need.delivered + need.management).is_zero()
                || (need.delivered.is_zero() != (need.endurance_seconds == 0))
        };
        if self.up.is_none() && self.down.is_none() {
            return Some("asks for neither up nor down");
        }
        if self.up.iter().chain(&self.down).any(bad) {
            return Some(
                "delivered and management must be zero or more, not both zero, and endurance goes with delivered",
            );
        }
        if self.step_watts <= 0
            || self.minimum_watts <= 0
            || self.minimum_watts % self.step_watts != 0
        {
            return Some("minimum_watts must be a whole number of step_watts, both more than zero");
        }
        if self.block_minutes == 0 || 1440 % self.block_minutes != 0 {
            return Some("block_minutes does not divide the day");
        }
        if self.valid_to.is_some_and(|to| to <= self.valid_from) {
            return Some("valid_to is not after valid_from");
        }
        None
    }
}

/// Long blocks have no edge within a repeated hour.
fn edges_of_days(edges: Vec<DateTime<Utc>>) -> Vec<DateTime<Utc>> {
    let mut kept: Vec<DateTime<Utc>> = Vec::new();
    for edge in edges {
        if kept
            .last()
            .is_none_or(|last| edge - *last > TimeDelta::hours(1))
        {
            kept.push(edge);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    fn record(area: Area, name: &str, when: &str) -> &'static Holding {
        Holdings::built_in()
            .at(area, name, at(when))
            .expect("a record")
    }

    #[test]
    fn the_nordic_stack_has_the_rule_books_coefficients() {
        let (n, d) = (
            record(Area::Fi, "fcr_n", "2026-01-10T10:00:00Z"),
            record(Area::Fi, "fcr_d_up", "2026-01-10T10:00:00Z"),
        );
        let power = |need: Option<Need>| need.map_or(Decimal::ZERO, |n| n.delivered + n.management);
        assert_eq!((power(n.up) + power(d.up)).to_string(), "2.34");
        assert_eq!((power(n.down) + power(d.down)).to_string(), "1.54");
    }

    #[test]
    fn a_product_is_found_only_where_and_when_it_is_bought() {
        let table = Holdings::built_in();
        assert!(
            table
                .at(Area::De, "fcr_n", at("2026-01-10T10:00:00Z"))
                .is_none()
        );
        assert!(
            table
                .at(Area::Fi, "fcr_n", at("2023-08-31T21:59:00Z"))
                .is_none()
        );
        assert!(
            table
                .at(Area::Fi, "fcr_n", at("2023-08-31T22:00:00Z"))
                .is_some()
        );
        // The British day of 3 November 2023 begins at 23:00 on the 2nd.
        assert!(
            table
                .at(Area::Gb, "dc_low", at("2023-11-02T22:59:00Z"))
                .is_none()
        );
        assert!(
            table
                .at(Area::Gb, "dc_low", at("2023-11-02T23:00:00Z"))
                .is_some()
        );
    }

    #[test]
    fn blocks_fill_days_on_which_clocks_change() {
        let hours = |h: &Holding, day: &str| -> Vec<i64> {
            h.blocks(date(day))
                .iter()
                .map(|b| b.length().num_hours())
                .collect()
        };
        let fcr = record(Area::De, "fcr", "2026-01-10T10:00:00Z");
        assert_eq!(hours(fcr, "2026-03-28"), [4; 6]);
        assert_eq!(hours(fcr, "2026-03-29"), [3, 4, 4, 4, 4, 4]);
        assert_eq!(hours(fcr, "2026-10-25"), [5, 4, 4, 4, 4, 4]);
        let hourly = record(Area::Fi, "fcr_d_up", "2026-01-10T10:00:00Z");
        assert_eq!(hours(hourly, "2026-03-29"), [1; 23]);
        assert_eq!(hours(hourly, "2026-10-25"), [1; 25]);
        let dc = record(Area::Gb, "dc_low", "2026-01-10T10:00:00Z");
        assert_eq!(
            dc.blocks(date("2026-01-10"))[0].start(),
            at("2026-01-09T23:00:00Z")
        );
        assert_eq!(hours(dc, "2026-03-29"), [3, 4, 4, 4, 4, 4]);
        assert_eq!(hours(dc, "2026-10-25"), [5, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn a_record_that_contradicts_itself_or_another_is_refused_by_name() {
        let good = r#"[[holding]]
areas = ["FI"]
name = "ffr"
valid_from = "2020-05-01"
calendar_zone = "Europe/Brussels"
block_minutes = 60
up = { delivered = "1", management = "0", endurance_seconds = 30 }
minimum_watts = 1000000
step_watts = 100000
divisible = false
"#;
        assert!(Holdings::from_toml(good).is_ok());
        for (from, to) in [
            ("endurance_seconds = 30", "endurance_seconds = 0"),
            ("delivered = \"1\"", "delivered = \"-1\""),
            ("step_watts = 100000", "step_watts = 300000"),
            ("block_minutes = 60", "block_minutes = 7"),
            ("up = {", "extra = {"),
        ] {
            assert!(
                Holdings::from_toml(&good.replace(from, to)).is_err(),
                "{to}"
            );
        }
        let twice = Holdings::from_toml(&format!("{good}{good}"))
            .unwrap_err()
            .to_string();
        assert!(
            twice.contains("ffr") && twice.contains("another record"),
            "{twice}"
        );
    }
}
