//! Sends what changed or is about to expire, and nothing else: stations wear out and links fill up.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::EvseId;
use units::Power;

use crate::Told;
use crate::beside::Beside;

/// Parts of the fleet whose set-points are renewed one after the other.
const SPREAD: i32 = 1_024;

/// What was sent last, and what is worth sending.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Change of one EVSE below which nothing is sent.
    threshold: Power,
    /// How much longer a set-point may hold than it should before a shorter one is sent.
    slack: TimeDelta,
    sent: BTreeMap<EvseId, Sent>,
}

/// What an EVSE was sent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Power.
    pub power: Power,
    /// Since when it is the same.
    pub since: DateTime<Utc>,
    /// Until when it holds.
    pub expires_at: DateTime<Utc>,
}

impl Sent {
    /// What the EVSE was told, if that still holds at `now`.
    #[must_use]
    pub fn in_force(&self, now: DateTime<Utc>) -> Option<Told> {
        (self.expires_at > now).then(|| Told {
            power: self.power,
            age: now - self.since,
        })
    }
}

impl Guard {
    /// A guard that has sent nothing.
    #[must_use]
    pub const fn new(threshold: Power, slack: TimeDelta) -> Self {
        Self {
            threshold,
            slack,
            sent: BTreeMap::new(),
        }
    }

    /// Indices of the `wanted` powers, in order of their EVSE, to send at `now`; they count as sent and hold for as long as `holds` says of their index. The same
    /// power is sent again when a third to two thirds of that time are left, and when it would hold for too long.
    ///
    /// Small changes are kept back only as long as together they are within `pool_tolerance`: beyond it the largest of them are sent.
    pub fn select(
        &mut self,
        now: DateTime<Utc>,
        wanted: &[(EvseId, Power)],
        holds: impl Fn(usize) -> TimeDelta,
        pool_tolerance: Power,
    ) -> Vec<usize> {
        let mut chosen = Vec::new();
        let mut kept: Vec<(Power, usize)> = Vec::new();
        let mut before = Beside::new(&self.sent);
        // Those who were told together are not told again together.
        for ((i, (evse, power)), part) in wanted.iter().enumerate().zip((0..SPREAD).cycle()) {
            let holds = holds(i);
            let lead = holds / 3 + holds / 3 * part / SPREAD;
            let lasts = |sent: &&Sent| {
                let left = sent.expires_at - now;
                left > lead && left <= holds + self.slack
            };
            match before.at(evse).filter(lasts) {
                Some(sent) => {
                    let change = *power - sent.power;
                    // A change of direction, or to or from standstill, is never small.
                    let turns = power.watts().signum() != sent.power.watts().signum();
                    if turns || change.abs() >= self.threshold {
                        chosen.push(i);
                    } else if change != Power::ZERO {
                        kept.push((change, i));
                    }
                }
                None => chosen.push(i),
            }
        }
        let mut left: Power = kept.iter().map(|(change, _)| *change).sum();
        kept.sort_by_key(|(change, i)| (-change.abs(), *i));
        for (change, i) in kept {
            if left.abs() <= pool_tolerance {
                break;
            }
            if change.watts().signum() == left.watts().signum() {
                left -= change;
                chosen.push(i);
            }
        }
        chosen.sort_unstable();
        for i in &chosen {
            let (evse, power) = &wanted[*i];
            let same = self.sent.get(evse).filter(|sent| sent.power == *power);
            let sent = Sent {
                power: *power,
                since: same.map_or(now, |sent| sent.since),
                expires_at: now + holds(*i),
            };
            self.sent.insert(evse.clone(), sent);
        }
        chosen
    }

    /// What was sent last, in order of the EVSE.
    pub fn sent(&self) -> impl Iterator<Item = (&EvseId, &Sent)> {
        self.sent.iter()
    }

    /// Takes something for sent: goes on from where another guard was.
    pub fn resume(&mut self, evse: EvseId, sent: Sent) {
        self.sent.insert(evse, sent);
    }

