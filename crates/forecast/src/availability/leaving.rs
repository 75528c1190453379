//! How long a stay usually is, said at plug-in: boosted trees over what past visits like it say.
//!
//! Kernels know that drivers repeat themselves, but not which sign to trust where: the driver's own word, the place, the hour, the same
//! wish before. Trees learn that from how past stays ended beside what was to be seen at their plug-in. They give a median only; what may
//! become of a visit is still drawn from past visits, weighed so that their median is the trees' (`Stays::of`).

use std::collections::BTreeMap;

use super::donor::HALF_LIFE;
use super::kind::{Days, by_week, monday, without_work};
use super::log::Log;
use super::num::{floor, real, size};
use super::simulate::is_small;
use super::stay::{Alike, Stays, clock_after};
use super::visit::{Present, Seen};
use crate::parallel::each;
use crate::trees::{Cuts, Growth, Trees};

/// Days of plug-ins learned from, and visits of a day looked at, spread evenly over it.
const DAYS: i32 = 140;
const OF_A_DAY: usize = 100;
/// Visits without which nothing is learned, and past visits without which one says too little.
const FEWEST: usize = 400;
const FEWEST_PAST: usize = 50;
/// Days between two lessons: Mondays.
const WEEK: usize = 7;

const GROWTH: Growth = Growth {
    trees: 300,
    depth: 3,
    leaf: 20,
    rate: 0.04,
    level: 0.5,
    looked_at: [0.7, 0.5],
};

/// Inputs of the trees.
const INPUTS: usize = 19;

/// What is to be seen at plug-in of how long a stay will be: hours, but for the kind of day and the counts of vehicles plugged in
/// and of own visits. Where a sign is
/// missing, the median of past visits alike stands for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Signs {
    inputs: [f64; INPUTS],
}

impl Signs {
    /// `None` where too few past visits are known.
    pub(super) fn of(
        visit: &Present,
        kind: usize,
        plugged: usize,
        alike: &[Alike<'_>],
    ) -> Option<Self> {
        if alike.len() < FEWEST_PAST {
            return None;
        }
        let clock = real(visit.clock) / 3600.0;
        let said = visit.said_end.map(|e| real(e - visit.start) / 3600.0);
        let length = |a: &Alike<'_>| real(a.length) / 3600.0;
        let [low, median, high] = quantiles(
            alike.iter().map(|a| (length(a), a.weight)),
            [0.25, 0.5, 0.75],
        )?;
        let own = |a: &&Alike<'_>| match visit.user {
            Some(_) => a.past.user == visit.user,
            None => visit.said_energy.is_some() && same(a.past.said_energy, visit.said_energy),
        };
        let outlet = |a: &&Alike<'_>| visit.outlet.is_some() && a.past.outlet == visit.outlet;
        let later = |a: &Alike<'_>| real(clock_after(a.past.clock, visit.clock)) / 3600.0;
        let near = |a: &Alike<'_>| a.recent * (0.05 + (-0.5 * (later(a) / 1.5).powi(2)).exp());
        let hour = |a: &&Alike<'_>| later(a).abs() < 1.0;
        // The median over some, or that of all alike.
        let over = |some: &mut dyn Iterator<Item = (f64, f64)>| {
            quantiles(some, [0.5]).map_or(median, |[m]| m)
        };
        let by_stay = |a: &Alike<'_>| (a.past.hours(), near(a));
        let by_clock = |a: &Alike<'_>| (a.past.hours() + later(a), near(a));
        let beyond_said = |a: &Alike<'_>| {
            let said = said? + a.past.hours() - said_hours(a.past)?;
            Some((said, a.recent))
        };
        let evenly = |a: &Alike<'_>| (a.past.hours(), 1.0);
        let newest = alike.iter().map(|a| a.past.day).max().unwrap_or(visit.day);
        let stated_alike = |a: &&Alike<'_>| {
            let apart = said.zip(said_hours(a.past)).map(|(a, b)| (a - b).abs());
            apart.is_some_and(|apart| apart < 1.0)
        };
        let inputs = [
            clock,
            size(by_week(kind)),
            without_work(kind),
            said.unwrap_or(-1.0),
            said.map_or(-1.0, |s| clock + s),
            visit.said_energy.unwrap_or(-1.0),
            size(plugged),
            low,
            median,
            high,
            size(alike.iter().filter(own).count()),
            over(&mut alike.iter().filter(own).map(by_stay)),
            over(&mut alike.iter().filter(own).map(by_clock)),
            over(&mut alike.iter().filter(own).filter_map(beyond_said)),
            over(&mut alike.iter().filter(outlet).map(by_stay)),
            over(&mut alike.iter().filter(outlet).map(by_clock)),
            over(
                &mut alike
                    .iter()
                    .filter(|a| hour(a) && a.past.day > newest - 14)
                    .map(evenly),
            ),
            over(
                &mut alike
                    .iter()
                    .filter(|a| hour(a) && by_week(a.kind) == by_week(kind))
                    .map(evenly),
            ),
            over(
                &mut alike
                    .iter()
                    .filter(|a| hour(a) && stated_alike(a))
                    .map(|a| (a.past.hours(), a.recent)),
            ),
        ];
        Some(Self { inputs })
    }
}

