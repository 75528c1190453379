//! Session files as their publishers lay them out.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::clock::{Local, localise, parse_local};
use super::tally::{Tally, at};
use crate::InputError;
use crate::records::{Records, Row, parse_instant};

/// A stay as the source tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stay {
    /// Empty where the source has none.
    pub(crate) session_id: String,
    /// Empty where the source has none.
    pub(crate) evse_id: String,
    /// Empty where the source has none.
    pub(crate) vehicle_id: String,
    pub(crate) site_id: String,
    pub(crate) plug_in: DateTime<Utc>,
    pub(crate) plug_out: DateTime<Utc>,
    /// Metered at the grid side, kWh.
    pub(crate) energy_kwh: f64,
    /// Highest power seen, kW.
    pub(crate) peak_kw: Option<f64>,
    /// When the driver said to leave, and the energy asked for, kWh; nothing where the source filled it in afterwards.
    pub(crate) said: Option<(DateTime<Utc>, Option<f64>)>,
    /// What was decided about it.
    pub(crate) repairs: Repairs,
    /// `FILE:LINE`.
    pub(crate) at: String,
}

/// How a publisher lays out sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Zone of its clocks.
    pub(crate) zone: Tz,
    columns: &'static [&'static str],
    row: fn(&Fields<'_>, &mut Repairs) -> Result<Stay, Refusal>,
}

/// Why a row cannot be a session.
type Refusal = &'static str;
/// What was decided about a row; counted once the row is kept.
type Repairs = Vec<&'static str>;

const NO_START: Refusal = "start is missing or no date of the calendar";
const NO_END: Refusal = "end is missing or no date of the calendar";
const START_SKIPPED: Refusal = "start in the hour that the clock change skips";
const END_SKIPPED: Refusal = "end in the hour that the clock change skips";
const NO_ENERGY: Refusal = "energy is missing or no number";
const NEGATIVE_ENERGY: Refusal = "negative energy";
const NO_EVSE: Refusal = "no charge point";
const NO_DURATION: Refusal = "end is not after start";

const FIRST_PASS: &str = "start in the repeated hour: first pass taken";
const END_PASS: &str = "end in the repeated hour: first pass after the start taken";
const END_FROM_DURATION: &str = "end does not fit the stated duration: start plus duration taken";
const END_BY_DURATION: &str =
    "end is missing or no date of the calendar: start plus duration taken";
const NEGATIVE_CHARGING: &str = "negative charging time: ignored";
const UNCLAIMED: &str = "unclaimed: no driver's request, delivered energy stands for it";

/// Stamps and durations agree within this; sources cut to whole minutes.
const AGREEMENT: TimeDelta = TimeDelta::minutes(3);

pub(crate) const ACN: Layout = Layout {
    zone: Tz::America__Los_Angeles,
    columns: &[
        "site",
        "arrival",
        "departure",
        "delivered_energy_kwh",
        "station_id",
        "session_id",
        "claimed",
        "requested_energy_kwh",
        "estimated_departure",
    ],
    row: acn,
};
pub(crate) const ELAAD: Layout = Layout {
    zone: Tz::Europe__Amsterdam,
    columns: &[
        "plug_in_local",
        "plug_out_local",
        "energy_wh",
        "connected_hours",
        "charging_hours",
        "max_power_w",
    ],
    row: elaad,
};
pub(crate) const BOULDER: Layout = Layout {
    zone: Tz::America__Denver,
    columns: &[
        "station",
        "start_local",
        "start_tz",
        "end_local",
        "end_tz",
        "total_duration_hms",
        "energy_kwh",
    ],
    row: boulder,
};
pub(crate) const DUNDEE: Layout = Layout {
    zone: Tz::Europe__London,
    columns: &[
        "event_id",
        "charge_point_id",
        "connector",
        "start_local",
        "end_local",
        "energy_kwh",
        "site",
    ],
    row: dundee,
};
pub(crate) const NORWAY: Layout = Layout {
    zone: Tz::Europe__Oslo,
    columns: &[
        "session_id",
        "garage_id",
        "user_id",
        "shared_id",
        "plug_in_local",
        "plug_out_local",
        "energy_kwh",
        "duration_hours",
    ],
    row: norway,
};

/// The fields of one row in the order of [`Layout::columns`].
struct Fields<'a> {
    row: Row<'a>,
    index: &'a [usize],
    zone: Tz,
}

