//! The rules by which an office is held: no clock, no tables. Instants are spans since some beginning of the own process's
//! monotonic clock; those of two processes are never compared.

use std::time::Duration;

use crate::Lease;

/// Between two beats, and between two looks of a candidate.
pub const BEAT: Duration = Duration::from_millis(200);
/// How long a holder may act after the begin of its last stored beat.
pub const HOLDS: Duration = Duration::from_millis(900);
/// Silence after which a candidate takes over. With [`BEAT`] it is what a takeover takes at most, beside the writing of the new term.
pub const SILENT: Duration = Duration::from_millis(1_200);

/// What a candidate has seen of an office.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The newest beat, and when it was first seen.
    last: Option<(Lease, Duration)>,
}

impl Watch {
    /// Looks at what the tables say at `now`; answers the term to ask for, if the office is free.
    pub fn look(&mut self, found: Option<&Lease>, now: Duration) -> Option<u64> {
        let Some(lease) = found else { return Some(1) };
        if lease.address.is_empty() {
            return Some(lease.term + 1);
        }
        match &self.last {
            Some((before, since)) if before == lease => {
                (now.saturating_sub(*since) >= SILENT).then_some(lease.term + 1)
            }
            _ => {
                self.last = Some((lease.clone(), now));
                None
            }
        }
    }

    /// The lease as seen last.
    #[must_use]
    pub fn seen(&self) -> Option<&Lease> {
        self.last.as_ref().map(|(lease, _)| lease)
    }
}

/// How long a holder may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    until: Duration,
}

impl Right {
    /// From the begin of the writing of the term on.
    #[must_use]
    pub const fn begun(began: Duration) -> Self {
        Self {
            until: began.saturating_add(HOLDS),
        }
    }

    /// None any more.
    #[must_use]
    pub const fn ended(now: Duration) -> Self {
        Self { until: now }
    }

    /// Whether the holder may act at `now`.
    #[must_use]
    pub fn holds(self, now: Duration) -> bool {
        now < self.until
    }

    /// When it ends.
    #[must_use]
    pub const fn until(self) -> Duration {
        self.until
    }

    /// A beat whose writing began at `began` is stored at `now`. A right that ran out does not come back: somebody may have
    /// begun to act on that. Answers whether it goes on.
    pub fn renew(&mut self, began: Duration, now: Duration) -> bool {
        let goes_on = self.holds(now);
        if goes_on {
            *self = Self::begun(began);
        }
        goes_on
    }
}

impl Lease {
    /// Whether the tables take this one in place of what they have: the next term, or a later beat of the same holder. The
    /// statement in the tables says the same.
    #[must_use]
    pub fn replaces(&self, stored: Option<&Self>) -> bool {
        stored.is_none_or(|stored| {
            self.term == stored.term + 1
                || (self.term == stored.term
                    && self.holder == stored.holder
                    && self.beat > stored.beat)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Store};

    fn lease(holder: &str, term: u64, beat: u64) -> Lease {
        Lease {
            office: "dispatch/NL".to_owned(),
            holder: holder.to_owned(),
            address: "http://a:1".to_owned(),
            term,
            beat,
        }
    }

    #[test]
    fn a_holder_may_not_act_any_more_when_a_candidate_may_take_over() {
        let seconds = Duration::from_secs_f64;
        let mut right = Right::begun(seconds(1.0));
        let mut watch = Watch::default();
        // Seen at the earliest when it was stored, which is after it began.
        assert_eq!(watch.look(Some(&lease("a", 1, 1)), seconds(1.0)), None);
        assert_eq!(watch.look(Some(&lease("a", 1, 1)), seconds(2.1)), None);
        assert!(right.holds(seconds(1.8)) && !right.holds(seconds(1.95)));
        assert_eq!(watch.look(Some(&lease("a", 1, 1)), seconds(2.3)), Some(2));
        assert!(!right.renew(seconds(2.0), seconds(2.0)), "it ran out");
        assert!(!right.holds(seconds(2.0)));
    }

    #[tokio::test]
    async fn the_tables_take_what_replaces_what_they_have() {
        let tables = Store::in_memory().await.unwrap().tables();
        let offered = [
            ("a", 1, 0),
            ("b", 1, 5),
            ("a", 1, 2),
            ("a", 1, 1),
            ("b", 3, 0),
            ("b", 2, 0),
            ("a", 1, 3),
            ("a", 2, 1),
            ("b", 2, 1),
        ];
        for (holder, term, beat) in offered {
            let offered = lease(holder, term, beat);
            let before = tables.lease(&offered.office).await.unwrap();
            let change = Change::default().lease(offered.clone());
            tables.apply(change).await.unwrap();
            let after = tables.lease(&offered.office).await.unwrap();
            let expected = if offered.replaces(before.as_ref()) {
                Some(offered)
            } else {
                before
            };
            assert_eq!(after, expected);
        }
    }
}
