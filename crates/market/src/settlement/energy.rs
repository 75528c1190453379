//! Energy: the position at the auction price, the deviation at the imbalance price.

use std::collections::BTreeMap;

use units::{Energy, Interval, Money};

use super::{Book, Day, Entry, Gap, Position, QUARTER, position_of, share};
use crate::Product;
use crate::position::signed_power;
use crate::statement::LineKind;

pub(super) fn settle(day: &Day<'_>, book: &mut Book) {
    let position = position_of(day);
    let metered = by_interval(day, book);
    let quarters = day
        .day
        .steps(QUARTER)
        .filter_map(|s| Interval::try_new(s, s + QUARTER).ok());
    for quarter in quarters.filter(|q| q.end() <= day.until) {
        let taken = metered.get(&quarter);
        if day.auctioned {
            traded(day, book, &position, quarter, taken);
        } else if let Some(taken) = taken {
            untraded(day, book, quarter, taken);
        }
    }
}

/// Metered joules per quarter hour, one entry per account.
fn by_interval(day: &Day<'_>, book: &Book) -> BTreeMap<Interval, Vec<i64>> {
    let mut metered: BTreeMap<Interval, Vec<i64>> = BTreeMap::new();
    for m in day.metered {
        if let Ok(i) = book.accounts.binary_search(&m.account) {
            let row = metered
                .entry(m.interval)
                .or_insert_with(|| vec![0; book.accounts.len()]);
            row[i] += m.energy.joules();
        }
    }
    metered
}

/// No position existed: metered energy settles at the auction price.
fn untraded(day: &Day<'_>, book: &mut Book, quarter: Interval, taken: &[i64]) {
    let total = Energy::from_joules(taken.iter().sum());
    let price = day.clearings.iter().find(|c| {
        c.area == day.area && c.product == Product::DayAhead && c.delivery.contains(quarter.start())
    });
    let Some(price) = price.map(|c| c.price) else {
        book.gaps.push(Gap::AuctionPrice(quarter));
        return;
    };
    let entry = Entry {
        kind: LineKind::Energy,
        product: Product::DayAhead,
        interval: quarter,
        energy: total,
        amount: price.pay_for(total),
    };
    post_by_energy(book, &entry, taken);
}

/// The position at its price, and what was metered beside it at the imbalance price.
fn traded(
    day: &Day<'_>,
    book: &mut Book,
    position: &Position,
    quarter: Interval,
    taken: Option<&Vec<i64>>,
) {
    let bought = position.traded_energy(quarter);
    let accounts = book.accounts.len();
    let none = vec![0; accounts];
    let taken_by = taken.unwrap_or(&none);
    let total: i64 = taken_by.iter().sum();
    // Every site is given what it took, and its share of the deviation by how much it moved.
    let moved: Vec<i64> = taken_by.iter().map(|j| j.abs()).collect();
    let weights = if moved.iter().all(|m| *m == 0) {
        book.moved.clone()
    } else {
        moved
    };
    let deviation = if taken.is_some() {
        total - bought.joules()
    } else {
        0
    };
    let off = share::split(deviation, &weights);
    let held: Vec<i64> = if taken.is_some() {
        taken_by
            .iter()
            .zip(&off)
            .map(|(taken, off)| taken - off)
            .collect()
    } else {
        share::split(bought.joules(), &weights)
    };
    let entry = Entry {
        kind: LineKind::Energy,
        product: Product::DayAhead,
        interval: quarter,
        energy: bought,
        amount: price_of_position(day, position, quarter),
    };
    post_by_energy(book, &entry, &held);
    if taken.is_none() {
        if bought != Energy::ZERO {
            book.gaps.push(Gap::Metered(quarter));
        }
        return;
    }
    deviate(day, book, quarter, Energy::from_joules(deviation), &off);
}

fn deviate(day: &Day<'_>, book: &mut Book, quarter: Interval, deviation: Energy, off: &[i64]) {
    if deviation == Energy::ZERO {
        return;
    }
    let Some(prices) = day
        .imbalance
        .iter()
        .find(|p| p.interval.contains(quarter.start()))
    else {
        book.gaps.push(Gap::ImbalancePrice(quarter));
        return;
    };
    // More taken than bought is energy that was missing: short.
    let price = if deviation > Energy::ZERO {
        prices.short
    } else {
        prices.long
    };
    let entry = Entry {
        kind: LineKind::Imbalance,
        product: Product::DayAhead,
        interval: quarter,
        energy: deviation,
        amount: price.pay_for(deviation),
    };
    post_by_energy(book, &entry, off);
}

fn price_of_position(day: &Day<'_>, position: &Position, quarter: Interval) -> Money {
    position
        .awards()
        .filter_map(|award| {
            let overlap = award.delivery.overlap(quarter)?;
            Some(
                award
                    .price
                    .pay_for(signed_power(award).over(overlap.length())),
            )
        })
        .fold(Money::zero(day.area.currency()), |sum, amount| sum + amount)
}

/// Shares the amount by energy; where energies cancel, by how much each account moved over the day.
fn post_by_energy(book: &mut Book, entry: &Entry, energies: &[i64]) {
    let cancels = energies.iter().sum::<i64>() == 0;
    let weights = if cancels {
        book.moved.clone()
    } else {
        energies.to_vec()
    };
    book.post(entry, energies, &weights);
}
