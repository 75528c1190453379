//! How reserve is shared out and what a vehicle keeps of its share.

use market::Product;

use super::hold::{Hold, Share, each_step, share_out};
use super::known::Known;
use super::*;
use crate::case::Reserve;
use crate::policy::tests::{Drawn, blocks, case, prices};

/// One car with 21 of 60 kWh that stays for twenty hours, and upward reserve to be sustained for an hour.
fn one_car() -> Case {
    let car = Drawn {
        day: 0,
        minute: 0,
        minutes: 1200,
        arrival: 0.35,
        wanted: 0.0,
        kw: 11.0,
        site: 2,
    };
    let mut case = case(&[car], &prices(1), [f64::INFINITY, 1e6], true);
    case.reserves = vec![Reserve {
        product: Product::AfrrUp,
        power_factor: 1.0,
        endurance_hours: 1.0,
        blocks: blocks(&case, 400.0),
    }];
    case
}

/// Found by `what_is_held_obeys_the_window_rule_and_nobody_is_short_for_it`: with what it could no longer hold a vehicle
/// forgot what it had held, and sold its energy at once.
#[test]
fn a_vehicle_that_gives_up_reserve_keeps_the_energy_of_what_it_has_held() {
    const HELD: usize = 4;
    let case = one_car();
    let mut rolling = Rolling::new(&case, Policy::V2g);
    for (t, price) in rolling.market.price.iter_mut().enumerate() {
        // Dear hours, the earlier the dearer, and then cheap ones in which to charge again.
        *price = if t < 20 {
            1000.0 - 10.0 * f64::from(u8::try_from(t).unwrap())
        } else {
            50.0
        };
    }
    rolling.arrive(&Known::at(&case, 0), 0);
    let hold = |up| Hold { up, down: 0.0 };
    for t in 0..HELD {
        rolling.players[0].set_hold(&case, 0, t, hold(10.0));
    }
    rolling.answer(&Known::at(&case, 0), 0);
    for t in 0..HELD {
        rolling.carry_out(t, None);
    }
    // More than any vehicle can hold.
    rolling.players[0].set_hold(&case, 0, HELD, hold(1000.0));
    rolling.answer(&Known::at(&case, HELD), 0);

    let (player, fleet) = (&rolling.players[0], case.fleet);
    assert!(!player.holds_any());
    let kept = player.session.floor + 10.0 / fleet.discharge_efficiency;
    let last_felt = HELD - 1 + rolling.pool.terms[0].tail;
    let mut energy = player.energy;
    let mut lowest = energy;
    for j in HELD..player.charge.len() {
        energy += case.grid.hours()
            * (fleet.charge_efficiency * player.charge[j]
                - player.discharge[j] / fleet.discharge_efficiency);
        if j < last_felt {
            assert!(
                energy >= kept - 1e-6,
                "{energy} kWh after step {j}, {kept} are kept"
            );
        }
        lowest = lowest.min(energy);
    }
    assert!(
        lowest < kept - 1.0,
        "nothing is left to sell later: {lowest} kWh"
    );
}

#[test]
fn a_vehicle_that_cannot_hold_a_new_share_keeps_the_one_its_plan_keeps_free() {
    const STEPS: usize = 8;
    let case = one_car();
    let known = Known::at(&case, 0);
    let mut rolling = Rolling::new(&case, Policy::V2g);
    rolling.arrive(&known, 0);
    let hold = |up| Hold { up, down: 0.0 };
    for t in 0..STEPS {
        rolling.players[0].set_hold(&case, 0, t, hold(5.0));
    }
    rolling.answer(&known, 0);
    rolling.players[0].note_holds();
    // More than any vehicle can hold.
    for t in 0..STEPS {
        rolling.players[0].set_hold(&case, 0, t, hold(1000.0));
    }
    rolling.answer(&known, 0);
    for t in 0..STEPS {
        assert_eq!(rolling.players[0].hold(0, t), Some(hold(5.0)), "step {t}");
    }
}

/// Two cars like that of `one_car`, the second one still to come.
fn two_cars(case: &Case) -> Vec<Player> {
    let there = Player::new(case.sessions[0].clone(), 1.0, Some(0));
    let to_come = Player::new(case.sessions[0].clone(), 1.0, None);
    vec![there, to_come]
}

