//! Vehicles side by side: their numbers, their iterate, and what one Newton step does to them.

use std::ops::Range;

use pulp::Simd;

use super::goal::Goal;
use super::lanes::{self, V};
use super::rows::{self, Front, OWN, PAST, ROWS, Vehicle};
use super::sweep::{self, Factor};

/// Diagonal of a variable that is held where it is.
const HELD: f64 = 1e30;

/// One step of the window the vehicles of a pack share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<S: Simd> {
    /// 1 while plugged in, else 0.
    pub(super) here: V<S>,
    /// Share of the step plugged in.
    pub(super) share: V<S>,
    /// 1 where Up may be held.
    pub(super) up: V<S>,
    /// 1 where Down may be held.
    pub(super) down: V<S>,
    /// 1 in the last step before departure.
    pub(super) last: V<S>,
}

/// Vehicles in the lanes over the steps `first..first + steps.len()` of the grid.
#[derive(Debug, Clone)]
pub(super) struct Pack<S: Simd> {
    pub(super) first: usize,
    /// Index of each lane's session; `None` in an empty lane.
    pub(super) session: Vec<Option<usize>>,
    /// Steps in which each lane's vehicle is plugged in; empty in an empty lane.
    pub(super) windows: Vec<Range<usize>>,
    /// Place of each lane's site in the group.
    pub(super) site: Vec<usize>,
    pub(super) vehicle: Vehicle<S>,
    /// 1 for a one-way vehicle.
    pub(super) one_way: V<S>,
    pub(super) steps: Vec<Step<S>>,
    pub(super) goal: Goal<S>,
    pub(super) x: Vec<[V<S>; OWN]>,
    pub(super) s: Vec<[V<S>; ROWS]>,
    /// Zero where a row does not count.
    pub(super) z: Vec<[V<S>; ROWS]>,
    pub(super) factor: Vec<Factor<S>>,
    affine: Vec<[V<S>; OWN]>,
    step: Vec<[V<S>; OWN]>,
}

/// What moves a kW of `p`, `ru` and `r` cost beyond the market: multipliers of the coupling rows.
pub(super) type Extra<S> = [V<S>; 3];

/// Sums over the rows of some vehicles, for step lengths and the path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ratios<S: Simd> {
    /// Largest `-ds/s` and `-dz/z`.
    pub(super) primal: V<S>,
    pub(super) dual: V<S>,
    /// Sums of `z ds`, `s dz` and `ds dz`.
    pub(super) z_ds: V<S>,
    pub(super) s_dz: V<S>,
    pub(super) ds_dz: V<S>,
}

impl<S: Simd> Ratios<S> {
    pub(super) fn new(simd: S) -> Self {
        let zero = V::splat(simd, 0.0);
        Self {
            primal: zero,
            dual: zero,
            z_ds: zero,
            s_dz: zero,
            ds_dz: zero,
        }
    }

    #[inline(always)]
    fn meet(&mut self, s: V<S>, z: V<S>, inverse: V<S>, ds: V<S>, dz: V<S>) {
        let zero = s.like(0.0);
        let ds = z.if_positive(ds, zero);
        let dz = z.if_positive(dz, zero);
        let below = z.if_positive(z, s.like(1.0));
        self.primal = self.primal.max(-(ds * inverse));
        self.dual = self.dual.max(-dz.over(below));
        self.z_ds = z.fma(ds, self.z_ds);
        self.s_dz = s.fma(dz, self.s_dz);
        self.ds_dz = ds.fma(dz, self.ds_dz);
    }
}

/// How far and where to the last step went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stride {
    pub(super) primal: f64,
    pub(super) dual: f64,
    /// What the products `s z` were aimed at.
    pub(super) target: f64,
}

/// Prices of charging and discharging in each step of the grid, per kW.
#[derive(Debug)]
pub(super) struct Prices {
    pub(super) charge: Vec<f64>,
    pub(super) discharge: Vec<f64>,
    /// Per kW-step missing at departure.
    pub(super) short: f64,
}

/// Room for the vectors of one pack, kept between packs.
#[derive(Debug)]
pub(super) struct Bench<S: Simd> {
    first: Vec<[V<S>; OWN]>,
    second: Vec<[V<S>; OWN]>,
}

impl<S: Simd> Bench<S> {
    pub(super) const fn new() -> Self {
        Self {
            first: Vec::new(),
            second: Vec::new(),
        }
    }

