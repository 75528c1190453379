//! Dimming by hand, against a fine-step simulation of every beginning, and its bad input.

use super::*;
use crate::stack::dimming::exposed;

fn alone(vehicles: std::ops::Range<usize>, kw: f64) -> Vec<Left> {
    let one = |vehicle: usize| Left {
        vehicles: vec![vehicle],
        kw,
    };
    vehicles.map(one).collect()
}

fn dimming(left: Vec<Left>, hours: f64, holds_down: bool) -> Dimming {
    Dimming {
        name: "north".to_owned(),
        hours,
        left,
        holds_down,
    }
}

/// A one-way car that needs 18 of 44 kWh which four hours can bring, cheapest in the last of them.
fn waiting() -> Problem {
    let mut problem = plain(16, vec![car(16)]);
    problem.import_price = (0..16).map(|t| if t < 12 { 100.0 } else { 20.0 }).collect();
    let session = &mut problem.vehicles[0].session;
    (session.goal, session.discharge_kw) = (49.0, 0.0);
    (session.charge_efficiency, session.charge_kw) = (1.0, 11.0);
    problem
}

#[test]
fn what_could_be_dimmed_is_charged_before() {
    let mut problem = waiting();
    // Without dimming all 9 kWh wait for the last hour.
    near(
        solved(&problem).schedule.vehicles[0].energy_kwh[12],
        40.0,
        1e-3,
    );
    problem.dimmings = vec![dimming(alone(0..1, 4.2), 1.0, false)];
    let answer = solved(&problem);
    // An hour at 4.2 kW is all that is sure of the last: 4.8 kWh are charged before, at 80 EUR per MWh more.
    near(answer.schedule.vehicles[0].energy_kwh[12], 44.8, 1e-3);
    assert!(answer.relaxed.is_empty());
    let price = answer.prices.vehicles[0].dimming_kwh.expect("exposed");
    near(price, 0.08, 1e-4);
    let said = reasons(&problem, &answer, "EUR");
    let said = said.iter().find(|r| r.limit.contains("after a dimming"));
    near(said.expect("a reason").price, 0.08, 1e-4);
    // Dimming for longer than the stay leaves 4.2 kW throughout.
    problem.dimmings[0].hours = 9.0;
    near(
        solved(&problem).schedule.vehicles[0].energy_kwh[12],
        44.8,
        1e-3,
    );
}

#[test]
fn a_vehicle_that_dimming_would_leave_short_says_so() {
    let mut problem = waiting();
    problem.vehicles[0].session.goal = 60.0;
    problem.dimmings = vec![dimming(alone(0..1, 4.2), 3.5, false)];
    let answer = solved(&problem);
    // 3.5 h at 4.2 kW and half an hour at 11 kW bring 20.2... of which 20 are needed; 0 kW left brings 5.5.
    assert!(answer.relaxed.is_empty());
    problem.dimmings[0].left[0].kw = 0.0;
    let answer = solved(&problem);
    let short = answer.relaxed.iter().find(|r| r.what == Relaxed::Dimmed);
    let short = short.expect("said");
    assert_eq!(short.owner, Owner::Vehicle(0));
    near(short.amount, 14.5, 1e-3);
    near(short.cost, 14.5, 1e-3);
    assert!(short.sentence.contains("dimming of north") && short.sentence.contains("14.50 kWh"));
}

#[test]
fn an_energy_manager_gives_to_who_is_urgent() {
    let mut problem = waiting();
    problem.vehicles.push(problem.vehicles[0].clone());
    problem.vehicles[1].session.goal = 40.0;
    let together = Left {
        vehicles: vec![0, 1],
        kw: 7.56,
    };
    problem.dimmings = vec![dimming(vec![together], 1.0, false)];
    let answer = solved(&problem);
    // The second needs nothing: the first may count on all that is left.
    near(
        answer.schedule.vehicles[0].energy_kwh[12],
        49.0 - 7.56,
        1e-3,
    );
}

#[test]
fn after_a_dimming_everybody_fits_under_the_fuse() {
    let mut problem = waiting();
    problem.vehicles.push(problem.vehicles[0].clone());
    problem.sites[0].import_kw = Some(11.0);
    problem.dimmings = vec![dimming(alone(0..2, 4.2), 1.0, false)];
    let answer = solved(&problem);
    assert!(answer.relaxed.is_empty());
    for begin in 0..=12 {
        let need: f64 = answer
            .schedule
            .vehicles
            .iter()
            .map(|v| 49.0 - v.energy_kwh[begin])
            .sum();
        let left = 8.4 + 11.0 * (12 - begin) as f64 / 4.0;
        assert!(
            need <= left + 1e-3,
            "{need} kWh from step {begin} on, {left} possible"
        );
    }
}

