//! What joins the vehicles of one site: the rows of its limits, and its share of the pool's rows.

use std::ops::Range;

use pulp::Simd;

use super::lanes::{V, get, put, take};
use super::matrix::{Lower, PANEL, beyond_panel, within_panel};
use super::pack::Stride;

/// What a functional of the vehicles' powers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `-(p + r)`: room left under the import limit.
    Import,
    /// `p - ru`: room left under the export limit.
    Export,
    /// `ru`
    Up,
    /// `r`
    Down,
}

impl Kind {
    /// Weights of `p, ru, r`.
    pub(super) const fn weights(self) -> [f64; 3] {
        match self {
            Self::Import => [-1.0, 0.0, -1.0],
            Self::Export => [1.0, -1.0, 0.0],
            Self::Up => [0.0, 1.0, 0.0],
            Self::Down => [0.0, 0.0, 1.0],
        }
    }

    pub(super) const fn is_pool(self) -> bool {
        matches!(self, Self::Up | Self::Down)
    }
}

/// One functional of a site in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Functional {
    pub(super) step: usize,
    pub(super) kind: Kind,
    /// Row of the pool, or of the site.
    pub(super) row: usize,
}

/// One limit in one step, kW: `room` is what the vehicles may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) step: usize,
    pub(super) import: bool,
    pub(super) room: f64,
}

/// The coupling rows of one site and their iterate.
#[derive(Debug, Clone)]
pub(super) struct Site<S: Simd> {
    first: usize,
    /// In order of time.
    pub(super) functionals: Vec<Functional>,
    /// Where each step's functionals begin, from `first` on; one entry more than there are steps.
    begins: Vec<usize>,
    /// Place in the matrix: pool rows first, limits last, each in order of time.
    order: Vec<usize>,
    pub(super) limits: Vec<Limit>,
    /// Pool rows the site takes part in, ascending.
    pub(super) pool: Vec<usize>,
    /// Eliminated rows of the limits.
    rows: Vec<V<S>>,
    inverse: Vec<f64>,
    pub(super) s: Vec<f64>,
    pub(super) y: Vec<f64>,
    residual: Vec<f64>,
    affine: Vec<f64>,
    centre: Vec<f64>,
    second: Vec<f64>,
    /// `ds*dy` of the affine direction.
    products: Vec<f64>,
    ds: Vec<f64>,
    dy: Vec<f64>,
    /// `p, ru, r` summed over the vehicles, per step.
    pub(super) sums: [Vec<[f64; 3]>; 3],
    pub(super) extra: Vec<[f64; 3]>,
}

/// What one site adds to the sums over all coupling rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowSums {
    pub(super) primal: f64,
    pub(super) dual: f64,
    pub(super) y_ds: f64,
    pub(super) s_dy: f64,
    pub(super) ds_dy: f64,
}

impl RowSums {
    pub(super) fn meet(&mut self, s: f64, y: f64, ds: f64, dy: f64) {
        self.primal = self.primal.max(-ds / s);
        self.dual = self.dual.max(-dy / y);
        self.y_ds += y * ds;
        self.s_dy += s * dy;
        self.ds_dy += ds * dy;
    }
}

