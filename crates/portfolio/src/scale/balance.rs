//! Large pools: nearly all sites answer given prices, and a few balance what they hold.
//!
//! What a large fleet holds at given prices hardly jumps. Prices that a sample of it finds on a path of its own, put right
//! by what the fleet holds at them, leave volumes that are nearly level over each block. The few of the sample take up the
//! rest, with what the others hold as a constant. The bound is the fleet's Lagrangian at the same prices.

use pulp::Simd;

use crate::reference::SessionSchedule;

use super::asked::{Asked, Found};
use super::build::{Frame, Unit};
use super::group::Group;
use super::joint::{self, End, Rooms, Until};
use super::parallel;
use super::pool::Pool;
use super::solve::{Answer, start};

/// Sessions that balance, times the gap wanted, per [`GROWTH`] of all sessions. What the few lose by taking up what is uneven
/// in the others' answer falls with their number.
const FEW: f64 = 0.012;

/// What is uneven grows a little faster than the root that single vehicles' jumps alone would have it grow with: at 16 000
/// sessions 4 000 suffice at once, at 160 000 it is 16 000 (12 000 take another round).
const GROWTH: f64 = 0.6;

/// How often the fleet answers at most. Its first answer only puts the sample's prices right.
const ROUNDS: u32 = 3;

/// How many times the gap wanted an answer may miss it by before one path for all is tried.
const ACCEPTED: f64 = 5.0;

/// Share of the gap wanted that is left to the products of slack and multiplier. What vehicles hold at a product is smooth
/// in prices, and jumps without.
const SHARE: f64 = 0.25;

/// Product at which groups at given prices are handed to a path: at a smaller one they are too near their bounds to move.
const HAND_OVER: f64 = 5e-4;

/// Parts into which groups are shared among threads; the order of sums depends on it.
const CHUNKS: usize = 64;

/// One session of so many balances the others.
pub(super) fn every(asked: &Asked<'_>) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "counts of sessions; what is too large for one is the most there is"
    )]
    let few = asked
        .few
        .unwrap_or((FEW * (asked.sessions.len() as f64).powf(GROWTH) / asked.gap) as usize)
        .max(1);
    ((asked.sessions.len() + few / 2) / few).max(1)
}

/// Solves a pool of many times more sessions than balance it; `None` where that leads nowhere near the gap wanted.
pub(super) fn solve<S: Simd>(
    simd: S,
    asked: &Asked<'_>,
    frame: &Frame<'_>,
    units: &[Unit],
) -> Option<Found> {
    let fleet = Fleet::new(simd, asked, frame, units);
    let near = Until {
        gap: SHARE * asked.gap,
        ..Until::NEVER
    };
    let (groups, mut pool) = start(simd, frame, &fleet.few);
    let (_, first) = fleet.follow(groups, &mut pool, near);
    let mut prices = first.pool;
    let (mut bound, mut iterations) = (f64::NEG_INFINITY, first.iterations);
    let mut best: Option<(f64, Answer)> = None;
    for round in 1..=ROUNDS {
        let (few, others) = fleet.answer(&prices, first.product);
        bound = bound.max(few.bound + others.bound);
        let missing = fleet.missing(&few, &others);
        if round > 1 {
            let (cost, answer, passes) = fleet.balance(asked, &prices, others, bound);
            iterations += passes;
            if cost.is_finite() && best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, answer));
            }
            if cost - bound <= asked.gap * cost.abs() {
                break;
            }
        }
        if round < ROUNDS {
            let (_, end) = fleet.path(&prices, missing, 0.0, near);
            iterations += end.iterations;
            prices = end.pool;
        }
    }
    let (cost, answer) = best?;
    // The gap of a fleet whose groups got stuck at given prices can be anything.
    if cost - bound > ACCEPTED * asked.gap * cost.abs() {
        return None;
    }
    answer.found(frame, bound, iterations)
}

/// Sites that balance a pool, and all others.
struct Fleet<'a, S: Simd> {
    simd: S,
    frame: &'a Frame<'a>,
    threads: usize,
    few: Vec<Unit>,
    others: Vec<Unit>,
    /// Sessions of all per session of the few.
    weight: f64,
}

/// What sites come to at given prices.
struct Answered {
    /// What they hold in each of the pool's rows, kW.
    held: Vec<f64>,
    /// At market prices alone.
    cost: f64,
    /// With what is held paid for.
    bound: f64,
    schedules: Vec<(usize, SessionSchedule)>,
    /// Multipliers of the limits, in the units' order.
    limits: Vec<f64>,
}

impl Answered {
    fn none(rows: usize) -> Self {
        Self {
            held: vec![0.0; rows],
            cost: 0.0,
            bound: 0.0,
            schedules: Vec::new(),
            limits: Vec::new(),
        }
    }

    fn add(&mut self, other: Self) {
        let pairs = self.held.iter_mut().zip(&other.held);
        pairs.for_each(|(to, from)| *to += from);
        self.cost += other.cost;
        self.bound += other.bound;
        self.schedules.extend(other.schedules);
        self.limits.extend(other.limits);
    }
}

