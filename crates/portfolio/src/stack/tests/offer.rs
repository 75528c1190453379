//! Offers to a network operator by hand, their laws, and their bad input.

use super::*;

fn feeder(steps: usize) -> NetworkArea {
    NetworkArea {
        name: "feeder".to_owned(),
        sites: vec![0],
        import_kw: vec![None; steps],
        export_kw: Vec::new(),
    }
}

fn request(steps: std::ops::Range<usize>, bounds_kw: &[f64]) -> Request {
    Request {
        name: "evening".to_owned(),
        area: 0,
        steps,
        bounds_kw: bounds_kw.to_vec(),
        rebound_per_mwh: 0.0,
        margin_share: 0.0,
    }
}

/// A one-way car without losses that charges `need` kWh at 11 kW, cheap in the first of two hours.
fn cheap_first(need: f64) -> Problem {
    let mut problem = plain(8, vec![car(8)]);
    problem.import_price = [vec![20.0; 4], vec![100.0; 4]].concat();
    let session = &mut problem.vehicles[0].session;
    (session.discharge_kw, session.charge_efficiency) = (0.0, 1.0);
    (session.arrival, session.goal) = (20.0, 20.0 + need);
    problem.areas = vec![feeder(8)];
    problem
}

fn offered(problem: &Problem, requests: &[Request], notice: usize) -> Vec<Offer> {
    let plan = solved(problem).schedule;
    offers(problem, &plan, requests, notice).expect("an offer that makes sense")
}

#[test]
fn a_bound_costs_what_the_energy_costs_elsewhere() {
    let mut asked = request(0..4, &[20.0, 5.5, 0.0]);
    (asked.rebound_per_mwh, asked.margin_share) = (10.0, 0.1);
    let choices = &offered(&cheap_first(11.0), &[asked], 0)[0].choices;
    for (choice, kwh) in choices.iter().zip([0.0, 5.5, 11.0]) {
        near(choice.cost, 0.08 * kwh, 1e-4);
        near(choice.cost_with_others, choice.cost, 0.0);
        near(choice.moved_kwh, kwh, 1e-2);
        near(choice.rebound_kwh, kwh, 1e-2);
        let price = choice.price.expect("can be kept");
        near(price, 1.1 * (0.08 + 0.01) * kwh, 1e-3);
    }
    near(choices[0].volume_kw, 0.0, 0.0);
    near(choices[2].volume_kw, 11.0, 1e-2);
}

#[test]
fn what_an_order_would_leave_short_is_not_offered_and_said() {
    let choices = &offered(&cheap_first(20.0), &[request(0..4, &[9.5, 2.0])], 0)[0].choices;
    assert!(choices[0].price.is_some() && choices[0].gives_way.is_empty());
    // 11 kWh after the window and 2 in it: 7 of 20 are missing.
    assert_eq!(choices[1].price, None);
    assert!(
        choices[1]
            .gives_way
            .iter()
            .any(|why| why.contains("leaves 7.0")),
        "{:?}",
        choices[1].gives_way
    );
}

#[test]
fn reserve_that_was_sold_is_held_under_the_bound_or_nothing_is_offered() {
    let mut problem = cheap_first(0.0);
    problem.products = vec![product("afrr_down", None, way(1.0, 1.0, 0.25), 8, 100.0)];
    near(solved(&problem).schedule.sold_mw[0][0], 0.011, 1e-5);
    let choices = &offered(&problem, &[request(2..6, &[11.5, 5.0])], 0)[0].choices;
    assert!(choices[0].price.is_some());
    assert_eq!(choices[1].price, None);
    assert!(choices[1].gives_way[0].contains("awarded for afrr_down"));
}

#[test]
fn until_the_answer_the_plan_is_followed() {
    // Cheap before and after the window: who may still answer before it moves the energy there.
    let mut problem = cheap_first(5.5);
    problem.import_price = vec![30.0, 30.0, 20.0, 20.0, 100.0, 100.0, 100.0, 100.0];
    let cost =
        |notice: usize| offered(&problem, &[request(2..4, &[0.0])], notice)[0].choices[0].cost;
    near(cost(0), 0.01 * 5.5, 1e-4);
    near(cost(1), 0.01 * 2.75 + 0.08 * 2.75, 1e-4);
    near(cost(2), 0.08 * 5.5, 1e-4);
}

