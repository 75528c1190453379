//! The inverse of a vehicle's normal matrix, read as a covariance: gains and noise of each step, the covariance of what is
//! handed from step to step, and from them every entry that two functionals of the vehicle have in `G H^-1 G'`.

use std::ops::Range;

use pulp::Simd;

use super::lanes::V;
use super::rows::{OWN, PAST, Vehicle};
use super::site::{Kind, Site};
use super::sweep::{self, Factor};

/// One step seen forward in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward<S: Simd> {
    /// How `e', w, r, p, ru` answer to the past.
    gains: [[V<S>; PAST]; 5],
    /// Covariance of what is handed on with `p, ru, r`.
    fresh: [[V<S>; PAST]; 3],
    /// Covariance of `p, ru, r` among themselves.
    own: [[V<S>; 3]; 3],
}

#[inline(always)]
fn dot<S: Simd>(a: &[V<S>; PAST], b: &[V<S>; PAST]) -> V<S> {
    let mut sum = a[0] * b[0];
    for i in 1..PAST {
        sum = a[i].fma(b[i], sum);
    }
    sum
}

/// Gains and covariances of every step of a pack; `state` is the covariance of what is handed to the first.
#[inline(always)]
pub(super) fn forward<S: Simd>(
    k: &Vehicle<S>,
    here: V<S>,
    factor: &Factor<S>,
    state: &mut [[V<S>; PAST]; PAST],
) -> Forward<S> {
    let zero = here.like(0.0);
    let none = [zero; OWN];
    // Answers of the own variables to each number of the past, then to each pivot's noise.
    let (mut to_past, mut to_noise) = ([[zero; PAST]; OWN], [[zero; OWN]; OWN]);
    for i in 0..PAST {
        let mut past = [zero; PAST];
        past[i] = here.like(1.0);
        let own = sweep::forward(factor, &none, &past);
        for v in 0..OWN {
            to_past[v][i] = own[v];
        }
    }
    for i in 0..OWN {
        let mut scaled = none;
        scaled[i] = here.like(1.0);
        let own = sweep::forward(factor, &scaled, &[zero; PAST]);
        for v in 0..OWN {
            to_noise[v][i] = own[v];
        }
    }
    let (ha, hg) = (here * k.a, here * k.g);
    let mut gains = [
        to_past[4],
        to_past[2],
        to_past[3],
        [zero; PAST],
        [zero; PAST],
    ];
    for i in 0..PAST {
        gains[3][i] = hg.fma(to_past[0][i], ha * to_past[4][i]);
        gains[4][i] = k.g.fnma(to_past[1][i], k.a * to_past[2][i]);
    }
    gains[3][0] -= ha;
    let mut noise = [to_noise[4], to_noise[2], to_noise[3], none, none];
    for i in 0..OWN {
        noise[3][i] = hg.fma(to_noise[0][i], ha * to_noise[4][i]);
        noise[4][i] = k.g.fnma(to_noise[1][i], k.a * to_noise[2][i]);
    }
    let mut spread = [[zero; PAST]; 5];
    for o in 0..5 {
        for i in 0..PAST {
            spread[o][i] = dot(&gains[o], &state[i]);
        }
    }
    // Covariance of each output with `p, ru, r` and with `e', w, r`.
    let mut covariances = [[zero; 5]; 5];
    for a in 0..5 {
        for b in a..5 {
            let mut sum = dot(&spread[a], &gains[b]);
            for i in 0..OWN {
                sum = (noise[a][i] * noise[b][i]).fma(factor.inverse[i], sum);
            }
            covariances[a][b] = sum;
            covariances[b][a] = sum;
        }
    }
    let outputs = [3, 4, 2];
    let mut fresh = [[zero; PAST]; 3];
    let mut own = [[zero; 3]; 3];
    for f in 0..3 {
        let o = outputs[f];
        fresh[f] = [
            covariances[0][o],
            covariances[1][o],
            spread[o][1],
            spread[o][2],
            covariances[2][o],
            spread[o][4],
            spread[o][5],
        ];
        for g in 0..3 {
            own[f][g] = covariances[o][outputs[g]];
        }
    }
    let (ee, ew, er, ww, wr, rr) = (
        covariances[0][0],
        covariances[0][1],
        covariances[0][2],
        covariances[1][1],
        covariances[1][2],
        covariances[2][2],
    );
    let (e, w, r) = (&spread[0], &spread[1], &spread[2]);
    let s = *state;
    *state = [
        [ee, ew, e[1], e[2], er, e[4], e[5]],
        [ew, ww, w[1], w[2], wr, w[4], w[5]],
        [e[1], w[1], s[1][1], s[1][2], r[1], s[1][4], s[1][5]],
        [e[2], w[2], s[2][1], s[2][2], r[2], s[2][4], s[2][5]],
        [er, wr, r[1], r[2], rr, r[4], r[5]],
        [e[4], w[4], s[4][1], s[4][2], r[4], s[4][4], s[4][5]],
        [e[5], w[5], s[5][1], s[5][2], r[5], s[5][4], s[5][5]],
    ];
    Forward { gains, fresh, own }
}

