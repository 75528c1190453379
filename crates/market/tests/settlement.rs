//! Settlement of whole days: laws over random days, and a statement to the last decimal.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use market::settlement::{Availability, Day, Gap, ImbalancePrice, Metered, QUARTER, settle};
use market::statement::LineKind;
use market::{Area, Award, AwardId, BidId, Clearing, Direction, Product, Rules};
use proptest::prelude::*;
use rust_decimal::Decimal;
use units::{Currency, DeliveryDay, Energy, Interval, Money, Power, Price};
use uuid::Uuid;

fn eur(text: &str) -> Price {
    Price::new(text.parse().unwrap(), Currency::Eur)
}

fn day() -> DeliveryDay {
    DeliveryDay::try_new("2026-01-10".parse().unwrap(), chrono_tz::Europe::Brussels).unwrap()
}

fn quarter(n: i64) -> Interval {
    let start = day().start() + QUARTER * i32::try_from(n).unwrap();
    Interval::try_new(start, start + QUARTER).unwrap()
}

fn award(
    n: u128,
    product: Product,
    direction: Direction,
    delivery: Interval,
    watts: i64,
    price: &str,
) -> Award {
    Award {
        id: AwardId(Uuid::from_u128(n)),
        bid: BidId(Uuid::from_u128(n)),
        area: Area::Nl,
        product,
        direction,
        delivery,
        volume: Power::from_watts(watts),
        price: eur(price),
        awarded_at: day().start(),
    }
}

fn metered(account: &str, n: i64, kwh: f64) -> Metered {
    Metered {
        account: account.to_owned(),
        interval: quarter(n),
        energy: Energy::from_kwh(kwh),
    }
}

fn imbalance(n: i64, short: &str, long: &str) -> ImbalancePrice {
    ImbalancePrice {
        interval: quarter(n),
        short: eur(short),
        long: eur(long),
    }
}

fn clearing(n: i64, price: &str) -> Clearing {
    Clearing {
        area: Area::Nl,
        product: Product::DayAhead,
        delivery: quarter(n),
        price: eur(price),
        published_at: day().start(),
    }
}

fn input<'a>(
    awards: &'a [Award],
    metered: &'a [Metered],
    imbalance: &'a [ImbalancePrice],
) -> Day<'a> {
    Day {
        area: Area::Nl,
        day: day().interval(),
        until: day().end(),
        version: 1,
        auctioned: true,
        awards,
        clearings: &[],
        imbalance,
        metered,
        availability: &[],
    }
}

