//! Power promised with 90 %: what would have been sold at the gate, and what came of it.

use serde::Serialize;

use super::super::log::Log;
use super::super::num::size;
use super::super::observed::Observed;
use super::score::{binomial_95, pit, quantile};
use crate::Quantity;
use crate::availability::{Availability, Forecaster};

/// Share of blocks that may fall short.
const SHORT: f64 = 0.10;
/// Days of past gates the level is recalibrated by.
const MEMORY_DAYS: i32 = 42;
/// Blocks of agreement with the forecast's own level that the past must outweigh: ten days of six.
const PRIOR_BLOCKS: f64 = 60.0;
/// Local clock of the gate on the day before.
const GATE: i64 = 6 * 3600;
/// Hours of a block; six on most days.
const BLOCK_HOURS: i64 = 4;
const STEP: i64 = 900;

/// One block offered at a gate.
#[derive(Debug, Clone)]
struct Block {
    day: i32,
    end: i64,
    /// Lowest power up within the block, path by path, sorted.
    paths: Vec<f32>,
    /// What was sold, kW.
    sold: f64,
    /// What came, quarter hour by quarter hour.
    came: Vec<f64>,
}

impl Block {
    fn lowest(&self) -> f64 {
        self.came.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Sold with 90 %, block by block.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sale {
    /// Blocks in the test.
    pub blocks: usize,
    /// Blocks with something to sell.
    pub offered: usize,
    /// Offered blocks in which less was there than was sold.
    pub short: usize,
    /// 95th percentile of Binomial(offered, 0.10).
    pub short_limit: usize,
    /// Energy not served over energy sold.
    pub unserved_ratio: f64,
    /// Sold over what perfect foresight would have sold.
    pub of_perfect_ratio: f64,
    /// Sold over what the best fixed level of the same forecasts would have sold, known afterwards.
    pub of_best_level_ratio: f64,
    /// That level.
    pub best_level: f64,
}

/// Sells day after day, walking forward.
#[derive(Debug, Default)]
pub(super) struct Tally {
    past: Vec<Block>,
}

/// Days before the test from which on gates are played, so that the level is known when it begins.
pub(super) const WARM_DAYS: i32 = MEMORY_DAYS;

/// Whether the gate for the next day closes at `origin`.
pub(super) fn is_gate(log: &Log, origin: i64) -> bool {
    log.clock(origin).1 == GATE
}

impl Tally {
    /// Sells the blocks of the day after the gate at which `ahead` was made.
    pub(super) fn add(
        &mut self,
        forecaster: &Forecaster<'_>,
        truth: &Observed,
        ahead: &Availability,
    ) {
        let log = forecaster.log();
        let gate = ahead.until.timestamp();
        let day = log.clock(gate).0 + 1;
        let level = level(forecaster, &self.past, gate);
        for hour in (0..24).step_by(4) {
            let from = log.instant(day, hour * 3600);
            let to = if hour == 20 {
                log.instant(day + 1, 0)
            } else {
                log.instant(day, (hour + BLOCK_HOURS) * 3600)
            };
            let (a, b) = ((from - gate) / STEP, (to - gate) / STEP);
            let mut paths: Vec<f32> = ahead.paths.lowest(Quantity::PowerUp, a, b);
            paths.sort_by(f32::total_cmp);
            let came: Option<Vec<f64>> = (a..b)
                .map(|k| truth.at(Quantity::PowerUp, gate + k * STEP))
                .collect();
            let Some(came) = came else { continue };
            self.past.push(Block {
                day,
                end: to,
                sold: quantile(&paths, level).max(0.0),
                paths,
                came,
            });
        }
    }

    /// What came of the blocks of days from `first` to before `last`.
    pub(super) fn finish(mut self, first: i32, last: i32) -> Sale {
        self.past.retain(|b| (first..last).contains(&b.day));
        total(&self.past)
    }
}

/// The forecast's own 10 % level, moved to where past outcomes reached 10 %.
fn level(forecaster: &Forecaster<'_>, past: &[Block], gate: i64) -> f64 {
    let view = forecaster.log().view(gate);
    let observed = Observed::new(
        &view,
        forecaster.log().off(),
        i64::from(MEMORY_DAYS) + 3,
        STEP,
    );
    let mut pits: Vec<f64> = past
        .iter()
        .filter(|b| b.end <= gate)
        .filter_map(|b| {
            let steps = i64::try_from(b.came.len()).unwrap_or(0);
            let came: Option<Vec<f64>> = (1..=steps)
                .map(|k| observed.at(Quantity::PowerUp, b.end - k * STEP))
                .collect();
            let lowest = came?.into_iter().fold(f64::INFINITY, f64::min);
            // Nothing to sell tells nothing.
            (b.paths.last().is_some_and(|p| *p > 0.0))
                .then(|| pit(&b.paths, lowest, super::baseline::chance(7, b.end, 0)))
        })
        .collect();
    pits.sort_by(f64::total_cmp);
    if pits.is_empty() {
        return SHORT;
    }
    let reached = super::score::linear(&pits, SHORT);
    let count = size(pits.len());
    let level = (count * reached + PRIOR_BLOCKS * SHORT) / (count + PRIOR_BLOCKS);
    level.clamp(0.01, 0.3)
}

fn total(blocks: &[Block]) -> Sale {
    let offered: Vec<&Block> = blocks.iter().filter(|b| b.sold > 0.0).collect();
    let short = |sold: f64, block: &Block| block.lowest() < sold - 1e-3;
    let sold: f64 = offered.iter().map(|b| b.sold * size(b.came.len())).sum();
    let perfect: f64 = blocks.iter().map(|b| b.lowest() * size(b.came.len())).sum();
    let unserved: f64 = offered
        .iter()
        .flat_map(|b| b.came.iter().map(|c| (b.sold - c).max(0.0)))
        .sum();
    let (best_level, best) = (1..=50_u32)
        .map(|l| f64::from(l) / 100.0)
        .filter_map(|level| {
            let of = |b: &Block| quantile(&b.paths, level);
            let on: Vec<&Block> = blocks.iter().filter(|b| of(b) > 0.0).collect();
            let missed = on.iter().filter(|b| short(of(b), b)).count();
            let volume: f64 = on.iter().map(|b| of(b) * size(b.came.len())).sum();
            (missed <= binomial_95(on.len(), SHORT)).then_some((level, volume))
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0.0, 0.0));
    // The sum of nothing is -0.
    let over = |part: f64, whole: f64| {
        if whole > 0.0 && part > 0.0 {
            part / whole
        } else {
            0.0
        }
    };
    Sale {
        blocks: blocks.len(),
        offered: offered.len(),
        short: offered.iter().filter(|b| short(b.sold, b)).count(),
        short_limit: binomial_95(offered.len(), SHORT),
        unserved_ratio: over(unserved, sold),
        of_perfect_ratio: over(sold, perfect),
        of_best_level_ratio: over(sold, best),
        best_level,
    }
}

/// Origins every three hours of the local clock on the days from `first` to before `last`.
pub(super) fn origins(log: &Log, first: i32, last: i32) -> Vec<i64> {
    let mut origins: Vec<i64> = (first..last)
        .flat_map(|day| (0..24).step_by(3).map(move |hour| (day, hour)))
        .map(|(day, hour)| log.instant(day, 3600 * hour))
        .collect();
    origins.dedup();
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sells_nothing_sold_nothing_of_what_there_was() {
        let block = Block {
            day: 0,
            end: 4 * 3600,
            paths: vec![0.0; 20],
            sold: 0.0,
            came: vec![11.0; 16],
        };
        let sale = total(&[block]);
        assert_eq!((sale.blocks, sale.offered, sale.short), (1, 0, 0));
        assert_eq!(format!("{:.2}", sale.of_perfect_ratio), "0.00");
    }
}
