//! What a delivery day earned and cost, from awards, metered energy, prices and availability. Pure: the same inputs give the same
//! statement to the last decimal.
//!
//! ```text
//! position   |---- bought at the auction price ----|
//! metered    |---- taken ----|                          surplus -> long price
//! metered    |---- taken ---------------------|....|    missing -> short price
//! ```
//!
//! Energy of activated reserve is not corrected out of the deviation: it lands in the imbalance (`markets.md` 4.1, German rule).

mod capacity;
mod energy;
mod share;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Interval, Money, Power, Price};

use crate::position::Position;
use crate::rules::Rules;
use crate::statement::{Line, LineKind};
use crate::{Area, Award, AwardId, Clearing, Product, Statement};

/// Name of the account of the whole pool.
pub const POOL: &str = "pool";

/// Length of a settlement interval: a quarter hour in every European area.
pub const QUARTER: TimeDelta = TimeDelta::minutes(15);

/// Prices at which deviations of one interval settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImbalancePrice {
    /// When.
    pub interval: Interval,
    /// What a missing MWh costs.
    pub short: Price,
    /// What a surplus MWh earns.
    pub long: Price,
}

/// Metered energy of one account in one settlement interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered {
    /// Site.
    pub account: String,
    /// Quarter hour.
    pub interval: Interval,
    /// Net energy at the grid side; positive was taken.
    pub energy: Energy,
}

/// How much of one award stood ready in one settlement interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Award.
    pub award: AwardId,
    /// Quarter hour.
    pub interval: Interval,
    /// Sold power that was not there, at least zero.
    pub missing: Power,
    /// Sold power that was there and did not answer, at least zero.
    pub unresponsive: Power,
    /// Power each site held ready for it, at least zero: who backed the award.
    pub backing: BTreeMap<String, Power>,
}

/// Everything one delivery day settles from.
#[derive(Debug, Clone)]
pub struct Day<'a> {
    /// Where.
    pub area: Area,
    /// The delivery day.
    pub day: Interval,
    /// Settles what ended by then; the end of the day or later settles all of it.
    pub until: DateTime<Utc>,
    /// Version of the statements.
    pub version: u32,
    /// True if we took part in the day-ahead auction of this day. If not (its gate lay before our time), metered energy settles at the auction price
    /// and nothing deviates.
    pub auctioned: bool,
    /// Awards delivered on the day; others are ignored.
    pub awards: &'a [Award],
    /// Published prices.
    pub clearings: &'a [Clearing],
    /// Imbalance prices.
    pub imbalance: &'a [ImbalancePrice],
    /// Metered energy per site and quarter hour.
    pub metered: &'a [Metered],
    /// Availability per award and quarter hour. An interval of an award without a record counts as not available: there is no evidence.
    pub availability: &'a [Availability],
}

/// An input that was not there, so that an interval is settled in part only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// No auction price for metered energy.
    AuctionPrice(Interval),
    /// No imbalance price for a deviation.
    ImbalancePrice(Interval),
    /// No metered energy at all for a traded interval.
    Metered(Interval),
}

/// Statements of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The pool.
    pub pool: Statement,
    /// The sites, by name. Line by line they add up to the pool exactly.
    pub sites: Vec<Statement>,
    /// What was missing, in order of time.
    pub gaps: Vec<Gap>,
}

impl Settled {
    /// The pool and then the sites.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        std::iter::once(&self.pool).chain(&self.sites)
    }
}

/// Settles one delivery day.
#[must_use]
pub fn settle(rules: &Rules, day: &Day<'_>) -> Settled {
    let mut book = Book::new(day);
    energy::settle(day, &mut book);
    capacity::settle(rules, day, &mut book);
    book.close(day)
}

/// Lines of the pool and of every site while a day is being settled.
struct Book {
    accounts: Vec<String>,
    pool: Vec<Line>,
    sites: Vec<Vec<Line>>,
    gaps: Vec<Gap>,
    /// Energy moved in either direction over the day, joules, per account: the last resort for sharing.
    moved: Vec<i64>,
}

/// One line before it is shared.
struct Entry {
    kind: LineKind,
    product: Product,
    interval: Interval,
    energy: Energy,
    amount: Money,
}

impl Book {
    fn new(day: &Day<'_>) -> Self {
        let mut moved: BTreeMap<&str, i64> = BTreeMap::new();
        for m in day
            .metered
            .iter()
            .filter(|m| day.day.overlap(m.interval).is_some())
        {
            *moved.entry(&m.account).or_default() += m.energy.joules().abs();
        }
        for account in day.availability.iter().flat_map(|a| a.backing.keys()) {
            moved.entry(account).or_default();
        }
        let accounts: Vec<String> = moved.keys().map(|a| (*a).to_owned()).collect();
        Self {
            sites: vec![Vec::new(); accounts.len()],
            moved: moved.into_values().collect(),
            accounts,
            pool: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Books `entry` for the pool and shares its energy as given and its amount by `weights`, one per account.
    fn post(&mut self, entry: &Entry, energies: &[i64], weights: &[i64]) {
        let amount = entry.amount.amount().round_dp(share::DECIMALS).normalize();
        if entry.energy == Energy::ZERO && amount.is_zero() {
            return;
        }
        let currency = entry.amount.currency();
        let line = |energy, amount| Line {
            kind: entry.kind,
            product: entry.product,
            interval: entry.interval,
            energy,
            amount: Money::new(amount, currency),
        };
        self.pool.push(line(entry.energy, amount));
        let amounts = share::split_amount(amount, weights);
        for ((site, energy), amount) in self.sites.iter_mut().zip(energies).zip(amounts) {
            site.push(line(Energy::from_joules(*energy), amount));
        }
    }

    fn close(self, day: &Day<'_>) -> Settled {
        let statement = |account: String, lines: Vec<Line>| {
            let mut lines: Vec<Line> = lines
                .into_iter()
                .filter(|l| l.energy != Energy::ZERO || !l.amount.amount().is_zero())
                .collect();
            lines.sort_by_key(|l| (l.interval.start(), l.kind, l.product, l.interval.end()));
            let total = lines
                .iter()
                .fold(Money::zero(day.area.currency()), |sum, line| {
                    sum + line.amount
                });
            Statement {
                account,
                area: day.area,
                day: day.day,
                version: day.version,
                lines,
                total,
            }
        };
        let mut gaps = self.gaps;
        gaps.sort();
        gaps.dedup();
        Settled {
            pool: statement(POOL.to_owned(), self.pool),
            sites: self
                .accounts
                .into_iter()
                .zip(self.sites)
                .map(|(account, lines)| statement(account, lines))
                .collect(),
            gaps,
        }
    }
}

fn position_of(day: &Day<'_>) -> Position {
    let mut position = Position::default();
    for award in day
        .awards
        .iter()
        .filter(|a| a.area == day.area && a.delivery.overlap(day.day).is_some())
    {
        position.apply(award.clone());
    }
    position
}
