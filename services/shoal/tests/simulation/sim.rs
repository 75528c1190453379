//! One run: the processes, what befalls them, and what must be true whatever befell them.

use std::collections::BTreeSet;

use fleet::{Evse, EvseId, Protocol};
use market::BidStatus;
use units::{Efficiency, Power};

use crate::edge::{Edge, Station};
use crate::gateway::Gateway;
use crate::ingest::{Ingest, reference};
use crate::market::Market;
use crate::world::{Act, EDGE, Event, GATEWAYS, INGEST, Mistake, World};

/// Cars, each at a station of its own.
pub(crate) const CARS: usize = 4;

pub(crate) fn evse(car: usize) -> EvseId {
    format!("station-{car}/1").parse().expect("an id")
}

pub(crate) fn fleet_of_cars() -> Vec<Evse> {
    let efficiency = Efficiency::try_new(0.95).expect("a share");
    let car = |n: usize| Evse {
        id: evse(n),
        station: format!("station-{n}").parse().expect("an id"),
        site: "garage".parse().expect("an id"),
        class: "workplace".to_owned(),
        protocol: Protocol::Ocpp21,
        max_charge: Power::from_kw(22.0),
        max_discharge: Power::ZERO,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    };
    (0..CARS).map(car).collect()
}

pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) edge: Edge,
    pub(crate) ingest: Ingest,
    pub(crate) stations: Vec<Station>,
    pub(crate) market: Market,
}

/// What a run came to, in numbers: a run in which nothing happens proves nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) terms: u64,
    pub(crate) setpoints: usize,
    pub(crate) bids: usize,
    pub(crate) awards: usize,
    pub(crate) readings: usize,
    pub(crate) intervals: usize,
    pub(crate) deaths: u32,
}

/// Runs one seed.
///
/// # Errors
/// What was not true.
pub(crate) fn run(seed: u64, mistake: Mistake) -> Result<Told, String> {
    let mut sim = Sim {
        world: World::new(seed, mistake),
        gateways: (0..GATEWAYS).map(|_| Gateway::default()).collect(),
        edge: Edge::default(),
        ingest: Ingest::default(),
        stations: (0..CARS).map(|_| Station::default()).collect(),
        market: Market::default(),
    };
    let mut deaths = 0;
    sim.begin();
    while let Some(event) = sim.world.next() {
        deaths += u32::from(event == Event::Fault);
        sim.happens(event);
        sim.at_any_time()?;
    }
    sim.at_the_end()?;
    Ok(Told {
        terms: sim
            .world
            .tables
            .lease
            .as_ref()
            .map_or(0, |lease| lease.term),
        setpoints: sim.stations.iter().map(|s| s.told.len()).sum(),
        bids: sim.market.offers().len(),
        awards: sim.market.awards.len(),
        readings: sim.world.log.readings.len(),
        intervals: sim.world.tables.intervals.len(),
        deaths,
    })
}

