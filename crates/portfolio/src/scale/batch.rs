//! From a component of the reference problem to its answer: one path, or batches of sites under a pool.

use pulp::{Arch, Simd, WithSimd};

use crate::reference::{Direction, Headroom, Problem, SessionSchedule};

use super::build::{Frame, NO_SHARE, Unit, plugged_in};
use super::group::Group;
use super::joint::{self, End, Rooms, Until};
use super::parallel;
use super::pool::Pool;
use super::units::units;

/// One limit of one site in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited {
    pub(crate) site: usize,
    pub(crate) step: usize,
    pub(crate) import: bool,
    /// What sessions may add, kW.
    pub(crate) room: f64,
}

/// What is to be solved together.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) problem: &'a Problem,
    /// Indices of the sessions.
    pub(crate) sessions: &'a [usize],
    pub(crate) limits: &'a [Limited],
    /// `(product, block)` on sale; every session that can hold one is among the sessions.
    pub(crate) blocks: &'a [(usize, usize)],
    pub(crate) threads: usize,
    /// Relative gap wanted.
    pub(crate) gap: f64,
    /// Sessions from which a pool is split into batches of about this many.
    pub(crate) batch: usize,
}

/// A schedule that keeps its rows up to the solver's last digits, and what no schedule can undercut.
#[derive(Debug)]
pub(crate) struct Found {
    /// Powers and reserves; energies are the caller's to follow.
    pub(crate) schedules: Vec<(usize, SessionSchedule)>,
    /// Prices of the limits, EUR per kW, in the caller's order.
    pub(crate) prices: Vec<f64>,
    /// EUR.
    pub(crate) lower_bound: f64,
    pub(crate) iterations: u32,
}

/// Whether the shape is one this method has rows for: at most one symmetric product with windows of one or two steps and
/// at most two to recover (or snapshots), a power factor of at least 1, and every session plugged in throughout.
pub(crate) fn supports(asked: &Asked<'_>) -> bool {
    let problem = asked.problem;
    let product = asked.blocks.first().map(|(product, _)| *product);
    let one = asked
        .blocks
        .iter()
        .all(|(other, _)| Some(*other) == product);
    let shape = product.is_none_or(|product| {
        let reserve = &problem.reserves[product];
        let rule = match problem.headroom {
            Headroom::Snapshot => true,
            Headroom::Window { recovery_steps } => {
                recovery_steps <= 2 && reserve.window_steps(problem.step_hours) <= 2
            }
        };
        reserve.direction == Direction::Symmetric && reserve.power_factor >= 1.0 && rule
    });
    let rows: usize = asked
        .blocks
        .iter()
        .map(|(product, block)| 2 * problem.reserves[*product].blocks[*block].steps.len())
        .sum();
    one && shape
        && rows <= MOST_POOL_ROWS
        && asked.sessions.iter().all(|index| {
            let session = &problem.sessions[*index];
            let window = plugged_in(session);
            let shares = &session.share[window.start - session.first..window.end - session.first];
            !window.is_empty()
                && session.charge_kw > 0.0
                && (session.discharge_kw <= 0.0 || session.discharge_kw >= 0.01 * session.charge_kw)
                && session.capacity - session.floor > LEAST_BAND
                && (session.discharge_kw > 0.0 || session.capacity - session.arrival > LEAST_BAND)
                && shares.iter().all(|share| *share > NO_SHARE)
        })
}

/// Rows of a pool that are still cheap to factor whole.
const MOST_POOL_ROWS: usize = 400;

/// Room in a battery below which rows have hardly an interior, kWh.
const LEAST_BAND: f64 = 1e-3;

/// Solves what [`supports`] allows; `None` where the path broke down.
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
        let sessions: usize = asked.sessions.len();
        if sessions <= asked.batch + asked.batch / 8 || frame.blocks.is_empty() {
            whole(simd, asked, &frame, &units)
        } else {
            batched(simd, asked, &frame, units)
        }
    }
}

/// Sessions whose own path gives the first prices.
const SAMPLE: usize = 1500;

/// Most iterations of a path.
const ITERATIONS: u32 = 120;

/// Product of slack and multiplier at which groups at the sample's prices are handed to their batch's path: at a smaller
/// one the fleet's answer to a sampled price is a jump.
const HAND_OVER: f64 = 5e-4;