#[test]
fn down_is_sold_as_far_as_it_is_there_while_dimmed() {
    let sold = |holds_down: bool| {
        let mut problem = plain(8, vec![car(8), car(8)]);
        for vehicle in &mut problem.vehicles {
            let session = &mut vehicle.session;
            (session.arrival, session.goal, session.discharge_kw) = (30.0, 30.0, 0.0);
        }
        problem.products = vec![product("afrr_down", None, way(1.0, 1.0, 0.25), 8, 100.0)];
        problem.dimmings = vec![dimming(alone(0..2, 4.2), 1.0, holds_down)];
        solved(&problem).schedule.sold_mw[0][0]
    };
    near(sold(false), 0.022, 1e-5);
    near(sold(true), 0.0084, 1e-5);
}

/// The energy a vehicle leaves with if its draw is dimmed from minute `begin` of its first step on for `minutes`, minute
/// by minute; it comes and goes within the minutes of its first and last step.
fn leaves_with(
    problem: &Problem,
    answer: &Answer,
    v: usize,
    (begin, minutes): (usize, usize),
) -> f64 {
    let session = &problem.vehicles[v].session;
    let done = &answer.schedule.vehicles[v];
    let made = done.dimmed.as_ref().expect("exposed");
    let mut energy = session.arrival;
    for minute in 0..15 * session.share.len() {
        let j = minute / 15;
        let (from, share) = (minute as f64 % 15.0 / 15.0, session.share[j]);
        let (come, gone) = if j == 0 {
            (1.0 - share, 1.0)
        } else {
            (0.0, share)
        };
        // Power while plugged in, and the part of the minute that is.
        let within = 15.0 * ((from + 1.0 / 15.0).min(gone) - from.max(come)).max(0.0) / share;
        let (c, d) = if minute < begin {
            (done.charge_kw[j], done.discharge_kw[j])
        } else if minute < begin + minutes {
            (made.during_kw[j], 0.0)
        } else {
            (made.after_kw[j], 0.0)
        };
        let gain = session.charge_efficiency * c - d / session.discharge_efficiency;
        energy += within * gain / 60.0;
        if minute >= begin {
            energy = energy.min(session.capacity);
        }
    }
    energy
}

#[test]
fn whenever_a_dimming_begins_nobody_leaves_shorter_than_said() {
    let mut kept = 0;
    for seed in 0..24 {
        let mut problem = small(seed);
        problem.dimmings = match seed % 3 {
            0 => vec![dimming(alone(0..4, 4.2), 1.0, false)],
            1 => vec![dimming(alone(0..2, 2.0), 0.75, true)],
            _ => vec![dimming(
                vec![Left {
                    vehicles: vec![0, 1, 3],
                    kw: 6.0,
                }],
                1.5,
                seed % 2 == 0,
            )],
        };
        let answer = solved(&problem);
        for v in (0..4).filter(|v| exposed(&problem, *v).is_some()) {
            let said = answer.relaxed.iter().filter(|r| {
                r.owner == Owner::Vehicle(v)
                    && matches!(r.what, Relaxed::Dimmed | Relaxed::Departure)
            });
            let said = said.map(|r| r.amount).fold(2e-3, f64::max);
            let session = &problem.vehicles[v].session;
            kept += usize::from(said < 3e-3);
            let longest = [60, 45, 90][seed as usize % 3];
            for begin in (0..15 * session.share.len()).step_by(5) {
                for minutes in [10, 25, longest] {
                    let energy = leaves_with(&problem, &answer, v, (begin, minutes));
                    assert!(
                        energy >= session.goal - said - 1e-6,
                        "{seed}: vehicle {v} dimmed from minute {begin} leaves with {energy}, owed {} less {said}",
                        session.goal
                    );
                }
            }
        }
    }
    assert!(kept > 30, "{kept} kept without giving way");
}

#[test]
fn prices_stay_finite_differences_where_draw_may_be_dimmed() {
    let mut counts = (0, 0, 0);
    for seed in 0..30 {
        let mut problem = small(seed);
        problem.dimmings = vec![dimming(alone(0..2, 3.0), 0.75, seed % 2 == 0)];
        compare_prices(seed, &problem, &mut counts);
    }
    assert!(counts.0 > 60 && counts.1 > 20, "{counts:?}");
}

#[test]
fn dimming_that_makes_no_sense_is_refused_by_name() {
    type Spoil = fn(&mut Dimming);
    let spoils: [(Spoil, &str); 4] = [
        (|d| d.hours = 0.0, "longest time of north"),
        (|d| d.left[0].kw = -1.0, "draw left of north"),
        (|d| d.left[0].vehicles.push(7), "vehicle of north is 7"),
        (|d| d.left[0].vehicles.push(1), "vehicle of north is 1"),
    ];
    for (spoil, word) in spoils {
        let mut problem = plain(8, vec![car(8), car(8)]);
        problem.dimmings = vec![dimming(alone(0..2, 4.2), 1.0, false)];
        spoil(&mut problem.dimmings[0]);
        let said = solve(&problem).expect_err(word).to_string();
        assert!(said.contains(word), "{said:?} names {word:?}");
    }
}
