//! Drivers of cars: when they leave, when they come back, how far they go.

use chrono::{Datelike, NaiveTime, TimeDelta, Weekday};
use units::{DeliveryDay, Energy};

use crate::dice::Dice;
use crate::fleet::{Trip, Vehicle, season};

const TRIPS: u64 = 0x7419;

/// How a car is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habit {
    /// Where it charges.
    pub place: Place,
    /// Usual departure from the outlet, minutes after local midnight.
    pub leaves: f64,
    /// Usual return to it, minutes after local midnight.
    pub returns: f64,
    /// Usual distance of a working day, kilometres.
    pub km: f64,
    /// Chance that a working day happens elsewhere (at home, ill, on leave).
    pub stays_away: f64,
}

/// Where a car charges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At home, mostly at night.
    Home,
    /// At work, on working days.
    Work,
}

/// Share of the battery that one trip takes at most: the driver charges elsewhere on longer ones.
const MOST_PER_TRIP: f64 = 0.30;
/// Chance that a driver at home does not plug in on return.
const FORGETS: f64 = 0.10;

/// The movement of `day`, if there is one. Depends on the seed, the car and the date alone.
pub(crate) fn trip(
    seed: u64,
    index: usize,
    car: &Vehicle,
    habit: Habit,
    day: DeliveryDay,
) -> Option<Trip> {
    match habit.place {
        Place::Home => from_home(seed, index, car, habit, day),
        Place::Work => from_work(seed, index, car, habit, day),
    }
}

fn weekend(day: DeliveryDay) -> bool {
    matches!(day.date().weekday(), Weekday::Sat | Weekday::Sun)
}

fn from_home(
    seed: u64,
    index: usize,
    car: &Vehicle,
    habit: Habit,
    day: DeliveryDay,
) -> Option<Trip> {
    let mut dice = Dice::on(seed, TRIPS, index as u64, day.date());
    let moves = if weekend(day) {
        dice.happens(0.65)
    } else {
        !dice.happens(habit.stays_away)
    };
    let (leaves, returns) = if weekend(day) {
        let leaves = 640.0 + 80.0 * dice.normal();
        (leaves, leaves + (270.0 + 100.0 * dice.normal()).max(40.0))
    } else {
        let leaves = habit.leaves + 14.0 * dice.normal();
        (
            leaves,
            (habit.returns + 35.0 * dice.normal()).max(leaves + 60.0),
        )
    };
    let km = if weekend(day) {
        habit.km * 1.4
    } else {
        habit.km
    } * dice.between(0.6, 1.5);
    // Never two forgotten plugs in a row: nobody lets the battery run that low.
    let plugs_in = day.date().ordinal0().is_multiple_of(2) || !dice.happens(FORGETS);
    moves.then(|| Trip {
        leaves: clock(day, leaves),
        returns: clock(day, returns),
        energy: energy(car, km, day),
        plugs_in,
    })
}

/// A car that charges at work is away from its outlet from one evening to the next working morning: the "trip" of a day
/// starts in the afternoon and ends on the next morning that it comes to work.
fn from_work(
    seed: u64,
    index: usize,
    car: &Vehicle,
    habit: Habit,
    day: DeliveryDay,
) -> Option<Trip> {
    if !at_work(seed, index, habit, day) {
        return None;
    }
    let mut back = day.next();
    while !at_work(seed, index, habit, back) {
        back = back.next();
        if back.start() - day.start() > TimeDelta::days(7) {
            return None;
        }
    }
    let mut dice = Dice::on(seed, TRIPS, index as u64, day.date());
    let leaves = habit.returns + 25.0 * dice.normal();
    let days = (back.start() - day.start()).num_hours() / 24;
    let mut arrival = Dice::on(seed, TRIPS + 1, index as u64, back.date());
    let returns = habit.leaves + 18.0 * arrival.normal();
    #[expect(clippy::cast_precision_loss, reason = "at most a week")]
    let km = habit.km * dice.between(0.7, 1.4) * (1.0 + 0.3 * (days - 1) as f64);
    Some(Trip {
        leaves: clock(day, leaves),
        returns: clock(back, returns.min(leaves - 60.0)),
        energy: energy(car, km, day),
        plugs_in: true,
    })
}

fn at_work(seed: u64, index: usize, habit: Habit, day: DeliveryDay) -> bool {
    !weekend(day) && !Dice::on(seed, TRIPS + 2, index as u64, day.date()).happens(habit.stays_away)
}

fn energy(car: &Vehicle, km: f64, day: DeliveryDay) -> Energy {
    let used = car.per_km.kwh() * km * season(day.date());
    Energy::from_kwh(used.min(car.capacity.kwh() * MOST_PER_TRIP))
}

/// `minutes` after local midnight, to the second, between 00:05 and 23:55 so that trips of two days never meet.
pub(crate) fn clock(day: DeliveryDay, minutes: f64) -> chrono::DateTime<chrono::Utc> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to one day"
    )]
    let seconds = (minutes.clamp(5.0, 1_435.0) * 60.0).round() as u32;
    day.at(NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap_or(NaiveTime::MIN))
}
