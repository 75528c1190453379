//! `v1g` and `v2g`: step by step through the period, on what was known at each moment.
//!
//! ```text
//! D-1 noon   bid for D: schedules of the vehicles plugged in and expected, one per picture of the price
//! D-1 12:45  prices of D are out; the schedule that was cheapest at them is the position
//! each step  vehicles come and go; all answer the others' plans (see `pool`); the step's powers are carried out
//! ```
//!
//! **The promise.** No vehicle leaves short that would have been filled by charging at once, and no site limit is
//! broken. With a known departure the goal binds at departure, and a missing kWh costs more than any market pays. With
//! an unknown departure the stored energy never falls behind charging at once, so that only energy above the
//! requirement and power above what charging needs are used. Behind a tight site room is kept for vehicles that past
//! days say may still come, and where that is not enough the least lax is served first.

mod ahead;
mod aim;
mod arrivals;
mod auction;
mod coming;
mod day;
mod hold;
mod known;
mod peak;
mod player;
mod pool;
mod reserve;
mod score;
mod sites;
mod sold;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use units::DeliveryDay;

use super::qualify::Qualification;
use super::unmanaged::record;
use super::{Policy, Run};
use crate::case::{Case, Stay};
use crate::reference::Held;
use aim::Aim;
use known::Known;
use player::{Player, carried};
use pool::{Market, Pool};

/// Rounds of best answers after something has changed: the second settles what the first has moved, a third changes
/// costs by less than a thousandth (measured on the reference scenarios).
const ROUNDS: usize = 2;

/// Attempts to take a new share of reserve, each half of the one before, until a vehicle keeps the share it has.
const PARTS: usize = 3;

/// Steps between two looks at who may still come.
const REFRESH_HOURS: i64 = 1;

/// The walk through the period.
struct Rolling<'a> {
    case: &'a Case,
    policy: Policy,
    players: Vec<Player>,
    pool: Pool,
    market: Market,
    /// Sessions by arrival, index of the next to come.
    arrivals: Vec<usize>,
    next_arrival: usize,
    /// Stays by local date of arrival.
    by_date: BTreeMap<NaiveDate, Vec<&'a Stay>>,
    /// What the forecaster knows.
    past: coming::Past<'a>,
    /// Local date and part of the day for which the expected vehicles were imagined.
    imagined: Option<(NaiveDate, u32)>,
    /// What was done: charging and discharging, kW per session and step.
    done: Vec<(Vec<f64>, Vec<f64>)>,
    /// Bids whose result is not out.
    pending: Vec<ahead::Offer>,
    /// Bids of all days, for the record.
    offers: Vec<ahead::Offer>,
    /// Highest draw of each site in the local month so far, kW.
    peaks: Vec<f64>,
    /// How good the plans of the days sold ahead are, in the order of `offers`.
    scores: Vec<Score>,
    /// Bids for reserve, for the record.
    bids: Vec<reserve::ReserveBid>,
    /// Reserve sold, MW: `[product][block on sale]`.
    sold_mw: Vec<Vec<f64>>,
    /// What it is paid, currency per MW and block: `[product][block on sale]`; zero where none is sold.
    paid: Vec<Vec<f64>>,
    /// Reserve sold and not held, MW: `[product][step]`.
    missing_mw: Vec<Vec<f64>>,
    /// Whether each product may be offered.
    qualifications: Vec<Qualification>,
    /// How rare a shortfall of each product is aimed at.
    aims: Vec<Aim>,
    /// Reserve each session held, per product; `None` where none.
    held: Vec<Option<Vec<Held>>>,
}

pub use score::{Score, Scored};

pub use day::{DayPlan, PlannedBid, PlannedSession, PlannedStep};

/// What `v1g` or `v2g` has decided for the delivery day `date` when its last gate closes; `None` for a day outside the
/// period.
pub(super) fn plan_day(case: &Case, policy: Policy, date: NaiveDate) -> Option<DayPlan> {
    let day = DeliveryDay::try_new(date, case.area.exchange_zone()).ok()?;
    if case.grid.first_from(day.start()) >= case.grid.first_from(day.end()) {
        return None;
    }
    let closes = known::gate_of(case.area, market::Product::DayAhead, day).closes;
    let mut rolling = Rolling::new(case, policy);
    rolling.bid_before_the_period();
    let mut t = 0;
    while t < case.grid.steps && case.grid.at(t) < closes {
        rolling.step(t);
        t += 1;
    }
    Some(rolling.day_plan(day, t, closes.min(case.grid.at(t))))
}

