//! Scenario files: what a back-test reads.

mod types;

pub use types::{
    Afrr, Costs, Fcr, FleetParameters, Headroom, Imbalance, Markets, Prices, Scenario, Site,
};