    /// Forgets EVSEs that `keep` does not want, and everything if it wants none; it is asked in order of the EVSE.
    pub fn retain(&mut self, mut keep: impl FnMut(&EvseId) -> bool) {
        self.sent.retain(|evse, _| keep(evse));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(powers: &[i64]) -> Vec<(EvseId, Power)> {
        powers
            .iter()
            .enumerate()
            .map(|(i, w)| (format!("e{i:04}").parse().unwrap(), Power::from_watts(*w)))
            .collect()
    }

    #[test]
    fn only_changes_and_expiring_commands_are_sent() {
        let now: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let after = |s: i64| now + TimeDelta::seconds(s);
        let mut guard = Guard::new(Power::from_watts(50), TimeDelta::seconds(10));
        let plenty = Power::from_kw(1.0);
        let minute = |_| TimeDelta::seconds(60);
        assert_eq!(
            guard.select(now, &wanted(&[1_000, 2_000, 0]), minute, plenty),
            vec![0, 1, 2]
        );
        assert_eq!(
            guard.select(after(1), &wanted(&[1_000, 2_000, 0]), minute, plenty),
            Vec::<usize>::new()
        );
        assert_eq!(
            guard.select(after(2), &wanted(&[1_049, 2_050, -1]), minute, plenty),
            vec![1, 2]
        );
        assert_eq!(
            guard.select(after(41), &wanted(&[1_000, 2_050, -1]), minute, plenty),
            vec![0]
        );
        let sent = *guard.sent().next().unwrap().1;
        let told = Told {
            power: Power::from_watts(1_000),
            age: TimeDelta::seconds(100),
        };
        assert_eq!(sent.expires_at, after(101));
        assert_eq!(sent.in_force(after(100)), Some(told));
        assert_eq!(sent.in_force(after(101)), None);
        guard.retain(|_| false);
        assert_eq!(
            guard.select(after(51), &wanted(&[1_000]), minute, plenty),
            vec![0]
        );
    }

    #[test]
    fn those_told_together_are_renewed_one_after_the_other() {
        let now: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let after = |s: i64| now + TimeDelta::seconds(s);
        let mut guard = Guard::new(Power::from_watts(50), TimeDelta::seconds(60));
        let powers = wanted(&[1_000; 4_096]);
        let hold = |_| TimeDelta::seconds(120);
        assert_eq!(guard.select(now, &powers, hold, Power::ZERO).len(), 4_096);
        let mut renewed = 0;
        for s in 1..=80 {
            let many = guard.select(after(s), &powers, hold, Power::ZERO).len();
            assert!(many <= 110, "{many} after {s} s");
            renewed += many;
        }
        assert!(renewed >= 4_096, "{renewed} renewed before they expire");
    }

    #[test]
    fn one_that_would_hold_for_too_long_is_told_again_and_one_that_may_hold_longer_as_well() {
        let now: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let after = |s: i64| now + TimeDelta::seconds(s);
        let mut guard = Guard::new(Power::from_watts(50), TimeDelta::seconds(60));
        let powers = wanted(&[1_000]);
        let mut told = |at, seconds| {
            let hold = |_| TimeDelta::seconds(seconds);
            let chosen = guard.select(after(at), &powers, hold, Power::ZERO);
            let until = guard.sent().next().unwrap().1.expires_at;
            (chosen.len(), (until - now).num_seconds())
        };
        assert_eq!(told(0, 900), (1, 900));
        assert_eq!(told(100, 900), (0, 900));
        assert_eq!(
            told(200, 660),
            (0, 900),
            "as long as it should and little more"
        );
        assert_eq!(told(210, 120), (1, 330), "its vehicle leaves earlier");
        assert_eq!(told(220, 900), (1, 1_120), "and has time again");
    }

    #[test]
    fn many_small_changes_are_sent_once_the_pool_would_notice() {
        let now: DateTime<Utc> = "2026-01-10T10:00:00Z".parse().unwrap();
        let mut guard = Guard::new(Power::from_watts(50), TimeDelta::seconds(10));
        let hold = |_| TimeDelta::seconds(60);
        guard.select(now, &wanted(&[1_000; 10]), hold, Power::ZERO);
        let sent = guard.select(now, &wanted(&[1_040; 10]), hold, Power::from_watts(200));
        assert_eq!(sent, vec![0, 1, 2, 3, 4], "200 of 400 W are kept back");
    }
}
