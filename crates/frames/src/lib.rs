#![doc = include_str!("../README.md")]

mod error;
pub mod frequency;
pub mod scenario;
pub mod series;
pub mod sessions;
pub mod table;

pub use error::{InputError, Place};
