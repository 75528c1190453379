//! The stacked problem by hand, its prices against finite differences, and its bad input.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "small numbers made from seeds"
)]

mod dimming;
mod exclusive;
mod offer;
mod reactive;
mod refund;

use super::*;
use crate::reference::{self, Headroom};

/// A car that may do anything all day: 40 of 60 kWh, 11 kW both ways.
fn car(steps: usize) -> Vehicle {
    Vehicle {
        name: "car".to_owned(),
        session: Session {
            site: Some(0),
            first: 0,
            share: vec![1.0; steps],
            capacity: 60.0,
            arrival: 40.0,
            floor: 6.0,
            goal: 40.0,
            charge_kw: 11.0,
            discharge_kw: 11.0,
            charge_efficiency: 0.9,
            discharge_efficiency: 0.9,
        },
        keep_kwh: 0.0,
        fixed_kw: Vec::new(),
        rating_kva: None,
    }
}

fn site() -> Site {
    Site {
        name: "depot".to_owned(),
        import_kw: None,
        export_kw: None,
        base_kw: Vec::new(),
        demand: Vec::new(),
        reactive: None,
        refund: None,
    }
}

fn plain(steps: usize, vehicles: Vec<Vehicle>) -> Problem {
    Problem {
        step_hours: 0.25,
        import_price: vec![50.0; steps],
        export_price: vec![50.0; steps],
        carbon_price: Vec::new(),
        wear: 20.0,
        elastic: Elastic::default(),
        vehicles,
        sites: vec![site()],
        areas: Vec::new(),
        products: Vec::new(),
        orders: Vec::new(),
        imbalance: None,
        groups: Vec::new(),
        dimmings: Vec::new(),
        exclusive: Vec::new(),
        headroom: Headroom::Snapshot,
    }
}

fn way(power: f64, delivered: f64, endurance_hours: f64) -> Option<Way> {
    Some(Way {
        power,
        delivered,
        endurance_hours,
    })
}

fn product(name: &str, up: Option<Way>, down: Option<Way>, steps: usize, price: f64) -> Product {
    Product {
        name: name.to_owned(),
        up,
        down,
        minimum_mw: 0.0,
        step_mw: 0.0,
        blocks: vec![Block {
            steps: 0..steps,
            price,
            most_mw: None,
            awarded_mw: 0.0,
            open: true,
        }],
    }
}

fn solved(problem: &Problem) -> Answer {
    let answer = solve(problem).expect("a problem that makes sense");
    assert!(
        check(problem, &answer.schedule).is_empty(),
        "{:?}",
        check(problem, &answer.schedule)
    );
    assert!(answer.relative_gap < 1e-5, "gap {}", answer.relative_gap);
    answer
}

fn near(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{value}, expected {expected}"
    );
}

#[test]
fn the_nordic_stack_adds_up_in_power_and_energy() {
    // 1 MW FCR-N and 1 MW FCR-D up: 2.34 MW up, 1.54 MW down, 1.333 MWh up, 1 MWh down (`markets.md` 15).
    let fcr_n = way(1.34, 1.0 / 1.34, 1.0);
    let mut problem = plain(4, vec![car(4)]);
    let session = &mut problem.vehicles[0].session;
    (session.charge_kw, session.discharge_kw) = (1540.0, 2340.0);
    (session.charge_efficiency, session.discharge_efficiency) = (1.0, 1.0);
    (
        session.capacity,
        session.arrival,
        session.goal,
        session.floor,
    ) = (7000.0 / 3.0, 4000.0 / 3.0, 0.0, 0.0);
    problem.products = vec![
        product("fcr_n", fcr_n, fcr_n, 4, 0.0),
        product(
            "fcr_d_up",
            way(1.0, 1.0, 1.0 / 3.0),
            way(0.2, 0.0, 0.0),
            4,
            0.0,
        ),
    ];
    for product in &mut problem.products {
        (product.blocks[0].awarded_mw, product.blocks[0].open) = (1.0, false);
    }
    // Held with a hair to spare: nothing is relaxed. A hair less of anything is.
    let session = &mut problem.vehicles[0].session;
    (session.charge_kw, session.discharge_kw) =
        (session.charge_kw + 0.1, session.discharge_kw + 0.1);
    (session.capacity, session.arrival) = (session.capacity + 0.2, session.arrival + 0.1);
    assert!(solved(&problem).relaxed.is_empty());
    for shrink in [
        |s: &mut Session| s.charge_kw -= 5.0,
        |s: &mut Session| s.discharge_kw -= 5.0,
        |s: &mut Session| s.capacity -= 5.0,
        |s: &mut Session| s.arrival -= 5.0,
    ] {
        let mut less = problem.clone();
        shrink(&mut less.vehicles[0].session);
        let relaxed = solved(&less).relaxed;
        assert!(
            !relaxed.is_empty() && relaxed.iter().all(|r| matches!(r.owner, Owner::Product(_)))
        );
    }
}

