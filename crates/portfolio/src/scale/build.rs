//! From sessions to packs and groups, and from their iterate back to schedules.

use pulp::Simd;

use crate::reference::{Headroom, Problem, Session};

use super::goal::Goal;
use super::group::{Group, Setting};
use super::lanes::V;
use super::pack::{Pack, Prices, Step};
use super::pool::{Pool, PoolBlock};
use super::rows::{SNAPSHOT, Vehicle, WINDOW};
use super::site::{Limit, Site};

/// Vehicles per group: few enough that a group's matrices stay near the processor.
const GROUP: usize = 24;

/// A share of a step below which a vehicle counts as unplugged there, and no interior is left.
pub(super) const NO_SHARE: f64 = 1e-6;

/// First product of slack and multiplier, in scaled money.
const FIRST_PRODUCT: f64 = 0.05;

/// Mean price of a kW over a step in scaled money.
const PRICE_SIZE: f64 = 0.02;

/// A site, or vehicles without one, with the limits that could bind there.
#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    /// Indices into the problem's sessions.
    pub(super) sessions: Vec<usize>,
    /// Ascending in time.
    pub(super) limits: Vec<Limit>,
    /// Index of each limit among the caller's rows.
    pub(super) rows: Vec<usize>,
}

/// A problem as the path sees it.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) problem: &'a Problem,
    pub(super) setting: Setting,
    /// Scaled money per EUR.
    pub(super) scale: f64,
    /// Product on sale.
    pub(super) product: usize,
    /// Blocks on sale, as indices of the product's blocks.
    pub(super) blocks: Vec<usize>,
    /// Place among the blocks on sale, per step.
    pub(super) sale: Vec<Option<usize>>,
    /// Boundaries after a window for which its energy stays missing.
    pub(super) recovery: usize,
    /// Steps of an activation window.
    pub(super) window: usize,
}

impl<'a> Frame<'a> {
    pub(super) fn new(problem: &'a Problem, product: usize, blocks: Vec<usize>) -> Self {
        let hours = problem.step_hours / 1000.0;
        let steps = problem.import_price.len();
        let sizes = problem.import_price.iter().map(|price| price.abs());
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let mean = hours * sizes.sum::<f64>() / (steps.max(1) as f64);
        let scale = PRICE_SIZE / mean.max(1e-9);
        let mut sale = vec![None; steps];
        for (place, block) in blocks.iter().enumerate() {
            let block = &problem.reserves[product].blocks[*block];
            sale[block.steps.clone()].fill(Some(place));
        }
        let (rule, window, recovery) = match problem.headroom {
            Headroom::Snapshot => (SNAPSHOT, 1, 0),
            Headroom::Window { recovery_steps } => {
                let window = problem
                    .reserves
                    .get(product)
                    .map_or(1, |reserve| reserve.window_steps(problem.step_hours));
                (WINDOW, window, recovery_steps)
            }
        };
        let prices = Prices {
            charge: problem
                .import_price
                .iter()
                .map(|price| scale * hours * price)
                .collect(),
            discharge: problem
                .export_price
                .iter()
                .map(|price| scale * hours * (problem.wear - price))
                .collect(),
            short: scale * problem.shortfall * problem.step_hours,
        };
        Self {
            problem,
            setting: Setting {
                rule,
                prices,
                fixed: Vec::new(),
            },
            scale,
            product,
            blocks,
            sale,
            recovery,
            window,
        }
    }

    /// A path setting with the pool's prices given per step.
    pub(super) fn priced(&self, fixed: Vec<[f64; 2]>) -> Self {
        let mut frame = Self::new(self.problem, self.product, self.blocks.clone());
        frame.setting.fixed = fixed;
        frame
    }

    pub(super) fn power_factor(&self) -> f64 {
        self.problem
            .reserves
            .get(self.product)
            .map_or(1.0, |reserve| reserve.power_factor)
    }

    /// Pool rows of a step: those of a block follow each other.
    fn pool_row(&self, step: usize) -> Option<(usize, usize)> {
        let before = self.sale[..step]
            .iter()
            .filter(|place| place.is_some())
            .count();
        self.sale[step].map(|_| (2 * before, 2 * before + 1))
    }

    /// More than the sessions of some units can hold together, kW.
    pub(super) fn most(&self, units: &[Unit]) -> f64 {
        let factor = self.power_factor();
        let all = units.iter().flat_map(|unit| &unit.sessions);
        all.map(|index| {
            let session = &self.problem.sessions[*index];
            (session.charge_kw + session.discharge_kw) / factor
        })
        .sum()
    }

    /// Adds what the vehicles of a site hold at their iterate to the pool's rows.
    pub(super) fn add_held<S: Simd>(&self, site: &Site<S>, to: &mut [f64]) {
        for (step, [_, up, down]) in site.sums_by_step() {
            if let Some((for_up, for_down)) = self.pool_row(step) {
                to[for_up] += up;
                to[for_down] += down;
            }
        }
    }

