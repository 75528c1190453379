//! Paths: vehicles plugged in stay on, and whole past days bring the new ones.
//!
//! A past day that several paths repeat is summed once for all of them; where growth repeats or drops single visits, it is
//! summed as often as those few visits matter. Groups of a pool are summed apart, so the pool is what its groups add up to.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::crowd::{admit, capacities};
use super::donor::{Donor, HALF_LIFE, donors, draw, growth};
use super::joint::Paths;
use super::kind::Days;
use super::log::View;
use super::num::floor;
use super::paths::{Grid, Sums, Trip, VALUES};
use super::standing::{Standing, Vehicle};
use super::stay::Stays;
use crate::parallel::each;

/// A day ahead, with the past days it may resemble.
#[derive(Debug)]
struct Ahead {
    day: i32,
    /// Clock from which on plug-ins are new.
    from: i64,
    donors: Vec<Donor>,
}

/// A past day that stands for a day ahead on some paths.
#[derive(Debug)]
struct Repeat {
    /// Place of the day ahead.
    ahead: usize,
    donor: Donor,
    paths: Vec<usize>,
}

/// Visits of a repeated day that are summed at least, so that what growth repeats or drops of them does not go together on all
/// paths.
const VISITS: usize = 20_000;
/// Vehicles plugged in that one job looks at.
const STANDING: usize = 4096;
/// A visit that growth repeats is another driver's: it comes up to so many seconds earlier or later.
const TWIN_SHIFT: i64 = 1800;

/// Everything drawn from, at one origin.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    view: View<'a>,
    standing: Standing,
    ahead: Vec<Ahead>,
    /// By group; `None` where a group never fills up.
    capacities: Vec<Option<usize>>,
    grid: Grid,
    rhythm: [bool; 7],
    seed: u64,
}

/// How many paths are drawn, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) paths: usize,
    /// Whether every group's paths are kept.
    pub(crate) groups: bool,
    pub(crate) threads: usize,
}

impl<'a> Engine<'a> {
    /// Prepares the draws for `grid` from what `view` knew; local days in `off` are days off.
    pub(crate) fn new(view: View<'a>, off: &BTreeSet<i32>, grid: Grid, seed: u64) -> Self {
        let log = view.log();
        let (today, clock) = log.clock(view.until);
        let days = Days::new(&view, today, off, HALF_LIFE);
        let stays = Stays::new(&view, &days, off);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let standing = Standing::new(&view, &stays, &days, off, &grid, || rng.random());
        let growth = growth(&days, today);
        let ahead: Vec<Ahead> = (today..=log.clock(grid.end()).0)
            .map(|day| Ahead {
                day,
                from: if day == today { clock + 1 } else { 0 },
                donors: donors(&view, &days, off, (today, clock), day, growth),
            })
            .collect();
        Self {
            capacities: capacities(&view),
            rhythm: days.rhythm(),
            view,
            standing,
            ahead,
            grid,
            seed,
        }
    }

    /// Weekdays, Monday first, on which a 14-day rhythm was found.
    pub(crate) const fn rhythm(&self) -> [bool; 7] {
        self.rhythm
    }

    /// Draws paths of the pool and, if asked for, of its groups; the same ones on any number of threads.
    pub(crate) fn paths(&self, how: Draw) -> (Paths, Vec<Paths>) {
        let slots = if how.groups { self.groups() } else { 1 };
        let repeats = self.repeats(how.paths);
        let mut parts: Vec<Paths> = (0..slots)
            .map(|_| Paths::new(how.paths, self.grid.count))
            .collect();
        let slot = |group: usize| if how.groups { group } else { 0 };

        let standing = each(self.chunks(slots), how.threads, |(slot, vehicles)| {
            (slot, self.stay_on(&vehicles, how.paths))
        });
        for (slot, values) in standing {
            for (path, values) in values.iter().enumerate() {
                parts[slot].add(path, values);
            }
        }
        let repeated = each(repeats.iter().collect(), how.threads, |repeat| {
            self.repeat(repeat, slots)
        });
        for (repeat, sums) in repeats.iter().zip(&repeated) {
            let size = VALUES * self.grid.count;
            for (place, path) in repeat.paths.iter().enumerate() {
                let own = &sums[place % sums.len()];
                for (part, values) in parts.iter_mut().zip(own.chunks_exact(size)) {
                    part.add(*path, values);
                }
            }
        }
        let full: Vec<(usize, usize)> = self.full().collect();
        let crowded = each(full, how.threads, |(group, capacity)| {
            (group, self.crowd(group, capacity, &repeats, how.paths))
        });
        for (group, values) in crowded {
            for (path, values) in values.iter().enumerate() {
                parts[slot(group)].add(path, values);
            }
        }

        for part in &mut parts {
            part.tidy();
        }
        if !how.groups {
            let pool = parts
                .pop()
                .unwrap_or_else(|| Paths::new(how.paths, self.grid.count));
            return (pool, Vec::new());
        }
        let mut pool = Paths::new(how.paths, self.grid.count);
        for part in &parts {
            pool.add_all(part);
        }
        (pool, parts)
    }

