//! The pool's rows: what the fleet holds in every step covers what a block sells.

use pulp::Simd;

use super::group::Group;
use super::matrix::Lower;
use super::pack::Stride;
use super::site::RowSums;

/// Share of what is held that a row without a price may leave unsold where a path is joined.
const LOOSE: f64 = 0.25;

/// One block on sale.
#[derive(Debug, Clone)]
pub(super) struct PoolBlock {
    /// Earned per kW sold.
    pub(super) price: f64,
    /// Most that could be sold, kW.
    pub(super) most: f64,
    /// Rows of the block.
    pub(super) rows: Vec<usize>,
    /// kW sold, and the multiplier of `sold >= 0`.
    pub(super) sold: f64,
    pub(super) multiplier: f64,
    change: f64,
    multiplier_change: f64,
    product: f64,
}

impl PoolBlock {
    pub(super) const fn new(price: f64, most: f64, rows: Vec<usize>) -> Self {
        Self {
            price,
            most,
            rows,
            sold: 1.0,
            multiplier: 1.0,
            change: 0.0,
            multiplier_change: 0.0,
            product: 0.0,
        }
    }
}

/// The pool's rows `held - sold >= 0` and their iterate.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) blocks: Vec<PoolBlock>,
    block_of: Vec<usize>,
    /// What vehicles that are not on the path hold in each row.
    beyond: Vec<f64>,
    pub(super) s: Vec<f64>,
    pub(super) y: Vec<f64>,
    residual: Vec<f64>,
    ds: Vec<f64>,
    dy: Vec<f64>,
    products: Vec<f64>,
    factor: Lower,
    /// `M^-1 E`, one column per block.
    columns: Vec<Vec<f64>>,
}

impl Pool {
    pub(super) fn new(blocks: Vec<PoolBlock>) -> Self {
        let count = blocks.iter().map(|block| block.rows.len()).sum();
        let mut block_of = vec![0; count];
        for (index, block) in blocks.iter().enumerate() {
            block.rows.iter().for_each(|row| block_of[*row] = index);
        }
        let none = || vec![0.0; count];
        Self {
            blocks,
            block_of,
            beyond: none(),
            s: vec![1.0; count],
            y: vec![1.0; count],
            residual: none(),
            ds: none(),
            dy: none(),
            products: none(),
            factor: Lower::new(0),
            columns: Vec::new(),
        }
    }

    /// The pool with what vehicles that are not on the path hold in each row, and at most `more` kW of it sold.
    pub(super) fn with_beyond(mut self, beyond: Vec<f64>, more: f64) -> Self {
        self.beyond = beyond;
        for block in &mut self.blocks {
            block.most += more;
        }
        self
    }

    /// What is held in all, given what vehicles on the path hold.
    fn in_all(&self, mut held: Vec<f64>) -> Vec<f64> {
        held.iter_mut()
            .zip(&self.beyond)
            .for_each(|(to, from)| *to += from);
        held
    }

    /// Rows, and one more per block.
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    pub(super) fn count(&self) -> f64 {
        (self.s.len() + self.blocks.len()) as f64
    }

    pub(super) fn multipliers(&self) -> &[f64] {
        &self.y
    }

    pub(super) fn stride(&mut self, stride: Stride) {
        for i in 0..self.s.len() {
            self.s[i] += stride.primal * self.ds[i];
            self.y[i] += stride.dual * self.dy[i];
        }
        for block in &mut self.blocks {
            block.sold += stride.primal * block.change;
            block.multiplier += stride.dual * block.multiplier_change;
        }
    }

    /// Residuals of the rows for what the fleet holds; gives the largest, and the sum of products.
    pub(super) fn residuals(&mut self, held: &[f64]) -> (f64, f64) {
        let held = self.in_all(held.to_vec());
        let (mut worst, mut products) = (0.0_f64, 0.0);
        for i in 0..self.s.len() {
            self.residual[i] = self.s[i] - (held[i] - self.blocks[self.block_of[i]].sold);
            worst = worst.max(self.residual[i].abs());
            products += self.s[i] * self.y[i];
        }
        products += self
            .blocks
            .iter()
            .map(|block| block.sold * block.multiplier)
            .sum::<f64>();
        // A pool is as large as its fleet; its rows are kept by what is sold in the end.
        (worst / held.iter().copied().fold(1.0, f64::max), products)
    }

    /// What the weakest step of each block lets it sell, priced.
    pub(super) fn earned(&self, held: &[f64]) -> f64 {
        let held = self.in_all(held.to_vec());
        self.blocks
            .iter()
            .map(|block| block.price * least(block, &held))
            .sum()
    }

