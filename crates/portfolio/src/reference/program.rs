//! A convex programme of inequalities and second-order cones, and the lower bound any prices on its rows give.

use crate::storage::Sum;

/// `min cost'x` subject to `rows x <= limit`, some rows in threes as cones; every feasible `x` lies within `low..=high`.
///
/// The box is not imposed: it is what the rows imply, known beforehand, and serves the bound. With `s = limit - rows x`, the
/// rows of a cone keep `|(s[k+1], s[k+2])| <= s[k]` in place of `s >= 0`.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) cost: Vec<f64>,
    /// Cost that no column moves.
    pub(crate) offset: f64,
    pub(crate) low: Vec<f64>,
    pub(crate) high: Vec<f64>,
    /// Start of each row in `terms`, and the end of the last.
    pub(crate) starts: Vec<usize>,
    /// Column and coefficient, row by row, each column at most once in a row.
    pub(crate) terms: Vec<(usize, f64)>,
    pub(crate) limit: Vec<f64>,
    /// Rows that are tighter than they need be, and by how much; bounds and proofs use the rows as they should be.
    pub(crate) margins: Vec<(usize, f64)>,
    /// First rows of the cones, rising.
    pub(crate) cones: Vec<usize>,
}

/// A short affine expression in the columns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Expression {
    terms: [(usize, f64); 3],
    len: usize,
    pub(crate) constant: f64,
}

impl Expression {
    pub(crate) fn constant(value: f64) -> Self {
        Self {
            constant: value,
            ..Self::default()
        }
    }

    pub(crate) fn column(column: usize) -> Self {
        Self::default().plus(column, 1.0)
    }

    /// Adds a column; at most three fit, which is what a vehicle's powers need.
    fn plus(mut self, column: usize, factor: f64) -> Self {
        if let Some(slot) = self.terms.get_mut(self.len) {
            *slot = (column, factor);
            self.len += 1;
        }
        self
    }

    /// `self + factor * other`.
    pub(crate) fn add(mut self, factor: f64, other: Self) -> Self {
        self.constant += factor * other.constant;
        for (column, by) in other.terms() {
            match self.terms[..self.len]
                .iter_mut()
                .find(|(known, _)| *known == column)
            {
                Some((_, known)) => *known += factor * by,
                None => self = self.plus(column, factor * by),
            }
        }
        self
    }

    /// `factor * self`.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self::default().add(factor, self)
    }

    pub(crate) fn terms(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.terms[..self.len].iter().copied()
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn value(&self, x: &[f64]) -> f64 {
        self.constant + self.terms().map(|(column, by)| by * x[column]).sum::<f64>()
    }
}

/// A row under construction: a sum of expressions to be at most something.
#[derive(Debug, Default)]
pub(crate) struct Row {
    terms: Vec<(usize, f64)>,
    constant: f64,
}

impl Row {
    pub(crate) fn add(&mut self, factor: f64, expression: Expression) {
        self.constant += factor * expression.constant;
        self.terms
            .extend(expression.terms().map(|(column, by)| (column, factor * by)));
    }

    /// Adds `factor` times another row.
    pub(crate) fn add_row(&mut self, factor: f64, other: &Self) {
        self.constant += factor * other.constant;
        let terms = other.terms.iter();
        self.terms
            .extend(terms.map(|(column, by)| (*column, factor * by)));
    }
}

impl Program {
    /// A new column within a box.
    pub(crate) fn column(&mut self, cost: f64, low: f64, high: f64) -> usize {
        self.cost.push(cost);
        self.low.push(low);
        self.high.push(high.max(low));
        self.cost.len() - 1
    }

    /// Adds an expression to the cost at a price.
    pub(crate) fn charge(&mut self, expression: Expression, price: f64) {
        self.offset += price * expression.constant;
        for (column, by) in expression.terms() {
            self.cost[column] += price * by;
        }
    }

    /// Adds `row <= limit` and empties the row; returns its index unless no column is in it.
    pub(crate) fn at_most(&mut self, row: &mut Row, limit: f64) -> Option<usize> {
        if row.terms.is_empty() {
            row.constant = 0.0;
            return None;
        }
        Some(self.push(row, 1.0, limit))
    }