impl Layout {
    /// Reads every row of `files`; rows that cannot be sessions are refused.
    pub(crate) fn read(
        &self,
        files: &[PathBuf],
        zone: Option<Tz>,
        tally: &mut Tally,
    ) -> Result<Vec<Stay>, InputError> {
        let zone = zone.unwrap_or(self.zone);
        let mut stays = Vec::new();
        for file in files {
            let mut records = Records::open_csv(file, b',')?;
            let index = self.columns.iter().map(|c| records.column(c));
            let index = index.collect::<Result<Vec<_>, _>>()?;
            while let Some(row) = records.next()? {
                tally.read();
                let fields = Fields {
                    row,
                    index: &index,
                    zone,
                };
                let mut repairs = Vec::new();
                match (self.row)(&fields, &mut repairs) {
                    Ok(stay) => stays.push(Stay { repairs, ..stay }),
                    Err(reason) => tally.refuse(reason, &at(&row)),
                }
            }
        }
        Ok(stays)
    }
}

impl Fields<'_> {
    fn text(&self, column: usize) -> &str {
        self.index.get(column).map_or("", |c| self.row.text(*c))
    }

    fn number(&self, column: usize) -> Option<f64> {
        self.text(column)
            .parse::<f64>()
            .ok()
            .filter(|v| v.is_finite())
    }

    /// Metered energy in the column's unit.
    fn energy(&self, column: usize) -> Result<f64, Refusal> {
        match self.number(column) {
            None => Err(NO_ENERGY),
            Some(value) if value < 0.0 => Err(NEGATIVE_ENERGY),
            Some(value) => Ok(value),
        }
    }

    /// Start and end of a stay from local clocks and, where the source has it, its duration.
    fn span(
        &self,
        start: usize,
        end: usize,
        hours: Option<f64>,
        repairs: &mut Repairs,
    ) -> Result<(DateTime<Utc>, DateTime<Utc>), Refusal> {
        let local_start = parse_local(self.text(start)).ok_or(NO_START)?;
        let begun = match localise(self.zone, local_start) {
            Local::Once(at) => at,
            Local::Twice(first, _) => {
                repairs.push(FIRST_PASS);
                first
            }
            Local::Never => return Err(START_SKIPPED),
        };
        let duration = hours.filter(|h| *h > 0.0).and_then(duration);
        let Some(local_end) = parse_local(self.text(end)) else {
            let length = duration.ok_or(NO_END)?;
            repairs.push(END_BY_DURATION);
            return Ok((begun, begun + length));
        };
        let ended = self.end(begun, local_end, duration, repairs)?;
        let ended = match duration {
            Some(length) if !agrees(length, local_end - local_start, ended - begun) => {
                repairs.push(END_FROM_DURATION);
                begun + length
            }
            _ => ended,
        };
        if ended > begun {
            Ok((begun, ended))
        } else {
            Err(NO_DURATION)
        }
    }

    fn end(
        &self,
        begun: DateTime<Utc>,
        local: NaiveDateTime,
        duration: Option<TimeDelta>,
        repairs: &mut Repairs,
    ) -> Result<DateTime<Utc>, Refusal> {
        match (localise(self.zone, local), duration) {
            (Local::Once(ended), _) => Ok(ended),
            (Local::Twice(first, second), _) => {
                repairs.push(END_PASS);
                Ok(if first > begun { first } else { second })
            }
            (Local::Never, Some(length)) => {
                repairs.push(END_FROM_DURATION);
                Ok(begun + length)
            }
            (Local::Never, None) => Err(END_SKIPPED),
        }
    }
}

/// Durations are stated by the clock on the wall in some files and by elapsed time in others.
fn agrees(stated: TimeDelta, by_clock: TimeDelta, elapsed: TimeDelta) -> bool {
    [by_clock, elapsed]
        .iter()
        .any(|d| (*d - stated).abs() <= AGREEMENT)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be within a thousand years"
)]
fn duration(hours: f64) -> Option<TimeDelta> {
    (hours.abs() < 9e6).then(|| TimeDelta::milliseconds((hours * 3_600_000.0).round() as i64))
}

fn acn(f: &Fields<'_>, repairs: &mut Repairs) -> Result<Stay, Refusal> {
    let plug_in = parse_instant(f.text(1)).ok_or(NO_START)?;
    let plug_out = parse_instant(f.text(2)).ok_or(NO_END)?;
    if plug_out <= plug_in {
        return Err(NO_DURATION);
    }
    let energy_kwh = f.energy(3)?;
    let claimed = !f.text(6).eq_ignore_ascii_case("false");
    if !claimed {
        repairs.push(UNCLAIMED);
    }
    // Of an unclaimed session the file repeats the outcome: that is no statement.
    let said = parse_instant(f.text(8))
        .filter(|_| claimed)
        .map(|departure| (departure, f.number(7).filter(|kwh| *kwh >= 0.0)));
    Ok(Stay {
        session_id: f.text(5).to_owned(),
        evse_id: f.text(4).to_owned(),
        vehicle_id: String::new(),
        site_id: f.text(0).to_owned(),
        plug_in,
        plug_out,
        energy_kwh,
        peak_kw: None,
        said,
        repairs: Vec::new(),
        at: at(&f.row),
    })
}

