//! Sums over a pool along one path: vehicles, power, energy and its bounds, step by step.

use super::num::{index, narrow, real};

/// The steps of a horizon: `count` instants from `start`, `step` seconds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Grid {
    /// The first step at or after `at`, at most `count`.
    fn place(&self, at: i64) -> usize {
        if at <= self.start {
            return 0;
        }
        // Half a second keeps whole steps whole, whatever the quotient is rounded to.
        let steps = (real(at - self.start + self.step - 1) + 0.5) / real(self.step);
        index(steps).min(self.count)
    }

    /// Hours from `from` to step `step`.
    fn hours(&self, from: i64, step: usize) -> f64 {
        real(self.start - from + self.step * i64::try_from(step).unwrap_or(0)) / 3600.0
    }

    fn step_hours(&self) -> f64 {
        real(self.step) / 3600.0
    }

    pub(crate) fn end(&self) -> i64 {
        self.start + self.step * i64::try_from(self.count).unwrap_or(0)
    }
}

/// A visit on a path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trip {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// kWh over the whole visit.
    pub(crate) energy: f64,
    pub(crate) charge: f64,
    pub(crate) discharge: f64,
    /// kWh that the meter had counted at the first step; `None` if it was not read: then the visit has charged at once so far.
    pub(crate) done: Option<f64>,
    /// kWh that the battery could take beyond the need, and could give before it; `None` where its state is unknown.
    pub(crate) slack: Option<(f64, f64)>,
    /// The visit it repeats or goes on with, as its log counts them.
    pub(crate) source: u32,
}

/// Values of a path at one step: what [`Sums::take`] writes, in this order.
pub(crate) const VALUES: usize = 6;
pub(crate) const COUNT: usize = 0;
pub(crate) const UP: usize = 1;
pub(crate) const DOWN: usize = 2;
pub(crate) const NEED: usize = 3;
/// Least and most energy from the first step on, kWh.
pub(crate) const LOW: usize = 4;
pub(crate) const HIGH: usize = 5;
/// Energies change from step to step at these rates.
const NEED_SLOPE: usize = 6;
const LOW_SLOPE: usize = 7;
const HIGH_SLOPE: usize = 8;
const ROWS: usize = 9;

/// Tells `add` what `trip` changes on `grid`: step, row, change. A visit between two steps leaves its energy alone.
///
/// Lowest and highest energy are those of a vehicle that leaves with what it needs, as far as its power allows: charged as late as
/// it can be, and at once. Losses are not counted.
#[inline]
fn changes(grid: &Grid, trip: &Trip, mut add: impl FnMut(usize, usize, f64)) {
    let (from, to) = (grid.place(trip.start), grid.place(trip.end));
    if trip.end <= grid.start {
        return;
    }
    let (charge, discharge) = (trip.charge, trip.discharge);
    let begin = trip.start.max(grid.start);
    let before = charge * real(begin - trip.start) / 3600.0;
    let left = (trip.energy - trip.done.unwrap_or(before)).max(0.0);
    let hours = real(trip.end - begin) / 3600.0;
    let goal = left.min(charge * hours);
    let (room, spare) = trip.slack.unwrap_or((0.0, 0.0));
    let most = (goal + room).min(charge * hours);
    if from >= to {
        add(to, LOW, goal);
        add(to, HIGH, most);
        return;
    }
    // Up to the second in which the last of it flows.
    let seconds = seconds(left / charge * 3600.0 + 1.0 - 1e-9);
    let charged = grid
        .place(begin.saturating_add(seconds).min(trip.end))
        .max(from);
    add(from, COUNT, 1.0);
    add(to, COUNT, -1.0);
    add(from, UP, discharge + charge);
    add(charged, UP, -charge);
    add(to, UP, -discharge);
    add(charged, DOWN, charge);
    add(to, DOWN, -charge);
    let so_far = grid.hours(begin, from);
    if charged > from {
        let need = left - charge * so_far;
        line(grid, NEED, (from, need), (charged, 0.0), -charge, &mut add);
    }

    let second = |h: f64| begin + self::seconds(h * 3600.0);
    let full = grid.place(second(most / charge)).max(from);
    let first = (charge * so_far).min(most);
    line(grid, HIGH, (from, first), (full, most), charge, &mut add);

    // Gives until its reserve is used up or it must charge again, waits, and charges to the goal.
    let deepest = discharge * ((charge * hours - goal) / (charge + discharge)).max(0.0);
    let depth = spare.min(deepest);
    if depth > 0.0 {
        let first = (-discharge * so_far).max(-depth);
        let low = grid.place(second(depth / discharge)).max(from);
        line(
            grid,
            LOW,
            (from, first),
            (low, -depth),
            -discharge,
            &mut add,
        );
    }
    let late = grid
        .place(second(hours - (goal + depth) / charge))
        .max(from);
    if late < to {
        let height = goal + charge * grid.hours(trip.end, late);
        let height = height.clamp(-depth, goal);
        let (first, last) = ((late, height + depth), (to, goal + depth));
        line(grid, LOW, first, last, charge, &mut add);
    } else {
        add(to, LOW, goal + depth);
    }
}

