//! The live plan from minute to minute, against the plan that forgets everything.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers made from seeds, shared with the bench"
)]

#[path = "rolling/fleet.rs"]
mod fleet;

use chrono::TimeDelta;
use fleet::{Kind, World};
use portfolio::market::Product;
use portfolio::market::plan::PlanStatus;
use portfolio::rolling::{Again, Live, Made, Refused, fallback};

/// A fleet that sold reserve and traded what it needs, with its planner after the first plan.
fn start(count: usize, seed: u64) -> (World, Live, Made) {
    let mut world = World::new(count, seed);
    let scale = count as f64 / 1_000.0;
    world.sell(Product::Fcr, 300.0 * scale);
    world.sell(Product::AfrrDown, 500.0 * scale);
    let moment = world.moment();
    let open = Live::default()
        .plan(&world.input(&moment), &Again::default())
        .unwrap();
    world.trade(&moment, &open.pool_kw);
    let mut live = Live::default();
    let made = live
        .plan(&world.input(&world.moment()), &Again::default())
        .unwrap();
    (world, live, made)
}

fn again(world: &World, live: &mut Live) -> Made {
    live.plan(&world.input(&world.moment()), &Again::default())
        .unwrap()
}

#[test]
fn a_plan_made_again_costs_no_more_than_one_made_from_nothing_but_for_a_hundredth() {
    let (mut world, mut live, mut made) = start(400, 3);
    for round in 0..24 {
        world.follow(&made.schedules, 180);
        world.change(4);
        made = again(&world, &mut live);
        // Most go on as planned.
        assert!(
            made.work.changed < made.work.vehicles / 2,
            "round {round}: {:?}",
            made.work
        );
        if round % 6 == 5 {
            let full = again(&world, &mut Live::default());
            assert!(full.work.changed == full.work.vehicles);
            let more = (made.gap.cost - full.gap.cost) / full.gap.cost.abs();
            assert!(
                more < 0.01,
                "round {round}: {:?} against {:?}",
                made.gap,
                full.gap
            );
            // The bound of one holds for what the other costs, as far as both hold the same reserve.
            assert!(made.gap.bound <= made.gap.cost && full.gap.bound <= full.gap.cost);
            assert!(
                made.short_kw <= full.short_kw + 1.0,
                "{} kW of {}",
                made.short_kw,
                full.short_kw
            );
        }
    }
}

#[test]
fn the_plan_is_the_same_to_the_bit_on_one_thread_and_on_two() {
    let play = |threads: usize| {
        let mut world = World::new(300, 11);
        world.sell(Product::AfrrUp, 150.0);
        let again = Again {
            threads,
            ..Again::default()
        };
        let mut live = Live::default();
        let mut made = live.plan(&world.input(&world.moment()), &again).unwrap();
        let mut all = vec![made.clone()];
        for _ in 0..8 {
            world.follow(&made.schedules, 420);
            world.change(3);
            made = live.plan(&world.input(&world.moment()), &again).unwrap();
            all.push(made.clone());
        }
        all
    };
    let (one, two) = (play(1), play(2));
    assert_eq!(one, two);
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one.gap.cost.to_bits(), two.gap.cost.to_bits());
        assert_eq!(one.gap.bound.to_bits(), two.gap.bound.to_bits());
    }
}

#[test]
fn nobody_is_moved_while_nothing_changes() {
    let (mut world, mut live, made) = start(200, 5);
    world.follow(&made.schedules, 120);
    let next = again(&world, &mut live);
    assert_eq!(next.work.changed, 0, "{:?}", next.work);
    // Reserve that was short may be topped up; powers stay.
    let powers = |made: &Made| -> Vec<Vec<_>> {
        let schedules = made.schedules.iter();
        schedules
            .map(|s| s.steps.iter().map(|step| step.power).collect())
            .collect()
    };
    let (old, new) = (powers(&made), powers(&next));
    let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    assert!(
        moved <= next.work.repriced,
        "{moved} moved, {:?}",
        next.work
    );
}

#[test]
fn inside_the_gate_who_stays_keeps_what_was_planned() {
    let (mut world, mut live, made) = start(300, 8);
    // Ten minutes on: the quarter hour that runs then was planned before.
    world.follow(&made.schedules, 120);
    for plugged in world.plugged.iter_mut().filter(|p| p.kind == Kind::Home) {
        plugged.leaves += TimeDelta::hours(1);
    }
    let next = again(&world, &mut live);
    assert!(next.work.changed > 100, "{:?}", next.work);
    let running = |made: &Made| -> Vec<_> {
        made.schedules
            .iter()
            .map(|s| (s.evse.clone(), s.steps[0].power))
            .collect()
    };
    let kept = running(&made)
        .iter()
        .zip(running(&next))
        .filter(|(a, b)| **a == *b)
        .count();
    assert!(
        kept * 100 >= made.schedules.len() * 99,
        "{kept} of {}",
        made.schedules.len()
    );
}

#[test]
fn out_of_time_leaves_the_last_plan_clipped_to_what_sites_carry() {
    let (mut world, mut live, made) = start(300, 13);
    world.follow(&made.schedules, 300);
    world.change(150);
    // A fuse was lowered meanwhile.
    for site in &mut world.sites {
        site.import_kw *= 0.8;
        site.export_kw *= 0.5;
    }
    let moment = world.moment();
    let input = world.input(&moment);
    let hurried = Again {
        out_of_time: &|| true,
        ..Again::default()
    };
    assert_eq!(live.plan(&input, &hurried).unwrap_err(), Refused::OutOfTime);
    let (plan, schedules) = fallback(&input, Some((&made.plan, &made.schedules)));
    assert_eq!(plan.status, PlanStatus::Fallback);
    assert_eq!(schedules.len(), world.plugged.len());
    let mut carried = vec![vec![(0.0, 0.0); world.steps]; world.sites.len()];
    for (plugged, schedule) in world.plugged.iter().zip(&schedules) {
        assert_eq!(plugged.evse, schedule.evse);
        for (sum, step) in carried[plugged.site].iter_mut().zip(&schedule.steps) {
            sum.0 += (step.power + step.down).kw();
            sum.1 += (step.power - step.up).kw();
        }
    }
    for (site, steps) in world.sites.iter().zip(&carried) {
        for (most, least) in steps {
            assert!(*most <= site.import_kw + 0.1, "{most} kW of {site:?}");
            assert!(*least >= -site.export_kw - 0.1, "{least} kW of {site:?}");
        }
    }
    // The planner goes on from the plan it remembers.
    let next = again(&world, &mut live);
    assert!(next.work.changed < next.work.vehicles, "{:?}", next.work);
}