    fn fit(&mut self, steps: usize, zero: V<S>) {
        self.first.resize(steps, [zero; OWN]);
        self.second.resize(steps, [zero; OWN]);
    }
}

/// `p, ru, r` of a step's variables.
#[inline(always)]
fn functionals<S: Simd>(
    k: &Vehicle<S>,
    here: V<S>,
    x: &[V<S>; OWN],
    past: &[V<S>; PAST],
) -> Extra<S> {
    let p = here * k.g.fma(x[rows::D], k.a * (x[rows::E] - past[0]));
    let up = k.g.fnma(x[rows::U], k.a * x[rows::W]);
    [p, up, x[rows::R]]
}

impl<S: Simd> Pack<S> {
    #[inline(always)]
    fn past_of(&self, x: &[[V<S>; OWN]], j: usize, arrival: V<S>) -> [V<S>; PAST] {
        let zero = arrival.like(0.0);
        let mut past = [zero; PAST];
        past[0] = arrival;
        if j >= 1 {
            past[0] = x[j - 1][rows::E];
            past[1] = x[j - 1][rows::W];
            past[4] = x[j - 1][rows::R];
        }
        if j >= 2 {
            past[2] = x[j - 2][rows::W];
            past[5] = x[j - 2][rows::R];
        }
        if j >= 3 {
            past[3] = x[j - 3][rows::W];
            past[6] = x[j - 3][rows::R];
        }
        past
    }

    /// The rows `A x + b` in step `j`.
    #[inline(always)]
    pub(super) fn value<const RULE: u8>(&self, j: usize) -> [V<S>; ROWS] {
        let past = self.past_of(&self.x, j, self.vehicle.arrival);
        let value = rows::linear::<S, RULE>(&self.vehicle, &self.x[j], &past);
        let constant = rows::constants(&self.vehicle, self.steps[j].share);
        lanes::sum(&value, &constant)
    }

    /// The row residual `s - (A x + b)` in step `j`.
    #[inline(always)]
    fn residual<const RULE: u8>(&self, j: usize) -> [V<S>; ROWS] {
        let value = self.value::<RULE>(j);
        lanes::difference(&self.s[j], &value)
    }

    /// `A dx` in step `j`.
    #[inline(always)]
    fn change<const RULE: u8>(&self, dx: &[[V<S>; OWN]], j: usize) -> [V<S>; ROWS] {
        let past = self.past_of(dx, j, self.vehicle.arrival.like(0.0));
        rows::linear::<S, RULE>(&self.vehicle, &dx[j], &past)
    }

    #[inline(always)]
    fn at_departure(&self, x: &[[V<S>; OWN]]) -> V<S> {
        let mut level = self.goal.level.like(0.0);
        for (step, x) in self.steps.iter().zip(x) {
            level = step.last.fma(x[rows::E], level);
        }
        level
    }

    /// The departure rows.
    #[inline(always)]
    pub(super) fn goal_value(&self) -> [V<S>; 2] {
        let goal = &self.goal;
        [
            self.at_departure(&self.x) + goal.short - goal.level,
            goal.short,
        ]
    }

    #[inline(always)]
    fn goal_residual(&self) -> [V<S>; 2] {
        let value = self.goal_value();
        [self.goal.s[0] - value[0], self.goal.s[1] - value[1]]
    }

    /// Minus the market's price of a step's variables, and the multipliers `extra` of the coupling, transposed.
    #[inline(always)]
    pub(super) fn less_cost(
        &self,
        j: usize,
        prices: &Prices,
        extra: &Extra<S>,
        own: &mut [V<S>; OWN],
        past: &mut [V<S>; PAST],
    ) {
        let (k, step) = (&self.vehicle, &self.steps[j]);
        let charge = step.here * step.here.like(prices.charge[self.first + j]);
        let discharge = step.here * step.here.like(prices.discharge[self.first + j]);
        let p = step.here * extra[0];
        let q = k.a * (p - charge);
        own[rows::E] += q;
        past[0] -= q;
        own[rows::D] += k.g * p - k.b * charge - discharge;
        own[rows::W] += k.a * extra[1];
        own[rows::U] -= k.g * extra[1];
        own[rows::R] += extra[2];
    }

