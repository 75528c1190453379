#![doc = include_str!("../README.md")]

pub mod catalogue;
mod error;
pub mod frequency;
pub mod history;
pub mod import;
mod pages;
pub mod price_study;
mod records;
pub mod scenario;
pub mod series;
pub mod sessions;
pub mod table;
pub mod timetable;
mod tree;

pub use error::{InputError, Place};
