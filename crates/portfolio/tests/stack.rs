//! The stacked problem against an independent solver: HiGHS on rows written from the mathematics (`stack/highs.py`).
//!
//! Runs where `SHOAL_PYTHON` names an interpreter with `highspy` and `numpy`; without it the comparison says so.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "numbers made from seeds; a test says what it met"
)]

#[path = "stack/synthetic.rs"]
mod synthetic;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use portfolio::reference::Headroom;
use portfolio::stack::{
    Dimming, Exclusive, Group, Imbalance, Left, Order, Problem, Reactive, ReactiveCharge, Refund,
    Request, alternatives, check, offers, solve, solve_whole,
};
use synthetic::{Draw, Kind, day, problem};

const WINDOW: Headroom = Headroom::Window { recovery_steps: 2 };

/// HiGHS's objectives and CPU seconds; `None` without an interpreter that has it.
fn highs(problems: &[Problem], flags: &[&str]) -> Option<Vec<(f64, f64)>> {
    let Some(python) = std::env::var_os("SHOAL_PYTHON") else {
        eprintln!("skipped: SHOAL_PYTHON is not set");
        return None;
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack/highs.py");
    let mut command = Command::new(python);
    command.arg(program).args(flags);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let lines: Vec<String> = problems
        .iter()
        .map(|p| serde_json::to_string(p).expect("a problem is JSON"))
        .collect();
    let mut input = child.stdin.take().expect("a pipe");
    let feed = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").expect("Python reads");
        }
    });
    let out = child.wait_with_output().expect("Python ends");
    feed.join().expect("fed");
    assert!(out.status.success(), "highs.py failed");
    let text = String::from_utf8(out.stdout).expect("text");
    let number = |value: &serde_json::Value, key: &str| value[key].as_f64().expect("a number");
    let answers: Vec<(f64, f64)> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .map(|value: serde_json::Value| (number(&value, "objective"), number(&value, "seconds")))
        .collect();
    assert_eq!(answers.len(), problems.len());
    Some(answers)
}

/// Solves ours, checks it on its own and compares; says what it met.
fn compare(name: &str, problems: &[Problem]) {
    let Some(theirs) = highs(problems, &[]) else {
        return;
    };
    let mut worst = 0.0_f64;
    for (index, (problem, (theirs, seconds))) in problems.iter().zip(theirs).enumerate() {
        let begun = Instant::now();
        let answer = solve(problem).expect("a problem that makes sense");
        let broken = check(problem, &answer.schedule);
        assert!(broken.is_empty(), "{name} {index}: {broken:?}");
        let off = (answer.objective - theirs).abs() / theirs.abs().max(1e-9);
        eprintln!(
            "{name} {index}: {} steps, ours {:.6}, HiGHS {theirs:.6}, off {off:.1e}, gap {:.1e}, {:.2} s, HiGHS {seconds:.2} s",
            problem.import_price.len(),
            answer.objective,
            answer.relative_gap,
            begun.elapsed().as_secs_f64()
        );
        worst = worst.max(off);
        assert!(
            answer.lower_bound <= theirs + 1e-6 * theirs.abs().max(1.0),
            "{name} {index}: a bound above the optimum"
        );
        assert!(off <= 1e-4, "{name} {index}: off by {off:e}");
        assert!(
            answer.relative_gap <= 1e-4,
            "{name} {index}: gap {:e}",
            answer.relative_gap
        );
    }
    eprintln!("{name}: {} agree, worst {worst:.1e}", problems.len());
}

fn stacked(seed: u64, vehicles: usize) -> Problem {
    let headroom = if seed.is_multiple_of(2) {
        WINDOW
    } else {
        Headroom::Snapshot
    };
    problem(
        seed,
        Kind {
            vehicles,
            steps: day(seed),
            headroom,
            size: 1.0,
        },
    )
}

#[test]
fn everything_on_sale_at_once_agrees_with_highs() {
    let problems: Vec<Problem> = (0..6).map(|seed| stacked(seed, 12)).collect();
    compare("stack", &problems);
}

