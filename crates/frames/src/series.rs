//! Series over time: as published, and resolved on the grid of a scenario.

mod grid;
mod points;

pub(crate) use grid::{Window, blocks, grid};
pub(crate) use points::{START_COLUMNS, SeriesFile, read};

use chrono::{DateTime, TimeDelta, Utc};

/// Published values in order of time, also outside the scenario's period: forecasts learn from what lies before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawSeries {
    /// Interval starts, strictly rising.
    pub starts: Vec<DateTime<Utc>>,
    /// One value per start.
    pub values: Vec<f64>,
}

/// A series on the scenario's grid.
#[derive(Debug, Clone, PartialEq)]
pub struct GridSeries {
    /// One value per step of the period, held or averaged from the published intervals.
    pub values: Vec<f64>,
    /// Published intervals that were missing in the period and held over by `fill = "hold"`.
    pub gaps_filled: usize,
    /// Everything the file has, including before and after the period.
    pub raw: RawSeries,
}

/// Whether a capacity price is paid per block or per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Per MW for the whole block.
    Block,
    /// Per MW and hour.
    Hour,
}

/// One capacity product: a span and its published price.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReserveBlock {
    /// First instant.
    pub start: DateTime<Utc>,
    /// First instant after.
    pub end: DateTime<Utc>,
    /// Price as published, see `per`.
    pub price: f64,
    /// What the price is per.
    pub per: Per,
}

/// Capacity products of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct ReserveBlocks {
    /// Blocks wholly inside the period, in order; a block that the period's edge cuts is left out.
    pub blocks: Vec<ReserveBlock>,
    /// Blocks that were missing and held over by `fill = "hold"`.
    pub gaps_filled: usize,
    /// Every block of the file, in order.
    pub all: Vec<ReserveBlock>,
}

impl ReserveBlock {
    /// Length in hours: 3 or 5 for the first 4-hour block of a change day.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a block has far fewer than 2^53 seconds"
    )]
    pub fn hours(&self) -> f64 {
        (self.end - self.start).num_seconds() as f64 / 3600.0
    }

    /// Paid per MW for the whole block.
    #[must_use]
    pub fn price_per_mw(&self) -> f64 {
        match self.per {
            Per::Block => self.price,
            Per::Hour => self.price * self.hours(),
        }
    }

    /// Paid per MW and hour.
    #[must_use]
    pub fn price_per_mw_hour(&self) -> f64 {
        match self.per {
            Per::Block => self.price / self.hours(),
            Per::Hour => self.price,
        }
    }
}

impl RawSeries {
    /// The part before `instant`: what a forecast made then may know, if each value is known at its start.
    #[must_use]
    pub fn before(&self, instant: DateTime<Utc>) -> (&[DateTime<Utc>], &[f64]) {
        let n = self.starts.partition_point(|at| *at < instant);
        (&self.starts[..n], &self.values[..n])
    }

    /// Value that holds at `instant`: that of the last start not after it, if less than `longest` ago.
    #[must_use]
    pub fn at(&self, instant: DateTime<Utc>, longest: TimeDelta) -> Option<f64> {
        let n = self
            .starts
            .partition_point(|at| *at <= instant)
            .checked_sub(1)?;
        (instant - self.starts[n] < longest).then(|| self.values[n])
    }
}
