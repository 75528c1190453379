//! Who may still come, and when who is there may leave.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use units::local_instant;

use super::Rolling;
use super::known::Known;
use super::player::Player;
use crate::case::{Planning, Stay};
use crate::policy::unmanaged::charge_at_once;

/// Local hours for which the expected vehicles stand: they are imagined anew at midnight, and at 5, 11, 17 and 23
/// o'clock, before the noon gate by when the longest stays of the night before are over and count.
const PART_HOURS: u32 = 6;

/// Ways the time ahead may go that are planned for, likeliest first, and how many are drawn to choose them from.
const WAYS: usize = 10;
const DRAWN: usize = 100;

/// The likeliest of the ways planned for, for whose vehicles room is kept behind limited sites.
const LIKELIEST: usize = 4;

impl Rolling<'_> {
    /// When a vehicle whose departure is not known may leave: an early guess from stays at the same site that are over
    /// and lasted longer than this one so far; at least the end of the step in hand.
    pub(super) fn expected_departure(&self, stay: &Stay, now: DateTime<Utc>) -> DateTime<Utc> {
        /// Share of like stays that leave before the guess.
        const EARLY: f64 = 0.05;
        /// Days of stays looked at: what people do changes with the season.
        const DAYS: i64 = 28;
        let case = self.case;
        let so_far = now - stay.plug_in;
        let first = now.with_timezone(&case.area.zone()).date_naive() - TimeDelta::days(DAYS);
        let mut lengths: Vec<TimeDelta> = self
            .by_date
            .range(first..)
            .flat_map(|(_, stays)| stays)
            .filter(|s| s.plug_out <= now && s.site_id == stay.site_id)
            .map(|s| s.plug_out - s.plug_in)
            .filter(|length| *length > so_far)
            .collect();
        lengths.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a list"
        )]
        let index = (lengths.len() as f64 * EARLY) as usize;
        let step_end = case.grid.at(case.grid.containing(now) + 1);
        let guess = lengths.get(index).map_or(step_end, |l| stay.plug_in + *l);
        guess.max(step_end).min(case.grid.end())
    }

    /// Brings the expected vehicles up to `now`: those whose time has come are taken out, whoever is there or not. Every
    /// few hours all are replaced by those that the forecaster says may come until the end of tomorrow.
    pub(super) fn expect_arrivals(&mut self, known: &Known<'_>, now: DateTime<Utc>) {
        let local = now.with_timezone(&self.case.area.zone());
        let today = local.date_naive();
        let part = (today, (local.hour() + 1) / PART_HOURS);
        if self.imagined != Some(part) {
            self.imagined = Some(part);
            self.imagine(now, today);
            self.keep_for_arrivals(known);
            self.answer_expected(known);
            return;
        }
        let pool = &mut self.pool;
        self.players.retain(|p| {
            let past = p.real.is_none() && p.session.stay.plug_in <= now;
            if past {
                pool.count(p, -1.0);
            }
            !past
        });
        self.keep_for_arrivals(known);
    }

    /// Lets all expected vehicles answer.
    pub(super) fn answer_expected(&mut self, known: &Known<'_>) {
        for index in 0..self.players.len() {
            if self.players[index].real.is_none() {
                self.answer(known, index);
            }
        }
    }

    /// The vehicles that may come until the end of tomorrow, as the forecaster sees it now.
    fn imagine(&mut self, now: DateTime<Utc>, today: NaiveDate) {
        self.players.retain(|p| p.real.is_some());
        let zone = self.case.area.zone();
        let midnight = (today + TimeDelta::days(2)).and_hms_opt(0, 0, 0);
        let to = midnight.map_or(now + TimeDelta::days(2), |m| local_instant(zone, m));
        let ways = self.past.ways(self.case, (now, to), (WAYS, DRAWN), 0);
        let stochastic = self.case.risk.planning == Planning::Stochastic;
        let odds = if stochastic {
            ways.iter().map(|w| w.odds).collect()
        } else {
            vec![1.0]
        };
        self.pool.imagine(odds);
        for (picture, way) in ways.into_iter().enumerate() {
            let (picture, part) = if stochastic {
                (picture, 1.0)
            } else {
                (0, way.odds)
            };
            let expected = |player: Player| player.expected(picture, way.odds, part);
            self.players.extend(way.players.into_iter().map(expected));
        }
    }

    /// Keeps room behind limited sites for vehicles still to come: the most that any of the likeliest pictures would draw if
    /// all its vehicles charged at once. Without a picture everything is kept: what comes is not known at all.
    pub(super) fn keep_for_arrivals(&mut self, known: &Known<'_>) {
        for (index, site) in self.case.sites.iter().enumerate() {
            if site.import_kw.is_infinite() {
                continue;
            }
            let mut pictures: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for player in &self.players {
                let rare = player.picture >= LIKELIEST;
                if player.real.is_some() || rare || player.session.site != Some(index) {
                    continue;
                }
                let load = pictures
                    .entry(player.picture)
                    .or_insert_with(|| vec![0.0; self.case.grid.steps]);
                let (ec, hours) = (self.case.fleet.charge_efficiency, self.case.grid.hours());
                let powers = charge_at_once(&player.session, ec, hours);
                for (t, power) in player.session.steps().zip(powers) {
                    load[t] += power;
                }
            }
            let blind = !self.past.tells(known.instant());
            for t in known.now..self.case.grid.steps {
                let most = pictures.values().map(|l| l[t]).fold(0.0, f64::max);
                self.pool.kept[index][t] = if blind { f64::INFINITY } else { most };
            }
            self.pool.contested[index] = blind || self.is_contested(known, index);
        }
    }

    /// Whether a site's limit is less than all vehicles that are there or may come can draw together, within a day.
    pub(super) fn is_contested(&self, known: &Known<'_>, site: usize) -> bool {
        let pictures = self
            .players
            .iter()
            .map(|p| p.picture + 1)
            .max()
            .unwrap_or(1);
        let end = (known.now + self.steps_of_days(1)).min(self.case.grid.steps);
        (known.now..end).any(|t| {
            let mut coming = vec![0.0; pictures];
            let mut there = known.base(site, t);
            for player in self.players.iter().filter(|p| p.session.site == Some(site)) {
                let most = player.session.share_at(t) * player.session.stay.charge_kw;
                match player.real {
                    Some(_) => there += most,
                    None => coming[player.picture] += most,
                }
            }
            there + coming.into_iter().fold(0.0, f64::max) > self.case.sites[site].import_kw
        })
    }
}
