//! Who says what time it is.

use chrono::{DateTime, Utc};

/// Source of the present instant.
///
/// Two adapters exist: the system clock and the accelerated clock of a simulation, both in the `runtime`
/// crate. Pure code is handed a `now` instead.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> DateTime<Utc>;
}

/// A clock that stands still, for tests and for replaying one decision.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub DateTime<Utc>);

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}
