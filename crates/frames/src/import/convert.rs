//! From stays as told to canonical sessions: shifted, filtered, and completed by what is assumed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use units::DeliveryDay;

use super::clock::{Local, localise};
use super::sessions::Stay;
use super::tally::Tally;
use super::{Assume, Options};
use crate::sessions::{Session, table};
use crate::table::{Table, TableError};

/// No charger for road vehicles that these files know delivers more, kW.
const HIGHEST_MEAN_KW: f64 = 400.0;

const SHIFTED_AWAY: &str = "shifted into the hour that the clock change skips";
const SHIFTED_EMPTY: &str = "shifted end is not after the start";
const OUTSIDE: &str = "not wholly within --from and --to";
const TOO_LONG: &str = "stays too long (longest_stay_hours)";
const TOO_FAST: &str = "mean power above 400 kW";
const TOO_MUCH: &str = "more energy than the assumed capacity";
const TWICE: &str = "a second row with the same session id";
const RAISED: &str = "max_charge_kw raised to the mean power of the stay";
const FULLER: &str = "charged more than departure_fraction leaves room for: required level raised";
const EMPTIER: &str = "arrival_fraction leaves too little room: level at arrival lowered";

/// The table of [`completed`] sessions.
pub(crate) fn sessions(
    stays: Vec<Stay>,
    format: &str,
    zone: Tz,
    options: &Options,
    tally: &mut Tally,
) -> Result<Table, TableError> {
    let (done, notes) = completed(stays, format, zone, options, tally);
    let mut table = table(&done)?;
    table.notes = notes;
    Ok(table)
}

/// Canonical sessions in order of arrival, with notes about what was assumed.
pub(super) fn completed(
    stays: Vec<Stay>,
    format: &str,
    zone: Tz,
    options: &Options,
    tally: &mut Tally,
) -> (Vec<Session>, BTreeMap<String, String>) {
    let to_zone = options.to_zone.unwrap_or(zone);
    let limits = limits(to_zone, options.from, options.to);
    let mut kept = Vec::new();
    let mut seen = BTreeSet::new();
    for mut stay in stays {
        let checked = shift(&mut stay, zone, to_zone, options.shift_weeks)
            .and_then(|()| within(&stay, limits))
            .and_then(|()| plausible(&stay, &options.assume))
            .and_then(|()| {
                let fresh = stay.session_id.is_empty() || seen.insert(stay.session_id.clone());
                if fresh { Ok(()) } else { Err(TWICE) }
            });
        match checked {
            Ok(()) => kept.push(stay),
            Err(reason) => tally.refuse(reason, &stay.at),
        }
    }
    kept.sort_by(|a, b| (a.plug_in, &a.session_id).cmp(&(b.plug_in, &b.session_id)));
    let stand_in = name_the_nameless(&mut kept, format);
    let done = kept
        .iter()
        .map(|stay| complete(stay, &options.assume, tally))
        .collect();
    (done, notes(format, options, zone, to_zone, stand_in))
}

fn notes(
    format: &str,
    options: &Options,
    zone: Tz,
    to_zone: Tz,
    stand_in: Option<&'static str>,
) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([
        ("source".to_owned(), format.to_owned()),
        ("assumed".to_owned(), options.assume.to_string()),
    ]);
    if let Some(stand_in) = stand_in {
        notes.insert("assumed names".to_owned(), stand_in.to_owned());
    }
    if options.shift_weeks != 0 || to_zone != zone {
        let text = format!(
            "{} weeks, keeping the local clock of {zone} in {to_zone}",
            options.shift_weeks
        );
        notes.insert("shifted".to_owned(), text);
    }
    notes
}

type Limits = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Instants of local midnights that bound what is kept.
pub(crate) fn limits(zone: Tz, from: Option<NaiveDate>, to: Option<NaiveDate>) -> Limits {
    let midnight = |date: Option<NaiveDate>| {
        date.and_then(|d| DeliveryDay::try_new(d, zone).ok())
            .map(DeliveryDay::start)
    };
    (midnight(from), midnight(to))
}

fn shift(stay: &mut Stay, zone: Tz, to_zone: Tz, weeks: i64) -> Result<(), &'static str> {
    if weeks == 0 && zone == to_zone {
        return Ok(());
    }
    let moved = |at: DateTime<Utc>| {
        let by = TimeDelta::try_weeks(weeks).ok_or(SHIFTED_AWAY)?;
        let local = at
            .with_timezone(&zone)
            .naive_local()
            .checked_add_signed(by)
            .ok_or(SHIFTED_AWAY)?;
        match localise(to_zone, local) {
            Local::Once(at) | Local::Twice(at, _) => Ok(at),
            Local::Never => Err(SHIFTED_AWAY),
        }
    };
    (stay.plug_in, stay.plug_out) = (moved(stay.plug_in)?, moved(stay.plug_out)?);
    if stay.plug_out > stay.plug_in {
        Ok(())
    } else {
        Err(SHIFTED_EMPTY)
    }
}