#[test]
fn the_reference_problem_is_a_special_case() {
    for headroom in [Headroom::Snapshot, Headroom::Window { recovery_steps: 2 }] {
        let small = small(3);
        let block = |price: f64, steps: std::ops::Range<usize>| reference::Block { steps, price };
        let stated = reference::Problem {
            step_hours: 0.25,
            import_price: small.import_price.clone(),
            export_price: small.export_price.clone(),
            wear: 20.0,
            shortfall: 2.0,
            sessions: small.vehicles.iter().map(|v| v.session.clone()).collect(),
            sites: vec![
                reference::Site {
                    import_kw: 24.0,
                    export_kw: f64::INFINITY,
                    base_kw: Vec::new()
                };
                2
            ],
            reserves: vec![reference::Reserve {
                direction: reference::Direction::Symmetric,
                power_factor: 1.0,
                endurance_hours: 0.5,
                blocks: vec![block(20.0, 0..6), block(30.0, 6..12)],
            }],
            headroom,
        };
        let theirs = reference::solve(&stated)
            .expect("a problem")
            .answer()
            .expect("solved");
        let mine = solved(&Problem::from(&stated));
        near(
            mine.objective,
            theirs.objective,
            1e-4 * theirs.objective.abs(),
        );
    }
}

#[test]
fn every_row_of_the_table_is_a_product_that_can_be_sold() {
    let mut problem = plain(16, vec![car(16)]);
    let holdings: Vec<_> = market::Holdings::built_in().iter().collect();
    problem.products = holdings
        .iter()
        .map(|holding| {
            let block = Block {
                steps: 0..16,
                price: 1.0,
                most_mw: None,
                awarded_mw: 0.0,
                open: true,
            };
            Product::of(holding, vec![block])
        })
        .collect();
    for product in problem.products.clone() {
        problem.products = vec![product];
        let answer = solved(&problem);
        assert!(
            answer.schedule.sold_mw[0][0] > 1e-3,
            "{} sells nothing",
            problem.products[0].name
        );
    }
    assert!(holdings.len() >= 13);
}

#[test]
fn a_peak_that_is_paid_already_is_used_and_a_ratchet_is_not_raised() {
    let mut problem = plain(8, vec![car(8)]);
    problem.vehicles[0].session.goal = 49.0; // 10 kWh of grid energy: 5 kW throughout.
    problem.vehicles[0].session.discharge_kw = 0.0;
    problem.import_price[..4].fill(10.0);
    let charge = |to_date_kw: f64, ratchet_kw: f64| DemandCharge {
        steps: (0..8).collect(),
        per_kw: 1.0,
        to_date_kw,
        ratchet_kw,
    };
    for (to_date, ratchet, peak) in [(0.0, 0.0, 5.0), (8.0, 0.0, 8.0), (0.0, 7.0, 7.0)] {
        problem.sites[0].demand = vec![charge(to_date, ratchet)];
        let answer = solved(&problem);
        let highest = answer.schedule.vehicles[0]
            .charge_kw
            .iter()
            .copied()
            .fold(0.0, f64::max);
        near(highest, peak, 1e-3);
    }
}

