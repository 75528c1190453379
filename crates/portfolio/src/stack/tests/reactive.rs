//! Reactive power by hand, and its prices against finite differences.

use super::*;

fn asked(low_kvar: Option<f64>, high_kvar: Option<f64>) -> Reactive {
    Reactive {
        low_kvar,
        high_kvar,
        ..Reactive::default()
    }
}

/// A car that has to charge 5 kWh within an hour, half of it at a low price, behind a charger of `kva`.
fn charging(kva: f64, reactive: Reactive) -> Problem {
    let mut problem = plain(4, vec![car(4)]);
    problem.import_price = vec![10.0, 10.0, 200.0, 200.0];
    problem.vehicles[0].session.goal = 46.0;
    problem.vehicles[0].session.discharge_kw = 0.0;
    problem.vehicles[0].rating_kva = Some(kva);
    problem.sites[0].reactive = Some(reactive);
    problem
}

#[test]
fn what_is_asked_of_reactive_power_leaves_the_rest_of_the_circle() {
    // 11 kVA, 6.6 kvar asked in every step: 8.8 kW are left, where 11 were.
    let problem = charging(11.0, asked(Some(6.6), None));
    let done = &solved(&problem).schedule.vehicles[0];
    near(done.charge_kw[0], 8.8, 1e-3);
    near(done.reactive_kvar[0], 6.6, 1e-3);
    // A wider converter leaves all of it.
    let problem = charging(12.83, asked(Some(6.6), None));
    near(
        solved(&problem).schedule.vehicles[0].charge_kw[0],
        11.0,
        1e-3,
    );
    // Without a converter nothing is drawn, and the band says whose it is.
    let mut problem = charging(11.0, asked(None, Some(-2.0)));
    problem.vehicles[0].rating_kva = None;
    let answer = solved(&problem);
    assert!(answer.schedule.vehicles[0].reactive_kvar.is_empty());
    let given = &answer.relaxed[0];
    assert_eq!(
        (given.what, given.owner),
        (Relaxed::ReactiveHigh, Owner::Site(0))
    );
    near(given.amount, 2.0, 1e-6);
    assert!(
        given.sentence.contains("2.00 kvar more"),
        "{}",
        given.sentence
    );
}

#[test]
fn a_charger_makes_room_under_a_transformer_that_reactive_load_fills() {
    let rated = |kva: f64| Reactive {
        base_kvar: vec![8.0; 4],
        rating_kva: Some(kva),
        ..Reactive::default()
    };
    let without = {
        let mut problem = charging(11.0, rated(10.0));
        problem.vehicles[0].rating_kva = None;
        solved(&problem)
    };
    near(without.schedule.vehicles[0].charge_kw[0], 6.0, 1e-3);
    // 10 kVA of transformer and 11 of charger: the most is drawn where both circles meet, 8 kvar apart.
    let with = solved(&charging(11.0, rated(10.0)));
    let shift = (11.0_f64.powi(2) - 10.0_f64.powi(2) + 8.0_f64.powi(2)) / 16.0;
    let most = 11.0_f64.hypot(0.0).powi(2) - shift * shift;
    let done = &with.schedule.vehicles[0];
    near(done.charge_kw[0], most.sqrt().min(10.0), 1e-2);
    assert!(done.reactive_kvar[0] < -3.0 && with.objective < without.objective);
    // What the base load exceeds on its own gives way and is said.
    let over = solved(&Problem {
        vehicles: Vec::new(),
        ..charging(11.0, rated(7.0))
    });
    let given = &over.relaxed[0];
    assert_eq!((given.what, given.step), (Relaxed::Rating, 0));
    near(given.amount, 1.0, 1e-6);
}

#[test]
fn reserve_fits_into_the_circle_beside_reactive_power() {
    let mut problem = plain(4, vec![car(4)]);
    problem.vehicles[0].rating_kva = Some(11.0);
    problem.products = vec![product(
        "fcr",
        way(1.0, 1.0, 0.25),
        way(1.0, 1.0, 0.25),
        4,
        1000.0,
    )];
    problem.sites[0].reactive = Some(asked(None, None));
    near(solved(&problem).schedule.sold_mw[0][0], 0.011, 1e-5);
    problem.sites[0].reactive = Some(asked(None, Some(-6.6)));
    near(solved(&problem).schedule.sold_mw[0][0], 0.0088, 1e-5);
}

