//! Two lists in order of the same names, walked side by side: a look-up per name costs more than a step.

use std::iter::Peekable;

/// Values by names that are asked for in order.
#[derive(Debug)]
pub struct Beside<K, V, I: Iterator<Item = (K, V)>> {
    rest: Peekable<I>,
}

impl<'a, K: Ord + 'a, V, I: Iterator<Item = (&'a K, V)>> Beside<&'a K, V, I> {
    /// Walks `sorted`, which is in order of its names, each once.
    pub fn new(sorted: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            rest: sorted.into_iter().peekable(),
        }
    }

    /// The value of `name`, if there is one. Names have to come in order, each once.
    pub fn at(&mut self, name: &K) -> Option<V> {
        while self.rest.next_if(|(next, _)| *next < name).is_some() {}
        let (_, value) = self.rest.next_if(|(next, _)| *next == name)?;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn finds_what_a_look_up_finds(
            map in prop::collection::btree_map(0_u8..40, any::<u8>(), 0..30),
            asked in prop::collection::btree_set(0_u8..40, 0..30),
        ) {
            let (map, asked): (BTreeMap<u8, u8>, BTreeSet<u8>) = (map, asked);
            let mut beside = Beside::new(&map);
            for name in &asked {
                prop_assert_eq!(beside.at(name), map.get(name));
            }
        }
    }
}
