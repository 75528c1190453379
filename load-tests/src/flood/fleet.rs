//! The vehicles: what each of them tells, from the seed.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, Protocol, Reading, Site, Telemetry};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use store::{NewRecord, topic};
use units::{Efficiency, Energy, Power};
use wire::proto;

use super::scenario::Scenario;
use crate::failure::Failure;

/// Registers begin here: those of meters that were there before.
const FIRST: Energy = Energy::from_joules(3_600_000_000);

/// Rating of every outlet.
const RATING: Power = Power::from_watts(11_000);

/// Vehicles that charge with a constant power each.
#[derive(Debug)]
pub(super) struct Vehicles {
    evses: Vec<Evse>,
    powers: Vec<Power>,
    period: TimeDelta,
    /// When they plug in; reading `n` of all is one share of the period after the one before.
    start: DateTime<Utc>,
}

impl Vehicles {
    /// Vehicles whose backlog ends `now`.
    pub(super) fn new(scenario: &Scenario, now: DateTime<Utc>) -> Result<Self, Failure> {
        let mut dice = ChaCha8Rng::seed_from_u64(scenario.seed);
        let count = scenario.flood.vehicles;
        let named = |n: usize| evse(n).map_err(|e| Failure::Failed(format!("an outlet: {e}")));
        let period = TimeDelta::from_std(scenario.period())
            .map_err(|e| Failure::of("flood.period_seconds", &e))?;
        let mut vehicles = Self {
            evses: (0..count).map(named).collect::<Result<_, _>>()?,
            powers: (0..count)
                .map(|_| Power::from_watts(dice.random_range(1_400..10_800)))
                .collect(),
            period,
            start: now,
        };
        vehicles.start = now - (vehicles.instant(scenario.flood.backlog) - now);
        Ok(vehicles)
    }

    pub(super) fn count(&self) -> usize {
        self.evses.len()
    }

    pub(super) fn evses(&self) -> &[Evse] {
        &self.evses
    }

    pub(super) fn site() -> Result<Site, Failure> {
        Ok(Site {
            id: "flood".parse().map_err(|e| Failure::of("a site", &e))?,
            name: "flood".to_owned(),
            import_limit: Power::from_mw(2_000.0),
            export_limit: Power::from_mw(2_000.0),
        })
    }

    /// The vehicle that reading `n` is of, and how many it had before.
    fn place(&self, n: u64) -> (usize, u64) {
        let count = self.evses.len() as u64;
        (usize::try_from(n % count).unwrap_or(0), n / count)
    }

    /// When reading `n` is due.
    pub(super) fn instant(&self, n: u64) -> DateTime<Utc> {
        let (vehicle, before) = self.place(n);
        let micros = self.period.num_microseconds().unwrap_or(i64::MAX);
        let of = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let phase = micros * of(vehicle as u64) / of(self.evses.len() as u64);
        self.start + TimeDelta::microseconds(micros * of(before + 1) + phase)
    }

    /// The plug-in of a vehicle.
    pub(super) fn plug_in(&self, vehicle: usize) -> Result<NewRecord, Failure> {
        let evse = &self.evses[vehicle];
        Ok(record(&Telemetry::PluggedIn {
            session: session(vehicle)?,
            evse: evse.id.clone(),
            vehicle: None,
            at: self.start,
        }))
    }

    /// Reading `n` of all, sampled at `at`. Registers follow the plan and not the instant: the sum of all is known beforehand.
    pub(super) fn reading(&self, n: u64, at: DateTime<Utc>) -> Result<Reading, Failure> {
        let (vehicle, before) = self.place(n);
        let steps = i32::try_from(before + 1).unwrap_or(i32::MAX);
        Ok(Reading {
            evse: self.evses[vehicle].id.clone(),
            session: Some(session(vehicle)?),
            at,
            power: Some(self.powers[vehicle]),
            import_register: Some(FIRST + self.powers[vehicle].over(self.period * steps)),
            export_register: Some(Energy::ZERO),
            soc: None,
        })
    }

    pub(super) fn record(&self, n: u64, at: DateTime<Utc>) -> Result<NewRecord, Failure> {
        Ok(record(&Telemetry::Reading(self.reading(n, at)?)))
    }

    /// What the import registers of the first `readings` add up to, joules.
    pub(super) fn sum(&self, readings: u64) -> i128 {
        let count = self.evses.len() as u64;
        let mut sum = 0;
        for (vehicle, power) in self.powers.iter().enumerate() {
            let more = u64::from((vehicle as u64) < readings % count);
            let steps = i128::from(readings / count + more);
            let each = i128::from(power.over(self.period).joules());
            sum += steps * i128::from(FIRST.joules()) + each * (steps * (steps + 1) / 2);
        }
        sum
    }
}

fn session(vehicle: usize) -> Result<fleet::SessionId, Failure> {
    let id = format!("flood-{vehicle:07}-1").parse();
    id.map_err(|e| Failure::of("a session", &e))
}

fn record(event: &Telemetry) -> NewRecord {
    NewRecord {
        topic: topic::READINGS,
        key: event.key().to_owned(),
        payload: wire::encode(&proto::telemetry::v1::Telemetry::from(event)),
    }
}

fn evse(n: usize) -> Result<Evse, Box<dyn std::error::Error>> {
    Ok(Evse {
        id: format!("flood-{n:07}/1").parse()?,
        station: format!("flood-{n:07}").parse()?,
        site: "flood".parse()?,
        class: "load".to_owned(),
        protocol: Protocol::Ocpp201,
        max_charge: RATING,
        max_discharge: Power::ZERO,
        charge_efficiency: Efficiency::try_new(0.94)?,
        discharge_efficiency: Efficiency::try_new(0.94)?,
    })
}