fn said_hours(visit: &Seen) -> Option<f64> {
    visit.said_end.map(|e| real(e - visit.start) / 3600.0)
}

/// Whether two wishes are the very same, kWh.
fn same(a: Option<f64>, b: Option<f64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a - b).abs() < 1e-3)
}

/// Weighted quantiles at `levels`, which rise; `None` of nothing.
fn quantiles<const N: usize>(
    values: impl Iterator<Item = (f64, f64)>,
    levels: [f64; N],
) -> Option<[f64; N]> {
    let mut values: Vec<(f64, f64)> = values.collect();
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|v| v.1).sum();
    let mut places = values.iter();
    let mut sum = 0.0;
    let mut now = *values.first()?;
    Some(levels.map(|level| {
        while sum < level * total {
            let Some(next) = places.next() else { break };
            sum += next.1;
            now = *next;
        }
        now.0
    }))
}

/// How long stays usually are, as learned at one midnight.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    trees: Trees,
}

impl Leaving {
    /// The usual length, seconds.
    pub(super) fn usual(&self, signs: &Signs) -> i64 {
        floor(self.trees.at(&signs.inputs) * 3600.0)
    }
}

/// The lessons of some weeks, each of which depends on the log before it only, with what they were learned from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leavings {
    /// By local day: visits looked at, in their order, with what was to be seen of each.
    seen: BTreeMap<i32, Vec<Option<Signs>>>,
    /// By Monday; `None` where too little was known.
    weeks: BTreeMap<i32, Option<Leaving>>,
}

impl Leavings {
    /// The lesson that holds on local day `day`; `None` if too little was known, or it was not asked for.
    pub(crate) fn of(&self, day: i32) -> Option<&Leaving> {
        self.weeks.get(&monday(day))?.as_ref()
    }

    /// Learns what held on local day `day` and on each of the `before` days before it, unless it is known, and forgets what is older.
    pub(crate) fn learn(&mut self, log: &Log, (day, before): (i32, i32), threads: usize) {
        let oldest = monday(day - before);
        self.weeks.retain(|week, _| *week >= oldest);
        let mondays = (oldest..=day).step_by(WEEK);
        for week in mondays {
            if !self.weeks.contains_key(&week) {
                self.look(log, week, threads);
                self.weeks.insert(week, self.lesson(log, week));
            }
        }
        self.seen.retain(|day, _| *day >= oldest - DAYS);
    }

    /// Notes what was to be seen of the visits of the days before `until`, each from what was known at its midnight.
    fn look(&mut self, log: &Log, until: i32, threads: usize) {
        if !is_small(&log.view(log.instant(until, 0))) {
            return;
        }
        let days = (until - DAYS..until).filter(|day| {
            let seen = self.seen.get(day).map(Vec::len);
            seen != Some(places(log.of_day(*day).len()).count())
        });
        let seen = each(days.collect(), threads, |day| {
            let view = log.view(log.instant(day, 0));
            let kinds = Days::new(&view, day, log.off(), HALF_LIFE);
            let stays = Stays::new(&view, &kinds, log.off(), None);
            let kind = kinds.kind(day, log.off());
            let visits = log.of_day(day);
            let looked_at = places(visits.len()).filter_map(|place| visits.get(place));
            let signs = looked_at.map(|v| {
                let visit = v.seen();
                stays.signs(&Present::of(&visit, visit.start), kind)
            });
            (day, signs.collect::<Vec<_>>())
        });
        self.seen.extend(seen);
    }