    /// Adds `|(first, second)| <= head` and returns the index of the head's row.
    pub(crate) fn cone(&mut self, mut head: Row, parts: [Row; 2]) -> usize {
        let index = self.push(&mut head, -1.0, 0.0);
        self.cones.push(index);
        for mut part in parts {
            self.push(&mut part, -1.0, 0.0);
        }
        index
    }

    /// Adds `sign * row` with its limit, less what is constant in it, and empties the row.
    fn push(&mut self, row: &mut Row, sign: f64, limit: f64) -> usize {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        row.terms.sort_unstable_by_key(|(column, _)| *column);
        let begin = self.terms.len();
        for (column, by) in row.terms.drain(..) {
            match self.terms[begin..].last_mut() {
                Some((last, known)) if *last == column => *known += sign * by,
                _ => self.terms.push((column, sign * by)),
            }
        }
        self.limit
            .push(limit - sign * std::mem::take(&mut row.constant));
        self.starts.push(self.terms.len());
        self.limit.len() - 1
    }

    /// Adds `expression <= limit`.
    pub(crate) fn below(&mut self, expression: Expression, limit: f64) {
        let mut row = Row::default();
        row.add(1.0, expression);
        self.at_most(&mut row, limit);
    }

    /// Adds `expression >= limit`.
    pub(crate) fn above(&mut self, expression: Expression, limit: f64) {
        let mut row = Row::default();
        row.add(-1.0, expression);
        self.at_most(&mut row, -limit);
    }

    pub(crate) fn row(&self, index: usize) -> &[(usize, f64)] {
        &self.terms[self.starts[index]..self.starts[index + 1]]
    }

    /// Least cost over the box when every row is charged its price (`solver-study.md` 5).
    ///
    /// Valid for any prices: they are moved to where they may be ([`Self::multipliers`]), and what rounding may have done to
    /// a reduced cost is charged against the bound over the width of the box.
    pub(crate) fn bound(&self, prices: &[f64]) -> f64 {
        self.least(self.cost.clone(), self.offset, prices)
    }

    /// Whether weights on the rows prove that they exclude each other: no point of the box keeps their sum.
    pub(crate) fn excludes(&self, weights: &[f64]) -> bool {
        self.least(vec![0.0; self.cost.len()], 0.0, weights) > 0.0
    }

    /// The prices nearest at hand with which no feasible point's rows cost anything: at least zero, those of a cone in the
    /// cone itself (it is its own dual); what is not finite counts as zero.
    pub(crate) fn multipliers(&self, prices: &[f64]) -> Vec<f64> {
        let finite = |row: usize| prices.get(row).copied().filter(|price| price.is_finite());
        let mut found: Vec<f64> = (0..self.limit.len())
            .map(|row| finite(row).unwrap_or(0.0).max(0.0))
            .collect();
        for cone in &self.cones {
            let rows = [finite(*cone), finite(cone + 1), finite(cone + 2)];
            found[*cone..cone + 3].fill(0.0);
            if let [Some(head), Some(first), Some(second)] = rows {
                let norm = first.hypot(second) * (1.0 + 4.0 * f64::EPSILON);
                if norm.is_finite() {
                    found[*cone..cone + 3].copy_from_slice(&[head.max(norm), first, second]);
                }
            }
        }
        found
    }

