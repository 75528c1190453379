//! Paths: vehicles plugged in stay on, and whole past days bring the new ones.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::kind::{Days, OFF};
use super::num::{floor, size};
use super::paths::{Grid, Sums, Trip};
use super::stay::{Rest, Rests, Stays};
use super::visit::{Present, View};
use crate::Quantity;

/// Age at which a past day counts half, days.
pub(crate) const HALF_LIFE: f64 = 24.0;
/// Width of the kernel over today so far, in standard deviations of like days.
const TODAY_WIDTH: f64 = 0.6;
/// Days that a draw for the rest of today must effectively come from.
const FEWEST_DAYS: f64 = 12.0;

/// Paths of a pool, each quantity `paths × steps`, path by path.
#[derive(Debug, Clone)]
pub struct Paths {
    pub(crate) steps: usize,
    pub(crate) count: Vec<f32>,
    pub(crate) up: Vec<f32>,
    pub(crate) down: Vec<f32>,
    pub(crate) need: Vec<f32>,
}

impl Paths {
    fn new(paths: usize, steps: usize) -> Self {
        let zeros = || vec![0.0; paths * steps];
        Self {
            steps,
            count: zeros(),
            up: zeros(),
            down: zeros(),
            need: zeros(),
        }
    }

    fn fill(&mut self, path: usize, sums: &mut Sums) {
        let part = path * self.steps..(path + 1) * self.steps;
        sums.take(
            &mut self.count[part.clone()],
            &mut self.up[part.clone()],
            &mut self.down[part.clone()],
            &mut self.need[part],
        );
    }

    /// Values of one quantity at step `step`, path by path.
    pub(crate) fn column(&self, quantity: Quantity, step: usize) -> impl Iterator<Item = f32> {
        let values = self.of(quantity);
        values.iter().skip(step).step_by(self.steps).copied()
    }

    /// Steps of every path.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.steps
    }

    /// Values of one quantity at step `step`, smallest first.
    #[must_use]
    pub fn sorted(&self, quantity: Quantity, step: usize) -> Vec<f32> {
        let mut values: Vec<f32> = self.column(quantity, step).collect();
        values.sort_by(f32::total_cmp);
        values
    }

    /// Lowest value of every path within the steps from `from` to before `to`.
    #[must_use]
    pub fn lowest(&self, quantity: Quantity, from: i64, to: i64) -> Vec<f32> {
        let place = |k: i64| usize::try_from(k).unwrap_or(0).min(self.steps);
        self.of(quantity)
            .chunks_exact(self.steps)
            .map(|p| {
                p[place(from)..place(to)]
                    .iter()
                    .copied()
                    .fold(f32::INFINITY, f32::min)
            })
            .collect()
    }

    /// All values of a quantity, `paths × steps`, path by path: vehicles, kW or kWh.
    #[must_use]
    pub fn of(&self, quantity: Quantity) -> &[f32] {
        match quantity {
            Quantity::PluggedIn => &self.count,
            Quantity::PowerUp => &self.up,
            Quantity::PowerDown => &self.down,
            Quantity::EnergyNeeded => &self.need,
        }
    }

    pub(crate) fn of_mut(&mut self, quantity: Quantity) -> &mut [f32] {
        match quantity {
            Quantity::PluggedIn => &mut self.count,
            Quantity::PowerUp => &mut self.up,
            Quantity::PowerDown => &mut self.down,
            Quantity::EnergyNeeded => &mut self.need,
        }
    }
}

/// A day ahead, with the past days it may resemble.
#[derive(Debug)]
struct Ahead {
    day: i32,
    /// Clock from which on plug-ins are new.
    from: i64,
    donors: Vec<Donor>,
}

/// A past day that may be repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Donor {
    day: i32,
    weight: f64,
    /// Factor that growth since then puts on its plug-ins.
    scale: f64,
}

/// A plug-in of a past day, by the local clock.
#[derive(Debug, Clone, Copy)]
struct Coming {
    clock: i64,
    rest: Rest,
    discharge: f64,
}

