//! Reserve: volumes that the pool can hold, at what holding costs.

use market::rules::Pricing;
use market::{Award, AwardId, Bid, Direction, Offer, Position, Product, Rule, calendar};
use rust_decimal::prelude::ToPrimitive;
use units::{Band, Interval, Power, Price};

use super::reduce::{self, Hours};
use super::{NoBids, Offered, Question, Scenario};
use crate::reference::{self, Answer, Outcome, Problem};
use crate::rolling::Market;

/// Rounds of lowering what falls short. Each lowers every block that does by a step at least; blocks still short after that are not offered.
const ROUNDS: usize = 4;

/// One block on offer.
struct Candidate<'a> {
    product: Product,
    rule: &'a Rule,
    delivery: Interval,
    band: Band,
    /// As the reduced problem would have it, MW.
    proposed: f64,
    /// In whole steps.
    volume: Power,
    /// Why it was lowered below the proposal, if it was.
    lowered: Option<String>,
}

/// Bids for `products` on the day asked for.
///
/// # Errors
/// [`NoBids`] for a question without scenarios or with a grid that is too short, or a bid that breaks a rule.
pub fn reserve(question: &Question<'_>, products: &[Product]) -> Result<Offered, NoBids> {
    question.check()?;
    let mut notes = Vec::new();
    let mut candidates = candidates(question, products, &mut notes)?;
    let Some(proposal) = propose(question, &mut candidates, &mut notes)? else {
        return Ok(Offered {
            bids: Vec::new(),
            gap: None,
            notes,
        });
    };
    verify(question, &mut candidates)?;
    let mut bids = Vec::new();
    for candidate in candidates.iter().filter(|c| c.volume >= c.rule.minimum) {
        match bid(question, candidate, proposal.cost_per_mw)? {
            Ok(bid) => bids.push(bid),
            Err(note) => notes.push(note),
        }
    }
    bids.sort_by_key(|b| (b.product, b.delivery));
    Ok(Offered {
        bids,
        gap: Some(proposal.gap),
        notes,
    })
}

fn candidates<'a>(
    question: &Question<'a>,
    products: &[Product],
    notes: &mut Vec<String>,
) -> Result<Vec<Candidate<'a>>, NoBids> {
    let mut candidates = Vec::new();
    for product in products.iter().copied().filter(|p| p.is_reserve()) {
        let rule = question
            .rules
            .at(question.area, product, question.day.start())?;
        let Some((_, bands)) = question.capacity.iter().find(|(p, _)| *p == product) else {
            notes.push(format!(
                "{} is not offered: no price forecast",
                product.name()
            ));
            continue;
        };
        for delivery in calendar::deliveries(rule, question.day) {
            let Some(band) = bands.at(delivery.start()) else {
                continue;
            };
            candidates.push(Candidate {
                product,
                rule,
                delivery,
                band: band.clone(),
                proposed: 0.0,
                volume: Power::ZERO,
                lowered: None,
            });
        }
    }
    Ok(candidates)
}

/// What the reduced problem says.
struct Proposal {
    /// What holding costs beside the plan without reserve, per MW and block.
    cost_per_mw: f64,
    gap: f64,
}

