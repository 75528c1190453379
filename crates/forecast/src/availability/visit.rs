//! Visits as they happened, and what is known of one that lasts.

use std::cmp::Ordering;

use chrono::{DateTime, Datelike, Utc};
use chrono_tz::Tz;
use units::{Energy, Interval, Power};

use super::num::{narrow, real};
use super::stay::Rest;

/// One visit of a vehicle to an outlet: what happened, and what was known when it plugged in.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// From plug-in to plug-out.
    pub span: Interval,
    /// Energy delivered over the visit, at least zero. Known once the visit has ended.
    pub energy: Energy,
    /// Power at which it charges if nobody steers it. Known once the visit has ended, unless `rating` says it before.
    pub charge: Power,
    /// Charging power known at plug-in, such as the outlet's; `None` if only the meter will tell.
    pub rating: Option<Power>,
    /// Power it could feed back, as a magnitude.
    pub discharge: Power,
    /// Outlet, numbered by the caller, where the source knows it.
    pub outlet: Option<u32>,
    /// User, numbered by the caller, where the source knows it.
    pub user: Option<u32>,
    /// The smallest part of the pool that is asked for by itself (the vehicles of one site, class and network area), numbered by
    /// the caller from zero. Sites, classes and areas are sums of groups.
    pub group: u32,
    /// Class of the place (home, work, public, depot), numbered by the caller: who is new is like its class.
    pub class: u32,
    /// What the meter had counted while the visit lasted, if anybody asked: it says what is left from that instant on.
    pub metered: Option<Metered>,
    /// What the battery leaves beside the need; `None` where its state of charge is unknown, and then it neither takes more
    /// than it needs nor gives anything.
    pub slack: Option<Slack>,
    /// What the driver said at plug-in; nothing if the source filled it in afterwards.
    pub said: Option<Said>,
}

#[cfg(test)]
impl Visit {
    /// A visit of so many kWh at 5 kW of which nothing else is known, for tests.
    pub(crate) fn made(start: DateTime<Utc>, stay: chrono::TimeDelta, kwh: f64) -> Self {
        Self {
            span: Interval::try_new(start, start + stay).unwrap(),
            energy: Energy::from_kwh(kwh),
            charge: Power::from_watts(5_000),
            rating: None,
            discharge: Power::from_watts(11_000),
            outlet: None,
            user: None,
            group: 0,
            class: 0,
            metered: None,
            slack: None,
            said: None,
        }
    }
}

/// A driver's own statement at plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// When the driver wants to leave.
    pub departure: DateTime<Utc>,
    /// Energy the driver asked for, if any.
    pub energy: Option<Energy>,
}

/// A meter read during a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metered {
    /// When.
    pub at: DateTime<Utc>,
    /// Delivered since plug-in, at least zero.
    pub energy: Energy,
}

/// Room beside the need of a battery whose state of charge is known, at the grid's side and at least zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slack {
    /// What it could take beyond the need.
    pub room: Energy,
    /// What it could give before it is charged again.
    pub spare: Energy,
}

/// A visit in the units of the kernels: seconds, kW, kWh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Local date of the plug-in, counted in days.
    pub(crate) day: i32,
    /// Local clock of the plug-in, seconds after midnight.
    pub(crate) clock: i64,
    pub(crate) energy: f64,
    pub(crate) charge: f64,
    pub(crate) rating: Option<f64>,
    pub(crate) discharge: f64,
    pub(crate) outlet: Option<u32>,
    pub(crate) user: Option<u32>,
    pub(crate) group: u32,
    pub(crate) class: u32,
    pub(crate) said_end: Option<i64>,
    pub(crate) said_energy: Option<f64>,
    pub(crate) metered: Option<(i64, f64)>,
    pub(crate) slack: Option<(f64, f64)>,
    /// Place among the visits that the log was made of.
    pub(crate) source: u32,
}

/// A visit as it is kept: a year of a large pool is tens of millions. What is unknown is not-a-number or the largest number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    pub(crate) start: i64,
    pub(crate) length: u32,
    pub(crate) day: i32,
    pub(crate) clock: u32,
    energy: f32,
    charge: f32,
    rating: f32,
    discharge: f32,
    outlet: u32,
    user: u32,
    pub(crate) group: u32,
    pub(crate) class: u32,
    said_length: i32,
    said_energy: f32,
    /// Seconds from the plug-in to the reading of the meter.
    metered_after: u32,
    metered: f32,
    room: f32,
    spare: f32,
    source: u32,
}

const NONE: u32 = u32::MAX;

/// Energy that any car may have taken, kWh: the largest battery sold holds some 210.
const CAR_KWH: f32 = 250.0;
/// Times what its power could bring, beyond which more than a car takes is not believed. Powers are often assumed, and a rapid post is
/// taken for a slow one.
const OVERFULL: f32 = 5.0;

/// Seconds of a visit or of a statement; longer ones than a century are not believed anyway.
pub(crate) fn seconds(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(NONE - 1)
}

fn known(value: f32) -> Option<f64> {
    (!value.is_nan()).then(|| f64::from(value))
}

fn number(value: u32) -> Option<u32> {
    (value != NONE).then_some(value)
}

impl Packed {
    pub(crate) const fn end(&self) -> i64 {
        // Lengths are whole seconds below 2^32.
        self.start + self.length as i64
    }

