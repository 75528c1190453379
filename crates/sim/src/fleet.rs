//! Sites, outlets and vehicles of a seeded fleet, and the stays that follow from its drivers' own will.

use ::fleet::{Evse, EvseId, Protocol, SessionId, SiteId, VehicleId};
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use units::{DeliveryDay, Energy, Power};

use crate::build;
use crate::driver::{self, Habit};
use crate::timetable;

/// What a fleet is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Everything random follows from it.
    pub seed: u64,
    /// Cars.
    pub cars: usize,
    /// Buses.
    pub buses: usize,
    /// Zone whose clock the drivers live by.
    pub zone: Tz,
}

/// A grid connection point with its fuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Name.
    pub id: SiteId,
    /// Name for people.
    pub name: String,
    /// Highest power from the grid.
    pub import_limit: Power,
    /// Highest power to the grid, as a magnitude.
    pub export_limit: Power,
}

/// What decides when a vehicle moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Movement {
    /// A car with its driver's habit.
    Car(Habit),
    /// A bus with its number in the timetable.
    Bus {
        /// Position in the timetable, from 0.
        duty: usize,
    },
}

/// A car or a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Vehicle {
    /// Name.
    pub id: VehicleId,
    /// The outlet it plugs in at.
    pub evse: EvseId,
    /// Usable battery.
    pub capacity: Energy,
    /// Level below which it is never discharged.
    pub floor: Energy,
    /// Level its driver asks for at departure (buses: at least what the block needs, see [`Stay::required`]).
    pub wanted: Energy,
    /// Energy per kilometre on a mild day, joules.
    pub per_km: Energy,
    /// What decides when it moves.
    pub movement: Movement,
}

/// One stay at an outlet, as it will happen whatever anybody charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// Name: the same stay always has the same.
    pub id: SessionId,
    /// Number of the vehicle in [`Fleet::vehicles`].
    pub vehicle: usize,
    /// Plug-in.
    pub plug_in: DateTime<Utc>,
    /// Plug-out: never before what the driver said.
    pub plug_out: DateTime<Utc>,
    /// Energy taken from the battery by driving since the stay before.
    pub driven: Energy,
    /// Level needed at plug-out.
    pub required: Energy,
}

/// A fleet: the same seed and sizes give the same fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    settings: Settings,
    sites: Vec<Site>,
    evses: Vec<Evse>,
    vehicles: Vec<Vehicle>,
}

/// One movement away from the outlet: unplugged over `leaves..returns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trip {
    pub(crate) leaves: DateTime<Utc>,
    pub(crate) returns: DateTime<Utc>,
    pub(crate) energy: Energy,
    /// The driver plugs in on return.
    pub(crate) plugs_in: bool,
}

