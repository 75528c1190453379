use proptest::prelude::*;

use super::*;

fn battery(arrival: f64, goal: f64) -> Battery {
    Battery {
        arrival_kwh: arrival,
        charge_efficiency: 0.9,
        discharge_efficiency: 0.9,
        goal_kwh: goal,
        shortfall: 2.0,
        end_value: 0.0,
    }
}

fn at_prices(prices: &[f64], wear: f64) -> Vec<Step> {
    prices
        .iter()
        .map(|price| Step::priced(1.0, [10.0, 10.0], [*price, wear - price], [0.0, 40.0]))
        .collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

#[test]
fn the_goal_is_reached_in_the_cheapest_hours() {
    let plan = cheapest(
        &battery(10.0, 28.0),
        &at_prices(&[100.0, 50.0, 70.0, 60.0], 1000.0),
    )
    .expect("a plan");
    // 18 kWh inside the battery take 20 kWh from the grid: the two cheapest hours at full power.
    assert!(
        plan.charge_kw
            .iter()
            .zip([0.0, 10.0, 0.0, 10.0])
            .all(|(a, b)| close(*a, b)),
        "{plan:?}"
    );
    assert!(close(plan.cost, 0.01 * (50.0 + 60.0)), "{}", plan.cost);
    assert!(close(plan.energy_kwh[4], 28.0));
}

#[test]
fn discharge_pays_only_above_the_price_of_losses_and_wear() {
    // Buy at 81 and lose 19 % on the way: worth it above 81/0.81 + 20 = 120.
    let cycles = |high: f64| {
        let plan = cheapest(&battery(0.0, 0.0), &at_prices(&[81.0, high], 20.0)).expect("a plan");
        plan.discharge_kw[1] > 0.0
    };
    assert!(!cycles(119.9));
    assert!(cycles(120.1));
}

#[test]
fn charging_and_discharging_at_once_pays_only_below_the_threshold() {
    // -price < wear * rho/(1 - rho): 20 * 0.81/0.19 = 85.26 EUR/MWh; the battery is full and must stay so.
    let overlap = |price: f64| {
        let plan = cheapest(&battery(40.0, 40.0), &at_prices(&[price], 20.0)).expect("a plan");
        plan.charge_kw[0].min(plan.discharge_kw[0]) > 1e-9
    };
    assert!(!overlap(-85.2));
    assert!(overlap(-85.4));
}

#[test]
fn a_requirement_out_of_reach_is_short_and_priced() {
    let plan = cheapest(&battery(10.0, 30.0), &at_prices(&[50.0], 0.0)).expect("a plan");
    assert!(close(plan.short_kwh, 11.0));
    assert!(close(plan.cost, 0.5 + 22.0));
}

#[test]
fn a_floor_between_the_ends_is_kept_at_any_price() {
    let mut steps = at_prices(&[500.0, 10.0, 10.0], 0.0);
    steps[0].floor_kwh = 19.0;
    let plan = cheapest(&battery(10.0, 10.0), &steps).expect("a plan");
    assert!(close(plan.energy_kwh[1], 19.0));
    steps[0].floor_kwh = 19.5;
    assert_eq!(
        cheapest(&battery(10.0, 10.0), &steps),
        Err(NoPlan::Unreachable {
            step: 0,
            excess_kwh: 0.5
        })
    );
}

#[test]
fn a_kink_in_the_price_of_net_power_stops_the_plan_at_the_sold_position() {
    // 4 kW are sold at 50; more costs 80, less earns 20 back: an imbalance spread around the position.
    let mut steps = at_prices(&[0.0, 0.0], 30.0);
    for step in &mut steps {
        step.charge_price = 0.0;
        step.discharge_price = 30.0;
        step.net = vec![
            Piece {
                up_to_kw: 4.0,
                eur_per_mwh: 20.0,
            },
            Piece {
                up_to_kw: f64::INFINITY,
                eur_per_mwh: 80.0,
            },
        ];
    }
    let plan = cheapest(&battery(0.0, 7.2), &steps).expect("a plan");
    assert!(
        close(plan.charge_kw[0], 4.0) && close(plan.charge_kw[1], 4.0),
        "{plan:?}"
    );
    assert!(close(plan.cost, 2.0 * 0.004 * 20.0));
    steps[1].net.reverse();
    assert_eq!(
        cheapest(&battery(0.0, 7.2), &steps),
        Err(NoPlan::NotConvex { step: 1 })
    );
}

#[test]
fn power_limits_that_exclude_each_other_are_no_plan() {
    let mut steps = at_prices(&[10.0], 0.0);
    (steps[0].low_kw, steps[0].high_kw) = (5.0, 4.0);
    assert!(matches!(
        cheapest(&battery(5.0, 5.0), &steps),
        Err(NoPlan::Unreachable { step: 0, .. })
    ));
}

#[test]
fn nothing_to_decide_is_a_plan_too() {
    let plan = cheapest(&battery(5.0, 8.0), &[]).expect("a plan");
    assert!(close(plan.cost, 6.0) && plan.energy_kwh == [5.0]);
    assert!(close(
        bound(&battery(5.0, 8.0), &[], &[]).expect("a bound"),
        6.0
    ));
}

#[test]
fn energy_is_worth_what_a_little_more_of_it_saves() {
    let steps = at_prices(&[90.0, 40.0, 140.0, 60.0, 30.0, 200.0], 25.0);
    let value = |arrival: f64| cheapest(&battery(arrival, 20.0), &steps).expect("a plan");
    let (less, plan, more) = (value(12.999), value(13.0), value(13.001));
    let slope = (less.cost - more.cost) / 0.002;
    assert!(
        (slope - plan.energy_value[0]).abs() < 1e-6,
        "{slope} against {:?}",
        plan.energy_value
    );
}

fn any_step() -> impl Strategy<Value = Step> {
    let net = prop_oneof![
        3 => Just(Vec::new()),
        2 => (-12.0_f64..12.0, -100.0_f64..100.0, 0.0_f64..100.0).prop_map(|(kink, price, rise)| vec![
            Piece { up_to_kw: kink, eur_per_mwh: price },
            Piece { up_to_kw: f64::INFINITY, eur_per_mwh: price + rise },
        ]),
        1 => (-12.0_f64..0.0, 0.0_f64..12.0, -100.0_f64..100.0).prop_map(|(a, b, price)| vec![
            Piece { up_to_kw: a, eur_per_mwh: price },
            Piece { up_to_kw: b, eur_per_mwh: price + 15.0 },
            Piece { up_to_kw: b + 1.0, eur_per_mwh: price + 70.0 },
        ]),
    ];
    let one_way = prop_oneof![Just(0.0), Just(7.0), Just(11.0)];
    (
        0.0_f64..=1.0,
        one_way,
        -200.0_f64..300.0,
        0.0_f64..60.0,
        net,
        -12.0_f64..2.0,
        3.0_f64..15.0,
        0.0_f64..4.0,
    )
        .prop_map(
            |(share, discharge, price, spread, net, low, high, floor)| Step {
                hours: 0.25,
                charge_kw: 11.0 * share,
                discharge_kw: discharge * share,
                charge_price: price,
                discharge_price: spread - price,
                net,
                low_kw: low.min(0.0),
                high_kw: high,
                floor_kwh: floor,
                ceiling_kwh: 20.0,
            },
        )
}

proptest! {
    /// A feasible plan whose cost meets an independently evaluated lower bound is optimal: nothing else is left to show.
    #[test]
    fn every_plan_is_feasible_and_meets_its_bound(
        steps in prop::collection::vec(any_step(), 1..60),
        arrival in 4.0_f64..20.0,
        goal in 0.0_f64..25.0,
        efficiency in prop_oneof![Just(1.0), 0.7_f64..1.0],
        end_value in prop_oneof![Just(0.0), 0.0_f64..0.2],
    ) {
        let battery = Battery {
            charge_efficiency: efficiency, discharge_efficiency: efficiency, end_value, ..battery(arrival, goal)
        };
        let plan = cheapest(&battery, &steps).expect("standing still is a plan");
        let mut level = arrival;
        for (j, step) in steps.iter().enumerate() {
            let (c, d) = (plan.charge_kw[j], plan.discharge_kw[j]);
            prop_assert!(c >= 0.0 && d >= 0.0);
            prop_assert!(c <= step.charge_kw + 1e-9 && d <= step.discharge_kw + 1e-9);
            if step.discharge_kw > 0.0 {
                prop_assert!(c / step.charge_kw + d / step.discharge_kw <= 1.0 + 1e-9);
            }
            prop_assert!(c - d >= step.low_kw - 1e-9 && c - d <= step.high_kw + 1e-9);
            level += step.hours * (efficiency * c - d / efficiency);
            prop_assert!((level - plan.energy_kwh[j + 1]).abs() < 1e-9);
            prop_assert!(level >= step.floor_kwh - 1e-7 && level <= step.ceiling_kwh + 1e-7);
        }
        let lower = bound(&battery, &steps, &plan.energy_value).expect("a bound");
        prop_assert!(lower <= plan.cost + 1e-12);
        prop_assert!(plan.cost - lower <= 1e-8 * (1.0 + plan.cost.abs()), "{} above {lower}", plan.cost);
    }

    /// Any prices bound the optimum from below.
    #[test]
    fn no_prices_make_a_bound_above_the_optimum(
        steps in prop::collection::vec(any_step(), 1..30),
        prices in prop::collection::vec(-0.5_f64..2.5, 30),
        arrival in 4.0_f64..20.0,
    ) {
        let battery = battery(arrival, 15.0);
        let plan = cheapest(&battery, &steps).expect("a plan");
        prop_assert!(bound(&battery, &steps, &prices).expect("a bound") <= plan.cost + 1e-9);
    }
}