fn elaad(f: &Fields<'_>, repairs: &mut Repairs) -> Result<Stay, Refusal> {
    let energy_kwh = f.energy(2)? / 1000.0;
    let (plug_in, plug_out) = f.span(0, 1, f.number(3), repairs)?;
    if f.number(4).is_some_and(|h| h < 0.0) {
        repairs.push(NEGATIVE_CHARGING);
    }
    Ok(Stay {
        session_id: String::new(),
        evse_id: String::new(),
        vehicle_id: String::new(),
        site_id: String::new(),
        plug_in,
        plug_out,
        energy_kwh,
        peak_kw: f.number(5).filter(|w| *w > 0.0).map(|w| w / 1000.0),
        said: None,
        repairs: Vec::new(),
        at: at(&f.row),
    })
}

fn boulder(f: &Fields<'_>, repairs: &mut Repairs) -> Result<Stay, Refusal> {
    let energy_kwh = f.energy(6)?;
    if f.text(0).is_empty() {
        return Err(NO_EVSE);
    }
    let local = |column: usize| parse_local(f.text(column));
    let start = local(1).ok_or(NO_START)?;
    let plug_in = start.and_utc() - mountain(f.text(2)).ok_or(NO_START)?;
    let length = hms(f.text(5)).filter(|d| *d > TimeDelta::zero());
    let end = local(3).zip(mountain(f.text(4)));
    let plug_out = match (end, length) {
        (Some((end, offset)), length) => {
            let stamp = end.and_utc() - offset;
            match length {
                Some(length) if !agrees(length, end - start, stamp - plug_in) => {
                    repairs.push(END_FROM_DURATION);
                    plug_in + length
                }
                _ => stamp,
            }
        }
        (None, Some(length)) => {
            repairs.push(END_BY_DURATION);
            plug_in + length
        }
        (None, None) => return Err(NO_END),
    };
    if plug_out <= plug_in {
        return Err(NO_DURATION);
    }
    Ok(Stay {
        session_id: String::new(),
        evse_id: f.text(0).to_owned(),
        vehicle_id: String::new(),
        site_id: f.text(0).to_owned(),
        plug_in,
        plug_out,
        energy_kwh,
        peak_kw: None,
        said: None,
        repairs: Vec::new(),
        at: at(&f.row),
    })
}

/// Offset of a zone abbreviation of the Mountain states.
fn mountain(text: &str) -> Option<TimeDelta> {
    match text {
        "MST" => Some(TimeDelta::hours(-7)),
        "MDT" => Some(TimeDelta::hours(-6)),
        _ => None,
    }
}

/// A duration as hours, minutes and seconds.
fn hms(text: &str) -> Option<TimeDelta> {
    let mut parts = text
        .split(':')
        .map(|p| p.parse::<u32>().ok().filter(|v| *v < 1_000_000));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let whole = TimeDelta::hours(hours.into()) + TimeDelta::minutes(minutes.into());
    parts
        .next()
        .is_none()
        .then(|| whole + TimeDelta::seconds(seconds.into()))
}

fn dundee(f: &Fields<'_>, repairs: &mut Repairs) -> Result<Stay, Refusal> {
    if f.text(1).is_empty() {
        return Err(NO_EVSE);
    }
    let (plug_in, plug_out) = f.span(3, 4, None, repairs)?;
    let energy_kwh = f.energy(5)?;
    let point = f.text(1).trim_end_matches(".0");
    Ok(Stay {
        session_id: f.text(0).to_owned(),
        evse_id: format!("{point}-{}", f.text(2)),
        vehicle_id: String::new(),
        site_id: f.text(6).to_owned(),
        plug_in,
        plug_out,
        energy_kwh,
        peak_kw: None,
        said: None,
        repairs: Vec::new(),
        at: at(&f.row),
    })
}

fn norway(f: &Fields<'_>, repairs: &mut Repairs) -> Result<Stay, Refusal> {
    let energy_kwh = f.energy(6)?;
    let (plug_in, plug_out) = f.span(4, 5, f.number(7), repairs)?;
    let shared = f.text(3);
    Ok(Stay {
        session_id: f.text(0).to_owned(),
        evse_id: if shared.is_empty() {
            f.text(2).to_owned()
        } else {
            format!("{}-{shared}", f.text(1))
        },
        vehicle_id: f.text(2).to_owned(),
        site_id: f.text(1).to_owned(),
        plug_in,
        plug_out,
        energy_kwh,
        peak_kw: None,
        said: None,
        repairs: Vec::new(),
        at: at(&f.row),
    })
}
