//! Joint scenarios: whole past days, as they happened, moved to the days ahead.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use units::Interval;

use crate::{Plugged, Stay, calendar, quantiles};

/// Weeks looked back on.
const WEEKS: i64 = 8;

/// Age at which a past day counts half (measured: about 24 days pays most).
const HALF_LIFE_DAYS: f64 = 24.0;

/// Scenarios below which the weekday alone is thin and stretches with the same day types are added.
const THIN: usize = 4;

/// Length of stay assumed for a vehicle without any history to compare it with.
const UNKNOWN_STAY: TimeDelta = TimeDelta::hours(8);

/// One way the time ahead may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario<K> {
    /// Probability; those of all scenarios add to 1.
    pub weight: f64,
    /// Days between the past stretch it repeats and the horizon; zero if it repeats none.
    pub days_back: i64,
    /// Stays that overlap the time from the cut-off to the end of the horizon, in order of their start. A vehicle plugged
    /// in now keeps its plug-in as start.
    pub stays: Vec<Stay<K>>,
}

/// Scenarios with their origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenarios<K> {
    /// At least one.
    pub scenarios: Vec<Scenario<K>>,
    /// Name of the model.
    pub model: &'static str,
    /// Version of the model.
    pub version: &'static str,
    /// Newest input that may have had an influence.
    pub input_until: DateTime<Utc>,
    /// Stated reasons to doubt them.
    pub doubts: Vec<String>,
}

/// Draws whole past days by the local clock of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    zone: Tz,
}

impl Days {
    /// Name of the model.
    pub const MODEL: &'static str = "past-days";
    /// Version of the model.
    pub const VERSION: &'static str = "1";

    /// Days of `zone`.
    #[must_use]
    pub const fn new(zone: Tz) -> Self {
        Self { zone }
    }

    /// Scenarios from `until` to the end of `horizon`. Of `past`, only stays that began before `until` are looked at, and of
    /// one that had not ended by then only that it lasts. Vehicles in `plugged` are in every scenario, with their stated departure
    /// or, without one, with a length of stay drawn from past stays that lasted longer than theirs so far.
    #[must_use]
    pub fn scenarios<K: Ord + Clone>(
        &self,
        past: &[Stay<K>],
        plugged: &[Plugged<K>],
        until: DateTime<Utc>,
        horizon: Interval,
    ) -> Scenarios<K> {
        let mut known: Vec<&Stay<K>> = past.iter().filter(|s| s.span.end() <= until).collect();
        known.sort_by(|a, b| (a.span, &a.outlet).cmp(&(b.span, &b.outlet)));
        let (shifts, mut doubts) = self.shifts(&known, until, horizon);
        if shifts.is_empty() {
            doubts.push(format!(
                "no past day to draw from before {until}: only vehicles plugged in now"
            ));
        }
        let count = shifts.len().max(1);
        let drawn: Vec<(f64, i64)> = if shifts.is_empty() {
            vec![(1.0, 0)]
        } else {
            shifts.iter().map(|days| (recency(*days), *days)).collect()
        };
        let total: f64 = drawn.iter().map(|(w, _)| w).sum();
        let scenarios = drawn
            .into_iter()
            .enumerate()
            .map(|(i, (weight, days_back))| Scenario {
                weight: weight / total,
                days_back,
                stays: self.together(&known, plugged, until, horizon, days_back, (i, count)),
            })
            .collect();
        Scenarios {
            scenarios,
            model: Self::MODEL,
            version: Self::VERSION,
            input_until: until,
            doubts,
        }
    }

    /// Days to go back for each scenario, nearest first: whole weeks, then stretches of the same day types, then any.
    fn shifts<K>(
        &self,
        known: &[&Stay<K>],
        until: DateTime<Utc>,
        horizon: Interval,
    ) -> (Vec<i64>, Vec<String>) {
        let usable: Vec<i64> = (1..=7 * WEEKS)
            .filter(|days| self.has_data(known, until, horizon, *days))
            .collect();
        let weeks: Vec<i64> = usable.iter().copied().filter(|d| d % 7 == 0).collect();
        if weeks.len() >= THIN {
            return (weeks, Vec::new());
        }
        let alike: Vec<i64> = usable
            .iter()
            .copied()
            .filter(|d| self.day_types_match(until, horizon, *d))
            .collect();
        if alike.len() >= THIN {
            let doubt = format!(
                "{} weeks of these weekdays: days of the same type were added",
                weeks.len()
            );
            return (alike, vec![doubt]);
        }
        let doubt = format!(
            "{} past stretches in all, weekdays and weekends mixed",
            usable.len()
        );
        let doubts = if usable.is_empty() {
            Vec::new()
        } else {
            vec![doubt]
        };
        (usable, doubts)
    }

