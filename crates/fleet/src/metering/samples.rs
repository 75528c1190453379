//! The samples of one meter, in order of time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use units::Energy;

/// How a sample hangs together with the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Link {
    /// Not at all: too far apart, or there is none.
    Gap,
    /// Covered, by this pair alone.
    Pair,
    /// Covered, by samples in between that are no longer kept.
    Thinned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) import: Energy,
    pub(super) export: Energy,
    pub(super) link: Link,
}

/// A sample and its instant, in whole seconds.
pub(super) type At = (DateTime<Utc>, Sample);

/// Sorted, each instant once. Nearly every sample is the newest: appending to a list is what it mostly takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Samples(Vec<At>);

impl Samples {
    pub(super) fn first(&self) -> Option<At> {
        self.0.first().copied()
    }

    pub(super) fn newest(&self) -> Option<At> {
        self.0.last().copied()
    }

    /// Place of the first sample at or after `at`.
    fn place(&self, at: DateTime<Utc>) -> usize {
        match self.0.last() {
            Some((newest, _)) if *newest >= at => self.0.partition_point(|(known, _)| *known < at),
            _ => self.0.len(),
        }
    }

    /// The last sample before `at`, and the first at or after it.
    pub(super) fn around(&self, at: DateTime<Utc>) -> (Option<At>, Option<At>) {
        let place = self.place(at);
        let before = place.checked_sub(1).and_then(|n| self.0.get(n));
        (before.copied(), self.0.get(place).copied())
    }

    /// Puts a sample in its place, instead of one of the same instant.
    pub(super) fn insert(&mut self, at: DateTime<Utc>, sample: Sample) {
        let place = self.place(at);
        match self.0.get_mut(place) {
            Some(known) if known.0 == at => known.1 = sample,
            _ => self.0.insert(place, (at, sample)),
        }
    }

    /// Of the samples before `settled` and all but the newest `most`, keeps the edges of covered stretches.
    pub(super) fn thin(&mut self, settled: DateTime<Utc>, most: usize) {
        let old = self.0.partition_point(|(at, _)| *at < settled);
        let mut old = old.max(self.0.len().saturating_sub(most));
        let mut n = 0;
        // A sample is inside a stretch if it hangs on the one before and the one after hangs on it.
        while n + 1 < old {
            if self.0[n].1.link != Link::Gap && self.0[n + 1].1.link != Link::Gap {
                self.0.remove(n);
                self.0[n].1.link = Link::Thinned;
                old -= 1;
            } else {
                n += 1;
            }
        }
    }

    /// Drops what is older than `oldest`.
    pub(super) fn forget(&mut self, oldest: DateTime<Utc>) {
        if self.0.first().is_some_and(|(at, _)| *at < oldest) {
            self.0.retain(|(at, _)| *at >= oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Seconds, joules of import and of export since the sample before (of the first: since the epoch and since the meter was built),
/// and the link as 0, 1 or 2. A snapshot holds dozens of samples of each meter: written out they would be most of it.
type Step = (i64, i64, i64, u8);

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut last = (0, Energy::ZERO, Energy::ZERO);
        to.collect_seq(self.0.iter().map(|(at, sample)| {
            let next = (at.timestamp(), sample.import, sample.export);
            let step: Step = (
                next.0 - last.0,
                (next.1 - last.1).joules(),
                (next.2 - last.2).joules(),
                sample.link as u8,
            );
            last = next;
            step
        }))
    }
}

/// As written now, or as an earlier release did.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Steps(Vec<Step>),
    Samples(std::collections::BTreeMap<DateTime<Utc>, Sample>),
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let steps = match Written::deserialize(from)? {
            Written::Samples(samples) => return Ok(Self(samples.into_iter().collect())),
            Written::Steps(steps) => steps,
        };
        let mut samples = Vec::with_capacity(steps.len());
        let mut last = (0_i64, 0_i64, 0_i64);
        for (seconds, import, export, link) in steps {
            let sum = |a: i64, b: i64| a.checked_add(b);
            let next = sum(last.0, seconds)
                .zip(sum(last.1, import))
                .zip(sum(last.2, export));
            let ((at, import), export) =
                next.ok_or_else(|| D::Error::custom("a sample out of range"))?;
            last = (at, import, export);
            let at = DateTime::from_timestamp(at, 0)
                .ok_or_else(|| D::Error::custom(format!("{at} is no instant of a sample")))?;
            let link = match link {
                0 => Link::Gap,
                1 => Link::Pair,
                2 => Link::Thinned,
                _ => return Err(D::Error::custom(format!("{link} is no link of a sample"))),
            };
            let sample = Sample {
                import: Energy::from_joules(import),
                export: Energy::from_joules(export),
                link,
            };
            samples.push((at, sample));
        }
        if samples.is_sorted_by(|a: &At, b: &At| a.0 < b.0) {
            Ok(Self(samples))
        } else {
            Err(D::Error::custom("samples are not in order of time"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_774_742_400 + seconds, 0).unwrap()
    }

    fn sample(import: i64, link: Link) -> Sample {
        Sample {
            import: Energy::from_joules(import),
            export: Energy::ZERO,
            link,
        }
    }

    #[test]
    fn samples_are_written_as_steps_and_read_in_both_forms() {
        let mut samples = Samples::default();
        samples.insert(at(10), sample(700, Link::Pair));
        samples.insert(at(0), sample(100, Link::Gap));
        let text = serde_json::to_string(&samples).unwrap();
        assert_eq!(text, "[[1774742400,100,0,0],[10,600,0,1]]");
        assert_eq!(serde_json::from_str::<Samples>(&text).unwrap(), samples);
        let before = r#"{"2026-03-29T00:00:00Z":{"import":100,"export":0,"link":"Gap"},
            "2026-03-29T00:00:10Z":{"import":700,"export":0,"link":"Pair"}}"#;
        assert_eq!(serde_json::from_str::<Samples>(before).unwrap(), samples);
        for wrong in [
            "[[0,0,0,3]]",
            "[[5,0,0,0],[-1,0,0,0]]",
            "[[9223372036854775807,0,0,0]]",
        ] {
            assert!(serde_json::from_str::<Samples>(wrong).is_err(), "{wrong}");
        }
    }
}