    /// The pool of some sessions, its iterate yet to be set.
    pub(super) fn pool(&self, units: &[Unit]) -> Pool {
        let most = self.most(units);
        let mut blocks: Vec<PoolBlock> = self
            .blocks
            .iter()
            .map(|block| {
                let block = &self.problem.reserves[self.product].blocks[*block];
                PoolBlock::new(self.scale * block.price / 1000.0, most, Vec::new())
            })
            .collect();
        let mut row = 0;
        for place in self.sale.iter().flatten() {
            blocks[*place].rows.extend([row, row + 1]);
            row += 2;
        }
        Pool::new(blocks)
    }

    /// Prices per step from multipliers of the pool's rows.
    pub(super) fn by_step(&self, multipliers: &[f64]) -> Vec<[f64; 2]> {
        let mut pairs = multipliers.chunks_exact(2);
        self.sale
            .iter()
            .map(|place| {
                place
                    .and_then(|_| pairs.next())
                    .map_or([0.0; 2], |pair| [pair[0], pair[1]])
            })
            .collect()
    }

    /// Units by the groups they form.
    pub(super) fn parts<'u>(&self, units: &'u [Unit]) -> Vec<&'u [Unit]> {
        let mut parts = Vec::new();
        let mut begin = 0;
        while begin < units.len() {
            let mut end = begin;
            let mut vehicles = 0;
            while end < units.len()
                && (vehicles == 0 || vehicles + units[end].sessions.len() <= GROUP)
            {
                vehicles += units[end].sessions.len();
                end += 1;
            }
            parts.push(&units[begin..end]);
            begin = end;
        }
        parts
    }

    /// Whole units as a group, with their iterate at the start of the path.
    pub(super) fn group<S: Simd>(&self, simd: S, units: &[Unit], with_pool: bool) -> Group<S> {
        let mut members: Vec<(usize, usize)> = units
            .iter()
            .enumerate()
            .flat_map(|(site, unit)| unit.sessions.iter().map(move |session| (*session, site)))
            .collect();
        let window = |session: usize| plugged_in(&self.problem.sessions[session]);
        members
            .sort_by_key(|(session, _)| (window(*session).start, window(*session).end, *session));
        let first = members
            .iter()
            .map(|(session, _)| window(*session).start)
            .min()
            .unwrap_or(0);
        let end = members
            .iter()
            .map(|(session, _)| window(*session).end)
            .max()
            .unwrap_or(0);
        let mut sites = self.sites(units, first..end, with_pool);
        let packs: Vec<Pack<S>> = members
            .chunks(V::<S>::LANES)
            .map(|members| self.pack(simd, members))
            .collect();
        for pack in &packs {
            for (lane, session) in pack.session.iter().enumerate() {
                if session.is_some() {
                    sites[pack.site[lane]].begin_with(pack, lane);
                }
            }
        }
        sites.iter_mut().for_each(|site| site.begin(FIRST_PRODUCT));
        Group { sites, packs }
    }

    fn sites<S: Simd>(
        &self,
        units: &[Unit],
        steps: std::ops::Range<usize>,
        with_pool: bool,
    ) -> Vec<Site<S>> {
        let site = |unit: &Unit| {
            let mut able = vec![false; steps.end];
            for session in &unit.sessions {
                let session = &self.problem.sessions[*session];
                for step in plugged_in(session) {
                    able[step] |= session.whole(step - session.first);
                }
            }
            let row = |step: usize| {
                if with_pool && able[step] {
                    self.pool_row(step)
                } else {
                    None
                }
            };
            Site::new(steps.clone(), &unit.limits, row)
        };
        units.iter().map(site).collect()
    }

    /// Lets a group of priced vehicles take part in the pool's rows.
    pub(super) fn join<S: Simd>(&self, group: &mut Group<S>, units: &[Unit]) {
        let begin = group.packs.iter().map(|pack| pack.first).min().unwrap_or(0);
        let end = group
            .packs
            .iter()
            .map(|pack| pack.first + pack.steps.len())
            .max()
            .unwrap_or(0);
        let mut sites = self.sites(units, begin..end, true);
        for (site, priced) in sites.iter_mut().zip(&group.sites) {
            site.s.clone_from(&priced.s);
            site.y.clone_from(&priced.y);
        }
        group.sites = sites;
        for pack in &group.packs {
            for (lane, session) in pack.session.iter().enumerate() {
                if session.is_some() {
                    group.sites[pack.site[lane]].begin_with(pack, lane);
                }
            }
        }
    }

    fn pack<S: Simd>(&self, simd: S, members: &[(usize, usize)]) -> Pack<S> {
        let lanes = V::<S>::LANES;
        let sessions: Vec<Option<&Session>> = (0..lanes)
            .map(|lane| {
                members
                    .get(lane)
                    .map(|(index, _)| &self.problem.sessions[*index])
            })
            .collect();
        let there = || sessions.iter().flatten().map(|session| plugged_in(session));
        let first = there().map(|window| window.start).min().unwrap_or(0);
        let end = there().map(|window| window.end).max().unwrap_or(0);
        let hours = self.problem.step_hours;
        let each = |value: &dyn Fn(&Session) -> f64, empty: f64| {
            let mut all = V::splat(simd, empty);
            for (lane, session) in sessions.iter().enumerate() {
                if let Some(session) = session {
                    all.set(lane, value(session));
                }
            }
            all
        };
        let reserve = self.problem.reserves.get(self.product);
        let last = match (self.setting.rule, reserve) {
            (SNAPSHOT, Some(reserve)) => reserve.endurance_hours / hours,
            _ => 1.0,
        };
        let two_way = |session: &Session| session.discharge_kw > 0.0;
        let b = |s: &Session| 1.0 / (s.charge_efficiency * s.discharge_efficiency);
        let only = |session: &Session, value: f64| if two_way(session) { value } else { 0.0 };
        let vehicle = Vehicle {
            a: each(&|s| 1.0 / s.charge_efficiency, 1.0),
            b: each(&|s| only(s, b(s)), 0.0),
            g: each(&|s| only(s, b(s) - 1.0), 0.0),
            b_rho: each(
                &|s| {
                    only(
                        s,
                        b(s) + s.charge_kw / s.discharge_kw.max(f64::MIN_POSITIVE),
                    )
                },
                0.0,
            ),
            fill: each(&|s| last / s.discharge_efficiency, 1.0),
            last: V::splat(simd, last),
            older: V::splat(simd, if self.window > 1 { 1.0 } else { 0.0 }),
            power_factor: V::splat(simd, self.power_factor()),
            charge_kw: each(&|s| s.charge_kw, 0.0),
            discharge_kw: each(&|s| s.discharge_kw, 0.0),
            floor: each(&|s| s.floor / hours, 0.0),
            capacity: each(&|s| s.capacity / hours, 0.0),
            arrival: each(&|s| s.arrival / hours, 0.0),
        };
        let one_way = each(&|s| f64::from(u8::from(!two_way(s))), 1.0);
        let goal = Goal::new(
            each(&|s| f64::from(u8::from(s.goal > s.floor)), 0.0),
            each(&|s| s.goal / hours, 0.0),
        );
        let steps = (first..end)
            .map(|step| {
                let at = |value: &dyn Fn(&Session, usize) -> f64| {
                    each(
                        &|session| {
                            if plugged_in(session).contains(&step) {
                                value(session, step - session.first)
                            } else {
                                0.0
                            }
                        },
                        0.0,
                    )
                };
                Step {
                    here: at(&|_, _| 1.0),
                    share: at(&|session, j| session.share[j]),
                    up: at(&|session, j| f64::from(u8::from(self.may_hold(session, j, true)))),
                    down: at(&|session, j| f64::from(u8::from(self.may_hold(session, j, false)))),
                    last: at(&|session, j| {
                        f64::from(u8::from(plugged_in(session).end == session.first + j + 1))
                    }),
                }
            })
            .collect();
        let session = (0..lanes)
            .map(|lane| members.get(lane).map(|(index, _)| *index))
            .collect();
        let site = (0..lanes)
            .map(|lane| members.get(lane).map_or(0, |(_, site)| *site))
            .collect();
        let windows = sessions
            .iter()
            .map(|session| session.map_or(0..0, plugged_in))
            .collect();
        let mut pack = Pack::new(first, session, windows, site, vehicle, one_way, steps, goal);
        for (lane, session) in sessions.iter().enumerate() {
            if let Some(session) = session {
                self.begin(&mut pack, lane, session);
            }
        }
        match self.setting.rule {
            SNAPSHOT => pack.slacken::<SNAPSHOT>(FIRST_PRODUCT),
            _ => pack.slacken::<WINDOW>(FIRST_PRODUCT),
        }
        pack
    }

    pub(super) fn may_hold(&self, session: &Session, j: usize, up: bool) -> bool {
        if !session.whole(j) || self.sale[session.first + j].is_none() {
            return false;
        }
        let room = if up {
            session.arrival - session.floor
        } else {
            session.capacity - session.arrival
        };
        // With the snapshot rule a battery at an end of its band on arrival has no room there yet.
        self.setting.rule != SNAPSHOT
            || session.first + j > plugged_in(session).start
            || room > 1e-6
    }
}

/// Steps of the grid with any share of the session in them.
pub(super) fn plugged_in(session: &Session) -> std::ops::Range<usize> {
    let some = |share: &f64| *share > NO_SHARE;
    let begin = session.share.iter().position(some).unwrap_or(0);
    let end = session
        .share
        .iter()
        .rposition(some)
        .map_or(begin, |last| last + 1);
    session.first + begin..session.first + end
}
