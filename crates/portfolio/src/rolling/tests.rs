use chrono::TimeDelta;
use forecast::Stay;
use market::{Award, AwardId, BidId, Direction, Product};
use proptest::prelude::*;
use units::{Currency, Efficiency, Energy, Interval, Power, Price};

use super::reserve::{RECOVERY, Way};
use super::*;

const AREA: Area = Area::Nl;
/// Rounding of powers and energies over a day, kWh.
const EPS: f64 = 1e-4;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    at("2026-01-12T16:05:00Z")
}

/// A vehicle as plain numbers: site, minutes until plug-in and stay, kW up and down, capacity, energy now and at departure as shares.
type Numbers = (usize, i64, i64, f64, f64, f64, f64, f64, bool);

fn numbers() -> impl Strategy<Value = Numbers> {
    (
        0_usize..2,
        -600_i64..600,
        5_i64..1_500,
        3.0_f64..120.0,
        0.0_f64..60.0,
        20.0_f64..350.0,
        0.0_f64..1.0,
        0.0_f64..1.0,
        any::<bool>(),
    )
}

fn vehicle(
    (site, begin, stay, charge, discharge, capacity, stored, wanted, known): Numbers,
    grid: &Grid,
) -> Option<Vehicle> {
    let start = now() + TimeDelta::minutes(begin);
    let stored = capacity * stored;
    let energy = (capacity * wanted - stored).max(0.0);
    let stay = Stay {
        outlet: 0,
        span: Interval::try_new(start, start + TimeDelta::minutes(stay)).unwrap(),
        energy: Energy::from_kwh(energy),
        stored: known.then(|| Energy::from_kwh(stored)),
        capacity: known.then(|| Energy::from_kwh(capacity)),
        max_charge: Power::from_kw(charge),
        max_discharge: Power::from_kw(discharge),
        floor: Energy::from_kwh(0.1 * capacity),
        charge_efficiency: Efficiency::try_new(0.94).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.93).unwrap(),
    };
    Vehicle::expected(&stay, site, grid)
}

fn fleet(numbers: &[Numbers], grid: &Grid) -> Vec<Vehicle> {
    numbers.iter().filter_map(|n| vehicle(*n, grid)).collect()
}

fn site(id: &str, import_kw: f64, export_kw: f64) -> Site {
    Site {
        id: id.parse().unwrap(),
        import_kw,
        export_kw,
    }
}

fn award(product: Product, from: &str, hours: i64, kw: f64) -> Award {
    let start = at(from);
    let direction = match product {
        Product::Fcr => Direction::Symmetric,
        Product::AfrrUp => Direction::Up,
        Product::DayAhead | Product::AfrrDown => Direction::Down,
    };
    let id = uuid_of(product, start);
    Award {
        id: AwardId(id.0),
        bid: id,
        area: AREA,
        product,
        direction,
        delivery: Interval::try_new(start, start + TimeDelta::hours(hours)).unwrap(),
        volume: Power::from_kw(kw),
        price: Price::from_f64(20.0, 2, Currency::Eur).unwrap(),
        awarded_at: now(),
    }
}

fn uuid_of(product: Product, start: DateTime<Utc>) -> BidId {
    BidId::derive("NL", product.name(), start, 0)
}

fn position(awards: Vec<Award>) -> Position {
    let mut position = Position::default();
    for award in awards {
        position.apply(award);
    }
    position
}

fn costs() -> Costs {
    Costs {
        import_per_mwh: 0.0,
        export_per_mwh: 0.0,
        wear_per_mwh: 30.0,
        imbalance_spread: 10.0,
    }
}

struct World {
    grid: Grid,
    vehicles: Vec<Vehicle>,
    plain: Vec<Plain>,
    sites: Vec<Site>,
    position: Position,
    market: Market,
}

impl World {
    fn new(
        vehicles: Vec<Vehicle>,
        grid: Grid,
        sites: Vec<Site>,
        position: Position,
        prices: &[f64],
    ) -> Self {
        let price = (0..grid.len()).map(|i| prices[i % prices.len()]).collect();
        let market = Market::new(&grid, price, &position, AREA);
        Self {
            grid,
            vehicles,
            plain: Vec::new(),
            sites,
            position,
            market,
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            area: AREA,
            data_until: now(),
            grid: &self.grid,
            vehicles: &self.vehicles,
            plain: &self.plain,
            sites: &self.sites,
            position: &self.position,
            rules: Rules::built_in(),
            market: &self.market,
            costs: costs(),
        }
    }
}

