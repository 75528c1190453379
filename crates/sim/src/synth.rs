//! One local day of a fleet of realistic spread as sessions: what a scenario file needs, without anybody simulated.
//!
//! Cars belong to homes, workplaces or public places, buses to depots; ten or so share a connection point with limits.
//! The day is cut out of an ordinary life: a car that spends the night at home is there from midnight until it leaves and
//! again from its return until midnight, two sessions with a level at each end.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use market::{Product, calendar};
use units::{DeliveryDay, Interval};

use crate::dice::Dice;
use crate::price::Prices;

const SITE: u64 = 0x517e;
const CAR: u64 = 0xca6;
const BUS: u64 = 0xb05;

/// Cars behind one connection point.
const CARS_PER_SITE: usize = 10;
/// Buses of one depot.
const BUSES_PER_DEPOT: usize = 40;
/// Shares of homes and workplaces among car sites; the rest is public.
const HOME: f64 = 0.60;
const WORK: f64 = 0.25;
/// Buses and cars are charged through a converter of this one-way efficiency.
pub const EFFICIENCY: f64 = 0.94;

/// What to make a day of.
#[derive(Debug, Clone, Copy)]
pub struct Synth {
    /// Same seed, same day.
    pub seed: u64,
    /// Cars.
    pub vehicles: usize,
    /// Buses.
    pub buses: usize,
    /// The local day.
    pub day: DeliveryDay,
    /// Zone whose clocks people live by.
    pub zone: Tz,
}

/// A connection point.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name, as sessions give it.
    pub id: String,
    /// Most drawn, kW.
    pub import_limit_kw: f64,
    /// Most fed back, kW.
    pub export_limit_kw: f64,
}

/// One stay. Energies are inside the battery, kWh; powers at the grid side, kW.
#[derive(Debug, Clone, PartialEq)]
pub struct Stay {
    /// Place in [`Day::sites`].
    pub site: usize,
    /// Name of the vehicle; its charge point carries it too.
    pub vehicle: String,
    /// Number of the stay within the vehicle's day, from 1.
    pub number: usize,
    /// Arrival.
    pub plug_in: DateTime<Utc>,
    /// Departure.
    pub plug_out: DateTime<Utc>,
    /// Level on arrival.
    pub arrival_kwh: f64,
    /// Level wanted at departure.
    pub required_kwh: f64,
    /// Usable capacity.
    pub capacity_kwh: f64,
    /// Charging power.
    pub charge_kw: f64,
    /// Discharging power; zero for a one-way charger.
    pub discharge_kw: f64,
}

/// A day of the fleet and of the market.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// Connection points.
    pub sites: Vec<Site>,
    /// Stays, site by site.
    pub stays: Vec<Stay>,
    /// Day-ahead price of each quarter hour, EUR/MWh.
    pub day_ahead: Vec<(DateTime<Utc>, f64)>,
    /// FCR price of each block, EUR per MW for the block.
    pub fcr: Vec<(Interval, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Home,
    Work,
    Public,
    Depot,
}

/// A vehicle's equipment.
struct Vehicle {
    name: String,
    capacity: f64,
    charge: f64,
    discharge: f64,
}

impl Synth {
    /// Makes the day.
    #[must_use]
    pub fn day(&self) -> Day {
        let (mut sites, mut stays) = (Vec::new(), Vec::new());
        let mut cars = 0;
        while cars < self.vehicles {
            let count = CARS_PER_SITE.min(self.vehicles - cars);
            let mut dice = Dice::of(self.seed, SITE, number(sites.len()));
            let place = match dice.between(0.0, 1.0) {
                x if x < HOME => Place::Home,
                x if x < HOME + WORK => Place::Work,
                _ => Place::Public,
            };
            self.site(place, cars..cars + count, &mut dice, &mut sites, &mut stays);
            cars += count;
        }
        let mut buses = 0;
        while buses < self.buses {
            let count = BUSES_PER_DEPOT.min(self.buses - buses);
            let mut dice = Dice::of(self.seed, SITE, number(sites.len()));
            self.site(
                Place::Depot,
                buses..buses + count,
                &mut dice,
                &mut sites,
                &mut stays,
            );
            buses += count;
        }
        let prices = Prices::new(self.seed, self.zone);
        let quarters = self.day.interval_starts(TimeDelta::minutes(15));
        let blocks = calendar::blocks(self.day, 4);
        Day {
            sites,
            stays,
            day_ahead: quarters.map(|at| (at, prices.day_ahead(at))).collect(),
            fcr: blocks
                .into_iter()
                .map(|block| (block, prices.reserve(Product::Fcr, block)))
                .collect(),
        }
    }

