#![doc = include_str!("../README.md")]

pub mod activation;
pub mod alert;
pub mod beside;
mod call;
pub mod droop;
pub mod envelope;
pub mod fallback;
pub mod guard;
pub mod pool;
mod round;
pub mod split;
pub mod track;

pub use beside::Beside;
pub use droop::Droop;
pub use envelope::{Envelope, envelope};
pub use fleet;
pub use guard::Guard;
pub use pool::{Pool, SiteLimit, Told, Unit};
pub use split::{Split, split};
pub use track::{Sold, Target, Tracker};