    fn least(&self, mut reduced: Vec<f64>, offset: f64, prices: &[f64]) -> f64 {
        let mut size: Vec<f64> = reduced.iter().map(|cost| cost.abs()).collect();
        let mut sum = Sum::default();
        sum.add(offset);
        let prices = self.multipliers(prices);
        for (row, margin) in &self.margins {
            sum.add(-prices[*row] * margin);
        }
        for (index, (limit, price)) in self.limit.iter().zip(&prices).enumerate() {
            if *price != 0.0 {
                sum.add(-price * limit);
                for (column, by) in self.row(index) {
                    reduced[*column] += by * price;
                    size[*column] += (by * price).abs();
                }
            }
        }
        for (column, reduced) in reduced.iter().enumerate() {
            let error = 64.0 * f64::EPSILON * size[column];
            let corner = |end: f64| ((reduced - error) * end).min((reduced + error) * end);
            sum.add(corner(self.low[column]).min(corner(self.high[column])));
        }
        sum.at_least()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// min -x - y, x + 2y <= 4, 3x + y <= 6 in the box 0..4: optimum -2.8 at (1.6, 1.2), prices 0.4 and 0.2.
    fn two_rows() -> Program {
        let mut program = Program::default();
        let (x, y) = (
            program.column(-1.0, 0.0, 4.0),
            program.column(-1.0, 0.0, 4.0),
        );
        let (x, y) = (Expression::column(x), Expression::column(y));
        program.below(x.add(2.0, y), 4.0);
        program.below(x.add(3.0 - 1.0, x).add(1.0, y), 6.0);
        program
    }

    #[test]
    fn right_prices_meet_the_optimum_and_wrong_ones_stay_below() {
        let program = two_rows();
        assert!((program.bound(&[0.4, 0.2]) + 2.8).abs() < 1e-12);
        for prices in [
            [0.0, 0.0],
            [1.0, 1.0],
            [-3.0, 0.2],
            [0.41, 0.19],
            [f64::NAN, 0.5],
        ] {
            assert!(program.bound(&prices) < -2.8, "{prices:?}");
        }
    }

    #[test]
    fn only_a_real_contradiction_is_a_proof() {
        let mut program = two_rows();
        assert!(!program.excludes(&[1.0, 1.0]));
        program.above(Expression::column(0), 3.0);
        // 3x <= 6 - y contradicts x >= 3, weighed 1 to 3.
        assert!(program.excludes(&[0.0, 1.0, 3.0]));
        assert!(!program.excludes(&[1.0, 0.0, 0.5]));
        program.margins.push((1, 4.0));
        assert!(!program.excludes(&[0.0, 1.0, 3.0]));
    }

    /// min -x - 2y in the disc of radius 5 about zero: optimum -5 * sqrt(5) where the gradient leaves the disc.
    #[test]
    fn the_prices_of_a_cone_meet_the_optimum_and_wrong_ones_stay_below() {
        let mut program = Program::default();
        let (x, y) = (
            program.column(-1.0, -5.0, 5.0),
            program.column(-2.0, -5.0, 5.0),
        );
        let mut rows = [Row::default(), Row::default(), Row::default()];
        rows[0].add(1.0, Expression::constant(5.0));
        rows[1].add(1.0, Expression::column(x));
        rows[2].add(1.0, Expression::column(y));
        let [head, first, second] = rows;
        assert_eq!(program.cone(head, [first, second]), 0);
        let best = -5.0 * 5.0_f64.sqrt();
        let norm = 5.0_f64.sqrt();
        assert!((program.bound(&[norm, -1.0, -2.0]) - best).abs() < 1e-12);
        for prices in [
            [0.0, 0.0, 0.0],
            [0.0, -1.0, -2.0],
            [3.0, -1.0, -2.0],
            [norm, 1.0, -2.0],
            [norm, f64::NAN, -2.0],
        ] {
            assert!(program.bound(&prices) <= best + 1e-12, "{prices:?}");
        }
    }

    #[test]
    fn columns_met_twice_in_a_row_are_added_up() {
        let mut program = Program::default();
        let x = program.column(0.0, 0.0, 1.0);
        let mut row = Row::default();
        row.add(1.0, Expression::column(x));
        row.add(
            0.5,
            Expression::column(x).add(1.0, Expression::constant(2.0)),
        );
        assert_eq!(program.at_most(&mut row, 3.0), Some(0));
        assert_eq!((program.row(0), program.limit[0]), (&[(x, 1.5)][..], 2.0));
        row.add(1.0, Expression::constant(1.0));
        assert_eq!(program.at_most(&mut row, 3.0), None);
    }
}