impl Sim {
    fn begin(&mut self) {
        for number in 0..GATEWAYS {
            let after = self.world.between(1, 300);
            self.world
                .goes_on(number, after, Event::Gateway(number, Act::Start));
        }
        self.world.goes_on(EDGE, 1, Event::Edge(Act::Start));
        self.world.goes_on(INGEST, 1, Event::Ingest(Act::Start));
        for car in 0..CARS {
            let after = self.world.between(1, 9_000);
            self.world.later(after, Event::Station(car, Act::Start));
        }
        self.world.later(1_000, Event::Optimizer);
        self.world.later(0, Event::Market(Act::Start));
        self.world.later(2_000, Event::Fault);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Gateway(number, act) => self.gateway(number, act),
            Event::Edge(act) => self.edge(act),
            Event::Ingest(act) => self.ingest(act),
            Event::Station(car, act) => self.station(car, act),
            Event::Optimizer => self.bids(),
            Event::Market(act) => self.market_acts(&act),
            Event::Fault => self.befalls(),
        }
    }

    /// A machine dies, or sleeps.
    fn befalls(&mut self) {
        if !self.world.fails(100) {
            return;
        }
        let after = self.world.between(500, 5_000);
        self.world.later(after, Event::Fault);
        let machine = self.world.any();
        if self.world.fails(40) {
            self.world.pause(machine);
        } else if self.world.is_up(machine) {
            self.dies(machine);
        }
    }

    pub(crate) fn dies(&mut self, machine: usize) {
        let after = self.world.kill(machine);
        let starts = match machine {
            EDGE => Event::Edge(Act::Start),
            INGEST => Event::Ingest(Act::Start),
            number => {
                self.gateways[number].forget();
                Event::Gateway(number, Act::Start)
            }
        };
        self.world.goes_on(machine, after, starts);
    }

    /// At most one may act.
    fn at_any_time(&self) -> Result<(), String> {
        let holding = (0..GATEWAYS).filter(|number| self.holds(*number)).count();
        if holding > 1 {
            return Err(format!(
                "two gateways hold the office at {} ms",
                self.world.now
            ));
        }
        Ok(())
    }

    fn at_the_end(&self) -> Result<(), String> {
        self.setpoints_never_went_back()?;
        self.bids_reached_the_market()?;
        self.awards_are_kept()?;
        self.readings_count_once()
    }

    fn bids_reached_the_market(&self) -> Result<(), String> {
        for bid in &self.world.log.bids {
            let status = self.world.tables.bids.get(&bid.id).map(|row| row.status);
            let settled = matches!(status, Some(BidStatus::Acknowledged | BidStatus::Awarded));
            if !self.market.has(bid.id) || !settled {
                return Err(format!(
                    "bid {} was lost: its row says {status:?}, the market has it: {}",
                    bid.id,
                    self.market.has(bid.id)
                ));
            }
        }
        Ok(())
    }

    fn awards_are_kept(&self) -> Result<(), String> {
        let logged: BTreeSet<_> = self.world.log.awards.iter().map(|award| award.id).collect();
        let holder = (0..GATEWAYS).find(|number| self.holds(*number));
        let Some(holder) = holder else {
            return Err("nobody holds the office at the end".to_owned());
        };
        for award in &self.market.awards {
            let kept = self.world.tables.awards.contains_key(&award.id)
                && logged.contains(&award.id)
                && self.gateways[holder].position.contains(&award.id);
            if !kept {
                return Err(format!(
                    "award {} is not dispatched by who holds the office",
                    award.id
                ));
            }
        }
        Ok(())
    }

    fn setpoints_never_went_back(&self) -> Result<(), String> {
        for (car, station) in self.stations.iter().enumerate() {
            for pair in station.told.windows(2) {
                if pair[1].0 < pair[0].0 {
                    return Err(format!(
                        "car {car} was told {} of term {} after {} of term {}",
                        pair[1].1, pair[1].0, pair[0].1, pair[0].0
                    ));
                }
            }
        }
        Ok(())
    }

    fn readings_count_once(&self) -> Result<(), String> {
        let logged: BTreeSet<_> = self
            .world
            .log
            .readings
            .iter()
            .map(|r| (r.evse.clone(), r.at))
            .collect();
        for (car, station) in self.stations.iter().enumerate() {
            for at in station.acknowledged.keys() {
                if !logged.contains(&(evse(car), *at)) {
                    return Err(format!(
                        "the reading of car {car} at {at} was acknowledged and is not on the log"
                    ));
                }
            }
        }
        let handled = &self.world.log.readings[..self.world.tables.readings_committed];
        let handled: BTreeSet<_> = handled.iter().map(|r| (r.evse.clone(), r.at)).collect();
        for key in &handled {
            match self.world.tables.readings.get(key).copied().unwrap_or(0) {
                1 => {}
                count => {
                    return Err(format!(
                        "the reading of {} at {} is stored {count} times",
                        key.0, key.1
                    ));
                }
            }
        }
        let committed = &self.world.log.readings[..self.world.tables.readings_committed];
        let expected = reference(committed, self.world.wall());
        for (key, interval) in &expected {
            let stored = self.world.tables.intervals.get(key);
            let same = stored.is_some_and(|stored| {
                (stored.import, stored.export, stored.covered_seconds)
                    == (interval.import, interval.export, interval.covered_seconds)
            });
            if !same {
                return Err(format!(
                    "interval {} {}: stored {stored:?}, expected {interval:?}",
                    key.0, key.1
                ));
            }
        }
        if self.world.tables.intervals.len() != expected.len() {
            return Err("there are intervals that no reading gives".to_owned());
        }
        Ok(())
    }
}
