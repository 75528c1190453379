//! Drivers who are known: each comes as on past days of his own.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::ahead::Ahead;
use super::log::View;
use super::num::size;
use super::standing::Standing;
use super::visit::Arrival;

/// Days looked back on.
const DAYS: i32 = 120;
/// Visits within [`KNOWN_DAYS`] that make a driver a known one.
const KNOWN: usize = 3;
const KNOWN_DAYS: i64 = 60;
/// Share of the visits that known drivers must make.
const MOST: f64 = 0.5;
/// How often a past day counts that began otherwise for the driver: plugged in or not.
const OTHERWISE: f64 = 0.15;

/// Drivers who came often enough to be known, and what others brought.
#[derive(Debug)]
pub(crate) struct Drivers {
    drivers: Vec<Driver>,
    /// By day ahead: past days by their cumulative weights, with the visits of those who were not known then.
    others: Vec<Vec<(f64, Vec<Arrival>)>>,
}

#[derive(Debug)]
struct Driver {
    /// Place among the vehicles plugged in, if it is one of them.
    standing: Option<usize>,
    /// All visits with their local days, in order.
    visits: Vec<(i32, Arrival)>,
    /// By day ahead: past days with cumulative weights for a day that begins away, and plugged in.
    days: Vec<[Vec<(f64, i32)>; 2]>,
}

/// A visit of a user: its local day, and when it ended; the cut-off while it lasts.
type Past = (i32, Arrival, i64);

impl Drivers {
    /// `None` where most visits have no name or no known one.
    pub(crate) fn new(view: &View<'_>, standing: &Standing, ahead: &[Ahead]) -> Option<Self> {
        let today = ahead.first()?.day;
        let since = view.log().instant(today - DAYS, 0);
        let mut users: BTreeMap<u32, Vec<Past>> = BTreeMap::new();
        let mut newcomers: BTreeMap<i32, Vec<Arrival>> = BTreeMap::new();
        let (mut known, mut all) = (0, 0);
        for (user, past) in view.named(since - KNOWN_DAYS * 86_400) {
            let before = user.map_or(0, |user| {
                let visits = users.entry(user).or_default();
                let old = past.1.start - KNOWN_DAYS * 86_400;
                let before = visits.len() - visits.partition_point(|v| v.1.start < old);
                visits.push(past);
                before
            });
            if past.1.start < since {
                continue;
            }
            all += 1;
            if before >= KNOWN {
                known += 1;
            } else {
                newcomers.entry(past.0).or_default().push(past.1);
            }
        }
        if all == 0 || size(known) < MOST * size(all) {
            return None;
        }
        let lasting = standing.by_user();
        let old = view.until - KNOWN_DAYS * 86_400;
        let drivers = users
            .into_iter()
            .filter(|(_, v)| v.len() - v.partition_point(|v| v.1.start < old) >= KNOWN)
            .map(|(user, visits)| Driver {
                standing: lasting.get(&user).copied(),
                days: ahead.iter().map(|a| days(view, a, &visits)).collect(),
                visits: visits.into_iter().map(|(day, v, _)| (day, v)).collect(),
            })
            .collect();
        let others = ahead.iter().map(|a| others(a, &newcomers)).collect();
        Some(Self { drivers, others })
    }

    /// Plug-ins on one path over days ahead that begin at `begins`. `leaves` says when a vehicle leaves that is plugged in. `take` is told
    /// the place of the day ahead, the visit that comes again, and until when its vehicle is plugged in; it says when the vehicle leaves
    /// after that, if it does come.
    pub(crate) fn draw(
        &self,
        begins: &[i64],
        rng: &mut ChaCha8Rng,
        leaves: impl Fn(usize) -> i64,
        mut take: impl FnMut(usize, &Arrival, i64, &mut ChaCha8Rng) -> Option<i64>,
    ) {
        for (place, days) in self.others.iter().enumerate() {
            let visits = pick(days, rng).map_or(&[][..], |d| d.1.as_slice());
            for visit in visits {
                take(place, visit, i64::MIN, rng);
            }
        }
        for driver in &self.drivers {
            let mut busy = driver.standing.map_or(i64::MIN, &leaves);
            for (place, begin) in begins.iter().enumerate() {
                let stands = usize::from(busy > *begin);
                let Some((_, day)) = pick(&driver.days[place][stands], rng) else {
                    continue;
                };
                let first = driver.visits.partition_point(|v| v.0 < *day);
                let visits = driver.visits[first..].iter().take_while(|v| v.0 == *day);
                for (_, visit) in visits {
                    busy = take(place, visit, busy, rng).unwrap_or(busy);
                }
            }
        }
    }
}

