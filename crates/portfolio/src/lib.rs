#![doc = include_str!("../README.md")]

pub mod bidding;
pub mod case;
pub mod policy;
pub mod reference;
pub mod rolling;
mod scale;
pub mod stack;
pub mod storage;

// Whoever runs the optimiser speaks in these types; one arrow to this crate is enough.
pub use fleet;
pub use forecast;
pub use market;