    /// Takes the last step, eliminates the rows at the new iterate and solves for the affine and the centring direction
    /// without coupling; `meet(j, value, affine, centring)` hears `p, ru, r` of the iterate and of both directions.
    #[inline(always)]
    pub(super) fn eliminate<const RULE: u8>(
        &mut self,
        prices: &Prices,
        extra: &[Extra<S>],
        bench: &mut Bench<S>,
        mut meet: impl FnMut(&Self, usize, Extra<S>, Extra<S>, Extra<S>),
    ) -> (f64, f64) {
        let steps = self.steps.len();
        let k = self.vehicle;
        let zero = k.a.like(0.0);
        let one = k.a.like(1.0);
        bench.fit(steps, zero);
        let mut worst = zero;
        let mut products = zero;
        let mut handed = [[zero; PAST]; PAST];
        let (mut carry0, mut carry1) = ([zero; PAST], [zero; PAST]);
        let goal = self.goal;
        let short = goal.residual_terms(&self.goal_residual(), prices);
        for i in 0..2 {
            products = goal.s[i].fma(goal.z[i], products);
        }
        for j in (0..steps).rev() {
            let step = self.steps[j];
            let residual = self.residual::<RULE>(j);
            let (mut th, mut u0, mut u1) = ([zero; ROWS], [zero; ROWS], [zero; ROWS]);
            for i in 0..ROWS {
                let (s, z) = (self.s[j][i], self.z[j][i]);
                let inverse = one.over(s);
                th[i] = z * inverse;
                u0[i] = th[i] * residual[i];
                u1[i] = z.if_positive(inverse, zero);
                worst = worst.max(z.if_positive(residual[i].max(-residual[i]), zero));
                products = s.fma(z, products);
            }
            let mut f: Front<S> = [[zero; OWN + PAST]; OWN + PAST];
            rows::normal::<S, RULE>(&k, &th, &mut f);
            let away = k.a.like(HELD);
            let gone = (one - step.here) * away;
            f[0][0] += gone + self.one_way * away;
            f[1][1] += (one - step.up + self.one_way) * away;
            f[2][2] += (one - step.up) * away;
            f[3][3] += (one - step.down) * away;
            f[4][4] += gone + step.last * short.weight;
            sweep::receive(&mut f, &handed);
            let factor = sweep::eliminate_step(&mut f);
            handed = sweep::hand_over(&f);
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(&k, &u0, &mut own, &mut past);
            self.less_cost(j, prices, &extra[j], &mut own, &mut past);
            own[rows::E] += step.last * short.affine;
            bench.first[j] = sweep::backward(&factor, own, past, &mut carry0);
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(&k, &u1, &mut own, &mut past);
            own[rows::E] += step.last * short.centre;
            bench.second[j] = sweep::backward(&factor, own, past, &mut carry1);
            self.factor[j] = factor;
        }
        let (mut past, mut past0, mut past1) = ([zero; PAST], [zero; PAST], [zero; PAST]);
        past[0] = k.arrival;
        for j in 0..steps {
            let own0 = sweep::forward(&self.factor[j], &bench.first[j], &past0);
            let own1 = sweep::forward(&self.factor[j], &bench.second[j], &past1);
            let here = self.steps[j].here;
            meet(
                self,
                j,
                functionals(&k, here, &self.x[j], &past),
                functionals(&k, here, &own0, &past0),
                functionals(&k, here, &own1, &past1),
            );
            let own = self.x[j];
            sweep::move_on(&own, &mut past);
            sweep::move_on(&own0, &mut past0);
            sweep::move_on(&own1, &mut past1);
        }
        (worst.most(), products.sum())
    }