fn pick<'a, T>(days: &'a [(f64, T)], rng: &mut ChaCha8Rng) -> Option<&'a (f64, T)> {
    let total = days.last()?.0;
    let level = rng.random::<f64>() * total;
    let place = days.partition_point(|d| d.0 <= level);
    days.get(place.min(days.len() - 1))
}

/// Past days of a driver for a day ahead that begins away, and for one that begins plugged in.
fn days(view: &View<'_>, ahead: &Ahead, visits: &[Past]) -> [Vec<(f64, i32)>; 2] {
    let first = visits.first().map_or(i32::MAX, |v| v.0);
    let mut days = [Vec::new(), Vec::new()];
    let mut sums = [0.0; 2];
    for donor in ahead
        .own
        .iter()
        .filter(|d| d.day > first && d.day >= ahead.day - DAYS)
    {
        let begin = view.log().instant(donor.day, ahead.from);
        let before = visits.partition_point(|v| v.1.start < begin);
        let stood = before > 0 && visits[before - 1].2 > begin;
        for (stands, (days, sum)) in days.iter_mut().zip(&mut sums).enumerate() {
            let alike = if stood == (stands == 1) {
                1.0
            } else {
                OTHERWISE
            };
            *sum += donor.weight * alike;
            days.push((*sum, donor.day));
        }
    }
    days
}

fn others(ahead: &Ahead, newcomers: &BTreeMap<i32, Vec<Arrival>>) -> Vec<(f64, Vec<Arrival>)> {
    let mut sum = 0.0;
    let recent = ahead.own.iter().filter(|d| d.day >= ahead.day - DAYS);
    recent
        .map(|donor| {
            sum += donor.weight;
            (sum, newcomers.get(&donor.day).cloned().unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::super::log::Log;
    use super::super::paths::Grid;
    use super::super::simulate::{Engine, way};
    use super::super::visit::Visit;

    fn visit(start: DateTime<Utc>, hours: i64, user: u32) -> Visit {
        Visit {
            user: Some(user),
            ..Visit::made(start, TimeDelta::hours(hours), 8.0)
        }
    }

    /// Ten neighbours plug in at eight every evening, for 13 hours; ten more every second evening, for 26.
    fn garage() -> Vec<Visit> {
        let first: DateTime<Utc> = "2019-03-04T20:00:00Z".parse().unwrap();
        let mut visits = Vec::new();
        for day in 0..60 {
            for user in 0..20 {
                let start = first + TimeDelta::days(day) + TimeDelta::minutes(user.into());
                if user < 10 {
                    visits.push(visit(start, 13, user));
                } else if (i64::from(user) + day) % 2 == 0 {
                    visits.push(visit(start, 26, user));
                }
            }
        }
        visits
    }

    #[test]
    fn a_driver_comes_again_only_after_he_left_and_as_is_his_habit() {
        let visits = garage();
        let log = Log::new(Tz::UTC, &visits);
        let until = visits[0].span.start() + TimeDelta::days(50) - TimeDelta::hours(6);
        let grid = Grid {
            start: until.timestamp(),
            step: 3600,
            count: 31,
        };
        let off = BTreeSet::new();
        let engine = Engine::new(log.view(until.timestamp()), &off, None, grid, 7);
        assert_eq!(engine.ways(), 3);
        let paths = engine.stays(60, 1);
        let (mut daily, mut others, mut count) = (0, 0, 0);
        for (_, trips) in paths.iter().enumerate().filter(|(p, _)| way(*p, 3) == 2) {
            let mut ends = [i64::MIN; 20];
            for trip in trips {
                let source = &visits[usize::try_from(trip.source).unwrap()];
                // What was brought before anybody was known comes again as others'.
                if source.span.start() < visits[0].span.start() + TimeDelta::days(8) {
                    continue;
                }
                let user = usize::try_from(source.user.unwrap()).unwrap();
                assert!(trip.start >= ends[user], "{user} comes before he left");
                ends[user] = trip.end;
                if trip.start > until.timestamp() {
                    daily += usize::from(user < 10);
                    others += usize::from(user >= 10);
                }
            }
            count += 1;
        }
        // This evening and the next: all ten daily ones on both, the others on one of them; less what repeats the first days.
        assert!(daily >= 17 * count, "{daily} on {count} paths");
        assert!(
            (7 * count..=11 * count).contains(&others),
            "{others} on {count} paths"
        );
    }

    #[test]
    fn where_most_visits_have_no_name_nobody_is_known() {
        let visits = garage().into_iter().map(|mut v| {
            v.user = v.user.filter(|u| *u < 5);
            v
        });
        let log = Log::new(Tz::UTC, visits);
        let until = 1_556_000_000;
        let grid = Grid {
            start: until,
            step: 3600,
            count: 31,
        };
        let off = BTreeSet::new();
        assert_eq!(Engine::new(log.view(until), &off, None, grid, 7).ways(), 2);
    }
}