#[test]
#[ignore = "the whole bar: 200 vehicles on 20 seeds, a quarter of an hour and more"]
fn two_hundred_vehicles_on_twenty_seeds_agree_with_highs() {
    for seed in 0..20 {
        compare(&format!("seed {seed}"), &[stacked(seed, 200)]);
    }
}

/// Turns on what the first family leaves out, by the seed's bits.
fn varied(seed: u64) -> Problem {
    let mut problem = stacked(seed, 8);
    let mut draw = Draw(seed + 1000);
    let steps = problem.import_price.len();
    if seed & 1 == 1 {
        for (index, vehicle) in problem.vehicles.iter_mut().enumerate() {
            vehicle.keep_kwh = if index % 2 == 0 {
                0.4 * vehicle.session.capacity
            } else {
                0.0
            };
        }
    }
    if seed & 2 == 2 {
        let groups = [("back-end a", 0), ("back-end b", 1)];
        problem.groups = groups
            .map(|(name, rest)| Group {
                name: name.to_owned(),
                vehicles: (0..8).filter(|v| v % 2 == rest).collect(),
            })
            .to_vec();
    }
    if seed & 4 == 4 {
        let prices: Vec<f64> = problem.import_price.iter().map(|p| p - 5.0).collect();
        let order = |steps: std::ops::Range<usize>, half_spread: f64, held_kw: f64| Order {
            price: prices[steps.clone()].iter().sum::<f64>() / steps.len() as f64,
            steps,
            half_spread,
            held_kw,
            open: true,
            most_kw: 500.0,
        };
        problem.orders = (0..steps / 4)
            .map(|h| order(4 * h..4 * h + 4, 0.0, 5.0))
            .collect();
        problem
            .orders
            .extend((0..steps).map(|t| order(t..t + 1, 3.0, 0.0)));
        problem.imbalance = Some(Imbalance {
            short: prices.iter().map(|p| p + 20.0).collect(),
            long: prices.iter().map(|p| p - 20.0).collect(),
        });
        problem.import_price = vec![5.0; steps];
        problem.export_price = vec![-2.0; steps];
        problem.carbon_price = (0..steps).map(|_| draw.within(0.0, 30.0)).collect();
    }
    if seed & 8 == 8 {
        for product in &mut problem.products {
            for block in product.blocks.iter_mut().step_by(2) {
                block.awarded_mw = draw.within(0.0, 0.03);
                block.open = draw.unit() < 0.5;
                block.most_mw = Some(0.01);
            }
        }
        problem.sites[0].base_kw = vec![problem.sites[0].import_kw.unwrap_or(0.0) + 3.0; steps];
    }
    problem
}

#[test]
fn orders_awards_groups_and_kept_energy_agree_with_highs() {
    let problems: Vec<Problem> = (0..9).map(varied).collect();
    compare("varied", &problems);
}

/// Half of the vehicles dimmed one by one, the others behind energy managers or not at all, by the seed's bits.
fn dimmed(seed: u64) -> Problem {
    let mut problem = stacked(seed, 8);
    let one = |vehicle: usize| Left {
        vehicles: vec![vehicle],
        kw: 4.2,
    };
    let holds_down = seed & 1 == 1;
    problem.dimmings = vec![Dimming {
        name: "north".to_owned(),
        hours: 1.0 + (seed % 3) as f64 / 2.0,
        left: [0, 2, 4].map(one).to_vec(),
        holds_down,
    }];
    if seed & 2 == 2 {
        problem.dimmings.push(Dimming {
            name: "south".to_owned(),
            hours: 2.0,
            left: vec![Left {
                vehicles: vec![1, 3, 5, 7],
                kw: 10.5,
            }],
            holds_down: !holds_down,
        });
    }
    if seed & 4 == 4 {
        let steps = problem.import_price.len();
        problem.sites[0].base_kw = vec![problem.sites[0].import_kw.unwrap_or(0.0) + 3.0; steps];
    }
    problem
}

#[test]
fn plans_that_stand_dimming_agree_with_highs() {
    let problems: Vec<Problem> = (0..8).map(dimmed).collect();
    compare("dimmed", &problems);
}

