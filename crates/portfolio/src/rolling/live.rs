//! The plan made again: what goes on as planned is kept, what changed is solved anew.
//!
//! ```text
//! metered state ──> as planned? ──yes──> keeps its schedule and reserve ──┬── price moved? ──yes──> solved once more
//!                       └───────no────> solved anew, beside the others ──┘
//! ```

use super::at_once::charge_at_once;
use super::carry::{Carried, METER_KWH, Past};
use super::gap::gap;
use super::loads::Loads;
use super::prices::{self, Prices};
use super::problem::Problem;
use super::reserve::{self, Held, Lane, Share};
use super::sweep::{Against, Rows, Sweep};
use super::{Input, Made, Refused, Solved, parallel, proof, words};
use crate::storage;

/// Rounds over the vehicles that are solved. The second sees what all others chose in the first; further ones gain little.
const ROUNDS: usize = 2;

/// Rounds of filling up what playing the calls took back.
const TOP_UPS: usize = 2;

/// A vehicle that keeps its schedule is solved once more where that is worth this much, EUR.
const WORTH: f64 = 0.002;

/// Most vehicles that are solved once more in one plan, as a share of all: those with the largest gains; the others follow in later plans.
const REPRICED_SHARE: usize = 20;

/// Fewest that are, however small the fleet.
const REPRICED_LEAST: usize = 32;

/// A site's limit missed by no more is rounding, kW.
const SITE_KW: f64 = 1e-3;

/// Energy missing at departure that is not rounding, kWh.
const SHORT_KWH: f64 = 0.01;

/// How a plan is made again.
#[derive(Clone, Copy)]
pub struct Again<'a> {
    /// Threads to compute on; the plan does not depend on how many.
    pub threads: usize,
    /// Steps that begin earlier than this from now are inside a gate: whoever was planned keeps what was planned there, if it can.
    pub gate_lead: chrono::TimeDelta,
    /// Price of moving a vehicle away from what it was planned to do, EUR per MWh moved: not every small gain is worth a new set-point.
    pub chatter_per_mwh: f64,
    /// Rounds in which vehicles that share the limits of a site find their price, in a plan that none came before; later plans go on from
    /// the prices of the last.
    pub site_rounds: usize,
    /// Asked between vehicles; true ends the work.
    pub out_of_time: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for Again<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Again")
            .field("threads", &self.threads)
            .field("gate_lead", &self.gate_lead)
            .field("chatter_per_mwh", &self.chatter_per_mwh)
            .field("site_rounds", &self.site_rounds)
            .finish_non_exhaustive()
    }
}

impl Default for Again<'_> {
    /// One thread, the intraday gate of five minutes, and no limit of time.
    fn default() -> Self {
        Self {
            threads: 1,
            gate_lead: chrono::TimeDelta::minutes(5),
            chatter_per_mwh: 0.5,
            site_rounds: 4,
            out_of_time: &|| false,
        }
    }
}

/// How much of a plan was made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Vehicles planned.
    pub vehicles: usize,
    /// Those that had changed, or were new, or stand at a site that had to be planned whole.
    pub changed: usize,
    /// Those solved once more because a price had moved.
    pub repriced: usize,
}

/// A planner that remembers its last plan.
#[derive(Debug, Clone, Default)]
pub struct Live {
    past: Option<Past>,
}

impl Live {
    /// Makes the plan from the metered state, the last plan and the awards. The first plan, and one after [`Refused`], solves every vehicle that
    /// is not as the last plan had it.
    ///
    /// # Errors
    /// [`Refused`] for series that do not fit the grid, and when time ran out before every vehicle that changed was solved; the last plan is remembered
    /// then, and [`super::fallback()`] clips it to what is possible.
    pub fn plan(&mut self, input: &Input<'_>, again: &Again<'_>) -> Result<Made, Refused> {
        super::check(input)?;
        let problem = Problem::new(input, again.threads);
        let solved = solve(&problem, self.past.as_ref(), again)?;
        let made = words::made(&problem, &solved);
        let position = &input.market.position_kw;
        self.past = Some(Past {
            grid: input.grid.clone(),
            vehicles: input.vehicles.to_vec(),
            prices: (0..input.grid.len())
                .map(|step| {
                    let off = position[step].map(|kw| made.pool_kw[step] - kw);
                    let deviation = off.map_or((0.0, 0.0), |kw| prices::range(&problem, kw));
                    (
                        input.market.price[step],
                        f64::midpoint(deviation.0, deviation.1),
                    )
                })
                .collect(),
            short: solved
                .lanes
                .iter()
                .enumerate()
                .map(|(i, lane)| short(&problem, i, lane))
                .collect(),
            sites: input.sites.iter().map(|s| s.id.clone()).collect(),
            site_prices: solved.site_prices,
            calls: problem.calls,
            lanes: solved.lanes,
        });
        Ok(made)
    }
}