    /// A stretch can be drawn if it lies wholly in the past and inside the history, and somebody came.
    fn has_data<K>(
        &self,
        known: &[&Stay<K>],
        until: DateTime<Utc>,
        horizon: Interval,
        days: i64,
    ) -> bool {
        let from = calendar::moved(self.zone, until, -days);
        let to = calendar::moved(self.zone, horizon.end(), -days);
        let Some(first) = known.first() else {
            return false;
        };
        let begun = known.partition_point(|s| s.span.start() < from);
        let ended = known.partition_point(|s| s.span.start() < to);
        to <= until && first.span.start() <= from && ended > begun
    }

    fn day_types_match(&self, until: DateTime<Utc>, horizon: Interval, days: i64) -> bool {
        let mut date = calendar::date(self.zone, until);
        let last = calendar::date(self.zone, horizon.end() - TimeDelta::microseconds(1));
        while date <= last {
            if calendar::is_weekend(date) != calendar::is_weekend(date - TimeDelta::days(days)) {
                return false;
            }
            date += TimeDelta::days(1);
        }
        true
    }

    /// Vehicles plugged in now, then arrivals of the past stretch at outlets that are free by then.
    fn together<K: Ord + Clone>(
        &self,
        known: &[&Stay<K>],
        plugged: &[Plugged<K>],
        until: DateTime<Utc>,
        horizon: Interval,
        days_back: i64,
        draw: (usize, usize),
    ) -> Vec<Stay<K>> {
        let mut stays: Vec<Stay<K>> = plugged
            .iter()
            .enumerate()
            .filter_map(|(v, p)| self.stay_on(known, p, until, (v, draw)))
            .collect();
        if days_back > 0 {
            let mut free: BTreeMap<K, DateTime<Utc>> = stays
                .iter()
                .map(|s| (s.outlet.clone(), s.span.end()))
                .collect();
            for stay in known {
                let Some(moved) = self.arrival(stay, until, horizon, days_back) else {
                    continue;
                };
                if free
                    .get(&moved.outlet)
                    .is_none_or(|end| *end <= moved.span.start())
                {
                    free.insert(moved.outlet.clone(), moved.span.end());
                    stays.push(moved);
                }
            }
        }
        stays.sort_by(|a, b| (a.span, &a.outlet).cmp(&(b.span, &b.outlet)));
        stays
    }

    /// A past stay moved to the time ahead, if it then begins between the cut-off and the end of the horizon.
    fn arrival<K: Clone>(
        &self,
        stay: &Stay<K>,
        until: DateTime<Utc>,
        horizon: Interval,
        days: i64,
    ) -> Option<Stay<K>> {
        let start = calendar::moved(self.zone, stay.span.start(), days);
        let end = calendar::moved(self.zone, stay.span.end(), days);
        if start < until || start >= horizon.end() {
            return None;
        }
        let span = Interval::try_new(start, end).ok()?;
        Some(Stay {
            span,
            ..stay.clone()
        })
    }

    /// The rest of the stay of a vehicle that is plugged in now.
    fn stay_on<K: Ord + Clone>(
        &self,
        known: &[&Stay<K>],
        plugged: &Plugged<K>,
        until: DateTime<Utc>,
        (vehicle, (draw, draws)): (usize, (usize, usize)),
    ) -> Option<Stay<K>> {
        let start = plugged.stay.span.start();
        let end = match plugged.departure {
            Some(departure) if departure > until => departure,
            // Overdue: it stands there still, and may leave at any moment.
            _ => start + likely_length(known, &plugged.stay, until, level(vehicle, draw, draws)),
        };
        let span = Interval::try_new(start, end.max(until + TimeDelta::minutes(1))).ok()?;
        Some(Stay {
            span,
            ..plugged.stay.clone()
        })
    }
}

