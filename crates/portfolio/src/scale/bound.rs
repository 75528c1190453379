//! Lower bounds: whatever the multipliers, the Lagrangian at its least over boxes that hold every feasible point.

use pulp::Simd;

use super::lanes::V;
use super::pack::{Extra, Pack, Prices};
use super::rows::{self, OWN, PAST};

impl<S: Simd> Pack<S> {
    /// The least of `cost - z'(A x + b) - G'y` over boxes around the rows of the pack's vehicles, without the constants of
    /// the coupling rows.
    #[inline(always)]
    pub(super) fn bound<const RULE: u8>(&self, prices: &Prices, extra: &[Extra<S>]) -> f64 {
        let k = &self.vehicle;
        let zero = k.a.like(0.0);
        let one = k.a.like(1.0);
        let all = (k.charge_kw + k.discharge_kw).over(k.power_factor);
        let two_way = one - self.one_way;
        // The energy balance has b > 0 only in two-way lanes; 1/ed is fill over the endurance factor.
        let drain = all * k.fill.over(k.last);
        let goal = &self.goal;
        let mut least = goal.z[0] * goal.level
            + goal.on * (goal.level * (zero.like(prices.short) - goal.z[0] - goal.z[1])).min(zero);
        let mut carry = [zero; PAST];
        for j in (0..self.steps.len()).rev() {
            let step = &self.steps[j];
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(k, &self.z[j], &mut own, &mut past);
            self.less_cost(j, prices, &extra[j], &mut own, &mut past);
            own[rows::E] += step.last * goal.z[0] + carry[0];
            own[rows::W] += carry[1];
            own[rows::R] += carry[4];
            let constants = rows::constants(k, step.share);
            for (z, constant) in self.z[j].iter().zip(&constants) {
                least = z.fnma(*constant, least);
            }
            let boxes = [
                (zero, two_way * step.share * k.discharge_kw),
                (zero, two_way * step.up * all),
                (zero, step.up * drain),
                (zero, step.down * all),
                (
                    step.here.if_positive(k.floor, self.x[j][rows::E]),
                    step.here.if_positive(k.capacity, self.x[j][rows::E]),
                ),
            ];
            for (less, (low, high)) in own.iter().zip(boxes) {
                least -= (*less * low).max(*less * high);
            }
            carry = [
                past[0],
                past[1] + carry[2],
                past[2] + carry[3],
                past[3],
                past[4] + carry[5],
                past[5] + carry[6],
                past[6],
            ];
        }
        (least - carry[0] * k.arrival).sum()
    }

    /// Cost of the iterate.
    #[inline(always)]
    pub(super) fn cost(&self, prices: &Prices) -> f64 {
        let k = &self.vehicle;
        let mut cost = self.goal.on * self.goal.short * k.a.like(prices.short);
        let mut before = k.arrival;
        for (j, (step, x)) in self.steps.iter().zip(&self.x).enumerate() {
            let charge = k.b.fma(x[rows::D], k.a * (x[rows::E] - before));
            let price = step.here * k.a.like(prices.charge[self.first + j]);
            let earned = step.here * k.a.like(prices.discharge[self.first + j]);
            cost = charge.fma(price, x[rows::D].fma(earned, cost));
            before = x[rows::E];
        }
        cost.sum()
    }

    /// Rows that count.
    pub(super) fn rows(&self) -> f64 {
        let mut count = 0.0;
        for z in self.z.iter().flatten().chain(&self.goal.z) {
            for lane in 0..V::<S>::LANES {
                if z.lane(lane) > 0.0 {
                    count += 1.0;
                }
            }
        }
        count
    }
}
