use chrono::TimeDelta;
use forecast::Stay;
use units::{Efficiency, Energy, Interval, Power};

use super::*;

const AREA: Area = Area::Nl;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn stay(
    start: &str,
    hours: i64,
    charge: f64,
    discharge: f64,
    capacity: f64,
    stored: f64,
    energy: f64,
) -> Stay<u32> {
    let start = at(start);
    Stay {
        outlet: 0,
        span: Interval::try_new(start, start + TimeDelta::hours(hours)).unwrap(),
        energy: Energy::from_kwh(energy),
        stored: Some(Energy::from_kwh(stored)),
        capacity: Some(Energy::from_kwh(capacity)),
        max_charge: Power::from_kw(charge),
        max_discharge: Power::from_kw(discharge),
        floor: Energy::from_kwh(0.1 * capacity),
        charge_efficiency: Efficiency::try_new(0.94).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.94).unwrap(),
    }
}

fn now() -> DateTime<Utc> {
    at("2026-01-12T05:10:00Z")
}

fn grid() -> Grid {
    Grid::new(now(), 172)
}

/// Buses in a depot on the night of D-1 and over D's evening, with `discharge` kW each.
fn depot(count: usize, discharge: f64, grid: &Grid) -> Scenario {
    let stays = [
        stay(
            "2026-01-12T18:00:00Z",
            14,
            100.0,
            discharge,
            300.0,
            120.0,
            120.0,
        ),
        stay(
            "2026-01-13T16:00:00Z",
            14,
            100.0,
            discharge,
            300.0,
            120.0,
            120.0,
        ),
    ];
    let vehicles = (0..count)
        .flat_map(|_| stays.iter().filter_map(|s| Vehicle::expected(s, 0, grid)))
        .collect();
    Scenario {
        weight: 1.0,
        vehicles,
    }
}

fn sites() -> Vec<Site> {
    vec![Site {
        id: "depot".parse().unwrap(),
        import_kw: 10_000.0,
        export_kw: 10_000.0,
    }]
}

fn band(median: f64) -> Series<Band> {
    let band = Band::try_new(
        vec![0.1, 0.5, 0.9],
        vec![0.5 * median, median, 2.0 * median],
    )
    .unwrap();
    Series::try_new(
        now() - TimeDelta::hours(2),
        TimeDelta::minutes(15),
        vec![band; 220],
    )
    .unwrap()
}

fn ask<'a>(
    grid: &'a Grid,
    scenarios: &'a [Scenario],
    sites: &'a [Site],
    position: &'a Position,
    price: &'a [f64],
    capacity: &'a [(Product, Series<Band>)],
) -> Question<'a> {
    Question {
        area: AREA,
        rules: Rules::built_in(),
        day: DeliveryDay::containing(at("2026-01-13T12:00:00Z"), AREA.exchange_zone()),
        grid,
        scenarios,
        sites,
        position,
        price,
        capacity,
        probability: 0.95,
        revision: 0,
        costs: Costs {
            import_per_mwh: 0.0,
            export_per_mwh: 0.0,
            wear_per_mwh: 30.0,
            imbalance_spread: 10.0,
        },
    }
}

fn prices(grid: &Grid) -> Vec<f64> {
    (0..grid.len())
        .map(|i| if i % 32 < 16 { 40.0 } else { 110.0 })
        .collect()
}

#[test]
fn a_night_depot_offers_whole_megawatts_it_can_hold_in_every_scenario() {
    let grid = grid();
    let (rich, lean) = (depot(60, 100.0, &grid), depot(30, 100.0, &grid));
    let scenarios = [
        Scenario {
            weight: 0.6,
            ..rich
        },
        Scenario {
            weight: 0.4,
            ..lean
        },
    ];
    let (sites, position, price) = (sites(), Position::default(), prices(&grid));
    let capacity = [(Product::Fcr, band(60.0))];
    let question = ask(&grid, &scenarios, &sites, &position, &price, &capacity);
    let offered = reserve(&question, &[Product::Fcr]).unwrap();
    assert!(!offered.bids.is_empty(), "{:?}", offered.notes);
    for bid in &offered.bids {
        assert_eq!(bid.volume.watts() % 1_000_000, 0);
        // Thirty buses of 100 kW hold at most 3 MW / 1.25.
        assert!(
            bid.volume <= Power::from_mw(2.0),
            "{} at {:?}",
            bid.volume,
            bid.delivery
        );
        assert!(bid.price.unwrap().to_f64() < 60.0);
        assert!(bid.reason.contains("EUR/MW"), "{}", bid.reason);
        bid.check(question.rules, now()).unwrap();
    }
    // Nobody is there at noon of D: 12:00 to 16:00 local.
    let noon = at("2026-01-13T11:00:00Z");
    assert!(offered.bids.iter().all(|b| b.delivery.start() != noon));
    assert_eq!(reserve(&question, &[Product::Fcr]).unwrap(), offered);
}

