//! Reserve: capacity pro rata of time, less what was missing or did not answer.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use units::{Energy, Interval, Money, Power};

use super::{Availability, Book, Day, Entry, QUARTER, position_of};
use crate::Award;
use crate::rules::{PenaltyRule, Rules};
use crate::statement::LineKind;

pub(super) fn settle(rules: &Rules, day: &Day<'_>, book: &mut Book) {
    let position = position_of(day);
    for award in position.awards().filter(|a| a.product.is_reserve()) {
        let Some(delivered) = delivered(day, award) else {
            continue;
        };
        let weights = backing(day, book, award);
        let energies = vec![0; book.accounts.len()];
        let mut post = |kind, interval, amount: Decimal| {
            let entry = Entry {
                kind,
                product: award.product,
                interval,
                energy: Energy::ZERO,
                amount: Money::new(amount, award.price.currency()),
            };
            book.post(&entry, &energies, &weights);
        };
        let earned = per_mw_hour(award) * mw(award.volume) * hours(delivered);
        post(LineKind::Capacity, delivered, earned);
        let factors = rules
            .at(award.area, award.product, award.delivery.start())
            .ok()
            .and_then(|rule| rule.penalty)
            .unwrap_or(PenaltyRule {
                unavailable_factor: 1,
                no_response_factor: 1,
                repeated: None,
                qualification: None,
            });
        for quarter in quarters(delivered, day.until) {
            post(
                LineKind::Penalty,
                quarter,
                -penalty(day, award, quarter, factors),
            );
        }
    }
}

/// The part of the delivery that lies in the day and is over.
fn delivered(day: &Day<'_>, award: &Award) -> Option<Interval> {
    let part = award.delivery.overlap(day.day)?;
    let mut end = part.start();
    while end + QUARTER <= part.end().min(day.until) {
        end += QUARTER;
    }
    Interval::try_new(part.start(), end).ok()
}

fn quarters(delivered: Interval, until: DateTime<Utc>) -> impl Iterator<Item = Interval> {
    delivered
        .steps(QUARTER)
        .filter_map(|s| Interval::try_new(s, s + QUARTER).ok())
        .filter(move |q| q.end() <= until)
}

/// What one quarter hour of an award costs in penalties, at least zero. Without a record all of it counts as not available.
fn penalty(day: &Day<'_>, award: &Award, quarter: Interval, factors: PenaltyRule) -> Decimal {
    let record = record(day, award, quarter);
    let missing = record.map_or(award.volume, |r| r.missing.min(award.volume));
    let unresponsive = record.map_or(Power::ZERO, |r| r.unresponsive.min(award.volume - missing));
    let weighted = mw(missing) * Decimal::from(factors.unavailable_factor)
        + mw(unresponsive) * Decimal::from(factors.no_response_factor);
    per_mw_hour(award).abs() * weighted * hours(quarter)
}

fn record<'a>(day: &Day<'a>, award: &Award, quarter: Interval) -> Option<&'a Availability> {
    day.availability
        .iter()
        .find(|a| a.award == award.id && a.interval == quarter)
}

/// Watts that each account held ready over the award's quarter hours; how much it moved if nobody held anything.
fn backing(day: &Day<'_>, book: &Book, award: &Award) -> Vec<i64> {
    let mut held = vec![0; book.accounts.len()];
    for record in day.availability.iter().filter(|a| a.award == award.id) {
        for (account, power) in &record.backing {
            if let Ok(i) = book.accounts.binary_search(account) {
                held[i] += power.watts().max(0);
            }
        }
    }
    if held.iter().all(|h| *h == 0) {
        book.moved.clone()
    } else {
        held
    }
}

fn per_mw_hour(award: &Award) -> Decimal {
    award.price.per_unit() / hours(award.delivery)
}

fn mw(power: Power) -> Decimal {
    Decimal::new(power.watts(), 6)
}

fn hours(interval: Interval) -> Decimal {
    Decimal::from(interval.length().num_seconds()) / Decimal::from(3_600)
}
