//! One station as registered, and who is plugged in at its outlets: the session model behind both versions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use fleet::{
    Evse, EvseId, Protocol, Reading, SessionId, Setpoint, StationId, Telemetry, VehicleId,
};
use units::Energy;

use crate::stay;

/// A station and its outlets, numbered from 1 in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Station {
    pub(crate) id: StationId,
    pub(crate) protocol: Protocol,
    pub(crate) evses: Vec<Evse>,
}

impl Station {
    /// The outlet of that number, if there is one.
    pub(crate) fn evse(&self, number: i32) -> Option<&Evse> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.evses.get(index)
    }

    pub(crate) fn evse_ids(&self) -> Vec<EvseId> {
        self.evses.iter().map(|e| e.id.clone()).collect()
    }

    fn only_outlet(&self) -> Option<i32> {
        (self.evses.len() == 1).then_some(1)
    }
}

/// Energy registers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Registers {
    import: Energy,
    export: Energy,
}

/// A stay in progress.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stay {
    pub(crate) session: SessionId,
    /// Transaction as the station calls it.
    pub(crate) transaction: String,
    first: Option<Registers>,
    last: Option<Registers>,
    /// Energy added before this process saw the stay, from the tables.
    added_before: Option<Energy>,
}

/// What a message said: telemetry for the log, and what in it was refused.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) events: Vec<Telemetry>,
    pub(crate) refused: Vec<String>,
}

/// The outlets of one station with the stays in progress. Outlives connections.
#[derive(Debug)]
pub(crate) struct Outlets {
    pub(crate) station: Station,
    stays: BTreeMap<i32, Stay>,
    told: BTreeMap<i32, Setpoint>,
}

