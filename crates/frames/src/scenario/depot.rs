//! `[[fleet.depot]]`: buses built from a timetable, as sessions.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{Days, NaiveDate, TimeDelta};
use fleet::blocks::{Block, Depot as Yard, Roster, roster};
use units::{Energy, Power};

use super::load::{NOT_NEGATIVE, Reading};
use crate::sessions::Session;
use crate::timetable::{DayBlock, Timetable};
use crate::tree::{Branch, Leaf};
use crate::{InputError, catalogue};

/// Consumption kept at pull-out over the expected one: the mean of the planning bound of eight Portuguese routes
/// (0.8254 to 0.8868 kWh/km with 0.2025 to 0.2864 on top), which stands for the 95 % quantile.
const UPPER_OVER_EXPECTED: f64 = 1.25;
/// Days of service before and after the period, so that buses enter it in the middle of their week and leave it with
/// the need of a block to come; the longest usual pause, Friday to Monday, is within.
const DAYS_AROUND: u64 = 4;
/// Names listed in a note; the count says how many more there are.
const NAMES_IN_A_NOTE: usize = 8;

const ENTRY: &str = "\"catalogue:ID\" or { capacity_kwh = 350.0 }";
const POSITIVE: (f64, f64) = (0.1, 1e6);

/// A depot as the file says.
struct Depot {
    id: String,
    capacity_kwh: f64,
    charge_kw: f64,
    discharge_kw: f64,
    chargers: u32,
    kwh_per_km: f64,
    kwh_per_km_upper: f64,
}

/// What the depots' buses share with the fleet.
pub(super) struct Common {
    pub(super) charge_efficiency: f64,
    pub(super) min_energy_fraction: f64,
}

/// Sessions of all depots; notes say what the timetable asked for and what no bus can do.
pub(super) fn sessions(
    timetable: &Leaf<'_>,
    depots: &Leaf<'_>,
    period: (NaiveDate, NaiveDate),
    common: &Common,
    reading: &mut Reading<'_>,
) -> Result<Vec<Session>, InputError> {
    let file = reading
        .folder
        .join(timetable.text("the path of a GTFS zip")?);
    if !file.is_file() {
        let what = format!("no file {}, expected a GTFS zip there", file.display());
        return Err(timetable.error(what));
    }
    let depots = read(depots)?;
    let feed = Timetable::read(&file)?;
    let blocks = blocks(&feed, period, reading)?;
    let mut sessions = Vec::new();
    for (depot, blocks) in share(&depots, blocks) {
        let yard = Yard {
            capacity: Energy::from_kwh(depot.capacity_kwh),
            floor: Energy::from_kwh(depot.capacity_kwh * common.min_energy_fraction),
            charge: Power::from_kw(depot.charge_kw),
            charge_efficiency_ppm: per_million(common.charge_efficiency),
            chargers: depot.chargers as usize,
        };
        let blocks: Vec<_> = blocks.iter().map(|b| depot.block(b)).collect();
        let done = roster(yard, &blocks);
        reading.notes.push(depot.note(blocks.len(), &done));
        sessions.extend(depot.sessions(&done));
    }
    Ok(sessions)
}

#[expect(clippy::cast_possible_truncation, reason = "a share of one")]
fn per_million(share: f64) -> i64 {
    (share * 1e6).round() as i64
}

fn read(leaf: &Leaf<'_>) -> Result<Vec<Depot>, InputError> {
    let mut depots: Vec<Depot> = Vec::new();
    for leaf in leaf.list() {
        let mut table = leaf.branch("a table [[fleet.depot]]")?;
        let name = table.need("id", "a name")?;
        let id = name.text("a name")?.to_owned();
        if depots.iter().any(|d| d.id == id) {
            return Err(name.error(format!("depot {id:?} again, expected a name of its own")));
        }
        let (capacity_kwh, bus_kw) = bus(&table.need("buses", ENTRY)?)?;
        let charger_kw = table.need("charger_kw", "a number")?.number(POSITIVE)?;
        let kwh_per_km = table
            .need("kwh_per_km", "a number")?
            .number((0.01, 100.0))?;
        let chargers = table
            .need("chargers", "a whole number")?
            .count((1, 100_000))?;
        let charge_kw = bus_kw.map_or(charger_kw, |kw| kw.min(charger_kw));
        let discharge_kw = table.number("discharge_kw", charge_kw, NOT_NEGATIVE)?;
        let kwh_per_km_upper = table.number(
            "kwh_per_km_upper",
            kwh_per_km * UPPER_OVER_EXPECTED,
            (kwh_per_km, 100.0),
        )?;
        table.finish()?;
        depots.push(Depot {
            id,
            capacity_kwh,
            charge_kw,
            discharge_kw,
            chargers,
            kwh_per_km,
            kwh_per_km_upper,
        });
    }
    Ok(depots)
}

