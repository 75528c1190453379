//! A few whole sites and their vehicles: the unit of work of a thread.

use pulp::{Simd, WithSimd};

use super::cover::{self, Columns, Forward};
use super::lanes::V;
use super::matrix::Lower;
use super::pack::{Bench, Extra, Pack, Prices, Ratios, Stride};
use super::rows::{PAST, SNAPSHOT, WINDOW};
use super::site::{RowSums, Site};

/// Sites and the vehicles behind them.
#[derive(Debug, Clone)]
pub(super) struct Group<S: Simd> {
    pub(super) sites: Vec<Site<S>>,
    pub(super) packs: Vec<Pack<S>>,
}

/// Room for the vectors of one group, kept between groups.
#[derive(Debug)]
pub(super) struct Work<S: Simd> {
    bench: Bench<S>,
    columns: Columns<S>,
    forward: Vec<Forward<S>>,
    matrices: Vec<Vec<V<S>>>,
    room: Vec<V<S>>,
    extra: Vec<Extra<S>>,
}

impl<S: Simd> Work<S> {
    pub(super) const fn new() -> Self {
        Self {
            bench: Bench::new(),
            columns: Columns::new(),
            forward: Vec::new(),
            matrices: Vec::new(),
            room: Vec::new(),
            extra: Vec::new(),
        }
    }
}

/// What groups add up to in one pass.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// What the eliminated sites leave of the pool's matrix.
    pub(super) matrix: Lower,
    /// What they leave of its right-hand sides.
    pub(super) rhs: [Vec<f64>; 2],
    /// The pool's functionals of the iterate or of the direction.
    pub(super) pool: Vec<f64>,
    /// Largest row residual, kW or kW-steps.
    pub(super) worst: f64,
    /// Sum of the products of slack and multiplier.
    pub(super) products: f64,
    /// Cost of the iterate, less what it earns at given prices.
    pub(super) cost: f64,
    /// Lower bound without the pool's own rows, where asked for.
    pub(super) bound: f64,
    pub(super) sums: RowSums,
}

impl Tally {
    pub(super) fn new(pool: usize, matrix: bool) -> Self {
        Self {
            matrix: Lower::new(if matrix { pool } else { 0 }),
            rhs: [vec![0.0; pool], vec![0.0; pool]],
            pool: vec![0.0; pool],
            worst: 0.0,
            products: 0.0,
            cost: 0.0,
            bound: 0.0,
            sums: RowSums::default(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let pairs = self.matrix.values.iter_mut().zip(&other.matrix.values);
        pairs.for_each(|(to, from)| *to += from);
        for (to, from) in self.rhs.iter_mut().zip(&other.rhs) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        self.pool
            .iter_mut()
            .zip(&other.pool)
            .for_each(|(to, from)| *to += from);
        self.worst = self.worst.max(other.worst);
        self.products += other.products;
        self.cost += other.cost;
        self.bound += other.bound;
        self.sums.add(&other.sums);
    }
}

impl RowSums {
    pub(super) fn add(&mut self, other: &Self) {
        self.primal = self.primal.max(other.primal);
        self.dual = self.dual.max(other.dual);
        self.y_ds += other.y_ds;
        self.s_dy += other.s_dy;
        self.ds_dy += other.ds_dy;
    }

    fn add_ratios<S: Simd>(&mut self, ratios: &Ratios<S>) {
        self.add(&Self {
            primal: ratios.primal.most(),
            dual: ratios.dual.most(),
            y_ds: ratios.z_ds.sum(),
            s_dy: ratios.s_dz.sum(),
            ds_dy: ratios.ds_dz.sum(),
        });
    }
}

/// What stays the same over all passes.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) rule: u8,
    pub(super) prices: Prices,
    /// Prices of Up and Down per kW in each step, where they are given instead of found.
    pub(super) fixed: Vec<[f64; 2]>,
}

/// One of the three passes over the vehicles that make a Newton step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pass<'a> {
    /// Takes the last step, eliminates vehicles and sites, and solves without the pool.
    Eliminate {
        stride: Option<Stride>,
        bound: Option<&'a [f64]>,
    },
    /// The affine direction under the pool's multipliers.
    Predict { pool: &'a [f64] },
    /// The direction towards a target under the pool's multipliers.
    Correct { pool: &'a [f64], target: f64 },
}

/// A pass over one group, as an operation that is compiled for the machine's registers.
struct Run<'a, S: Simd> {
    group: &'a mut Group<S>,
    setting: &'a Setting,
    pass: Pass<'a>,
    work: &'a mut Work<S>,
    tally: &'a mut Tally,
    simd: S,
}

impl<S: Simd> WithSimd for Run<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        match self.setting.rule {
            SNAPSHOT => self.run::<SNAPSHOT>(),
            _ => self.run::<WINDOW>(),
        }
    }
}

