#![doc = include_str!("../README.md")]

pub mod admin;
mod clock;
pub mod config;
pub mod latency;
pub mod pipe;
pub mod tasks;
pub mod telemetry;

pub use clock::Clock;
