//! New vehicles on a path, in each of the ways.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::ahead::TWIN_SHIFT;
use super::num::floor;
use super::paths::Trip;
use super::simulate::{Engine, Repeat, index_of};
use super::stay::Rest;
use super::visit::Arrival;

impl Engine<'_> {
    /// Plug-ins of the donor day, moved to the day ahead by the local clock; growth repeats some, or leaves some out.
    pub(super) fn come(
        &self,
        repeat: &Repeat,
        rng: &mut ChaCha8Rng,
        wanted: impl Fn(usize) -> bool,
        mut take: impl FnMut(usize, Trip),
    ) {
        let (ahead, end) = (&self.ahead[repeat.ahead], self.grid.end());
        let scale = repeat.donor.scale;
        for arrival in self.view.arrivals(repeat.donor.day) {
            let group = usize::try_from(arrival.group).unwrap_or(0);
            if arrival.clock + TWIN_SHIFT < ahead.from || !wanted(group) {
                continue;
            }
            let times = floor(scale + rng.random::<f64>());
            let Some(rest) = self.rest(&arrival, rng) else {
                continue;
            };
            for time in 0..times {
                let shift = if time > 0 {
                    rng.random_range(-TWIN_SHIFT..=TWIN_SHIFT)
                } else {
                    0
                };
                let clock = arrival.clock + shift;
                if clock < ahead.from {
                    continue;
                }
                let start = self.view.log().instant(ahead.day, clock);
                if start < end {
                    take(group, again(&arrival, start, rest));
                }
            }
        }
    }

    /// What becomes of a visit that comes again; of one that lasts, what may become of it.
    fn rest(&self, arrival: &Arrival, rng: &mut ChaCha8Rng) -> Option<Rest> {
        arrival.rest.or_else(|| {
            self.standing
                .rest_of(arrival.start, arrival.group, rng.random())
        })
    }

    /// Plug-ins one by one on path `path`, by the clocks of past ones.
    pub(super) fn come_singly(&self, path: usize, mut take: impl FnMut(usize, Trip)) {
        for ahead in &self.ahead {
            let mut rng = self.rng(&[4, i64::from(ahead.day), index_of(path)]);
            let drawn = ahead.rates.iter().flat_map(|r| r.draw(&mut rng));
            for arrival in drawn.collect::<Vec<_>>() {
                let clock = arrival.clock + rng.random_range(-TWIN_SHIFT..=TWIN_SHIFT);
                let start = self.view.log().instant(ahead.day, clock);
                if clock < ahead.from || start >= self.grid.end() {
                    continue;
                }
                if let Some(rest) = self.rest(arrival, &mut rng) {
                    take(group(arrival), again(arrival, start, rest));
                }
            }
        }
    }

    /// Plug-ins of known drivers and of others on path `path`.
    pub(super) fn come_known(&self, path: usize, mut take: impl FnMut(usize, Trip)) {
        let Some(drivers) = &self.drivers else { return };
        let log = self.view.log();
        let begins: Vec<i64> = self
            .ahead
            .iter()
            .map(|a| log.instant(a.day, a.from))
            .collect();
        let mut rng = self.rng(&[5, index_of(path)]);
        let leaves = |place: usize| self.standing.trip(&self.standing.vehicles[place], path).end;
        drivers.draw(&begins, &mut rng, leaves, |place, arrival, busy, rng| {
            let ahead = &self.ahead[place];
            let start = log.instant(ahead.day, arrival.clock);
            if arrival.clock < ahead.from || start < busy || start >= self.grid.end() {
                return None;
            }
            let rest = self.rest(arrival, rng)?;
            let trip = again(arrival, start, rest);
            take(group(arrival), trip);
            Some(trip.end)
        });
    }
}

fn group(arrival: &Arrival) -> usize {
    usize::try_from(arrival.group).unwrap_or(0)
}

/// A past visit that comes again at `start`.
const fn again(arrival: &Arrival, start: i64, rest: Rest) -> Trip {
    Trip {
        start,
        end: start + rest.length,
        energy: rest.energy,
        charge: rest.charge,
        discharge: arrival.discharge,
        done: None,
        slack: rest.slack,
        source: arrival.source,
    }
}