#[test]
fn contradictions_give_way_and_say_whose_they_are() {
    let mut problem = plain(8, vec![car(8)]);
    let late = &mut problem.vehicles[0].session;
    (late.goal, late.charge_kw) = (58.0, 2.0);
    problem.sites[0].import_kw = Some(10.0);
    problem.sites[0].base_kw = vec![12.0; 8];
    problem.areas = vec![NetworkArea {
        name: "feeder".to_owned(),
        sites: vec![0],
        import_kw: vec![Some(-20.0); 8],
        export_kw: Vec::new(),
    }];
    let mut award = product("afrr_up", way(1.0, 1.0, 1.0), None, 8, 10.0);
    (award.blocks[0].awarded_mw, award.blocks[0].open) = (0.5, false);
    problem.products = vec![award];
    let answer = solved(&problem);
    for owner in [Owner::Vehicle(0), Owner::Area(0), Owner::Product(0)] {
        let said = answer
            .relaxed
            .iter()
            .find(|r| r.owner == owner)
            .expect("said");
        assert!(said.amount > 0.0 && said.price > 0.0 && !said.sentence.is_empty());
        near(said.cost, said.cost.max(0.0), 0.0);
    }
    let penalties: f64 = answer.relaxed.iter().map(|r| r.cost).sum();
    near(
        answer.objective,
        net_cost(&problem, &answer.schedule) + penalties,
        0.02,
    );
}

#[test]
fn strange_but_possible_input_makes_a_plan() {
    let mut full = car(8);
    (full.session.arrival, full.session.goal) = (60.0, 60.0);
    let mut empty = car(0);
    empty.session.share.clear();
    let mut problem = plain(8, vec![full, empty]);
    problem.import_price = vec![
        4000.0, -500.0, 4000.0, -500.0, 4000.0, -500.0, 4000.0, -500.0,
    ];
    problem.export_price = problem.import_price.clone();
    // A full battery that must take Down: it discharges first, or says what it does not hold.
    let mut down = product("afrr_down", None, way(1.0, 1.0, 1.0), 8, 5.0);
    (down.blocks[0].awarded_mw, down.blocks[0].open) = (0.005, false);
    problem.products = vec![down];
    for hundred in 0..100 {
        problem.products.push(product(
            &format!("p{hundred}"),
            way(1.0, 1.0, 0.25),
            None,
            8,
            0.1,
        ));
    }
    let answer = solved(&problem);
    assert!(
        answer
            .relaxed
            .iter()
            .any(|r| r.what == Relaxed::AwardDown && r.step == 0)
    );
    let nobody = solved(&plain(8, Vec::new()));
    assert_eq!((nobody.objective, nobody.relative_gap), (0.0, 0.0));
    // Blocks of 3 and 5 hours, as on the days on which clocks change, and no steps at all.
    let mut spring = plain(32, vec![car(32)]);
    spring.products = vec![product(
        "fcr",
        way(1.25, 0.8, 0.5),
        way(1.25, 0.8, 0.5),
        12,
        3.0,
    )];
    let five = Block {
        steps: 12..32,
        price: 5.0,
        most_mw: None,
        awarded_mw: 0.0,
        open: true,
    };
    spring.products[0].blocks.push(five);
    let sold = solved(&spring).schedule.sold_mw;
    assert!(sold[0].iter().all(|mw| *mw > 0.005));
    assert_eq!(solved(&plain(0, Vec::new())).objective, 0.0);
}

#[test]
fn input_that_makes_no_sense_is_refused_by_name() {
    type Spoil = fn(&mut Problem);
    let spoils: [(Spoil, &str); 8] = [
        (|p| p.import_price[3] = f64::NAN, "price"),
        (|p| p.export_price[3] = f64::INFINITY, "price"),
        (
            |p| p.products[0].blocks[0].price = f64::NAN,
            "capacity price of fcr",
        ),
        (|p| p.products[0].blocks[0].steps = 0..9, "grid of 8"),
        (
            |p| p.products[0].up = way(0.0, 1.0, 0.5),
            "power per power sold",
        ),
        (|p| p.sites[0].import_kw = Some(-1.0), "limit of depot"),
        (|p| p.vehicles[0].session.site = Some(4), "site 4"),
        (|p| p.vehicles[0].keep_kwh = -1.0, "level kept"),
    ];
    for (spoil, word) in spoils {
        let mut problem = plain(8, vec![car(8)]);
        problem.products = vec![product(
            "fcr",
            way(1.0, 1.0, 0.5),
            way(1.0, 1.0, 0.5),
            8,
            3.0,
        )];
        spoil(&mut problem);
        let said = solve(&problem).expect_err(word).to_string();
        assert!(said.contains(word), "{said:?} names {word:?}");
    }
}

/// Numbers that look drawn, the same each time (Lehmer 1951, multiplier of Park and Miller 1988).
struct Draw(u64);

