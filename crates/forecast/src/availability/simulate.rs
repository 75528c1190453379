//! Paths: vehicles plugged in stay on, and whole past days bring the new ones.
//!
//! A past day that several paths repeat is summed once for all of them; where growth repeats or drops single visits, it is
//! summed as often as those few visits matter. Groups of a pool are summed apart, so the pool is what its groups add up to.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ahead::{Ahead, ahead};
use super::crowd::{admit, capacities};
use super::donor::{Donor, HALF_LIFE, draw};
use super::drivers::Drivers;
use super::joint::Paths;
use super::kind::Days;
use super::leaving::Leaving;
use super::log::View;
use super::paths::{Grid, Sums, Trip, VALUES};
use super::standing::{Standing, Vehicle};
use super::stay::Stays;
use crate::parallel::each;

/// A past day that stands for a day ahead on some paths.
#[derive(Debug)]
pub(super) struct Repeat {
    /// Place of the day ahead.
    pub(super) ahead: usize,
    pub(super) donor: Donor,
    paths: Vec<usize>,
}

/// Visits of a repeated day that are summed at least, so that what growth repeats or drops of them does not go together on all
/// paths.
const VISITS: usize = 20_000;
/// Vehicles plugged in that one job looks at.
const STANDING: usize = 4096;
/// Paths whose crowded groups are held at a time.
const BATCH: usize = 16;
/// Ways, in this order: whole past days, and plug-ins one by one; known drivers come third.
const DAYS: usize = 0;
const SINGLY: usize = 1;
/// A pool is small that saw no more visits in so many seconds: in a large one chance evens out, and what days have in common is left.
const SMALL: (i64, usize) = (60 * 86_400, 60_000);

/// Whether chance does not even out yet in the pool that `view` sees.
pub(super) fn is_small(view: &View<'_>) -> bool {
    view.begun_since(view.until - SMALL.0) <= SMALL.1
}