impl<S: Simd> Run<'_, S> {
    #[inline(always)]
    fn run<const RULE: u8>(self) {
        let Self {
            group,
            setting,
            pass,
            work,
            tally,
            simd,
        } = self;
        match pass {
            Pass::Eliminate { stride, bound } => {
                if let Some(stride) = stride {
                    for pack in &mut group.packs {
                        pack.stride::<RULE>(stride);
                    }
                    for site in &mut group.sites {
                        site.stride(stride);
                    }
                }
                if let Some(pool) = bound {
                    tally.bound += group.bound::<RULE>(setting, pool, work);
                }
                group.eliminate::<RULE>(simd, setting, work, tally);
            }
            Pass::Predict { pool } => group.predict::<RULE>(simd, setting, pool, work, tally),
            Pass::Correct { pool, target } => {
                group.correct::<RULE>(simd, setting, pool, target, work, tally)
            }
        }
    }
}

/// Adds what `p, ru, r` are in one step to the sums of the lanes' sites.
#[inline(always)]
fn scatter<S: Simd>(
    sites: &mut [Site<S>],
    pack: &Pack<S>,
    j: usize,
    which: usize,
    values: &Extra<S>,
) {
    for (lane, session) in pack.session.iter().enumerate() {
        if session.is_some() {
            let site = &mut sites[pack.site[lane]];
            let at = site.place(pack.first + j);
            let to = &mut site.sums[which][at];
            to[0] += values[0].lane(lane);
            to[1] += values[1].lane(lane);
            to[2] += values[2].lane(lane);
        }
    }
}

/// The multipliers of the lanes' sites side by side.
#[inline(always)]
fn collect<S: Simd>(sites: &[Site<S>], pack: &Pack<S>, extra: &mut Vec<Extra<S>>) {
    let zero = pack.one_way.like(0.0);
    extra.clear();
    extra.resize(pack.steps.len(), [zero; 3]);
    for (lane, session) in pack.session.iter().enumerate() {
        if session.is_some() {
            let site = &sites[pack.site[lane]];
            let from = &site.extra[site.place(pack.first)..];
            for (to, from) in extra.iter_mut().zip(from) {
                for i in 0..3 {
                    to[i].set(lane, from[i]);
                }
            }
        }
    }
}

impl<S: Simd> Group<S> {
    /// Runs a pass with the machine's registers.
    pub(super) fn pass(
        &mut self,
        simd: S,
        setting: &Setting,
        pass: Pass<'_>,
        work: &mut Work<S>,
        tally: &mut Tally,
    ) {
        simd.vectorize(Run {
            group: self,
            setting,
            pass,
            work,
            tally,
            simd,
        });
    }

    #[inline(always)]
    fn eliminate<const RULE: u8>(
        &mut self,
        simd: S,
        setting: &Setting,
        work: &mut Work<S>,
        tally: &mut Tally,
    ) {
        let zero = V::splat(simd, 0.0);
        work.matrices
            .resize_with(self.sites.len().max(work.matrices.len()), Vec::new);
        for (site, matrix) in self.sites.iter_mut().zip(&mut work.matrices) {
            (0..3).for_each(|which| site.clear(which));
            site.spread(|_, _| 0.0, &[], &setting.fixed);
            matrix.clear();
            matrix.resize(site.functionals.len() * site.width(), zero);
        }
        let sites = &mut self.sites;
        for pack in &mut self.packs {
            collect(sites, pack, &mut work.extra);
            let (worst, products) = pack.eliminate::<RULE>(
                &setting.prices,
                &work.extra,
                &mut work.bench,
                #[inline(always)]
                |pack, j, value, affine, centre| {
                    scatter(sites, pack, j, 0, &value);
                    scatter(sites, pack, j, 1, &affine);
                    scatter(sites, pack, j, 2, &centre);
                },
            );
            tally.worst = tally.worst.max(worst);
            tally.products += products;
            tally.cost += pack.cost(&setting.prices);
            let mut state = [[zero; PAST]; PAST];
            work.forward.clear();
            for (step, factor) in pack.steps.iter().zip(&pack.factor) {
                work.forward
                    .push(cover::forward(&pack.vehicle, step.here, factor, &mut state));
            }
            for (lane, window) in pack.windows.iter().enumerate() {
                if !window.is_empty() {
                    let at = pack.site[lane];
                    work.columns.add(
                        simd,
                        lane,
                        window,
                        pack.first,
                        &work.forward,
                        &sites[at],
                        &mut work.matrices[at],
                    );
                }
            }
        }
        let [first, second] = &mut tally.rhs;
        for (site, matrix) in self.sites.iter_mut().zip(&work.matrices) {
            let (worst, products) = site.residuals();
            tally.worst = tally.worst.max(worst);
            tally.products += products;
            tally.cost -= site.earned(&setting.fixed);
            site.add_pool(0, &mut tally.pool);
            site.eliminate(simd, matrix, &mut work.room, &mut tally.matrix);
            site.reduce_first(simd, &mut work.room, [&mut *first, &mut *second]);
        }
    }