/// Runs `v1g` or `v2g`.
pub(super) fn run(case: &Case, policy: Policy) -> Run {
    let mut rolling = Rolling::new(case, policy);
    rolling.bid_before_the_period();
    for t in 0..case.grid.steps {
        rolling.step(t);
    }
    rolling.finish()
}

impl<'a> Rolling<'a> {
    fn new(case: &'a Case, policy: Policy) -> Self {
        let mut arrivals: Vec<usize> = (0..case.sessions.len()).collect();
        arrivals.sort_by(|a, b| {
            let (a, b) = (&case.sessions[*a].stay, &case.sessions[*b].stay);
            (a.plug_in, &a.session_id).cmp(&(b.plug_in, &b.session_id))
        });
        let zone = case.area.zone();
        let mut by_date: BTreeMap<NaiveDate, Vec<&Stay>> = BTreeMap::new();
        for stay in case.sessions.iter().map(|s| &s.stay).chain(&case.others) {
            let date = stay.plug_in.with_timezone(&zone).date_naive();
            by_date.entry(date).or_default().push(stay);
        }
        let unsold = (!case.day_ahead).then_some(0.0);
        let unsold_blocks: Vec<Vec<f64>> = case
            .reserves
            .iter()
            .map(|r| vec![0.0; r.on_sale().count()])
            .collect();
        Self {
            case,
            policy,
            players: Vec::new(),
            pool: Pool::new(case),
            market: Market {
                price: vec![0.0; case.grid.steps],
                sold: vec![unsold; case.grid.steps],
                spreads: (0.0, 0.0),
            },
            arrivals,
            next_arrival: 0,
            by_date,
            past: coming::Past::new(case),
            imagined: None,
            done: case
                .sessions
                .iter()
                .map(|s| (vec![0.0; s.share.len()], vec![0.0; s.share.len()]))
                .collect(),
            pending: Vec::new(),
            offers: Vec::new(),
            peaks: vec![0.0; case.sites.len()],
            scores: Vec::new(),
            bids: Vec::new(),
            sold_mw: unsold_blocks.clone(),
            paid: unsold_blocks,
            missing_mw: vec![vec![0.0; case.grid.steps]; case.reserves.len()],
            qualifications: vec![Qualification::default(); case.reserves.len()],
            aims: vec![Aim::first(1.0 - case.risk.reserve_reliability); case.reserves.len()],
            held: vec![None; case.sessions.len()],
        }
    }

    fn discharges(&self) -> bool {
        self.policy.discharges()
    }

    /// The gate of the first day closes before the period begins.
    fn bid_before_the_period(&mut self) {
        let day = DeliveryDay::containing(self.case.grid.start, self.case.area.exchange_zone());
        let gate = known::gate_of(self.case.area, market::Product::DayAhead, day);
        let at = gate.closes.min(self.case.grid.start);
        let known = Known::at_instant(self.case, 0, at);
        self.look(&known);
        self.expect_arrivals(&known, at);
        self.offer_before_the_period(&known, day);
        self.bid_day_ahead(&known, day);
    }

    fn step(&mut self, t: usize) {
        let known = Known::at(self.case, t);
        let begins = self.case.grid.at(t);
        let mut changed = self.leave(begins);
        changed |= self.join(&known, begins);
        changed |= self.linger(t);
        let hourly = (begins - self.case.grid.start).num_seconds()
            % TimeDelta::hours(REFRESH_HOURS).num_seconds()
            < self.case.grid.step.num_seconds();
        let cleared = self.clear(&known) | self.clear_reserve(&known);
        if hourly || cleared || t == 0 {
            self.look(&known);
            self.expect_arrivals(&known, begins);
            if cleared {
                self.answer_expected(&known);
            }
            self.aim_for_peak(&known);
            changed = true;
        }
        changed |= self.relieve_sites(&known);
        if changed {
            self.hold_reserve(&known);
        }
        self.score_days(&known);
        self.bid_if_a_gate_closes(&known);
        self.offer_reserve_if_a_gate_closes(&known);
        self.record_reserve(t);
        self.judge_blocks(t);
        self.carry_out(t, None);
        self.join_within(&known, t);
        self.note_peak(t);
    }

