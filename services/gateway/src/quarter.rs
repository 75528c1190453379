//! Availability of each award over the running quarter hour.

use std::collections::BTreeMap;

use market::settlement::Availability;
use market::{Award, AwardId};
use units::{Interval, Power};

use crate::ready::Backing;

/// Sums over the cycles of one quarter hour.
#[derive(Debug, Default)]
pub(crate) struct Quarter {
    interval: Option<Interval>,
    awards: BTreeMap<AwardId, Sums>,
    backing: Backing,
}

#[derive(Debug, Default)]
struct Sums {
    cycles: i64,
    missing: i64,
    unresponsive: i64,
}

impl Quarter {
    /// Moves on to the quarter hour of this cycle; the finished one is answered. A quarter hour in which an award was never looked at has no
    /// record: there is no evidence.
    pub(crate) fn advance(&mut self, interval: Interval) -> Vec<Availability> {
        if self.interval == Some(interval) {
            return Vec::new();
        }
        let done = std::mem::take(self);
        self.interval = Some(interval);
        done.close()
    }

    /// One cycle of one award.
    pub(crate) fn cycle(&mut self, award: &Award, missing: Power, unresponsive: Power) {
        let sums = self.awards.entry(award.id).or_default();
        sums.cycles += 1;
        sums.missing += missing.watts();
        sums.unresponsive += unresponsive.watts();
    }

    /// Who could have moved, by how much, in this cycle; the last word counts.
    pub(crate) fn back(&mut self, backing: Backing) {
        self.backing = backing;
    }

    fn close(self) -> Vec<Availability> {
        let Some(interval) = self.interval else {
            return Vec::new();
        };
        let backing = self.backing.by_site();
        self.awards
            .into_iter()
            .map(|(award, sums)| Availability {
                award,
                interval,
                missing: Power::from_watts(sums.missing / sums.cycles.max(1)),
                unresponsive: Power::from_watts(sums.unresponsive / sums.cycles.max(1)),
                backing: backing.clone(),
            })
            .collect()
    }
}
