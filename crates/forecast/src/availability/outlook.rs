//! What was usual at the level of each of the last days, as said at its midnight.

use std::collections::BTreeMap;

use super::calibrate::KEPT;
use super::learn::USUAL_HOURS;
use super::level::{self, Known, PACES, Usual};
use super::log::Log;
use super::usual::at_levels;
use super::walk::QUANTITIES;
use crate::Quantity;
use crate::parallel::each;

/// Quantiles of one hour at both paces, from the lowest to the highest; empty where nothing is usual.
type Fine = [Vec<f32>; PACES.len()];
/// The levels of the score of one hour at both paces.
type Coarse = [Option<[f32; KEPT]>; PACES.len()];

/// By local day, each from what was known at its midnight; quantity by quantity in the order of [`QUANTITIES`], hour by hour from the
/// midnight on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlooks {
    past: BTreeMap<i32, Vec<Vec<Coarse>>>,
    today: Vec<Vec<Fine>>,
}

impl Outlooks {
    /// Says what is usual from local day `today` on, and what was on the `days` days before unless it is known; forgets older days.
    pub(crate) fn learn(&mut self, log: &Log, (today, days): (i32, i32), threads: usize) {
        self.past
            .retain(|day, _| (today - days..today).contains(day));
        let missing = (today - days..today).filter(|day| !self.past.contains_key(day));
        let made = each(missing.collect(), threads, |day| {
            let fine = fine(log, day);
            let coarse = |hours: &Vec<Fine>| hours.iter().map(coarse).collect();
            (day, fine.iter().map(coarse).collect())
        });
        self.past.extend(made);
        self.today = fine(log, today);
    }

    /// What was said on local day `day` of the `hour`th hour from its midnight on; `quantity` is a place among [`QUANTITIES`].
    pub(crate) fn said(&self, day: i32, quantity: usize, hour: usize) -> Coarse {
        let said = self.past.get(&day).and_then(|said| said.get(quantity));
        said.and_then(|hours| hours.get(hour))
            .copied()
            .unwrap_or_default()
    }

    /// What is said from today on.
    pub(crate) fn samples(&self, quantity: usize, hour: usize) -> Fine {
        let said = self.today.get(quantity);
        said.and_then(|hours| hours.get(hour))
            .cloned()
            .unwrap_or_default()
    }
}

fn coarse(fine: &Fine) -> Coarse {
    std::array::from_fn(|pace| at_levels(&fine[pace]))
}

/// What is usual from local day `today` on by what was known at its midnight; nothing of a large pool, where days say enough.
fn fine(log: &Log, today: i32) -> Vec<Vec<Fine>> {
    let midnight = log.instant(today, 0);
    let of = |known: Known<'_>, quantity: Quantity| {
        let usual = PACES.map(|pace| Usual::new(known, quantity, pace));
        let at = |target: i64| {
            let of = |u: &Option<Usual<'_>>| u.as_ref().map_or_else(Vec::new, |u| u.at(target));
            std::array::from_fn(|pace| of(&usual[pace]))
        };
        let targets = (0..USUAL_HOURS).map(|h| midnight + 3600 * h);
        targets.map(at).collect()
    };
    let all = |known: Known<'_>| QUANTITIES.map(|q| of(known, q)).into();
    log.small(midnight, level::DAYS, all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::super::visit::Visit;
    use super::*;

    /// Ten cars and some more a day.
    fn log(first: DateTime<Utc>) -> Log {
        let all = (0..80).flat_map(|day| (0..10 + day % 4).map(move |car| (day, car)));
        let visits = all.map(|(day, car)| {
            let start = first + TimeDelta::days(day) + TimeDelta::minutes(480 + 7 * car);
            Visit::made(start, TimeDelta::hours(5), 9.0)
        });
        Log::new(Tz::UTC, visits.collect::<Vec<_>>())
    }

    #[test]
    fn what_is_said_does_not_depend_on_what_was_asked_before_or_on_threads() {
        let first: DateTime<Utc> = "2019-03-04T00:00:00Z".parse().unwrap();
        let log = log(first);
        let today = log.clock(first.timestamp()).0 + 70;
        let (mut once, mut often) = (Outlooks::default(), Outlooks::default());
        once.learn(&log, (today, 5), 2);
        for back in (0..4).rev() {
            often.learn(&log, (today - back, 5), 1);
        }
        assert_eq!(once.past.len(), 5);
        assert_eq!(once.today[0].len(), 74);
        for hour in 0..74 {
            assert_eq!(once.samples(0, hour), often.samples(0, hour));
            assert_eq!(
                once.said(today - 3, 0, hour),
                often.said(today - 3, 0, hour)
            );
        }
        let [fast, slow] = once.said(today - 1, 0, 34);
        assert!(fast.is_some() && slow.is_some());
        assert_eq!(once.said(today - 1, 0, 74), [None, None]);
        assert_eq!(once.said(today - 6, 0, 10), [None, None]);
    }
}
