#![doc = include_str!("../README.md")]

pub mod battery;
mod build;
mod dice;
pub mod driver;
pub mod fleet;
mod timetable;
pub mod twin;
