//! What was observed of a pool, step by step, as far as it was known at an instant.

use std::collections::BTreeSet;

use super::donor::HALF_LIFE;
use super::kind::Days;
use super::log::{LONGEST, Log, View};
use super::num::index;
use super::num::real;
use super::paths::{COUNT, DOWN, Grid, NEED, Sums, Trip, UP, VALUES};
use super::standing::Standing;
use super::stay::Stays;
use super::visit::Seen;
use crate::Quantity;

/// Values at the steps of a clock.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    start: i64,
    step: i64,
    /// `VALUES × steps`.
    values: Vec<f32>,
    known: Vec<bool>,
}

impl Observed {
    /// The last `days` days before the view's cut-off. Energy of a visit that lasts is not known: it counts with the median of past
    /// visits like it.
    pub(crate) fn new(view: &View<'_>, off: &BTreeSet<i32>, days: i64, step: i64) -> Self {
        let (today, _) = view.log().clock(view.until);
        let kinds = Days::new(view, today, off, HALF_LIFE);
        Self::by_kinds(view, &kinds, off, (days, step))
    }

    /// The same where the kinds of days are known already.
    pub(crate) fn by_kinds(
        view: &View<'_>,
        kinds: &Days,
        off: &BTreeSet<i32>,
        (days, step): (i64, i64),
    ) -> Self {
        let stays = Stays::new(view, kinds, off, None);
        let from = view.until - days * 86_400;
        let start = from.div_euclid(step) * step;
        let grid = grid(start, view.until, step);
        let mut sums = Sums::new(grid);
        for visit in view.ended(from - LONGEST) {
            sums.add(&trip(&visit));
        }
        // Each at the middle of what may become of it, and there until now at least.
        let standing = Standing::new(view, &stays, kinds, off, &grid, || 0.5);
        for vehicle in &standing.vehicles {
            sums.add(&Trip {
                end: view.until + 1,
                slack: None,
                ..standing.trip(vehicle, 0)
            });
        }
        Self::of(grid, sums, view)
    }

    /// Everything that happened, for scoring only.
    pub(crate) fn all(log: &Log, step: i64) -> Self {
        let start = log.visits().next().map_or(0, |v| v.start);
        let start = (start + step - 1).div_euclid(step) * step;
        let last = log.visits().next_back().map_or(start, |v| v.start);
        let grid = grid(start, last, step);
        let mut sums = Sums::new(grid);
        for visit in log.visits() {
            sums.add(&trip(&visit));
        }
        Self::of(grid, sums, &log.view(i64::MAX))
    }

    fn of(grid: Grid, mut sums: Sums, view: &View<'_>) -> Self {
        let mut values = vec![0.0; VALUES * grid.count];
        sums.take(&mut values);
        Self {
            start: grid.start,
            step: grid.step,
            values,
            known: known(grid, view),
        }
    }

    /// Value at the step that begins at or before `at`; `None` where nothing is known.
    pub(crate) fn at(&self, quantity: Quantity, at: i64) -> Option<f64> {
        let place = usize::try_from((at - self.start).div_euclid(self.step)).ok()?;
        let row = match quantity {
            Quantity::PluggedIn => COUNT,
            Quantity::PowerUp => UP,
            Quantity::PowerDown => DOWN,
            Quantity::EnergyNeeded => NEED,
        };
        let known = *self.known.get(place)?;
        known.then(|| f64::from(self.values[row * self.known.len() + place].max(0.0)))
    }

    pub(crate) const fn start(&self) -> i64 {
        self.start
    }
}

fn grid(start: i64, last: i64, step: i64) -> Grid {
    Grid {
        start,
        step,
        count: index(real((last - start).max(0) / step)) + 1,
    }
}

pub(crate) fn trip(visit: &Seen) -> Trip {
    Trip {
        start: visit.start,
        end: visit.end,
        energy: visit.energy,
        charge: visit.charge,
        discharge: visit.discharge,
        done: None,
        slack: visit.slack,
        source: visit.source,
    }
}

/// False in holes and before the first visit.
fn known(grid: Grid, view: &View<'_>) -> Vec<bool> {
    let mut known = vec![true; grid.count];
    let place = |at: i64| {
        let steps = (at.min(grid.end()) - grid.start).max(0) + grid.step - 1;
        index(real(steps / grid.step)).min(grid.count)
    };
    let begun = view.first_start().unwrap_or(i64::MAX);
    for (from, to) in view.holes().chain([(i64::MIN, begun)]) {
        known[place(from.max(grid.start))..place(to)].fill(false);
    }
    known
}
