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
    /// Comes back on the day after it pulled out.
    over_midnight: bool,
}

impl Block {
    const fn by_day(out: f64, back: f64, km: f64) -> Self {
        Self {
            out,
            back,
            km,
            over_midnight: false,
        }
    }
}

/// What a bus does with its days. Not all are out by day: every eighth serves the night, every fourth is a spare that
/// stands ready, as depots keep them, and serves on the two days when others are in the workshop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roster {
    Day,
    Peaks,
    Night,
    Spare,
}

fn roster(duty: usize) -> Roster {
    match (duty % 8, duty % PEAK_BUS_EVERY) {
        (3 | 7, _) => Roster::Spare,
        (5, _) => Roster::Night,
        (_, 2) => Roster::Peaks,
        _ => Roster::Day,
    }
}

/// Blocks of one duty on a weekday; minutes after local midnight.
fn blocks(duty: usize, weekday: Weekday) -> Vec<Block> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred duties")]
    let rank = (duty % 30) as f64;
    let weekend = matches!(weekday, Weekday::Sat | Weekday::Sun);
    let long = Block::by_day(285.0 + 3.5 * rank, 1_130.0 + 7.0 * rank, 215.0);
    match roster(duty) {
        Roster::Night => vec![Block {
            out: 1_240.0 + rank,
            back: 300.0 + rank,
            km: 130.0,
            over_midnight: true,
        }],
        Roster::Spare if matches!(weekday, Weekday::Mon | Weekday::Fri) => vec![long],
        Roster::Spare => vec![],
        Roster::Day | Roster::Peaks if weekend && duty.is_multiple_of(2) => {
            vec![Block::by_day(
                330.0 + 4.0 * rank,
                1_260.0 + 3.0 * rank,
                190.0,
            )]
        }
        Roster::Day | Roster::Peaks if weekend => vec![],
        Roster::Peaks => vec![
            Block::by_day(345.0 + 2.0 * rank, 555.0 + 2.0 * rank, 70.0),
            Block::by_day(850.0 + 2.0 * rank, 1_120.0 + 2.0 * rank, 85.0),
        ],
        Roster::Day => vec![long],
    }
}

/// The movements of bus `bus` that begin on `day`: out on time, back with the delay of the day.
pub(crate) fn trips(
    seed: u64,
    index: usize,
    bus: &Vehicle,
    duty: usize,
    day: DeliveryDay,
) -> Vec<Trip> {
    let mut dice = Dice::on(seed, DELAYS, index as u64, day.date());
    blocks(duty, day.date().weekday())
        .into_iter()
        .map(|block| {
            let late = (3.0 + 5.0 * dice.normal()).max(-2.0);
            let spread = 1.0 + 0.05 * dice.normal();
            let used = bus.per_km.kwh() * block.km * season(day.date()) * spread;
            let back = if block.over_midnight { day.next() } else { day };
            Trip {
                leaves: clock(day, block.out),
                returns: clock(back, block.back + late),
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