#[test]
fn the_cost_of_a_bound_is_convex_and_nothing_without_one() {
    let mut dear = 0;
    for seed in 0..12 {
        let mut problem = small(seed);
        if seed % 3 == 0 {
            problem.dimmings = vec![Dimming {
                name: "north".to_owned(),
                hours: 0.5,
                left: vec![Left {
                    vehicles: vec![0, 1],
                    kw: 8.0,
                }],
                holds_down: true,
            }];
        }
        let bounds: Vec<f64> = (0..7).map(|k| 60.0 - 12.0 * f64::from(k)).collect();
        let choices = &offered(&problem, &[request(4..8, &bounds)], seed as usize % 4)[0].choices;
        let scale = 1e-5 * solved(&problem).objective.abs() + 1e-5;
        near(choices[0].cost, 0.0, scale);
        for pair in choices.windows(2) {
            assert!(pair[0].cost <= pair[1].cost + scale, "{seed}: {choices:?}");
        }
        for three in choices.windows(3) {
            let straight = f64::midpoint(three[0].cost, three[2].cost);
            assert!(three[1].cost <= straight + scale, "{seed}: {choices:?}");
        }
        dear += usize::from(choices.iter().any(|c| c.price.is_some_and(|p| p > 0.01)));
    }
    assert!(dear >= 6, "{dear} of 12 offer something that costs");
}

#[test]
fn offers_that_are_open_together_are_kept_and_paid_together() {
    // Three hours, each dearer than the one before; whoever may not draw in the first goes to the second, then the third.
    let mut problem = plain(12, vec![car(12)]);
    problem.import_price = [vec![20.0; 4], vec![40.0; 4], vec![100.0; 4]].concat();
    let session = &mut problem.vehicles[0].session;
    (session.discharge_kw, session.charge_efficiency) = (0.0, 1.0);
    (session.arrival, session.goal) = (20.0, 31.0);
    problem.areas = vec![feeder(12)];
    let requests = [request(0..4, &[5.0, 0.0]), request(4..8, &[5.0, 0.0])];
    let offers = offered(&problem, &requests, 0);
    // Alone the second costs nothing, beside the first it costs an hour more.
    let narrowest = offers.iter().map(|offer| &offer.choices[1]);
    let (alone, together): (Vec<f64>, Vec<f64>) =
        narrowest.map(|c| (c.cost, c.cost_with_others)).unzip();
    near(alone[0], 0.22, 1e-3);
    near(alone[1], 0.0, 1e-3);
    near(together[1], 0.66, 1e-3);
    let asked: f64 = offers.iter().filter_map(|o| o.choices[1].price).sum();
    assert!(asked >= 11.0 * 0.08 - 1e-3, "{asked} asked");
    // A third in the last hour leaves nowhere to go: none of them is offered down to nothing.
    let more = [requests.to_vec(), vec![request(8..12, &[0.0])]].concat();
    for offer in offered(&problem, &more, 0) {
        let last = offer.choices.last().expect("a choice");
        assert!(last.price.is_none() && !last.gives_way.is_empty());
    }
}

#[test]
fn three_offers_together_cover_what_they_cost() {
    let mut problem = plain(16, vec![car(16)]);
    problem.import_price = (0..16).map(|t| [20.0, 40.0, 60.0, 100.0][t / 4]).collect();
    let session = &mut problem.vehicles[0].session;
    (session.discharge_kw, session.charge_efficiency) = (0.0, 1.0);
    (session.arrival, session.goal) = (20.0, 31.0);
    problem.areas = vec![feeder(16)];
    let requests: Vec<Request> = (0..3)
        .map(|h| request(4 * h..4 * h + 4, &[5.0, 0.0]))
        .collect();
    let offers = offered(&problem, &requests, 0);
    let asked: f64 = offers.iter().filter_map(|o| o.choices[1].price).sum();
    assert!(asked >= 11.0 * 0.08 - 1e-3, "{asked} asked");
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    type Spoil = fn(&mut Request);
    let spoils: [(Spoil, &str); 7] = [
        (|r| r.area = 3, "area of evening is 3"),
        (|r| r.steps = 4..4, "last step of evening"),
        (|r| r.steps = 4..9, "grid of 8"),
        (|r| r.steps = 0..4, "not before the answer, in step 1"),
        (|r| r.bounds_kw.clear(), "number of bounds"),
        (|r| r.bounds_kw = vec![1.0, 2.0], "bound of evening is 2"),
        (|r| r.margin_share = f64::NAN, "margin of evening"),
    ];
    let problem = cheap_first(5.0);
    let plan = solved(&problem).schedule;
    for (spoil, word) in spoils {
        let mut asked = request(2..4, &[5.0]);
        spoil(&mut asked);
        let said = offers(&problem, &plan, &[asked], 1)
            .expect_err(word)
            .to_string();
        assert!(said.contains(word), "{said:?} names {word:?}");
    }
    let mut problem = problem;
    for (fixed, word) in [
        (vec![(0.0, 0.0); 9], "number of fixed powers"),
        (vec![(12.0, 0.0)], "fixed power"),
        (vec![(-1.0, 0.0)], "fixed power"),
    ] {
        problem.vehicles[0].fixed_kw = fixed;
        let said = solve(&problem).expect_err(word).to_string();
        assert!(said.contains(word), "{said:?} names {word:?}");
    }
}
