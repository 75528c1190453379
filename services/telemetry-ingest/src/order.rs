//! The order of names, in numbers.

use fleet::FleetState;

/// Which EVSE comes first: sorting by numbers is many times faster than by names.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Rank of each place, by name.
    ranks: Vec<u32>,
}

impl Order {
    /// Ranks of all places of `state`, which only grows.
    pub(crate) fn of(&mut self, state: &FleetState) -> &[u32] {
        let places = state.places();
        if self.ranks.len() != places.len() {
            self.ranks.resize(places.len(), 0);
            for (rank, place) in (0_u32..).zip(places) {
                self.ranks[place] = rank;
            }
        }
        &self.ranks
    }
}