/// True if vehicle `i` is left with less than full power would have given it.
fn short(problem: &Problem<'_>, i: usize, lane: &Lane) -> bool {
    let envelope = &problem.envelopes[i];
    let arrival = problem.input.vehicles[i].arrival;
    let reachable = envelope
        .full
        .last()
        .map_or(arrival, |full| envelope.goal.min(*full));
    lane.energy
        .last()
        .is_some_and(|end| *end < reachable - SHORT_KWH)
}

/// Solves what has to be solved.
pub(super) fn solve(
    problem: &Problem<'_>,
    past: Option<&Past>,
    again: &Again<'_>,
) -> Result<Solved, Refused> {
    let count = problem.input.vehicles.len();
    let carried = past.map_or_else(
        || vec![None; count],
        |past| past.carry(problem, again.threads),
    );
    let mut open: Vec<bool> = carried
        .iter()
        .map(|c| c.as_ref().is_none_or(|c| !c.keeps))
        .collect();
    let was_short: Vec<bool> = carried
        .iter()
        .map(|c| c.as_ref().is_some_and(|c| c.short))
        .collect();
    let (kept, before) = apart(carried);
    let mut sweep = Sweep {
        problem,
        site_prices: past.map_or_else(
            || vec![None; problem.input.sites.len()],
            |past| past.site_prices(problem),
        ),
        before: &before,
        frozen: frozen(problem.input.grid, again.gate_lead),
        chatter: again.chatter_per_mwh,
    };
    let learning = if past.is_none() { again.site_rounds } else { 0 };
    let mut state = State::new(problem, kept);
    state.open_overloaded(&sweep, &mut open);
    state.solve(&mut sweep, &open, (again, learning))?;
    if state.open_short(&sweep, &was_short, &mut open) {
        state.solve(&mut sweep, &open, (again, learning))?;
    }
    let mut work = Work {
        vehicles: count,
        changed: open.iter().filter(|o| **o).count(),
        repriced: 0,
    };
    // A schedule that goes on as planned was played before; at a contested site the others may have left less to recharge with.
    let mut touched = open.clone();
    for (i, vehicle) in problem.input.vehicles.iter().enumerate() {
        touched[i] |= problem.contested.get(vehicle.site).is_some_and(|c| *c);
    }
    if let Some(past) = past {
        work.repriced = state.reprice(&sweep, past, &open, again, &mut touched);
    }
    let exact = if past.is_some() {
        METER_KWH
    } else {
        proof::EXACT
    };
    for _ in 0..TOP_UPS {
        reserve::top_up(problem, &mut state.loads, &mut state.lanes, &mut touched);
        let State { lanes, loads } = &mut state;
        if !proof::withdraw(problem, loads, lanes, &touched, (exact, again.threads)) {
            break;
        }
        touched.fill(false);
    }
    let prices = Prices::implied(problem, &state.loads, &state.lanes, &sweep.site_prices);
    let gap = gap(&sweep, &state.lanes, &state.loads, &prices, again.threads);
    sweep.learn(&state.lanes, &state.loads);
    Ok(Solved {
        site_prices: sweep.site_prices,
        lanes: state.lanes,
        gap,
        work,
    })
}

/// Carried schedules, and what every vehicle was planned with before.
#[expect(clippy::type_complexity, reason = "two columns of one table")]
fn apart(carried: Vec<Option<Carried>>) -> (Vec<Option<Lane>>, Vec<Option<Vec<Option<f64>>>>) {
    carried
        .into_iter()
        .map(|carried| match carried {
            Some(carried) => (Some(carried.lane), Some(carried.before)),
            None => (None, None),
        })
        .unzip()
}