impl<S: Simd> Site<S> {
    /// A site whose vehicles are plugged in during `steps`; `pool_row(step)` gives the rows of Up and Down on sale.
    pub(super) fn new(
        steps: Range<usize>,
        limits: &[Limit],
        pool_row: impl Fn(usize) -> Option<(usize, usize)>,
    ) -> Self {
        let first = steps.start;
        let (mut functionals, mut begins, mut kept, mut pool) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut waiting = limits.iter().peekable();
        for step in steps.clone() {
            begins.push(functionals.len());
            while let Some(limit) = waiting.next_if(|limit| limit.step <= step) {
                if limit.step == step {
                    let kind = if limit.import {
                        Kind::Import
                    } else {
                        Kind::Export
                    };
                    functionals.push(Functional {
                        step,
                        kind,
                        row: kept.len(),
                    });
                    kept.push(*limit);
                }
            }
            if let Some((up, down)) = pool_row(step) {
                functionals.push(Functional {
                    step,
                    kind: Kind::Up,
                    row: up,
                });
                functionals.push(Functional {
                    step,
                    kind: Kind::Down,
                    row: down,
                });
                pool.extend([up, down]);
            }
        }
        begins.push(functionals.len());
        let (mut at_pool, mut at_limit) = (0, pool.len());
        let order = functionals
            .iter()
            .map(|f| {
                let next = if f.kind.is_pool() {
                    &mut at_pool
                } else {
                    &mut at_limit
                };
                *next += 1;
                *next - 1
            })
            .collect();
        let count = kept.len();
        let none = || vec![0.0; count];
        let blank = || vec![[0.0; 3]; steps.len()];
        Self {
            first,
            functionals,
            begins,
            order,
            limits: kept,
            pool,
            rows: Vec::new(),
            inverse: none(),
            s: vec![1.0; count],
            y: none(),
            residual: none(),
            affine: none(),
            centre: none(),
            second: none(),
            products: none(),
            ds: none(),
            dy: none(),
            sums: [blank(), blank(), blank()],
            extra: blank(),
        }
    }

    /// Vectors in a row of the site's matrix.
    pub(super) fn width(&self) -> usize {
        self.functionals.len().div_ceil(V::<S>::LANES)
    }

    /// Functionals of a step of the grid; empty, at the end, after the last.
    pub(super) fn functionals_from(&self, step: usize) -> Range<usize> {
        let at = step.saturating_sub(self.first);
        let begin = |at: usize| {
            self.begins
                .get(at)
                .or(self.begins.last())
                .copied()
                .unwrap_or(0)
        };
        begin(at)..begin(at + 1)
    }

    pub(super) fn place(&self, step: usize) -> usize {
        step - self.first
    }

    /// `p, ru, r` of the iterate summed over the vehicles, step by step.
    pub(super) fn sums_by_step(&self) -> impl Iterator<Item = (usize, [f64; 3])> {
        (self.first..).zip(self.sums[0].iter().copied())
    }

    /// What the iterate earns at given prices of Up and Down in each step.
    pub(super) fn earned(&self, fixed: &[[f64; 2]]) -> f64 {
        let pairs = fixed.iter().skip(self.first).zip(&self.sums[0]);
        pairs
            .map(|(price, [_, up, down])| price[0] * up + price[1] * down)
            .sum()
    }

    pub(super) fn clear(&mut self, which: usize) {
        self.sums[which].fill([0.0; 3]);
    }

    /// Slacks and multipliers at the start of a path, given the first powers (sum 0).
    pub(super) fn begin(&mut self, product: f64) {
        for index in 0..self.functionals.len() {
            let f = self.functionals[index];
            if !f.kind.is_pool() {
                let room = self.limits[f.row].room;
                let value = self.value(0, &f) + room;
                self.s[f.row] = value.max(0.05 * room.abs()).max(1.0);
                self.y[f.row] = product / self.s[f.row];
            }
        }
    }

    fn value(&self, which: usize, functional: &Functional) -> f64 {
        let [p, up, r] = self.sums[which][functional.step - self.first];
        match functional.kind {
            Kind::Import => -(p + r),
            Kind::Export => p - up,
            Kind::Up => up,
            Kind::Down => r,
        }
    }

    /// Adds the pool's functionals of one of the sums to the pool's rows.
    pub(super) fn add_pool(&self, which: usize, to: &mut [f64]) {
        for functional in self.functionals.iter().filter(|f| f.kind.is_pool()) {
            to[functional.row] += self.value(which, functional);
        }
    }

