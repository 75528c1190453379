#![doc = include_str!("../README.md")]

pub mod battery;
mod build;
mod dice;
pub mod driver;
pub mod exchange;
pub mod fleet;
pub mod frequency;
pub mod price;
pub mod station;
pub mod synth;
mod timetable;
pub mod twin;
mod waves;
