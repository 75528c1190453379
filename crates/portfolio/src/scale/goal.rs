//! The rows of a vehicle's departure, with the missing energy eliminated.

use pulp::Simd;

use super::lanes::V;
use super::pack::Prices;

/// Departure: rows `e + xi - goal >= 0` and `xi >= 0`, with the iterate's missing energy `xi` (kW-steps).
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal<S: Simd> {
    /// 1 where a level above the floor is wanted.
    pub(super) on: V<S>,
    pub(super) level: V<S>,
    pub(super) short: V<S>,
    pub(super) s: [V<S>; 2],
    pub(super) z: [V<S>; 2],
    pub(super) affine: V<S>,
    pub(super) step: V<S>,
}

/// The departure rows with the missing energy eliminated.
#[derive(Debug, Clone, Copy)]
pub(super) struct GoalTerms<S: Simd> {
    /// Added to the diagonal of the energy at departure.
    pub(super) weight: V<S>,
    /// Right-hand sides of that energy, without coupling.
    pub(super) affine: V<S>,
    pub(super) centre: V<S>,
    /// Right-hand side of the missing energy.
    pub(super) short_affine: V<S>,
    /// `th0 / (th0 + th1)`
    ratio: V<S>,
    inverse: V<S>,
}

impl<S: Simd> Goal<S> {
    pub(super) fn new(on: V<S>, level: V<S>) -> Self {
        let (zero, one) = (on.like(0.0), on.like(1.0));
        Self {
            on,
            level,
            short: zero,
            s: [one; 2],
            z: [zero; 2],
            affine: zero,
            step: zero,
        }
    }

    #[inline(always)]
    pub(super) fn residual_terms(&self, residual: &[V<S>; 2], prices: &Prices) -> GoalTerms<S> {
        let (zero, one) = (self.on.like(0.0), self.on.like(1.0));
        let th = [self.z[0].over(self.s[0]), self.z[1].over(self.s[1])];
        let inverse = one.over(th[0] + th[1] + (one - self.on));
        let mut terms = GoalTerms {
            weight: th[0] * th[1] * inverse,
            affine: zero,
            centre: zero,
            short_affine: zero,
            ratio: th[0] * inverse,
            inverse,
        };
        let (level, short) = terms.reduced([th[0] * residual[0], th[1] * residual[1]]);
        (terms.affine, terms.short_affine) = terms.with_price(level, short, prices);
        let centre = [
            self.z[0].if_positive(one.over(self.s[0]), zero),
            self.z[1].if_positive(one.over(self.s[1]), zero),
        ];
        terms.centre = terms.reduced(centre).0;
        terms
    }

    /// `ds, dz` of both rows for a change of level and missing energy.
    #[inline(always)]
    pub(super) fn change(
        &self,
        level: V<S>,
        short: V<S>,
        residual: &[V<S>; 2],
        aim: [V<S>; 2],
    ) -> ([V<S>; 2], [V<S>; 2]) {
        let ds = [level + short - residual[0], short - residual[1]];
        let dz = [
            self.z[0].fnma(ds[0], aim[0]).over(self.s[0]) - self.z[0],
            self.z[1].fnma(ds[1], aim[1]).over(self.s[1]) - self.z[1],
        ];
        (ds, dz)
    }

    #[inline(always)]
    pub(super) fn aim(&self, affine_level: V<S>, residual: &[V<S>; 2], target: V<S>) -> [V<S>; 2] {
        let zero = target.like(0.0);
        let (ds, dz) = self.change(affine_level, self.affine, residual, [zero; 2]);
        [
            self.z[0].if_positive(ds[0].fnma(dz[0], target), zero),
            self.z[1].if_positive(ds[1].fnma(dz[1], target), zero),
        ]
    }
}

impl<S: Simd> GoalTerms<S> {
    /// Right-hand sides of the level and of the missing energy from what the two rows ask for.
    #[inline(always)]
    pub(super) fn reduced(&self, u: [V<S>; 2]) -> (V<S>, V<S>) {
        let short = u[0] + u[1];
        (self.ratio.fnma(short, u[0]), short)
    }

    /// The same with the price of missing energy.
    #[inline(always)]
    pub(super) fn with_price(&self, level: V<S>, short: V<S>, prices: &Prices) -> (V<S>, V<S>) {
        let price = level.like(prices.short);
        (self.ratio.fma(price, level), short - price)
    }

    /// The missing energy once the level is known.
    #[inline(always)]
    pub(super) fn short(&self, goal: &Goal<S>, level: V<S>, rhs: V<S>) -> V<S> {
        let th0 = goal.z[0].over(goal.s[0]);
        goal.on * (th0.fnma(level, rhs) * self.inverse)
    }
}
