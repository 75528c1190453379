//! Availability of a pool: vehicles plugged in, power up and down, energy needed, as joint paths and as quantiles.

mod ahead;
mod blend;
mod calibrate;
mod change;
mod come;
mod coming;
mod crowd;
mod donor;
mod drift;
mod drivers;
mod given;
mod hole;
mod joint;
mod kind;
mod learn;
mod leaving;
mod level;
mod log;
mod num;
mod observed;
mod outlook;
mod paths;
mod rates;
mod reduce;
mod simulate;
mod standing;
mod stay;
mod usual;
mod visit;
mod walk;

pub mod evaluate;

pub use coming::{Coming, Expected};
pub use joint::{Bound, Paths};
pub use learn::{Learned, Watch};
pub use log::{Dropped, Gathered, Log};
pub use visit::{Metered, Said, Slack, Visit};
pub use walk::{Ask, Availability, Forecaster, QUANTITIES};
