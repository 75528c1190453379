//! Who may still come, and when who is there may leave: learnt from stays that are over.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use units::local_instant;

use super::Rolling;
use super::known::{self, Known};
use super::player::Player;
use crate::case::{Planning, Stay};
use crate::policy::unmanaged::charge_at_once;

/// Local hours for which the expected vehicles stand: they are imagined anew at midnight, and at 5, 11, 17 and 23
/// o'clock, before the noon gate by when the longest stays of the night before are over and count.
const PART_HOURS: u32 = 6;

/// Days for which a site's first vehicles say less than the other sites' past.
const YOUNG_DAYS: i64 = 14;

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
    /// few hours all are replaced by those that past days say may come until the end of tomorrow.
    pub(super) fn expect_arrivals(&mut self, known: &Known<'_>, now: DateTime<Utc>) {
        let local = now.with_timezone(&self.case.area.zone());
        let today = local.date_naive();
        let part = (today, (local.hour() + 1) / PART_HOURS);
        if self.imagined != Some(part) {
            self.imagined = Some(part);
            self.imagine(known, now, today);
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

    /// The vehicles of past days like today and tomorrow.
    fn imagine(&mut self, known: &Known<'_>, now: DateTime<Utc>, today: NaiveDate) {
        self.players.retain(|p| p.real.is_some());
        let Some(first) = self.first_date(now) else {
            self.pool.imagine(Vec::new());
            return;
        };
        let days: Vec<(NaiveDate, Vec<(NaiveDate, f64)>)> = (0..=1)
            .map(|ahead| today + TimeDelta::days(ahead))
            .map(|date| {
                let like = self.days_like(known, date, first, known::DAYS);
                (date, like)
            })
            .collect();
        let odds = odds(&days);
        let stochastic = self.case.risk.planning == Planning::Stochastic;
        self.pool
            .imagine(if stochastic { odds.clone() } else { vec![1.0] });
        for (date, like) in days {
            for (picture, odds) in odds.iter().enumerate() {
                let Some((past, _)) = like.get(picture % like.len().max(1)) else {
                    continue;
                };
                let place = if stochastic {
                    (picture, 1.0)
                } else {
                    (0, *odds)
                };
                self.expect_day(now, date, *past, *odds, place);
            }
        }
    }

    /// Past days most like `date` with their weights, `most` at most.
    pub(super) fn days_like(
        &self,
        known: &Known<'_>,
        date: NaiveDate,
        first: NaiveDate,
        most: usize,
    ) -> Vec<(NaiveDate, f64)> {
        let now = known.instant();
        known.days_like(date, first, most, |day| {
            let stays = self.by_date.get(&day).into_iter().flatten();
            stays.filter(|s| s.plug_out <= now).count()
        })
    }

    /// First local date of the past that is known at `now`.
    pub(super) fn first_date(&self, now: DateTime<Utc>) -> Option<NaiveDate> {
        let zone = self.case.area.zone();
        let today = now.with_timezone(&zone).date_naive();
        let first = self.by_date.keys().next().copied().filter(|d| *d < today)?;
        // Days before the last site was opened do not tell what comes now.
        let opened = self.opened.iter().copied().filter(|d| *d < today).max();
        let young = |d: &NaiveDate| today - *d < TimeDelta::days(YOUNG_DAYS);
        Some(opened.filter(|d| !young(d)).map_or(first, |d| d.max(first)))
    }

    /// The vehicles of one past day, moved to `date` by local clock time, as far as they come after `now`, take part in
    /// the plan.
    fn expect_day(
        &mut self,
        now: DateTime<Utc>,
        date: NaiveDate,
        past: NaiveDate,
        weight: f64,
        (picture, part): (usize, f64),
    ) {
        for mut player in self.vehicles_of(now, date, past) {
            player.weight = weight;
            player.picture = picture;
            player.part = part;
            self.players.push(player);
        }
    }

    /// The vehicles of one past day, moved to `date` by local clock time, as far as they come after `now`.
    pub(super) fn vehicles_of(
        &self,
        now: DateTime<Utc>,
        date: NaiveDate,
        past: NaiveDate,
    ) -> Vec<Player> {
        let case = self.case;
        let zone = case.area.zone();
        let shift = date - past;
        let moved =
            |at: DateTime<Utc>| local_instant(zone, at.with_timezone(&zone).naive_local() + shift);
        let stays = self.by_date.get(&past).into_iter().flatten();
        let mut players = Vec::new();
        for stay in stays.filter(|s| s.plug_out <= now) {
            let Some(arrival) = stay.arrival_kwh else {
                continue;
            };
            let (plug_in, plug_out) = (moved(stay.plug_in), moved(stay.plug_out));
            if plug_in <= now
                || plug_in < case.grid.start
                || plug_out > case.grid.end()
                || plug_out <= plug_in
            {
                continue;
            }
            let v2g = case.may_discharge.contains(&stay.vehicle_id);
            let stay = Stay {
                plug_in,
                plug_out,
                ..(*stay).clone()
            };
            let session = case.session(stay, arrival, v2g);
            if session.share.is_empty() {
                continue;
            }
            let mut player = Player::new(session, 1.0, None);
            if !case.fleet.departure_known {
                player = player.departing_any_time(case);
            }
            players.push(player);
        }
        players
    }

    /// Keeps room behind limited sites for vehicles still to come: the most that any of the pictures would draw if
    /// all its vehicles charged at once. Without a picture everything is kept: what comes is not known at all.
    pub(super) fn keep_for_arrivals(&mut self, known: &Known<'_>) {
        for (index, site) in self.case.sites.iter().enumerate() {
            if site.import_kw.is_infinite() {
                continue;
            }
            let mut pictures: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for player in &self.players {
                let rare = player.picture >= known::PICTURES;
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
            let blind = self.first_date(known.instant()).is_none();
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

/// Probability of each picture: the mean of its days' shares of the weight, today's and tomorrow's; a day without alike
/// ones has no say.
fn odds(days: &[(NaiveDate, Vec<(NaiveDate, f64)>)]) -> Vec<f64> {
    let count = days.iter().map(|(_, like)| like.len()).max().unwrap_or(0);
    let mut odds = vec![0.0; count];
    for (_, like) in days.iter().filter(|(_, like)| !like.is_empty()) {
        for (picture, odds) in odds.iter_mut().enumerate() {
            *odds += like[picture % like.len()].1;
        }
    }
    let sum: f64 = odds.iter().sum();
    odds.into_iter().map(|o| o / sum).collect()
}
