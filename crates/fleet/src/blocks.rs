//! Buses from a timetable: which bus drives which block, and what it needs of its depot in between.
//!
//! A bus carries its battery from stay to stay, while a planner treats each stay as a battery of its own. The two agree
//! because every stay hands the bus over at exactly the level it asked for (or at the highest one it could reach), and
//! the next stay begins with that level less the energy of the block between them. All policies then meet the same
//! stays, whatever they charged on top.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use chrono::{DateTime, Utc};
use units::{Energy, Power};

/// What one bus drives from pull-out to pull-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Name for people: date and block of the timetable.
    pub name: String,
    /// Pull-out.
    pub leaves: DateTime<Utc>,
    /// Pull-in, after `leaves`.
    pub returns: DateTime<Utc>,
    /// Energy out of the battery that the block is expected to take.
    pub expected: Energy,
    /// The same at an upper quantile of consumption, at least `expected`: what must be there at pull-out.
    pub upper: Energy,
}

/// A depot with buses of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depot {
    /// Usable size of a battery.
    pub capacity: Energy,
    /// Level that a bus keeps in any case, inside the battery.
    pub floor: Energy,
    /// Charging power of a bus at a charger, at the grid side.
    pub charge: Power,
    /// Share of grid energy that reaches the battery, in parts per million.
    pub charge_efficiency_ppm: i64,
    /// Buses that can be plugged in at the same time.
    pub chargers: usize,
}

/// One stay of a bus at a charger of the depot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// Bus, from 0 in order of first pull-out.
    pub bus: usize,
    /// Charger, from 0.
    pub charger: usize,
    /// Plug-in: pull-in, or later when all chargers were taken.
    pub plug_in: DateTime<Utc>,
    /// Pull-out of the next block.
    pub plug_out: DateTime<Utc>,
    /// Level at plug-in.
    pub arrival: Energy,
    /// Level wanted at pull-out, at least `arrival`: floor and the next block at its upper quantile.
    pub required: Energy,
}

/// What a depot does with its blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    /// Stays in order of plug-in.
    pub stays: Vec<Stay>,
    /// Buses it takes.
    pub buses: usize,
    /// Names of blocks that no battery of this size can drive from full.
    pub too_long: Vec<String>,
    /// Names of blocks that nobody drove because their bus stood there with too little, even at full power.
    pub too_low: Vec<String>,
    /// Times that a bus pulled in while all chargers were taken.
    pub waits: usize,
    /// Waits that ended with the next pull-out, without any charger.
    pub unserved: usize,
}

impl Depot {
    fn can_drive(&self, block: &Block) -> bool {
        self.floor.joules().saturating_add(block.upper.joules()) <= self.capacity.joules()
    }

    /// Level wanted before `block` by a bus that came with `arrival`: what it brought is never taken from it.
    fn required(&self, arrival: Energy, block: &Block) -> Energy {
        let need = self.floor.joules().saturating_add(block.upper.joules());
        Energy::from_joules(need.min(self.capacity.joules()).max(arrival.joules()))
    }

    /// Level that full power from `plug_in` on reaches by `until`.
    fn reach(&self, arrival: Energy, plug_in: DateTime<Utc>, until: DateTime<Utc>) -> Energy {
        let drawn = i128::from(self.charge.over(until - plug_in).joules());
        let stored = drawn * i128::from(self.charge_efficiency_ppm) / 1_000_000;
        let level = (i128::from(arrival.joules()) + stored).min(i128::from(self.capacity.joules()));
        Energy::from_joules(i64::try_from(level).unwrap_or(self.capacity.joules()))
    }
}

/// Gives each block to the bus that has stood in the depot for longest, and a new bus where none is in: as few buses as
/// are ever out at once. The same blocks give the same answer in any order.
#[must_use]
pub fn assign(blocks: &[Block]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|i| (blocks[*i].leaves, blocks[*i].returns, &blocks[*i].name));
    let mut back = BinaryHeap::new();
    let mut bus_of = vec![0; blocks.len()];
    let mut buses = 0;
    for index in order {
        let block = &blocks[index];
        let bus = match back.peek() {
            Some(&Reverse((at, bus))) if at <= block.leaves => {
                back.pop();
                bus
            }
            _ => {
                buses += 1;
                buses - 1
            }
        };
        bus_of[index] = bus;
        back.push(Reverse((block.returns, bus)));
    }
    (bus_of, buses)
}

/// A bus while the depot's days go by.
#[derive(Debug, Clone, Default)]
struct Bus {
    level: Energy,
    /// Charger and plug-in, while plugged in.
    plugged: Option<(usize, DateTime<Utc>)>,
    blocks: VecDeque<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    // A bus that leaves frees its charger for one that comes at the same instant.
    Leaves(usize),
    Returns(usize),
}

