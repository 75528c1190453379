//! A fleet from a seed that follows its plan from minute to minute, with whatever changes in between.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use portfolio::fleet::EvseId;
use portfolio::fleet::schedule::Schedule;
use portfolio::forecast::Stay;
use portfolio::market::{Area, Award, AwardId, BidId, Direction, Position, Product, Rules};
use portfolio::rolling::{Costs, Grid, Input, Market, Site, Vehicle};
use units::{Currency, Efficiency, Energy, Interval, Power, Price};

/// Where the pool is sold.
pub const AREA: Area = Area::Nl;

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Seed(pub u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between `low` and `high`.
    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of `0..count`.
    pub fn pick(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

/// What stands at an outlet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A car at home: a site of its own.
    Home,
    /// A car at a car park of fifty whose fuse carries part of what its chargers can draw.
    Park,
    /// A bus in a depot of fifty, likewise.
    Bus,
}

/// A vehicle plugged in.
#[derive(Debug, Clone)]
pub struct Plugged {
    pub kind: Kind,
    pub site: usize,
    pub evse: EvseId,
    pub visit: u32,
    pub leaves: DateTime<Utc>,
    pub stored: f64,
    pub level: f64,
    pub goal: f64,
    pub capacity: f64,
    pub charge_kw: f64,
    pub discharge_kw: f64,
}

/// The fleet with its sites and everything a plan rests on.
#[derive(Debug, Clone)]
pub struct World {
    pub now: DateTime<Utc>,
    pub steps: usize,
    pub plugged: Vec<Plugged>,
    pub sites: Vec<Site>,
    pub position: Position,
    /// Day-ahead position by start of the quarter hour, kW.
    pub traded: BTreeMap<DateTime<Utc>, f64>,
    pub seed: Seed,
}

/// What one plan is made of.
#[derive(Debug)]
pub struct Moment {
    grid: Grid,
    vehicles: Vec<Vehicle>,
    market: Market,
}

impl World {
    /// `count` vehicles on an evening: seven in ten at home, one in twenty a bus.
    pub fn new(count: usize, seed: u64) -> Self {
        let now: DateTime<Utc> = "2026-01-12T18:03:00Z".parse().unwrap();
        let mut world = Self {
            now,
            steps: 120,
            plugged: Vec::new(),
            sites: Vec::new(),
            position: Position::default(),
            traded: BTreeMap::new(),
            seed: Seed(seed),
        };
        let (buses, parked) = (count / 20, count / 4);
        for (kind, many) in [
            (Kind::Bus, buses),
            (Kind::Park, parked),
            (Kind::Home, count - buses - parked),
        ] {
            let together = if kind == Kind::Home { 1 } else { 50 };
            for n in 0..many {
                if n % together == 0 {
                    world.add_site(kind, together.min(many - n));
                }
                let site = world.sites.len() - 1;
                let evse = format!("E{:06}/1", world.plugged.len()).parse().unwrap();
                let plugged = world.arrival(kind, site, evse, 0);
                world.plugged.push(plugged);
            }
        }
        world
    }

    fn add_site(&mut self, kind: Kind, vehicles: usize) {
        let vehicles = vehicles as f64;
        let (import_kw, export_kw) = match kind {
            Kind::Home => (17.0, 12.0),
            Kind::Park => (11.0 * 0.6 * vehicles, 3.0 * vehicles),
            Kind::Bus => (80.0 * 0.6 * vehicles, 40.0 * vehicles),
        };
        self.sites.push(Site {
            id: format!("S{:06}", self.sites.len()).parse().unwrap(),
            import_kw,
            export_kw,
        });
    }

    fn arrival(&mut self, kind: Kind, site: usize, evse: EvseId, visit: u32) -> Plugged {
        let seed = &mut self.seed;
        let two_way = seed.real(0.0, 1.0) < 0.35;
        let (capacity, charge_kw, discharge_kw, hours) = match kind {
            Kind::Bus => (300.0, 80.0, 60.0, seed.real(7.0, 11.0)),
            Kind::Park => (seed.real(40.0, 90.0), 11.0, 10.0, seed.real(5.0, 14.0)),
            Kind::Home => (seed.real(40.0, 90.0), 11.0, 10.0, seed.real(8.0, 16.0)),
        };
        let stored = capacity * seed.real(0.25, 0.7);
        let wanted = capacity * seed.real(0.7, 0.95);
        Plugged {
            kind,
            site,
            evse,
            visit,
            leaves: self.now + TimeDelta::seconds((hours * 3_600.0) as i64),
            stored,
            level: stored,
            goal: wanted.max(stored),
            capacity,
            charge_kw,
            discharge_kw: if two_way || kind == Kind::Bus {
                discharge_kw
            } else {
                0.0
            },
        }
    }

    /// Sells reserve from 20:00 on for eight hours, kW.
    pub fn sell(&mut self, product: Product, kw: f64) {
        let from: DateTime<Utc> = "2026-01-12T20:00:00Z".parse().unwrap();
        for block in 0..2 {
            let start = from + TimeDelta::hours(4 * block);
            let bid = BidId::derive("NL", product.name(), start, 0);
            self.position.apply(Award {
                id: AwardId(bid.0),
                bid,
                area: AREA,
                product,
                direction: match product {
                    Product::Fcr => Direction::Symmetric,
                    Product::AfrrUp => Direction::Up,
                    Product::DayAhead | Product::AfrrDown => Direction::Down,
                },
                delivery: Interval::try_new(start, start + TimeDelta::hours(4)).unwrap(),
                volume: Power::from_kw(kw),
                price: Price::from_f64(20.0, 2, Currency::Eur).unwrap(),
                awarded_at: self.now,
            });
        }
    }

    /// Takes `pool_kw` as traded day-ahead, by the hour.
    pub fn trade(&mut self, moment: &Moment, pool_kw: &[f64]) {
        for hour in 0..self.steps / 4 {
            let mean = pool_kw[4 * hour..4 * hour + 4].iter().sum::<f64>() / 4.0;
            for quarter in 0..4 {
                self.traded.insert(moment.grid.at(4 * hour + quarter), mean);
            }
        }
    }

    /// What a plan made now rests on.
    pub fn moment(&self) -> Moment {
        let grid = Grid::new(self.now, self.steps);
        let vehicles = self
            .plugged
            .iter()
            .filter_map(|plugged| vehicle(plugged, &grid))
            .collect();
        let price = (0..grid.len()).map(|step| price(grid.at(step))).collect();
        let position_kw = (0..grid.len())
            .map(|step| self.traded.get(&grid.at(step)).copied())
            .collect();
        Moment {
            grid,
            vehicles,
            market: Market { price, position_kw },
        }
    }

    /// The input of a plan.
    pub fn input<'a>(&'a self, moment: &'a Moment) -> Input<'a> {
        Input {
            area: AREA,
            data_until: self.now,
            grid: &moment.grid,
            vehicles: &moment.vehicles,
            plain: &[],
            sites: &self.sites,
            position: &self.position,
            rules: Rules::built_in(),
            market: &moment.market,
            costs: Costs {
                import_per_mwh: 5.0,
                export_per_mwh: 2.0,
                wear_per_mwh: 30.0,
                imbalance_spread: 10.0,
            },
        }
    }

    /// Follows `schedules` for `seconds`; who leaves is replaced by an arrival. Returns how many left.
    pub fn follow(&mut self, schedules: &[Schedule], seconds: i64) -> usize {
        let plans: BTreeMap<&EvseId, &Schedule> = schedules.iter().map(|s| (&s.evse, s)).collect();
        let until = self.now + TimeDelta::seconds(seconds);
        for plugged in &mut self.plugged {
            let Some(plan) = plans.get(&plugged.evse) else {
                continue;
            };
            let mut at = self.now;
            while at < until.min(plugged.leaves) {
                let step = (at - plan.start).num_seconds().div_euclid(900);
                let next = plan.start + TimeDelta::seconds(900 * (step + 1));
                let end = next.min(until).min(plugged.leaves);
                let kw = plan.steps.get(step as usize).map_or(0.0, |s| s.power.kw());
                let hours = (end - at).as_seconds_f64() / 3_600.0;
                plugged.level += hours
                    * if kw >= 0.0 {
                        kw * EFFICIENCY
                    } else {
                        kw / EFFICIENCY
                    };
                at = end;
            }
        }
        self.now = until;
        let gone: Vec<usize> = (0..self.plugged.len())
            .filter(|i| self.plugged[*i].leaves <= until)
            .collect();
        for i in &gone {
            self.replace(*i);
        }
        gone.len()
    }

    /// Another vehicle at outlet `i`.
    pub fn replace(&mut self, i: usize) {
        let old = self.plugged[i].clone();
        self.plugged[i] = self.arrival(old.kind, old.site, old.evse, old.visit + 1);
    }

    /// Changes `count` vehicles: a third each arrived anew, has other needs, or another meter than planned.
    pub fn change(&mut self, count: usize) {
        for n in 0..count {
            let i = self.seed.pick(self.plugged.len());
            match n % 3 {
                0 => self.replace(i),
                1 => {
                    let minutes = self.seed.real(-30.0, 90.0) as i64;
                    let share = self.seed.real(0.6, 0.95);
                    let plugged = &mut self.plugged[i];
                    let earliest = self.now + TimeDelta::minutes(5);
                    plugged.leaves = (plugged.leaves + TimeDelta::minutes(minutes)).max(earliest);
                    plugged.goal = (plugged.capacity * share).max(plugged.stored);
                }
                _ => {
                    let off = self.seed.real(-2.0, 2.0);
                    let plugged = &mut self.plugged[i];
                    plugged.level =
                        (plugged.level + off).clamp(0.1 * plugged.capacity, plugged.capacity);
                }
            }
        }
    }
}

/// Share of energy that passes a charger, either way.
pub const EFFICIENCY: f64 = 0.94;

fn vehicle(plugged: &Plugged, grid: &Grid) -> Option<Vehicle> {
    let stay = Stay {
        outlet: (),
        span: Interval::try_new(grid.now(), plugged.leaves).ok()?,
        energy: Energy::from_kwh(plugged.goal - plugged.stored),
        stored: Some(Energy::from_kwh(plugged.stored)),
        capacity: Some(Energy::from_kwh(plugged.capacity)),
        max_charge: Power::from_kw(plugged.charge_kw),
        max_discharge: Power::from_kw(plugged.discharge_kw),
        floor: Energy::from_kwh(0.1 * plugged.capacity),
        charge_efficiency: Efficiency::try_new(EFFICIENCY).unwrap(),
        discharge_efficiency: Efficiency::try_new(EFFICIENCY).unwrap(),
    };
    let mut vehicle = Vehicle::expected(&stay, plugged.site, grid)?;
    vehicle.evse = Some(plugged.evse.clone());
    vehicle.session = Some(format!("{}-{}", plugged.evse, plugged.visit).parse().ok()?);
    vehicle.arrival = plugged.level;
    Some(vehicle)
}

/// Price of a quarter hour, EUR/MWh: dear in the evening and morning, cheap at night and at noon.
fn price(at: DateTime<Utc>) -> f64 {
    let hour = f64::from(i32::try_from(at.timestamp().rem_euclid(86_400) / 3_600).unwrap()) / 24.0;
    let turn = std::f64::consts::TAU * hour;
    70.0 - 35.0 * (2.0 * turn - 0.6).cos() + 9.0 * (5.0 * turn).sin()
}
