//! Availability of a pool: vehicles plugged in, power up and down, energy needed, as joint paths and as quantiles.

mod calibrate;
mod kind;
mod num;
mod observed;
mod paths;
mod simulate;
mod stay;
mod visit;
mod walk;

pub mod evaluate;

pub use simulate::Paths;
pub use visit::{Dropped, Log, Said, Visit};
pub use walk::{Ask, Availability, Forecaster, QUANTITIES};
