//! What a vehicle keeps of the reserve that was shared out to it.

use market::Product;

use super::hold::Hold;
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
