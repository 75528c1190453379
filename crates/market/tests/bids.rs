//! Bids against the rules, each rule broken once.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use chrono::{DateTime, TimeDelta, Utc};
use market::{Area, Bid, BidError, BidStatus, Direction, Offer, Product, Rules};
use rust_decimal::Decimal;
use units::{Currency, Power, Price};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn eur(text: &str) -> Price {
    Price::new(text.parse().unwrap(), Currency::Eur)
}

/// One megawatt of FCR in the night block of 11 January 2026, whose gate closes on the 10th at 07:00Z.
fn offer() -> Offer {
    Offer {
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery_start: at("2026-01-10T23:00:00Z"),
        volume: Power::from_mw(1.0),
        price: Some(eur("35.5")),
        divisible: true,
        revision: 0,
        delivery_probability: 0.95,
        reason: "spare headroom of the night".to_owned(),
    }
}

fn built(change: impl FnOnce(&mut Offer)) -> Result<Bid, BidError> {
    let mut offer = offer();
    change(&mut offer);
    Bid::try_new(Rules::built_in(), offer, at("2026-01-10T06:30:00Z"))
}

#[test]
fn a_good_offer_becomes_a_draft_with_the_same_name_every_time() {
    let bid = built(|_| ()).unwrap();
    assert_eq!(bid.status, BidStatus::Draft);
    assert_eq!(bid.gate_closes, at("2026-01-10T07:00:00Z"));
    assert_eq!(bid.delivery.length(), TimeDelta::hours(4));
    assert_eq!(
        bid.id,
        built(|o| o.volume = Power::from_mw(2.0)).unwrap().id
    );
    assert_ne!(bid.id, built(|o| o.revision = 1).unwrap().id);
}

#[test]
fn volumes_hold_to_minimum_and_step() {
    assert!(matches!(
        built(|o| o.volume = Power::from_kw(900.0)),
        Err(BidError::BelowMinimum { .. })
    ));
    assert!(matches!(
        built(|o| o.volume = Power::from_mw(-1.0)),
        Err(BidError::BelowMinimum { .. })
    ));
    assert!(matches!(
        built(|o| o.volume = Power::from_mw(1.5)),
        Err(BidError::OffStep { .. })
    ));
    let whole = |mw: f64| {
        built(|o| {
            o.volume = Power::from_mw(mw);
            o.divisible = false;
        })
    };
    assert!(whole(25.0).is_ok());
    assert!(matches!(whole(26.0), Err(BidError::Indivisible { .. })));
}

#[test]
fn a_bid_at_the_very_instant_of_the_gate_is_late() {
    let rules = Rules::built_in();
    let bid = built(|_| ()).unwrap();
    let gate = at("2026-01-10T07:00:00Z");
    assert_eq!(bid.check(rules, gate - TimeDelta::milliseconds(1)), Ok(()));
    assert_eq!(
        bid.check(rules, gate),
        Err(BidError::GateClosed {
            closed_at: gate,
            now: gate
        })
    );
    let early = at("2025-12-01T00:00:00Z");
    assert!(matches!(
        bid.check(rules, early),
        Err(BidError::GateNotOpen { .. })
    ));
}

#[test]
fn delivery_must_be_one_of_the_products_own() {
    assert!(matches!(
        built(|o| o.delivery_start = at("2026-01-11T00:00:00Z")),
        Err(BidError::WrongBlock { .. })
    ));
    assert!(matches!(
        built(|o| o.area = Area::Th),
        Err(BidError::NoRule(_))
    ));
    assert!(matches!(
        built(|o| o.direction = Direction::Up),
        Err(BidError::WrongDirection { .. })
    ));
}

#[test]
fn prices_hold_to_limits_step_and_currency() {
    assert!(matches!(
        built(|o| o.price = Some(eur("-1"))),
        Err(BidError::OutsidePriceLimits { .. })
    ));
    assert!(matches!(
        built(|o| o.price = Some(eur("1.005"))),
        Err(BidError::OffPriceStep { .. })
    ));
    let pounds = Some(Price::new(Decimal::ONE, Currency::Gbp));
    assert!(matches!(
        built(|o| o.price = pounds),
        Err(BidError::WrongCurrency { .. })
    ));
    assert!(built(|o| o.price = None).is_ok());
    let energy = |price: &str| {
        built(|o| {
            o.product = Product::DayAhead;
            o.direction = Direction::Down;
            o.volume = Power::from_kw(300.0);
            o.price = Some(eur(price));
        })
    };
    assert!(energy("4000").is_ok() && energy("-500").is_ok());
    assert!(matches!(
        energy("4000.01"),
        Err(BidError::OutsidePriceLimits { .. })
    ));
    assert!(matches!(
        energy("-500.01"),
        Err(BidError::OutsidePriceLimits { .. })
    ));
}

#[test]
fn a_probability_is_a_probability() {
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(
            built(|o| o.delivery_probability = p),
            Err(BidError::Probability(_))
        ));
    }
}

#[test]
fn every_record_of_the_table_stands_for_itself() {
    let rules = Rules::built_in();
    assert!(rules.iter().count() >= 20);
    for rule in rules.iter() {
        assert_eq!(
            rules.at(rule.area, rule.product, rule.valid_from).unwrap(),
            rule
        );
    }
    let changed = at("2025-09-30T22:00:00Z");
    let unit = |at| rules.at(Area::De, Product::DayAhead, at).unwrap().delivery;
    assert_ne!(unit(changed - TimeDelta::seconds(1)), unit(changed));
    assert!(
        rules
            .at(Area::De, Product::Fcr, at("2019-01-01T00:00:00Z"))
            .is_err()
    );
}

#[test]
fn a_table_that_contradicts_itself_is_refused() {
    let table = include_str!("../data/products.toml");
    for (from, to) in [
        ("valid_to = \"2025-10-01\"", "valid_to = \"2025-10-02\""),
        ("step_watts = 100_000", "step_watts = 0"),
        ("minimum_watts = 100_000", "minimum_watts = 150_000"),
        ("block_hours = 4", "block_hours = 5"),
        ("blocks = 20", "blocks = 0"),
        ("short_percent = 15", "short_percent = 101"),
        ("closes = \"D-1 08:00\"", "closes = \"08:00\""),
        ("buyer = \"RTE\"", "buyer = \"RTE\"\nunheard_of = 1"),
    ] {
        assert!(table.contains(from), "{from}");
        assert!(Rules::from_toml(&table.replace(from, to)).is_err(), "{to}");
    }
}
