#![doc = include_str!("../README.md")]

mod error;
pub mod frequency;
pub mod import;
mod pages;
mod records;
pub mod scenario;
pub mod series;
pub mod sessions;
pub mod table;
mod tree;

pub use error::{InputError, Place};