#[test]
fn offers_to_an_operator_cost_what_highs_says() {
    const NOTICE: usize = 30;
    for seed in 0..4 {
        let problem = stacked(seed, 8);
        let plan = solve(&problem).expect("a problem").schedule;
        // What is sold is held, what was done is done, and the draw of the first area is bounded.
        let ordered = |bound: Option<f64>| {
            let mut ordered = problem.clone();
            for (product, sold) in ordered.products.iter_mut().zip(&plan.sold_mw) {
                for (block, sold) in product.blocks.iter_mut().zip(sold) {
                    (block.awarded_mw, block.open) = (block.awarded_mw + sold, false);
                }
            }
            for (vehicle, done) in ordered.vehicles.iter_mut().zip(&plan.vehicles) {
                let before = NOTICE.saturating_sub(vehicle.session.first);
                let powers = done.charge_kw.iter().zip(&done.discharge_kw);
                vehicle.fixed_kw = powers.take(before).map(|(c, d)| (*c, *d)).collect();
            }
            for limit in &mut ordered.areas[0].import_kw[40..64] {
                let known = limit.unwrap_or(f64::INFINITY);
                *limit = bound.map(|bound| bound.min(known)).or(*limit);
            }
            ordered
        };
        let bounds = [20.0, 10.0, 5.0, 0.0];
        let cases: Vec<Problem> = std::iter::once(None)
            .chain(bounds.map(Some))
            .map(ordered)
            .collect();
        let Some(theirs) = highs(&cases, &[]) else {
            return;
        };
        let request = Request {
            name: "midday".to_owned(),
            area: 0,
            steps: 40..64,
            bounds_kw: bounds.to_vec(),
            rebound_per_mwh: 0.0,
            margin_share: 0.0,
        };
        let offers = offers(&problem, &plan, &[request], NOTICE).expect("a request");
        for (choice, (with, _)) in offers[0].choices.iter().zip(&theirs[1..]) {
            let cost = with - theirs[0].0;
            eprintln!(
                "offer {seed}: below {} kW costs {:.6}, HiGHS {cost:.6}, {}",
                choice.bound_kw,
                choice.cost,
                choice.price.map_or("not kept", |_| "kept")
            );
            assert!((choice.cost - cost).abs() <= 1e-5 * with.abs().max(1.0));
        }
    }
}

/// Chargers with reactive power at points that ask for some, limit it or charge for it, by the seed's bits.
fn shifted(seed: u64) -> Problem {
    let mut problem = stacked(seed, 8);
    let mut draw = Draw(seed + 2000);
    let steps = problem.import_price.len();
    for vehicle in problem.vehicles.iter_mut().step_by(2) {
        let session = &vehicle.session;
        let active = session.charge_kw.max(session.discharge_kw);
        vehicle.rating_kva = Some(active * draw.within(1.0, 1.2));
    }
    for site in &mut problem.sites {
        let power = site.import_kw.unwrap_or(0.0);
        let base_kvar = (0..steps).map(|_| power * draw.within(0.1, 0.5));
        site.reactive = Some(Reactive {
            base_kvar: base_kvar.collect(),
            rating_kva: (seed & 1 == 0).then_some(0.8 * power),
            low_kvar: (seed & 2 == 2).then_some(-0.1 * power),
            high_kvar: (seed & 2 == 2).then_some(0.2 * power),
            charges: vec![ReactiveCharge {
                steps: (36..80).collect(),
                per_kvar: draw.within(0.1, 0.5),
                free_kvar: 0.1 * power,
                to_date_kvar: 0.15 * power,
            }],
        });
    }
    problem
}

