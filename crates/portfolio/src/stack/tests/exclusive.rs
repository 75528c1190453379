//! Exclusive groups by hand: one product at a time, and a price for each alternative.

use super::*;

/// A battery of 11 kW each way that two products want whole, each over two blocks.
fn two_buyers(first: [f64; 2], second: [f64; 2]) -> Problem {
    let mut problem = plain(8, vec![car(8)]);
    let up = way(1.0, 1.0, 0.25);
    problem.products = [("ffr", first), ("fcr_d_up", second)]
        .map(|(name, prices)| {
            let mut product = product(name, up, None, 4, prices[0]);
            let mut later = product.blocks[0].clone();
            (later.steps, later.price) = (4..8, prices[1]);
            product.blocks.push(later);
            product
        })
        .to_vec();
    problem.exclusive = vec![Exclusive {
        name: "one of both".to_owned(),
        products: vec![0, 1],
    }];
    problem
}

#[test]
fn the_better_product_of_each_block_is_sold_and_never_both() {
    let problem = two_buyers([30.0, 10.0], [20.0, 25.0]);
    let whole = solve_whole(&problem, 100).expect("a problem");
    let sold = &whole.answer.schedule.sold_mw;
    assert!(sold[0][0] > 0.01 && sold[1][1] > 0.01, "{sold:?}");
    assert_eq!((sold[0][1], sold[1][0]), (0.0, 0.0));
    assert!(whole.answer.relative_gap < 1e-5);
    // What is awarded already shuts out the other.
    let mut awarded = problem;
    awarded.products[1].blocks[0].awarded_mw = 0.001;
    let sold = solve_whole(&awarded, 100)
        .expect("a problem")
        .answer
        .schedule
        .sold_mw;
    assert!(sold[0][0] == 0.0 && sold[1][0] > 0.009, "{sold:?}");
}

#[test]
fn each_alternative_is_priced_by_what_holding_it_costs() {
    // Charging is cheap in the first hour: who holds Up from the battery alone loses nothing, so that it costs nothing.
    let problem = two_buyers([30.0, 10.0], [20.0, 25.0]);
    let plan = solve_whole(&problem, 100)
        .expect("a problem")
        .answer
        .schedule;
    let offered = alternatives(&problem, &plan, 100).expect("a group");
    assert_eq!(offered[0].choices.len(), 2);
    for choice in &offered[0].choices {
        assert!(choice.volumes_mw.iter().all(|mw| *mw > 0.01));
        near(choice.cost, 0.0, 1e-3);
        let blocks = problem.products[choice.product]
            .blocks
            .iter()
            .zip(&choice.volumes_mw);
        let pay: f64 = blocks.map(|(block, mw)| block.price * mw).sum();
        near(choice.gain, pay, 1e-3);
    }
    // A MWh fed in earns 60 less 20 of wear: that is what holding a MW back costs an hour, and what is asked at least.
    let mut dear = two_buyers([70.0; 2], [30.0; 2]);
    dear.export_price.fill(60.0);
    let session = &mut dear.vehicles[0].session;
    (session.goal, session.charge_kw) = (6.0, 0.0);
    let choices = &alternatives(&dear, &plan, 100).expect("a group")[0].choices;
    near(choices[0].average_price.expect("it is sold"), 40.0, 0.1);
    near(choices[0].gain, 2.0 * 0.011 * 30.0, 1e-3);
    assert!(choices[1].volumes_mw.iter().all(|mw| *mw < 1e-4) && choices[1].gain.abs() < 1e-3);
}

#[test]
fn a_product_in_two_groups_is_refused() {
    let mut problem = two_buyers([1.0; 2], [1.0; 2]);
    problem.exclusive.push(Exclusive {
        name: "again".to_owned(),
        products: vec![1],
    });
    let said = solve_whole(&problem, 10).expect_err("twice").to_string();
    assert!(said.contains("again") && said.contains("once"), "{said}");
}