    /// Multipliers of `p, ru, r` in every step from those of the limits, of the pool's rows, and of fixed pool prices.
    pub(super) fn spread(
        &mut self,
        limits: impl Fn(&Self, usize) -> f64,
        pool: &[f64],
        fixed: &[[f64; 2]],
    ) {
        for (at, extra) in self.extra.iter_mut().enumerate() {
            let [up, down] = fixed.get(self.first + at).copied().unwrap_or([0.0; 2]);
            *extra = [0.0, up, down];
        }
        for index in 0..self.functionals.len() {
            let f = self.functionals[index];
            let y = if f.kind.is_pool() {
                pool.get(f.row).copied().unwrap_or(0.0)
            } else {
                limits(self, f.row)
            };
            let weights = f.kind.weights();
            let extra = &mut self.extra[f.step - self.first];
            for i in 0..3 {
                extra[i] += weights[i] * y;
            }
        }
    }

    /// Takes the step found last.
    pub(super) fn stride(&mut self, stride: Stride) {
        for i in 0..self.limits.len() {
            self.s[i] += stride.primal * self.ds[i];
            self.y[i] += stride.dual * self.dy[i];
        }
    }

    /// Residuals of the limits at the iterate; gives the largest and the sum of products.
    pub(super) fn residuals(&mut self) -> (f64, f64) {
        let (mut worst, mut products) = (0.0_f64, 0.0);
        for index in 0..self.functionals.len() {
            let f = self.functionals[index];
            if !f.kind.is_pool() {
                let value = self.value(0, &f) + self.limits[f.row].room;
                self.residual[f.row] = self.s[f.row] - value;
                worst = worst.max(self.residual[f.row].abs());
                products += self.s[f.row] * self.y[f.row];
            }
        }
        (worst, products)
    }

    /// Puts the matrix into the order of elimination, eliminates the limits, and gives what is left to the pool.
    #[inline(always)]
    pub(super) fn eliminate(
        &mut self,
        simd: S,
        matrix: &[V<S>],
        room: &mut Vec<V<S>>,
        pool: &mut Lower,
    ) {
        let (n, q, width) = (self.functionals.len(), self.pool.len(), self.width());
        let zero = V::splat(simd, 0.0);
        room.clear();
        room.resize(n * width, zero);
        for (old, new) in self.order.iter().enumerate() {
            for (other, place) in self.order[..=old].iter().enumerate() {
                let value = get(&matrix[old * width..][..width], other);
                let (row, column) = if new >= place {
                    (*new, *place)
                } else {
                    (*place, *new)
                };
                put(&mut room[row * width..][..width], column, value);
            }
        }
        for i in 0..n - q {
            let row = &mut room[(q + i) * width..][..width];
            let diagonal = get(row, q + i) + self.s[i] / self.y[i];
            put(row, q + i, diagonal);
        }
        let mut top = n;
        while top > q {
            let count = match (top - q) % PANEL {
                0 => PANEL,
                rest => rest,
            };
            let low = top - count;
            let (rest, panel) = room[..top * width].split_at_mut(low * width);
            within_panel(panel, low, width, &mut self.inverse[low - q..top - q]);
            let inverse = &self.inverse[low - q..top - q];
            if count == PANEL {
                beyond_panel(simd, rest, panel, low, width, inverse);
            } else {
                for (index, row) in panel.chunks_exact(width).enumerate() {
                    for i in 0..low {
                        let by = V::splat(simd, get(row, i) * inverse[index]);
                        let end = i / V::<S>::LANES + 1;
                        let to = &mut rest[i * width..][..end];
                        take(by, row, to);
                    }
                }
            }
            top = low;
        }
        self.rows.clear();
        self.rows.extend_from_slice(&room[q * width..]);
        for (i, row) in self.pool.iter().enumerate() {
            let from = &room[i * width..][..width];
            for (j, column) in self.pool[..=i].iter().enumerate() {
                pool.add(*row, *column, get(from, j));
            }
        }
    }