impl<'a, S: Simd> Fleet<'a, S> {
    /// One unit of every so many balances. Units stand in order of kind, so that the few are like the others.
    fn new(simd: S, asked: &Asked<'_>, frame: &'a Frame<'a>, units: &[Unit]) -> Self {
        let every = every(asked);
        let (mut few, mut others) = (Vec::new(), Vec::new());
        for (place, unit) in units.iter().enumerate() {
            let to = if place % every == 0 {
                &mut few
            } else {
                &mut others
            };
            to.push(unit.clone());
        }
        let sessions: usize = few.iter().map(|unit| unit.sessions.len()).sum();
        #[expect(clippy::cast_precision_loss, reason = "counts of sessions")]
        let weight = asked.sessions.len() as f64 / sessions.max(1) as f64;
        Self {
            simd,
            frame,
            threads: asked.threads,
            few,
            others,
            weight,
        }
    }

    fn follow(
        &self,
        mut groups: Vec<Group<S>>,
        pool: &mut Pool,
        until: Until,
    ) -> (Vec<Group<S>>, End) {
        let (setting, rooms) = (&self.frame.setting, &mut Rooms::new());
        let end = joint::follow(
            self.simd,
            &mut groups,
            pool,
            setting,
            until,
            self.threads,
            rooms,
        );
        (groups, end)
    }

    /// The few's path, brought near it one by one at given prices; others hold `beyond`, of which `more` kW at most are sold.
    fn path(
        &self,
        prices: &[f64],
        beyond: Vec<f64>,
        more: f64,
        until: Until,
    ) -> (Vec<Group<S>>, End) {
        let priced = self.frame.priced(self.frame.by_step(prices));
        let near = Until {
            product: HAND_OVER,
            ..Until::NEVER
        };
        let groups = parallel::each(self.frame.parts(&self.few), self.threads, |part| {
            let (mut group, _) = self.alone(&priced, part, near, &mut Rooms::new());
            self.frame.join(&mut group, part);
            group
        });
        let mut pool = self.frame.pool(&self.few).with_beyond(beyond, more);
        pool.begin_at_prices(&groups, prices, HAND_OVER);
        self.follow(groups, &mut pool, until)
    }

    /// One group at the prices of its setting.
    fn alone(
        &self,
        priced: &Frame<'_>,
        part: &[Unit],
        until: Until,
        rooms: &mut Rooms<S>,
    ) -> (Group<S>, End) {
        let mut group = self.frame.group(self.simd, part, false);
        let mut nobody = Pool::new(Vec::new());
        let alone = std::slice::from_mut(&mut group);
        let end = joint::follow(
            self.simd,
            alone,
            &mut nobody,
            &priced.setting,
            until,
            1,
            rooms,
        );
        (group, end)
    }

    /// What the few and the others do at prices of the pool's rows, raised where they do not cover a block's; every group
    /// centred at a `product` of slack and multiplier.
    fn answer(&self, prices: &[f64], product: f64) -> (Answered, Answered) {
        let mut prices = prices.to_vec();
        self.frame.pool(&[]).cover(&mut prices);
        let priced = self.frame.priced(self.frame.by_step(&prices));
        let of = |units| {
            let parts = self.frame.parts(units);
            let chunks = parts.chunks(parts.len().div_ceil(CHUNKS).max(1)).collect();
            let done = parallel::each(chunks, self.threads, |parts: &[&[Unit]]| {
                self.answer_of(parts, &priced, &prices, product)
            });
            let mut all = Answered::none(prices.len());
            done.into_iter().for_each(|part| all.add(part));
            all
        };
        (of(&self.few), of(&self.others))
    }

    fn answer_of(
        &self,
        parts: &[&[Unit]],
        priced: &Frame<'_>,
        prices: &[f64],
        product: f64,
    ) -> Answered {
        let mut rooms = Rooms::new();
        let mut sum = Answered::none(prices.len());
        for part in parts {
            let (group, end) = self.alone(priced, part, Until::centred(product), &mut rooms);
            sum.cost += end.cost;
            sum.bound += end.bound;
            for site in &group.sites {
                self.frame.add_held(site, &mut sum.held);
                sum.limits.extend(&site.y);
            }
            sum.schedules.extend(self.frame.read(&group));
        }
        let pairs = sum.held.iter().zip(prices);
        sum.cost += pairs.map(|(kw, price)| kw * price).sum::<f64>();
        sum
    }

    /// What the few would have to hold beyond their answer to be like the whole fleet.
    fn missing(&self, few: &Answered, others: &Answered) -> Vec<f64> {
        let pairs = few.held.iter().zip(&others.held);
        pairs
            .map(|(few, others)| (few + others) / self.weight - few)
            .collect()
    }

    /// The few beside the others' answer: cost in all, schedules, and the iterations it took.
    fn balance(
        &self,
        asked: &Asked<'_>,
        prices: &[f64],
        others: Answered,
        bound: f64,
    ) -> (f64, Answer, u32) {
        let until = Until {
            money: SHARE * asked.gap * bound.abs(),
            ..Until::NEVER
        };
        let more = self.frame.most(&self.others);
        let (groups, end) = self.path(prices, others.held, more, until);
        let mut answer = Answer::new(asked);
        answer.read(self.frame, &self.few, &groups);
        answer.add(self.frame, &self.others, others.schedules, &others.limits);
        (end.cost + others.cost, answer, end.iterations)
    }
}
