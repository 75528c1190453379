//! Refunds by hand: the ledger bounds them, what is driven away is not on it.

use super::*;

/// A car that feeds in for an hour at a good price and fills up again in a second one, and fees that are given back.
fn returning(ledger_kwh: f64) -> Problem {
    let mut problem = plain(8, vec![car(8)]);
    problem.import_price = vec![100.0; 8];
    problem.export_price = vec![200.0; 4];
    problem.export_price.resize(8, -100.0);
    problem.vehicles[0].session.goal = 20.0;
    problem.sites[0].refund = Some(Refund {
        per_mwh: 50.0,
        drawn_per_returned: 1.0,
        ledger_kwh,
    });
    problem
}

#[test]
fn a_ledger_that_stays_empty_has_no_price_beyond_the_refund() {
    // A one-way car comes and goes before the other: nothing it drew is on the ledger, and nothing is to be had from it.
    let mut problem = returning(0.0);
    let mut one_way = car(3);
    (one_way.session.goal, one_way.session.discharge_kw) = (45.0, 0.0);
    problem.vehicles[0] = Vehicle {
        session: Session {
            first: 3,
            share: vec![1.0; 5],
            ..problem.vehicles[0].session.clone()
        },
        ..problem.vehicles[0].clone()
    };
    problem.vehicles.push(one_way);
    let answer = solved(&problem);
    near(total(&problem), 0.0, 1e-3);
    let price = answer.prices.site_ledger[0];
    assert!((0.0..=0.051).contains(&price), "{price} for 0.05 a kWh");
}

fn total(problem: &Problem) -> f64 {
    let kwh = refunded(problem, &solved(problem).schedule);
    kwh.iter().flatten().sum()
}

#[test]
fn no_more_is_refunded_than_the_ledger_holds() {
    // 11 kWh go back to the grid; all of it was there at arrival, so that only the ledger covers it.
    near(total(&returning(0.0)), 0.0, 1e-3);
    near(total(&returning(4.0)), 4.0, 1e-3);
    near(total(&returning(40.0)), 11.0, 1e-3);
    // Where the losses are exempt too, a kWh takes more off the ledger.
    let mut lossy = returning(4.0);
    let refund = lossy.sites[0].refund.as_mut().expect("a refund");
    refund.drawn_per_returned = 1.25;
    near(total(&lossy), 3.2, 1e-3);
}

#[test]
fn energy_drawn_before_it_returns_counts_and_energy_driven_away_does_not() {
    // Charged in the first hour, fed back in the second: 9 kWh at most come back of 10 and more.
    let mut problem = returning(0.0);
    problem.import_price[..4].fill(10.0);
    problem.export_price.reverse();
    problem.vehicles[0].session.goal = 40.0;
    let answer = solved(&problem);
    let back: f64 = answer.schedule.vehicles[0].discharge_kw.iter().sum::<f64>() / 4.0;
    assert!(back > 8.0);
    near(total(&problem), back, 1e-3);
    // A second car brings energy from elsewhere and feeds it in while the first one charges to drive: nothing was drawn that
    // returns, and nothing is refunded.
    let mut problem = returning(0.0);
    let mut leaving = car(8);
    leaving.name = "leaving".to_owned();
    (leaving.session.goal, leaving.session.discharge_kw) = (50.0, 0.0);
    problem.vehicles.push(leaving);
    problem.import_price[..2].fill(10.0);
    let answer = solved(&problem);
    let drawn: f64 = answer.schedule.vehicles[1].charge_kw.iter().sum::<f64>() / 4.0;
    near(drawn, 10.0 / 0.9, 1e-2);
    near(total(&problem), 0.0, 1e-3);
}

#[test]
fn a_refund_moves_the_plan_and_the_ledger_has_its_price() {
    // What is fed in at 130 a MWh is filled up again at 100 over an efficiency of 0.81, and wears 20: a loss without the refund.
    let mut problem = returning(3.0);
    problem.import_price[..4].fill(300.0);
    problem.export_price[..4].fill(130.0);
    problem.vehicles[0].session.goal = 40.0;
    let with = solved(&problem);
    near(total(&problem), 3.0, 0.2);
    let mut more = problem.clone();
    more.sites[0].refund.as_mut().expect("a refund").ledger_kwh += 0.01;
    let per_kwh = (with.objective - solved(&more).objective) / 0.01;
    near(with.prices.site_ledger[0], per_kwh, 0.02 * per_kwh);
    assert!(per_kwh > 0.005);
    problem.sites[0].refund = None;
    let without = solved(&problem).schedule;
    assert!(without.vehicles[0].discharge_kw.iter().sum::<f64>() < 1e-3);
    let said = reasons(&more, &with, "EUR");
    assert!(
        said.iter()
            .any(|r| r.limit == "ledger of refunds at site depot")
    );
}