fn sum(lines: &[market::statement::Line], kind: LineKind) -> Decimal {
    lines
        .iter()
        .filter(|l| l.kind == kind)
        .map(|l| l.amount.amount())
        .sum()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

#[test]
fn the_position_settles_at_the_auction_and_the_rest_at_imbalance_prices() {
    let awards = [award(
        1,
        Product::DayAhead,
        Direction::Down,
        quarter(0),
        400_000,
        "80",
    )];
    let prices = [imbalance(0, "120", "30")];
    let more = [metered("a", 0, 150.0)];
    let short = settle(Rules::built_in(), &input(&awards, &more, &prices));
    assert_eq!(
        sum(&short.pool.lines, LineKind::Energy),
        decimal("-8"),
        "0.1 MWh at 80"
    );
    assert_eq!(
        sum(&short.pool.lines, LineKind::Imbalance),
        decimal("-6"),
        "0.05 MWh missing at 120"
    );
    let less = [metered("a", 0, 50.0)];
    let long = settle(Rules::built_in(), &input(&awards, &less, &prices));
    assert_eq!(
        sum(&long.pool.lines, LineKind::Imbalance),
        decimal("1.5"),
        "0.05 MWh over at 30"
    );
    assert_eq!(long.pool.total, Money::new(decimal("-6.5"), Currency::Eur));
}

#[test]
fn a_day_whose_gate_lay_before_our_time_settles_at_the_auction_price() {
    let taken = [metered("a", 4, 100.0), metered("b", 4, -20.0)];
    let clearings = [clearing(4, "50")];
    let mut day = input(&[], &taken, &[]);
    day.auctioned = false;
    day.clearings = &clearings;
    let settled = settle(Rules::built_in(), &day);
    assert_eq!(settled.pool.total.amount(), decimal("-4"));
    assert_eq!(settled.sites[0].total.amount(), decimal("-5"));
    assert_eq!(settled.sites[1].total.amount(), decimal("1"));
    assert!(settled.gaps.is_empty());
}

#[test]
fn what_is_not_known_is_named_and_not_settled() {
    let awards = [award(
        1,
        Product::DayAhead,
        Direction::Down,
        quarter(0),
        400_000,
        "80",
    )];
    let none = settle(Rules::built_in(), &input(&awards, &[], &[]));
    assert_eq!(none.gaps, vec![Gap::Metered(quarter(0))]);
    let unpriced = [metered("a", 1, 5.0)];
    let settled = settle(Rules::built_in(), &input(&[], &unpriced, &[]));
    assert_eq!(settled.gaps, vec![Gap::ImbalancePrice(quarter(1))]);
    assert_eq!(settled.pool.total.amount(), Decimal::ZERO);
}

fn block() -> Interval {
    Interval::try_new(day().start(), day().start() + TimeDelta::hours(4)).unwrap()
}

fn available(
    n: i64,
    missing_kw: f64,
    unresponsive_kw: f64,
    backing: &[(&str, f64)],
) -> Availability {
    Availability {
        award: AwardId(Uuid::from_u128(1)),
        interval: quarter(n),
        missing: Power::from_kw(missing_kw),
        unresponsive: Power::from_kw(unresponsive_kw),
        backing: backing
            .iter()
            .map(|(a, kw)| ((*a).to_owned(), Power::from_kw(*kw)))
            .collect::<BTreeMap<_, _>>(),
    }
}

#[test]
fn capacity_pays_for_the_block_and_missing_reserve_costs_the_operators_factor() {
    let awards = [award(
        1,
        Product::Fcr,
        Direction::Symmetric,
        block(),
        2_000_000,
        "40",
    )];
    let mut records: Vec<Availability> = (0..16)
        .map(|n| available(n, 0.0, 0.0, &[("a", 3.0), ("b", 1.0)]))
        .collect();
    records[3].missing = Power::from_kw(500.0);
    records[5].unresponsive = Power::from_kw(100.0);
    let mut day = input(&awards, &[], &[]);
    day.availability = &records;
    let settled = settle(Rules::built_in(), &day);
    assert_eq!(
        sum(&settled.pool.lines, LineKind::Capacity),
        decimal("80"),
        "2 MW at 40 per block"
    );
    // 10 per MW and hour; Dutch factors 5 and 20: 5*10*0.5*0.25 + 20*10*0.1*0.25
    assert_eq!(
        sum(&settled.pool.lines, LineKind::Penalty),
        decimal("-11.25")
    );
    assert_eq!(
        sum(&settled.sites[0].lines, LineKind::Capacity),
        decimal("60"),
        "site a held three quarters"
    );
}

#[test]
fn a_provisional_statement_pays_capacity_for_what_is_over() {
    let awards = [award(
        1,
        Product::AfrrUp,
        Direction::Up,
        block(),
        1_000_000,
        "40",
    )];
    let records: Vec<Availability> = (0..4).map(|n| available(n, 0.0, 0.0, &[])).collect();
    let mut day = input(&awards, &[], &[]);
    day.availability = &records;
    day.until = quarter(4).start() + TimeDelta::minutes(7);
    let settled = settle(Rules::built_in(), &day);
    assert_eq!(
        settled.pool.total.amount(),
        decimal("10"),
        "one of four hours"
    );
}

#[test]
fn reserve_without_evidence_is_not_paid() {
    let awards = [award(
        1,
        Product::AfrrUp,
        Direction::Up,
        block(),
        1_000_000,
        "40",
    )];
    let settled = settle(Rules::built_in(), &input(&awards, &[], &[]));
    assert_eq!(
        settled.pool.total.amount(),
        Decimal::ZERO,
        "capacity less a penalty of factor one"
    );
}

fn random_day() -> impl Strategy<
    Value = (
        Vec<Award>,
        Vec<Metered>,
        Vec<ImbalancePrice>,
        Vec<Availability>,
    ),
> {
    let bought = prop::collection::vec((-4_i64..5, -9_999_i64..20_000), 96);
    let taken = prop::collection::vec(
        (0_usize..7, 0_i64..96, -300_000_000_i64..900_000_000),
        0..400,
    );
    let prices = prop::collection::vec((-9_999_i64..90_000, -9_999_i64..90_000), 96);
    let held = prop::collection::vec(
        (0_i64..1_500_000, 0_i64..500_000, 0_usize..7, 0_i64..900_000),
        16,
    );
    (bought, taken, prices, held).prop_map(|(bought, taken, prices, held)| {
        let cents = |c: i64| Price::new(Decimal::new(c, 2), Currency::Eur);
        let mut awards: Vec<Award> = (0..)
            .zip(&bought)
            .filter(|(_, (steps, _))| *steps != 0)
            .map(|(n, (steps, price))| {
                let direction = if *steps > 0 {
                    Direction::Down
                } else {
                    Direction::Up
                };
                let mut a = award(
                    u128::try_from(n).unwrap() + 10,
                    Product::DayAhead,
                    direction,
                    quarter(n),
                    steps.abs() * 100_000,
                    "0",
                );
                a.price = cents(*price);
                a
            })
            .collect();
        awards.push(award(
            1,
            Product::Fcr,
            Direction::Symmetric,
            block(),
            1_000_000,
            "37.31",
        ));
        let metered = taken
            .into_iter()
            .map(|(site, n, joules)| Metered {
                account: format!("site-{site}"),
                interval: quarter(n),
                energy: Energy::from_joules(joules),
            })
            .collect();
        let imbalance = (0..)
            .zip(prices)
            .map(|(n, (short, long))| ImbalancePrice {
                interval: quarter(n),
                short: cents(short),
                long: cents(long),
            })
            .collect();
        let records = (0..)
            .zip(held)
            .map(|(n, (missing, slow, site, backing))| Availability {
                award: AwardId(Uuid::from_u128(1)),
                interval: quarter(n),
                missing: Power::from_watts(missing),
                unresponsive: Power::from_watts(slow),
                backing: BTreeMap::from([(format!("site-{site}"), Power::from_watts(backing))]),
            })
            .collect();
        (awards, metered, imbalance, records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn sites_add_up_to_the_pool_by_kind_interval_and_total((awards, metered, imbalance, records) in random_day()) {
        let mut day = input(&awards, &metered, &imbalance);
        day.availability = &records;
        let settled = settle(Rules::built_in(), &day);
        prop_assume!(!settled.sites.is_empty());
        let total: Decimal = settled.sites.iter().map(|s| s.total.amount()).sum();
        prop_assert_eq!(total, settled.pool.total.amount());
        let mut by_line: BTreeMap<_, (i64, Decimal)> = BTreeMap::new();
        for line in settled.sites.iter().flat_map(|s| &s.lines) {
            let entry = by_line.entry((line.kind, line.product, line.interval)).or_default();
            entry.0 += line.energy.joules();
            entry.1 += line.amount.amount();
        }
        for line in &settled.pool.lines {
            let got = by_line.get(&(line.kind, line.product, line.interval)).copied().unwrap_or_default();
            prop_assert_eq!(got, (line.energy.joules(), line.amount.amount()));
        }
    }

    #[test]
    fn energy_and_imbalance_lines_add_up_to_what_was_metered((awards, metered, imbalance, _) in random_day()) {
        let settled = settle(Rules::built_in(), &input(&awards, &metered, &imbalance));
        let settled_at: Vec<_> = metered.iter().map(|m| m.interval).collect();
        let lines = settled.pool.lines.iter().filter(|l| settled_at.contains(&l.interval));
        let settled_joules: i64 = lines.filter(|l| l.kind != LineKind::Capacity && l.kind != LineKind::Penalty).map(|l| l.energy.joules()).sum();
        prop_assert_eq!(settled_joules, metered.iter().map(|m| m.energy.joules()).sum::<i64>());
    }

    #[test]
    fn the_order_of_inputs_does_not_matter((awards, metered, imbalance, records) in random_day()) {
        let mut day = input(&awards, &metered, &imbalance);
        day.availability = &records;
        let forward = settle(Rules::built_in(), &day);
        let (mut a, mut m, mut i, mut r) = (awards.clone(), metered.clone(), imbalance.clone(), records.clone());
        a.reverse();
        m.reverse();
        i.reverse();
        r.reverse();
        let mut day = input(&a, &m, &i);
        day.availability = &r;
        prop_assert_eq!(settle(Rules::built_in(), &day), forward);
    }
}

/// The statement as people outside read it. To accept a changed one, set `UPDATE_GOLDEN` at compile time and review the difference.
#[test]
fn the_golden_statement_is_found_again() {
    let awards = [
        award(
            10,
            Product::DayAhead,
            Direction::Down,
            quarter(0),
            400_000,
            "81.37",
        ),
        award(
            11,
            Product::DayAhead,
            Direction::Up,
            quarter(1),
            100_000,
            "145.02",
        ),
        award(
            1,
            Product::Fcr,
            Direction::Symmetric,
            block(),
            1_000_000,
            "37.31",
        ),
    ];
    let taken = [
        metered("garage-1", 0, 61.234),
        metered("garage-2", 0, 30.111),
        metered("depot", 0, 12.003),
        metered("garage-1", 1, -14.5),
        metered("garage-2", 1, -14.9),
        metered("depot", 1, 3.333),
    ];
    let prices = [imbalance(0, "143.11", "12.4"), imbalance(1, "200", "-7.77")];
    let mut records: Vec<Availability> = (0..4)
        .map(|n| {
            available(
                n,
                0.0,
                0.0,
                &[("garage-1", 700.0), ("garage-2", 299.0), ("depot", 1.0)],
            )
        })
        .collect();
    records[2].missing = Power::from_kw(123.0);
    let mut day = input(&awards, &taken, &prices);
    day.availability = &records;
    day.until = quarter(4).start();
    let settled = settle(Rules::built_in(), &day);
    let statements: Vec<_> = settled.statements().collect();
    let text = serde_json::to_string_pretty(&statements).unwrap() + "\n";
    if option_env!("UPDATE_GOLDEN").is_some() {
        std::fs::write("tests/golden/statement.json", &text).unwrap();
    }
    assert_eq!(text, include_str!("golden/statement.json"));
}

#[test]
fn an_instant_outside_the_day_settles_nothing() {
    let before: DateTime<Utc> = day().start() - TimeDelta::minutes(15);
    let outside = [Metered {
        account: "a".to_owned(),
        interval: Interval::try_new(before, day().start()).unwrap(),
        energy: Energy::from_kwh(5.0),
    }];
    let settled = settle(Rules::built_in(), &input(&[], &outside, &[]));
    assert!(settled.pool.lines.is_empty() && settled.sites.is_empty());
}