/// All units on one path.
fn whole<S: Simd>(simd: S, asked: &Asked<'_>, frame: &Frame<'_>, units: &[Unit]) -> Option<Found> {
    let mut groups: Vec<Group<S>> = frame
        .parts(units)
        .into_iter()
        .map(|part| frame.group(simd, part, true))
        .collect();
    let mut pool = frame.pool(units);
    pool.begin(&groups);
    let until = Until {
        gap: asked.gap,
        money: 0.0,
        product: 0.0,
        iterations: ITERATIONS,
    };
    let end = joint::follow(
        simd,
        &mut groups,
        &mut pool,
        &frame.setting,
        until,
        asked.threads,
        &mut Rooms::new(),
    );
    let batch = Batch::of(frame, units, &groups, end);
    let bound = batch.end.bound;
    answer(asked, frame, vec![(units, batch)], bound)
}

/// What the path of some units came to.
struct Batch {
    schedules: Vec<(usize, SessionSchedule)>,
    /// Prices of the units' limits, in their order.
    prices: Vec<f64>,
    end: End,
    vehicles: f64,
}

impl Batch {
    #[expect(clippy::cast_precision_loss, reason = "a count of vehicles")]
    fn of<S: Simd>(frame: &Frame<'_>, units: &[Unit], groups: &[Group<S>], end: End) -> Self {
        let limits = groups
            .iter()
            .flat_map(|group| &group.sites)
            .flat_map(|site| &site.y);
        Self {
            schedules: groups.iter().flat_map(|group| frame.read(group)).collect(),
            prices: limits.copied().collect(),
            end,
            vehicles: units.iter().map(|unit| unit.sessions.len()).sum::<usize>() as f64,
        }
    }
}

fn answer(
    asked: &Asked<'_>,
    frame: &Frame<'_>,
    batches: Vec<(&[Unit], Batch)>,
    bound: f64,
) -> Option<Found> {
    if !bound.is_finite() {
        return None;
    }
    let mut found = Found {
        schedules: Vec::with_capacity(asked.sessions.len()),
        prices: vec![0.0; asked.limits.len()],
        lower_bound: bound / frame.scale,
        iterations: 0,
    };
    for (units, batch) in batches {
        for (row, y) in units.iter().flat_map(|unit| &unit.rows).zip(&batch.prices) {
            found.prices[*row] = y / frame.scale;
        }
        found.schedules.extend(batch.schedules);
        found.iterations = found.iterations.max(batch.end.iterations);
    }
    Some(found)
}

/// Batches of units, each a fleet of its own with its own volumes, and one bound for all at their mean prices.
fn batched<S: Simd>(
    simd: S,
    asked: &Asked<'_>,
    frame: &Frame<'_>,
    units: Vec<Unit>,
) -> Option<Found> {
    let batches = deal(
        frame,
        units,
        asked.sessions.len().div_ceil(asked.batch.max(1)),
    );
    let sample = &sample(&batches[0])[..];
    let mut groups: Vec<Group<S>> = frame
        .parts(sample)
        .into_iter()
        .map(|part| frame.group(simd, part, true))
        .collect();
    let mut pool = frame.pool(sample);
    pool.begin(&groups);
    let until = Until {
        gap: 1e-3,
        money: 0.0,
        product: 0.0,
        iterations: ITERATIONS,
    };
    let first = joint::follow(
        simd,
        &mut groups,
        &mut pool,
        &frame.setting,
        until,
        asked.threads,
        &mut Rooms::new(),
    );
    drop(groups);
    if !first.bound.is_finite() {
        return None;
    }
    let priced = frame.priced(frame.by_step(&first.pool));
    let solved = parallel::each(
        batches.iter().collect(),
        asked.threads,
        |units: &Vec<Unit>| batch(simd, frame, &priced, units, &first.pool),
    );
    let mut mean = vec![0.0; first.pool.len()];
    let vehicles: f64 = solved.iter().map(|batch| batch.vehicles).sum();
    for batch in &solved {
        let share = batch.vehicles / vehicles;
        mean.iter_mut()
            .zip(&batch.end.pool)
            .for_each(|(to, from)| *to += share * from);
    }
    frame.pool(&[]).cover(&mut mean);
    let priced = frame.priced(frame.by_step(&mean));
    let cost: f64 = solved.iter().map(|batch| batch.end.cost).sum();
    let money = 0.1 * asked.gap * cost.abs() / vehicles;
    let all: Vec<&[Unit]> = batches
        .iter()
        .flat_map(|units| frame.parts(units))
        .collect();
    let chunks: Vec<&[&[Unit]]> = all.chunks(all.len().div_ceil(64).max(1)).collect();
    let bounds = parallel::each(chunks, asked.threads, |parts| {
        bound(simd, &priced, parts, money)
    });
    let bound = bounds.iter().sum();
    let pairs: Vec<(&[Unit], Batch)> = batches.iter().map(Vec::as_slice).zip(solved).collect();
    answer(asked, frame, pairs, bound)
}