    /// The blocks' own part of the Lagrangian bound.
    pub(super) fn bound(&self) -> f64 {
        let part = |block: &PoolBlock| {
            let reduced = block.rows.iter().map(|row| self.y[*row]).sum::<f64>() - block.price;
            (reduced * block.most).min(0.0)
        };
        let beyond: f64 = self
            .beyond
            .iter()
            .zip(&self.y)
            .map(|(held, y)| held * y)
            .sum();
        self.blocks.iter().map(part).sum::<f64>() - beyond
    }

    /// Factors what the sites leave, with the rows' own diagonal.
    pub(super) fn factor(&mut self, matrix: &Lower) {
        let size = self.s.len();
        self.factor = Lower::new(size);
        for i in 0..size {
            let (before, rest) = self.factor.values.split_at_mut(i * size);
            let own = &mut rest[..size];
            for j in 0..=i {
                let mut value = matrix.row(i)[j];
                if i == j {
                    value += self.s[i] / self.y[i];
                }
                if j < i {
                    let other = &before[j * size..][..size];
                    value -= inner(&own[..j], &other[..j]);
                    own[j] = value / other[j];
                } else {
                    value -= inner(&own[..j], &own[..j]);
                    own[j] = value.max(f64::MIN_POSITIVE).sqrt();
                }
            }
        }
        self.columns = self
            .blocks
            .iter()
            .map(|block| {
                let mut column = vec![0.0; size];
                block.rows.iter().for_each(|row| column[*row] = 1.0);
                self.divide(&mut column);
                column
            })
            .collect();
    }

