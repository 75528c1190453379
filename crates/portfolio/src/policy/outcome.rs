//! Plan against outcome: what each day cost, the dear tail of the days, and by how much plans were too optimistic.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of days are far below 2^53"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::NaiveDate;

use super::account::deviation_cost;
use super::{Run, penalty, risk};
use crate::case::{Case, Risk};

/// Energy, fees, wear and imbalance of each step, currency.
#[must_use]
pub fn step_costs(case: &Case, run: &Run) -> Vec<f64> {
    let (charge, discharge) = run.load(case);
    let mwh = case.grid.hours() / 1000.0;
    (0..case.grid.steps)
        .map(|t| {
            let (c, d) = (charge[t], discharge[t]);
            let energy = case.import_price(t) * c - case.export_price(t) * d + case.costs.wear * d;
            let sold = run.sold_kw.as_ref().map_or(c - d, |sold| sold[t]);
            mwh * (energy + deviation_cost(case, t, c - d - sold))
        })
        .collect()
}

/// Cost of each local day, currency: its steps, less what its reserve blocks earn, with their penalties. Without the
/// demand charge, which belongs to the month.
#[must_use]
pub fn daily_costs(case: &Case, run: &Run) -> BTreeMap<NaiveDate, f64> {
    let zone = case.area.zone();
    let date = |t: usize| case.grid.at(t).with_timezone(&zone).date_naive();
    let mut days: BTreeMap<NaiveDate, f64> = BTreeMap::new();
    for (t, cost) in step_costs(case, run).into_iter().enumerate() {
        *days.entry(date(t)).or_default() += cost;
    }
    for block in penalty::blocks(case, run) {
        *days.entry(date(block.steps.start)).or_default() += block.penalty - block.revenue;
    }
    days
}

/// Mean of the dearest `1 - alpha` of `costs`, the last of them in part: the conditional value at risk of a cost.
/// Zero without any.
#[must_use]
pub fn dear_tail(costs: impl IntoIterator<Item = f64>, alpha: f64) -> f64 {
    let mut costs: Vec<f64> = costs.into_iter().collect();
    costs.sort_by(|a, b| b.total_cmp(a));
    let size = ((1.0 - alpha) * costs.len() as f64).max(1e-9);
    let mut left = size;
    let mut sum = 0.0;
    for cost in costs {
        let part = left.clamp(0.0, 1.0);
        sum += part * cost;
        left -= part;
    }
    sum / size
}

/// Mean of the dearest `1 - alpha` of `costs` of these probabilities, which add to 1.
pub(crate) fn weighed_tail(costs: &[f64], odds: &[f64], alpha: f64) -> f64 {
    let tail = Risk {
        beta: 1.0,
        cvar_alpha: alpha,
        ..Risk::default()
    };
    risk::judged(tail, costs, odds)
}

/// Mean of `values`; `None` without any.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len() as f64;
    (count > 0.0).then(|| values.sum::<f64>() / count)
}

/// Blocks in which reserve was sold, and those in which some of it was missing at some time.
#[must_use]
pub fn joint_shortfall(case: &Case, run: &Run) -> (usize, usize) {
    let (mut sold, mut short) = (0, 0);
    for (p, reserve) in case.reserves.iter().enumerate() {
        for (b, (_, steps)) in reserve.on_sale().enumerate() {
            let mw = run.sold_mw.get(p).and_then(|v| v.get(b)).copied();
            if mw.unwrap_or(0.0) <= 0.0 {
                continue;
            }
            sold += 1;
            let missing = run.missing_mw.get(p).map(|m| &m[steps]);
            short += usize::from(missing.is_some_and(|m| m.iter().any(|x| *x > 0.0)));
        }
    }
    (sold, short)
}

/// A span of steps sold ahead.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Its steps.
    pub steps: Range<usize>,
    /// What it was expected to cost when its price was out, currency: energy, fees, wear and imbalance.
    pub expected: f64,
    /// What it did cost.
    pub cost: f64,
}

/// The spans sold ahead, in order; empty where nothing was planned.
#[must_use]
pub fn spans(case: &Case, run: &Run) -> Vec<Span> {
    let costs = step_costs(case, run);
    let span = |(steps, expected): &(Range<usize>, f64)| Span {
        steps: steps.clone(),
        expected: *expected,
        cost: costs[steps.clone()].iter().sum(),
    };
    run.planned.iter().map(span).collect()
}

/// What the planned spans were expected to cost in all, and what they cost more; `None` where nothing was planned.
#[must_use]
pub fn plan_and_gap(case: &Case, run: &Run) -> Option<(f64, f64)> {
    let spans = spans(case, run);
    let expected: f64 = spans.iter().map(|span| span.expected).sum();
    let cost: f64 = spans.iter().map(|span| span.cost).sum();
    (!spans.is_empty()).then_some((expected, cost - expected))
}

#[cfg(test)]
mod tests {
    use super::dear_tail;

    #[test]
    fn the_dear_tail_counts_the_last_day_in_part() {
        let costs = [1.0, 5.0, 3.0, 2.0];
        assert!((dear_tail(costs, 0.75) - 5.0).abs() < 1e-12);
        assert!((dear_tail(costs, 0.625) - (5.0 + 0.5 * 3.0) / 1.5).abs() < 1e-12);
        assert!((dear_tail(costs, 0.0) - 2.75).abs() < 1e-12);
        assert!((dear_tail(costs, 0.99) - 5.0).abs() < 1e-9);
    }
}
