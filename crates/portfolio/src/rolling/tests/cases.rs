//! Single cases that can be followed by hand.

use super::*;

#[test]
fn a_depot_at_night_holds_a_megawatt_and_is_full_in_the_morning() {
    let grid = Grid::new(now(), 96);
    let vehicles = depot(30, &grid);
    let world = World::new(
        vehicles,
        grid,
        vec![site("depot", 4_000.0, 4_000.0)],
        reserves(1_000.0, 0.0, 0.0),
        &[80.0, 120.0, 40.0, 20.0],
    );
    let made = plan(&world.input()).unwrap();
    assert!(made.shortages.is_empty(), "{:?}", made.shortages);
    let held: Vec<_> = made
        .plan
        .steps
        .iter()
        .filter(|s| !s.held.is_empty())
        .collect();
    assert_eq!(held.len(), 16);
    assert!(
        held.iter()
            .all(|s| s.held[0].volume == Power::from_mw(1.0) && s.reason.contains("FCR"))
    );
    let input = world.input();
    let problem = Problem::new(&input, 1);
    let solved = solve(&problem);
    assert!(short(&problem, &solved) < EPS);
}

#[test]
fn one_way_chargers_hold_reserve_up_by_charging_meanwhile() {
    let grid = Grid::new(now(), 96);
    let vehicles: Vec<Vehicle> = (0..40)
        .filter_map(|_| vehicle((0, -60, 14 * 60, 50.0, 0.0, 300.0, 0.3, 0.9, true), &grid))
        .collect();
    let world = World::new(
        vehicles,
        grid,
        vec![site("depot", 4_000.0, 0.0)],
        reserves(0.0, 1_000.0, 0.0),
        &[80.0],
    );
    let made = plan(&world.input()).unwrap();
    assert!(made.shortages.is_empty(), "{:?}", made.shortages);
    for step in made.plan.steps.iter().filter(|s| !s.held.is_empty()) {
        assert!(step.baseline >= Power::from_mw(1.0), "{}", step.baseline);
    }
}

#[test]
fn the_pool_follows_the_energy_it_bought() {
    let grid = Grid::new(now(), 96);
    let vehicles = depot(20, &grid);
    let mut bought = award(Product::DayAhead, "2026-01-12T20:00:00Z", 2, 900.0);
    bought.direction = Direction::Down;
    let world = World::new(
        vehicles,
        grid,
        vec![site("depot", 4_000.0, 4_000.0)],
        position(vec![bought]),
        &[60.0],
    );
    let made = plan(&world.input()).unwrap();
    let at_eight = made
        .plan
        .steps
        .iter()
        .find(|s| s.interval.contains(at("2026-01-12T20:30:00Z")))
        .unwrap();
    assert!(
        (at_eight.baseline.kw() - 900.0).abs() < 120.0,
        "{}",
        at_eight.baseline
    );
}

#[test]
fn without_a_departure_it_charges_at_once_to_what_it_needs() {
    let grid = Grid::new(now(), 96);
    let mut vehicle = vehicle((0, -60, 600, 10.0, 0.0, 60.0, 0.5, 0.8, true), &grid).unwrap();
    vehicle.leaves = None;
    vehicle.hours_beyond = 0.0;
    let world = World::new(
        vec![vehicle],
        grid,
        vec![site("a", 100.0, 0.0)],
        Position::default(),
        &[100.0, 100.0, 1.0, 1.0],
    );
    let input = world.input();
    let problem = Problem::new(&input, 1);
    let solved = solve(&problem);
    // 18 kWh at 9.4 kWh per hour.
    assert!(
        solved.lanes[0].net[..7]
            .iter()
            .all(|kw| (kw - 10.0).abs() < 1e-3),
        "{:?}",
        solved.lanes[0].net
    );
}

#[test]
fn the_fallback_is_the_old_plan_within_the_envelopes() {
    let grid = Grid::new(now(), 96);
    let mut vehicles = depot(3, &grid);
    for (i, vehicle) in vehicles.iter_mut().enumerate() {
        vehicle.evse = Some(format!("D{i}/1").parse().unwrap());
        vehicle.session = Some(format!("s{i}").parse().unwrap());
    }
    let world = World::new(
        vehicles,
        grid,
        vec![site("depot", 4_000.0, 4_000.0)],
        Position::default(),
        &[80.0, 20.0],
    );
    let made = plan(&world.input()).unwrap();
    let (same, schedules) = fallback(&world.input(), Some((&made.plan, &made.schedules)));
    assert_eq!(same.status, market::plan::PlanStatus::Fallback);
    for (new, old) in schedules.iter().zip(&made.schedules) {
        for (a, b) in new.steps.iter().zip(&old.steps) {
            assert!(
                (a.power.kw() - b.power.kw()).abs() < 0.01,
                "{} {}",
                a.power,
                b.power
            );
        }
    }
    let later = Grid::new(now() + TimeDelta::hours(13) + TimeDelta::minutes(30), 96);
    let late: Vec<Vehicle> = fleet(
        &[(0, -900, 1_000, 100.0, 100.0, 300.0, 0.5, 0.8, true)],
        &later,
    )
    .into_iter()
    .map(|mut v| {
        v.evse = Some("D9/1".parse().unwrap());
        v
    })
    .collect();
    let sites = vec![site("depot", 4_000.0, 4_000.0)];
    let late = World::new(late, later, sites, Position::default(), &[80.0]);
    let (_, schedules) = fallback(&late.input(), None);
    assert_eq!(schedules.len(), late.vehicles.len());
    for (schedule, vehicle) in schedules.iter().zip(&late.vehicles) {
        assert!(schedule.steps[0].power.kw() >= vehicle.charge_kw - 0.01);
    }
}

#[test]
fn prices_that_are_no_numbers_are_refused() {
    let grid = Grid::new(now(), 4);
    let world = World::new(
        Vec::new(),
        grid,
        Vec::new(),
        Position::default(),
        &[f64::NAN],
    );
    assert_eq!(
        plan(&world.input()).unwrap_err(),
        Refused::Price { step: 0 }
    );
}