    /// The affine direction under the coupling's multipliers, and the second-order right-hand side it asks for;
    /// `meet(j, affine, second)` hears `p, ru, r` of both.
    #[inline(always)]
    pub(super) fn predict<const RULE: u8>(
        &mut self,
        prices: &Prices,
        extra: &[Extra<S>],
        bench: &mut Bench<S>,
        ratios: &mut Ratios<S>,
        mut meet: impl FnMut(&Self, usize, Extra<S>, Extra<S>),
    ) {
        let steps = self.steps.len();
        let k = self.vehicle;
        let zero = k.a.like(0.0);
        let one = k.a.like(1.0);
        bench.fit(steps, zero);
        let goal_residual = self.goal_residual();
        let terms = self.goal.residual_terms(&goal_residual, prices);
        let mut carry = [zero; PAST];
        for j in (0..steps).rev() {
            let residual = self.residual::<RULE>(j);
            let mut u = [zero; ROWS];
            for i in 0..ROWS {
                u[i] = (self.z[j][i] * residual[i]).over(self.s[j][i]);
            }
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(&k, &u, &mut own, &mut past);
            self.less_cost(j, prices, &extra[j], &mut own, &mut past);
            own[rows::E] += self.steps[j].last * terms.affine;
            bench.first[j] = sweep::backward(&self.factor[j], own, past, &mut carry);
        }
        let mut past = [zero; PAST];
        for j in 0..steps {
            let own = sweep::forward(&self.factor[j], &bench.first[j], &past);
            bench.second[j] = {
                let [p, up, r] = functionals(&k, self.steps[j].here, &own, &past);
                [p, up, r, zero, zero]
            };
            self.affine[j] = own;
            sweep::move_on(&own, &mut past);
        }
        let level = self.at_departure(&self.affine);
        self.goal.affine = terms.short(&self.goal, level, terms.short_affine);
        let second = {
            let goal = &self.goal;
            let (ds, dz) = goal.change(level, goal.affine, &goal_residual, [zero; 2]);
            for i in 0..2 {
                ratios.meet(goal.s[i], goal.z[i], one.over(goal.s[i]), ds[i], dz[i]);
            }
            [
                -(ds[0] * dz[0]).over(goal.s[0]),
                -(ds[1] * dz[1]).over(goal.s[1]),
            ]
        };
        let (second_level, _) = terms.reduced(second);
        let mut carry = [zero; PAST];
        for j in (0..steps).rev() {
            let residual = self.residual::<RULE>(j);
            let change = self.change::<RULE>(&self.affine, j);
            let mut u = [zero; ROWS];
            for i in 0..ROWS {
                let (s, z) = (self.s[j][i], self.z[j][i]);
                let inverse = one.over(s);
                let ds = change[i] - residual[i];
                let dz = -z - z * inverse * ds;
                ratios.meet(s, z, inverse, ds, dz);
                u[i] = -(ds * dz) * inverse;
            }
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(&k, &u, &mut own, &mut past);
            own[rows::E] += self.steps[j].last * second_level;
            bench.first[j] = sweep::backward(&self.factor[j], own, past, &mut carry);
        }
        let mut past = [zero; PAST];
        for j in 0..steps {
            let own = sweep::forward(&self.factor[j], &bench.first[j], &past);
            let first = [bench.second[j][0], bench.second[j][1], bench.second[j][2]];
            meet(
                self,
                j,
                first,
                functionals(&k, self.steps[j].here, &own, &past),
            );
            sweep::move_on(&own, &mut past);
        }
    }

    /// What a row's product is aimed at: the path's target less the second-order term of the affine direction.
    #[inline(always)]
    fn aim<const RULE: u8>(&self, j: usize, residual: &[V<S>; ROWS], target: V<S>) -> [V<S>; ROWS] {
        let change = self.change::<RULE>(&self.affine, j);
        let mut aim = [target; ROWS];
        for i in 0..ROWS {
            let (s, z) = (self.s[j][i], self.z[j][i]);
            let ds = change[i] - residual[i];
            let dz = -z - (z * ds).over(s);
            aim[i] = z.if_positive(ds.fnma(dz, target), target.like(0.0));
        }
        aim
    }