/// Deals units so that every batch is like the others: in order of kind, one to each in turn.
fn deal(frame: &Frame<'_>, mut units: Vec<Unit>, count: usize) -> Vec<Vec<Unit>> {
    let session = |index: &usize| &frame.problem.sessions[*index];
    units.sort_by_cached_key(|unit| {
        let steps: usize = unit
            .sessions
            .iter()
            .map(|index| session(index).share.len())
            .sum();
        let first: usize = unit.sessions.iter().map(|index| session(index).first).sum();
        let several = unit.sessions.len().max(1);
        (
            first / several / 8,
            steps / several / 4,
            unit.limits.len(),
            unit.sessions.first().copied(),
        )
    });
    let mut batches = vec![Vec::new(); count];
    for (place, unit) in units.into_iter().enumerate() {
        batches[place % count].push(unit);
    }
    batches
}

/// The beginning of a batch that was put in order of kind, thinned evenly.
fn sample(units: &[Unit]) -> Vec<Unit> {
    let sessions: usize = units.iter().map(|unit| unit.sessions.len()).sum();
    let every = (sessions / SAMPLE).max(1);
    units.iter().step_by(every).cloned().collect()
}

/// One batch: its groups brought near the path one by one at given prices, then together.
fn batch<S: Simd>(
    simd: S,
    frame: &Frame<'_>,
    priced: &Frame<'_>,
    units: &[Unit],
    prices: &[f64],
) -> Batch {
    let mut rooms = Rooms::new();
    let mut nobody = Pool::new(Vec::new());
    let near = Until {
        gap: 0.0,
        money: 0.0,
        product: HAND_OVER,
        iterations: ITERATIONS,
    };
    let mut groups: Vec<Group<S>> = Vec::new();
    for part in priced.parts(units) {
        let mut group = priced.group(simd, part, false);
        joint::follow(
            simd,
            std::slice::from_mut(&mut group),
            &mut nobody,
            &priced.setting,
            near,
            1,
            &mut rooms,
        );
        frame.join(&mut group, part);
        groups.push(group);
    }
    let mut pool = frame.pool(units);
    pool.begin_at_prices(&groups, prices, HAND_OVER);
    let until = Until {
        gap: 2e-4,
        money: 0.0,
        product: 0.0,
        iterations: ITERATIONS,
    };
    let end = joint::follow(
        simd,
        &mut groups,
        &mut pool,
        &frame.setting,
        until,
        1,
        &mut rooms,
    );
    Batch::of(frame, units, &groups, end)
}

/// Sum of the lower bounds of groups at given prices of the pool's rows; `money` a vehicle is near enough.
fn bound<S: Simd>(simd: S, priced: &Frame<'_>, parts: &[&[Unit]], money: f64) -> f64 {
    let mut rooms = Rooms::new();
    let mut nobody = Pool::new(Vec::new());
    let mut sum = 0.0;
    for part in parts {
        #[expect(clippy::cast_precision_loss, reason = "a count of vehicles")]
        let vehicles = part.iter().map(|unit| unit.sessions.len()).sum::<usize>() as f64;
        let until = Until {
            gap: 0.0,
            money: money * vehicles,
            product: 0.0,
            iterations: ITERATIONS,
        };
        let mut group = priced.group(simd, part, false);
        let end = joint::follow(
            simd,
            std::slice::from_mut(&mut group),
            &mut nobody,
            &priced.setting,
            until,
            1,
            &mut rooms,
        );
        sum += end.bound;
    }
    sum
}
