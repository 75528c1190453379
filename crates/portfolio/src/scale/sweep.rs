//! The normal matrix of a vehicle, eliminated backward in time: a front of a step's five variables and the seven
//! numbers that earlier steps hand over, of which only entries that can fill in are touched.

use pulp::Simd;

use super::lanes::V;
use super::rows::{Front, OWN, PAST};

/// What eliminating a step leaves: multipliers of each pivot with what comes after it, then inverse pivots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factor<S: Simd> {
    l: [V<S>; FILL],
    pub(super) inverse: [V<S>; OWN],
}

/// Multipliers that can be other than zero, in the order the pivots `d, u, w, r, e'` meet them.
const FILL: usize = 29;

/// A pivot smaller than this is rounding.
const LEAST_PIVOT: f64 = 1e-200;

macro_rules! eliminate {
    ($f:ident, $l:ident, $at:expr, $p:literal, $inverse:ident;) => {};
    ($f:ident, $l:ident, $at:expr, $p:literal, $inverse:ident; $n:literal $($rest:literal)*) => {
        let by = $f[$p][$n] * $inverse;
        $l[$at] = by;
        $f[$n][$n] = by.fnma($f[$p][$n], $f[$n][$n]);
        $( $f[$n][$rest] = by.fnma($f[$p][$rest], $f[$n][$rest]); )*
        eliminate!($f, $l, $at + 1, $p, $inverse; $($rest)*);
    };
}

macro_rules! pivot {
    ($f:ident, $l:ident, $inverses:ident, $at:expr, $p:literal; $($n:literal)*) => {
        let one = $f[$p][$p].like(1.0);
        let inverse = one.over($f[$p][$p].max(one.like(LEAST_PIVOT)));
        $inverses[$p] = inverse;
        eliminate!($f, $l, $at, $p, inverse; $($n)*);
    };
}

macro_rules! pass_on {
    ($l:expr, $y:ident, $at:expr, $p:literal;) => {};
    ($l:expr, $y:ident, $at:expr, $p:literal; $n:literal $($rest:literal)*) => {
        $y[$n] = $l[$at].fnma($y[$p], $y[$n]);
        pass_on!($l, $y, $at + 1, $p; $($rest)*);
    };
}

/// Eliminates a step's own variables; what is left among the past is handed to the step before.
#[inline(always)]
pub(super) fn eliminate_step<S: Simd>(f: &mut Front<S>) -> Factor<S> {
    let zero = f[0][0].like(0.0);
    let (mut l, mut inverse) = ([zero; FILL], [zero; OWN]);
    pivot!(f, l, inverse, 0, 0; 1 2 3 4 5);
    pivot!(f, l, inverse, 5, 1; 2 3 4 5);
    pivot!(f, l, inverse, 9, 2; 3 4 5 6 7 9 10);
    pivot!(f, l, inverse, 16, 3; 4 5 6 7 9 10);
    pivot!(f, l, inverse, 22, 4; 5 6 7 8 9 10 11);
    Factor { l, inverse }
}

/// Where the past of the step after stands among this step's variables: `e, w1, w2, w3, r1, r2, r3` of the one are
/// `e', w, w1, w2, r, r1, r2` of the other.
const FROM_NEXT: [usize; PAST] = [4, 2, 6, 7, 3, 9, 10];

/// The matrix handed over to an earlier step, upper triangle.
pub(super) type Handed<S> = [[V<S>; PAST]; PAST];

/// Adds what the step after handed over to a front.
#[inline(always)]
pub(super) fn receive<S: Simd>(f: &mut Front<S>, from_next: &Handed<S>) {
    for i in 0..PAST {
        for j in i..PAST {
            let (a, b) = (FROM_NEXT[i], FROM_NEXT[j]);
            let (a, b) = if a <= b { (a, b) } else { (b, a) };
            f[a][b] += from_next[i][j];
        }
    }
}

/// What an eliminated front hands over.
#[inline(always)]
pub(super) fn hand_over<S: Simd>(f: &Front<S>) -> Handed<S> {
    let mut out = [[f[0][0]; PAST]; PAST];
    for i in 0..PAST {
        for j in i..PAST {
            out[i][j] = f[OWN + i][OWN + j];
        }
    }
    out
}

/// A right-hand side through one step, backward: `own` and `past` hold the step's own share, `carry` what the step after
/// handed over and then what this one hands over. Gives the eliminated entries, scaled by their pivots.
#[inline(always)]
pub(super) fn backward<S: Simd>(
    factor: &Factor<S>,
    own: [V<S>; OWN],
    past: [V<S>; PAST],
    carry: &mut [V<S>; PAST],
) -> [V<S>; OWN] {
    let mut y = [
        own[0], own[1], own[2], own[3], own[4], past[0], past[1], past[2], past[3], past[4],
        past[5], past[6],
    ];
    for i in 0..PAST {
        y[FROM_NEXT[i]] += carry[i];
    }
    let l = &factor.l;
    pass_on!(l, y, 0, 0; 1 2 3 4 5);
    pass_on!(l, y, 5, 1; 2 3 4 5);
    pass_on!(l, y, 9, 2; 3 4 5 6 7 9 10);
    pass_on!(l, y, 16, 3; 4 5 6 7 9 10);
    pass_on!(l, y, 22, 4; 5 6 7 8 9 10 11);
    *carry = [y[5], y[6], y[7], y[8], y[9], y[10], y[11]];
    let inverse = &factor.inverse;
    [
        y[0] * inverse[0],
        y[1] * inverse[1],
        y[2] * inverse[2],
        y[3] * inverse[3],
        y[4] * inverse[4],
    ]
}

macro_rules! less {
    ($l:expr, $y:ident, $sum:expr, $at:expr;) => { $sum };
    ($l:expr, $y:ident, $sum:expr, $at:expr; $n:literal $($rest:literal)*) => {
        less!($l, $y, $l[$at].fnma($y[$n], $sum), $at + 1; $($rest)*)
    };
}

/// A step's own variables, forward in time, from the scaled right-hand side and the past.
#[inline(always)]
pub(super) fn forward<S: Simd>(
    factor: &Factor<S>,
    scaled: &[V<S>; OWN],
    past: &[V<S>; PAST],
) -> [V<S>; OWN] {
    let l = &factor.l;
    let mut y = [
        scaled[0], scaled[1], scaled[2], scaled[3], scaled[4], past[0], past[1], past[2], past[3],
        past[4], past[5], past[6],
    ];
    y[4] = less!(l, y, y[4], 22; 5 6 7 8 9 10 11);
    y[3] = less!(l, y, y[3], 16; 4 5 6 7 9 10);
    y[2] = less!(l, y, y[2], 9; 3 4 5 6 7 9 10);
    y[1] = less!(l, y, y[1], 5; 2 3 4 5);
    y[0] = less!(l, y, y[0], 0; 1 2 3 4 5);
    [y[0], y[1], y[2], y[3], y[4]]
}

/// What the step after calls its past.
#[inline(always)]
pub(super) fn move_on<S: Simd>(own: &[V<S>; OWN], past: &mut [V<S>; PAST]) {
    *past = [own[4], own[2], past[1], past[2], own[3], past[4], past[5]];
}

impl<S: Simd> Factor<S> {
    pub(super) const fn empty(zero: V<S>) -> Self {
        Self {
            l: [zero; FILL],
            inverse: [zero; OWN],
        }
    }
}