    /// The direction towards `target` under the coupling's multipliers; `meet(j, step)` hears its `p, ru, r`.
    #[inline(always)]
    pub(super) fn correct<const RULE: u8>(
        &mut self,
        prices: &Prices,
        extra: &[Extra<S>],
        target: f64,
        bench: &mut Bench<S>,
        ratios: &mut Ratios<S>,
        mut meet: impl FnMut(&Self, usize, Extra<S>),
    ) {
        let steps = self.steps.len();
        let k = self.vehicle;
        let zero = k.a.like(0.0);
        let one = k.a.like(1.0);
        let target = zero.like(target);
        bench.fit(steps, zero);
        let goal_residual = self.goal_residual();
        let terms = self.goal.residual_terms(&goal_residual, prices);
        let affine_level = self.at_departure(&self.affine);
        let goal_aim = self.goal.aim(affine_level, &goal_residual, target);
        let goal = self.goal;
        let (level_rhs, short_rhs) = terms.reduced([
            (goal_aim[0] + goal.z[0] * goal_residual[0]).over(goal.s[0]),
            (goal_aim[1] + goal.z[1] * goal_residual[1]).over(goal.s[1]),
        ]);
        let (level_rhs, short_rhs) = terms.with_price(level_rhs, short_rhs, prices);
        let mut carry = [zero; PAST];
        for j in (0..steps).rev() {
            let residual = self.residual::<RULE>(j);
            let aim = self.aim::<RULE>(j, &residual, target);
            let mut u = [zero; ROWS];
            for i in 0..ROWS {
                u[i] = self.z[j][i].fma(residual[i], aim[i]).over(self.s[j][i]);
            }
            let (mut own, mut past) = ([zero; OWN], [zero; PAST]);
            rows::transpose::<S, RULE>(&k, &u, &mut own, &mut past);
            self.less_cost(j, prices, &extra[j], &mut own, &mut past);
            own[rows::E] += self.steps[j].last * level_rhs;
            bench.first[j] = sweep::backward(&self.factor[j], own, past, &mut carry);
        }
        let mut past = [zero; PAST];
        for j in 0..steps {
            let own = sweep::forward(&self.factor[j], &bench.first[j], &past);
            meet(self, j, functionals(&k, self.steps[j].here, &own, &past));
            self.step[j] = own;
            sweep::move_on(&own, &mut past);
            let residual = self.residual::<RULE>(j);
            let aim = self.aim::<RULE>(j, &residual, target);
            let change = self.change::<RULE>(&self.step, j);
            for i in 0..ROWS {
                let (s, z) = (self.s[j][i], self.z[j][i]);
                let inverse = one.over(s);
                let ds = change[i] - residual[i];
                let dz = z.fnma(ds, aim[i]) * inverse - z;
                ratios.meet(s, z, inverse, ds, dz);
            }
        }
        let level = self.at_departure(&self.step);
        self.goal.step = terms.short(&goal, level, short_rhs);
        let (ds, dz) = self
            .goal
            .change(level, self.goal.step, &goal_residual, goal_aim);
        for i in 0..2 {
            ratios.meet(goal.s[i], goal.z[i], one.over(goal.s[i]), ds[i], dz[i]);
        }
    }

    /// Takes the step found last.
    #[inline(always)]
    pub(super) fn stride<const RULE: u8>(&mut self, stride: Stride) {
        let k = self.vehicle;
        let zero = k.a.like(0.0);
        let one = k.a.like(1.0);
        let target = zero.like(stride.target);
        let (primal, dual) = (zero.like(stride.primal), zero.like(stride.dual));
        let goal_residual = self.goal_residual();
        let goal_aim = self
            .goal
            .aim(self.at_departure(&self.affine), &goal_residual, target);
        let level = self.at_departure(&self.step);
        let (ds, dz) = self
            .goal
            .change(level, self.goal.step, &goal_residual, goal_aim);
        let goal = &mut self.goal;
        for i in 0..2 {
            let on = goal.z[i];
            goal.s[i] = on.if_positive(primal.fma(ds[i], goal.s[i]), one);
            goal.z[i] = on.if_positive(dual.fma(dz[i], goal.z[i]), zero);
        }
        goal.short = goal.on * primal.fma(goal.step, goal.short);
        for j in (0..self.steps.len()).rev() {
            let residual = self.residual::<RULE>(j);
            let aim = self.aim::<RULE>(j, &residual, target);
            let change = self.change::<RULE>(&self.step, j);
            for i in 0..ROWS {
                let (s, z) = (self.s[j][i], self.z[j][i]);
                let ds = change[i] - residual[i];
                let dz = z.fnma(ds, aim[i]).over(s) - z;
                self.s[j][i] = z.if_positive(primal.fma(ds, s), one);
                self.z[j][i] = z.if_positive(dual.fma(dz, z), zero);
            }
            for i in 0..OWN {
                self.x[j][i] = primal.fma(self.step[j][i], self.x[j][i]);
            }
        }
    }
}

impl<S: Simd> Pack<S> {
    /// A pack whose iterate is yet to be set.
    #[expect(
        clippy::too_many_arguments,
        reason = "who is in which lane, and their numbers"
    )]
    pub(super) fn new(
        first: usize,
        session: Vec<Option<usize>>,
        windows: Vec<Range<usize>>,
        site: Vec<usize>,
        vehicle: Vehicle<S>,
        one_way: V<S>,
        steps: Vec<Step<S>>,
        goal: Goal<S>,
    ) -> Self {
        let (zero, one) = (one_way.like(0.0), one_way.like(1.0));
        let count = steps.len();
        let empty = Factor::empty(zero);
        Self {
            first,
            session,
            windows,
            site,
            vehicle,
            one_way,
            steps,
            goal,
            x: vec![[zero; OWN]; count],
            s: vec![[one; ROWS]; count],
            z: vec![[zero; ROWS]; count],
            factor: vec![empty; count],
            affine: vec![[zero; OWN]; count],
            step: vec![[zero; OWN]; count],
        }
    }
}
