//! From a component of the reference problem to its answer: one path, or few sites that balance the others under a pool.

use pulp::{Arch, Simd, WithSimd};

use crate::reference::SessionSchedule;

use super::asked::{Asked, Found};
use super::balance;
use super::build::{Frame, Unit};
use super::group::Group;
use super::joint::{self, Rooms, Until};
use super::pool::Pool;
use super::units::units;

/// Solves what [`supports`](super::supports) allows; `None` where the path broke down.
pub(crate) fn solve(asked: &Asked<'_>) -> Option<Found> {
    Arch::new().dispatch(Job(asked))
}

struct Job<'a>(&'a Asked<'a>);

impl WithSimd for Job<'_> {
    type Output = Option<Found>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Option<Found> {
        let asked = self.0;
        let blocks = asked.blocks.iter().map(|(_, block)| *block).collect();
        let product = asked.blocks.first().map_or(0, |(product, _)| *product);
        let frame = Frame::new(asked.problem, product, blocks);
        let units = units(asked);
        let balanced = if frame.blocks.is_empty() || balance::every(asked) < LEAST_EVERY {
            None
        } else {
            balance::solve(simd, asked, &frame, &units)
        };
        balanced.or_else(|| whole(simd, asked, &frame, &units))
    }
}

/// Sessions per session of the few from which balancing is quicker than one path for all.
const LEAST_EVERY: usize = 3;

/// All units on one path.
fn whole<S: Simd>(simd: S, asked: &Asked<'_>, frame: &Frame<'_>, units: &[Unit]) -> Option<Found> {
    let until = Until {
        gap: asked.gap,
        ..Until::NEVER
    };
    let (mut groups, mut pool) = start(simd, frame, units);
    let end = joint::follow(
        simd,
        &mut groups,
        &mut pool,
        &frame.setting,
        until,
        asked.threads,
        &mut Rooms::new(),
    );
    let mut answer = Answer::new(asked);
    answer.read(frame, units, &groups);
    answer.found(frame, end.bound, end.iterations)
}

/// Groups of some units and their pool at the start of a path.
pub(super) fn start<S: Simd>(simd: S, frame: &Frame<'_>, units: &[Unit]) -> (Vec<Group<S>>, Pool) {
    let groups: Vec<Group<S>> = frame
        .parts(units)
        .into_iter()
        .map(|part| frame.group(simd, part, true))
        .collect();
    let mut pool = frame.pool(units);
    pool.begin(&groups);
    (groups, pool)
}

/// Schedules and prices as they are read from groups.
pub(super) struct Answer {
    schedules: Vec<(usize, SessionSchedule)>,
    prices: Vec<f64>,
}

impl Answer {
    pub(super) fn new(asked: &Asked<'_>) -> Self {
        Self {
            schedules: Vec::with_capacity(asked.sessions.len()),
            prices: vec![0.0; asked.limits.len()],
        }
    }

    /// Reads groups of whole units, in the units' order.
    pub(super) fn read<S: Simd>(&mut self, frame: &Frame<'_>, units: &[Unit], groups: &[Group<S>]) {
        let sites = groups.iter().flat_map(|group| &group.sites);
        let limits: Vec<f64> = sites.flat_map(|site| site.y.iter().copied()).collect();
        let schedules = groups.iter().flat_map(|group| frame.read(group)).collect();
        self.add(frame, units, schedules, &limits);
    }

    /// Adds schedules of units, and the multipliers of their limits in the units' order.
    pub(super) fn add(
        &mut self,
        frame: &Frame<'_>,
        units: &[Unit],
        schedules: Vec<(usize, SessionSchedule)>,
        limits: &[f64],
    ) {
        for (row, y) in units.iter().flat_map(|unit| &unit.rows).zip(limits) {
            self.prices[*row] = y / frame.scale;
        }
        self.schedules.extend(schedules);
    }

    /// The answer with a lower bound in scaled money; `None` where there is no bound.
    pub(super) fn found(self, frame: &Frame<'_>, bound: f64, iterations: u32) -> Option<Found> {
        bound.is_finite().then(|| Found {
            schedules: self.schedules,
            prices: self.prices,
            lower_bound: bound / frame.scale,
            iterations,
        })
    }
}
