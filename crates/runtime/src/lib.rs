#![doc = include_str!("../README.md")]

pub mod admin;
mod clock;
pub mod config;
mod export;
pub mod front;
pub mod latency;
pub mod memory;
pub mod pipe;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod trace;
mod traced;

pub use clock::Clock;
pub use export::{Exporting, Telemetry};