    fn site(
        &self,
        place: Place,
        members: std::ops::Range<usize>,
        dice: &mut Dice,
        sites: &mut Vec<Site>,
        stays: &mut Vec<Stay>,
    ) {
        let at = sites.len();
        let mut installed = 0.0;
        for index in members {
            let purpose = if place == Place::Depot { BUS } else { CAR };
            let mut own = Dice::of(self.seed, purpose, number(index));
            let vehicle = vehicle(place, index, &mut own);
            installed += vehicle.charge;
            self.stays(place, at, &vehicle, &mut own, stays);
        }
        let mut limit = |shares: &[f64]| (installed * dice.pick(shares)).round().max(1.0);
        sites.push(Site {
            id: format!("{}-{at:05}", place.name()),
            import_limit_kw: limit(&[0.4, 0.6, 0.8, 1.3]),
            export_limit_kw: limit(&[0.4, 0.6, 0.8, 1.3]),
        });
    }

    fn stays(
        &self,
        place: Place,
        site: usize,
        vehicle: &Vehicle,
        dice: &mut Dice,
        stays: &mut Vec<Stay>,
    ) {
        let mut number = 0;
        let mut stay = |from: f64, to: f64, arrival: f64, required: f64| {
            let (plug_in, plug_out) = (self.minute(from), self.minute(to));
            if plug_out - plug_in >= TimeDelta::minutes(20) {
                number += 1;
                stays.push(Stay {
                    site,
                    vehicle: vehicle.name.clone(),
                    number,
                    plug_in,
                    plug_out,
                    arrival_kwh: tenth(arrival * vehicle.capacity),
                    required_kwh: tenth(required * vehicle.capacity),
                    capacity_kwh: vehicle.capacity,
                    charge_kw: vehicle.charge,
                    discharge_kw: vehicle.discharge,
                });
            }
        };
        match place {
            Place::Home => {
                let (leaves, returns) = (7.3 + dice.normal(), 18.0 + 1.6 * dice.normal());
                stay(
                    0.0,
                    leaves,
                    dice.between(0.25, 0.75),
                    dice.between(0.6, 0.95),
                );
                stay(
                    returns,
                    24.0,
                    dice.between(0.12, 0.67),
                    dice.between(0.3, 0.6),
                );
            }
            Place::Work => {
                let comes = 8.4 + 0.8 * dice.normal();
                let stays_hours = 8.5 + 0.9 * dice.normal();
                stay(
                    comes,
                    comes + stays_hours,
                    dice.between(0.2, 0.7),
                    dice.between(0.6, 0.95),
                );
            }
            Place::Public => {
                let comes = dice.between(0.0, 22.0);
                let hours = dice.between(1.0, 6.0);
                stay(
                    comes,
                    comes + hours,
                    dice.between(0.12, 0.6),
                    dice.between(0.5, 0.9),
                );
            }
            Place::Depot => {
                let (out, back) = (5.2 + 0.5 * dice.normal(), 20.3 + dice.normal());
                stay(0.0, out, dice.between(0.35, 0.75), dice.between(0.85, 0.97));
                if dice.happens(0.4) {
                    let noon = 10.5 + 0.7 * dice.normal();
                    stay(
                        noon,
                        noon + dice.between(2.0, 4.0),
                        dice.between(0.4, 0.65),
                        dice.between(0.6, 0.8),
                    );
                }
                stay(
                    back,
                    24.0,
                    dice.between(0.15, 0.45),
                    dice.between(0.35, 0.55),
                );
            }
        }
    }

