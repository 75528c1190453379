//! The primal-dual path: predictor and corrector over all groups, with the pool's rows between them.
//!
//! `solver-study` of the decision record: Mehrotra's predictor and corrector, one step length for all rows of a kind, an
//! infeasible start, and a bound at every iterate that is near enough, so that the end is proven.

use pulp::Simd;

use super::group::{Group, Pass, Setting, Tally, Work};
use super::pack::Stride;
use super::parallel::{CHUNKS, over_chunks};
use super::pool::Pool;
use super::site::RowSums;

/// How near a bound a step may go.
const NEAR: f64 = 0.99;

/// Largest row residual of a schedule that counts, kW or kW-steps.
const KEPT: f64 = 1e-7;

/// How many times the gap wanted the sum of products may be when bounds begin to be taken.
const NEAR_END: f64 = 100.0;

/// What a product or a residual must fall to for an iteration to count as progress.
const PROGRESS: f64 = 0.97;

/// Iterations without progress after which a path ends.
const STUCK: u32 = 8;

/// Most iterations of a path.
const ITERATIONS: u32 = 120;

/// How many times the least product aimed at is near enough.
const CENTRED: f64 = 1.1;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    /// Gap between the iterate's cost and its bound, relative to the cost.
    pub(super) gap: f64,
    /// The same in scaled money; the larger of the two counts.
    pub(super) money: f64,
    /// Mean product of slack and multiplier at which to stop without a bound; zero for never.
    pub(super) product: f64,
    /// Least product aimed at; a path that comes this near stops with a bound.
    pub(super) centre: f64,
}

impl Until {
    /// Only when no more progress is made.
    pub(super) const NEVER: Self = Self {
        gap: 0.0,
        money: 0.0,
        product: 0.0,
        centre: 0.0,
    };

    /// At a product of slack and multiplier, with a bound.
    pub(super) const fn centred(product: f64) -> Self {
        Self {
            centre: product,
            ..Self::NEVER
        }
    }
}

/// Where a path ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) iterations: u32,
    pub(super) cost: f64,
    pub(super) bound: f64,
    pub(super) product: f64,
    pub(super) worst: f64,
    /// Multipliers of the pool's rows at the best bound.
    pub(super) pool: Vec<f64>,
}

/// Room for the passes of a path: one per chunk of groups, kept from path to path.
#[derive(Debug)]
pub(super) struct Rooms<S: Simd>(Vec<Work<S>>);

impl<S: Simd> Rooms<S> {
    pub(super) fn new() -> Self {
        Self((0..CHUNKS).map(|_| Work::new()).collect())
    }
}

/// Follows the path until it is near enough to its end or gets no further.
pub(super) fn follow<S: Simd>(
    simd: S,
    groups: &mut [Group<S>],
    pool: &mut Pool,
    setting: &Setting,
    until: Until,
    threads: usize,
    rooms: &mut Rooms<S>,
) -> End {
    let rows = groups.iter().map(Group::rows).sum::<f64>() + pool.count();
    let width = pool.multipliers().len();
    let mut end = End {
        iterations: 0,
        cost: f64::INFINITY,
        bound: f64::NEG_INFINITY,
        product: f64::INFINITY,
        worst: f64::INFINITY,
        pool: pool.multipliers().to_vec(),
    };
    let mut run = |groups: &mut [Group<S>], pass: Pass<'_>, matrix: bool| {
        over_chunks(groups, &mut rooms.0, threads, |chunk, work| {
            let mut tally = Tally::new(width, matrix);
            chunk
                .iter_mut()
                .for_each(|group| group.pass(simd, setting, pass, work, &mut tally));
            tally
        })
        .into_iter()
        .reduce(|mut sum, next| {
            sum.add(&next);
            sum
        })
        .unwrap_or_else(|| Tally::new(width, matrix))
    };
    let mut stride: Option<Stride> = None;
    let mut size = f64::INFINITY;
    let mut stuck = 0;
    for iteration in 0..=ITERATIONS {
        if let Some(stride) = stride {
            pool.stride(stride);
        }
        let multipliers = pool.multipliers().to_vec();
        // A bound costs a sweep; it is worth one once the path is near its end.
        let wanted = until.money.max(until.gap * size).max(until.centre * rows);
        let last = stuck > STUCK / 2 || iteration == ITERATIONS;
        let near = end.product * rows < NEAR_END * wanted || last;
        let pass = Pass::Eliminate {
            stride,
            bound: near.then_some(&multipliers),
        };
        let tally = run(groups, pass, true);
        let (worst, products) = pool.residuals(&tally.pool);
        let product = (tally.products + products) / rows;
        let worst = tally.worst.max(worst);
        if !product.is_finite() || !worst.is_finite() {
            break;
        }
        // An infeasible start of a large fleet makes way on its rows long before the products fall.
        let further = product < PROGRESS * end.product || worst < PROGRESS * end.worst;
        stuck = if further { 0 } else { stuck + 1 };
        end.iterations = iteration;
        end.product = product;
        end.worst = worst;
        end.cost = tally.cost - pool.earned(&tally.pool);
        size = end.cost.abs().max(product);
        if near {
            let bound = tally.bound + pool.bound();
            if bound > end.bound {
                end.bound = bound;
                end.pool = multipliers;
            }
        }
        let enough = until
            .money
            .max(until.gap * size)
            .max(CENTRED * until.centre * rows);
        let done = worst < KEPT && end.cost - end.bound <= enough;
        if done || stuck > STUCK || product < until.product || iteration == ITERATIONS {
            break;
        }
        pool.factor(&tally.matrix);
        let affine = pool.solve_affine(&tally.rhs[0]);
        let second = run(groups, Pass::Predict { pool: &affine }, false);
        let mut sums = second.sums;
        pool.meet_affine(&second.pool, &mut sums);
        let target = aim(&sums, product, rows).max(until.centre);
        let next = pool.solve(&tally.rhs, &second.rhs[0], target);
        let step = run(
            groups,
            Pass::Correct {
                pool: &next,
                target,
            },
            false,
        );
        let mut sums = step.sums;
        pool.meet(&step.pool, &mut sums);
        stride = Some(Stride {
            primal: (NEAR / sums.primal).min(1.0),
            dual: (NEAR / sums.dual).min(1.0),
            target,
        });
    }
    end
}

/// The target the affine direction suggests (Mehrotra 1992, with a square for the cube).
pub(super) fn aim(sums: &RowSums, product: f64, rows: f64) -> f64 {
    let primal = (1.0 / sums.primal).min(1.0);
    let dual = (1.0 / sums.dual).min(1.0);
    let after =
        product + (primal * sums.y_ds + dual * sums.s_dy + primal * dual * sums.ds_dy) / rows;
    let ratio = (after / product).clamp(0.0, 1.0);
    ratio * ratio * product
}
