//! What holds of every plan, whatever the fleet.

use proptest::prelude::*;

use super::super::reserve::{self, RECOVERY, Way};
use super::*;

fn sites_hold(world: &World, problem: &Problem<'_>, solved: &Solved) -> Result<(), TestCaseError> {
    for (s, limits) in world.sites.iter().enumerate() {
        for step in 0..world.grid.len() {
            let (mut high, mut low) = (0.0, 0.0);
            for (vehicle, lane) in world
                .vehicles
                .iter()
                .zip(&solved.lanes)
                .filter(|(v, _)| v.site == s)
            {
                let Some(j) = step
                    .checked_sub(vehicle.first)
                    .filter(|j| *j < vehicle.share.len())
                else {
                    continue;
                };
                high += lane.net[j] + lane.share.kept(&problem.calls, Way::Down, j);
                low += lane.net[j] - lane.share.kept(&problem.calls, Way::Up, j);
            }
            prop_assert!(
                high <= limits.import_kw + EPS,
                "site {s} step {step}: {high} kW of {}",
                limits.import_kw
            );
            prop_assert!(
                low >= -limits.export_kw - EPS,
                "site {s} step {step}: {low} kW of -{}",
                limits.export_kw
            );
        }
    }
    Ok(())
}

/// Plays a full call of one product over every window of its endurance, then the old schedule for the recovery time, then full power: the
/// battery stays inside its band and leaves with what it would have had.
fn call_is_delivered(
    world: &World,
    problem: &Problem<'_>,
    solved: &Solved,
) -> Result<(), TestCaseError> {
    for (k, call) in problem.calls.iter().enumerate() {
        let window = if call.product == Product::Fcr { 2 } else { 4 };
        for (i, (vehicle, lane)) in world.vehicles.iter().zip(&solved.lanes).enumerate() {
            let m = lane.net.len();
            for from in 0..m {
                for way in [Way::Up, Way::Down] {
                    let kw = |j: usize| {
                        let called = j >= from && j < from + window;
                        let kw = if called {
                            lane.share.of(way)[k][j]
                        } else {
                            0.0
                        };
                        if way == Way::Up { -kw } else { kw }
                    };
                    if (from..m.min(from + window)).all(|j| kw(j) == 0.0) {
                        continue;
                    }
                    let mut level = vehicle.arrival;
                    for j in 0..m {
                        let within = vehicle.share.last().is_some_and(|f| *f < 1.0);
                        let planned = j < from + window + RECOVERY
                            || (within && m <= from + window + RECOVERY + 1);
                        let net = if planned {
                            lane.net[j] + kw(j)
                        } else {
                            vehicle.charge_kw * vehicle.share[j]
                        };
                        prop_assert!(
                            net <= vehicle.charge_kw + EPS && net >= -vehicle.discharge_kw - EPS
                        );
                        let hours = world.grid.hours(vehicle.first + j);
                        let factor = if net >= 0.0 {
                            vehicle.charge_efficiency
                        } else {
                            1.0 / vehicle.discharge_efficiency
                        };
                        let wanted = level + hours * net * factor;
                        let lowest = vehicle.floor.min(vehicle.arrival);
                        prop_assert!(
                            wanted >= lowest - EPS,
                            "vehicle {i} step {j}: {wanted} below {lowest}"
                        );
                        if planned {
                            let top = vehicle.capacity.max(vehicle.arrival);
                            prop_assert!(
                                wanted <= top + EPS,
                                "vehicle {i} step {j}: {wanted} above {top}"
                            );
                        }
                        level = wanted.min(vehicle.capacity.max(vehicle.arrival));
                    }
                    {
                        let promised = problem.envelopes[i].goal.min(*lane.energy.last().unwrap());
                        prop_assert!(
                            level >= promised - EPS,
                            "vehicle {i}: leaves with {level} of {promised}"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nobody_is_left_short_that_full_power_would_fill(
        numbers in prop::collection::vec(numbers(), 1..25),
        prices in prop::collection::vec(-80.0_f64..300.0, 96),
        (fcr, up, down) in (0.0_f64..400.0, 0.0_f64..400.0, 0.0_f64..400.0),
        traded in prop::option::of(-500.0_f64..1_500.0),
    ) {
        let grid = Grid::new(now(), 96);
        let vehicles = fleet(&numbers, &grid);
        let mut position = reserves(fcr, up, down);
        if let Some(kw) = traded.filter(|kw| kw.abs() > 1.0) {
            let mut energy = award(Product::DayAhead, "2026-01-12T20:00:00Z", 2, kw.abs());
            energy.direction = if kw > 0.0 { Direction::Down } else { Direction::Up };
            position.apply(energy);
        }
        let open = vec![site("a", 1e9, 1e9), site("b", 1e9, 1e9)];
        let world = World::new(vehicles, grid, open, position, &prices);
        let input = world.input();
        let problem = Problem::new(&input, 1);
        let solved = solve(&problem);
        prop_assert!(short(&problem, &solved) < EPS, "{} kWh short", short(&problem, &solved));
        call_is_delivered(&world, &problem, &solved)?;
    }

    #[test]
    fn sites_keep_their_limits_with_all_reserve_called(
        numbers in prop::collection::vec(numbers(), 1..25),
        prices in prop::collection::vec(-80.0_f64..300.0, 96),
        limits in (20.0_f64..800.0, 0.0_f64..300.0, 20.0_f64..800.0, 0.0_f64..300.0),
        (fcr, up, down) in (0.0_f64..300.0, 0.0_f64..300.0, 0.0_f64..300.0),
    ) {
        let grid = Grid::new(now(), 96);
        let vehicles = fleet(&numbers, &grid);
        let sites = vec![site("a", limits.0, limits.1), site("b", limits.2, limits.3)];
        let world = World::new(vehicles, grid, sites, reserves(fcr, up, down), &prices);
        let input = world.input();
        let problem = Problem::new(&input, 1);
        let solved = solve(&problem);
        sites_hold(&world, &problem, &solved)?;
        call_is_delivered(&world, &problem, &solved)?;
    }

    #[test]
    fn the_same_input_gives_the_same_plan(numbers in prop::collection::vec(numbers(), 1..12), fcr in 0.0_f64..300.0) {
        let grid = Grid::new(now(), 96);
        let world = World::new(fleet(&numbers, &grid), grid, vec![site("a", 200.0, 50.0), site("b", 1e9, 1e9)], reserves(fcr, 0.0, 0.0), &[50.0, 90.0, 10.0]);
        prop_assert_eq!(plan(&world.input()).unwrap(), plan(&world.input()).unwrap());
    }

    #[test]
    fn what_is_called_held_is_held(numbers in prop::collection::vec(numbers(), 1..25), fcr in 1.0_f64..800.0) {
        let grid = Grid::new(now(), 96);
        let world = World::new(fleet(&numbers, &grid), grid, vec![site("a", 1e9, 1e9), site("b", 1e9, 1e9)], reserves(fcr, 0.0, 0.0), &[50.0, 90.0]);
        let input = world.input();
        let problem = Problem::new(&input, 1);
        let solved = solve(&problem);
        let made = plan(&world.input()).unwrap();
        for (step, planned) in made.plan.steps.iter().enumerate() {
            for held in &planned.held {
                for way in [Way::Up, Way::Down] {
                    let sum = reserve::Held::of(&problem, &solved.lanes).kw(0, way, step);
                    prop_assert!(sum >= held.volume.kw() - 1.0, "step {step}: {sum} of {}", held.volume);
                }
            }
            prop_assert!(planned.low <= planned.baseline && planned.baseline <= planned.high);
        }
    }
}