/// Everything drawn from, at one origin.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    view: View<'a>,
    present: Vec<(Present, Rests)>,
    ahead: Vec<Ahead>,
    /// Plug-ins of the past days from `first_book` on.
    books: Vec<Vec<Coming>>,
    first_book: i32,
    capacity: Option<usize>,
    grid: Grid,
    rhythm: [bool; 7],
    rng: ChaCha8Rng,
}

impl<'a> Engine<'a> {
    /// Prepares the draws for `grid` from what `view` knew; local days in `off` are days off.
    pub(crate) fn new(view: View<'a>, off: &BTreeSet<i32>, grid: Grid, seed: u64) -> Self {
        let log = view.log();
        let (today, clock) = log.clock(view.until);
        let days = Days::new(&view, today, off, HALF_LIFE);
        let stays = Stays::new(&view, &days, off);
        let rest = |p: &Present| stays.of(p, days.kind(p.day, off));
        let present: Vec<(Present, Rests)> =
            view.present().into_iter().map(|p| (p, rest(&p))).collect();
        let growth = growth(&days, today);
        let ahead: Vec<Ahead> = (today..=log.clock(grid.end()).0)
            .map(|day| Ahead {
                day,
                from: if day == today { clock + 1 } else { 0 },
                donors: donors(&view, &days, off, (today, clock), day, growth),
            })
            .collect();
        let first_book = ahead
            .iter()
            .flat_map(|a| a.donors.iter().map(|d| d.day))
            .min()
            .unwrap_or(today);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let books = (first_book..today)
            .map(|day| book(&view, day, &rest, &mut rng))
            .collect();
        Self {
            capacity: capacity(&view),
            rhythm: days.rhythm(),
            view,
            present,
            ahead,
            books,
            first_book,
            grid,
            rng,
        }
    }

    /// Weekdays, Monday first, on which a 14-day rhythm was found.
    pub(crate) const fn rhythm(&self) -> [bool; 7] {
        self.rhythm
    }

    /// Draws `paths` paths.
    pub(crate) fn paths(mut self, paths: usize) -> Paths {
        let draws: Vec<Vec<Donor>> = self
            .ahead
            .iter()
            .map(|a| draw(&a.donors, paths, &mut self.rng))
            .collect();
        let levels: Vec<f64> = self.present.iter().map(|_| self.rng.random()).collect();
        let mut out = Paths::new(paths, self.grid.count);
        let mut sums = Sums::new(self.grid);
        let mut trips: Vec<Trip> = Vec::new();
        for path in 0..paths {
            trips.clear();
            self.stay_on(path, &levels, &mut trips);
            let standing = trips.len();
            for (place, drawn) in draws.iter().enumerate() {
                if let Some(donor) = drawn.get(path) {
                    self.come(place, *donor, &mut trips);
                }
            }
            if let Some(capacity) = self.capacity {
                admit(&mut trips, standing, capacity);
            }
            for trip in &trips {
                sums.add(trip);
            }
            out.fill(path, &mut sums);
        }
        out
    }

    /// Vehicles plugged in now. Each goes through its levels evenly over the paths, independent of the others.
    fn stay_on(&self, path: usize, levels: &[f64], trips: &mut Vec<Trip>) {
        for ((p, rests), level) in self.present.iter().zip(levels) {
            let rest = rests.at((level + GOLDEN * size(path)).fract());
            trips.push(Trip {
                start: p.start,
                end: p.start + rest.length,
                energy: rest.energy,
                charge: rest.charge,
                discharge: p.discharge,
            });
        }
    }

    /// Plug-ins of the donor day, moved to the day ahead by the local clock; growth repeats some, or leaves some out.
    fn come(&mut self, place: usize, donor: Donor, trips: &mut Vec<Trip>) {
        let Some(book) = usize::try_from(donor.day - self.first_book)
            .ok()
            .and_then(|i| self.books.get(i))
        else {
            return;
        };
        let ahead = &self.ahead[place];
        for coming in book {
            let times = floor(donor.scale + self.rng.random::<f64>());
            for time in 0..times {
                let shift = if time > 0 {
                    self.rng.random_range(-TWIN_SHIFT..=TWIN_SHIFT)
                } else {
                    0
                };
                let clock = coming.clock + shift;
                if clock < ahead.from {
                    continue;
                }
                let start = self.view.log().instant(ahead.day, clock);
                trips.push(Trip {
                    start,
                    end: start + coming.rest.length,
                    energy: coming.rest.energy,
                    charge: coming.rest.charge,
                    discharge: coming.discharge,
                });
            }
        }
    }
}

