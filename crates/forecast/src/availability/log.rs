//! All visits of a pool, and the view of them that somebody had at an instant.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use chrono::{Datelike as _, NaiveDate, TimeDelta};
use chrono_tz::Tz;

use super::hole::{Hole, holes};
use super::num::{index, real, size};
use super::visit::{Arrival, Packed, Present, Seen, Visit, clock, seconds};

/// All visits, in order of their plug-in, and the days off.
#[derive(Debug, Clone)]
pub struct Log {
    zone: Tz,
    off: BTreeSet<i32>,
    visits: Vec<Packed>,
    /// Visits plugged in at `base + 3600 i`.
    hourly: Vec<u32>,
    base: i64,
    /// First second of every local day from `first_day` on.
    midnights: Vec<i64>,
    first_day: i32,
    groups: u32,
    dropped: Dropped,
    /// In order.
    holes: Vec<Hole>,
}

/// Rows that were not taken for visits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The same visit once more.
    pub repeated: usize,
    /// Visits longer than a month: a plug-out that was never noticed says nothing about a stay.
    pub endless: usize,
    /// Visits with more energy than a car's battery holds and far more than their power can have brought: they count with what it can.
    pub overfull: usize,
}

/// Visits on their way into a [`Log`], told one by one: a year of a large pool is tens of millions.
#[derive(Debug, Clone)]
pub struct Gathered {
    zone: Tz,
    kept: Vec<Packed>,
}

impl Gathered {
    /// None yet; their local clock is that of `zone`.
    #[must_use]
    pub const fn new(zone: Tz) -> Self {
        Self {
            zone,
            kept: Vec::new(),
        }
    }

    /// Adds a visit, in any order.
    pub fn push(&mut self, visit: &Visit) {
        let source = self.kept.len();
        self.kept.push(Packed::of(self.zone, visit, source));
    }

    /// All that were told, as by [`Log::new`].
    #[must_use]
    pub fn log(self) -> Log {
        Log::of(self.zone, self.kept)
    }
}

/// Longest visit that is believed.
pub(crate) const LONGEST: i64 = 31 * 86_400;

/// Days past the last visit for which the calendar is laid out: the furthest horizon and its neighbours.
const AHEAD_DAYS: i64 = 40;

impl Log {
    /// Sorts `visits` by the local clock of `zone`; repeated ones are dropped, endless ones cut after a month, energy that cannot have come
    /// taken back to what can; all are counted.
    #[must_use]
    pub fn new(zone: Tz, visits: impl IntoIterator<Item = impl Borrow<Visit>>) -> Self {
        let mut gathered = Gathered::new(zone);
        for visit in visits {
            gathered.push(visit.borrow());
        }
        gathered.log()
    }

    fn of(zone: Tz, mut kept: Vec<Packed>) -> Self {
        // What is equal by this order is the same in all that a forecast looks at.
        kept.sort_unstable_by(Packed::order);
        let all = kept.len();
        kept.dedup_by(|a, b| a.repeats(b));
        let repeated = all - kept.len();
        let longest = seconds(LONGEST);
        let (mut endless, mut overfull) = (0, 0);
        for visit in &mut kept {
            if visit.length > longest {
                visit.length = longest;
                endless += 1;
            }
            overfull += usize::from(visit.believe());
        }
        let dropped = Dropped {
            repeated,
            endless,
            overfull,
        };
        let groups = kept.iter().map(|v| v.group + 1).max().unwrap_or(0);
        let base = kept.first().map_or(0, |v| v.start.div_euclid(3600) * 3600);
        let first_day = kept.first().map_or(0, |v| v.day);
        let last = kept.iter().map(Packed::end).max().unwrap_or(base);
        let off = BTreeSet::new();
        Self {
            zone,
            holes: holes(zone, &kept, &off),
            off,
            hourly: hourly(&kept, base, last),
            base,
            midnights: midnights(zone, first_day, (last - base) / 86_400 + AHEAD_DAYS),
            first_day,
            groups,
            dropped,
            visits: kept,
        }
    }

    /// The same with `days` known long before on which fewer people come: holidays and closures.
    #[must_use]
    pub fn with_days_off(mut self, days: impl IntoIterator<Item = NaiveDate>) -> Self {
        let off = days.into_iter().map(|d| d.num_days_from_ce()).collect();
        if self.off != off {
            self.holes = holes(self.zone, &self.visits, &off);
            self.off = off;
        }
        self
    }

    /// Local days on which fewer people come.
    pub(crate) const fn off(&self) -> &BTreeSet<i32> {
        &self.off
    }

    /// All visits in order of their plug-in, for scoring only.
    pub(crate) fn visits(&self) -> impl DoubleEndedIterator<Item = Seen> + Clone + '_ {
        self.visits.iter().map(Packed::seen)
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

    /// Plug-ins on local day `day`, in order: all of them, to learn from those that ended once the day is past.
    pub(crate) fn of_day(&self, day: i32) -> &[Packed] {
        of_day(&self.visits, day)
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
    begun: &'a [Packed],
}

impl<'a> View<'a> {
    pub(crate) const fn log(&self) -> &'a Log {
        self.log
    }