/// Room for the columns of one vehicle.
#[derive(Debug)]
pub(super) struct Columns<S: Simd> {
    /// Covariance of what is handed on with each functional so far, side by side.
    handed: Vec<[V<S>; PAST]>,
    /// Covariance of this step's `p, ru, r` with each.
    row: Vec<[V<S>; 3]>,
}

impl<S: Simd> Columns<S> {
    pub(super) const fn new() -> Self {
        Self {
            handed: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Adds one vehicle's `G H^-1 G'` to its site's matrix (lower triangle, functionals in order of time): the one in
    /// `lane` of a pack whose `steps` begin at `first`, over the steps of its own `window`.
    #[expect(
        clippy::too_many_arguments,
        reason = "one vehicle of a pack, its site and their matrix"
    )]
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        simd: S,
        lane: usize,
        window: &Range<usize>,
        first: usize,
        steps: &[Forward<S>],
        site: &Site<S>,
        matrix: &mut [V<S>],
    ) {
        let zero = V::splat(simd, 0.0);
        let width = site.width();
        let begin = site.functionals_from(window.start).start / V::<S>::LANES;
        self.handed.clear();
        self.handed.resize(width, [zero; PAST]);
        self.row.resize(width, [zero; 3]);
        let mut known = site.functionals_from(window.start).start;
        for at_step in window.clone() {
            let step = &steps[at_step - first];
            let here = site.functionals_from(at_step);
            let end = known.div_ceil(V::<S>::LANES);
            if known > begin * V::<S>::LANES {
                let mut gains = [[zero; PAST]; 5];
                for (gain, from) in gains.iter_mut().zip(&step.gains) {
                    for (to, from) in gain.iter_mut().zip(from) {
                        *to = V::splat(simd, from.lane(lane));
                    }
                }
                propagate(
                    &gains,
                    &mut self.handed[begin..end],
                    &mut self.row[begin..end],
                );
            }
            for at in here.clone() {
                let row = &mut matrix[at * width..][..width];
                let part = &mut row[begin..end];
                let known_row = &self.row[begin..end];
                let kind = site.functionals[at].kind;
                for i in 0..part.len().min(known_row.len()) {
                    let [p, up, r] = known_row[i];
                    match kind {
                        Kind::Import => part[i] -= p + r,
                        Kind::Export => part[i] += p - up,
                        Kind::Up => part[i] += up,
                        Kind::Down => part[i] += r,
                    }
                }
                let [a, b, c] = site.functionals[at].kind.weights();
                for other in here.start..=at {
                    let [d, e, f] = site.functionals[other].kind.weights();
                    let o = |x: usize, y: usize| step.own[x][y].lane(lane);
                    let value = a * (d * o(0, 0) + e * o(0, 1) + f * o(0, 2))
                        + b * (d * o(1, 0) + e * o(1, 1) + f * o(1, 2))
                        + c * (d * o(2, 0) + e * o(2, 1) + f * o(2, 2));
                    let before = super::lanes::get(row, other);
                    super::lanes::put(row, other, before + value);
                }
                let column = &mut self.handed[at / V::<S>::LANES];
                for (i, to) in column.iter_mut().enumerate() {
                    let f = |x: usize| step.fresh[x][i].lane(lane);
                    to.set(at % V::<S>::LANES, a * f(0) + b * f(1) + c * f(2));
                }
            }
            known = here.end.max(known);
        }
    }
}

#[inline(always)]
fn propagate<S: Simd>(
    gains: &[[V<S>; PAST]; 5],
    handed: &mut [[V<S>; PAST]],
    rows: &mut [[V<S>; 3]],
) {
    let count = handed.len().min(rows.len());
    let (handed, rows) = (&mut handed[..count], &mut rows[..count]);
    for at in 0..count {
        let z = handed[at];
        let (e, w, r) = (dot(&z, &gains[0]), dot(&z, &gains[1]), dot(&z, &gains[2]));
        rows[at] = [dot(&z, &gains[3]), dot(&z, &gains[4]), r];
        handed[at] = [e, w, z[1], z[2], r, z[4], z[5]];
    }
}