/// Length of a stay that has lasted from its start to `until` already: quantile `level` of past stays that lasted longer,
/// at the same outlet if there are some, else anywhere.
fn likely_length<K: Ord>(
    known: &[&Stay<K>],
    stay: &Stay<K>,
    until: DateTime<Utc>,
    level: f64,
) -> TimeDelta {
    const ENOUGH: usize = 4;
    let so_far = until - stay.span.start();
    let longer = |same: bool| -> Vec<f64> {
        known
            .iter()
            .filter(|s| (!same || s.outlet == stay.outlet) && s.span.length() > so_far)
            .map(|s| s.span.hours())
            .collect()
    };
    let here = longer(true);
    let samples = if here.len() >= ENOUGH {
        here
    } else {
        longer(false)
    };
    quantiles(&samples, &[level]).map_or(so_far + UNKNOWN_STAY, |hours| {
        #[expect(clippy::cast_possible_truncation, reason = "hours of a stay")]
        let seconds = (hours[0] * 3_600.0).round() as i64;
        TimeDelta::seconds(seconds)
    })
}

/// A level for vehicle `vehicle` in scenario `draw` of `draws`: evenly spread over the scenarios for each vehicle, and not the same
/// for all vehicles of a scenario (they do not all leave early together).
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn level(vehicle: usize, draw: usize, draws: usize) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    ((draw as f64 + 0.5) / draws.max(1) as f64 + GOLDEN * vehicle as f64).fract()
}