/// Solves the reduced problem of the likeliest scenario with all blocks on sale, and writes the volumes into the candidates. `None` if nothing
/// can be sold.
fn propose(
    question: &Question<'_>,
    candidates: &mut [Candidate<'_>],
    notes: &mut Vec<String>,
) -> Result<Option<Proposal>, NoBids> {
    let Some(likeliest) = likeliest(question.scenarios) else {
        return Ok(None);
    };
    let hours = Hours::new(question.grid);
    let mut problem = reduce::problem(question, &likeliest.vehicles, &hours);
    if problem.sessions.is_empty() || candidates.is_empty() {
        return Ok(None);
    }
    let Some(without) = solved(&problem, notes)? else {
        return Ok(None);
    };
    let places = put_on_sale(&mut problem, candidates, &hours);
    let Some(with) = solved(&problem, notes)? else {
        return Ok(None);
    };
    let mut revenue = 0.0;
    let mut sold = 0.0;
    for (candidate, place) in candidates.iter_mut().zip(&places) {
        let Some((product, block)) = *place else {
            continue;
        };
        let mw = with.schedule.block_mw[product][block];
        revenue += mw * candidate.band.median();
        sold += mw;
        candidate.proposed = mw;
        candidate.volume = whole_steps(candidate.rule, mw);
    }
    let cost = (with.net_cost + revenue - without.net_cost).max(0.0);
    Ok(Some(Proposal {
        cost_per_mw: if sold > 0.0 { cost / sold } else { 0.0 },
        gap: with.relative_gap,
    }))
}

fn likeliest(scenarios: &[Scenario]) -> Option<&Scenario> {
    scenarios
        .iter()
        .reduce(|best, s| if s.weight > best.weight { s } else { best })
}

fn solved(problem: &Problem, notes: &mut Vec<String>) -> Result<Option<Answer>, NoBids> {
    match reference::solve(problem).map_err(|e| NoBids::Problem(e.to_string()))? {
        Outcome::Solved(answer) => Ok(Some(*answer)),
        Outcome::Infeasible(at) => {
            notes.push(format!(
                "site {} cannot keep its limit in hour {} of the reduced problem",
                at.site, at.step
            ));
            Ok(None)
        }
        Outcome::Stalled { reason } => {
            notes.push(format!("the reduced problem stalled: {reason}"));
            Ok(None)
        }
    }
}

/// Adds the candidates as blocks; returns product and block number of each.
fn put_on_sale(
    problem: &mut Problem,
    candidates: &[Candidate<'_>],
    hours: &Hours,
) -> Vec<Option<(usize, usize)>> {
    let mut products: Vec<Product> = Vec::new();
    candidates
        .iter()
        .map(|candidate| {
            let steps = hours.range(candidate.delivery)?;
            let product = match products.iter().position(|p| *p == candidate.product) {
                Some(index) => index,
                None => {
                    products.push(candidate.product);
                    problem.reserves.push(reserve_of(candidate));
                    products.len() - 1
                }
            };
            let blocks = &mut problem.reserves[product].blocks;
            blocks.push(reference::Block {
                steps,
                price: candidate.band.median().max(0.0),
            });
            Some((product, blocks.len() - 1))
        })
        .collect()
}

fn reserve_of(candidate: &Candidate<'_>) -> reference::Reserve {
    let endurance = candidate.rule.endurance.as_ref();
    reference::Reserve {
        direction: match direction(candidate.product) {
            Direction::Symmetric => reference::Direction::Symmetric,
            Direction::Up => reference::Direction::Up,
            Direction::Down => reference::Direction::Down,
        },
        power_factor: endurance
            .and_then(|e| e.power_factor.to_f64())
            .unwrap_or(1.0),
        endurance_hours: endurance.map_or(1.0, |e| f64::from(e.minutes) / 60.0),
        blocks: Vec::new(),
    }
}

const fn direction(product: Product) -> Direction {
    match product {
        Product::Fcr => Direction::Symmetric,
        Product::AfrrUp => Direction::Up,
        Product::AfrrDown | Product::DayAhead => Direction::Down,
    }
}

/// The largest tradable volume not above `mw`.
fn whole_steps(rule: &Rule, mw: f64) -> Power {
    // A solver's rounding must not cost a whole step.
    const ROUNDING_WATTS: i64 = 50;
    let step = rule.step.watts().max(1);
    let watts = ((Power::from_mw(mw).watts() + ROUNDING_WATTS) / step) * step;
    let most = rule.maximum.map_or(i64::MAX, Power::watts);
    let volume = Power::from_watts(watts.min(most - most % step));
    if volume < rule.minimum {
        Power::ZERO
    } else {
        volume
    }
}

/// Tries the candidates in every scenario with the planner that will have to hold them, and lowers what falls short.
fn verify(question: &Question<'_>, candidates: &mut [Candidate<'_>]) -> Result<(), NoBids> {
    let allowed = (1.0 - question.probability).max(0.0) + 1e-9;
    for round in 0..=ROUNDS {
        if candidates.iter().all(|c| c.volume == Power::ZERO) {
            return Ok(());
        }
        let position = sold(question, candidates);
        let market = Market::new(
            question.grid,
            question.price.to_vec(),
            &position,
            question.area,
        );
        let plans = question.plans(&position, &market)?;
        let mut fine = true;
        for candidate in candidates.iter_mut().filter(|c| c.volume > Power::ZERO) {
            let (mut weight, mut worst) = (0.0, 0.0_f64);
            for (scenario, made) in question.scenarios.iter().zip(&plans) {
                let short = made
                    .shortages
                    .iter()
                    .filter(|s| {
                        s.product == candidate.product
                            && candidate.delivery.contains(question.grid.at(s.step))
                    })
                    .map(|s| s.kw)
                    .fold(0.0, f64::max);
                if short > 0.0 {
                    weight += scenario.weight;
                    worst = worst.max(short);
                }
            }
            if weight > allowed {
                fine = false;
                lower(candidate, worst, weight, round == ROUNDS);
            }
        }
        if fine {
            return Ok(());
        }
    }
    Ok(())
}

fn lower(candidate: &mut Candidate<'_>, short_kw: f64, weight: f64, last: bool) {
    let step = candidate.rule.step.watts().max(1);
    let short = Power::from_kw(short_kw).watts();
    let steps = (short + step - 1) / step;
    let left = candidate.volume - Power::from_watts(steps.max(1) * step);
    candidate.lowered = Some(format!(
        "{} were {short_kw:.0} kW short in scenarios of {:.0} % weight",
        candidate.volume,
        weight * 100.0
    ));
    candidate.volume = if last || left < candidate.rule.minimum {
        Power::ZERO
    } else {
        left
    };
}

/// The position with all candidates awarded.
fn sold(question: &Question<'_>, candidates: &[Candidate<'_>]) -> Position {
    let mut position = question.position.clone();
    for candidate in candidates.iter().filter(|c| c.volume > Power::ZERO) {
        let bid = market::BidId::derive(
            question.area.code(),
            candidate.product.name(),
            candidate.delivery.start(),
            u32::MAX,
        );
        position.apply(Award {
            id: AwardId(bid.0),
            bid,
            area: question.area,
            product: candidate.product,
            direction: direction(candidate.product),
            delivery: candidate.delivery,
            volume: candidate.volume,
            price: Price::new(0.into(), question.area.currency()),
            awarded_at: question.now(),
        });
    }
    position
}