/// Whole seconds, cut off.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates; callers stay far inside"
)]
fn seconds(value: f64) -> i64 {
    value as i64
}

/// A straight line of `row` from the value at one step with `slope` per hour, to the value it keeps from the other on.
#[inline]
fn line(
    grid: &Grid,
    row: usize,
    (from, first): (usize, f64),
    (to, last): (usize, f64),
    slope: f64,
    add: &mut impl FnMut(usize, usize, f64),
) {
    if to <= from {
        add(from, row, last);
        return;
    }
    let slope_row = match row {
        NEED => NEED_SLOPE,
        LOW => LOW_SLOPE,
        _ => HIGH_SLOPE,
    };
    let per_step = slope * grid.step_hours();
    let steps = real(i64::try_from(to - from).unwrap_or(0));
    add(from, row, first);
    add(from, slope_row, per_step);
    add(to, row, last - first - per_step * steps);
    add(to, slope_row, -per_step);
}

/// Steps at which the sums of one visit may bend.
const BENDS: usize = 8;

/// What one visit changes, kept for all visits like it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    bends: [(usize, [f64; ROWS]); BENDS],
    count: usize,
}

impl Shape {
    /// The changes of `trip` on `grid`.
    pub(crate) fn of(grid: &Grid, trip: &Trip) -> Self {
        let mut shape = Self {
            bends: [(0, [0.0; ROWS]); BENDS],
            count: 0,
        };
        changes(grid, trip, |step, row, change| shape.add(step, row, change));
        shape
    }

    fn add(&mut self, step: usize, row: usize, change: f64) {
        let known = self.bends[..self.count].iter().position(|b| b.0 == step);
        let place = known.unwrap_or(self.count);
        if place == self.count && self.count < BENDS {
            self.count += 1;
            self.bends[place].0 = step;
        }
        self.bends[place.min(BENDS - 1)].1[row] += change;
    }
}

/// Difference arrays of one path.
#[derive(Debug)]
pub(crate) struct Sums {
    grid: Grid,
    changes: Vec<[f64; ROWS]>,
}

impl Sums {
    pub(crate) fn new(grid: Grid) -> Self {
        Self {
            changes: vec![[0.0; ROWS]; grid.count + 1],
            grid,
        }
    }

    pub(crate) fn add(&mut self, trip: &Trip) {
        let sums = &mut self.changes;
        changes(&self.grid, trip, |step, row, change| {
            sums[step][row] += change;
        });
    }

    pub(crate) fn put(&mut self, shape: &Shape) {
        for (step, change) in &shape.bends[..shape.count] {
            for (sum, change) in self.changes[*step].iter_mut().zip(change) {
                *sum += change;
            }
        }
    }

