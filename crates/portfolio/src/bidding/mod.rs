//! What to offer before a gate.
//!
//! **Reserve** ([`reserve`]). A reduced reference problem (like stays added up, windows rounded inwards to the hour) proposes volumes for all blocks
//! of the day and all products at once, at forecast prices; whole steps of the product are kept of them. Each proposal is then tried in
//! every day scenario with the planner that will have to hold it ([`crate::rolling`]): a block that falls short in scenarios of more weight
//! than the asked probability leaves is lowered until it does not. The limit price is what holding costs on average, plus a margin for the
//! penalty.
//!
//! **Energy** ([`energy`]). The expected load of the pool over the scenarios, planned at forecast prices around the reserve already sold.

mod energy;
mod reduce;
mod reserve;
#[cfg(test)]
mod tests;

pub use energy::energy;
pub use reserve::reserve;

use chrono::{DateTime, Utc};
use market::{Area, Bid, BidError, NoRule, Position, Product, Rules};
use units::{Band, DeliveryDay, Series};

use crate::rolling::{self, Costs, Grid, Market, Site, Vehicle};

/// One way the day may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Probability; those of all scenarios add to 1.
    pub weight: f64,
    /// Everybody who is there between now and the end of the day, on the grid of the question.
    pub vehicles: Vec<Vehicle>,
}

/// What is asked: bids for one delivery day.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Where.
    pub area: Area,
    /// Product rules.
    pub rules: &'a Rules,
    /// Delivery day.
    pub day: DeliveryDay,
    /// From now to the end of the day at least.
    pub grid: &'a Grid,
    /// How the time until the end of the day may go; at least one.
    pub scenarios: &'a [Scenario],
    /// Grid connection points.
    pub sites: &'a [Site],
    /// Awards that must be held.
    pub position: &'a Position,
    /// Expected price of energy per step of the grid, EUR/MWh.
    pub price: &'a [f64],
    /// Expected capacity prices per MW for the whole block, by product; held over the block. A product without one is not offered.
    pub capacity: &'a [(Product, Series<Band>)],
    /// Probability with which the pool must be able to deliver.
    pub probability: f64,
    /// Counts up when bids for the same delivery are replaced.
    pub revision: u32,
    /// Fees, wear, imbalance.
    pub costs: Costs,
}

/// Why no bids were made.
#[derive(Debug, thiserror::Error)]
pub enum NoBids {
    /// There is no scenario, or the grid ends before the day.
    #[error("{0}")]
    Question(String),
    /// The product is not traded.
    #[error(transparent)]
    NoRule(#[from] NoRule),
    /// A bid broke a rule of the product.
    #[error(transparent)]
    Bid(#[from] BidError),
    /// The planner refused its input.
    #[error(transparent)]
    Plan(#[from] rolling::Refused),
    /// The reduced problem does not pass its own check.
    #[error("reduced problem: {0}")]
    Problem(String),
}

/// Bids with what there is to say about how they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered {
    /// Valid drafts in order of product and delivery.
    pub bids: Vec<Bid>,
    /// Proven gap of the reduced problem, relative; `None` where none was solved.
    pub gap: Option<f64>,
    /// Anything an operator should know.
    pub notes: Vec<String>,
}

impl Question<'_> {
    fn check(&self) -> Result<(), NoBids> {
        if self.scenarios.is_empty() {
            return Err(NoBids::Question(
                "no scenario of the day to bid for".to_owned(),
            ));
        }
        if self.grid.end() < self.day.end() {
            return Err(NoBids::Question(format!(
                "the grid ends at {}, before the delivery day ends at {}",
                self.grid.end(),
                self.day.end()
            )));
        }
        Ok(())
    }

    fn now(&self) -> DateTime<Utc> {
        self.grid.now()
    }

    /// The plan of one scenario with `position` sold.
    fn plan(
        &self,
        scenario: &Scenario,
        position: &Position,
        market: &Market,
    ) -> Result<rolling::Made, NoBids> {
        let input = rolling::Input {
            area: self.area,
            data_until: self.now(),
            grid: self.grid,
            vehicles: &scenario.vehicles,
            plain: &[],
            sites: self.sites,
            position,
            rules: self.rules,
            market,
            costs: self.costs,
        };
        Ok(rolling::plan(&input)?)
    }

    /// The plans of all scenarios, on two threads; in order of the scenarios.
    fn plans(&self, position: &Position, market: &Market) -> Result<Vec<rolling::Made>, NoBids> {
        const THREADS: usize = 2;
        let share = self.scenarios.len().div_ceil(THREADS).max(1);
        let parts: Vec<Result<Vec<rolling::Made>, NoBids>> = std::thread::scope(|scope| {
            let handles: Vec<_> = self
                .scenarios
                .chunks(share)
                .map(|part| {
                    scope.spawn(move || {
                        part.iter()
                            .map(|s| self.plan(s, position, market))
                            .collect()
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|h| {
                    h.join().unwrap_or_else(|_| {
                        Err(NoBids::Question("a planning thread was lost".to_owned()))
                    })
                })
                .collect()
        });
        let mut made = Vec::with_capacity(self.scenarios.len());
        for part in parts {
            made.extend(part?);
        }
        Ok(made)
    }
}