/// Steps of the grid that begin before `lead` from now.
fn frozen(grid: &super::Grid, lead: chrono::TimeDelta) -> usize {
    (0..grid.len())
        .take_while(|step| grid.at(*step) < grid.now() + lead)
        .count()
}

/// Schedules with the loads they make.
struct State {
    lanes: Vec<Lane>,
    loads: Loads,
}

impl State {
    /// Everybody as planned before; those that were not, idle.
    fn new(problem: &Problem<'_>, carried: Vec<Option<Lane>>) -> Self {
        let mut state = Self {
            lanes: Vec::with_capacity(carried.len()),
            loads: Loads::new(problem),
        };
        for (i, lane) in carried.into_iter().enumerate() {
            let lane = lane.unwrap_or_else(|| idle(problem, i));
            let vehicle = &problem.input.vehicles[i];
            state.loads.add(vehicle, &lane, &problem.calls, 1.0);
            state.lanes.push(lane);
        }
        state
    }

    /// Opens sites that would miss a limit if everybody who can went on as planned.
    fn open_overloaded(&mut self, sweep: &Sweep<'_>, open: &mut [bool]) {
        let problem = sweep.problem;
        for (site, members) in problem.members.iter().enumerate() {
            if members.iter().all(|i| open[*i]) {
                continue;
            }
            let over = |step| {
                self.loads.rise(problem, site, step) < -SITE_KW
                    || self.loads.fall(problem, site, step) < -SITE_KW
            };
            if (0..problem.input.grid.len()).any(over) {
                for i in members {
                    open[*i] = true;
                }
            }
        }
    }

