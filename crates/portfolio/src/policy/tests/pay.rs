//! What awards are paid: the price of the bid or of the auction, as the rule book has it.

use super::*;

/// Ten cars that stay from half past midnight on each day, with one product on sale at `price(date of delivery)` per MW and
/// hour; days count from the first of the period.
fn cars(area: Area, product: Product, price: impl Fn(i64) -> f64) -> Case {
    let stays: Vec<Drawn> = (-PAST_DAYS..DAYS)
        .flat_map(|day| (0..10).map(move |car| (day, car)))
        .map(|(day, car)| all_day(day, car))
        .collect();
    let mut case = case(&stays, &prices(7), [f64::INFINITY, 1e6], true);
    case.area = area;
    let zone = area.exchange_zone();
    let first = start().with_timezone(&zone).date_naive();
    let mut blocks = blocks(&case, 0.0);
    for block in &mut blocks {
        let date = block.start.with_timezone(&zone).date_naive();
        block.price = price((date - first).num_days()) * block.hours();
    }
    case.reserves = vec![Reserve {
        product,
        power_factor: 1.0,
        endurance_hours: 1.0,
        blocks,
    }];
    case
}

/// 100 to 107 per MW and hour on the eight days before the period, in no order of price; `then` in the period.
fn history(then: f64) -> impl Fn(i64) -> f64 {
    move |day| {
        if day < 0 {
            100.0 + f64::from(u8::try_from((day * 3).rem_euclid(8)).unwrap())
        } else {
            then
        }
    }
}

/// Price paid and published of each block sold, per MW and hour.
fn awards(case: &Case, done: &crate::policy::Run) -> Vec<(f64, f64)> {
    let sold = done.sold_mw[0].iter().zip(&done.paid[0]);
    let blocks = case.reserves[0].on_sale().zip(sold);
    blocks
        .filter(|(_, (mw, _))| **mw > 0.0)
        .map(|((block, _), (_, paid))| (paid / block.hours(), block.price / block.hours()))
        .collect()
}

fn revenue(case: &Case, done: &crate::policy::Run) -> f64 {
    account(case, done).capacity_revenue.total()
}

#[test]
fn where_the_price_asked_is_paid_it_is_a_past_one_and_not_the_marginal_price() {
    for (area, product) in [
        (Area::De, Product::AfrrUp),
        (Area::De, Product::AfrrDown),
        (Area::Nl, Product::AfrrUp),
    ] {
        let case = cars(area, product, history(150.0));
        let done = run(&case, Policy::V2g).unwrap();
        let awards = awards(&case, &done);
        assert!(!awards.is_empty(), "{area:?}");
        // Before the first gate no price above 107 is known.
        let first = awards[0].0;
        assert!((99.9..107.1).contains(&first), "{area:?}: {first}");
        assert!(awards.iter().all(|a| a.0 <= a.1 + 1e-9));
        let paid: f64 = done.sold_mw[0]
            .iter()
            .zip(&done.paid[0])
            .map(|(mw, paid)| mw * paid)
            .sum();
        assert!((revenue(&case, &done) - paid).abs() < 1e-9);
    }
}

#[test]
fn where_all_are_paid_the_marginal_price_an_award_is_paid_it() {
    let case = cars(Area::Fr, Product::AfrrUp, history(150.0));
    let done = run(&case, Policy::V2g).unwrap();
    let awards = awards(&case, &done);
    assert!(!awards.is_empty());
    assert!(awards.iter().all(|a| (a.0 - 150.0).abs() < 1e-9));
}

#[test]
fn a_bid_that_asks_more_than_the_marginal_price_is_not_awarded() {
    let case = cars(Area::De, Product::AfrrUp, history(99.0));
    let done = run(&case, Policy::V2g).unwrap();
    let (first, later) = done.sold_mw[0].split_at(6);
    assert!(first.iter().all(|mw| *mw <= 0.0), "100 was always awarded");
    // Then one result says that 99 is surer.
    assert!(later.iter().any(|mw| *mw > 0.0));
    assert!(
        awards(&case, &done)
            .iter()
            .all(|a| (a.0 - 99.0).abs() < 1e-9)
    );
}

#[test]
fn who_sees_ahead_asks_the_marginal_price_and_is_paid_it() {
    let case = cars(Area::De, Product::AfrrUp, history(150.0));
    let done = run(&case, Policy::V2gPerfect).unwrap();
    let blocks = case.reserves[0].on_sale().zip(&done.sold_mw[0]);
    let published: f64 = blocks.map(|((block, _), mw)| block.price * mw).sum();
    assert!(published > 1.0);
    assert!((revenue(&case, &done) - published).abs() < 1e-9);
}

#[test]
fn no_result_is_known_before_it_is_out() {
    // From the second day of the period on the auction ends elsewhere, which nobody knows before its result.
    let then = |later: f64| move |day: i64| if day < 1 { history(150.0)(day) } else { later };
    let [a, b] = [150.0, 1500.0].map(|later| {
        let case = cars(Area::De, Product::AfrrUp, then(later));
        let done = run(&case, Policy::V2g).unwrap();
        (done.sold_mw[0].clone(), done.paid[0].clone())
    });
    assert!(
        a.0[6..12].iter().any(|mw| *mw > 0.0),
        "the second day is sold"
    );
    for block in 0..12 {
        assert_eq!(a.0[block].to_bits(), b.0[block].to_bits(), "block {block}");
        assert_eq!(a.1[block].to_bits(), b.1[block].to_bits(), "block {block}");
    }
    // Nor is that of the first day, whose gate closes before the period.
    let [a, b] = [150.0, 1500.0].map(|then| {
        let case = cars(Area::De, Product::AfrrUp, history(then));
        let done = run(&case, Policy::V2g).unwrap();
        (done.sold_mw[0][..6].to_vec(), done.paid[0][..6].to_vec())
    });
    assert_eq!(a, b);
    assert!(a.0.iter().any(|mw| *mw > 0.0), "the first day is sold");
}