impl Draw {
    fn within(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        low + (high - low) * self.0 as f64 / 2_147_483_647.0
    }
}

/// A small pool in which much binds: two sites, an area, a demand charge, three products.
fn small(seed: u64) -> Problem {
    let steps = 12;
    let mut draw = Draw(seed * 7919 + 12_345);
    let vehicles = (0..4)
        .map(|index| {
            let mut vehicle = car(steps - index);
            let s = &mut vehicle.session;
            s.site = Some(index % 2);
            s.first = index / 2;
            s.capacity = draw.within(30.0, 60.0);
            s.arrival = s.capacity * draw.within(0.2, 0.6);
            s.goal = s.arrival + draw.within(2.0, 12.0);
            s.charge_kw = draw.within(7.0, 22.0);
            s.discharge_kw = if index == 3 {
                0.0
            } else {
                draw.within(5.0, 12.0)
            };
            s.share[0] = draw.within(0.2, 0.8);
            if let Some(last) = s.share.last_mut() {
                *last = draw.within(0.2, 0.8);
            }
            vehicle
        })
        .collect();
    let mut problem = plain(steps, vehicles);
    for t in 0..steps {
        let price = draw.within(-60.0, 200.0);
        (problem.import_price[t], problem.export_price[t]) = (price + 6.0, price - 3.0);
    }
    problem.sites.push(site());
    for (index, site) in problem.sites.iter_mut().enumerate() {
        site.name = format!("site {index}");
        (site.import_kw, site.export_kw) =
            (Some(draw.within(12.0, 25.0)), Some(draw.within(6.0, 12.0)));
        site.demand = vec![DemandCharge {
            steps: (2..9).collect(),
            per_kw: draw.within(0.05, 0.3),
            to_date_kw: 3.0,
            ratchet_kw: 0.0,
        }];
    }
    problem.areas = vec![NetworkArea {
        name: "feeder".to_owned(),
        sites: vec![0, 1],
        import_kw: (0..steps).map(|_| Some(draw.within(15.0, 35.0))).collect(),
        export_kw: vec![Some(draw.within(8.0, 18.0)); steps],
    }];
    let fcr = way(1.25, 0.8, 0.5);
    problem.products = vec![
        product("fcr", fcr, fcr, 4, draw.within(1.0, 30.0)),
        product(
            "afrr_up",
            way(1.0, 1.0, 1.0),
            None,
            4,
            draw.within(5.0, 60.0),
        ),
        product(
            "afrr_down",
            None,
            way(1.0, 1.0, 1.0),
            4,
            draw.within(5.0, 60.0),
        ),
    ];
    for product in &mut problem.products {
        for block in [4..8, 8..10] {
            let price = draw.within(5.0, 60.0);
            product.blocks.push(Block {
                steps: block,
                price,
                most_mw: Some(draw.within(0.001, 0.02)),
                awarded_mw: 0.0,
                open: true,
            });
        }
        product.blocks[1].awarded_mw = 0.002;
    }
    problem
}

type Change = Box<dyn Fn(&mut Problem, f64)>;

