//! The depot's timetable: when each bus pulls out, when it is back, and what its block needs.

use chrono::{Datelike, Weekday};
use units::{DeliveryDay, Energy};

use crate::dice::Dice;
use crate::driver::clock;
use crate::fleet::{Trip, Vehicle, season};

const DELAYS: u64 = 0xb05;

/// Every third bus serves the two peaks only and is back in the depot over midday.
const PEAK_BUS_EVERY: usize = 3;
/// Share of the block's expected energy kept on top of it at pull-out.
const MARGIN: f64 = 1.15;
/// Highest level that a bus is charged to for a block.
const FULL: f64 = 0.95;

struct Block {
    out: f64,
    back: f64,
    km: f64,
}

/// Blocks of one duty on a working day or a weekend day; minutes after local midnight.
fn blocks(duty: usize, weekend: bool) -> Vec<Block> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred duties")]
    let rank = (duty % 30) as f64;
    if weekend {
        return if duty.is_multiple_of(2) {
            vec![Block {
                out: 330.0 + 4.0 * rank,
                back: 1_260.0 + 3.0 * rank,
                km: 190.0,
            }]
        } else {
            vec![]
        };
    }
    if duty % PEAK_BUS_EVERY == 2 {
        return vec![
            Block {
                out: 345.0 + 2.0 * rank,
                back: 555.0 + 2.0 * rank,
                km: 70.0,
            },
            Block {
                out: 850.0 + 2.0 * rank,
                back: 1_120.0 + 2.0 * rank,
                km: 85.0,
            },
        ];
    }
    vec![Block {
        out: 285.0 + 3.5 * rank,
        back: 1_130.0 + 7.0 * rank,
        km: 215.0,
    }]
}

/// The movements of bus `bus` on `day`: out on time, back with the delay of the day.
pub(crate) fn trips(
    seed: u64,
    index: usize,
    bus: &Vehicle,
    duty: usize,
    day: DeliveryDay,
) -> Vec<Trip> {
    let weekend = matches!(day.date().weekday(), Weekday::Sat | Weekday::Sun);
    let mut dice = Dice::on(seed, DELAYS, index as u64, day.date());
    blocks(duty, weekend)
        .into_iter()
        .map(|block| {
            let late = (3.0 + 5.0 * dice.normal()).max(-2.0);
            let spread = 1.0 + 0.05 * dice.normal();
            let used = bus.per_km.kwh() * block.km * season(day.date()) * spread;
            Trip {
                leaves: clock(day, block.out),
                returns: clock(day, block.back + late),
                energy: Energy::from_kwh(used.min(bus.capacity.kwh() * 0.7)),
                plugs_in: true,
            }
        })
        .collect()
}

/// Level a bus needs at pull-out for a block that takes `energy`: the block, its margin and the floor, at most 95 %.
pub(crate) fn required(bus: &Vehicle, energy: Energy) -> Energy {
    let level = energy.kwh() * MARGIN + bus.floor.kwh();
    Energy::from_kwh(level.max(bus.wanted.kwh()).min(bus.capacity.kwh() * FULL))
}
