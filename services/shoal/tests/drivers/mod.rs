//! What simulated stations need beside an edge: the platform's clock, and drivers who say nothing.

use chrono::{DateTime, Utc};
use runtime::Clock;
use sim::station::{Boxed, DriverApp, Stated, Time};

/// The clock of the services, for stations.
pub(crate) struct Wall(pub(crate) Clock);

impl Time for Wall {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

/// Drivers of one-way stations say nothing here; two-way stations say what their vehicles need by themselves.
pub(crate) struct Quiet;

impl DriverApp for Quiet {
    fn state(&self, _: Stated) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}