/// Every price an answer reports, with the change of the problem that it prices.
fn reported(problem: &Problem, answer: &Answer) -> Vec<(String, f64, Change)> {
    let mut all: Vec<(String, f64, Change)> = Vec::new();
    let prices = &answer.prices;
    for (v, p) in prices.vehicles.iter().enumerate() {
        let last = problem.vehicles[v].session.share.len() - 1;
        let rows: [(&str, Option<f64>, Change); 7] = [
            (
                "charger",
                p.charge_kw,
                Box::new(move |q, by| q.vehicles[v].session.charge_kw += by),
            ),
            (
                "feed-back",
                p.discharge_kw,
                Box::new(move |q, by| q.vehicles[v].session.discharge_kw += by),
            ),
            (
                "battery",
                p.capacity_kwh,
                Box::new(move |q, by| q.vehicles[v].session.capacity += by),
            ),
            (
                "arrival",
                p.arrival_kwh,
                Box::new(move |q, by| q.vehicles[v].session.arrival += by),
            ),
            (
                "goal",
                p.goal_kwh,
                Box::new(move |q, by| q.vehicles[v].session.goal -= by),
            ),
            (
                "earlier",
                p.earlier_hour,
                Box::new(move |q, by| q.vehicles[v].session.share[0] += by / 0.25),
            ),
            (
                "later",
                p.later_hour,
                Box::new(move |q, by| q.vehicles[v].session.share[last] += by / 0.25),
            ),
        ];
        for (name, price, change) in rows {
            let price = price.or((name == "feed-back").then_some(0.0));
            if problem.vehicles[v].session.discharge_kw > 0.0 || name != "feed-back" {
                all.push((
                    format!("{name} of vehicle {v}"),
                    price.expect("a price"),
                    change,
                ));
            }
        }
    }
    for t in 0..problem.import_price.len() {
        for s in 0..problem.sites.len() {
            let change: Change = Box::new(move |q, by| {
                // Less base load, in steps that no demand charge counts.
                q.sites[s].base_kw.resize(q.import_price.len(), 0.0);
                q.sites[s].base_kw[t] -= by;
            });
            if !(2..9).contains(&t) && problem.sites[s].reactive.is_none() {
                let price = prices.site_import[s][t] - prices.site_export[s][t]
                    + prices.area_import[0][t]
                    - prices.area_export[0][t];
                all.push((format!("base load of site {s} in step {t}"), price, change));
            }
        }
        all.push((
            format!("area import in step {t}"),
            prices.area_import[0][t],
            Box::new(move |q, by| {
                q.areas[0].import_kw[t] = q.areas[0].import_kw[t].map(|kw| kw + by)
            }),
        ));
        all.push((
            format!("area export in step {t}"),
            prices.area_export[0][t],
            Box::new(move |q, by| {
                q.areas[0].export_kw[t] = q.areas[0].export_kw[t].map(|kw| kw + by)
            }),
        ));
    }
    for k in 0..problem.products.len() {
        let held = |t: usize| prices.hold_up[k][t] + prices.hold_down[k][t];
        // An award less by a MW need not be held in any of its steps, and is not paid.
        let block = &problem.products[k].blocks[1];
        let whole: f64 = block.steps.clone().map(held).sum::<f64>() - block.price;
        all.push((
            format!("award of product {k}"),
            whole,
            Box::new(move |q, by| q.products[k].blocks[1].awarded_mw -= by / 1000.0),
        ));
        for b in 1..3 {
            all.push((
                format!("most of product {k} block {b}"),
                prices.block[k][b],
                Box::new(move |q, by| {
                    let most = &mut q.products[k].blocks[b].most_mw;
                    *most = most.map(|mw| mw + by / 1000.0);
                }),
            ));
        }
    }
    all
}

/// Compares some of the prices of a problem, others for each seed, with finite differences; counts those compared, those
/// of them above zero, and those at kinks.
fn compare_prices(seed: u64, problem: &Problem, counts: &mut (usize, usize, usize)) {
    const BY: f64 = 2e-3;
    let answer = solved(problem);
    let all = reported(problem, &answer);
    let stride = all.len() / 5;
    for (name, price, change) in all.iter().skip(seed as usize * 7 % stride).step_by(stride) {
        let at = |by: f64| {
            let mut changed = problem.clone();
            change(&mut changed, by);
            solve(&changed).expect("still a problem").objective
        };
        let per = if name.starts_with("award") || name.starts_with("most") {
            1000.0
        } else {
            1.0
        };
        let (less, more) = (at(-BY), at(BY));
        let (left, right) = (
            per * (less - answer.objective) / BY,
            per * (answer.objective - more) / BY,
        );
        let scale = price.abs().max(per * 0.01);
        if (left - right).abs() > 0.02 * scale {
            counts.2 += 1;
            // At a kink the price lies between both differences.
            let (low, high) = (left.min(right), left.max(right));
            assert!(
                *price >= low - 0.02 * scale && *price <= high + 0.02 * scale,
                "{seed}: {name}: {price} outside {low} to {high}"
            );
            continue;
        }
        counts.0 += 1;
        counts.1 += usize::from(price.abs() > per * 1e-3);
        near(*price, f64::midpoint(left, right), 0.02 * scale);
    }
}

#[test]
fn every_reported_price_equals_a_finite_difference_of_the_optimum() {
    let mut counts = (0, 0, 0);
    for seed in 0..100 {
        compare_prices(seed, &small(seed), &mut counts);
    }
    let (compared, priced, kinks) = counts;
    assert!(
        compared > 300 && priced > 100,
        "{compared} compared, {priced} of them above zero, {kinks} at kinks"
    );
}