    pub(crate) fn of(zone: Tz, visit: &Visit, source: usize) -> Self {
        let start = visit.span.start().timestamp();
        let (day, clock) = clock(zone, start);
        let kwh = |e: Energy| narrow(e.kwh().max(0.0));
        let kw = |p: Power| narrow(p.kw().max(0.1));
        let some = |value: Option<f32>| value.unwrap_or(f32::NAN);
        let slack = visit.slack;
        Self {
            start,
            length: seconds(visit.span.end().timestamp() - start).max(1),
            day,
            clock: seconds(clock),
            energy: kwh(visit.energy),
            charge: kw(visit.charge),
            rating: some(visit.rating.map(kw)),
            discharge: narrow(visit.discharge.kw().max(0.0)),
            outlet: visit.outlet.unwrap_or(NONE),
            user: visit.user.unwrap_or(NONE),
            group: visit.group,
            class: visit.class,
            said_length: visit.said.map_or(i32::MIN, |s| {
                let length = s.departure.timestamp() - start;
                i32::try_from(length).unwrap_or(i32::MAX)
            }),
            said_energy: some(visit.said.and_then(|s| s.energy).map(kwh)),
            metered_after: visit
                .metered
                .map_or(NONE, |m| seconds(m.at.timestamp() - start)),
            metered: some(visit.metered.map(|m| kwh(m.energy))),
            room: some(slack.map(|s| kwh(s.room))),
            spare: some(slack.map(|s| kwh(s.spare))),
            source: u32::try_from(source).unwrap_or(NONE),
        }
    }

    pub(crate) fn user(&self) -> Option<u32> {
        number(self.user)
    }

    /// Takes energy that cannot have come back to what the power of the visit brings in its time; whether there was any.
    pub(crate) fn believe(&mut self) -> bool {
        let possible = self.charge * narrow(f64::from(self.length) / 3600.0);
        let overfull = self.energy > CAR_KWH.max(OVERFULL * possible);
        if overfull {
            self.energy = possible;
        }
        overfull
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            start: self.start,
            end: self.end(),
            day: self.day,
            clock: i64::from(self.clock),
            energy: f64::from(self.energy),
            charge: f64::from(self.charge),
            rating: known(self.rating),
            discharge: f64::from(self.discharge),
            outlet: number(self.outlet),
            user: number(self.user),
            group: self.group,
            class: self.class,
            said_end: (self.said_length != i32::MIN)
                .then(|| self.start + i64::from(self.said_length)),
            said_energy: known(self.said_energy),
            metered: number(self.metered_after)
                .map(|after| self.start + i64::from(after))
                .zip(known(self.metered)),
            slack: known(self.room).zip(known(self.spare)),
            source: self.source,
        }
    }

    /// What is known at plug-in orders first: the end of a visit that lasts must not show in its place.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let first = |v: &Self| (v.start, v.outlet, v.user, v.group, v.said_length, v.length);
        first(self)
            .cmp(&first(other))
            .then(self.energy.total_cmp(&other.energy))
            .then(self.source.cmp(&other.source))
    }

    /// The same visit once more, by all that is known of it.
    pub(crate) fn repeats(&self, other: &Self) -> bool {
        let named = self.outlet != NONE || self.user != NONE;
        let same = Self {
            source: other.source,
            ..*self
        };
        named && same.seen() == other.seen()
    }
}

impl Seen {
    pub(crate) fn hours(&self) -> f64 {
        real(self.end - self.start) / 3600.0
    }
}

/// A plug-in of a past day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) start: i64,
    /// Local clock, seconds after midnight.
    pub(crate) clock: i64,
    pub(crate) group: u32,
    pub(crate) discharge: f64,
    pub(crate) source: u32,
    /// What became of it; `None` while it lasts.
    pub(crate) rest: Option<Rest>,
}

impl Arrival {
    /// What was known of a visit at `until`.
    pub(crate) fn of(v: &Packed, until: i64) -> Self {
        Self {
            start: v.start,
            clock: i64::from(v.clock),
            group: v.group,
            discharge: f64::from(v.discharge),
            source: v.source,
            rest: (v.end() <= until).then(|| Rest {
                length: i64::from(v.length),
                energy: f64::from(v.energy),
                charge: f64::from(v.charge),
                slack: known(v.room).zip(known(v.spare)),
            }),
        }
    }
}

/// A visit that lasts: what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Present {
    pub(crate) start: i64,
    pub(crate) day: i32,
    pub(crate) clock: i64,
    pub(crate) rating: Option<f64>,
    pub(crate) discharge: f64,
    pub(crate) outlet: Option<u32>,
    pub(crate) user: Option<u32>,
    pub(crate) group: u32,
    pub(crate) class: u32,
    pub(crate) said_end: Option<i64>,
    pub(crate) said_energy: Option<f64>,
    /// kWh that the meter had counted by `until`, where it was read just then.
    pub(crate) done: Option<f64>,
    pub(crate) slack: Option<(f64, f64)>,
    pub(crate) source: u32,
}

impl Present {
    /// What is known of a visit at `until`.
    pub(crate) fn of(visit: &Seen, until: i64) -> Self {
        Self {
            start: visit.start,
            day: visit.day,
            clock: visit.clock,
            rating: visit.rating,
            discharge: visit.discharge,
            outlet: visit.outlet,
            user: visit.user,
            group: visit.group,
            class: visit.class,
            said_end: visit.said_end,
            said_energy: visit.said_energy,
            done: visit.metered.filter(|m| m.0 == until).map(|m| m.1),
            slack: visit.slack,
            source: visit.source,
        }
    }
}

/// Local day and clock of an instant, seconds after midnight.
pub(crate) fn clock(zone: Tz, at: i64) -> (i32, i64) {
    let local = DateTime::<Utc>::from_timestamp(at, 0)
        .unwrap_or_default()
        .with_timezone(&zone)
        .naive_local();
    let clock = local
        .time()
        .signed_duration_since(chrono::NaiveTime::MIN)
        .num_seconds();
    (local.date().num_days_from_ce(), clock)
}
