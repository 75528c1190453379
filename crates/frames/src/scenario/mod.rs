//! Scenario files: what a back-test reads.

mod depot;
mod load;
mod offers;
mod points;
mod prices;
mod stays;
mod types;

pub use load::{load, load_with_data};

pub use types::{
    Afrr, AreaLimit, ConstraintOffer, Costs, Dimming, ExclusiveGroup, Extras, Fcr, FleetParameters,
    Headroom, Imbalance, LossGroup, Markets, NetworkArea, Planning, Prices, ProductOffer,
    ReactivePoint, RefundBasis, Risk, Scenario, Site,
};