/// The bid, or why it is better not made.
fn bid(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    cost: f64,
) -> Result<Result<Bid, String>, NoBids> {
    let expected = candidate.band.median();
    let penalty = candidate
        .rule
        .penalty
        .map_or(0.0, |p| f64::from(p.unavailable_factor));
    let margin = (1.0 - question.probability).max(0.0) * penalty * expected.max(0.0);
    let least = cost + margin;
    let currency = question.area.currency();
    let start = candidate
        .delivery
        .start()
        .with_timezone(&candidate.rule.calendar_zone);
    if least > expected {
        return Ok(Err(format!(
            "{} from {} is not offered: holding costs {least:.2} {currency}/MW, {expected:.2} is expected",
            candidate.product.name(),
            start.format("%H:%M"),
        )));
    }
    let limit = match candidate.rule.pricing {
        Pricing::Marginal => least,
        Pricing::PayAsBid => best_price(&candidate.band, least),
    };
    let price = on_step(question, candidate, limit);
    let offer = Offer {
        area: question.area,
        product: candidate.product,
        direction: direction(candidate.product),
        delivery_start: candidate.delivery.start(),
        volume: candidate.volume,
        price,
        divisible: true,
        revision: question.revision,
        delivery_probability: question.probability,
        reason: reason(question, candidate, cost, margin, expected),
    };
    Ok(Ok(Bid::try_new(question.rules, offer, question.now())?))
}

fn reason(
    question: &Question<'_>,
    candidate: &Candidate<'_>,
    cost: f64,
    margin: f64,
    expected: f64,
) -> String {
    let currency = question.area.currency();
    let bound = candidate.lowered.clone().unwrap_or_else(|| {
        format!(
            "power and energy of the vehicles allow {:.2} MW at this price",
            candidate.proposed
        )
    });
    format!(
        "{} held in {:.0} % of {} day scenarios; {bound}; holding costs {cost:.2} {currency}/MW, margin {margin:.2}, expected clearing {expected:.2}",
        candidate.volume,
        question.probability * 100.0,
        question.scenarios.len(),
    )
}

/// Where what is paid is what was asked: the level of the price forecast with the most expected gain over the cost.
fn best_price(band: &Band, least: f64) -> f64 {
    band.levels()
        .iter()
        .zip(band.values())
        .filter(|(_, price)| **price >= least)
        .map(|(level, price)| ((price - least) * (1.0 - level), *price))
        .fold(
            (0.0, least),
            |best, this| if this.0 > best.0 { this } else { best },
        )
        .1
}

/// A limit on the market's price step, not below its floor.
fn on_step(question: &Question<'_>, candidate: &Candidate<'_>, limit: f64) -> Option<Price> {
    let rule = &candidate.rule.price;
    let currency = question.area.currency();
    let platform = Price::from_f64(limit.max(0.0), 6, currency)?;
    let market = rule
        .unit
        .from_platform(platform.per_unit(), candidate.delivery);
    let steps = (market / rule.step).ceil();
    let market = (steps * rule.step).max(rule.floor.unwrap_or_default());
    Some(Price::new(
        rule.unit.to_platform(market, candidate.delivery),
        currency,
    ))
}