    /// An instant of the day, `hours` after its first; on a day of 23 hours the evening is an hour shorter.
    #[expect(clippy::cast_possible_truncation, reason = "minutes of a day")]
    fn minute(&self, hours: f64) -> DateTime<Utc> {
        let all = (self.day.end() - self.day.start()).num_minutes();
        // A stay until midnight ends with the day, however long that is.
        let minutes = if hours >= 24.0 {
            all
        } else {
            (hours * 60.0).round() as i64
        };
        self.day.start() + TimeDelta::minutes(minutes.clamp(0, all))
    }
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Work => "work",
            Self::Public => "public",
            Self::Depot => "depot",
        }
    }
}

fn vehicle(place: Place, index: usize, dice: &mut Dice) -> Vehicle {
    if place == Place::Depot {
        let charge = *dice.pick(&[80.0, 120.0, 150.0]);
        return Vehicle {
            name: format!("bus-{index:06}"),
            capacity: *dice.pick(&[250.0, 350.0, 420.0]),
            charge,
            discharge: if dice.happens(0.5) { charge } else { 0.0 },
        };
    }
    let charge = *dice.pick(&[11.0, 11.0, 11.0, 22.0]);
    let two_way = match place {
        Place::Home => 0.8,
        Place::Work => 0.7,
        Place::Public | Place::Depot => 0.4,
    };
    Vehicle {
        name: format!("car-{index:06}"),
        capacity: *dice.pick(&[40.0, 58.0, 77.0, 100.0]),
        charge,
        discharge: if dice.happens(two_way) { charge } else { 0.0 },
    }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX)
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Amsterdam;

    fn made(date: &str, vehicles: usize, buses: usize) -> Day {
        let day = DeliveryDay::try_new(date.parse().unwrap(), Amsterdam).unwrap();
        Synth {
            seed: 7,
            vehicles,
            buses,
            day,
            zone: Amsterdam,
        }
        .day()
    }

    #[test]
    fn the_same_seed_is_the_same_day_and_a_larger_fleet_begins_with_the_smaller() {
        let small = made("2024-03-05", 200, 0);
        assert_eq!(small, made("2024-03-05", 200, 0));
        let large = made("2024-03-05", 400, 0);
        assert_eq!(large.stays[..small.stays.len()], small.stays[..]);
        assert_eq!(large.sites[..small.sites.len()], small.sites[..]);
    }

    #[test]
    fn every_stay_lies_within_the_day_and_its_battery_on_both_clock_changes() {
        for (date, quarters) in [("2024-03-31", 92), ("2024-10-27", 100), ("2024-06-12", 96)] {
            let day = made(date, 500, 90);
            assert_eq!(day.day_ahead.len(), quarters);
            assert_eq!(day.fcr.len(), 6);
            let bounds = DeliveryDay::try_new(date.parse().unwrap(), Amsterdam).unwrap();
            for stay in &day.stays {
                assert!(bounds.start() <= stay.plug_in && stay.plug_in < stay.plug_out);
                assert!(stay.plug_out <= bounds.end());
                assert!(stay.arrival_kwh > 0.0 && stay.arrival_kwh < stay.capacity_kwh);
                assert!(stay.required_kwh < stay.capacity_kwh && stay.site < day.sites.len());
            }
        }
    }

    #[test]
    fn every_kind_of_place_is_there_and_some_chargers_go_one_way() {
        let day = made("2024-06-12", 1000, 80);
        for kind in ["home", "work", "public", "depot"] {
            assert!(
                day.sites.iter().any(|site| site.id.starts_with(kind)),
                "{kind}"
            );
        }
        let one_way = day
            .stays
            .iter()
            .filter(|stay| stay.discharge_kw == 0.0)
            .count();
        assert!(one_way > day.stays.len() / 10 && one_way < day.stays.len() / 2);
    }
}
