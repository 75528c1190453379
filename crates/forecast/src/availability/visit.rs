//! Visits as they happened, and the view of them that somebody had at an instant.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use units::{Energy, Interval, Power};

use super::num::{index, real};

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
    /// Group the pool is divided by (site, class, area), numbered by the caller from zero.
    pub group: u32,
    /// What the driver said at plug-in; nothing if the source filled it in afterwards.
    pub said: Option<Said>,
}

/// A driver's own statement at plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// When the driver wants to leave.
    pub departure: DateTime<Utc>,
    /// Energy the driver asked for, if any.
    pub energy: Option<Energy>,
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
    pub(crate) said_end: Option<i64>,
    pub(crate) said_energy: Option<f64>,
}

impl Seen {
    pub(crate) fn hours(&self) -> f64 {
        real(self.end - self.start) / 3600.0
    }
}

/// All visits, in order of their plug-in.
#[derive(Debug, Clone)]
pub struct Log {
    zone: Tz,
    pub(crate) visits: Vec<Seen>,
    /// Visits plugged in at `base + 3600 i`.
    hourly: Vec<u32>,
    base: i64,
    /// First second of every local day from `first_day` on.
    midnights: Vec<i64>,
    first_day: i32,
    groups: u32,
    dropped: Dropped,
}

/// Rows that were not taken for visits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The same visit once more.
    pub repeated: usize,
    /// Visits longer than a month: a plug-out that was never noticed says nothing about a stay.
    pub endless: usize,
}

/// Longest visit that is believed.
pub(crate) const LONGEST: i64 = 31 * 86_400;

/// Days past the last visit for which the calendar is laid out: the furthest horizon and its neighbours.
const AHEAD_DAYS: i64 = 40;

impl Log {
    /// Sorts `visits` by the local clock of `zone`; repeated ones are dropped, endless ones cut after a month, both counted.
    #[must_use]
    pub fn new(zone: Tz, visits: &[Visit]) -> Self {
        let mut seen: Vec<Seen> = visits.iter().map(|v| seen(zone, v)).collect();
        // What is known at plug-in orders first: the end of a visit that lasts must not show in its place.
        seen.sort_by(|a, b| {
            let known = |v: &Seen| (v.start, v.outlet, v.user, v.group, v.said_end);
            known(a)
                .cmp(&known(b))
                .then(a.end.cmp(&b.end))
                .then(a.energy.total_cmp(&b.energy))
        });
        let all = seen.len();
        seen.dedup_by(|a, b| a == b && (a.outlet.is_some() || a.user.is_some()));
        let repeated = all - seen.len();
        let mut endless = 0;
        for visit in &mut seen {
            if visit.end - visit.start > LONGEST {
                visit.end = visit.start + LONGEST;
                endless += 1;
            }
        }
        let dropped = Dropped { repeated, endless };
        let groups = seen.iter().map(|v| v.group + 1).max().unwrap_or(0);
        let base = seen.first().map_or(0, |v| v.start.div_euclid(3600) * 3600);
        let first_day = seen.first().map_or(0, |v| v.day);
        let last = seen.iter().map(|v| v.end).max().unwrap_or(base);
        Self {
            zone,
            hourly: hourly(&seen, base, last),
            base,
            midnights: midnights(zone, first_day, (last - base) / 86_400 + AHEAD_DAYS),
            first_day,
            groups,
            dropped,
            visits: seen,
        }
    }

    /// Zone of the local clock.
    #[must_use]
    pub const fn zone(&self) -> Tz {
        self.zone
    }

    /// Visits kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.visits.len()
    }

    /// Whether no visit was kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.visits.is_empty()
    }

    /// Groups, counted from zero to the highest named.
    #[must_use]
    pub const fn groups(&self) -> u32 {
        self.groups
    }

    /// Rows that were not taken for visits.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// What was known at `until`.
    pub(crate) fn view(&self, until: i64) -> View<'_> {
        let begun = self.visits.partition_point(|v| v.start <= until);
        View {
            log: self,
            until,
            begun: &self.visits[..begun],
        }
    }

    /// Instant of `clock` seconds on local day `day`; a skipped time becomes the first after it.
    pub(crate) fn instant(&self, day: i32, clock: i64) -> i64 {
        let midnight = |d: i32| {
            let place = usize::try_from(i64::from(d) - i64::from(self.first_day)).ok()?;
            self.midnights.get(place).copied()
        };
        match (midnight(day), midnight(day + 1)) {
            (Some(start), Some(next)) if next - start == 86_400 => start + clock,
            _ => local(self.zone, day, clock),
        }
    }

    /// Local day and clock of an instant.
    pub(crate) fn clock(&self, at: i64) -> (i32, i64) {
        clock(self.zone, at)
    }
}

