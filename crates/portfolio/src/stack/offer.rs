//! Offers to a network operator: what keeping an area's draw below a bound would cost the plan (`optimisation.md` 7.5).
//!
//! ```text
//! K(L) = J(plan, draw of the area at most L in the window) - J(plan)          J: cost with all that was sold already held
//!
//!            |------ as planned ------|--- not ordered: the plan ---|--------------|
//!                                     |--- ordered: below L --------|-- rebound ---|
//!                                  answer
//! ```
//!
//! `K` is convex in `L` and zero where the plan stays below it, so that the price pro rata covers an order in part.

use std::ops::Range;

use super::money::{SiteLoad, site_loads};
use super::problem::{Answer, Problem, Schedule};
use super::solve::solve;
use super::valid::StackError;

/// Cost of what gives way beyond the plan's own from which an order counts as not deliverable: a cent, which is a few
/// watt-hours of any limit.
const KEPT: f64 = 0.01;

/// What an operator may ask of an area.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Name, for reports and refusals.
    pub name: String,
    /// Index into [`Problem::areas`].
    pub area: usize,
    /// Steps in which the draw is bounded.
    pub steps: Range<usize>,
    /// Bounds on the draw of the area, base load and Down held included, kW; the widest first.
    pub bounds_kw: Vec<f64>,
    /// Paid per MWh that the order moves out of the window, beyond its price: what trading it at short notice costs.
    pub rebound_per_mwh: f64,
    /// Asked on top, as a share of all costs.
    pub margin_share: f64,
}

/// What is offered for one bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Most that the area draws in the window if ordered, kW.
    pub bound_kw: f64,
    /// Greatest draw of the plan above the bound in the window, kW.
    pub volume_kw: f64,
    /// Energy the plan draws in the window and the order does not, kWh.
    pub moved_kwh: f64,
    /// Energy drawn outside the window beyond the plan, kWh.
    pub rebound_kwh: f64,
    /// `K` with no other offer ordered, currency.
    pub cost: f64,
    /// `K` with all other offers ordered at their narrowest bounds, currency; the same as `cost` without others.
    pub cost_with_others: f64,
    /// Asked for the whole order: the larger `K`, rebound and margin; `None` where it cannot be kept.
    pub price: Option<f64>,
    /// What would give way beyond the plan's own if ordered, beside all other offers: why it is not offered.
    pub gives_way: Vec<String>,
}

/// The choices of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The request's name.
    pub name: String,
    /// One per bound, in the order of the request.
    pub choices: Vec<Choice>,
}

/// Offers on top of a plan, all of them answered by `notice`.
///
/// Until `notice` the plan is followed; what it sold is held whatever is ordered. Each choice is looked at alone and with all
/// others ordered at their narrowest bounds: who keeps those keeps every selection, since wider bounds only allow more.
/// The prices of the narrowest bounds together cover what ordering all of them costs.
///
/// # Errors
/// [`StackError`] where a number or an index makes no sense.
pub fn offers(
    problem: &Problem,
    plan: &Schedule,
    requests: &[Request],
    notice: usize,
) -> Result<Vec<Offer>, StackError> {
    for request in requests {
        request.check(problem, notice)?;
    }
    let mut offers = Vec::new();
    if requests.is_empty() {
        return Ok(offers);
    }
    let sold = Sold::new(problem, plan, notice)?;
    for (index, request) in requests.iter().enumerate() {
        let others = requests
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let narrowest = others.filter_map(|(_, r)| Some((r, *r.bounds_kw.last()?)));
        let beside = bounded(&sold.problem, narrowest);
        let without = match requests.len() {
            1 => None,
            _ => Some(solve(&beside)?),
        };
        let choices = request.bounds_kw.iter().map(|bound| {
            let beside = without.as_ref().map(|without| (&beside, without));
            sold.choice((request, *bound), beside)
        });
        offers.push(Offer {
            name: request.name.clone(),
            choices: choices.collect::<Result<_, StackError>>()?,
        });
    }
    if requests.len() > 2 {
        sold.cover(requests, &mut offers)?;
    }
    Ok(offers)
}