impl Fleet {
    /// Builds the fleet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let build::Parts {
            sites,
            evses,
            vehicles,
        } = build::parts(settings);
        Self {
            settings,
            sites,
            evses,
            vehicles,
        }
    }

    /// What it was made from.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Grid connection points.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Outlets; `evses()[i]` serves `vehicles()[i]`.
    #[must_use]
    pub fn evses(&self) -> &[Evse] {
        &self.evses
    }

    /// Vehicles.
    #[must_use]
    pub fn vehicles(&self) -> &[Vehicle] {
        &self.vehicles
    }

    /// Stays of one vehicle that overlap `from..to`, in order of time. Depends on the seed alone.
    #[must_use]
    pub fn stays_of(&self, vehicle: usize, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Stay> {
        let trips = self.trips(vehicle, from, to);
        let mut stays = Vec::new();
        let mut driven = Energy::ZERO;
        for pair in trips.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            driven += before.energy;
            if !before.plugs_in || before.returns >= after.leaves {
                continue;
            }
            let stay = self.stay(vehicle, before.returns, after, driven);
            driven = Energy::ZERO;
            if stay.plug_out > from && stay.plug_in < to {
                stays.push(stay);
            }
        }
        stays
    }

    /// Stays of all vehicles that overlap `from..to`, in order of plug-in, then of vehicle.
    #[must_use]
    pub fn stays(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Stay> {
        let mut all: Vec<Stay> = (0..self.vehicles.len())
            .flat_map(|v| self.stays_of(v, from, to))
            .collect();
        all.sort_by_key(|stay| (stay.plug_in, stay.vehicle));
        all
    }

    fn stay(&self, vehicle: usize, plug_in: DateTime<Utc>, next: Trip, driven: Energy) -> Stay {
        let v = &self.vehicles[vehicle];
        let required = match v.movement {
            Movement::Car(_) => v.wanted,
            Movement::Bus { .. } => timetable::required(v, next.energy),
        };
        #[expect(clippy::expect_used, reason = "vehicle names are short and printable")]
        let id = format!("{}-{}", v.id, plug_in.timestamp())
            .parse()
            .expect("a session name");
        Stay {
            id,
            vehicle,
            plug_in,
            plug_out: next.leaves,
            driven,
            required,
        }
    }

    /// Movements around `from..to`, with enough days on both sides that every stay inside has both its ends and all that was driven
    /// before it, whatever the window.
    fn trips(&self, vehicle: usize, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Trip> {
        /// Days looked at on either side, doubled while a car was left alone for as long.
        const DAYS: i64 = 9;
        const MOST_DAYS: i64 = 144;
        /// Returns to a charger before the window: a stay that reaches into it, one before that, and one to spare.
        const RETURNS: usize = 3;
        let (mut before, mut after) = (DAYS, DAYS);
        loop {
            let trips = self.trips_within(vehicle, (from, before), (to, after));
            let plugged = trips.iter().filter(|t| t.plugs_in && t.returns <= from);
            let known = plugged.count() >= RETURNS || before >= MOST_DAYS;
            let leaves = trips.last().is_some_and(|t| t.leaves >= to) || after >= MOST_DAYS;
            if known && leaves {
                return trips;
            }
            before *= if known { 1 } else { 2 };
            after *= if leaves { 1 } else { 2 };
        }
    }

    fn trips_within(
        &self,
        vehicle: usize,
        (from, before): (DateTime<Utc>, i64),
        (to, after): (DateTime<Utc>, i64),
    ) -> Vec<Trip> {
        let zone = self.settings.zone;
        let mut day = DeliveryDay::containing(from, zone).plus(-before);
        let last = DeliveryDay::containing(to, zone).plus(after);
        let v = &self.vehicles[vehicle];
        let mut trips = Vec::new();
        while day.start() <= last.start() {
            match v.movement {
                Movement::Car(habit) => {
                    trips.extend(driver::trip(self.settings.seed, vehicle, v, habit, day))
                }
                Movement::Bus { duty } => {
                    trips.extend(timetable::trips(self.settings.seed, vehicle, v, duty, day))
                }
            }
            day = day.next();
        }
        trips
    }
}

/// Extra consumption for heating and cooling: 1 on a mild day, up to 1.3 in January, 1.05 in July (European city buses
/// and cars need a fifth to a third more in frost).
pub(crate) fn season(date: NaiveDate) -> f64 {
    use chrono::Datelike;
    let angle = f64::from(date.ordinal0()) / 365.25 * std::f64::consts::TAU;
    1.14 + 0.14 * angle.cos() + 0.02 * (2.0 * angle).cos()
}

/// What an outlet speaks: two-way ones 2.1, of the others every third 2.0.1 and the rest 1.6, the installed base.
pub(crate) fn protocol_of(bidirectional: bool, number: usize) -> Protocol {
    if bidirectional {
        Protocol::Ocpp21
    } else if number.is_multiple_of(3) {
        Protocol::Ocpp201
    } else {
        Protocol::Ocpp16
    }
}