    /// Right-hand sides of the limits and of the pool from one of the sums, eliminated: what the limits keep, and what the
    /// pool's rows are left with.
    #[inline(always)]
    fn reduce(
        &self,
        simd: S,
        which: usize,
        limits: impl Fn(usize) -> f64,
        room: &mut Vec<V<S>>,
        out: &mut [f64],
        pool: &mut [f64],
    ) {
        let (n, q, width) = (self.functionals.len(), self.pool.len(), self.width());
        room.clear();
        room.resize(width, V::splat(simd, 0.0));
        for (f, place) in self.functionals.iter().zip(&self.order) {
            let own = if f.kind.is_pool() { 0.0 } else { limits(f.row) };
            put(room, *place, own - self.value(which, f));
        }
        for at in (q..n).rev() {
            let value = get(room, at) * self.inverse[at - q];
            out[at - q] = value;
            let by = V::splat(simd, value);
            let end = at / V::<S>::LANES + 1;
            let row = &self.rows[(at - q) * width..][..end];
            take(by, row, &mut room[..end]);
        }
        for (i, row) in self.pool.iter().enumerate() {
            pool[*row] += get(room, i);
        }
    }

    /// Eliminates the affine and the centring right-hand side (sums 1 and 2).
    #[inline(always)]
    pub(super) fn reduce_first(&mut self, simd: S, room: &mut Vec<V<S>>, pool: [&mut [f64]; 2]) {
        let (mut affine, mut centre) = (
            std::mem::take(&mut self.affine),
            std::mem::take(&mut self.centre),
        );
        let [first, second] = pool;
        self.reduce(simd, 1, |i| self.residual[i], room, &mut affine, first);
        self.reduce(simd, 2, |i| 1.0 / self.y[i], room, &mut centre, second);
        (self.affine, self.centre) = (affine, centre);
    }

    /// Eliminates the second-order right-hand side (sum 2), given the affine change of the limits (sum 1).
    #[inline(always)]
    pub(super) fn reduce_second(
        &mut self,
        simd: S,
        room: &mut Vec<V<S>>,
        pool: &mut [f64],
        sums: &mut RowSums,
    ) {
        for index in 0..self.functionals.len() {
            let f = self.functionals[index];
            if !f.kind.is_pool() {
                let i = f.row;
                let ds = self.value(1, &f) - self.residual[i];
                let dy = self.dy[i];
                sums.meet(self.s[i], self.y[i], ds, dy);
                self.products[i] = ds * dy;
            }
        }
        let mut second = std::mem::take(&mut self.second);
        self.reduce(
            simd,
            2,
            |i| -self.products[i] / self.y[i],
            room,
            &mut second,
            pool,
        );
        self.second = second;
    }

    /// New multipliers of the limits: `affine`, and towards a target.
    #[inline(always)]
    pub(super) fn back(
        &mut self,
        simd: S,
        target: Option<f64>,
        pool: &[f64],
        room: &mut Vec<V<S>>,
    ) {
        let (n, q, width) = (self.functionals.len(), self.pool.len(), self.width());
        room.clear();
        room.resize(width, V::splat(simd, 0.0));
        for (i, row) in self.pool.iter().enumerate() {
            put(room, i, pool[*row]);
        }
        for at in q..n {
            let i = at - q;
            let end = at / V::<S>::LANES + 1;
            let row = &self.rows[i * width..][..end];
            let mut sum = V::splat(simd, 0.0);
            for (a, b) in room.iter().zip(row) {
                sum = a.fma(*b, sum);
            }
            let given = match target {
                None => self.affine[i],
                Some(target) => self.affine[i] + target * self.centre[i] + self.second[i],
            };
            let y = given - self.inverse[i] * sum.sum();
            self.dy[i] = y - self.y[i];
            put(room, at, y);
        }
    }

    /// What the limits would be multiplied with after a whole step.
    pub(super) fn next_multiplier(&self, row: usize) -> f64 {
        self.y[row] + self.dy[row]
    }

    /// The change of the limits under the step found last (sum 1).
    pub(super) fn change(&mut self, sums: &mut RowSums) {
        for index in 0..self.functionals.len() {
            let f = self.functionals[index];
            if !f.kind.is_pool() {
                let i = f.row;
                self.ds[i] = self.value(1, &f) - self.residual[i];
                sums.meet(self.s[i], self.y[i], self.ds[i], self.dy[i]);
            }
        }
    }
}