#[test]
fn the_highest_reactive_draw_is_charged_above_what_is_free() {
    let charge = |free_kvar: f64, to_date_kvar: f64| Reactive {
        base_kvar: vec![5.0, 1.0, 9.0, 1.0],
        charges: vec![ReactiveCharge {
            steps: vec![0, 1, 2],
            per_kvar: 2.0,
            free_kvar,
            to_date_kvar,
        }],
        ..Reactive::default()
    };
    // 9 kvar less the 4 that the charger can take away at most.
    for (free, to_date, cost) in [(2.0, 0.0, 6.0), (2.0, 7.5, 11.0), (6.0, 0.0, 0.0)] {
        let mut problem = charging(11.0, charge(free, to_date));
        let session = &mut problem.vehicles[0].session;
        (session.goal, session.charge_kw) = (40.0, 4.0);
        problem.vehicles[0].rating_kva = Some(4.0);
        near(solved(&problem).objective, cost, 1e-4);
    }
}

#[test]
fn ratings_that_cannot_be_are_refused() {
    let mut problem = charging(10.0, asked(None, None));
    let said = solve(&problem).expect_err("11 kW at 10 kVA").to_string();
    assert!(
        said.contains("rating less active power of vehicle 0"),
        "{said}"
    );
    problem = charging(11.0, asked(Some(3.0), Some(2.0)));
    let said = solve(&problem)
        .expect_err("a band the wrong way")
        .to_string();
    assert!(
        said.contains("width of the asked reactive power of depot"),
        "{said}"
    );
}

/// The small pool with converters, transformers and reactive loads.
fn small_shifted(seed: u64) -> Problem {
    let mut problem = small(seed);
    let mut draw = Draw(seed * 104_729 + 777);
    for vehicle in &mut problem.vehicles {
        let session = &vehicle.session;
        let active = session.charge_kw.max(session.discharge_kw);
        vehicle.rating_kva = Some(active * draw.within(1.01, 1.2));
    }
    for site in &mut problem.sites {
        let base_kvar = (0..12).map(|_| draw.within(2.0, 10.0)).collect();
        site.reactive = Some(Reactive {
            base_kvar,
            rating_kva: Some(draw.within(14.0, 22.0)),
            low_kvar: None,
            high_kvar: Some(draw.within(1.0, 5.0)),
            charges: vec![ReactiveCharge {
                steps: (2..9).collect(),
                per_kvar: draw.within(0.05, 0.3),
                free_kvar: 1.0,
                to_date_kvar: 1.5,
            }],
        });
    }
    problem
}

#[test]
fn prices_with_reactive_power_equal_finite_differences() {
    const BY: f64 = 2e-3;
    let (mut compared, mut priced) = (0, 0);
    for seed in 0..12 {
        let problem = small_shifted(seed);
        let answer = solved(&problem);
        let prices = &answer.prices;
        let mut all: Vec<(String, f64, Change)> = Vec::new();
        for v in 0..problem.vehicles.len() {
            let own = &prices.vehicles[v];
            let (rating, charger) = (own.rating_kva, own.charge_kw);
            all.push((
                format!("rating of vehicle {v}"),
                rating.expect("a price"),
                Box::new(move |q, by| {
                    let kva = &mut q.vehicles[v].rating_kva;
                    *kva = kva.map(|kva| kva + by);
                }),
            ));
            all.push((
                format!("charger of vehicle {v}"),
                charger.expect("a price"),
                Box::new(move |q, by| q.vehicles[v].session.charge_kw += by),
            ));
        }
        for s in 0..2 {
            for t in (seed as usize % 3..12).step_by(3) {
                all.push((
                    format!("rating of site {s} in all steps, at {t}"),
                    prices.site_rating[s].iter().sum(),
                    Box::new(move |q, by| {
                        let kva = &mut q.sites[s].reactive.as_mut().expect("one").rating_kva;
                        *kva = kva.map(|kva| kva + by);
                    }),
                ));
                all.push((
                    format!("reactive load of site {s} in step {t}"),
                    prices.site_reactive[s][t],
                    Box::new(move |q, by| {
                        q.sites[s].reactive.as_mut().expect("one").base_kvar[t] -= by;
                    }),
                ));
            }
        }
        for (name, price, change) in all.iter().skip(seed as usize % 2).step_by(2) {
            let at = |by: f64| {
                let mut changed = problem.clone();
                change(&mut changed, by);
                solve(&changed).expect("still a problem").objective
            };
            let (left, right) = (
                (at(-BY) - answer.objective) / BY,
                (answer.objective - at(BY)) / BY,
            );
            let scale = price.abs().max(0.01);
            let (low, high) = (left.min(right), left.max(right));
            assert!(
                *price >= low - 0.02 * scale && *price <= high + 0.02 * scale,
                "{seed}: {name}: {price} outside {low} to {high}"
            );
            compared += 1;
            priced += usize::from(high - low < 0.02 * scale && price.abs() > 1e-3);
        }
    }
    assert!(
        compared > 80 && priced > 30,
        "{compared} compared, {priced} above zero away from kinks"
    );
}