#[test]
fn reactive_power_lies_between_the_polygons_of_highs() {
    let problems: Vec<Problem> = (0..6).map(shifted).collect();
    let about = highs(&problems, &["--sides", "128"]);
    let within = highs(&problems, &["--sides", "128", "--inside"]);
    let (Some(about), Some(within)) = (about, within) else {
        return;
    };
    for (seed, (problem, ((least, _), (most, _)))) in problems
        .iter()
        .zip(about.into_iter().zip(within))
        .enumerate()
    {
        let answer = solve(problem).expect("a problem that makes sense");
        let broken = check(problem, &answer.schedule);
        assert!(broken.is_empty(), "{seed}: {broken:?}");
        let moved = |v: &portfolio::stack::VehicleSchedule| {
            v.reactive_kvar
                .iter()
                .fold(0.0, |most: f64, kvar| most.max(kvar.abs()))
        };
        let moved = answer
            .schedule
            .vehicles
            .iter()
            .map(moved)
            .fold(0.0, f64::max);
        let none = solve(&Problem {
            vehicles: problem
                .vehicles
                .iter()
                .map(|v| portfolio::stack::Vehicle {
                    rating_kva: None,
                    ..v.clone()
                })
                .collect(),
            ..problem.clone()
        })
        .expect("a problem without it");
        eprintln!(
            "reactive {seed}: ours {:.6}, HiGHS {least:.6} to {most:.6}, without {:.6}, up to {moved:.2} kvar, gap {:.1e}",
            answer.objective, none.objective, answer.relative_gap
        );
        let slack = 1e-5 * most.abs().max(1.0);
        assert!(answer.objective >= least - slack && answer.objective <= most + slack);
        assert!(answer.lower_bound <= most + slack && answer.relative_gap <= 1e-4);
        assert!(moved > 1.0 && answer.objective < none.objective - 0.01);
    }
}

#[test]
fn refunds_out_of_a_ledger_agree_with_highs() {
    let refunded = |seed: u64| {
        let mut problem = stacked(seed, 8);
        for price in &mut problem.import_price {
            *price += 60.0;
        }
        for (index, site) in problem.sites.iter_mut().enumerate() {
            let drawn_per_returned = if seed & 1 == 1 {
                1.0 / (0.94 * 0.94)
            } else {
                1.0
            };
            site.refund = (index as u64 != seed % 3).then_some(Refund {
                per_mwh: 60.0 * drawn_per_returned,
                drawn_per_returned,
                ledger_kwh: if seed & 2 == 2 { 12.0 } else { 0.0 },
            });
        }
        problem
    };
    let problems: Vec<Problem> = (0..6).map(refunded).collect();
    compare("refund", &problems);
    for problem in &problems {
        let answer = solve(problem).expect("a problem that makes sense");
        let kwh = portfolio::stack::refunded(problem, &answer.schedule);
        assert!(
            kwh.iter().flatten().sum::<f64>() > 1.0,
            "something is refunded"
        );
    }
}

/// A small pool of large groups whose blocks come in whole MW.
fn lumpy(seed: u64) -> Problem {
    let mut problem = problem(
        seed,
        Kind {
            vehicles: 4,
            steps: day(seed),
            headroom: Headroom::Snapshot,
            size: 80.0,
        },
    );
    for product in &mut problem.products {
        (product.minimum_mw, product.step_mw) = (1.0, 1.0);
    }
    problem.products.truncate(3);
    for product in &mut problem.products {
        product.blocks.truncate(2);
    }
    problem.products[1].minimum_mw = 2.0;
    problem
}

#[test]
fn whole_volumes_equal_the_integer_optimum_of_highs() {
    compare_whole(10);
}

#[test]
#[ignore = "the whole bar: 50 cases, some minutes"]
fn whole_volumes_of_fifty_cases_equal_the_integer_optimum_of_highs() {
    compare_whole(50);
}

