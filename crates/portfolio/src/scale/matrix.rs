//! Symmetric matrices by their lower triangle: panels of rows taken out of the rows before them.

use pulp::Simd;

use super::lanes::{V, get, take};

/// Rows eliminated at a time.
pub(super) const PANEL: usize = 8;

#[inline(always)]
pub(super) fn within_panel<S: Simd>(
    panel: &mut [V<S>],
    low: usize,
    width: usize,
    inverse: &mut [f64],
) {
    for p in (0..inverse.len()).rev() {
        let (before, from) = panel.split_at_mut(p * width);
        let row = &from[..width];
        let diagonal = get(row, low + p);
        inverse[p] = 1.0 / diagonal.max(f64::MIN_POSITIVE);
        for r in 0..p {
            let by = row[0].like(get(row, low + r) * inverse[p]);
            let end = (low + r) / V::<S>::LANES + 1;
            let to = &mut before[r * width..][..end];
            take(by, row, to);
        }
    }
}

/// Takes a whole panel out of the rows before it, two rows at a time.
#[inline(always)]
pub(super) fn beyond_panel<S: Simd>(
    simd: S,
    rest: &mut [V<S>],
    panel: &[V<S>],
    low: usize,
    width: usize,
    inverse: &[f64],
) {
    let mut i = 0;
    while i < low {
        let count = (low - i).min(2);
        let zero = V::splat(simd, 0.0);
        let mut by = [[zero; PANEL]; 2];
        for (index, by) in by.iter_mut().enumerate().take(count) {
            for p in 0..PANEL {
                by[p] = V::splat(
                    simd,
                    get(&panel[p * width..][..width], i + index) * inverse[p],
                );
            }
        }
        let end = (i + count - 1) / V::<S>::LANES + 1;
        let (first, second) = rest[i * width..].split_at_mut(width);
        let first = &mut first[..end];
        let [r0, r1, r2, r3, r4, r5, r6, r7] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|p| &panel[p * width..][..end]);
        if count == 2 {
            let second = &mut second[..end];
            for c in 0..end {
                let from = [r0[c], r1[c], r2[c], r3[c], r4[c], r5[c], r6[c], r7[c]];
                let (mut x, mut y) = (first[c], second[c]);
                for p in 0..PANEL {
                    x = by[0][p].fnma(from[p], x);
                    y = by[1][p].fnma(from[p], y);
                }
                first[c] = x;
                second[c] = y;
            }
        } else {
            for c in 0..end {
                let from = [r0[c], r1[c], r2[c], r3[c], r4[c], r5[c], r6[c], r7[c]];
                for p in 0..PANEL {
                    first[c] = by[0][p].fnma(from[p], first[c]);
                }
            }
        }
        i += count;
    }
}

/// A symmetric matrix, lower triangle row by row.
#[derive(Debug, Clone)]
pub(super) struct Lower {
    pub(super) size: usize,
    pub(super) values: Vec<f64>,
}

impl Lower {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            values: vec![0.0; size * size],
        }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.size + column] += value;
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.size..][..self.size]
    }
}
