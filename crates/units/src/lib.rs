#![doc = include_str!("../README.md")]

mod band;
mod clock;
mod day;
mod id;
mod interval;
mod money;
mod power;
mod series;
mod soc;

pub use band::{Band, BandError};
pub use clock::{Clock, FixedClock};
pub use day::{DayError, DeliveryDay, local_instant};
pub use id::{Id, IdError};
pub use interval::{Interval, IntervalError};
pub use money::{Currency, CurrencyError, Money, Price};
pub use power::{Energy, Power};
pub use series::{Series, SeriesError};
pub use soc::{Efficiency, FractionError, Soc};