#[expect(clippy::cast_precision_loss, reason = "at most 56 days")]
fn recency(days: i64) -> f64 {
    (-(days as f64) / HALF_LIFE_DAYS).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Timelike;
    use chrono_tz::Europe::Amsterdam;
    use proptest::prelude::*;
    use units::{Efficiency, Energy, Power};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn stay(outlet: u32, start: DateTime<Utc>, end: DateTime<Utc>) -> Stay<u32> {
        Stay {
            outlet,
            span: Interval::try_new(start, end).unwrap(),
            energy: Energy::from_kwh(20.0),
            stored: Some(Energy::from_kwh(10.0)),
            capacity: Some(Energy::from_kwh(60.0)),
            max_charge: Power::from_kw(11.0),
            max_discharge: Power::ZERO,
            floor: Energy::ZERO,
            charge_efficiency: Efficiency::try_new(0.94).unwrap(),
            discharge_efficiency: Efficiency::try_new(0.94).unwrap(),
        }
    }

    /// Every local day from 09:00 to 17:00 at outlets 0..cars, over `weeks` before `until`.
    fn working_days(until: DateTime<Utc>, weeks: i64, cars: u32) -> Vec<Stay<u32>> {
        let today = units::DeliveryDay::containing(until, Amsterdam);
        (1..=7 * weeks)
            .flat_map(|back| {
                let day = today.plus(-back);
                let clock = move |h| day.at(chrono::NaiveTime::from_hms_opt(h, 0, 0).unwrap());
                (0..cars).map(move |car| stay(car, clock(9), clock(17)))
            })
            .collect()
    }

    fn horizon(from: DateTime<Utc>, hours: i64) -> Interval {
        Interval::try_new(from, from + TimeDelta::hours(hours)).unwrap()
    }

    #[test]
    fn eight_weeks_give_eight_scenarios_whose_weights_add_to_one() {
        let until = at("2024-06-17T06:00:00Z");
        let past = working_days(until, 10, 3);
        let made = Days::new(Amsterdam).scenarios(&past, &[], until, horizon(until, 40));
        assert_eq!(made.scenarios.len(), 8);
        assert!((made.scenarios.iter().map(|s| s.weight).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(made.scenarios.windows(2).all(|w| w[0].weight > w[1].weight));
        assert!(made.doubts.is_empty());
        // Monday and Tuesday, three cars each; identical days make identical scenarios.
        for scenario in &made.scenarios {
            assert_eq!(scenario.stays.len(), 6);
            assert_eq!(scenario.stays, made.scenarios[0].stays);
        }
    }

    #[test]
    fn stays_keep_their_local_clock_over_a_clock_change() {
        // Sunday 2024-03-31 has 23 hours.
        let until = at("2024-03-30T06:00:00Z");
        let past = working_days(until, 9, 1);
        let made = Days::new(Amsterdam).scenarios(&past, &[], until, horizon(until, 60));
        for scenario in &made.scenarios {
            for stay in &scenario.stays {
                let local = stay.span.start().with_timezone(&Amsterdam);
                assert_eq!((local.hour(), stay.span.length()), (9, TimeDelta::hours(8)));
            }
        }
    }

    #[test]
    fn a_vehicle_plugged_in_now_leaves_when_it_said_and_blocks_its_outlet() {
        let until = at("2024-06-17T06:00:00Z");
        let past = working_days(until, 9, 2);
        let leaves = at("2024-06-18T05:00:00Z");
        let plugged = [Plugged {
            stay: stay(0, until - TimeDelta::hours(1), until),
            departure: Some(leaves),
        }];
        let made = Days::new(Amsterdam).scenarios(&past, &plugged, until, horizon(until, 20));
        for scenario in &made.scenarios {
            let at_0: Vec<_> = scenario.stays.iter().filter(|s| s.outlet == 0).collect();
            assert_eq!(at_0.len(), 1);
            assert_eq!(at_0[0].span.end(), leaves);
            assert_eq!(scenario.stays.iter().filter(|s| s.outlet == 1).count(), 1);
        }
    }

    #[test]
    fn without_a_stated_departure_past_stays_that_lasted_longer_tell() {
        let until = at("2024-06-17T12:00:00Z");
        let past = working_days(until, 9, 1);
        let plugged = [Plugged {
            stay: stay(0, until - TimeDelta::hours(5), until),
            departure: None,
        }];
        let made = Days::new(Amsterdam).scenarios(&past, &plugged, until, horizon(until, 6));
        for scenario in &made.scenarios {
            assert_eq!(scenario.stays[0].span.length(), TimeDelta::hours(8));
        }
    }

    #[test]
    fn an_empty_history_leaves_the_vehicles_plugged_in_and_says_so() {
        let until = at("2024-06-17T12:00:00Z");
        let plugged = [Plugged {
            stay: stay(0, until - TimeDelta::hours(5), until),
            departure: None,
        }];
        let made = Days::new(Amsterdam).scenarios(&[], &plugged, until, horizon(until, 6));
        assert_eq!(made.scenarios.len(), 1);
        assert_eq!(made.scenarios[0].stays[0].span.end(), until + UNKNOWN_STAY);
        assert!(made.doubts[0].contains("no past day"), "{:?}", made.doubts);
    }

    #[test]
    fn a_short_history_pools_days_of_the_same_type_and_says_so() {
        let until = at("2024-06-19T06:00:00Z");
        let past = working_days(until, 2, 1);
        let made = Days::new(Amsterdam).scenarios(&past, &[], until, horizon(until, 20));
        assert!(made.scenarios.len() >= 4, "{}", made.scenarios.len());
        assert!(made.doubts[0].contains("same type"), "{:?}", made.doubts);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn nothing_after_the_cut_off_has_an_influence(
            later in prop::collection::vec((0_u32..4, -600_i64..2_000, 1_i64..900), 0..30),
        ) {
            let until = at("2024-06-17T06:00:00Z");
            let past = working_days(until, 9, 3);
            let mut wild = past.clone();
            for (outlet, start, length) in later {
                let start = until + TimeDelta::minutes(start);
                let end = (start + TimeDelta::minutes(length)).max(until + TimeDelta::minutes(1));
                wild.push(stay(outlet, start, end));
            }
            let days = Days::new(Amsterdam);
            prop_assert_eq!(
                days.scenarios(&past, &[], until, horizon(until, 36)),
                days.scenarios(&wild, &[], until, horizon(until, 36))
            );
        }

        #[test]
        fn the_order_of_the_past_does_not_matter(seed in 0_usize..1_000) {
            let until = at("2024-06-17T06:00:00Z");
            let past = working_days(until, 9, 3);
            let mut other = past.clone();
            other.rotate_left(seed % past.len());
            let days = Days::new(Amsterdam);
            prop_assert_eq!(
                days.scenarios(&past, &[], until, horizon(until, 36)),
                days.scenarios(&other, &[], until, horizon(until, 36))
            );
        }
    }
}