fn reserves(fcr: f64, up: f64, down: f64) -> Position {
    position(
        [
            (Product::Fcr, fcr),
            (Product::AfrrUp, up),
            (Product::AfrrDown, down),
        ]
        .into_iter()
        .filter(|(_, kw)| *kw > 0.0)
        .map(|(product, kw)| award(product, "2026-01-12T19:00:00Z", 4, kw))
        .collect(),
    )
}

/// Everybody leaves with what full power would have given it, or what it needs.
fn short(world: &World, solved: &Solved) -> f64 {
    solved
        .lanes
        .iter()
        .zip(&solved.envelopes)
        .zip(&world.vehicles)
        .filter(|((lane, _), _)| !lane.net.is_empty())
        .map(|((lane, envelope), _)| {
            let reachable = envelope.goal.min(*envelope.full.last().unwrap());
            (reachable - lane.energy.last().unwrap()).max(0.0)
        })
        .sum()
}

fn sites_hold(world: &World, solved: &Solved) -> Result<(), TestCaseError> {
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
                high += lane.net[j] + lane.share.kept(&solved.calls, Way::Down, j);
                low += lane.net[j] - lane.share.kept(&solved.calls, Way::Up, j);
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
fn call_is_delivered(world: &World, solved: &Solved) -> Result<(), TestCaseError> {
    for (k, call) in solved.calls.iter().enumerate() {
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
                        let planned = j < from + window + RECOVERY;
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
                    if vehicle.hours_beyond <= 0.0 {
                        let promised = solved.envelopes[i].goal.min(*lane.energy.last().unwrap());
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
        let solved = solve(&world.input());
        prop_assert!(short(&world, &solved) < EPS, "{} kWh short", short(&world, &solved));
        call_is_delivered(&world, &solved)?;
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
        let solved = solve(&world.input());
        sites_hold(&world, &solved)?;
        call_is_delivered(&world, &solved)?;
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
        let solved = solve(&world.input());
        let made = plan(&world.input()).unwrap();
        for (step, planned) in made.plan.steps.iter().enumerate() {
            for held in &planned.held {
                for way in [Way::Up, Way::Down] {
                    let sum = reserve::held(&world.vehicles, &solved.lanes, 0, way, step);
                    prop_assert!(sum >= held.volume.kw() - 1.0, "step {step}: {sum} of {}", held.volume);
                }
            }
            prop_assert!(planned.low <= planned.baseline && planned.baseline <= planned.high);
        }
    }
}

/// Thirty buses in a depot over night, two-way.
fn depot(count: usize, grid: &Grid) -> Vec<Vehicle> {
    (0..count)
        .filter_map(|_| vehicle((0, -60, 14 * 60, 100.0, 100.0, 300.0, 0.5, 0.8, true), grid))
        .collect()
}

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
    let solved = solve(&world.input());
    assert!(short(&world, &solved) < EPS);
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
    let solved = solve(&world.input());
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
    let (same, schedules) = fallback(
        AREA,
        &world.grid,
        &world.vehicles,
        &[],
        Some((&made.plan, &made.schedules)),
    );
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
    let (_, schedules) = fallback(AREA, &later, &late, &[], None);
    assert_eq!(schedules.len(), late.len());
    for (schedule, vehicle) in schedules.iter().zip(&late) {
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

#[test]
#[ignore = "a measurement, run by hand in release"]
fn time_of_a_plan_of_a_whole_fleet() {
    let grid = Grid::new(now(), 120);
    let mut vehicles = depot(60, &grid);
    vehicles.extend((0..370_i64).filter_map(|i| {
        vehicle(
            (
                1,
                -300 + 2 * i,
                500 + i,
                11.0,
                if i % 3 == 0 { 10.0 } else { 0.0 },
                60.0,
                0.3,
                0.8,
                true,
            ),
            &grid,
        )
    }));
    let prices: Vec<f64> = (0..96)
        .map(|i| 60.0 + 40.0 * (f64::from(i) / 10.0).sin())
        .collect();
    let mut position = reserves(1_000.0, 1_000.0, 1_000.0);
    position.apply(award(Product::DayAhead, "2026-01-12T20:00:00Z", 2, 900.0));
    let world = World::new(
        vehicles,
        grid,
        vec![
            site("depot", 4_000.0, 4_000.0),
            site("cars", 2_000.0, 2_000.0),
        ],
        position,
        &prices,
    );
    let began = std::time::Instant::now();
    let made = plan(&world.input()).unwrap();
    println!(
        "{} vehicles: {:?}, short {} kW",
        world.vehicles.len(),
        began.elapsed(),
        made.short_kw
    );
}