    /// Visits that ended by then and began no earlier than `from`, in order of their plug-in.
    pub(crate) fn ended(&self, from: i64) -> impl Iterator<Item = Seen> + use<'a> {
        let first = self.begun.partition_point(|v| v.start < from);
        let until = self.until;
        let ended = self.begun[first..].iter().filter(move |v| v.end() <= until);
        ended.map(Packed::seen)
    }

    /// Visits that last.
    pub(crate) fn present(&self) -> Vec<Present> {
        let lasting = self.lasting();
        lasting
            .map(|v| Present::of(&v.seen(), self.until))
            .collect()
    }

    /// Number of visits that last.
    pub(crate) fn plugged(&self) -> usize {
        self.lasting().count()
    }

    fn lasting(&self) -> impl Iterator<Item = &'a Packed> {
        let until = self.until;
        let first = self.begun.partition_point(|v| v.start < until - LONGEST);
        self.begun[first..].iter().filter(move |v| v.end() > until)
    }

    /// Places of the visits that ended by then and began no earlier than `from`, with their classes, in order of their plug-in.
    pub(crate) fn ended_places(&self, from: i64) -> impl Iterator<Item = (usize, u32)> + use<'a> {
        let first = self.begun.partition_point(|v| v.start < from);
        let until = self.until;
        let all = self.begun.iter().enumerate().skip(first);
        all.filter(move |(_, v)| v.end() <= until)
            .map(|(place, v)| (place, v.class))
    }

    /// The visit at a place that [`View::ended_places`] gave.
    pub(crate) fn at(&self, place: usize) -> Option<Seen> {
        self.begun.get(place).map(Packed::seen)
    }

    /// Plug-ins on local day `day` in order of the clock, as they may be repeated.
    pub(crate) fn arrivals(&self, day: i32) -> impl Iterator<Item = Arrival> + use<'a> {
        let until = self.until;
        self.day(day).iter().map(move |v| Arrival::of(v, until))
    }

    /// Visits plugged in at `from` or later, in order of their plug-in: user, local day, plug-in, and the end; the cut-off of one that
    /// lasts.
    pub(crate) fn named(
        &self,
        from: i64,
    ) -> impl Iterator<Item = (Option<u32>, (i32, Arrival, i64))> + use<'a> {
        let until = self.until;
        let first = self.begun.partition_point(|v| v.start < from);
        self.begun[first..].iter().map(move |v| {
            let end = v.end().min(until + 1);
            (v.user(), (v.day, Arrival::of(v, until), end))
        })
    }

    fn day(&self, day: i32) -> &'a [Packed] {
        of_day(self.begun, day)
    }

    /// Plug-ins on local day `day` up to its local clock `clock`.
    pub(crate) fn arrived(&self, day: i32, clock: i64) -> usize {
        let at = self.log.instant(day, clock);
        self.day(day).partition_point(|v| v.start <= at)
    }

    /// Visits that began at `from` or later.
    pub(crate) fn begun_since(&self, from: i64) -> usize {
        self.begun.len() - self.begun.partition_point(|v| v.start < from)
    }

    /// Plug-ins on local day `day`.
    pub(crate) fn arrivals_of(&self, day: i32) -> usize {
        self.day(day).len()
    }

    /// Stretches about which the log says nothing, as far as this was seen by then: half-open spans of instants, in order.
    pub(crate) fn holes(&self) -> impl Iterator<Item = (i64, i64)> + use<'a> {
        let until = self.until;
        self.log.holes.iter().filter_map(move |h| h.seen_at(until))
    }

    /// Whether the log says nothing about `at`.
    pub(crate) fn in_hole(&self, at: i64) -> bool {
        self.holes().any(|(from, to)| (from..to).contains(&at))
    }

    /// Visits plugged in at the full hour at or before `at`; `None` after the cut-off, before the first visit, and in holes.
    pub(crate) fn count(&self, at: i64) -> Option<u32> {
        if at > self.until || at < self.log.base || self.in_hole(at) {
            return None;
        }
        let hour = usize::try_from((at - self.log.base) / 3600).ok()?;
        Some(self.log.hourly.get(hour).copied().unwrap_or(0))
    }

    /// Mean of the vehicles plugged in at the hours from `from` on; zero if nothing is known.
    pub(crate) fn mean_count(&self, from: i64) -> f64 {
        let hours = (from..=self.until).step_by(3600);
        let known: Vec<f64> = hours
            .filter_map(|at| self.count(at))
            .map(f64::from)
            .collect();
        known.iter().sum::<f64>() / size(known.len().max(1))
    }

    /// Plug-in of the first visit.
    pub(crate) fn first_start(&self) -> Option<i64> {
        self.begun.first().map(|v| v.start)
    }

    /// Local day of the first visit.
    pub(crate) fn first_day(&self) -> Option<i32> {
        self.begun.first().map(|v| v.day)
    }
}

fn of_day(visits: &[Packed], day: i32) -> &[Packed] {
    let from = visits.partition_point(|v| v.day < day);
    let to = visits.partition_point(|v| v.day <= day);
    &visits[from..to]
}

/// Instant of `clock` seconds on local day `day`; a skipped time becomes the first after it.
pub(crate) fn local(zone: Tz, day: i32, clock: i64) -> i64 {
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
fn hourly(visits: &[Packed], base: i64, last: i64) -> Vec<u32> {
    let hours = index(real(last - base) / 3600.0) + 2;
    let place = |at: i64| index(real(at - base + 3599) / 3600.0).min(hours - 1);
    let mut change = vec![0_i64; hours];
    for visit in visits {
        change[place(visit.start)] += 1;
        change[place(visit.end())] -= 1;
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
