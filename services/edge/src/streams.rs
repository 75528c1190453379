//! Periodic event streams of OCPP 2.1: registers of the fiscal meter, sampled far more often than meter values tell them.
//!
//! What is streamed are numbers without unit or direction, so only registers are asked for, whose name says the direction.
//! Their unit is taken from the meter values of the outlet, which name theirs: a value counts once it fits them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, Reading, Telemetry};
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    GenericStatus, NotifyPeriodicEventStreamRequest, OpenPeriodicEventStreamRequest,
    OpenPeriodicEventStreamResponse, StatusInfo, StreamDataElement,
};
use units::Energy;

use crate::answer::{Answer, reply};
use crate::instant::from_ocpp;
use crate::sign;
use crate::station::{Outlets, Said};

mod monitors;

pub(crate) use monitors::Monitors;
use monitors::{Source, registers};

/// Units that a register may have.
const UNITS: [&str; 2] = ["Wh", "kWh"];
/// Clocks of the parts of a station may be this far apart when a register is compared with a meter value.
const APART: TimeDelta = TimeDelta::seconds(5);
/// Instants at which one register was told and the other not yet, per outlet.
const HELD: usize = 128;
/// Places after the decimal point that microseconds have.
const MICROS: i32 = 6;

/// An energy register of the meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Register {
    /// From the grid into the vehicle.
    Import,
    /// From the vehicle into the grid.
    Export,
}

impl Register {
    const fn variable(self) -> &'static str {
        match self {
            Self::Import => "EnergyImportRegister",
            Self::Export => "EnergyExportRegister",
        }
    }

    fn named(variable: &str) -> Option<Self> {
        let all = [Self::Import, Self::Export];
        all.into_iter().find(|r| r.variable() == variable)
    }
}

/// A stream that the station opened.
#[derive(Debug)]
struct Open {
    monitor: i32,
    /// Unit of its values, once they proved it.
    unit: Option<&'static str>,
}

/// What both registers showed at one instant, as far as it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pair {
    import: Option<Energy>,
    export: Option<Energy>,
}

/// What was shown when.
type Dated = (DateTime<Utc>, Pair);

/// A register in a meter value.
#[derive(Debug, Clone, Copy)]
struct Metered {
    at: DateTime<Utc>,
    energy: Energy,
}

/// Streams of one station.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) monitors: Monitors,
    /// Streams by the station's number.
    open: BTreeMap<i32, Open>,
    metered: BTreeMap<Source, Metered>,
    held: BTreeMap<i32, BTreeMap<DateTime<Utc>, Pair>>,
}

impl Streams {
    /// A station wants to stream what a monitor reads.
    pub(crate) fn open(
        &mut self,
        asked: &OpenPeriodicEventStreamRequest,
        said: &mut Said,
    ) -> Answer {
        let stream = &asked.constant_stream_data;
        let (id, monitor) = (stream.id, stream.variable_monitoring_id);
        if self.monitors.source(monitor).is_none() {
            let why = format!(
                "a stream of monitor {monitor}, which was not asked for: what it reads is not known here"
            );
            said.refused.push(why);
            let mut response = OpenPeriodicEventStreamResponse::new(GenericStatus::Rejected);
            response.status_info = Some(StatusInfo::new("UnknownMonitor"));
            return reply(&response);
        }
        // A monitor has one stream, and one that is gone has none: as many streams are open as monitors are known.
        let monitors = &self.monitors;
        self.open
            .retain(|_, open| open.monitor != monitor && monitors.source(open.monitor).is_some());
        self.open.insert(
            id,
            Open {
                monitor,
                unit: None,
            },
        );
        reply(&OpenPeriodicEventStreamResponse::new(
            GenericStatus::Accepted,
        ))
    }

    /// A station ends a stream. What it sent before is kept.
    pub(crate) fn close(&mut self, id: i32) {
        self.open.remove(&id);
    }

