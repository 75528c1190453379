#![doc = include_str!("../README.md")]

pub mod availability;
mod calendar;
mod history;
mod naive;
pub mod parallel;
pub mod price;
mod profile;
mod quantile;
mod scenario;
mod stay;
mod trees;

pub use history::History;
pub use naive::{Forecast, Naive, NoHistory, Range};
pub use profile::{Quantity, profile};
pub use quantile::quantiles;
pub use scenario::{Days, Scenario, Scenarios};
pub use stay::{Plugged, Stay};

/// Levels of the score: what a forecast is judged by.
pub const LEVELS: [f64; 7] = [0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95];