    #[inline(always)]
    fn predict<const RULE: u8>(
        &mut self,
        simd: S,
        setting: &Setting,
        pool: &[f64],
        work: &mut Work<S>,
        tally: &mut Tally,
    ) {
        for site in &mut self.sites {
            site.back(simd, None, pool, &mut work.room);
            site.spread(|site, row| site.next_multiplier(row), pool, &setting.fixed);
            site.clear(1);
            site.clear(2);
        }
        let sites = &mut self.sites;
        let mut ratios = Ratios::new(simd);
        for pack in &mut self.packs {
            collect(sites, pack, &mut work.extra);
            pack.predict::<RULE>(
                &setting.prices,
                &work.extra,
                &mut work.bench,
                &mut ratios,
                #[inline(always)]
                |pack, j, affine, second| {
                    scatter(sites, pack, j, 1, &affine);
                    scatter(sites, pack, j, 2, &second);
                },
            );
        }
        tally.sums.add_ratios(&ratios);
        for site in &mut self.sites {
            site.reduce_second(simd, &mut work.room, &mut tally.rhs[0], &mut tally.sums);
            site.add_pool(1, &mut tally.pool);
        }
    }

    #[inline(always)]
    fn correct<const RULE: u8>(
        &mut self,
        simd: S,
        setting: &Setting,
        pool: &[f64],
        target: f64,
        work: &mut Work<S>,
        tally: &mut Tally,
    ) {
        for site in &mut self.sites {
            site.back(simd, Some(target), pool, &mut work.room);
            site.spread(|site, row| site.next_multiplier(row), pool, &setting.fixed);
            site.clear(1);
        }
        let sites = &mut self.sites;
        let mut ratios = Ratios::new(simd);
        for pack in &mut self.packs {
            collect(sites, pack, &mut work.extra);
            pack.correct::<RULE>(
                &setting.prices,
                &work.extra,
                target,
                &mut work.bench,
                &mut ratios,
                #[inline(always)]
                |pack, j, step| {
                    scatter(sites, pack, j, 1, &step);
                },
            );
        }
        tally.sums.add_ratios(&ratios);
        for site in &mut self.sites {
            site.change(&mut tally.sums);
            site.add_pool(1, &mut tally.pool);
        }
    }

    /// Lagrangian bound of the group at its multipliers and the pool's.
    #[inline(always)]
    fn bound<const RULE: u8>(
        &mut self,
        setting: &Setting,
        pool: &[f64],
        work: &mut Work<S>,
    ) -> f64 {
        let mut bound = 0.0;
        for site in &mut self.sites {
            site.spread(|site, row| site.y[row], pool, &setting.fixed);
            bound -= site
                .limits
                .iter()
                .zip(&site.y)
                .map(|(limit, y)| limit.room * y)
                .sum::<f64>();
        }
        for pack in &self.packs {
            collect(&self.sites, pack, &mut work.extra);
            bound += pack.bound::<RULE>(&setting.prices, &work.extra);
        }
        bound
    }

    /// Rows that count, for the mean of their products.
    pub(super) fn rows(&self) -> f64 {
        let packs: f64 = self.packs.iter().map(Pack::rows).sum();
        let mut limits = 0.0;
        self.sites
            .iter()
            .for_each(|site| site.limits.iter().for_each(|_| limits += 1.0));
        packs + limits
    }
}