    fn groups(&self) -> usize {
        usize::try_from(self.view.log().groups())
            .unwrap_or(0)
            .max(1)
    }

    /// Groups that fill up, with their outlets.
    fn full(&self) -> impl Iterator<Item = (usize, usize)> {
        let capacities = self.capacities.iter().enumerate();
        capacities.filter_map(|(group, capacity)| capacity.map(|c| (group, c)))
    }

    fn fills_up(&self, group: usize) -> bool {
        self.capacities.get(group).copied().flatten().is_some()
    }

    /// Past days by the days ahead that they stand for, with the paths on which they do.
    fn repeats(&self, paths: usize) -> Vec<Repeat> {
        let mut repeats: Vec<Repeat> = Vec::new();
        for (place, ahead) in self.ahead.iter().enumerate() {
            let mut rng = self.rng(&[1, i64::from(ahead.day)]);
            let first = repeats.len();
            for (path, donor) in draw(&ahead.donors, paths, &mut rng).into_iter().enumerate() {
                match repeats[first..]
                    .iter_mut()
                    .find(|r| r.donor.day == donor.day)
                {
                    Some(repeat) => repeat.paths.push(path),
                    None => repeats.push(Repeat {
                        ahead: place,
                        donor,
                        paths: vec![path],
                    }),
                }
            }
        }
        repeats
    }

    /// A source of chance of its own for every purpose, whoever asks first.
    fn rng(&self, purpose: &[i64]) -> ChaCha8Rng {
        let mixed = purpose
            .iter()
            .fold(self.seed, |seed, p| super::walk::seed(seed, *p));
        ChaCha8Rng::seed_from_u64(mixed)
    }

    /// Vehicles plugged in outside groups that fill up, in parts of a size, each of one slot.
    fn chunks(&self, slots: usize) -> Vec<(usize, Vec<&Vehicle>)> {
        let mut by_slot: Vec<Vec<&Vehicle>> = vec![Vec::new(); slots];
        for vehicle in &self.standing.vehicles {
            let group = usize::try_from(vehicle.group()).unwrap_or(0);
            if !self.fills_up(group) {
                by_slot[group.min(slots - 1)].push(vehicle);
            }
        }
        let mut chunks = Vec::new();
        for (slot, vehicles) in by_slot.into_iter().enumerate() {
            chunks.extend(vehicles.chunks(STANDING).map(|c| (slot, c.to_vec())));
        }
        chunks
    }

    /// Values of vehicles plugged in, path by path.
    fn stay_on(&self, vehicles: &[&Vehicle], paths: usize) -> Vec<Vec<f32>> {
        let mut sums = Sums::new(self.grid);
        (0..paths)
            .map(|path| {
                for vehicle in vehicles {
                    self.standing.put(vehicle, path, &mut sums);
                }
                self.taken(&mut sums)
            })
            .collect()
    }

    fn taken(&self, sums: &mut Sums) -> Vec<f32> {
        let mut values = vec![0.0; VALUES * self.grid.count];
        sums.take(&mut values);
        values
    }

