//! Ways the fleet may go, from the availability forecaster: who comes when, for how long, with which need.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use forecast::availability::{Ask, Coming, Forecaster, Log, Visit};
use units::{Energy, Interval, Power};

use super::player::Player;
use crate::case::{Case, Stay};

/// One way the time ahead may go.
pub(super) struct Way {
    /// Probability; those of all ways add to 1.
    pub(super) odds: f64,
    /// The vehicles that come.
    pub(super) players: Vec<Player>,
}

/// Every stay whose needs are known at its arrival, as the forecaster sees it: none before it begins, its end and need not
/// before they are known.
pub(super) struct Past<'a> {
    log: Log,
    /// In the order in which the log counts its visits.
    stays: Vec<&'a Stay>,
    /// When the first of them was over.
    first_over: Option<DateTime<Utc>>,
}

impl<'a> Past<'a> {
    /// The stays of the account and the others.
    pub(super) fn new(case: &'a Case) -> Self {
        let all = case.sessions.iter().map(|s| &s.stay).chain(&case.others);
        let (mut vehicles, mut sites) = (Numbers::default(), Numbers::default());
        let seen = all.filter_map(|stay| {
            let (vehicle, site) = (vehicles.of(&stay.vehicle_id), sites.of(&stay.site_id));
            Some((visit(case, stay, vehicle, site)?, stay))
        });
        let (visits, stays): (Vec<Visit>, Vec<&Stay>) = seen.unzip();
        Self {
            first_over: visits.iter().map(|v| v.span.end()).min(),
            log: Log::new(case.area.zone(), visits).with_days_off(case.days_off.iter().copied()),
            stays,
        }
    }

    /// Whether a stay was over at `now`: without one nothing is known of what comes.
    pub(super) fn tells(&self, now: DateTime<Utc>) -> bool {
        self.first_over.is_some_and(|over| over <= now)
    }

    /// `count` ways the time from `now` to `to` may go, chosen among `drawn` so that they stand for all, by `seed`; none before a
    /// stay is over. Of who is there now nothing is told.
    pub(super) fn ways(
        &self,
        case: &Case,
        (now, to): (DateTime<Utc>, DateTime<Utc>),
        (count, drawn): (usize, usize),
        seed: u64,
    ) -> Vec<Way> {
        if !self.tells(now) {
            return Vec::new();
        }
        let ask = Ask {
            paths: drawn,
            seed,
            ..Ask::default()
        };
        let forecaster = Forecaster::new(&self.log);
        let expected = forecaster.scenarios(now, to, count, &ask);
        let way = |expected: forecast::availability::Expected| Way {
            odds: expected.weight,
            players: expected
                .stays
                .iter()
                .filter(|coming| !coming.lasts)
                .filter_map(|coming| self.player(case, coming))
                .collect(),
        };
        expected.into_iter().map(way).collect()
    }

    /// The vehicle of a past stay, come again; `None` where its stay is not wholly within the period.
    fn player(&self, case: &Case, coming: &Coming) -> Option<Player> {
        let past = self.stays.get(coming.source)?;
        let (plug_in, plug_out) = (coming.span.start(), coming.span.end());
        if plug_in < case.grid.start || plug_out > case.grid.end() {
            return None;
        }
        let stay = Stay {
            plug_in,
            plug_out,
            ..(*past).clone()
        };
        let v2g = case.may_discharge.contains(&stay.vehicle_id);
        let session = case.session(stay, past.arrival_kwh?, v2g);
        if session.share.is_empty() {
            return None;
        }
        let player = Player::new(session, 1.0, None);
        let known = case.fleet.departure_known;
        Some(if known {
            player
        } else {
            player.departing_any_time(case)
        })
    }
}

/// A stay as the forecaster sees it, at the grid's side; `None` where its energy at arrival is not known.
fn visit(case: &Case, stay: &Stay, vehicle: u32, site: u32) -> Option<Visit> {
    let need = (stay.required_kwh - stay.arrival_kwh?).max(0.0);
    let charge = Power::from_kw(stay.charge_kw);
    Some(Visit {
        span: Interval::try_new(stay.plug_in, stay.plug_out).ok()?,
        energy: Energy::from_kwh(need / case.fleet.charge_efficiency),
        charge,
        rating: Some(charge),
        discharge: Power::from_kw(stay.discharge_kw),
        outlet: None,
        user: Some(vehicle),
        group: site,
        class: 0,
        metered: None,
        slack: None,
        said: None,
    })
}

/// Numbers for names, in order of their first sight.
#[derive(Default)]
struct Numbers<'a>(BTreeMap<&'a str, u32>);

impl<'a> Numbers<'a> {
    fn of(&mut self, name: &'a str) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(name).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, TimeDelta, Weekday};

    use super::*;
    use crate::policy::tests::{Drawn, case, prices};

    /// Three cars on each of the eight days before the period, one at weekends, and one on each day of the period.
    fn commuters() -> Vec<Drawn> {
        let come = |day: i64, minute: i64| Drawn {
            day,
            minute,
            minutes: 480,
            arrival: 0.3,
            wanted: 0.8,
            kw: 11.0,
            site: 2,
        };
        // The period begins on Saturday, 30 March 2024.
        let free = |day: i64| matches!(day.rem_euclid(7), 0 | 1);
        (-8..3)
            .flat_map(|day| (0..if free(day) { 1 } else { 3 }).map(move |n| (day, n)))
            .map(|(day, n)| come(day, 480 + 10 * n))
            .collect()
    }

    fn count(ways: &[Way]) -> f64 {
        let came = |way: &Way| way.odds * f64::from(u32::try_from(way.players.len()).unwrap());
        ways.iter().map(came).sum()
    }

    #[test]
    fn ways_share_one_probability_and_bring_only_vehicles_still_to_come() {
        let case = case(&commuters(), &prices(1), [f64::INFINITY; 2], true);
        let past = Past::new(&case);
        let now = case.grid.start;
        let ways = past.ways(&case, (now, now + TimeDelta::days(2)), (10, 40), 0);
        assert!((ways.iter().map(|w| w.odds).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(count(&ways) > 0.5, "{}", count(&ways));
        for player in ways.iter().flat_map(|w| &w.players) {
            assert!(player.real.is_none());
            assert!(player.session.stay.plug_in > now);
            assert!(player.session.stay.plug_out <= case.grid.end());
        }
    }

    #[test]
    fn before_a_stay_is_over_nothing_is_told() {
        let case = case(&commuters(), &prices(1), [f64::INFINITY; 2], true);
        let past = Past::new(&case);
        let first = case.grid.start - TimeDelta::days(8) + TimeDelta::minutes(490);
        assert!(!past.tells(first));
        let ways = past.ways(&case, (first, case.grid.end()), (10, 40), 0);
        assert!(ways.is_empty());
        assert!(past.tells(first + TimeDelta::hours(8)));
    }

    #[test]
    fn on_a_day_off_fewer_come_than_on_work_days() {
        let mut case = case(&commuters(), &prices(1), [f64::INFINITY; 2], true);
        let monday = chrono::NaiveDate::from_ymd_opt(2024, 4, 1).unwrap();
        assert_eq!(monday.weekday(), Weekday::Mon);
        let midnight = case.grid.start + TimeDelta::days(2);
        let expected = |case: &Case| {
            let span = (midnight - TimeDelta::hours(2), case.grid.end());
            count(&Past::new(case).ways(case, span, (40, 40), 0))
        };
        let usual = expected(&case);
        case.days_off.insert(monday);
        let off = expected(&case);
        assert!(off < 0.7 * usual, "{off} of {usual}");
    }
}
