//! Scenario files: what a back-test reads.

mod depot;
mod load;
mod prices;
mod types;

pub use load::load;

pub use types::{
    Afrr, Costs, Fcr, FleetParameters, Headroom, Imbalance, Markets, Planning, Prices, Risk,
    Scenario, Site,
};