/// What was known at an instant: visits that ended, and of those that last only what was known at plug-in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    log: &'a Log,
    pub(crate) until: i64,
    begun: &'a [Seen],
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
    pub(crate) said_end: Option<i64>,
    pub(crate) said_energy: Option<f64>,
}

impl Present {
    pub(crate) fn of(visit: &Seen) -> Self {
        Self {
            start: visit.start,
            day: visit.day,
            clock: visit.clock,
            rating: visit.rating,
            discharge: visit.discharge,
            outlet: visit.outlet,
            user: visit.user,
            group: visit.group,
            said_end: visit.said_end,
            said_energy: visit.said_energy,
        }
    }
}

impl<'a> View<'a> {
    pub(crate) const fn log(&self) -> &'a Log {
        self.log
    }

    /// Visits that ended by then and began no earlier than `from`, in order of their plug-in.
    pub(crate) fn ended(&self, from: i64) -> impl Iterator<Item = &'a Seen> {
        let first = self.begun.partition_point(|v| v.start < from);
        let until = self.until;
        self.begun[first..].iter().filter(move |v| v.end <= until)
    }

    /// Visits that last.
    pub(crate) fn present(&self) -> Vec<Present> {
        let first = self
            .begun
            .partition_point(|v| v.start < self.until - LONGEST);
        self.begun[first..]
            .iter()
            .filter(|v| v.end > self.until)
            .map(Present::of)
            .collect()
    }

    /// Plug-ins on local day `day` in order of the clock: the ended visit, or what is known of one that lasts.
    pub(crate) fn arrivals(&self, day: i32) -> impl Iterator<Item = Result<&'a Seen, Present>> {
        let from = self.begun.partition_point(|v| v.day < day);
        let to = self.begun.partition_point(|v| v.day <= day);
        let until = self.until;
        self.begun[from..to].iter().map(move |v| {
            if v.end <= until {
                Ok(v)
            } else {
                Err(Present::of(v))
            }
        })
    }

    /// Clocks of the plug-ins on local day `day`.
    pub(crate) fn arrival_clocks(&self, day: i32) -> impl Iterator<Item = i64> {
        let from = self.begun.partition_point(|v| v.day < day);
        let to = self.begun.partition_point(|v| v.day <= day);
        self.begun[from..to].iter().map(|v| v.clock)
    }

    /// Visits plugged in at the full hour at or before `at`; `None` after the cut-off and before the first visit.
    pub(crate) fn count(&self, at: i64) -> Option<u32> {
        if at > self.until || at < self.log.base {
            return None;
        }
        let hour = usize::try_from((at - self.log.base) / 3600).ok()?;
        Some(self.log.hourly.get(hour).copied().unwrap_or(0))
    }

    /// Local day of the first visit.
    pub(crate) fn first_day(&self) -> Option<i32> {
        self.begun.first().map(|v| v.day)
    }
}

fn seen(zone: Tz, visit: &Visit) -> Seen {
    let start = visit.span.start().timestamp();
    let (day, clock) = clock(zone, start);
    Seen {
        start,
        end: visit.span.end().timestamp().max(start + 1),
        day,
        clock,
        energy: visit.energy.kwh().max(0.0),
        charge: visit.charge.kw().max(0.1),
        rating: visit.rating.map(|r| r.kw().max(0.1)),
        discharge: visit.discharge.kw().max(0.0),
        outlet: visit.outlet,
        user: visit.user,
        group: visit.group,
        said_end: visit.said.map(|s| s.departure.timestamp()),
        said_energy: visit.said.and_then(|s| s.energy).map(|e| e.kwh().max(0.0)),
    }
}

fn clock(zone: Tz, at: i64) -> (i32, i64) {
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

fn local(zone: Tz, day: i32, clock: i64) -> i64 {
    NaiveDate::from_num_days_from_ce_opt(day)
        .and_then(|d| d.and_hms_opt(0, 0, 0))
        .map_or(0, |m| {
            units::local_instant(zone, m + TimeDelta::seconds(clock)).timestamp()
        })
}

fn midnights(zone: Tz, first: i32, days: i64) -> Vec<i64> {
    (0..i32::try_from(days).unwrap_or(0))
        .map(|d| local(zone, first + d, 0))
        .collect()
}

/// Visits plugged in at every full hour: a difference array.
fn hourly(visits: &[Seen], base: i64, last: i64) -> Vec<u32> {
    let hours = index(real(last - base) / 3600.0) + 2;
    let place = |at: i64| index(real(at - base + 3599) / 3600.0).min(hours - 1);
    let mut change = vec![0_i64; hours];
    for visit in visits {
        change[place(visit.start)] += 1;
        change[place(visit.end)] -= 1;
    }
    let mut now = 0;
    change
        .into_iter()
        .map(|c| {
            now += c;
            u32::try_from(now).unwrap_or(0)
        })
        .collect()
}
