#![doc = include_str!("../README.md")]

pub mod area;
pub mod award;
pub mod baseline;
pub mod bid;
pub mod calendar;
pub mod dimming;
pub mod gate;
pub mod holding;
pub mod ids;
pub mod plan;
pub mod position;
pub mod product;
pub mod reserve;
pub mod rules;
pub mod settlement;
pub mod signal;
pub mod statement;
pub mod thailand;

pub use area::Area;
pub use award::{Award, Clearing};
pub use baseline::Baselines;
pub use bid::{Bid, BidError, BidStatus, Offer};
pub use holding::{Holding, Holdings, Need};
pub use ids::{AwardId, BidId, PlanId};
pub use plan::Plan;
pub use position::Position;
pub use product::{Direction, Product};
pub use rules::{NoRule, Rule, Rules};
pub use signal::GridSignal;
pub use statement::Statement;
