#![doc = include_str!("../README.md")]

pub mod admin;
mod clock;
pub mod config;
pub mod front;
pub mod latency;
pub mod memory;
pub mod pipe;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use clock::Clock;