fn within(stay: &Stay, (from, to): Limits) -> Result<(), &'static str> {
    let inside =
        from.is_none_or(|from| stay.plug_in >= from) && to.is_none_or(|to| stay.plug_out <= to);
    if inside { Ok(()) } else { Err(OUTSIDE) }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "stays last far less than 2^53 milliseconds"
)]
fn hours(stay: &Stay) -> f64 {
    (stay.plug_out - stay.plug_in).num_milliseconds() as f64 / 3_600_000.0
}

fn plausible(stay: &Stay, assume: &Assume) -> Result<(), &'static str> {
    if hours(stay) >= assume.longest_stay_hours {
        return Err(TOO_LONG);
    }
    if stay.energy_kwh > HIGHEST_MEAN_KW * hours(stay) {
        return Err(TOO_FAST);
    }
    if stay.energy_kwh * assume.charge_efficiency > assume.capacity_kwh {
        return Err(TOO_MUCH);
    }
    Ok(())
}

/// Gives names where the source has none; stays are in order of arrival. Says what was assumed.
fn name_the_nameless(stays: &mut [Stay], format: &str) -> Option<&'static str> {
    let nameless = stays.iter().any(|s| s.evse_id.is_empty());
    let driverless = stays.iter().any(|s| s.vehicle_id.is_empty());
    let mut busy = BinaryHeap::new();
    let mut free = BTreeSet::new();
    let mut count = 0_u32;
    for (index, stay) in stays.iter_mut().enumerate() {
        if stay.session_id.is_empty() {
            stay.session_id = format!("{format}-{:06}", index + 1);
        }
        if stay.evse_id.is_empty() {
            while let Some(Reverse((until, number))) = busy.peek().copied()
                && until <= stay.plug_in
            {
                busy.pop();
                free.insert(number);
            }
            let number = free.pop_first().unwrap_or_else(|| {
                count += 1;
                count
            });
            busy.push(Reverse((stay.plug_out, number)));
            stay.evse_id = format!("{format}-{number:04}");
        }
        if stay.vehicle_id.is_empty() {
            stay.vehicle_id = format!("v-{}", stay.evse_id);
        }
        if stay.site_id.is_empty() {
            format.clone_into(&mut stay.site_id);
        }
    }
    match (nameless, driverless) {
        (true, _) => Some("evse_id and vehicle_id are stand-ins, as few as stay at the same time"),
        (false, true) => Some("vehicle_id is a stand-in, one per charge point"),
        (false, false) => None,
    }
}

fn complete(stay: &Stay, assume: &Assume, tally: &mut Tally) -> Session {
    for repair in &stay.repairs {
        tally.repair(repair, &stay.at);
    }
    let gain = stay.energy_kwh * assume.charge_efficiency;
    let (arrival, required) = levels(stay, gain, assume, tally);
    let mean = stay.energy_kwh / hours(stay);
    let known = stay.peak_kw.unwrap_or(assume.max_charge_kw);
    if mean > known {
        tally.repair(RAISED, &stay.at);
    }
    Session {
        session_id: stay.session_id.clone(),
        evse_id: stay.evse_id.clone(),
        vehicle_id: stay.vehicle_id.clone(),
        site_id: stay.site_id.clone(),
        plug_in: stay.plug_in,
        plug_out: stay.plug_out,
        energy_arrival_kwh: arrival.map(tidy),
        energy_required_kwh: tidy(required),
        capacity_kwh: assume.capacity_kwh,
        // Rounded up, so that the stay stays possible.
        max_charge_kw: (known.max(mean) * 1e6).ceil() / 1e6,
        max_discharge_kw: assume.max_discharge_kw,
    }
}

/// Level at arrival (unknown if nothing says it) and level required, kWh in the battery.
fn levels(stay: &Stay, gain: f64, assume: &Assume, tally: &mut Tally) -> (Option<f64>, f64) {
    let capacity = assume.capacity_kwh;
    match (assume.arrival_fraction, assume.departure_fraction) {
        (None, None) => (None, gain),
        (Some(arrival), Some(departure)) => (Some(arrival * capacity), departure * capacity),
        (Some(arrival), None) => {
            let wanted = arrival * capacity;
            let level = wanted.min(capacity - gain).max(0.0);
            if level < wanted {
                tally.repair(EMPTIER, &stay.at);
            }
            (Some(level), (level + gain).min(capacity))
        }
        (None, Some(departure)) => {
            let wanted = departure * capacity;
            if gain > wanted {
                tally.repair(FULLER, &stay.at);
            }
            (Some((wanted - gain).max(0.0)), wanted.max(gain))
        }
    }
}

/// To a milliwatt-hour: more digits than any meter has.
fn tidy(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
