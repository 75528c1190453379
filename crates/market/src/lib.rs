#![doc = include_str!("../README.md")]

pub mod area;
pub mod award;
pub mod bid;
pub mod ids;
pub mod plan;
pub mod product;
pub mod signal;
pub mod statement;

pub use area::Area;
pub use award::{Award, Clearing};
pub use bid::{Bid, BidStatus};
pub use ids::{AwardId, BidId, PlanId};
pub use plan::Plan;
pub use product::{Direction, Product};
pub use signal::GridSignal;
pub use statement::Statement;