/// Everything drawn from, at one origin.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    pub(super) view: View<'a>,
    pub(super) standing: Standing,
    pub(super) ahead: Vec<Ahead>,
    pub(super) drivers: Option<Drivers>,
    /// By group; `None` where a group never fills up.
    capacities: Vec<Option<usize>>,
    pub(super) grid: Grid,
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
    /// Prepares the draws for `grid` from what `view` knew; local days in `off` are days off, and `leaving` says how long a stay usually
    /// is, if that was learned.
    pub(crate) fn new(
        view: View<'a>,
        off: &BTreeSet<i32>,
        leaving: Option<&Leaving>,
        grid: Grid,
        seed: u64,
    ) -> Self {
        let log = view.log();
        let (today, _) = log.clock(view.until);
        let days = Days::new(&view, today, off, HALF_LIFE);
        let stays = Stays::new(&view, &days, off, leaving);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let standing = Standing::new(&view, &stays, &days, off, &grid, || rng.random());
        let small = is_small(&view);
        let last = log.clock(grid.end()).0;
        let ahead = ahead(&view, &days, off, (last, small));
        let drivers = small
            .then(|| Drivers::new(&view, &standing, &ahead))
            .flatten();
        Self {
            capacities: capacities(&view),
            rhythm: days.rhythm(),
            view,
            standing,
            ahead,
            drivers,
            grid,
            seed,
        }
    }

    /// Ways in which paths are drawn: whole past days; plug-ins one by one; known drivers.
    pub(crate) fn ways(&self) -> usize {
        let single = self.ahead.iter().any(|a| a.rates.is_some());
        1 + usize::from(single) + usize::from(self.drivers.is_some())
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
        let full = self.capacities.iter().any(Option::is_some);
        let ways = self.ways();
        let singly = |path: &usize| full || way(*path, ways) != DAYS;
        let paths: Vec<usize> = (0..how.paths).filter(singly).collect();
        let by_path = by_path(&repeats, how.paths);
        for batch in paths.chunks(BATCH) {
            let crowded = each(batch.to_vec(), how.threads, |path| {
                (path, self.crowd(path, &repeats, &by_path[path], slots))
            });
            for (path, values) in crowded {
                for (slot, values) in values {
                    parts[slot].add(path, &values);
                }
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

    fn fills_up(&self, group: usize) -> bool {
        self.capacities.get(group).copied().flatten().is_some()
    }

    /// Past days by the days ahead that they stand for, with the paths on which they do.
    fn repeats(&self, paths: usize) -> Vec<Repeat> {
        let mut repeats: Vec<Repeat> = Vec::new();
        for (place, ahead) in self.ahead.iter().enumerate() {
            let mut rng = self.rng(&[1, i64::from(ahead.day)]);
            let first = repeats.len();
            let paths = (0..paths).step_by(self.ways());
            let drawn = draw(&ahead.donors, paths.len(), &mut rng);
            for (path, donor) in paths.zip(drawn) {
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
    pub(super) fn rng(&self, purpose: &[i64]) -> ChaCha8Rng {
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

    /// Values of the groups that fill up on one path, by slot.
    fn crowd(
        &self,
        path: usize,
        repeats: &[Repeat],
        own: &[usize],
        slots: usize,
    ) -> Vec<(usize, Vec<f32>)> {
        let days = way(path, self.ways()) == DAYS;
        let stand = |group| self.fills_up(group);
        let mut trips = self.trips(path, repeats, own, stand, |g| !days || self.fills_up(g));
        trips.sort_by_key(|(group, _)| (*group).min(slots - 1));
        let mut sums = Sums::new(self.grid);
        let by_slot = trips.chunk_by(|a, b| a.0.min(slots - 1) == b.0.min(slots - 1));
        by_slot
            .map(|trips| {
                for (_, trip) in trips {
                    sums.add(trip);
                }
                (trips[0].0.min(slots - 1), self.taken(&mut sums))
            })
            .collect()
    }

    /// Visits on one path, one by one, group by group; where outlets are few, who finds none waits or goes. `own` are the places of the
    /// days that the path repeats.
    fn trips(
        &self,
        path: usize,
        repeats: &[Repeat],
        own: &[usize],
        stand: impl Fn(usize) -> bool,
        come: impl Fn(usize) -> bool,
    ) -> Vec<(usize, Trip)> {
        let mut groups: Vec<(Vec<Trip>, usize)> = vec![(Vec::new(), 0); self.groups()];
        for vehicle in &self.standing.vehicles {
            let group = usize::try_from(vehicle.group()).unwrap_or(0);
            if stand(group) {
                groups[group].0.push(self.standing.trip(vehicle, path));
                groups[group].1 += 1;
            }
        }
        let mut take = |group: usize, trip: Trip| {
            if come(group) {
                groups[group].0.push(trip);
            }
        };
        match way(path, self.ways()) {
            DAYS => {
                for repeat in own.iter().filter_map(|place| repeats.get(*place)) {
                    let mut rng = self.rng(&[3, self.day(repeat), index_of(path), 0]);
                    self.come(repeat, &mut rng, &come, &mut take);
                }
            }
            SINGLY => self.come_singly(path, take),
            _ => self.come_known(path, take),
        }
        let mut all = Vec::new();
        for (group, (mut trips, standing)) in groups.into_iter().enumerate() {
            if let Some(capacity) = self.capacities.get(group).copied().flatten() {
                admit(&mut trips, standing, capacity);
            }
            all.extend(trips.into_iter().map(|trip| (group, trip)));
        }
        all
    }

    /// All visits of each of `paths` paths, one by one.
    pub(crate) fn stays(&self, paths: usize, threads: usize) -> Vec<Vec<Trip>> {
        let repeats = self.repeats(paths);
        let by_path = by_path(&repeats, paths);
        each((0..paths).collect(), threads, |path: usize| {
            let trips = self.trips(path, &repeats, &by_path[path], |_| true, |_| true);
            trips.into_iter().map(|(_, trip)| trip).collect()
        })
    }
}

/// The way in which path `path` is drawn: they take turns.
pub(crate) const fn way(path: usize, ways: usize) -> usize {
    path % ways
}

/// Places of the days that each path repeats.
fn by_path(repeats: &[Repeat], paths: usize) -> Vec<Vec<usize>> {
    let mut by_path = vec![Vec::new(); paths];
    for (place, repeat) in repeats.iter().enumerate() {
        for path in &repeat.paths {
            by_path[*path].push(place);
        }
    }
    by_path
}

pub(super) fn index_of(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(0)
}
