//! Linear regression with an absolute penalty (Tibshirani 1996), by cyclic coordinate descent on the Gram matrix
//! (Friedman, Hastie, Tibshirani 2010), the penalty chosen by Akaike's criterion.

/// Penalties tried, from the smallest one that leaves no input, down.
const PENALTIES: usize = 24;
/// Each penalty over the one before.
const STEP: f64 = 0.72;
/// Sweeps per penalty; warm starts need a few.
const SWEEPS: usize = 60;
/// A sweep that moves no coefficient further than this, in standard deviations of the target, is the last.
const TOLERANCE: f64 = 1e-4;
/// Inputs in use over rows: beyond it the fit explains noise, and the criterion no longer says so.
const LARGEST_SHARE: f64 = 0.5;

/// Inputs of one fit, standardised once for all targets that share them.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    rows: usize,
    columns: usize,
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Standardised, by column.
    values: Vec<f64>,
    /// Inner products of columns over rows.
    gram: Vec<f64>,
}

/// A fitted line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    intercept: f64,
    slopes: Vec<f64>,
}

impl Line {
    /// Value at `row`.
    pub(super) fn at(&self, row: &[f64]) -> f64 {
        self.intercept + dot(&self.slopes, row)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[expect(clippy::cast_precision_loss, reason = "rows of a training window")]
const fn count(n: usize) -> f64 {
    n as f64
}

impl Inputs {
    /// `rows` of equal length; at least two.
    pub(super) fn new(rows: &[Vec<f64>]) -> Self {
        let (n, p) = (rows.len(), rows.first().map_or(0, Vec::len));
        let mut inputs = Self {
            rows: n,
            columns: p,
            mean: vec![0.0; p],
            deviation: vec![0.0; p],
            values: vec![0.0; n * p],
            gram: vec![0.0; p * p],
        };
        for j in 0..p {
            let column = &mut inputs.values[j * n..(j + 1) * n];
            for (slot, row) in column.iter_mut().zip(rows) {
                *slot = row[j];
            }
            let mean = column.iter().sum::<f64>() / count(n);
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count(n);
            let deviation = variance.sqrt();
            // A column that never changes says nothing: it stays zero.
            let scale = if deviation > 1e-9 {
                1.0 / deviation
            } else {
                0.0
            };
            for slot in column {
                *slot = (*slot - mean) * scale;
            }
            (inputs.mean[j], inputs.deviation[j]) = (mean, deviation);
        }
        for i in 0..p {
            for j in 0..=i {
                let product = dot(inputs.column(i), inputs.column(j)) / count(n);
                inputs.gram[i * p + j] = product;
                inputs.gram[j * p + i] = product;
            }
        }
        inputs
    }

    fn column(&self, j: usize) -> &[f64] {
        &self.values[j * self.rows..(j + 1) * self.rows]
    }

    /// The line for one target, a value per row.
    pub(super) fn fit(&self, target: &[f64]) -> Line {
        let n = count(self.rows);
        let mean = target.iter().sum::<f64>() / n;
        let centred: Vec<_> = target.iter().map(|v| v - mean).collect();
        let variance = dot(&centred, &centred) / n;
        let deviation = variance.sqrt().max(1e-12);
        let pull: Vec<_> = (0..self.columns)
            .map(|j| dot(self.column(j), &centred) / n)
            .collect();
        let mut penalty = pull.iter().fold(0.0_f64, |m, c| m.max(c.abs()));
        let mut slopes = vec![0.0; self.columns];
        // Inner product of each column with what is not explained yet.
        let mut rest = pull.clone();
        let mut best = (f64::INFINITY, slopes.clone());
        for _ in 0..PENALTIES {
            self.descend(&mut slopes, &mut rest, penalty, deviation);
            let used = slopes.iter().filter(|b| **b != 0.0).count();
            // |y - Xb|^2 / n from inner products alone.
            let explained: f64 = (0..self.columns)
                .map(|j| slopes[j] * (pull[j] + rest[j]))
                .sum();
            let left = (variance - explained).max(variance * 1e-9).max(1e-300);
            if count(used) > LARGEST_SHARE * n {
                break;
            }
            let criterion = n * left.ln() + 2.0 * count(used);
            if criterion < best.0 {
                best = (criterion, slopes.clone());
            }
            penalty *= STEP;
        }
        self.line(mean, &best.1)
    }

    fn descend(&self, slopes: &mut [f64], rest: &mut [f64], penalty: f64, deviation: f64) {
        let p = self.columns;
        let mut all = true;
        for _ in 0..SWEEPS {
            let mut moved = 0.0_f64;
            for j in 0..p {
                if self.gram[j * p + j] == 0.0 || (!all && slopes[j] == 0.0) {
                    continue;
                }
                let free = rest[j] + slopes[j];
                let next = free.signum() * (free.abs() - penalty).max(0.0);
                let change = next - slopes[j];
                if change != 0.0 {
                    for (slot, g) in rest.iter_mut().zip(&self.gram[j * p..(j + 1) * p]) {
                        *slot -= g * change;
                    }
                    slopes[j] = next;
                    moved = moved.max(change.abs());
                }
            }
            // Columns in use until they rest, then all once more.
            if moved < TOLERANCE * deviation {
                if all {
                    return;
                }
                all = true;
            } else {
                all = false;
            }
        }
    }

    fn line(&self, mean: f64, slopes: &[f64]) -> Line {
        let slopes: Vec<_> = slopes
            .iter()
            .zip(&self.deviation)
            .map(|(b, d)| if *d > 1e-9 { b / d } else { 0.0 })
            .collect();
        Line {
            intercept: mean - dot(&slopes, &self.mean),
            slopes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: &mut u64) -> f64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "a test's dice")]
        let unit = (*seed >> 11) as f64 / (1_u64 << 53) as f64;
        unit - 0.5
    }

    #[test]
    fn a_line_among_useless_inputs_is_found_again() {
        let mut seed = 7;
        let rows: Vec<Vec<f64>> = (0..200)
            .map(|_| (0..40).map(|_| noise(&mut seed)).collect())
            .collect();
        let target: Vec<_> = rows
            .iter()
            .map(|r| 3.0 + 2.0 * r[4] - r[9] + 0.01 * noise(&mut seed))
            .collect();
        let line = Inputs::new(&rows).fit(&target);
        assert!((line.slopes[4] - 2.0).abs() < 0.02 && (line.slopes[9] + 1.0).abs() < 0.02);
        assert!((line.at(&rows[0]) - target[0]).abs() < 0.05);
    }

    #[test]
    fn more_inputs_than_rows_and_constant_ones_give_finite_lines() {
        let mut seed = 3;
        let rows: Vec<Vec<f64>> = (0..20)
            .map(|_| {
                (0..60)
                    .map(|j| if j == 5 { 1.0 } else { noise(&mut seed) })
                    .collect()
            })
            .collect();
        let target: Vec<_> = rows.iter().map(|r| r[0]).collect();
        let line = Inputs::new(&rows).fit(&target);
        assert!(line.slopes.iter().all(|s| s.is_finite()) && line.slopes[5] == 0.0);
    }
}
