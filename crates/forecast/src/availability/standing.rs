//! Vehicles plugged in at the origin, and how each may go on.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Days;
use super::log::View;
use super::num::{floor, index, size};
use super::paths::{Grid, Shape, Sums, Trip};
use super::stay::{Rest, Rests, Stays};
use super::visit::Present;

/// Vehicles from which on those alike share what may become of them; below, each is looked at by itself.
const MANY: usize = 2000;
/// Seconds of plug-in within which vehicles of a class are alike.
const ALIKE: i64 = 900;
/// Rests of equal weight that stand for those of alike vehicles.
const RESTS: usize = 128;

const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Vehicles plugged in at the origin.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) vehicles: Vec<Vehicle>,
    fates: Vec<Fate>,
}

/// One vehicle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vehicle {
    known: Present,
    /// Place among the fates.
    fate: usize,
    /// Where it begins to go through its rests.
    level: f64,
}

/// What may become of a vehicle, or of several that are alike.
#[derive(Debug)]
enum Fate {
    One(Rests),
    /// Rests of equal weight with their shapes, for vehicles that are the same to the quarter hour.
    Shared(Vec<(Rest, Shape)>),
}

/// What alike vehicles have in common: class, day and quarter hour of plug-in, rating and discharge (W), the quarter hour they
/// said they would leave, the energy they asked for and what the meter has counted (both to the kWh).
type Alike = (u32, i64, [i64; 5]);

impl Standing {
    /// Vehicles that `view` sees plugged in; `level` gives each its place in its rests.
    pub(crate) fn new(
        view: &View<'_>,
        stays: &Stays<'_>,
        days: &Days,
        off: &BTreeSet<i32>,
        grid: &Grid,
        mut level: impl FnMut() -> f64,
    ) -> Self {
        let present = view.present();
        let of = |p: &Present| stays.of(p, days.kind(p.day, off));
        let shared = present.len() >= MANY;
        let mut fates = Vec::new();
        let mut known: BTreeMap<Alike, usize> = BTreeMap::new();
        let vehicles = present
            .into_iter()
            .map(|p| {
                let fate = if shared && p.slack.is_none() {
                    *known.entry(alike(&p)).or_insert_with(|| {
                        fates.push(share(&p, &of(&p), grid));
                        fates.len() - 1
                    })
                } else {
                    fates.push(Fate::One(of(&p)));
                    fates.len() - 1
                };
                Vehicle {
                    known: p,
                    fate,
                    level: level(),
                }
            })
            .collect();
        Self { vehicles, fates }
    }

    fn rest(&self, vehicle: &Vehicle, level: f64) -> Rest {
        match &self.fates[vehicle.fate] {
            Fate::One(rests) => rests.at(level),
            Fate::Shared(rests) => rests[index(level * size(RESTS)).min(RESTS - 1)].0,
        }
    }

    /// The vehicle on path `path`. Each goes through its levels evenly over the paths, independent of the others.
    pub(crate) fn trip(&self, vehicle: &Vehicle, path: usize) -> Trip {
        trip(&vehicle.known, self.rest(vehicle, level(vehicle, path)))
    }

    /// Adds the vehicle on path `path`.
    pub(crate) fn put(&self, vehicle: &Vehicle, path: usize, sums: &mut Sums) {
        match &self.fates[vehicle.fate] {
            Fate::One(_) => sums.add(&self.trip(vehicle, path)),
            Fate::Shared(rests) => {
                let place = index(level(vehicle, path) * size(RESTS)).min(RESTS - 1);
                sums.put(&rests[place].1);
            }
        }
    }

    /// Places of the vehicles whose user is known.
    pub(crate) fn by_user(&self) -> BTreeMap<u32, usize> {
        let users = self.vehicles.iter().map(|v| v.known.user);
        let named = users.enumerate().filter_map(|(place, u)| Some((u?, place)));
        named.collect()
    }

    /// A rest of the vehicle of a group that is plugged in since `start`; `None` if there is none.
    pub(crate) fn rest_of(&self, start: i64, group: u32, level: f64) -> Option<Rest> {
        let first = self.vehicles.partition_point(|v| v.known.start < start);
        self.vehicles[first..]
            .iter()
            .take_while(|v| v.known.start == start)
            .find(|v| v.known.group == group)
            .map(|v| self.rest(v, level))
    }
}

impl Vehicle {
    pub(crate) const fn group(&self) -> u32 {
        self.known.group
    }
}

fn level(vehicle: &Vehicle, path: usize) -> f64 {
    (vehicle.level + GOLDEN * size(path)).fract()
}

fn trip(known: &Present, rest: Rest) -> Trip {
    Trip {
        start: known.start,
        end: known.start + rest.length,
        energy: rest.energy,
        charge: rest.charge,
        discharge: known.discharge,
        done: known.done,
        slack: rest.slack,
        source: known.source,
    }
}

fn alike(p: &Present) -> Alike {
    let whole = |value: Option<f64>, unit: f64| value.map_or(-1, |v| floor(v * unit));
    (
        p.class,
        p.start.div_euclid(ALIKE),
        [
            whole(p.rating, 1000.0),
            floor(p.discharge * 1000.0),
            p.said_end.map_or(-1, |e| e.div_euclid(ALIKE)),
            whole(p.said_energy, 1.0),
            whole(p.done, 1.0),
        ],
    )
}

/// The rests of `p`, the first of its kind, without what is its own alone.
fn share(p: &Present, rests: &Rests, grid: &Grid) -> Fate {
    let shape = |rest: Rest| (rest, Shape::of(grid, &trip(p, rest)));
    Fate::Shared(rests.evenly(RESTS).into_iter().map(shape).collect())
}