    fn divide(&self, x: &mut [f64]) {
        let size = x.len();
        for i in 0..size {
            let row = self.factor.row(i);
            x[i] = (x[i] - inner(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..size).rev() {
            let row = self.factor.row(i);
            x[i] /= row[i];
            let value = x[i];
            x[..i]
                .iter_mut()
                .zip(&row[..i])
                .for_each(|(to, from)| *to -= value * from);
        }
    }

    /// Multipliers and volumes for right-hand sides of the rows and aims of the volumes' products.
    fn bordered(&mut self, mut rhs: Vec<f64>, aims: &[f64]) -> Vec<f64> {
        self.divide(&mut rhs);
        let count = self.blocks.len();
        let sum = |block: &PoolBlock, column: &[f64]| {
            block.rows.iter().map(|row| column[*row]).sum::<f64>()
        };
        let mut matrix = Lower::new(count);
        let mut right = vec![0.0; count];
        for (i, block) in self.blocks.iter().enumerate() {
            for j in 0..count {
                matrix.add(i, j, sum(block, &self.columns[j]));
            }
            matrix.add(i, i, block.multiplier / block.sold);
            right[i] = block.price + aims[i] / block.sold - sum(block, &rhs);
        }
        solve_small(&mut matrix, &mut right);
        for (change, column) in right.iter().zip(&self.columns) {
            rhs.iter_mut()
                .zip(column)
                .for_each(|(to, from)| *to += change * from);
        }
        for ((block, change), aim) in self.blocks.iter_mut().zip(right).zip(aims) {
            block.change = change;
            block.multiplier_change =
                (aim - block.multiplier * change) / block.sold - block.multiplier;
        }
        for i in 0..rhs.len() {
            self.dy[i] = rhs[i] - self.y[i];
        }
        rhs
    }

    /// New multipliers of the affine direction.
    pub(super) fn solve_affine(&mut self, rhs: &[f64]) -> Vec<f64> {
        let right = self
            .residual
            .iter()
            .zip(rhs)
            .map(|(own, rest)| own + rest)
            .collect();
        let aims = vec![0.0; self.blocks.len()];
        self.bordered(right, &aims)
    }

    /// New multipliers towards a target.
    pub(super) fn solve(&mut self, rhs: &[Vec<f64>; 2], second: &[f64], target: f64) -> Vec<f64> {
        let right = (0..self.s.len())
            .map(|i| {
                self.residual[i]
                    + rhs[0][i]
                    + second[i]
                    + target * rhs[1][i]
                    + (target - self.products[i]) / self.y[i]
            })
            .collect();
        let aims: Vec<f64> = self
            .blocks
            .iter()
            .map(|block| target - block.product)
            .collect();
        self.bordered(right, &aims)
    }

    fn changes(&mut self, held: &[f64], sums: &mut RowSums) {
        for i in 0..self.s.len() {
            self.ds[i] = held[i] - self.blocks[self.block_of[i]].change - self.residual[i];
            sums.meet(self.s[i], self.y[i], self.ds[i], self.dy[i]);
        }
        for block in &self.blocks {
            sums.meet(
                block.sold,
                block.multiplier,
                block.change,
                block.multiplier_change,
            );
        }
    }

    /// The affine change of the rows, given the fleet's.
    pub(super) fn meet_affine(&mut self, held: &[f64], sums: &mut RowSums) {
        self.changes(held, sums);
        for i in 0..self.s.len() {
            self.products[i] = self.ds[i] * self.dy[i];
        }
        for block in &mut self.blocks {
            block.product = block.change * block.multiplier_change;
        }
    }

    /// The change of the rows towards a target, given the fleet's.
    pub(super) fn meet(&mut self, held: &[f64], sums: &mut RowSums) {
        self.changes(held, sums);
    }
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    let (mut sums, n) = ([0.0; 4], a.len() / 4 * 4);
    for (x, y) in a[..n].chunks_exact(4).zip(b[..n].chunks_exact(4)) {
        for i in 0..4 {
            sums[i] += x[i] * y[i];
        }
    }
    let rest: f64 = a[n..].iter().zip(&b[n..]).map(|(x, y)| x * y).sum();
    sums[0] + sums[1] + (sums[2] + sums[3]) + rest
}

/// Gauss elimination of a small positive definite system, in place.
fn solve_small(matrix: &mut Lower, right: &mut [f64]) {
    let n = right.len();
    for p in 0..n {
        for r in p + 1..n {
            let by = matrix.row(r)[p] / matrix.row(p)[p];
            for c in p..n {
                let from = matrix.row(p)[c];
                matrix.add(r, c, -by * from);
            }
            right[r] -= by * right[p];
        }
    }
    for p in (0..n).rev() {
        let rest: f64 = (p + 1..n).map(|c| matrix.row(p)[c] * right[c]).sum();
        right[p] = (right[p] - rest) / matrix.row(p)[p];
    }
}

impl Pool {
    /// Slacks, multipliers and volumes at the start of a path.
    pub(super) fn begin<S: Simd>(&mut self, groups: &[Group<S>]) {
        let held = self.held(groups);
        for block in &mut self.blocks {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            let count = block.rows.len() as f64;
            block.sold = (0.5 * least(block, &held)).max(1e-3);
            let mut products = 0.0;
            for row in &block.rows {
                self.y[*row] = block.price / count;
                self.s[*row] = (held[*row] - block.sold).max(0.05 * held[*row]).max(1e-3);
                products += self.s[*row] * self.y[*row];
            }
            block.multiplier = products / count / block.sold;
        }
    }

    /// The same near the path at given multipliers, where `product` is the mean product of slack and multiplier. Rows
    /// that cost nothing at the prices' own place on the path still cost a little here.
    pub(super) fn begin_at_prices<S: Simd>(
        &mut self,
        groups: &[Group<S>],
        prices: &[f64],
        product: f64,
    ) {
        let held = self.held(groups);
        for block in &mut self.blocks {
            let mut most = f64::INFINITY;
            for row in &block.rows {
                let loose = product / (LOOSE * held[*row]).max(1e-3);
                self.y[*row] = prices[*row].max(loose);
                most = most.min(held[*row] - product / self.y[*row]);
            }
            block.sold = most.max(0.01 * least(block, &held)).max(1e-3);
            for row in &block.rows {
                self.s[*row] = (held[*row] - block.sold).max(product / self.y[*row]);
            }
            block.multiplier = product / block.sold;
        }
    }

    fn held<S: Simd>(&self, groups: &[Group<S>]) -> Vec<f64> {
        let mut held = vec![0.0; self.s.len()];
        let sites = groups.iter().flat_map(|group| &group.sites);
        sites.for_each(|site| site.add_pool(0, &mut held));
        self.in_all(held)
    }

    /// Raises multipliers of a block that add up to less than its price until they cover it: no volume then pays for
    /// itself, and the blocks' own part of the bound is nothing.
    pub(super) fn cover(&self, multipliers: &mut [f64]) {
        for block in &self.blocks {
            let sum: f64 = block.rows.iter().map(|row| multipliers[*row]).sum();
            if sum < block.price {
                // A hair more than enough, against rounding.
                let by = block.price / sum * (1.0 + 1e-12);
                block.rows.iter().for_each(|row| multipliers[*row] *= by);
            }
        }
    }
}

fn least(block: &PoolBlock, held: &[f64]) -> f64 {
    block
        .rows
        .iter()
        .map(|row| held[*row])
        .fold(f64::INFINITY, f64::min)
        .max(0.0)
}