#[test]
fn a_vehicle_that_is_lost_with_its_group_is_not_counted_on() {
    let mut problem = plain(4, vec![car(4), car(4), car(4)]);
    problem.products = vec![product("afrr_up", way(1.0, 1.0, 0.25), None, 4, 100.0)];
    let alone = solved(&problem).schedule.sold_mw[0][0];
    near(alone, 3.0 * 0.022, 1e-3);
    let group = |name: &str, vehicles: Vec<usize>| Group {
        name: name.to_owned(),
        vehicles,
    };
    problem.groups = vec![group("brand a", vec![0, 1]), group("brand b", vec![2])];
    near(solved(&problem).schedule.sold_mw[0][0], 0.022, 1e-3);
}

#[test]
fn whole_volumes_of_twenty_megawatts_lose_little_and_say_how_little_is_possible() {
    let steps = 16;
    let mut draw = Draw(99);
    let vehicles: Vec<Vehicle> = (0..20)
        .map(|_| {
            let mut vehicle = car(steps);
            let s = &mut vehicle.session;
            for kw in [&mut s.charge_kw, &mut s.discharge_kw] {
                *kw = 1000.0 * draw.within(0.8, 1.2);
            }
            s.capacity = 6000.0 * draw.within(0.8, 1.2);
            s.arrival = s.capacity * draw.within(0.4, 0.6);
            s.goal = s.arrival;
            s.floor = 0.1 * s.capacity;
            vehicle
        })
        .collect();
    let mut problem = plain(steps, vehicles);
    problem.import_price = (0..steps).map(|t| 50.0 + t as f64).collect();
    problem.export_price = problem.import_price.clone();
    let fcr = way(1.25, 0.8, 0.5);
    problem.products = vec![
        product("fcr", fcr, fcr, 8, 180.0),
        product("afrr_up", way(1.0, 1.0, 1.0), None, 8, 70.0),
        product("afrr_down", None, way(1.0, 1.0, 1.0), 8, 60.0),
    ];
    for product in &mut problem.products {
        (product.minimum_mw, product.step_mw) = (1.0, 1.0);
        let mut second = product.blocks[0].clone();
        second.steps = 8..16;
        second.price *= 1.13;
        product.blocks.push(second);
    }
    let whole = solve_whole(&problem, 60).expect("a problem that makes sense");
    let lost = (whole.answer.objective - whole.relaxation) / whole.relaxation.abs();
    let sold: f64 = whole.answer.schedule.sold_mw.iter().map(|b| b[0]).sum();
    assert!(sold > 15.0, "the pool sells {sold} MW");
    let (gap, programmes) = (whole.answer.relative_gap, whole.programmes);
    // The pool is 20 MW of power, which three products share: a MW of one is a twentieth of all there is to sell.
    assert!(
        (0.0..=0.03).contains(&lost) && gap <= 0.02,
        "{lost} lost, gap {gap}, {programmes} programmes"
    );
    assert!(
        whole
            .answer
            .schedule
            .sold_mw
            .iter()
            .flatten()
            .all(|mw| mw.fract() == 0.0)
    );
}

#[test]
fn what_binds_is_said_in_a_sentence_with_its_price() {
    let mut problem = plain(4, vec![car(4)]);
    problem.import_price = vec![10.0, 300.0, 300.0, 300.0];
    problem.vehicles[0].session.goal = 41.8;
    problem.vehicles[0].session.discharge_kw = 0.0;
    problem.sites[0].import_kw = Some(6.0);
    let answer = solved(&problem);
    let found = reasons(&problem, &answer, "EUR");
    // Two kWh are needed, one and a half fit under the limit in the cheap quarter hour: a kW more moves a quarter of a kWh.
    let limit = found
        .iter()
        .find(|r| r.step == Some(0) && r.unit == "kW")
        .expect("the limit is named");
    near(limit.price, 0.25 * 290.0 / 1000.0, 1e-4);
    assert!(
        limit.sentence.contains("import limit of site depot") && limit.sentence.contains("EUR")
    );
    let owed = found.iter().find(|r| r.limit.starts_with("energy owed"));
    near(owed.expect("the goal is named").price, 0.3 / 0.9, 1e-3);
}