impl Outlets {
    /// Outlets with the stays that were in progress when the process started, as the tables know them.
    pub(crate) fn new(
        station: Station,
        known: &BTreeMap<EvseId, (SessionId, Option<Energy>)>,
    ) -> Self {
        let mut outlets = Self {
            station,
            stays: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        outlets.recall(known);
        outlets
    }

    /// Takes over stays from the tables where this process knows none.
    pub(crate) fn recall(&mut self, known: &BTreeMap<EvseId, (SessionId, Option<Energy>)>) {
        for (number, evse) in (1..).zip(&self.station.evses) {
            let Some((session, added)) = known.get(&evse.id) else {
                continue;
            };
            let prefix = format!("{}:", evse.id);
            let transaction = session.as_str().strip_prefix(&prefix).unwrap_or_default();
            self.stays.entry(number).or_insert_with(|| Stay {
                session: session.clone(),
                transaction: transaction.to_owned(),
                first: None,
                last: None,
                added_before: *added,
            });
        }
    }

    /// The stay at an outlet.
    pub(crate) fn stay(&self, number: i32) -> Option<&Stay> {
        self.stays.get(&number)
    }

    /// The set-point that was written last.
    pub(crate) fn told(&self, number: i32) -> Option<&Setpoint> {
        self.told.get(&number)
    }

    /// Remembers the set-point that was written last.
    pub(crate) fn tell(&mut self, number: i32, setpoint: Setpoint) {
        self.told.insert(number, setpoint);
    }

    /// Session at an outlet, if one is in progress.
    pub(crate) fn session(&self, number: i32) -> Option<SessionId> {
        self.stays.get(&number).map(|s| s.session.clone())
    }

    /// Outlet where a transaction runs: as said, as remembered, or the only one there is.
    pub(crate) fn place_of(&self, said: Option<i32>, transaction: &str) -> Option<i32> {
        let remembered = || {
            let mut stays = self.stays.iter();
            stays
                .find(|(_, s)| s.transaction == transaction)
                .map(|(n, _)| *n)
        };
        said.or_else(remembered)
            .or_else(|| self.station.only_outlet())
    }

    /// A transaction began or was heard of for the first time. One that is known already says nothing new; another one
    /// at the same outlet is over.
    pub(crate) fn begin(
        &mut self,
        number: i32,
        transaction: &str,
        vehicle: Option<VehicleId>,
        at: DateTime<Utc>,
        said: &mut Said,
    ) -> Option<SessionId> {
        let evse = self.station.evse(number)?.id.clone();
        let session = stay::session_id(&evse, transaction);
        if self
            .stays
            .get(&number)
            .is_some_and(|s| s.session == session)
        {
            return Some(session);
        }
        if let Some(left) = self.stays.remove(&number) {
            said.events.push(Telemetry::Unplugged {
                session: left.session,
                evse: evse.clone(),
                at,
            });
        }
        let begun = Stay {
            session: session.clone(),
            transaction: transaction.to_owned(),
            first: None,
            last: None,
            added_before: Some(Energy::ZERO),
        };
        self.stays.insert(number, begun);
        said.events.push(Telemetry::PluggedIn {
            session: session.clone(),
            evse,
            vehicle,
            at,
        });
        Some(session)
    }

    /// A transaction ended.
    pub(crate) fn end(
        &mut self,
        number: i32,
        transaction: &str,
        at: DateTime<Utc>,
        said: &mut Said,
    ) {
        let Some(evse) = self.station.evse(number).map(|e| e.id.clone()) else {
            return;
        };
        let session = stay::session_id(&evse, transaction);
        if self
            .stays
            .get(&number)
            .is_some_and(|s| s.session == session)
        {
            self.stays.remove(&number);
            self.told.remove(&number);
        }
        said.events.push(Telemetry::Unplugged { session, evse, at });
    }

    /// A meter sample at an outlet.
    pub(crate) fn read(&mut self, number: i32, reading: Reading, said: &mut Said) {
        if let Some(stay) = self.stays.get_mut(&number)
            && reading.session.as_ref() == Some(&stay.session)
            && let Some(import) = reading.import_register
        {
            let export = reading.export_register.unwrap_or_default();
            let registers = Registers { import, export };
            stay.first.get_or_insert(registers);
            stay.last = Some(registers);
        }
        said.events.push(Telemetry::Reading(reading));
    }

    /// Energy that reached the battery since plug-in, as far as registers tell; `None` if that is unknown.
    pub(crate) fn added(&self, number: i32) -> Option<Energy> {
        let stay = self.stays.get(&number)?;
        let evse = self.station.evse(number)?;
        let before = stay.added_before?;
        let (Some(first), Some(last)) = (stay.first, stay.last) else {
            return Some(before);
        };
        let charged = (last.import - first.import).kwh() * evse.charge_efficiency.share();
        let discharged = (last.export - first.export).kwh() / evse.discharge_efficiency.share();
        Some(before + Energy::from_kwh(charged - discharged))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use units::{Efficiency, Power};

    pub(crate) fn station(protocol: Protocol, outlets: usize) -> Station {
        let id: StationId = "S".parse().unwrap();
        let evse = |n: usize| Evse {
            id: format!("S/{n}").parse().unwrap(),
            station: id.clone(),
            site: "site".parse().unwrap(),
            class: "home".into(),
            protocol,
            max_charge: Power::from_kw(11.0),
            max_discharge: Power::from_kw(11.0),
            charge_efficiency: Efficiency::try_new(0.9).unwrap(),
            discharge_efficiency: Efficiency::try_new(0.9).unwrap(),
        };
        Station {
            id: id.clone(),
            protocol,
            evses: (1..=outlets).map(evse).collect(),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_new_transaction_ends_the_one_whose_end_was_missed() {
        let mut outlets = Outlets::new(station(Protocol::Ocpp21, 2), &BTreeMap::new());
        let mut said = Said::default();
        outlets.begin(2, "a", None, at(0), &mut said);
        outlets.begin(2, "a", None, at(1), &mut said);
        assert_eq!(said.events.len(), 1, "heard twice, said once");
        outlets.begin(2, "b", None, at(9), &mut said);
        assert!(
            matches!(&said.events[1], Telemetry::Unplugged { session, at: when, .. }
            if session.as_str() == "S/2:a" && *when == at(9))
        );
        assert_eq!(outlets.session(2).unwrap().as_str(), "S/2:b");
        assert_eq!(outlets.place_of(None, "b"), Some(2));
        assert_eq!(outlets.place_of(None, "c"), None, "two outlets: unknown");
    }

    #[test]
    fn stays_are_recalled_after_a_restart() {
        let known = BTreeMap::from([(
            "S/1".parse().unwrap(),
            ("S/1:tx".parse().unwrap(), Some(Energy::from_wh(500))),
        )]);
        let outlets = Outlets::new(station(Protocol::Ocpp21, 2), &known);
        assert_eq!(outlets.place_of(None, "tx"), Some(1));
        assert_eq!(outlets.added(1), Some(Energy::from_wh(500)));
    }

    #[test]
    fn added_energy_counts_losses_both_ways() {
        let mut outlets = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
        let mut said = Said::default();
        let session = outlets.begin(1, "t", None, at(0), &mut said);
        let mut read = |import: i64, export: i64| {
            let reading = Reading {
                evse: "S/1".parse().unwrap(),
                session: session.clone(),
                at: at(0),
                power: None,
                import_register: Some(Energy::from_wh(import)),
                export_register: Some(Energy::from_wh(export)),
                soc: None,
            };
            outlets.read(1, reading, &mut said);
            outlets.added(1).unwrap()
        };
        assert_eq!(read(1_000, 0), Energy::ZERO);
        assert_eq!(read(2_000, 0), Energy::from_wh(900));
        assert_eq!(read(2_000, 900), Energy::from_wh(-100));
    }
}