    /// Removes vehicles that have left.
    fn leave(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.players.len();
        let (case, pool) = (self.case, &mut self.pool);
        self.players.retain(|p| {
            let gone = p
                .real
                .is_some_and(|i| case.sessions[i].stay.plug_out <= now);
            if gone {
                pool.count(p, -1.0);
            }
            !gone
        });
        self.players.len() != before
    }

    /// Takes in vehicles that plugged in at or before `until`.
    fn join(&mut self, known: &Known<'_>, until: DateTime<Utc>) -> bool {
        let mut joined = false;
        while let Some(index) = self.arrivals.get(self.next_arrival).copied() {
            if self.case.sessions[index].stay.plug_in > until {
                break;
            }
            self.next_arrival += 1;
            self.arrive(known, index);
            joined = true;
        }
        joined
    }

    /// One vehicle plugs in: it answers the plans of the others.
    fn arrive(&mut self, known: &Known<'_>, index: usize) -> usize {
        let case = self.case;
        let session = &case.sessions[index];
        let player = if case.fleet.departure_known {
            Player::new(session.clone(), 1.0, Some(index))
        } else {
            let stay = Stay {
                plug_out: self.expected_departure(&session.stay, session.stay.plug_in),
                ..session.stay.clone()
            };
            let v2g = session.discharge_kw > 0.0;
            let assumed = case.session(stay, session.arrival, v2g);
            Player::new(assumed, 1.0, Some(index)).departing_any_time(case)
        };
        self.players.push(player);
        let last = self.players.len() - 1;
        self.answer(known, last);
        last
    }

    /// Vehicles that are still there when they were thought to leave get a new guess.
    fn linger(&mut self, t: usize) -> bool {
        let mut lingers = false;
        if self.case.fleet.departure_known {
            return lingers;
        }
        let now = self.case.grid.at(t);
        for index in 0..self.players.len() {
            let player = &self.players[index];
            if player.real.is_none() || player.session.steps().end > t + 1 {
                continue;
            }
            let guess = self.expected_departure(&player.session.stay, now);
            let player = &mut self.players[index];
            self.pool.count(player, -1.0);
            player.stays_until(self.case, guess);
            self.pool.count(player, 1.0);
            lingers = true;
        }
        lingers
    }

    /// Takes in prices published by now.
    fn look(&mut self, known: &Known<'_>) {
        let expected =
            known.outlook(known.now..self.case.grid.steps.min(known.now + self.steps_of_days(3)));
        let mut last_day = Vec::new();
        let day = self.steps_of_days(1).max(1);
        for (k, price) in expected.iter().enumerate() {
            self.market.price[known.now + k] = price.unwrap_or(0.0);
        }
        let seen = known.now + expected.len();
        last_day.extend_from_slice(&self.market.price[seen.saturating_sub(day)..seen]);
        for t in seen..self.case.grid.steps {
            self.market.price[t] = last_day.get((t - seen) % day).copied().unwrap_or(0.0);
        }
        self.market.spreads = known.spreads();
    }

    fn steps_of_days(&self, days: i64) -> usize {
        let steps = TimeDelta::days(days).num_milliseconds()
            / self.case.grid.step.num_milliseconds().max(1);
        usize::try_from(steps).unwrap_or(usize::MAX)
    }