    /// Solves those that are open beside the others.
    fn solve(
        &mut self,
        sweep: &mut Sweep<'_>,
        open: &[bool],
        (again, learning): (&Again<'_>, usize),
    ) -> Result<(), Refused> {
        let problem = sweep.problem;
        for i in (0..open.len()).filter(|i| open[*i]) {
            let vehicle = &problem.input.vehicles[i];
            self.loads
                .add(vehicle, &self.lanes[i], &problem.calls, -1.0);
            self.lanes[i] = idle(problem, i);
        }
        let members: Vec<usize> = (0..open.len()).filter(|i| open[*i]).collect();
        // At sites whose limit can bind, everybody starts from charging at once: nobody takes the place of one in a hurry.
        for (i, net) in charge_at_once(problem, open, &self.loads)
            .into_iter()
            .enumerate()
        {
            if let Some(net) = net {
                self.loads.add_power(&problem.input.vehicles[i], &net, 1.0);
                self.lanes[i].net = net;
            }
        }
        let held = Held::of(problem, &self.lanes);
        reserve::allocate(problem, &members, &held, &self.loads, &mut self.lanes);
        let order = sweep.order(members);
        let mut placed: Vec<bool> = open.iter().map(|open| !open).collect();
        for _ in 0..ROUNDS {
            self.round(sweep, &order, &mut placed, again)?;
        }
        let shared = |i: &usize| {
            let site = problem.input.vehicles[*i].site;
            site < problem.members.len() && prices::shared(problem, site)
        };
        let order: Vec<usize> = order.into_iter().filter(shared).collect();
        for _ in 0..learning {
            sweep.learn(&self.lanes, &self.loads);
            self.round(sweep, &order, &mut placed, again)?;
        }
        Ok(())
    }

    /// One round over `order`, unless time runs out.
    fn round(
        &mut self,
        sweep: &Sweep<'_>,
        order: &[usize],
        placed: &mut [bool],
        again: &Again<'_>,
    ) -> Result<(), Refused> {
        for part in order.chunks(TURNS_PER_LOOK) {
            if (again.out_of_time)() {
                return Err(Refused::OutOfTime);
            }
            sweep.round(part, placed, &mut self.lanes, &mut self.loads);
        }
        Ok(())
    }

    /// Opens contested sites at which a vehicle came out short that was not before: those that kept their schedules make room.
    /// Says whether there were any.
    fn open_short(&self, sweep: &Sweep<'_>, was_short: &[bool], open: &mut [bool]) -> bool {
        let problem = sweep.problem;
        let mut more = false;
        for (site, members) in problem.members.iter().enumerate() {
            let came_short =
                |i: &usize| open[*i] && !was_short[*i] && short(problem, *i, &self.lanes[*i]);
            if problem.contested[site] && members.iter().any(came_short) {
                for i in members {
                    more |= !open[*i];
                    open[*i] = true;
                }
            }
        }
        more
    }

    /// Solves those once more that kept their schedule while a price moved, as far as it is worth it and time allows; returns how many.
    fn reprice(
        &mut self,
        sweep: &Sweep<'_>,
        past: &Past,
        open: &[bool],
        again: &Again<'_>,
        solved: &mut [bool],
    ) -> usize {
        let problem = sweep.problem;
        let moved = moved(problem, past, &self.loads);
        let touched = |i: usize| {
            let vehicle = &problem.input.vehicles[i];
            let steps = vehicle.first..vehicle.first + vehicle.len();
            let at_shared = sweep
                .site_prices
                .get(vehicle.site)
                .is_some_and(Option::is_some);
            !open[i] && (at_shared || moved[steps].contains(&true))
        };
        let (lanes, loads) = (&self.lanes, &self.loads);
        let gains = parallel::each(again.threads, open.len(), |i| {
            if touched(i) {
                gain(sweep, i, &lanes[i], loads)
            } else {
                0.0
            }
        });
        let mut worth: Vec<usize> = (0..open.len()).filter(|i| gains[*i] > WORTH).collect();
        worth.sort_by(|a, b| gains[*b].total_cmp(&gains[*a]).then(a.cmp(b)));
        worth.truncate((open.len() / REPRICED_SHARE).max(REPRICED_LEAST));
        let mut placed = vec![true; open.len()];
        let mut done = 0;
        for part in worth.chunks(TURNS_PER_LOOK) {
            if (again.out_of_time)() {
                break;
            }
            for i in part {
                // Those before it may have taken the gain already.
                if gain(sweep, *i, &self.lanes[*i], &self.loads) > WORTH {
                    sweep.round(&[*i], &mut placed, &mut self.lanes, &mut self.loads);
                    solved[*i] = true;
                    done += 1;
                }
            }
        }
        done
    }
}

/// A vehicle that does nothing.
fn idle(problem: &Problem<'_>, i: usize) -> Lane {
    let steps = problem.input.vehicles[i].len();
    Lane {
        net: vec![0.0; steps],
        share: Share::none(problem.calls.len(), steps),
        ..Lane::default()
    }
}

/// Vehicles solved between two looks at the time: a few milliseconds.
const TURNS_PER_LOOK: usize = 32;

/// Steps in which energy costs another price than in the plan before, or deviating from the position does.
fn moved(problem: &Problem<'_>, past: &Past, loads: &Loads) -> Vec<bool> {
    let input = problem.input;
    let shift = (input.grid.start() - past.grid.start()).num_seconds() / super::STEP.num_seconds();
    (0..input.grid.len())
        .map(|step| {
            let then = usize::try_from(shift)
                .ok()
                .and_then(|shift| past.prices.get(step + shift));
            let Some((price, deviating)) = then else {
                return true;
            };
            let (low, high) = input.market.position_kw[step].map_or((0.0, 0.0), |position| {
                prices::range(problem, loads.pool[step] - position)
            });
            (price - input.market.price[step]).abs() > 0.0 || *deviating < low || *deviating > high
        })
        .collect()
}

/// What solving vehicle `i` once more could gain at most, EUR.
fn gain(sweep: &Sweep<'_>, i: usize, lane: &Lane, loads: &Loads) -> f64 {
    let battery = sweep.battery(i);
    let steps = sweep.steps(
        i,
        &lane.share,
        Rows::of(lane),
        Against::Others(loads, Some(lane)),
    );
    let mut cost = lane.energy.last().map_or(0.0, |end| battery.end_cost(*end));
    for (step, net) in steps.iter().zip(&lane.net) {
        cost += step.cost(net.max(0.0), (-net).max(0.0));
    }
    cost - storage::bound(&battery, &steps, &lane.value).unwrap_or(f64::INFINITY)
}
