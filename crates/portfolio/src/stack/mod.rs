//! Everything a pool sells and keeps at once, as one convex problem with products as data (`optimisation.md` 1 to 5).
//!
//! ```text
//! Problem ── vehicles, then what they share: one programme ── interior point ── repaired ──> schedule, money from it
//!    └── each limit, departure and award may give way at a named price               └── prices ──> bound, reasons
//! ```
//!
//! The reference problem of the contract is the special case of its three products without areas, peaks or awards.

mod check;
mod dimming;
mod exclusive;
mod gives;
mod model;
mod money;
mod offer;
mod origin;
mod prices;
mod problem;
mod reactive;
mod reasons;
mod refund;
mod repair;
mod solve;
#[cfg(test)]
mod tests;
mod valid;
mod vehicle;
mod whole;

pub use check::{Broken, check};
pub use dimming::{Dimmed, Dimming, Left};
pub use exclusive::{Alternative, Alternatives, Exclusive, alternatives};
pub use gives::owner_name;
pub use money::{net_cost, objective, site_kw};
pub use offer::{Choice, Offer, Request, offers};
pub use origin::months;
pub use problem::{
    Answer, Block, DemandCharge, Elastic, Group, Held, Imbalance, NetworkArea, Order, Owner,
    Prices, Problem, Product, Relaxation, Relaxed, Schedule, Session, Site, Vehicle, VehiclePrices,
    VehicleSchedule, Way,
};
pub use reactive::{Reactive, ReactiveCharge, site_kvar};
pub use reasons::{Reason, reasons};
pub use refund::{Refund, refunded};
pub use solve::solve;
pub use valid::StackError;
pub use whole::{Whole, solve_whole};