    /// Lets one vehicle answer; a plugged-in one that would leave short because room is kept for others gets it.
    fn answer(&mut self, known: &Known<'_>, index: usize) {
        let discharge = self.discharges();
        let player = &mut self.players[index];
        if player.ahead().is_empty() {
            return;
        }
        let mut served = false;
        // A vehicle's own needs come before what was sold on it, but not before what it has held already.
        for attempt in 0..=PARTS + 1 {
            match attempt {
                0 => {}
                part if part < PARTS => player.halve_what_is_new(),
                PARTS => player.return_to_noted(),
                _ => player.release_holds(),
            }
            player.full |= attempt > 0;
            let answer = pool::respond(
                self.case,
                known,
                &mut self.pool,
                &self.market,
                player,
                discharge,
            );
            served = answer.is_ok_and(|plan| plan.short_kwh < 1e-6);
            if served || !player.holds_any() {
                break;
            }
        }
        let (real, site) = (player.real.is_some(), player.session.site);
        if let (false, true, Some(site)) = (served, real, site) {
            sites::serve(
                self.case,
                known,
                &mut self.pool,
                &mut self.players,
                site,
                discharge,
            );
        }
    }

    /// Sites whose plans no longer fit what is measured now are served anew.
    fn relieve_sites(&mut self, known: &Known<'_>) -> bool {
        let mut changed = false;
        let discharge = self.discharges();
        for (index, site) in self.case.sites.iter().enumerate() {
            let over = (known.now..self.case.grid.steps)
                .take_while(|t| *t < known.now + self.steps_of_days(1).max(1))
                .any(|t| {
                    let net = self.pool.site_net(index, t);
                    let load = known.base(index, t) + net;
                    let idle = net.abs() < 1e-9 && t != known.now;
                    !idle && site.is_breached((load, load))
                });
            if over {
                sites::serve(
                    self.case,
                    known,
                    &mut self.pool,
                    &mut self.players,
                    index,
                    discharge,
                );
                changed = true;
            }
        }
        changed
    }

    /// Rounds of best answers of all vehicles, plugged-in ones in order of their sessions.
    fn settle(&mut self, known: &Known<'_>) {
        for _ in 0..ROUNDS {
            for index in 0..self.players.len() {
                if self.players[index].real.is_some() {
                    self.answer(known, index);
                }
            }
        }
    }

    /// Vehicles that plug in within step `t`, after its powers were set: they take what is left.
    fn join_within(&mut self, known: &Known<'_>, t: usize) {
        let ends = self.case.grid.at(t + 1);
        while let Some(index) = self.arrivals.get(self.next_arrival).copied() {
            if self.case.sessions[index].stay.plug_in >= ends {
                break;
            }
            self.next_arrival += 1;
            let player = self.arrive(known, index);
            self.carry_out(t, Some(player));
        }
    }

    /// Carries out step `t` for the vehicles that are there (or only for one that has just come).
    fn carry_out(&mut self, t: usize, only: Option<usize>) {
        let range = only.map_or(0..self.players.len(), |i| i..i + 1);
        for player in &mut self.players[range] {
            let Some(index) = player.real else { continue };
            if player.begins() != t {
                continue;
            }
            let session = &self.case.sessions[index];
            let (charge, discharge) = carried(self.case, player, session.share_at(t));
            let j = t - session.first;
            if j < session.share.len() {
                self.done[index].0[j] = charge;
                self.done[index].1[j] = discharge;
            }
            let fleet = self.case.fleet;
            player.energy += self.case.grid.hours()
                * (fleet.charge_efficiency * charge - discharge / fleet.discharge_efficiency);
            player.next += 1;
        }
    }

    fn finish(self) -> Run {
        let case = self.case;
        let planned = self
            .offers
            .iter()
            .filter_map(ahead::Offer::planned)
            .collect();
        let sessions = case
            .sessions
            .iter()
            .zip(self.done)
            .zip(self.held)
            .map(|((s, (charge, discharge)), held)| {
                let mut done = record(case, s, charge, discharge);
                done.reserves = held.unwrap_or_else(|| hold::nothing(case, s.share.len()));
                done
            })
            .collect();
        Run {
            policy: self.policy,
            sessions,
            sold_kw: Some(self.market.sold.iter().map(|q| q.unwrap_or(0.0)).collect()),
            sold_mw: self.sold_mw,
            paid: self.paid,
            missing_mw: self.missing_mw,
            qualifications_lost: self
                .qualifications
                .iter()
                .map(Qualification::times_lost)
                .collect(),
            planned,
            scores: self.scores,
            relative_gap: None,
            lower_bound: None,
            limits: Vec::new(),
        }
    }
}