/// A visit that growth repeats is another driver's: it comes up to so many seconds earlier or later.
const TWIN_SHIFT: i64 = 1800;

const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Longest wait for an outlet, seconds.
const PATIENCE: i64 = 7200;

/// Lets no more vehicles in than there are outlets: who finds none waits for the next to leave, or goes.
fn admit(trips: &mut Vec<Trip>, standing: usize, capacity: usize) {
    let mut new = trips.split_off(standing);
    new.sort_by_key(|t| t.start);
    let mut leaving: BinaryHeap<Reverse<i64>> = trips.iter().map(|t| Reverse(t.end)).collect();
    for mut trip in new {
        while leaving
            .peek()
            .is_some_and(|Reverse(end)| *end <= trip.start)
        {
            leaving.pop();
        }
        if leaving.len() >= capacity {
            let Some(Reverse(free)) = leaving.peek().copied() else {
                continue;
            };
            if free > trip.start + PATIENCE || free >= trip.end {
                continue;
            }
            leaving.pop();
            trip.start = free;
        }
        leaving.push(Reverse(trip.end));
        trips.push(trip);
    }
}

/// Outlets seen in the last 60 days, where all visits name one and they are nearly all taken at times.
fn capacity(view: &View<'_>) -> Option<usize> {
    let from = view.until - 60 * 86_400;
    let mut outlets = BTreeSet::new();
    for visit in view.ended(from) {
        outlets.insert(visit.outlet?);
    }
    let most = (0..60 * 24)
        .filter_map(|h| view.count(view.until - 3600 * h))
        .max()?;
    let most = usize::try_from(most).ok()?;
    (most * 10 >= outlets.len() * 8).then_some(outlets.len().max(most))
}

/// Growth of plug-ins per day (logarithm), shrunk by its own error (James and Stein 1961).
fn growth(days: &Days, today: i32) -> f64 {
    const WINDOW: i32 = 70;
    const FASTEST: f64 = 0.02;
    let recent: Vec<_> = days
        .days
        .iter()
        .filter(|d| d.day >= today - WINDOW && d.kind != OFF)
        .collect();
    let (mut top, mut bottom, mut chi, mut free) = (0.0, 0.0, 0.0, 0.0);
    for kind in 0..OFF {
        let of: Vec<_> = recent.iter().filter(|d| d.kind == kind).collect();
        if of.len() < 3 {
            continue;
        }
        let n = size(of.len());
        let mean = of.iter().map(|d| d.arrivals).sum::<f64>() / n;
        let centre = of.iter().map(|d| f64::from(d.day - today)).sum::<f64>() / n;
        for d in &of {
            let x = f64::from(d.day - today) - centre;
            top += (d.arrivals - mean) * x;
            bottom += mean * x * x;
            chi += (d.arrivals - mean).powi(2) / mean.max(0.5);
        }
        free += n - 1.0;
    }
    if bottom <= 0.0 || free < 10.0 {
        return 0.0;
    }
    let slope = top / bottom;
    let variance = (chi / free).max(1.0) / bottom;
    let shrunk = slope * (1.0 - variance / (slope * slope)).max(0.0);
    shrunk.clamp(-FASTEST, FASTEST)
}

/// Past days for `day`, each with its weight and the factor that growth puts on its plug-ins.
fn donors(
    view: &View<'_>,
    days: &Days,
    off: &BTreeSet<i32>,
    (today, clock): (i32, i64),
    day: i32,
    growth: f64,
) -> Vec<Donor> {
    let kind = days.kind(day, off);
    let mut donors: Vec<Donor> = days
        .days
        .iter()
        .map(|d| Donor {
            day: d.day,
            weight: (-f64::from(today - d.day) / HALF_LIFE).exp2() * days.alike(kind, d.kind),
            scale: (growth * f64::from(day - d.day)).exp().clamp(0.5, 2.5),
        })
        .collect();
    if day == today {
        let seen = today_so_far(view, day, clock);
        let past: Vec<[f64; 2]> = donors
            .iter()
            .map(|d| today_so_far(view, d.day, clock).map(|x| x * d.scale))
            .collect();
        alike_today(&mut donors, &past, seen);
    }
    donors.retain(|d| d.weight > 1e-9);
    donors
}