    /// Adds the sums at every step to `values`, `VALUES × steps`, quantity by quantity, and starts anew.
    pub(crate) fn take(&mut self, values: &mut [f32]) {
        let steps = self.grid.count;
        let mut now = [0.0; ROWS];
        for (k, change) in self.changes.iter().take(steps).enumerate() {
            // What was there a step ago has charged for a step.
            now[NEED] += now[NEED_SLOPE];
            now[LOW] += now[LOW_SLOPE];
            now[HIGH] += now[HIGH_SLOPE];
            for (now, change) in now.iter_mut().zip(change) {
                *now += change;
            }
            for (row, value) in now.iter().take(VALUES).enumerate() {
                values[row * steps + k] += narrow(*value);
            }
        }
        self.changes.fill([0.0; ROWS]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEPS: usize = 40;
    const GRID: Grid = Grid {
        start: 0,
        step: 900,
        count: STEPS,
    };

    /// Count, power up, power down, energy needed, lowest and highest energy of one visit at an instant, straight from the
    /// definitions.
    fn at(trip: &Trip, at: i64) -> [f64; VALUES] {
        let hours = |from: i64, to: i64| real(to - from) / 3600.0;
        let begin = trip.start.max(0);
        let before = trip.charge * hours(trip.start, begin);
        let left = (trip.energy - trip.done.unwrap_or(before)).max(0.0);
        if at < trip.start || trip.end <= 0 {
            return [0.0; VALUES];
        }
        let (room, spare) = trip.slack.unwrap_or((0.0, 0.0));
        let stay = trip.charge * hours(begin, trip.end);
        let goal = left.min(stay);
        let most = (goal + room).min(stay);
        if at >= trip.end {
            return [0.0, 0.0, 0.0, 0.0, goal, most];
        }
        let so_far = hours(begin, at);
        let need = (left - trip.charge * so_far).max(0.0);
        let charging = if need > 1e-9 { trip.charge } else { 0.0 };
        let low = (-spare)
            .max(-trip.discharge * so_far)
            .max(goal - trip.charge * hours(at, trip.end));
        let high = (trip.charge * so_far).min(most);
        let (up, down) = (trip.discharge + charging, trip.charge - charging);
        [1.0, up, down, need, low, high]
    }

    prop_compose! {
        fn trip()(
            start in -20_000_i64..40_000, length in 60_i64..50_000, kwh in 0_u32..40, kw in 3_u32..22,
            slack in prop::option::of((0_u32..20, 0_u32..20)), discharge in prop::bool::ANY,
            done in prop::option::of(0_u32..10),
        ) -> Trip {
            Trip {
                start,
                end: start + length,
                // Never charged at a full second, where rounding would decide.
                energy: f64::from(kwh) + 0.0137,
                charge: f64::from(kw),
                discharge: if discharge { 11.0 } else { 0.0 },
                done: done.filter(|_| start < 0).map(f64::from),
                slack: slack.map(|(room, spare)| (f64::from(room), f64::from(spare))),
                source: 0,
            }
        }
    }

    proptest! {
        #[test]
        fn sums_are_what_the_definitions_say(trips in prop::collection::vec(trip(), 0..12)) {
            let mut sums = Sums::new(GRID);
            trips.iter().for_each(|t| sums.add(t));
            let mut out = vec![0.0_f32; VALUES * STEPS];
            sums.take(&mut out);
            for (step, instant) in (0..STEPS).zip((0..).step_by(900)) {
                let mut expected = [0.0; VALUES];
                for trip in &trips {
                    for (sum, value) in expected.iter_mut().zip(at(trip, instant)) {
                        *sum += value;
                    }
                }
                for (row, expected) in expected.into_iter().enumerate() {
                    let value = f64::from(out[row * STEPS + step]);
                    prop_assert!((value - expected).abs() < 0.15, "{step} {row} {value} {expected}");
                }
            }
        }

        #[test]
        fn the_lowest_energy_is_never_above_the_highest(trips in prop::collection::vec(trip(), 1..12)) {
            let mut sums = Sums::new(GRID);
            trips.iter().for_each(|t| sums.add(t));
            let mut out = vec![0.0_f32; VALUES * STEPS];
            sums.take(&mut out);
            for step in 0..STEPS {
                let (low, high) = (out[LOW * STEPS + step], out[HIGH * STEPS + step]);
                prop_assert!(low <= high + 1e-3, "{step} {low} {high}");
            }
        }
    }
}