    /// A meter value told a register in a unit of its own.
    pub(crate) fn metered(&mut self, place: i32, reading: &Reading) {
        let told = [
            (Register::Import, reading.import_register),
            (Register::Export, reading.export_register),
        ];
        for (register, energy) in told {
            let Some(energy) = energy else { continue };
            let at = reading.at;
            let newest = self.metered.entry((place, register));
            let newest = newest.or_insert(Metered { at, energy });
            if newest.at <= at {
                *newest = Metered { at, energy };
            }
        }
    }

    /// Reads what was streamed: what both registers showed at each instant that is complete now, oldest first.
    fn read(
        &mut self,
        evses: &[Evse],
        sent: &NotifyPeriodicEventStreamRequest,
        said: &mut Said,
    ) -> Option<(i32, Vec<Dated>)> {
        let open = self.open.get_mut(&sent.id);
        let source = open.as_ref().and_then(|o| self.monitors.source(o.monitor));
        let (Some(open), Some((place, register))) = (open, source) else {
            let id = sent.id;
            said.refused.push(format!("stream {id} is not open"));
            return None;
        };
        let evse = evses.get(usize::try_from(place).ok()?.checked_sub(1)?)?;
        let known = self.metered.get(&(place, register)).copied();
        let held = self.held.entry(place).or_default();
        let mut bad: Option<(String, usize)> = None;
        for read in energies(sent, evse, known, &mut open.unit) {
            match read {
                Ok((at, energy)) => {
                    let pair = held.entry(at).or_default();
                    match register {
                        Register::Import => pair.import = Some(energy),
                        Register::Export => pair.export = Some(energy),
                    }
                }
                Err(why) => bad.get_or_insert((why, 0)).1 += 1,
            }
        }
        if let Some((why, count)) = bad {
            let variable = register.variable();
            let of = sent.data.len();
            said.refused
                .push(format!("{count} of {of} values of {variable}: {why}"));
        }
        let both = registers(evse).len() > 1;
        let whole = |p: &Pair| !both || (p.import.is_some() && p.export.is_some());
        // What waited too long for the other register goes without it.
        let excess = held.values().filter(|p| !whole(p)).count();
        let mut late = excess.saturating_sub(HELD);
        let due = held.extract_if(.., |_, pair| {
            let done = whole(pair);
            let aged = !done && late > 0;
            late -= usize::from(aged);
            done || aged
        });
        Some((place, due.collect()))
    }

    /// What still waits for its other register, when nothing more will come.
    fn rest(&mut self) -> Vec<(i32, DateTime<Utc>, Pair)> {
        let held = std::mem::take(&mut self.held).into_iter();
        held.flat_map(|(place, at)| at.into_iter().map(move |(at, pair)| (place, at, pair)))
            .collect()
    }
}

impl Outlets {
    /// Takes in what a station streams.
    pub(crate) fn streamed(&mut self, sent: &NotifyPeriodicEventStreamRequest, said: &mut Said) {
        let read = self.streams.read(&self.station.evses, sent, said);
        let (place, pairs) = read.unwrap_or_default();
        for (at, pair) in pairs {
            self.tell_pair(place, at, pair, said);
        }
    }

    /// Tells what streams said of one register only, as nothing more will come.
    pub(crate) fn streams_end(&mut self, said: &mut Said) {
        for (place, at, pair) in self.streams.rest() {
            self.tell_pair(place, at, pair, said);
        }
    }

    fn tell_pair(&self, place: i32, at: DateTime<Utc>, pair: Pair, said: &mut Said) {
        let Some(evse) = self.station.evse(place) else {
            return;
        };
        // A value of before the stay belongs to none that is known here.
        let stay = self.stay(place).filter(|stay| stay.began_by(at));
        said.events.push(Telemetry::Reading(Reading {
            evse: evse.id.clone(),
            session: stay.map(|stay| stay.session.clone()),
            at,
            power: None,
            import_register: pair.import,
            export_register: pair.export,
            soc: None,
        }));
    }
}