#[test]
fn exclusive_products_equal_the_integer_optimum_of_highs() {
    let grouped = |seed: u64| {
        let mut problem = lumpy(seed);
        problem.exclusive = vec![Exclusive {
            name: "one of both".to_owned(),
            products: vec![1, (2 * seed as usize) % 4],
        }];
        if seed & 1 == 1 {
            for product in &mut problem.products {
                (product.minimum_mw, product.step_mw) = (0.0, 0.0);
            }
        }
        problem
    };
    let problems: Vec<Problem> = (0..10).map(grouped).collect();
    let Some(theirs) = highs(&problems, &["--whole"]) else {
        return;
    };
    let mut kept_apart = 0;
    for (seed, (problem, (theirs, _))) in problems.iter().zip(theirs).enumerate() {
        let whole = solve_whole(problem, 3000).expect("a problem that makes sense");
        let broken = check(problem, &whole.answer.schedule);
        assert!(broken.is_empty(), "{seed}: {broken:?}");
        let off = (whole.answer.objective - theirs).abs() / theirs.abs().max(1e-9);
        eprintln!(
            "exclusive {seed}: ours {:.6}, HiGHS {theirs:.6}, off {off:.1e}, relaxed {:.6}, {} programmes",
            whole.answer.objective, whole.relaxation, whole.programmes
        );
        assert!(off <= 1e-4, "seed {seed}: off by {off:e}");
        kept_apart += usize::from(whole.programmes > 1);
        let sold = &whole.answer.schedule.sold_mw;
        let [one, other] = problem.exclusive[0].products[..] else {
            panic!("a group of two");
        };
        for (block, mw) in problem.products[one].blocks.iter().zip(&sold[one]) {
            for (beside, more) in problem.products[other].blocks.iter().zip(&sold[other]) {
                let touch =
                    block.steps.start < beside.steps.end && beside.steps.start < block.steps.end;
                assert!(
                    !touch || *mw == 0.0 || *more == 0.0,
                    "seed {seed}: {mw} beside {more} MW"
                );
            }
        }
        let offered = alternatives(problem, &whole.answer.schedule, 300).expect("groups");
        for choice in &offered[0].choices {
            // The plan takes the better of both in each block, so that no alternative gains more than it does.
            assert!(
                choice.gain <= offered_gain(problem, &whole.answer.schedule) + 1e-3 * theirs.abs()
            );
        }
    }
    assert!(kept_apart >= 8, "{kept_apart} had to branch");
}

/// What the plan gains by selling products of its first exclusive group, everything else as it is sold.
fn offered_gain(problem: &Problem, plan: &portfolio::stack::Schedule) -> f64 {
    let with = |held: bool| {
        let mut problem = problem.clone();
        for (index, (product, sold)) in problem.products.iter_mut().zip(&plan.sold_mw).enumerate() {
            let inside = problem.exclusive[0].products.contains(&index);
            for (block, sold) in product.blocks.iter_mut().zip(sold) {
                block.awarded_mw += if held || !inside { *sold } else { 0.0 };
                block.open = false;
            }
        }
        solve(&problem).expect("a plan that is sold").objective
    };
    with(false) - with(true)
}

fn compare_whole(cases: u64) {
    let problems: Vec<Problem> = (0..cases).map(lumpy).collect();
    let Some(theirs) = highs(&problems, &["--whole"]) else {
        return;
    };
    let (mut fractional, mut most) = (0, 0);
    for (seed, (problem, (theirs, _))) in problems.iter().zip(theirs).enumerate() {
        let whole = solve_whole(problem, 3000).expect("a problem that makes sense");
        let off = (whole.answer.objective - theirs).abs() / theirs.abs().max(1e-9);
        most = most.max(whole.programmes);
        fractional += usize::from(whole.programmes > 1);
        eprintln!(
            "whole {seed}: ours {:.6}, HiGHS {theirs:.6}, off {off:.1e}, gap {:.1e}, relaxed {:.6}, {} programmes",
            whole.answer.objective, whole.answer.relative_gap, whole.relaxation, whole.programmes
        );
        assert!(off <= 1e-4, "seed {seed}: off by {off:e}");
        for (product, sold) in problem.products.iter().zip(&whole.answer.schedule.sold_mw) {
            for mw in sold {
                assert!(
                    (mw / product.step_mw).fract().abs() < 1e-9
                        && (*mw == 0.0 || *mw >= product.minimum_mw),
                    "seed {seed}: {mw} MW of {}",
                    product.name
                );
            }
        }
    }
    assert!(
        2 * fractional > problems.len(),
        "most of them had to branch, not {fractional}"
    );
    eprintln!(
        "whole: {} equal, {fractional} branched, at most {most} programmes",
        problems.len()
    );
}