/// The stays of the depot's buses between their blocks.
///
/// Buses plug in by order of arrival; who finds all chargers taken waits for the next pull-out. A bus begins with what
/// its first block needs. There is no stay before its first block nor after its last: nothing says when it began, or
/// what it is for.
#[must_use]
pub fn roster(depot: Depot, blocks: &[Block]) -> Roster {
    let (kept, too_long): (Vec<_>, Vec<_>) = blocks.iter().partition(|b| depot.can_drive(b));
    let kept: Vec<Block> = kept.into_iter().cloned().collect();
    let (bus_of, count) = assign(&kept);
    let mut buses = vec![Bus::default(); count];
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by_key(|i| (kept[*i].leaves, kept[*i].returns, &kept[*i].name));
    for index in order {
        buses[bus_of[index]].blocks.push_back(index);
    }
    for bus in &mut buses {
        if let Some(first) = bus.blocks.front() {
            bus.level = depot.required(Energy::default(), &kept[*first]);
        }
    }
    let mut run = Run {
        depot,
        blocks: &kept,
        buses,
        free: (0..depot.chargers).collect(),
        waiting: VecDeque::new(),
        done: Roster {
            buses: count,
            too_long: names(too_long),
            ..Roster::default()
        },
    };
    run.play();
    run.done.stays.sort_by_key(|s| (s.plug_in, s.bus));
    run.done
}

fn names(blocks: Vec<&Block>) -> Vec<String> {
    blocks.into_iter().map(|b| b.name.clone()).collect()
}

struct Run<'a> {
    depot: Depot,
    blocks: &'a [Block],
    buses: Vec<Bus>,
    free: BTreeSet<usize>,
    waiting: VecDeque<usize>,
    done: Roster,
}

