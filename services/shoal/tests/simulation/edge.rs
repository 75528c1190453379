//! Stations and the edge between them and the log. What is void of a set-point is decided by the edge's own `Terms` and `Seen`.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::Reading;
use shoal_edge::{Seen, Terms};
use units::{Energy, Power};

use crate::sim::{CARS, Sim, evse};
use crate::world::{Act, EDGE, Event, Millis, Mistake};

/// Between two samples: ten minutes by the platform's clock.
const SAMPLE: Millis = 10_000;
/// A station sends again what was not acknowledged.
const AGAIN: Millis = 1_500;
/// Between two looks of the edge at the log.
const LOOK: Millis = 40;

/// The edge, as it is in memory.
#[derive(Default)]
pub(crate) struct Edge {
    terms: Terms,
    seen: Seen,
    read: usize,
}

/// A station with one outlet.
#[derive(Default)]
pub(crate) struct Station {
    register: i64,
    /// Samples that nobody has acknowledged.
    unsent: BTreeMap<DateTime<Utc>, Reading>,
    pub(crate) acknowledged: BTreeMap<DateTime<Utc>, Reading>,
    /// Terms of the set-points it was told, in order.
    pub(crate) told: Vec<(u64, String)>,
}

impl Sim {
    pub(crate) fn edge(&mut self, act: Act) {
        match act {
            Act::Start => {
                // Set-points of before have run out when somebody else comes; an edge reads what comes from now on.
                self.edge = Edge {
                    read: self.world.log.setpoints.len(),
                    ..Edge::default()
                };
                self.world.up(EDGE);
                self.world.goes_on(EDGE, 1, Event::Edge(Act::Read));
            }
            Act::Read => {
                self.delivers();
                self.world.goes_on(EDGE, LOOK, Event::Edge(Act::Read));
            }
            Act::Arrive(reading) => self.takes_in(reading),
            other => unreachable!("{other:?}"),
        }
    }

    fn delivers(&mut self) {
        let new: Vec<_> = self.world.log.setpoints[self.edge.read..].to_vec();
        self.edge.read += new.len();
        for setpoint in new {
            let term = setpoint.term.clone().expect("a term");
            if !self.edge.terms.knows(&term.office) {
                let newest = self
                    .world
                    .tables
                    .lease
                    .as_ref()
                    .map_or(0, |lease| lease.term);
                self.edge.terms.learn(&term.office, newest);
            }
            let void = !self.edge.terms.newest(&term);
            if void && self.world.mistake != Mistake::LeasesWithoutFence {
                continue;
            }
            if !self.edge.seen.first(&setpoint.id.parse().expect("an id")) {
                continue;
            }
            let car = (0..CARS).find(|car| evse(*car).as_str() == setpoint.evse_id);
            let told = (term.number, setpoint.id);
            self.stations[car.expect("a car")].told.push(told);
        }
    }

    /// A reading is acknowledged once it is on the log; a log that is away makes the station send again.
    fn takes_in(&mut self, reading: Reading) {
        if !self.world.is_up(EDGE) || self.world.fails(5) {
            return;
        }
        self.world.log.readings.push(reading.clone());
        // The answer of the log was lost: appended again.
        if self.world.fails(5) {
            self.world.log.readings.push(reading.clone());
        }
        let car = (0..CARS).find(|car| evse(*car) == reading.evse);
        let answer = Event::Station(car.expect("a car"), Act::Acknowledged(reading.at));
        let after = self.world.delay();
        if !self.world.fails(5) {
            self.world.later(after, answer);
        }
    }

    pub(crate) fn station(&mut self, car: usize, act: Act) {
        match act {
            Act::Start | Act::Sample => {
                self.samples(car);
                self.world.later(SAMPLE, Event::Station(car, Act::Sample));
            }
            Act::Arrive(reading) => self.sends(car, &reading),
            Act::Acknowledged(at) => {
                let station = &mut self.stations[car];
                if let Some(reading) = station.unsent.remove(&at) {
                    station.acknowledged.insert(at, reading);
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn samples(&mut self, car: usize) {
        let grown = i64::try_from(self.world.between(0, 6_000_000)).unwrap_or(0);
        let skew = i64::try_from(car).unwrap_or(0) * 7 - 10;
        // The clock of a station is off by some seconds.
        let at = self.world.wall() + TimeDelta::seconds(skew);
        let station = &mut self.stations[car];
        station.register += grown;
        let reading = Reading {
            evse: evse(car),
            session: None,
            at,
            power: Some(Power::from_kw(5.0)),
            import_register: Some(Energy::from_joules(station.register)),
            export_register: Some(Energy::ZERO),
            soc: None,
        };
        station.unsent.insert(at, reading.clone());
        self.sends(car, &reading);
    }

    /// Sends a sample, and again until it is acknowledged.
    fn sends(&mut self, car: usize, reading: &Reading) {
        if !self.stations[car].unsent.contains_key(&reading.at) {
            return;
        }
        if !self.world.fails(5) {
            let after = self.world.delay();
            self.world
                .later(after, Event::Edge(Act::Arrive(reading.clone())));
        }
        let again = Event::Station(car, Act::Arrive(reading.clone()));
        self.world.later(AGAIN, again);
    }
}