/// When a value was recorded: `basetime + t`, in seconds.
fn instant(
    sent: &NotifyPeriodicEventStreamRequest,
    offset: Decimal,
) -> Result<DateTime<Utc>, String> {
    let micros = offset.checked_pow10(MICROS).and_then(|t| t.round_to(0));
    let micros = micros.and_then(|t| i64::try_from(t).ok());
    let base = from_ocpp(sent.basetime);
    base.zip(micros)
        .and_then(|(base, micros)| base.checked_add_signed(TimeDelta::microseconds(micros)))
        .ok_or_else(|| format!("{} + {offset} s is outside the calendar", sent.basetime))
}

/// What each value of a message says, or why it is refused.
///
/// A stream has one unit: where a value by itself fits two, another value of the message that fits
/// only one decides for it.
fn energies(
    sent: &NotifyPeriodicEventStreamRequest,
    evse: &Evse,
    known: Option<Metered>,
    unit: &mut Option<&'static str>,
) -> Vec<Result<(DateTime<Utc>, Energy), String>> {
    let read = |element: &StreamDataElement, unit: &mut Option<&'static str>| {
        let at = instant(sent, element.t)?;
        Ok((at, energy(&element.v, at, evse, known, unit)?))
    };
    let alone: Vec<Result<_, String>> = sent.data.iter().map(|e| read(e, unit)).collect();
    let Some(decided) = *unit else {
        return alone;
    };
    let again = |(element, first): (&StreamDataElement, Result<_, String>)| match first {
        Ok(value) => Ok(value),
        Err(why) => read(element, &mut Some(decided)).map_err(|_| why),
    };
    sent.data.iter().zip(alone).map(again).collect()
}

/// Energy of a register, in the one unit in which it fits the meter values.
fn energy(
    value: &str,
    at: DateTime<Utc>,
    evse: &Evse,
    known: Option<Metered>,
    unit: &mut Option<&'static str>,
) -> Result<Energy, String> {
    let number: Decimal = value
        .trim()
        .parse()
        .map_err(|_| format!("{value:?} is no number"))?;
    let read = |unit| sign::energy(number, Some(unit), 0).map_err(|e| e.to_string());
    if number.signum() < 0 {
        return Err(format!("{number} is negative, a register is not"));
    }
    let Some(known) = known else {
        return Err("no meter value told this register yet, so the unit is not known".to_owned());
    };
    let within = reach(evse, at - known.at);
    let fits = |energy: Energy| (energy - known.energy).joules().abs() <= within.joules();
    if let Some(energy) = unit.and_then(|unit| read(unit).ok())
        && fits(energy)
    {
        return Ok(energy);
    }
    *unit = None;
    let mut fitting: Vec<_> = UNITS
        .into_iter()
        .filter_map(|unit| Some((unit, read(unit).ok()?)))
        .filter(|(_, energy)| fits(*energy))
        .collect();
    // A register that stands still shows what was metered, digit by digit.
    let same = |energy: Energy| (energy - known.energy).joules().abs() <= 1;
    if fitting.iter().any(|(_, energy)| same(*energy)) {
        fitting.retain(|(_, energy)| same(*energy));
    }
    match fitting.as_slice() {
        [(only, energy)] => {
            *unit = Some(only);
            Ok(*energy)
        }
        // Zero is zero in every unit.
        [(_, first), others @ ..] if others.iter().all(|(_, e)| e == first) => Ok(*first),
        [] => Err(format!(
            "{number} is neither in Wh nor in kWh near the {} that was metered",
            known.energy
        )),
        _ => Err(format!(
            "{number} may be Wh or kWh, so near to the {} that was metered",
            known.energy
        )),
    }
}

/// Most energy that an outlet can carry in a time, with a watt hour for rounding.
fn reach(evse: &Evse, time: TimeDelta) -> Energy {
    let most = evse.max_charge.max(evse.max_discharge);
    let time = time.abs() + APART;
    let joules = i128::from(most.watts()) * i128::from(time.num_milliseconds()) / 1_000;
    Energy::from_joules(i64::try_from(joules).unwrap_or(i64::MAX / 2)) + Energy::from_wh(1)
}

#[cfg(test)]
pub(crate) mod tests;