impl Run<'_> {
    fn play(&mut self) {
        let mut events = BTreeMap::<(DateTime<Utc>, Event), ()>::new();
        for (bus, state) in self.buses.iter().enumerate() {
            if let Some(first) = state.blocks.front() {
                events.insert((self.blocks[*first].leaves, Event::Leaves(bus)), ());
            }
        }
        while let Some(((at, event), ())) = events.pop_first() {
            let next = match event {
                Event::Leaves(bus) => self.leave(bus, at),
                Event::Returns(bus) => self.pull_in(bus, at),
            };
            if let Some(next) = next {
                events.insert(next, ());
            }
        }
    }

    /// The bus goes, unless it has too little; says what it does next.
    fn leave(&mut self, bus: usize, at: DateTime<Utc>) -> Option<(DateTime<Utc>, Event)> {
        let index = self.buses[bus].blocks.pop_front()?;
        let block = &self.blocks[index];
        let (arrival, plugged) = (self.buses[bus].level, self.buses[bus].plugged);
        let required = self.depot.required(arrival, block);
        let level = plugged.map_or(arrival, |(_, since)| {
            required.min(self.depot.reach(arrival, since, at))
        });
        if level.joules() < self.depot.floor.joules() + block.expected.joules() {
            // The bus stays where it is, for its next block.
            self.done.too_low.push(block.name.clone());
            if plugged.is_none() && !self.waiting.contains(&bus) {
                self.waiting.push_back(bus);
                self.plug_in_waiting(at);
            }
            return self.next_pull_out(bus);
        }
        if let Some((charger, plug_in)) = self.buses[bus].plugged.take() {
            if plug_in < at {
                self.done.stays.push(Stay {
                    bus,
                    charger,
                    plug_in,
                    plug_out: at,
                    arrival,
                    required,
                });
            } else {
                // The charger became free by one that pulls out at the same instant.
                self.done.unserved += 1;
            }
            self.free.insert(charger);
        } else if self.waiting.contains(&bus) {
            self.done.unserved += 1;
            self.waiting.retain(|b| *b != bus);
        }
        self.buses[bus].level = Energy::from_joules(level.joules() - block.expected.joules());
        self.plug_in_waiting(at);
        Some((block.returns, Event::Returns(bus)))
    }

    fn pull_in(&mut self, bus: usize, at: DateTime<Utc>) -> Option<(DateTime<Utc>, Event)> {
        let next = self.next_pull_out(bus);
        // Without a next block it stands in the yard and takes nobody's charger.
        if next.is_some_and(|(leaves, _)| leaves > at) {
            self.waiting.push_back(bus);
            self.plug_in_waiting(at);
            self.done.waits += usize::from(self.waiting.contains(&bus));
        }
        next
    }

    fn plug_in_waiting(&mut self, at: DateTime<Utc>) {
        while let Some(bus) = self.waiting.front().copied()
            && let Some(charger) = self.free.pop_first()
        {
            self.waiting.pop_front();
            self.buses[bus].plugged = Some((charger, at));
        }
    }

    fn next_pull_out(&self, bus: usize) -> Option<(DateTime<Utc>, Event)> {
        let next = *self.buses[bus].blocks.front()?;
        Some((self.blocks[next].leaves, Event::Leaves(bus)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    const DEPOT: Depot = Depot {
        capacity: Energy::from_wh(350_000),
        floor: Energy::from_wh(35_000),
        charge: Power::from_watts(100_000),
        charge_efficiency_ppm: 900_000,
        chargers: 1,
    };

    fn block(name: &str, leaves: i64, returns: i64, kwh: i64) -> Block {
        let at = |minutes| DateTime::<Utc>::UNIX_EPOCH + TimeDelta::minutes(minutes);
        Block {
            name: name.to_owned(),
            leaves: at(leaves),
            returns: at(returns),
            expected: Energy::from_wh(kwh * 1000),
            upper: Energy::from_wh(kwh * 1250),
        }
    }

    #[test]
    fn a_bus_comes_back_with_what_it_left_with_less_what_it_drove() {
        let roster = roster(DEPOT, &[block("a", 0, 100, 100), block("b", 400, 500, 80)]);
        let stay = &roster.stays[0];
        assert_eq!((roster.buses, roster.stays.len()), (1, 1));
        // Left with 35 + 125 kWh, drove 100; needs 35 + 100 next.
        assert_eq!(stay.arrival, Energy::from_wh(60_000));
        assert_eq!(stay.required, Energy::from_wh(135_000));
    }

    #[test]
    fn a_short_stay_hands_over_what_full_power_reaches() {
        let blocks = [
            block("a", 0, 100, 200),
            block("b", 160, 200, 100),
            block("c", 800, 900, 10),
        ];
        let roster = roster(DEPOT, &blocks);
        // One hour at 100 kW and 0.9: 85 to 175 kWh of the 160 wanted; then 60 are left.
        assert_eq!(roster.stays[0].arrival, Energy::from_wh(85_000));
        assert_eq!(roster.stays[1].arrival, Energy::from_wh(60_000));
        assert!(roster.too_low.is_empty());
    }

    #[test]
    fn a_bus_without_charger_waits_for_the_next_pull_out() {
        let blocks = [
            block("a", 0, 100, 50),
            block("b", 0, 110, 50),
            block("c", 300, 400, 50),
            block("d", 500, 600, 50),
        ];
        let roster = roster(DEPOT, &blocks);
        assert_eq!((roster.waits, roster.unserved), (1, 0));
        assert_eq!(roster.stays[0].plug_out, roster.stays[1].plug_in);
        assert_eq!(roster.stays[1].bus, 1);
    }

    #[test]
    fn a_charger_that_becomes_free_as_both_pull_out_serves_nobody() {
        let blocks = [
            block("a", 0, 100, 50),
            block("b", 0, 110, 50),
            block("c", 500, 600, 50),
            block("d", 500, 600, 5),
        ];
        let roster = roster(DEPOT, &blocks);
        assert_eq!(
            (roster.stays.len(), roster.waits, roster.unserved),
            (1, 1, 1)
        );
    }

    #[test]
    fn a_block_longer_than_the_battery_is_named_and_takes_no_bus() {
        let roster = roster(DEPOT, &[block("long", 0, 900, 300), block("a", 0, 100, 50)]);
        assert_eq!(roster.too_long, ["long"]);
        assert_eq!(roster.buses, 1);
    }

    #[test]
    fn a_block_whose_bus_has_too_little_is_named_and_not_driven() {
        let blocks = [
            block("a", 0, 100, 200),
            block("b", 105, 200, 200),
            block("c", 800, 900, 50),
        ];
        let roster = roster(DEPOT, &blocks);
        assert_eq!(roster.too_low, ["b"]);
        assert_eq!(roster.stays.len(), 1);
        assert_eq!(roster.stays[0].plug_out, blocks[2].leaves);
    }

    proptest! {
        #[test]
        fn stays_of_a_charger_and_of_a_bus_never_overlap_and_levels_fit_the_battery(
            raw in prop::collection::vec((0_i64..5_000, 1_i64..900, 1_i64..260), 0..60),
            chargers in 0_usize..6,
        ) {
            let blocks: Vec<_> = raw.iter().enumerate()
                .map(|(i, (at, long, kwh))| block(&format!("b{i}"), *at, at + long, *kwh))
                .collect();
            let depot = Depot { chargers, ..DEPOT };
            let roster = roster(depot, &blocks);
            for (i, a) in roster.stays.iter().enumerate() {
                prop_assert!(a.plug_in < a.plug_out && a.charger < chargers && a.bus < roster.buses);
                prop_assert!(a.arrival >= depot.floor && a.required <= depot.capacity && a.arrival <= a.required);
                for b in &roster.stays[i + 1..] {
                    let apart = a.plug_out <= b.plug_in || b.plug_out <= a.plug_in;
                    prop_assert!(apart || (a.charger != b.charger && a.bus != b.bus));
                }
            }
            let mut shuffled = blocks;
            shuffled.reverse();
            prop_assert_eq!(super::roster(depot, &shuffled).stays, roster.stays);
        }
    }
}
