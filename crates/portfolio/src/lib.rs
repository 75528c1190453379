#![doc = include_str!("../README.md")]

pub mod case;
pub mod policy;
pub mod reference;
pub mod rolling;
pub mod storage;