/// Plug-ins until `clock` and vehicles plugged in at the full hour before it.
fn today_so_far(view: &View<'_>, day: i32, clock: i64) -> [f64; 2] {
    let arrivals = view.arrival_clocks(day).filter(|c| *c <= clock).count();
    let count = view
        .count(view.log().instant(day, clock / 3600 * 3600))
        .unwrap_or(0);
    [size(arrivals), f64::from(count)]
}

/// Weighs by the likeness of today so far: the kernel widens until enough days are left.
fn alike_today(donors: &mut [Donor], past: &[[f64; 2]], seen: [f64; 2]) {
    let base: Vec<f64> = donors.iter().map(|d| d.weight).collect();
    let total: f64 = base.iter().sum();
    if total <= 0.0 {
        return;
    }
    let spread = [0, 1].map(|i| {
        let weighed = |f: &dyn Fn(f64) -> f64| {
            base.iter().zip(past).map(|(w, p)| w * f(p[i])).sum::<f64>() / total
        };
        let mean = weighed(&|x| x);
        // Half a vehicle: the rounding of a count.
        weighed(&|x| (x - mean).powi(2)).sqrt() + 0.5
    });
    let fewest = FEWEST_DAYS.min(0.5 * effective(&base));
    let mut width = TODAY_WIDTH;
    let weights = loop {
        let kernel = |p: &[f64; 2]| {
            let far: f64 = (0..2)
                .map(|i| ((p[i] - seen[i]) / (width * spread[i])).powi(2))
                .sum();
            (-0.5 * far).exp()
        };
        let weights: Vec<f64> = base.iter().zip(past).map(|(w, p)| w * kernel(p)).collect();
        if effective(&weights) >= fewest || width > 50.0 {
            break weights;
        }
        width *= 1.3;
    };
    for (donor, weight) in donors.iter_mut().zip(weights) {
        donor.weight = weight;
    }
}

/// Effective number of samples (Kish 1965).
fn effective(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    if squares > 0.0 {
        sum * sum / squares
    } else {
        0.0
    }
}

/// A donor day for every path: systematic, so that each day comes as often as its weight says, in random order. None without
/// any day to draw.
fn draw(donors: &[Donor], paths: usize, rng: &mut ChaCha8Rng) -> Vec<Donor> {
    let total: f64 = donors.iter().map(|d| d.weight).sum();
    let Some(first) = donors.first().filter(|_| total > 0.0) else {
        return Vec::new();
    };
    let offset: f64 = rng.random();
    let mut drawn = Vec::with_capacity(paths);
    let (mut place, mut sum) = (0, first.weight);
    for path in 0..paths {
        let level = (size(path) + offset) / size(paths) * total;
        while sum < level && place + 1 < donors.len() {
            place += 1;
            sum += donors[place].weight;
        }
        drawn.push(donors[place]);
    }
    for i in (1..drawn.len()).rev() {
        drawn.swap(i, rng.random_range(0..=i));
    }
    drawn
}

/// Plug-ins of a past day; the rest of a visit that lasts is drawn once.
fn book(
    view: &View<'_>,
    day: i32,
    rest: &dyn Fn(&Present) -> Rests,
    rng: &mut ChaCha8Rng,
) -> Vec<Coming> {
    view.arrivals(day)
        .map(|arrival| match arrival {
            Ok(v) => Coming {
                clock: v.clock,
                rest: Rest {
                    length: v.end - v.start,
                    energy: v.energy,
                    charge: v.charge,
                },
                discharge: v.discharge,
            },
            Err(p) => Coming {
                clock: p.clock,
                rest: rest(&p).at(rng.random()),
                discharge: p.discharge,
            },
        })
        .collect()
}