impl Request {
    fn check(&self, problem: &Problem, notice: usize) -> Result<(), StackError> {
        let steps = problem.import_price.len();
        let wrong = |what: &'static str, value: usize, expected: String| StackError::Index {
            what,
            name: self.name.clone(),
            value,
            expected,
        };
        if self.area >= problem.areas.len() {
            let expected = format!("an index below {}", problem.areas.len());
            return Err(wrong("area", self.area, expected));
        }
        if self.steps.start >= self.steps.end || self.steps.end > steps {
            let expected = format!(
                "after the first, {}, and within the grid of {steps}",
                self.steps.start
            );
            return Err(wrong("last step", self.steps.end, expected));
        }
        if self.steps.start < notice {
            let expected = format!("not before the answer, in step {notice}");
            return Err(wrong("first step", self.steps.start, expected));
        }
        if self.bounds_kw.is_empty() {
            return Err(wrong("number of bounds", 0, "at least one".to_owned()));
        }
        let number = |what: &'static str, value: f64, good: bool, expected: &'static str| {
            if good && value.is_finite() {
                return Ok(());
            }
            Err(StackError::Number {
                what,
                name: self.name.clone(),
                value,
                expected,
            })
        };
        number(
            "cost of the rebound",
            self.rebound_per_mwh,
            self.rebound_per_mwh >= 0.0,
            "zero or more",
        )?;
        number(
            "margin",
            self.margin_share,
            self.margin_share >= 0.0,
            "zero or more",
        )?;
        let mut last = f64::INFINITY;
        for bound in &self.bounds_kw {
            number(
                "bound",
                *bound,
                *bound < last,
                "a number below the bound before it",
            )?;
            last = *bound;
        }
        Ok(())
    }
}

/// The problem with the draw of areas bounded.
fn bounded<'a>(problem: &Problem, bounds: impl IntoIterator<Item = (&'a Request, f64)>) -> Problem {
    let mut bounded = problem.clone();
    for (request, bound) in bounds {
        let limits = &mut bounded.areas[request.area].import_kw;
        limits.resize(problem.import_price.len(), None);
        for limit in &mut limits[request.steps.clone()] {
            *limit = Some(limit.map_or(bound, |known| known.min(bound)));
        }
    }
    bounded
}

/// A plan that is sold.
struct Sold {
    /// What is sold is held, what is done by the answer is fixed.
    problem: Problem,
    /// Load of the sites as planned.
    loads: Vec<SiteLoad>,
    /// The plan gone on with, nothing ordered.
    free: Answer,
}

impl Sold {
    fn new(problem: &Problem, plan: &Schedule, notice: usize) -> Result<Self, StackError> {
        let committed = committed(problem, plan, notice);
        Ok(Self {
            free: solve(&committed)?,
            loads: site_loads(problem, plan),
            problem: committed,
        })
    }

