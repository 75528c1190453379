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

use std::collections::BTreeMap;

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
            late: TimeDelta::days(2),
        }
    }
}

/// How a sample hangs together with the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Link {
    /// Not at all: too far apart, or there is none.
    Gap,
    /// Covered, by this pair alone.
    Pair,
    /// Covered, by samples in between that are no longer kept.
    Thinned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Sample {
    import: Energy,
    export: Energy,
    link: Link,
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

/// The meter of one EVSE: samples in, intervals out. Instants count by whole seconds.
///
/// Serialised it is what a consumer needs to resume, without the intervals it has published: those are given back with
/// [`Meter::restore`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    samples: BTreeMap<DateTime<Utc>, Sample>,
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
        let newest = self.samples.last_key_value().map_or(at, |(at, _)| *at);
        if newest - at > rules.late {
            return Taken::TooLate;
        }
        let before = pair(self.samples.range(..at).next_back());
        let after = pair(self.samples.range(at..).next());
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
        Taken::Counted
    }

    /// Adds what flowed between two samples to the intervals they touch, or takes it back.
    fn add(&mut self, from: (DateTime<Utc>, Sample), to: (DateTime<Utc>, Sample), sign: Sign) {
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
        let settled = newest - rules.refine;
        let old: Vec<_> = self
            .samples
            .range(..settled)
            .map(|(at, sample)| (*at, sample.link))
            .collect();
        // A sample is inside a stretch if it hangs on the one before and the one after hangs on it.
        for inner in old.windows(2) {
            let [(at, link), (next, next_link)] = inner else {
                continue;
            };
            if *link != Link::Gap && *next_link != Link::Gap {
                self.samples.remove(at);
                if let Some(next) = self.samples.get_mut(next) {
                    next.link = Link::Thinned;
                }
            }
        }
        let forgotten = newest - rules.late - rules.longest;
        self.samples = self.samples.split_off(&forgotten);
        self.published = self.published.split_off(&(forgotten - INTERVAL));
    }

    /// Intervals that are over and whose figures changed since they were published last, each with its next version; they
    /// count as published then. An interval is over once a sample at or after its end came in.
    pub fn publish(&mut self, evse: &Evse) -> Vec<MeterInterval> {
        let Some((newest, _)) = self.samples.last_key_value() else {
            return Vec::new();
        };
        let over: Vec<_> = self
            .open
            .keys()
            .copied()
            .take_while(|start| *start + INTERVAL <= *newest)
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

    /// Gives back an interval published before a restart, unless it has changed since.
    pub fn restore(&mut self, published: &MeterInterval) {
        let start = published.interval.start();
        if !self.open.contains_key(&start) {
            let measured = Measured {
                import: published.import,
                export: published.export,
                covered_seconds: i64::from(published.covered_seconds),
                version: published.version,
            };
            self.published.insert(start, measured);
        }
    }

    /// Start of the first interval that a sample could still change; `None` before the first sample.
    #[must_use]
    pub fn first_interval(&self) -> Option<DateTime<Utc>> {
        self.samples
            .first_key_value()
            .map(|(at, _)| interval_start(*at))
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

fn pair(entry: Option<(&DateTime<Utc>, &Sample)>) -> Option<(DateTime<Utc>, Sample)> {
    entry.map(|(at, sample)| (*at, *sample))
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
