//! Prices and what reserve calls for, before the gate.
//!
//! - [`walk`]: day-ahead prices as bands and whole-day scenarios, every day from what was known before its gate; [`score()`]
//!   says how good they were. Linear lines of several windows, boosted quantile trees on what they miss, bands from the
//!   errors of the last weeks.
//! - [`MarginalPrice`]: capacity prices of FCR and aFRR for bidding; [`spread_band`]: imbalance and intraday over day-ahead.
//! - [`activations`], [`expected`]: energy per MW that one-second frequency calls for.

mod activation;
mod days;
mod lasso;
mod lear;
mod model;
mod reserve;
mod score;

#[cfg(test)]
mod tests;

pub use activation::{Activation, Droop, ExpectedActivation, activations, expected};
pub use days::{HOURS, Hours, PriceDay, PriceDays, PriceError, clock_hours, german_holiday};
pub use model::{HISTORY, PriceForecast, walk};
pub use reserve::{BlockPrice, MarginalPrice, spread_band};
pub use score::{Coverage, PriceScores, PublishedScores, score};
