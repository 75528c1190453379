//! Versions of the baseline: what the pool would do without activation, said before it does it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use units::{Interval, Power};

use crate::PlanId;

/// One word about the pool's power in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Power without activation; positive charges.
    pub power: Power,
    /// When it was said.
    pub created_at: DateTime<Utc>,
    /// Plan it comes from.
    pub plan: Option<PlanId>,
}

/// All versions for every interval, kept for the audit. A version said at or after the start of its interval is kept and never counts: a baseline
/// made from what was measured ("mirroring") is forbidden (Dutch FCR manual).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baselines {
    versions: BTreeMap<Interval, Vec<Version>>,
}

impl Baselines {
    /// Adds a version. The same version twice is kept once.
    pub fn record(&mut self, interval: Interval, version: Version) {
        let versions = self.versions.entry(interval).or_default();
        if !versions.contains(&version) {
            versions.push(version);
            versions.sort_by_key(|v| v.created_at);
        }
    }

    /// The version that counts for `interval`: the last one said before it starts. `None` if nobody said anything in time.
    #[must_use]
    pub fn frozen(&self, interval: Interval) -> Option<Version> {
        let versions = self.versions.get(&interval)?;
        versions
            .iter()
            .rev()
            .find(|v| v.created_at < interval.start())
            .copied()
    }

    /// The version that counts at `at`.
    #[must_use]
    pub fn frozen_at(&self, at: DateTime<Utc>) -> Option<Version> {
        let (interval, _) = self
            .versions
            .range(..)
            .rev()
            .find(|(i, _)| i.contains(at))?;
        self.frozen(*interval)
    }

    /// Every version of an interval, oldest first.
    #[must_use]
    pub fn versions(&self, interval: Interval) -> &[Version] {
        self.versions.get(&interval).map_or(&[], Vec::as_slice)
    }

    /// Forgets intervals that ended before `before`.
    pub fn forget(&mut self, before: DateTime<Utc>) {
        self.versions.retain(|interval, _| interval.end() > before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn the_last_version_before_the_start_counts_and_later_ones_never() {
        let start: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let interval = Interval::try_new(start, start + TimeDelta::minutes(15)).unwrap();
        let said = |seconds: i64, kw: f64| Version {
            power: Power::from_kw(kw),
            created_at: start + TimeDelta::seconds(seconds),
            plan: None,
        };
        let mut baselines = Baselines::default();
        assert_eq!(baselines.frozen(interval), None);
        baselines.record(interval, said(0, 9.0));
        assert_eq!(
            baselines.frozen(interval),
            None,
            "said at the start is too late"
        );
        baselines.record(interval, said(-60, 2.0));
        baselines.record(interval, said(-900, 1.0));
        baselines.record(interval, said(-60, 2.0));
        baselines.record(interval, said(300, 5.0));
        assert_eq!(baselines.frozen(interval), Some(said(-60, 2.0)));
        assert_eq!(baselines.frozen_at(start), Some(said(-60, 2.0)));
        assert_eq!(baselines.versions(interval).len(), 4);
        assert_eq!(baselines.frozen_at(interval.end()), None);
    }
}