fn share_up(case: &Case, players: &mut [Player], kw: f64) {
    let share = Share {
        product: 0,
        steps: 0..8,
        kw,
        sure_until: 0,
        pictures: 1,
    };
    share_out(case, &hold::terms(case), players, &share, true);
}

#[test]
fn who_comes_first_takes_its_part_though_those_expected_could_hold_all() {
    let case = one_car();
    let mut players = two_cars(&case);
    for t in 0..8 {
        players[1].set_hold(&case, 0, t, Hold { up: 6.0, down: 0.0 });
    }
    share_up(&case, &mut players, 6.0);
    let up = |player: &Player| player.hold(0, 4).unwrap().up;
    assert!((up(&players[0]) - 3.0).abs() < 1e-9, "{}", up(&players[0]));
    // The other one does not come: what is held stays, what is missing is added.
    players.pop();
    share_up(&case, &mut players, 6.0);
    assert!((up(&players[0]) - 6.0).abs() < 1e-9, "{}", up(&players[0]));
}

#[test]
fn who_is_there_holds_what_the_poorest_picture_leaves_to_it() {
    let case = one_car();
    let held = |pictures: &[usize]| -> Vec<f64> {
        let mut players = two_cars(&case);
        let come = players.remove(1);
        let odds = 1.0 / 2.0;
        players.extend(
            pictures
                .iter()
                .map(|k| come.clone().expected(*k, odds, 1.0)),
        );
        let share = Share {
            product: 0,
            steps: 0..8,
            kw: 6.0,
            sure_until: 0,
            pictures: 2,
        };
        share_out(&case, &hold::terms(&case), &mut players, &share, true);
        players.iter().map(|p| p.hold(0, 4).unwrap().up).collect()
    };
    let near = |held: &[f64], expected: &[f64]| {
        held.iter().zip(expected).all(|(h, e)| (h - e).abs() < 1e-9)
    };
    let (nobody, one, two) = (held(&[1]), held(&[0, 1]), held(&[0, 1, 1]));
    assert!(
        near(&nobody, &[6.0, 0.0]),
        "in one picture nobody comes: {nobody:?}"
    );
    assert!(near(&one, &[3.0, 3.0, 3.0]), "{one:?}");
    assert!(near(&two, &[3.0, 3.0, 1.5, 1.5]), "{two:?}");
}

#[test]
fn what_one_has_refused_the_others_are_asked_for() {
    let case = one_car();
    let mut players = two_cars(&case);
    players[0].full = true;
    for t in 0..8 {
        players[0].set_hold(&case, 0, t, Hold { up: 1.0, down: 0.0 });
    }
    share_up(&case, &mut players, 6.0);
    let up = |player: &Player| player.hold(0, 4).unwrap().up;
    assert!((up(&players[0]) - 1.0).abs() < 1e-9);
    assert!((up(&players[1]) - 5.0).abs() < 1e-9);
}

#[test]
fn a_vehicle_that_cannot_hold_all_of_a_new_share_is_asked_for_half_of_what_is_new() {
    let case = one_car();
    let mut player = two_cars(&case).remove(0);
    let hold = |up| Hold { up, down: 0.0 };
    player.set_hold(&case, 0, 2, hold(4.0));
    player.note_holds();
    player.set_hold(&case, 0, 2, hold(10.0));
    player.set_hold(&case, 0, 3, hold(2.0));
    player.halve_what_is_new();
    assert_eq!(player.hold(0, 2), Some(hold(7.0)));
    assert_eq!(player.hold(0, 3), Some(hold(1.0)));
}

#[test]
fn what_other_products_leave_of_power_and_of_energy_is_counted_apart() {
    let mut case = one_car();
    case.reserves.push(Reserve {
        product: Product::Fcr,
        power_factor: 1.25,
        endurance_hours: 0.5,
        ..case.reserves[0].clone()
    });
    let terms = hold::terms(&case);
    let mut player = two_cars(&case).remove(0);
    let possible = |player: &Player| {
        let mut up = 0.0;
        let steps = 4..5;
        each_step(&case, &terms, player, 1, &steps, true, |_, hold| {
            up = hold.up
        });
        up
    };
    let alone = possible(&player);
    player.set_hold(&case, 0, 4, Hold { up: 5.0, down: 0.0 });
    // There is energy enough for both, so that only power is shared: 5 kW less at 1.25 kW per kW.
    assert!(
        (alone - possible(&player) - 5.0 / 1.25).abs() < 1e-9,
        "{alone}"
    );
}
