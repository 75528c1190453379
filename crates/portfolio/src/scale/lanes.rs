//! Numbers of several vehicles side by side in one vector register.

use std::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};

use pulp::Simd;
use pulp::bytemuck::{cast_slice, cast_slice_mut};

/// One number per lane: as many lanes as the machine's registers hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct V<S: Simd> {
    lanes: S::f64s,
    simd: S,
}

impl<S: Simd> V<S> {
    pub(super) const LANES: usize = S::F64_LANES;

    #[inline(always)]
    pub(super) fn splat(simd: S, value: f64) -> Self {
        Self {
            lanes: simd.splat_f64s(value),
            simd,
        }
    }

    /// The same number in every lane, beside `self`.
    #[inline(always)]
    pub(super) fn like(self, value: f64) -> Self {
        Self::splat(self.simd, value)
    }

    /// `self * by + more`
    #[inline(always)]
    pub(super) fn fma(self, by: Self, more: Self) -> Self {
        self.with(self.simd.mul_add_f64s(self.lanes, by.lanes, more.lanes))
    }

    /// `less_from - self * by`
    #[inline(always)]
    pub(super) fn fnma(self, by: Self, from: Self) -> Self {
        self.with(
            self.simd
                .negate_mul_add_f64s(self.lanes, by.lanes, from.lanes),
        )
    }

    #[inline(always)]
    pub(super) fn over(self, by: Self) -> Self {
        self.with(self.simd.div_f64s(self.lanes, by.lanes))
    }

    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        self.with(self.simd.min_f64s(self.lanes, other.lanes))
    }

    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        self.with(self.simd.max_f64s(self.lanes, other.lanes))
    }

    /// `then` in the lanes where `self` is above zero, `other` elsewhere.
    #[inline(always)]
    pub(super) fn if_positive(self, then: Self, other: Self) -> Self {
        let zero = self.simd.splat_f64s(0.0);
        let positive = self.simd.greater_than_f64s(self.lanes, zero);
        self.with(self.simd.select_f64s(positive, then.lanes, other.lanes))
    }

    #[inline(always)]
    pub(super) fn sum(self) -> f64 {
        self.simd.reduce_sum_f64s(self.lanes)
    }

    #[inline(always)]
    pub(super) fn most(self) -> f64 {
        self.simd.reduce_max_f64s(self.lanes)
    }

    #[inline(always)]
    pub(super) fn lane(&self, lane: usize) -> f64 {
        cast_slice::<S::f64s, f64>(std::slice::from_ref(&self.lanes))[lane]
    }

    #[inline(always)]
    pub(super) fn set(&mut self, lane: usize, value: f64) {
        cast_slice_mut::<S::f64s, f64>(std::slice::from_mut(&mut self.lanes))[lane] = value;
    }

    #[inline(always)]
    fn with(self, lanes: S::f64s) -> Self {
        Self {
            lanes,
            simd: self.simd,
        }
    }
}

impl<S: Simd> Add for V<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(self.simd.add_f64s(self.lanes, other.lanes))
    }
}

impl<S: Simd> Sub for V<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(self.simd.sub_f64s(self.lanes, other.lanes))
    }
}

impl<S: Simd> Mul for V<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(self.simd.mul_f64s(self.lanes, other.lanes))
    }
}

impl<S: Simd> Neg for V<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.with(self.simd.neg_f64s(self.lanes))
    }
}

impl<S: Simd> AddAssign for V<S> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<S: Simd> SubAssign for V<S> {
    #[inline(always)]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// Numbers in a row of vectors, one after the other.
#[inline(always)]
pub(super) fn get<S: Simd>(row: &[V<S>], index: usize) -> f64 {
    row[index / V::<S>::LANES].lane(index % V::<S>::LANES)
}

#[inline(always)]
pub(super) fn put<S: Simd>(row: &mut [V<S>], index: usize, value: f64) {
    row[index / V::<S>::LANES].set(index % V::<S>::LANES, value);
}

/// Entry by entry; a loop, since what goes through a closure is not compiled for the machine's registers.
#[inline(always)]
pub(super) fn sum<S: Simd, const N: usize>(a: &[V<S>; N], b: &[V<S>; N]) -> [V<S>; N] {
    let mut out = *a;
    for i in 0..N {
        out[i] += b[i];
    }
    out
}

#[inline(always)]
pub(super) fn difference<S: Simd, const N: usize>(a: &[V<S>; N], b: &[V<S>; N]) -> [V<S>; N] {
    let mut out = *a;
    for i in 0..N {
        out[i] -= b[i];
    }
    out
}

/// `to -= by * from` over two rows of one length.
#[inline(always)]
pub(super) fn take<S: Simd>(by: V<S>, from: &[V<S>], to: &mut [V<S>]) {
    let count = to.len().min(from.len());
    let (to, from) = (&mut to[..count], &from[..count]);
    for i in 0..count {
        to[i] = by.fnma(from[i], to[i]);
    }
}