    /// Values of the plug-ins of a repeated day, slot by slot, as often as needed.
    fn repeat(&self, repeat: &Repeat, slots: usize) -> Vec<Vec<f32>> {
        let visits = self.view.arrivals_of(repeat.donor.day).max(1);
        let whole = (repeat.donor.scale - repeat.donor.scale.round()).abs() < 1e-9;
        let times = if whole { 1 } else { VISITS.div_ceil(visits) };
        let size = VALUES * self.grid.count;
        let mut sums: Vec<Sums> = (0..slots).map(|_| Sums::new(self.grid)).collect();
        (0..times.min(repeat.paths.len()))
            .map(|time| {
                let mut rng = self.rng(&[
                    2,
                    self.day(repeat),
                    i64::from(repeat.donor.day),
                    index_of(time),
                ]);
                self.come(
                    repeat,
                    &mut rng,
                    |group| !self.fills_up(group),
                    |group, trip| {
                        sums[group.min(slots - 1)].add(&trip);
                    },
                );
                let mut values = vec![0.0; slots * size];
                for (sums, values) in sums.iter_mut().zip(values.chunks_exact_mut(size)) {
                    sums.take(values);
                }
                values
            })
            .collect()
    }

    fn day(&self, repeat: &Repeat) -> i64 {
        i64::from(self.ahead[repeat.ahead].day)
    }

    /// Plug-ins of the donor day, moved to the day ahead by the local clock; growth repeats some, or leaves some out.
    fn come(
        &self,
        repeat: &Repeat,
        rng: &mut ChaCha8Rng,
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Trip),
    ) {
        let (ahead, end) = (&self.ahead[repeat.ahead], self.grid.end());
        let scale = repeat.donor.scale;
        for arrival in self.view.arrivals(repeat.donor.day) {
            let group = usize::try_from(arrival.group).unwrap_or(0);
            if arrival.clock + TWIN_SHIFT < ahead.from || !wanted(group) {
                continue;
            }
            let times = floor(scale + rng.random::<f64>());
            let rest = match arrival.rest {
                Some(rest) => rest,
                None => match self
                    .standing
                    .rest_of(arrival.start, arrival.group, rng.random())
                {
                    Some(rest) => rest,
                    None => continue,
                },
            };
            for time in 0..times {
                let shift = if time > 0 {
                    rng.random_range(-TWIN_SHIFT..=TWIN_SHIFT)
                } else {
                    0
                };
                let clock = arrival.clock + shift;
                if clock < ahead.from {
                    continue;
                }
                let start = self.view.log().instant(ahead.day, clock);
                if start >= end {
                    continue;
                }
                take(
                    group,
                    Trip {
                        start,
                        end: start + rest.length,
                        energy: rest.energy,
                        charge: rest.charge,
                        discharge: arrival.discharge,
                        done: None,
                        slack: rest.slack,
                        source: arrival.source,
                    },
                );
            }
        }
    }

    /// Values of a group that fills up, path by path.
    fn crowd(
        &self,
        group: usize,
        capacity: usize,
        repeats: &[Repeat],
        paths: usize,
    ) -> Vec<Vec<f32>> {
        let mut sums = Sums::new(self.grid);
        (0..paths)
            .map(|path| {
                for trip in self.trips(group, Some(capacity), repeats, path) {
                    sums.add(&trip);
                }
                self.taken(&mut sums)
            })
            .collect()
    }

    /// Visits of a group on one path, one by one; where outlets are few, who finds none waits or goes.
    fn trips(
        &self,
        group: usize,
        capacity: Option<usize>,
        repeats: &[Repeat],
        path: usize,
    ) -> Vec<Trip> {
        let own = |v: &&Vehicle| usize::try_from(v.group()).is_ok_and(|g| g == group);
        let vehicles = self.standing.vehicles.iter().filter(own);
        let there = vehicles.map(|v| self.standing.trip(v, path));
        let mut trips: Vec<Trip> = there.collect();
        let standing = trips.len();
        for repeat in repeats.iter().filter(|r| r.paths.contains(&path)) {
            let purpose = [3, self.day(repeat), index_of(path), index_of(group)];
            let mut rng = self.rng(&purpose);
            self.come(repeat, &mut rng, |g| g == group, |_, trip| trips.push(trip));
        }
        if let Some(capacity) = capacity {
            admit(&mut trips, standing, capacity);
        }
        trips
    }

    /// All visits of each of `paths` paths, one by one.
    pub(crate) fn stays(&self, paths: usize, threads: usize) -> Vec<Vec<Trip>> {
        let repeats = self.repeats(paths);
        each((0..paths).collect(), threads, |path| {
            let groups = 0..self.groups();
            let of = |group| {
                let capacity = self.capacities.get(group).copied().flatten();
                self.trips(group, capacity, &repeats, path)
            };
            groups.flat_map(of).collect()
        })
    }
}

fn index_of(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(0)
}
