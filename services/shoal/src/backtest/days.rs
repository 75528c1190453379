//! Figures by local day and hour, for the pictures of the report.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of steps are far below 2^53"
)]

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{NaiveDate, Timelike};
use portfolio::case::Case;
use portfolio::policy::outcome;
use serde::Serialize;

use super::report::Played;

/// Mean of each interval of the local day.
#[derive(Debug, Serialize)]
pub(super) struct AverageDay {
    /// Start of each interval, hours after local midnight.
    pub(super) hour: Vec<f64>,
    /// Mean day-ahead price.
    pub(super) price: Vec<f64>,
    /// Mean net power, kW, per policy; positive charges.
    pub(super) load: Vec<Vec<f64>>,
}

/// Mean net power where the price was in one range.
#[derive(Debug, Serialize)]
pub(super) struct PriceBands {
    /// Mean price of each band, each holding as many intervals as the others.
    pub(super) price: Vec<f64>,
    /// Mean net power, kW, per policy.
    pub(super) load: Vec<Vec<f64>>,
}

/// One local day in full.
#[derive(Debug, Serialize)]
pub(super) struct Day {
    pub(super) date: NaiveDate,
    /// Start of each interval, hours after local midnight (a day of 23 or 25 hours ends there).
    pub(super) hour: Vec<f64>,
    pub(super) price: Vec<f64>,
    pub(super) load: Vec<Vec<f64>>,
    /// What the day cost under each policy: energy, fees, wear and imbalance.
    pub(super) cost: Vec<f64>,
}

/// Net power of each policy, kW per step.
pub(super) fn loads(case: &Case, played: &[Played]) -> Vec<Vec<f64>> {
    played
        .iter()
        .map(|p| {
            let (charge, discharge) = p.run.load(case);
            charge.iter().zip(&discharge).map(|(c, d)| c - d).collect()
        })
        .collect()
}

/// Means over all days by local clock time.
pub(super) fn average(case: &Case, loads: &[Vec<f64>]) -> AverageDay {
    let zone = case.area.zone();
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for t in 0..case.grid.steps {
        let local = case.grid.at(t).with_timezone(&zone);
        groups
            .entry(local.num_seconds_from_midnight())
            .or_default()
            .push(t);
    }
    let mean = |values: &[f64]| -> Vec<f64> {
        groups
            .values()
            .map(|ts| ts.iter().map(|t| values[*t]).sum::<f64>() / ts.len() as f64)
            .collect()
    };
    AverageDay {
        hour: groups.keys().map(|s| f64::from(*s) / 3600.0).collect(),
        price: mean(&case.prices.day_ahead),
        load: loads.iter().map(|l| mean(l)).collect(),
    }
}

/// Means over bands of equal numbers of intervals, by price.
pub(super) fn bands(case: &Case, loads: &[Vec<f64>]) -> PriceBands {
    const BANDS: usize = 16;
    let mut order: Vec<usize> = (0..case.grid.steps).collect();
    order.sort_by(|a, b| case.prices.day_ahead[*a].total_cmp(&case.prices.day_ahead[*b]));
    let size = case.grid.steps.div_ceil(BANDS).max(1);
    let mean = |values: &[f64]| -> Vec<f64> {
        order
            .chunks(size)
            .map(|ts| ts.iter().map(|t| values[*t]).sum::<f64>() / ts.len() as f64)
            .collect()
    };
    PriceBands {
        price: mean(&case.prices.day_ahead),
        load: loads.iter().map(|l| mean(l)).collect(),
    }
}

/// The days on which the policy at index `of` saved most and least (or lost most) against that at `against`.
pub(super) fn best_and_worst(
    case: &Case,
    played: &[Played],
    loads: &[Vec<f64>],
    of: usize,
    against: usize,
) -> Vec<Day> {
    let zone = case.area.zone();
    let mut spans: BTreeMap<NaiveDate, Range<usize>> = BTreeMap::new();
    for t in 0..case.grid.steps {
        let date = case.grid.at(t).with_timezone(&zone).date_naive();
        spans.entry(date).or_insert(t..t).end = t + 1;
    }
    let costs: Vec<Vec<f64>> = played
        .iter()
        .map(|p| outcome::step_costs(case, &p.run))
        .collect();
    let sum = |policy: usize, span: &Range<usize>| costs[policy][span.clone()].iter().sum::<f64>();
    let saved = |span: &Range<usize>| sum(against, span) - sum(of, span);
    let by_saving = |a: &(&NaiveDate, &Range<usize>), b: &(&NaiveDate, &Range<usize>)| {
        saved(a.1).total_cmp(&saved(b.1))
    };
    let picked = [
        spans.iter().max_by(by_saving),
        spans.iter().min_by(by_saving),
    ];
    picked
        .into_iter()
        .flatten()
        .map(|(date, span)| Day {
            date: *date,
            hour: span
                .clone()
                .map(|t| (t - span.start) as f64 * case.grid.hours())
                .collect(),
            price: case.prices.day_ahead[span.clone()].to_vec(),
            load: loads.iter().map(|l| l[span.clone()].to_vec()).collect(),
            cost: (0..played.len()).map(|p| sum(p, span)).collect(),
        })
        .collect()
}
