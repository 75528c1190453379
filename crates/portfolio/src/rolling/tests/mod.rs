//! A small world for tests of the plan; what always holds is in `laws`, single cases in `cases`.

mod cases;
mod laws;

use chrono::TimeDelta;
use forecast::Stay;
use market::{Award, AwardId, BidId, Direction, Product};
use proptest::prelude::*;
use units::{Currency, Efficiency, Energy, Interval, Power, Price};

use super::problem::Problem;
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
fn short(problem: &Problem<'_>, solved: &Solved) -> f64 {
    solved
        .lanes
        .iter()
        .zip(&problem.envelopes)
        .zip(problem.input.vehicles)
        .filter(|((lane, _), _)| !lane.net.is_empty())
        .map(|((lane, envelope), _)| {
            let reachable = envelope.goal.min(*envelope.full.last().unwrap());
            (reachable - lane.energy.last().unwrap()).max(0.0)
        })
        .sum()
}

fn solve(problem: &Problem<'_>) -> Solved {
    live::solve(problem, None, &Again::default()).unwrap()
}

/// Thirty buses in a depot over night, two-way.
fn depot(count: usize, grid: &Grid) -> Vec<Vehicle> {
    (0..count)
        .filter_map(|_| vehicle((0, -60, 14 * 60, 100.0, 100.0, 300.0, 0.5, 0.8, true), grid))
        .collect()
}
