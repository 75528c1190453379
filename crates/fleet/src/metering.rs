//! From registers to energy per settlement interval; a gap stays a gap.
//!
//! ```text
//! register    *-----*----------*                *------*        samples
//! interval  |      1      |      2      |      3      |
//! covered     ============================      missing ======= only between samples at most `longest` apart
//! ```
//!
//! Between two samples the register is taken to grow evenly; at an interval's edge the share is rounded down to the joule, and
//! what one interval loses its neighbour gains, so intervals add up to the register difference exactly.

mod samples;

use std::collections::BTreeMap;

use self::samples::{At, Link, Sample, Samples};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Interval, Power};

use crate::{Evse, EvseId, Reading, SiteId};

/// Length of a metered interval: the imbalance settlement period of the European areas.
pub const INTERVAL: TimeDelta = TimeDelta::minutes(15);

/// Metered energy of one EVSE in one settlement interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterInterval {
    /// Outlet.
    pub evse: EvseId,
    /// Grid connection point it belongs to.
    pub site: SiteId,
    /// When.
    pub interval: Interval,
    /// Energy taken from the grid in the covered part, at least zero.
    pub import: Energy,
    /// Energy given to the grid in the covered part as a magnitude, at least zero.
    pub export: Energy,
    /// Seconds of the interval that were measured; the rest is unknown, not zero.
    pub covered_seconds: u32,
    /// 1 at first, one more each time late data change the figures.
    pub version: u32,
}

impl MeterInterval {
    /// Import less export: positive was taken from the grid.
    #[must_use]
    pub fn net(&self) -> Energy {
        self.import - self.export
    }
}

/// Bounds of metering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Samples further apart than this leave a gap: nobody knows when the energy flowed.
    pub longest: TimeDelta,
    /// Samples this much older than the newest are thinned to the edges of the covered stretches: a sample inside a stretch
    /// then no longer refines it.
    pub refine: TimeDelta,
    /// Newest samples that are kept whole at most, however short the time that they cover: of a meter that speaks every few
    /// seconds, a late sample refines the last minutes.
    pub most: usize,
    /// Samples this much older than the newest no longer change anything.
    pub late: TimeDelta,
}

impl Default for Rules {
    /// A gap is more than one settlement interval with a minute for clock drift. Late data count for two days, the time a
    /// station commonly keeps what it could not send over a weekend outage is longer and then left to the metering company.
    fn default() -> Self {
        Self {
            longest: INTERVAL + TimeDelta::minutes(1),
            refine: TimeDelta::minutes(30),
            most: 64,
            late: TimeDelta::days(2),
        }
    }
}

/// One interval as measured so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Measured {
    import: Energy,
    export: Energy,
    covered_seconds: i64,
    /// Version published last; 0 if none.
    version: u32,
}

impl Measured {
    fn figures(&self) -> (Energy, Energy, i64) {
        (self.import, self.export, self.covered_seconds)
    }
}

/// The meter of one EVSE: samples in, intervals out. Instants count by whole seconds.
///
/// Serialised it is what a consumer needs to resume, without the intervals it has published: those are given back with
/// [`Meter::restore`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    samples: Samples,
    /// Intervals whose figures differ from what was published last.
    open: BTreeMap<DateTime<Utc>, Measured>,
    /// Intervals as published last.
    #[serde(skip)]
    published: BTreeMap<DateTime<Utc>, Measured>,
}

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It counts, though newer ones came before: intervals that are over may be others now.
    CountedLate,
    /// It says nothing new: a repetition, inside a stretch that is measured already, or without registers.
    Nothing,
    /// It is too late to count.
    TooLate,
    /// It lies outside what the samples before and after it allow: a register never steps back.
    Contradicts,
}

