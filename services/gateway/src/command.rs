//! What operators ordered: hold, release, kill.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Persons who must release after a kill.
const RELEASERS: usize = 2;

/// What the dispatcher may do. It outlives the process that was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Follow everything.
    #[default]
    Running,
    /// Keep the schedule, ignore activations.
    Held {
        /// When it ends by itself.
        until: Option<DateTime<Utc>>,
    },
    /// Every EVSE charges plainly.
    Killed {
        /// Who has released so far.
        released_by: BTreeSet<String>,
    },
}

impl Order {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Held { .. } => "held",
            Self::Killed { .. } => "killed",
        }
    }

    /// Keeps the schedule until `until`, or until released. A kill stands above it.
    pub(crate) fn hold(&mut self, until: Option<DateTime<Utc>>) {
        if !matches!(self, Self::Killed { .. }) {
            *self = Self::Held { until };
        }
    }

    pub(crate) fn kill(&mut self) {
        *self = Self::Killed {
            released_by: BTreeSet::new(),
        };
    }

    /// One person releases: enough for a hold; a kill wants two.
    pub(crate) fn release(&mut self, by: &str) {
        if let Self::Killed { released_by } = self {
            released_by.insert(by.to_owned());
            if released_by.len() < RELEASERS {
                return;
            }
        }
        *self = Self::Running;
    }

    /// A hold that has run out ends.
    pub(crate) fn expire(&mut self, now: DateTime<Utc>) {
        if matches!(self, Self::Held { until: Some(until) } if *until <= now) {
            *self = Self::Running;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_kills_and_two_release() {
        let mut order = Order::default();
        order.kill();
        order.hold(None);
        assert_eq!(order.name(), "killed");
        order.release("ann");
        order.release("ann");
        assert_eq!(order.name(), "killed", "the same person twice is one");
        order.release("ben");
        assert_eq!(order.name(), "running");
    }

    #[test]
    fn a_hold_ends_by_itself_or_by_release() {
        let now: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let mut order = Order::default();
        order.hold(Some(now));
        order.expire(now - chrono::TimeDelta::seconds(1));
        assert_eq!(order.name(), "held");
        order.expire(now);
        assert_eq!(order.name(), "running");
        order.hold(None);
        order.release("ann");
        assert_eq!(order.name(), "running");
    }
}
