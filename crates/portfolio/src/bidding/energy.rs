//! Energy: what the pool is expected to take, market time unit by market time unit.

use market::{Bid, Direction, Offer, Product, calendar};
use units::{Interval, Power};

use super::{NoBids, Offered, Question};
use crate::rolling::{Made, Market};

/// Day-ahead bids of the day asked for: the expected load of the best plans at forecast prices around the reserve already sold. They take any
/// price: the vehicles must drive.
///
/// # Errors
/// [`NoBids`] for a question without scenarios or with a grid that is too short, or a bid that breaks a rule.
pub fn energy(question: &Question<'_>) -> Result<Offered, NoBids> {
    question.check()?;
    let rule = question
        .rules
        .at(question.area, Product::DayAhead, question.day.start())?;
    let market = Market::new(
        question.grid,
        question.price.to_vec(),
        question.position,
        question.area,
    );
    let plans = question.plans(question.position, &market)?;
    let mut bids: Vec<Bid> = Vec::new();
    for delivery in calendar::deliveries(rule, question.day) {
        let expected = expected(question, &plans, delivery);
        let step = rule.step.watts().max(1);
        let steps = (Power::from_kw(expected.abs()).watts() + step / 2) / step;
        let volume = Power::from_watts(steps * step);
        if volume < rule.minimum {
            continue;
        }
        let direction = if expected > 0.0 {
            Direction::Down
        } else {
            Direction::Up
        };
        let signed = if expected > 0.0 {
            volume.kw()
        } else {
            -volume.kw()
        };
        let offer = Offer {
            area: question.area,
            product: Product::DayAhead,
            direction,
            delivery_start: delivery.start(),
            volume,
            price: None,
            divisible: true,
            revision: question.revision,
            delivery_probability: reachable(question, &plans, delivery, signed),
            reason: reason(question, &plans, delivery, expected),
        };
        bids.push(Bid::try_new(question.rules, offer, question.now())?);
    }
    Ok(Offered {
        bids,
        gap: None,
        notes: Vec::new(),
    })
}

/// Steps of the grid inside `delivery`.
fn steps<'a>(question: &'a Question<'_>, delivery: Interval) -> impl Iterator<Item = usize> + 'a {
    (0..question.grid.len()).filter(move |step| delivery.contains(question.grid.at(*step)))
}

/// Mean power of the pool in `delivery` over all scenarios, kW.
fn expected(question: &Question<'_>, plans: &[Made], delivery: Interval) -> f64 {
    let count = steps(question, delivery).count().max(1);
    #[expect(clippy::cast_precision_loss, reason = "a handful of steps")]
    let each = 1.0 / count as f64;
    question
        .scenarios
        .iter()
        .zip(plans)
        .map(|(scenario, made)| {
            let mean: f64 = steps(question, delivery)
                .map(|s| made.pool_kw[s] * each)
                .sum();
            scenario.weight * mean
        })
        .sum()
}

/// Weight of the scenarios in which the pool can run at `kw` throughout `delivery`.
fn reachable(question: &Question<'_>, plans: &[Made], delivery: Interval, kw: f64) -> f64 {
    let weight: f64 = question
        .scenarios
        .iter()
        .zip(plans)
        .filter(|(_, made)| {
            steps(question, delivery).all(|s| {
                made.plan
                    .steps
                    .get(s)
                    .is_some_and(|p| p.low.kw() <= kw && kw <= p.high.kw())
            })
        })
        .map(|(scenario, _)| scenario.weight)
        .sum();
    weight.clamp(0.0, 1.0)
}

fn reason(question: &Question<'_>, plans: &[Made], delivery: Interval, expected: f64) -> String {
    let first = steps(question, delivery).next();
    let price = first
        .and_then(|s| question.price.get(s))
        .copied()
        .unwrap_or_default();
    let binding = first
        .and_then(|s| plans.first()?.plan.steps.get(s))
        .map(|s| s.reason.as_str())
        .filter(|r| !r.is_empty());
    let currency = question.area.currency();
    let mut words = format!(
        "expected load {expected:.0} kW over {} day scenarios at {price:.1} {currency}/MWh",
        plans.len()
    );
    if let Some(binding) = binding {
        words.push_str("; ");
        words.push_str(binding);
    }
    words
}