    /// Learns from visits that ended before local day `until`.
    fn lesson(&self, log: &Log, until: i32) -> Option<Leaving> {
        let midnight = log.instant(until, 0);
        let (mut rows, mut lengths) = (Vec::new(), Vec::new());
        for (day, signs) in self.seen.range(until - DAYS..until) {
            let visits = log.of_day(*day);
            for (place, signs) in places(visits.len()).zip(signs) {
                let ended = visits.get(place).filter(|v| v.end() <= midnight);
                if let Some((visit, signs)) = ended.zip(*signs) {
                    rows.push(signs.inputs.to_vec());
                    lengths.push(visit.seen().hours());
                }
            }
        }
        (rows.len() >= FEWEST).then(|| Leaving {
            trees: Trees::fit(&Cuts::new(&rows), &lengths, GROWTH),
        })
    }
}

/// Places of the visits of a day that are looked at.
fn places(of: usize) -> impl Iterator<Item = usize> {
    let count = of.min(OF_A_DAY);
    (0..count).map(move |i| i * of / count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use units::{Energy, Power};

    use super::super::visit::{Said, Visit};
    use super::*;

    const FIRST: &str = "2019-03-04T00:00:00Z";

    /// Who asks for little stays half as long as he says, who asks for much as long; wishes and words are new each time.
    fn site(days: i64) -> Vec<Visit> {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let first: DateTime<Utc> = FIRST.parse().unwrap();
        let mut visits = Vec::new();
        for day in 0..days {
            for _ in 0..12 {
                let start =
                    first + TimeDelta::days(day) + TimeDelta::minutes(rng.random_range(420..660));
                let kwh: f64 = rng.random_range(4.0..40.0);
                let said = rng.random_range(120..600);
                let stay = if kwh < 20.0 { said / 2 } else { said };
                visits.push(Visit {
                    charge: Power::from_watts(6_600),
                    discharge: Power::ZERO,
                    said: Some(Said {
                        departure: start + TimeDelta::minutes(said),
                        energy: Some(Energy::from_kwh(kwh)),
                    }),
                    ..Visit::made(start, TimeDelta::minutes(stay), kwh.min(10.0))
                });
            }
        }
        visits
    }

    /// Mean absolute error of the median at plug-in on the last ten days, hours: kernels alone, and with what was learned.
    fn errors(visits: &[Visit], days: i64) -> [f64; 2] {
        let log = Log::new(Tz::UTC, visits);
        let off = BTreeSet::new();
        let first: DateTime<Utc> = FIRST.parse().unwrap();
        let (first, _) = log.clock(first.timestamp());
        let last = first + i32::try_from(days).unwrap();
        let mut leavings = Leavings::default();
        let mut errors = [0.0; 2];
        let mut count = 0;
        for visit in log.visits().filter(|v| v.day >= last - 10) {
            let view = log.view(visit.start);
            leavings.learn(&log, (visit.day, 0), 1);
            let kinds = Days::new(&view, visit.day, &off, HALF_LIFE);
            let present = Present::of(&visit, visit.start);
            for (error, leaving) in errors.iter_mut().zip([None, leavings.of(visit.day)]) {
                let stays = Stays::new(&view, &kinds, &off, leaving);
                let rests = stays.of(&present, kinds.kind(visit.day, &off));
                *error += (real(rests.at(0.5).length) / 3600.0 - visit.hours()).abs();
            }
            count += 1;
        }
        errors.map(|e| e / size(count))
    }

    #[test]
    fn whose_word_is_good_is_learned_from_how_past_stays_ended() {
        let visits = site(90);
        let [alone, learned] = errors(&visits, 90);
        assert!(
            learned < 0.75 * alone,
            "{learned} h, kernels alone {alone} h"
        );
    }

    #[test]
    fn a_site_of_a_few_weeks_teaches_nothing() {
        let visits = site(30);
        let [alone, learned] = errors(&visits, 30);
        assert!((alone - learned).abs() < 1e-12, "{learned} {alone}");
    }

    #[test]
    fn lessons_do_not_depend_on_what_was_asked_before() {
        let visits = site(90);
        let log = Log::new(Tz::UTC, &visits);
        let first: DateTime<Utc> = FIRST.parse().unwrap();
        let day = log.clock(first.timestamp()).0 + 85;
        let (mut once, mut often) = (Leavings::default(), Leavings::default());
        once.learn(&log, (day, 0), 2);
        for back in (0..6).rev() {
            often.learn(&log, (day - 3 * back, 0), 1);
        }
        let signs = once.seen[&(day - 10)][3].unwrap();
        let longer = |l: &Leavings| l.of(day).map(|l| l.usual(&signs));
        assert!(longer(&once).is_some());
        assert_eq!(longer(&once), longer(&often));
    }
}