    /// One bound alone and beside the other offers: the problem with those at their narrowest, and its answer.
    fn choice(
        &self,
        (request, bound): (&Request, f64),
        beside: Option<(&Problem, &Answer)>,
    ) -> Result<Choice, StackError> {
        let sites = &self.problem.areas[request.area].sites;
        let sum = |loads: &[SiteLoad], part: fn(&SiteLoad) -> &[f64], step: usize| -> f64 {
            sites.iter().map(|site| part(&loads[*site])[step]).sum()
        };
        let net = |loads: &[SiteLoad], step: usize| sum(loads, |load| &load.net, step);
        let kept = |step: usize| net(&self.loads, step) + sum(&self.loads, |load| &load.down, step);
        let above = request
            .steps
            .clone()
            .map(|step| net(&self.loads, step) - bound);
        // The plan stays below the bound as it is.
        let alone = if request.steps.clone().all(|step| kept(step) <= bound) {
            None
        } else {
            Some(solve(&bounded(&self.problem, [(request, bound)]))?)
        };
        let (mut moved_kwh, mut rebound_kwh) = (0.0, 0.0);
        for ordered in alone
            .iter()
            .map(|answer| site_loads(&self.problem, &answer.schedule))
        {
            for step in 0..self.problem.import_price.len() {
                let less = self.problem.step_hours * (net(&self.loads, step) - net(&ordered, step));
                if request.steps.contains(&step) {
                    moved_kwh += less.max(0.0);
                } else {
                    rebound_kwh += (-less).max(0.0);
                }
            }
        }
        let more = |answer: &Answer, than: &Answer| (answer.objective - than.objective).max(0.0);
        let cost = alone.as_ref().map_or(0.0, |alone| more(alone, &self.free));
        let mut gives_way: Vec<String> = alone
            .iter()
            .flat_map(|alone| given(&self.free, alone))
            .collect();
        let mut cost_with_others = cost;
        if let Some((beside, without)) = beside {
            let with = solve(&bounded(beside, [(request, bound)]))?;
            cost_with_others = more(&with, without);
            for sentence in given(&self.free, &with) {
                if !gives_way.contains(&sentence) {
                    gives_way.push(sentence);
                }
            }
        }
        let all = cost.max(cost_with_others) + request.rebound_per_mwh * rebound_kwh / 1000.0;
        Ok(Choice {
            bound_kw: bound,
            volume_kw: above.fold(0.0, f64::max),
            moved_kwh,
            rebound_kwh,
            cost,
            cost_with_others,
            price: gives_way
                .is_empty()
                .then_some(all * (1.0 + request.margin_share)),
            gives_way,
        })
    }

    /// Raises prices alike until those of the narrowest bounds cover ordering all of them. Two offers always do:
    /// each asks what it costs alone and beside the other.
    fn cover(&self, requests: &[Request], offers: &mut [Offer]) -> Result<(), StackError> {
        let narrowest = requests
            .iter()
            .filter_map(|r| Some((r, *r.bounds_kw.last()?)));
        let together = solve(&bounded(&self.problem, narrowest))?;
        let cost = (together.objective - self.free.objective).max(0.0);
        let asked: f64 = offers.iter().filter_map(|o| o.choices.last()?.price).sum();
        let priced = offers
            .iter_mut()
            .filter(|o| o.choices.last().is_some_and(|c| c.price.is_some()));
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let share = (cost - asked).max(0.0) / f64::from(count);
        for price in priced
            .flat_map(|o| &mut o.choices)
            .filter_map(|c| c.price.as_mut())
        {
            *price += share;
        }
        Ok(())
    }
}

/// The problem as it stands once the plan is sold: reserve and energy are held, powers before `notice` are fixed.
fn committed(problem: &Problem, plan: &Schedule, notice: usize) -> Problem {
    let mut held = problem.clone();
    for (product, sold) in held.products.iter_mut().zip(&plan.sold_mw) {
        for (block, sold) in product.blocks.iter_mut().zip(sold) {
            block.awarded_mw += sold;
            block.open = false;
        }
    }
    for (order, more) in held.orders.iter_mut().zip(&plan.ordered_kw) {
        order.held_kw += more;
        order.open = false;
    }
    for (vehicle, done) in held.vehicles.iter_mut().zip(&plan.vehicles) {
        let steps = notice.saturating_sub(vehicle.session.first);
        let powers = done.charge_kw.iter().zip(&done.discharge_kw);
        vehicle.fixed_kw = powers.take(steps).map(|(c, d)| (*c, *d)).collect();
    }
    held
}

/// What gives way in an ordered case and not in the plan; nothing where it costs no more than the plan's own.
fn given<'a>(free: &'a Answer, ordered: &'a Answer) -> impl Iterator<Item = String> + 'a {
    let cost = |answer: &Answer| answer.relaxed.iter().map(|r| r.cost).sum::<f64>();
    let more = cost(ordered) > cost(free) + KEPT;
    let known = |sentence: &str| free.relaxed.iter().any(|r| r.sentence == sentence);
    let new = ordered
        .relaxed
        .iter()
        .filter(move |r| more && !known(&r.sentence));
    new.map(|r| r.sentence.clone())
}