/// Usable capacity and highest charging power of the vehicle.
fn bus(leaf: &Leaf<'_>) -> Result<(f64, Option<f64>), InputError> {
    if let Ok(name) = leaf.text(ENTRY) {
        let buses = catalogue::buses()?;
        let known = || buses.iter().map(|b| b.id.as_str()).collect::<Vec<_>>();
        let entry = name.strip_prefix("catalogue:");
        return entry
            .and_then(|id| buses.iter().find(|b| b.id == id))
            .map(|b| (b.usable_kwh, b.max_charge_kw))
            .ok_or_else(|| {
                let known = known().join(", ");
                leaf.error(format!(
                    "{name:?}, expected \"catalogue:ID\" with one of {known}"
                ))
            });
    }
    let mut table: Branch<'_> = leaf.branch(ENTRY)?;
    let capacity = table.need("capacity_kwh", "a number")?.number(POSITIVE)?;
    let power = table
        .get("max_charge_kw")
        .map(|l| l.number(POSITIVE))
        .transpose()?;
    table.finish()?;
    Ok((capacity, power))
}

/// The blocks of the period and the days around it.
fn blocks(
    feed: &Timetable,
    (from, to): (NaiveDate, NaiveDate),
    reading: &mut Reading<'_>,
) -> Result<Vec<DayBlock>, InputError> {
    let weeks = feed.weeks_to(from, to)?;
    if weeks != 0 {
        reading.notes.push(format!(
            "{} has no service in the period: its days are moved by {weeks} weeks, keeping weekday and local clock",
            feed.file().display()
        ));
    }
    let served = |d: &NaiveDate| feed.serves(*d - TimeDelta::weeks(weeks));
    let empty = from
        .iter_days()
        .take_while(|d| *d < to)
        .filter(|d| !served(d))
        .count();
    if empty > 0 {
        reading.notes.push(format!(
            "{} has no service on {empty} days of the period",
            feed.file().display()
        ));
    }
    let first = from - Days::new(DAYS_AROUND);
    let days = first
        .iter_days()
        .take_while(|d| *d < to + Days::new(DAYS_AROUND));
    Ok(days
        .flat_map(|d| feed.day(d, weeks, reading.window.zone))
        .collect())
}

/// Deals block ids to depots, in order, each to the one with the fewest per charger so far: every day of a block belongs
/// to the same depot.
fn share(depots: &[Depot], blocks: Vec<DayBlock>) -> Vec<(&Depot, Vec<DayBlock>)> {
    let mut owner = BTreeMap::<String, usize>::new();
    let mut dealt = vec![0_u64; depots.len()];
    let mut shares: Vec<_> = depots.iter().map(|d| (d, Vec::new())).collect();
    let ids = crate::timetable::block_ids(&blocks);
    for id in ids {
        // dealt/chargers compared without dividing.
        let next = (0..depots.len()).min_by(|a, b| {
            let load = |i: usize, other: usize| (dealt[i] + 1) * u64::from(depots[other].chargers);
            load(*a, *b).cmp(&load(*b, *a))
        });
        if let Some(next) = next {
            owner.insert(id.to_owned(), next);
            dealt[next] += 1;
        }
    }
    for block in blocks {
        if let Some(index) = owner.get(&block.block_id) {
            shares[*index].1.push(block);
        }
    }
    shares
}

impl Depot {
    fn block(&self, day: &DayBlock) -> Block {
        Block {
            name: day.name.clone(),
            leaves: day.leaves,
            returns: day.returns,
            expected: Energy::from_kwh(day.km * self.kwh_per_km),
            upper: Energy::from_kwh(day.km * self.kwh_per_km_upper),
        }
    }

    fn sessions(&self, done: &Roster) -> Vec<Session> {
        let stays = done.stays.iter().enumerate();
        stays
            .map(|(index, stay)| Session {
                session_id: format!("{}-{:06}", self.id, index + 1),
                evse_id: format!("{}-c{:03}", self.id, stay.charger + 1),
                vehicle_id: format!("{}-b{:03}", self.id, stay.bus + 1),
                site_id: self.id.clone(),
                plug_in: stay.plug_in,
                plug_out: stay.plug_out,
                energy_arrival_kwh: Some(stay.arrival.kwh()),
                energy_required_kwh: stay.required.kwh(),
                capacity_kwh: self.capacity_kwh,
                max_charge_kw: self.charge_kw,
                max_discharge_kw: self.discharge_kw,
            })
            .collect()
    }

    fn note(&self, blocks: usize, done: &Roster) -> String {
        let mut note = format!(
            "depot {}: {} buses for {blocks} blocks (with {DAYS_AROUND} days before and after), {} stays; \
             {} times a bus waited for a charger, {} of them until it left",
            self.id,
            done.buses,
            done.stays.len(),
            done.waits,
            done.unserved
        );
        for (what, names) in [
            ("longer than the battery", &done.too_long),
            ("not driven for want of energy", &done.too_low),
        ] {
            if !names.is_empty() {
                let some: Vec<_> = names.iter().take(NAMES_IN_A_NOTE).cloned().collect();
                let more = if names.len() > some.len() {
                    ", ..."
                } else {
                    ""
                };
                note += &format!("; {} blocks {what}: {}{more}", names.len(), some.join(", "));
            }
        }
        note
    }
}

/// Refuses a session id that a depot and the sessions file both use.
pub(super) fn distinct(sessions: &[Session], file: &Path) -> Result<(), InputError> {
    let mut seen = std::collections::BTreeSet::new();
    match sessions.iter().find(|s| !seen.insert(&s.session_id)) {
        None => Ok(()),
        Some(twice) => Err(InputError::file(
            file,
            format!(
                "session_id {:?} of fleet.sessions is also one of a depot, expected names of their own",
                twice.session_id
            ),
        )),
    }
}