impl Meter {
    /// Takes in an accepted reading. An EVSE that may discharge is metered only by samples with both registers: an export
    /// that is not known is not zero.
    pub fn take(&mut self, reading: &Reading, evse: &Evse, rules: &Rules) -> Taken {
        let export = if evse.max_discharge > Power::ZERO {
            reading.export_register
        } else {
            Some(Energy::ZERO)
        };
        let (Some(import), Some(export)) = (reading.import_register, export) else {
            return Taken::Nothing;
        };
        let Some(at) = reading.at.with_nanosecond(0) else {
            return Taken::Nothing;
        };
        self.insert(at, import, export, rules)
    }

    fn insert(
        &mut self,
        at: DateTime<Utc>,
        import: Energy,
        export: Energy,
        rules: &Rules,
    ) -> Taken {
        let newest = self.samples.newest().map_or(at, |(at, _)| at);
        if newest - at > rules.late {
            return Taken::TooLate;
        }
        let (before, after) = self.samples.around(at);
        match after {
            Some((same, _)) if same == at => return Taken::Nothing,
            Some((_, next)) if next.link == Link::Thinned => return Taken::Nothing,
            _ => {}
        }
        let mut sample = Sample {
            import,
            export,
            link: Link::Gap,
        };
        if before.is_some_and(|(_, before)| before.import > import || before.export > export)
            || after.is_some_and(|(_, after)| after.import < import || after.export < export)
        {
            return Taken::Contradicts;
        }
        if let (Some(before), Some(after)) = (before, after)
            && after.1.link == Link::Pair
        {
            self.add(before, after, Sign::Less);
        }
        if let Some(before) = before
            && at - before.0 <= rules.longest
        {
            sample.link = Link::Pair;
            self.add(before, (at, sample), Sign::More);
        }
        if let Some((later, mut next)) = after {
            next.link = Link::Gap;
            if later - at <= rules.longest {
                next.link = Link::Pair;
                self.add((at, sample), (later, next), Sign::More);
            }
            self.samples.insert(later, next);
        }
        self.samples.insert(at, sample);
        self.thin(newest.max(at), rules);
        if at < newest {
            Taken::CountedLate
        } else {
            Taken::Counted
        }
    }

    /// Adds what flowed between two samples to the intervals they touch, or takes it back.
    fn add(&mut self, from: At, to: At, sign: Sign) {
        let (mut start, mut import, mut export) = (from.0, from.1.import, from.1.export);
        while start < to.0 {
            let quarter = interval_start(start);
            let end = (quarter + INTERVAL).min(to.0);
            let import_then = between(from.0, from.1.import, to.0, to.1.import, end);
            let export_then = between(from.0, from.1.export, to.0, to.1.export, end);
            let measured = self.touch(quarter);
            sign.apply(&mut measured.import, import_then - import);
            sign.apply(&mut measured.export, export_then - export);
            let seconds = (end - start).num_seconds();
            measured.covered_seconds += match sign {
                Sign::More => seconds,
                Sign::Less => -seconds,
            };
            (start, import, export) = (end, import_then, export_then);
        }
    }

    fn touch(&mut self, quarter: DateTime<Utc>) -> &mut Measured {
        let published = &mut self.published;
        self.open
            .entry(quarter)
            .or_insert_with(|| published.remove(&quarter).unwrap_or_default())
    }

    /// Drops samples that no longer refine anything but keeps the edges of covered stretches, and forgets what is too late
    /// to change.
    fn thin(&mut self, newest: DateTime<Utc>, rules: &Rules) {
        self.samples.thin(newest - rules.refine, rules.most);
        let forgotten = newest - rules.late - rules.longest;
        self.samples.forget(forgotten);
        let oldest = forgotten - INTERVAL;
        if self
            .published
            .first_key_value()
            .is_some_and(|(at, _)| *at < oldest)
        {
            self.published = self.published.split_off(&oldest);
        }
    }