#[test]
fn what_the_lean_scenario_cannot_hold_is_not_offered() {
    let grid = grid();
    let (rich, none) = (depot(60, 100.0, &grid), depot(0, 100.0, &grid));
    let (sites, position, price) = (sites(), Position::default(), prices(&grid));
    let capacity = [(Product::Fcr, band(60.0))];
    for (weight, expected) in [(0.2, true), (0.01, false)] {
        let scenarios = [
            Scenario {
                weight: 1.0 - weight,
                vehicles: rich.vehicles.clone(),
            },
            Scenario {
                weight,
                vehicles: none.vehicles.clone(),
            },
        ];
        let question = ask(&grid, &scenarios, &sites, &position, &price, &capacity);
        let offered = reserve(&question, &[Product::Fcr]).unwrap();
        assert_eq!(offered.bids.is_empty(), expected, "weight {weight}");
    }
}

#[test]
fn energy_bids_add_up_to_what_the_vehicles_need() {
    let grid = grid();
    let scenarios = [depot(40, 0.0, &grid)];
    // Cheap from 00:00Z to 04:00Z of the day bid for.
    let cheap = at("2026-01-13T00:00:00Z")..at("2026-01-13T04:00:00Z");
    let price: Vec<f64> = (0..grid.len())
        .map(|i| {
            if cheap.contains(&grid.at(i)) {
                40.0
            } else {
                110.0
            }
        })
        .collect();
    let (sites, position) = (sites(), Position::default());
    let question = ask(&grid, &scenarios, &sites, &position, &price, &[]);
    let offered = energy(&question).unwrap();
    let bought: f64 = offered
        .bids
        .iter()
        .map(|b| b.volume.mw() * b.delivery.hours())
        .sum();
    let needed = 40.0 * 0.120 / 0.94;
    assert!((bought - needed).abs() < 0.15, "{bought} MWh of {needed}");
    for bid in &offered.bids {
        assert_eq!(bid.volume.watts() % 100_000, 0);
        assert_eq!(bid.direction, market::Direction::Down);
        bid.check(question.rules, now()).unwrap();
    }
}

#[test]
fn bids_are_not_built_after_the_gate_nor_from_nothing() {
    let grid = Grid::new(at("2026-01-12T08:00:00Z"), 172);
    let scenarios = [depot(60, 100.0, &grid)];
    let (sites, position, price) = (sites(), Position::default(), prices(&grid));
    let capacity = [(Product::Fcr, band(60.0))];
    let late = ask(&grid, &scenarios, &sites, &position, &price, &capacity);
    assert!(matches!(
        reserve(&late, &[Product::Fcr]),
        Err(NoBids::Bid(_))
    ));
    let nothing = ask(&grid, &[], &sites, &position, &price, &capacity);
    assert!(matches!(energy(&nothing), Err(NoBids::Question(_))));
}

#[test]
fn without_a_price_forecast_nothing_is_offered_and_it_says_so() {
    let grid = grid();
    let scenarios = [depot(60, 100.0, &grid)];
    let (sites, position, price) = (sites(), Position::default(), prices(&grid));
    let question = ask(&grid, &scenarios, &sites, &position, &price, &[]);
    let offered = reserve(&question, &[Product::Fcr]).unwrap();
    assert!(offered.bids.is_empty());
    assert!(offered.notes[0].contains("no price forecast"));
}

#[test]
#[ignore = "a measurement, run by hand"]
fn time_of_the_bids_of_a_whole_fleet() {
    let grid = grid();
    let make = |n: i64| {
        let mut scenario = depot(30, 100.0, &grid);
        scenario.weight = 0.125;
        for i in 0..200_i64 {
            for day in 0..2 {
                let start = at("2026-01-12T16:00:00Z")
                    + TimeDelta::hours(24 * day)
                    + TimeDelta::minutes((i * 7 + n * 13) % 300);
                let mut stay = stay(
                    "2026-01-12T16:00:00Z",
                    9 + i % 5,
                    11.0,
                    if i % 3 == 0 { 10.0 } else { 0.0 },
                    60.0,
                    20.0,
                    25.0,
                );
                stay.span = Interval::try_new(start, start + stay.span.length()).unwrap();
                scenario.vehicles.extend(Vehicle::expected(&stay, 0, &grid));
            }
        }
        scenario
    };
    let scenarios: Vec<Scenario> = (0..8).map(make).collect();
    let (sites, position, price) = (sites(), Position::default(), prices(&grid));
    let capacity = [
        (Product::Fcr, band(60.0)),
        (Product::AfrrUp, band(30.0)),
        (Product::AfrrDown, band(20.0)),
    ];
    let question = ask(&grid, &scenarios, &sites, &position, &price, &capacity);
    let began = std::time::Instant::now();
    let offered = reserve(
        &question,
        &[Product::Fcr, Product::AfrrUp, Product::AfrrDown],
    )
    .unwrap();
    println!(
        "reserve: {:?}, {} bids, gap {:?}, {:?}",
        began.elapsed(),
        offered.bids.len(),
        offered.gap,
        offered.notes
    );
    for bid in &offered.bids {
        println!(
            "{:?} {} {} {:?} {}",
            bid.product,
            bid.delivery.start(),
            bid.volume,
            bid.price,
            bid.reason
        );
    }
    let began = std::time::Instant::now();
    let offered = energy(&question).unwrap();
    println!("energy: {:?}, {} bids", began.elapsed(), offered.bids.len());
}
