//! How far a topic was read.

use std::collections::BTreeMap;
use std::fmt;

use crate::Record;

/// How far a topic was read or written: per partition, the offset of the last record. A partition that is not named stands
/// before its first record. Records of one partition are in order; there is no order between partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<u32, u64>);

impl Position {
    /// Up to and with `records`.
    pub fn after<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut position = Self::default();
        for record in records {
            position.advance(record.partition, record.offset);
        }
        position
    }

    /// Up to and with `offset` of `partition`, and before the first record of any other.
    #[must_use]
    pub fn at(partition: u32, offset: u64) -> Self {
        let mut position = Self::default();
        position.advance(partition, offset);
        position
    }

    /// Offset of the last record of `partition`; 0 before its first.
    #[must_use]
    pub fn of(&self, partition: u32) -> u64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// Goes on to `offset` in `partition`; never back.
    pub fn advance(&mut self, partition: u32, offset: u64) {
        if offset > 0 {
            let held = self.0.entry(partition).or_insert(0);
            *held = offset.max(*held);
        }
    }

    /// Goes on to where `other` is further.
    pub fn join(&mut self, other: &Self) {
        for (partition, offset) in other.partitions() {
            self.advance(partition, offset);
        }
    }

    /// True if nothing up to `other` is missing.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.partitions().all(|(p, offset)| self.of(p) >= offset)
    }

    /// True before the first record of every partition.
    #[must_use]
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }

    /// Records from the beginning up to here, over all partitions, with those that are no longer kept.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Partitions that have begun, with the offset of their last record.
    pub fn partitions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().map(|(p, offset)| (*p, *offset))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_start() {
            return f.write_str("the beginning");
        }
        for (n, (partition, offset)) in self.partitions().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{partition}:{offset}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_joined_position_covers_both_and_nothing_more(
            a in prop::collection::vec((0_u32..5, 0_u64..20), 0..8),
            b in prop::collection::vec((0_u32..5, 0_u64..20), 0..8),
        ) {
            let position = |of: &[(u32, u64)]| {
                let mut position = Position::default();
                for (partition, offset) in of {
                    position.advance(*partition, *offset);
                }
                position
            };
            let (a, b) = (position(&a), position(&b));
            let mut joined = a.clone();
            joined.join(&b);
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            for partition in 0..5 {
                prop_assert_eq!(joined.of(partition), a.of(partition).max(b.of(partition)));
            }
            prop_assert_eq!(a.covers(&b), joined == a);
        }
    }

    #[test]
    fn a_position_reads_as_partition_and_offset() {
        assert_eq!(Position::default().to_string(), "the beginning");
        let mut position = Position::at(1, 17);
        position.advance(0, 3);
        position.advance(1, 4);
        assert_eq!(position.to_string(), "0:3, 1:17");
        assert_eq!(position.total(), 20);
    }
}