    /// True if [`Meter::publish`] has something to say.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let first = self.open.first_key_value();
        let newest = self.samples.newest();
        first
            .zip(newest)
            .is_some_and(|((start, _), (newest, _))| *start + INTERVAL <= newest)
    }

    /// Intervals that are over and whose figures changed since they were published last, each with its next version; they
    /// count as published then. An interval is over once a sample at or after its end came in.
    pub fn publish(&mut self, evse: &Evse) -> Vec<MeterInterval> {
        let Some((newest, _)) = self.samples.newest() else {
            return Vec::new();
        };
        let over: Vec<_> = self
            .open
            .keys()
            .copied()
            .take_while(|start| *start + INTERVAL <= newest)
            .collect();
        over.into_iter()
            .filter_map(|start| self.publish_one(start, evse))
            .collect()
    }

    fn publish_one(&mut self, start: DateTime<Utc>, evse: &Evse) -> Option<MeterInterval> {
        let mut measured = self.open.remove(&start)?;
        measured.version += 1;
        self.published.insert(start, measured);
        Some(MeterInterval {
            evse: evse.id.clone(),
            site: evse.site.clone(),
            interval: Interval::try_new(start, start + INTERVAL).ok()?,
            import: measured.import,
            export: measured.export,
            covered_seconds: u32::try_from(measured.covered_seconds).ok()?,
            version: measured.version,
        })
    }

    /// Gives back an interval published before a restart. Of one that was published after this snapshot, nothing is believed but
    /// its version: the samples since are taken in again, and give its figures or newer ones. That holds as long as only samples
    /// in order of time came between the snapshot and the publication. May be told again once they are taken in.
    pub fn restore(&mut self, published: &MeterInterval) {
        let start = published.interval.start();
        let measured = Measured {
            import: published.import,
            export: published.export,
            covered_seconds: i64::from(published.covered_seconds),
            version: published.version,
        };
        let is_over = self.is_over(published.interval);
        match self.open.get_mut(&start) {
            Some(open) if open.figures() == measured.figures() => {
                self.open.remove(&start);
            }
            Some(open) => {
                open.version = open.version.max(measured.version);
                return;
            }
            None if is_over => {}
            None => return,
        }
        self.published.insert(start, measured);
    }

    /// True if a sample at or after the end of `interval` came in.
    fn is_over(&self, interval: Interval) -> bool {
        let newest = self.samples.newest();
        newest.is_some_and(|(newest, _)| interval.end() <= newest)
    }

    /// Start of the first interval that a sample could still change; `None` before the first sample.
    #[must_use]
    pub fn first_interval(&self) -> Option<DateTime<Utc>> {
        self.samples.first().map(|(at, _)| interval_start(at))
    }

    /// Energy in all intervals known, open ones too: import and export.
    #[must_use]
    pub fn total(&self) -> (Energy, Energy) {
        let all = || self.open.values().chain(self.published.values());
        (all().map(|m| m.import).sum(), all().map(|m| m.export).sum())
    }
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    More,
    Less,
}

impl Sign {
    fn apply(self, to: &mut Energy, energy: Energy) {
        match self {
            Self::More => *to += energy,
            Self::Less => *to -= energy,
        }
    }
}

/// Start of the interval that contains `at`: intervals are aligned to the epoch, hence to the hour in every zone whose
/// offset is a multiple of a quarter hour.
fn interval_start(at: DateTime<Utc>) -> DateTime<Utc> {
    at - TimeDelta::seconds(at.timestamp().rem_euclid(INTERVAL.num_seconds()))
}

/// Register at `at`, evenly grown from `v0` at `t0` to `v1` at `t1`, rounded down to the joule; whole seconds.
fn between(
    t0: DateTime<Utc>,
    v0: Energy,
    t1: DateTime<Utc>,
    v1: Energy,
    at: DateTime<Utc>,
) -> Energy {
    if at >= t1 {
        return v1;
    }
    let grown = i128::from((v1 - v0).joules());
    let share = (grown * i128::from((at - t0).num_seconds()))
        .div_euclid(i128::from((t1 - t0).num_seconds()));
    // A share of a difference of two i64 that is itself an i64.
    v0 + Energy::from_joules(i64::try_from(share).unwrap_or(0))
}

#[cfg(test)]
#[path = "metering_tests.rs"]
mod tests;
