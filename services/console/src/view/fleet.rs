//! Sites and charge points: what each does and why, exceptions first.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use wire::proto::fleet::v1::{EvseState, Session};
use wire::proto::portfolio::v1::{Schedule, ScheduleStep};
use wire::proto::telemetry::v1::Needs;

use super::{Flow, Lens, at, kw, kwh, said};
use crate::state::State;

/// A metered power older than this is not shown as the present one: meters report each quarter hour at least.
const READING_LIMIT: TimeDelta = TimeDelta::minutes(20);

/// Slack below which a vehicle has to charge at full power to leave on time.
const TIGHT: TimeDelta = TimeDelta::minutes(15);

/// Energy still missing that counts as nothing: 10 Wh.
const NOTHING_JOULES: i64 = 36_000;

/// Rows sent at most to one page.
pub const MOST_ROWS: usize = 500;

/// What an outlet does, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// Its station is not connected.
    Offline,
    /// No vehicle.
    Free,
    /// Takes power.
    Charging,
    /// Gives power.
    Discharging,
    /// A vehicle waits.
    Waiting,
    /// A vehicle has what it needs.
    Ready,
    /// A vehicle is there, its power is not known.
    Unmeasured,
}

/// Something an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attention {
    /// `short`, `tight`, `unresponsive`, `offline`, `silent`.
    pub code: &'static str,
    /// In words.
    pub text: String,
}

/// One outlet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Outlet.
    pub evse: String,
    /// Site.
    pub site: String,
    /// Class of the place.
    pub class: String,
    /// Protocol of its station.
    pub protocol: String,
    /// What it does.
    pub doing: Doing,
    /// True while a vehicle is plugged in.
    pub plugged: bool,
    /// Vehicle, where known.
    pub vehicle: Option<String>,
    /// Metered power; absent if not measured lately.
    pub power_kw: Option<f64>,
    /// Instant of the newest metered power, however old.
    pub power_at: Option<DateTime<Utc>>,
    /// Newest accepted set-point.
    pub setpoint_kw: Option<f64>,
    /// When it was accepted.
    pub setpoint_at: Option<DateTime<Utc>>,
    /// Planned power now.
    pub planned_kw: Option<f64>,
    /// Reserve held by this outlet now: how far it may be lowered.
    pub reserve_up_kw: Option<f64>,
    /// How far it may be raised.
    pub reserve_down_kw: Option<f64>,
    /// Why, in the optimiser's words.
    pub reason: Option<String>,
    /// Stated departure.
    pub departure: Option<DateTime<Utc>>,
    /// Energy still to be added, inside the battery.
    pub missing_kwh: Option<f64>,
    /// Time left beyond charging at full power until departure; negative is late.
    pub slack_minutes: Option<i64>,
    /// State of charge, where the vehicle tells it.
    pub soc_ratio: Option<f64>,
    /// Instant of the newest change.
    pub changed_at: Option<DateTime<Utc>>,
    /// Exceptions, worst first.
    pub attention: Vec<Attention>,
}

/// One site.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SiteView {
    /// Site.
    pub site: String,
    /// Name for people.
    pub name: String,
    /// Sum of what is measured; absent if a vehicle is there and nothing is measured.
    pub power_kw: Option<f64>,
    /// Oldest reading in the sum.
    pub power_at: Option<DateTime<Utc>>,
    /// Most the site may take.
    pub import_limit_kw: Option<f64>,
    /// Most the site may give.
    pub export_limit_kw: Option<f64>,
    /// Outlets.
    pub evses: usize,
    /// With a vehicle.
    pub plugged: usize,
    /// Taking power.
    pub charging: usize,
    /// Giving power.
    pub discharging: usize,
    /// With a vehicle and without a present reading.
    pub unmeasured: usize,
    /// Not connected.
    pub offline: usize,
    /// With something to look at.
    pub attention: usize,
}

/// Which outlets are asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Only those with something to look at.
    pub attention: bool,
    /// Only this site.
    pub site: Option<String>,
    /// Text in the names of outlet, site, vehicle, in class, protocol, state or reason; case does not matter.
    pub q: Option<String>,
    /// Rows at most; never more than [`MOST_ROWS`].
    pub limit: Option<usize>,
}

/// Outlets that match, with the sites.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetView {
    /// Outlets known.
    pub total: usize,
    /// Outlets that match the filter.
    pub matched: usize,
    /// Outlets that need attention.
    pub attention: usize,
    /// Outlets by code of attention; one outlet may have several.
    pub codes: BTreeMap<&'static str, usize>,
    /// Vehicles plugged in.
    pub plugged: usize,
    /// The first of those that match; exceptions first.
    pub rows: Vec<Row>,
    /// All sites.
    pub sites: Vec<SiteView>,
}

/// The fleet through a filter.
#[must_use]
pub fn fleet(state: &State, filter: &Filter, lens: &Lens) -> FleetView {
    let all: Vec<Row> = state.evses.values().map(|e| row(e, state, lens)).collect();
    let sites = sites(state, &all);
    let (total, attention) = (
        all.len(),
        all.iter().filter(|r| !r.attention.is_empty()).count(),
    );
    let mut codes = BTreeMap::new();
    for attention in all.iter().flat_map(|r| &r.attention) {
        *codes.entry(attention.code).or_insert(0) += 1;
    }
    let plugged = sites.iter().map(|s| s.plugged).sum();
    let mut rows: Vec<Row> = all.into_iter().filter(|r| filter.keeps(r)).collect();
    let matched = rows.len();
    rows.sort_by_key(|r| {
        (
            r.attention.first().map_or(u8::MAX, rank),
            r.slack_minutes.unwrap_or(i64::MAX),
        )
    });
    rows.truncate(filter.limit.unwrap_or(MOST_ROWS).min(MOST_ROWS));
    FleetView {
        total,
        matched,
        attention,
        codes,
        plugged,
        rows,
        sites,
    }
}

impl FleetView {
    /// Outlets with attention of `code`.
    pub(crate) fn count(&self, code: &str) -> usize {
        self.codes.get(code).copied().unwrap_or(0)
    }
}

impl Filter {
    fn keeps(&self, row: &Row) -> bool {
        (!self.attention || !row.attention.is_empty())
            && self
                .site
                .as_ref()
                .is_none_or(|s| s.is_empty() || *s == row.site)
            && self
                .q
                .as_ref()
                .is_none_or(|q| matches(row, &q.trim().to_lowercase()))
    }
}

fn matches(row: &Row, text: &str) -> bool {
    let doing = format!("{:?}", row.doing);
    [
        row.evse.as_str(),
        &row.site,
        &row.class,
        &row.protocol,
        &doing,
        row.vehicle.as_deref().unwrap_or_default(),
        row.reason.as_deref().unwrap_or_default(),
    ]
    .iter()
    .any(|field| field.to_lowercase().contains(text))
}

/// Worst first.
fn rank(attention: &Attention) -> u8 {
    let order = ["short", "unresponsive", "offline", "tight", "silent"];
    order
        .iter()
        .position(|code| *code == attention.code)
        .and_then(|i| u8::try_from(i).ok())
        .unwrap_or(u8::MAX - 1)
}

fn row(evse: &EvseState, state: &State, lens: &Lens) -> Row {
    let power_at = evse.power_at_micros.and_then(at);
    let power = evse
        .power_watts
        .filter(|_| power_at.is_some_and(|p| !lens.is_stale(p, READING_LIMIT)));
    let needs = evse.session.as_ref().and_then(|s| s.needs.as_ref());
    let missing = evse.session.as_ref().and_then(missing_joules);
    let slack = slack(evse, missing, lens.now);
    let plan = planned(evse, state, lens.now);
    let step = plan.and_then(|(_, step)| step);
    Row {
        evse: evse.evse_id.clone(),
        site: evse.site_id.clone(),
        class: evse.class.clone(),
        protocol: evse.protocol.clone(),
        doing: doing(evse, power, missing),
        plugged: evse.session.is_some(),
        vehicle: evse.session.as_ref().and_then(|s| s.vehicle_id.clone()),
        power_kw: power.map(kw),
        power_at,
        setpoint_kw: evse.setpoint_watts.map(kw),
        setpoint_at: evse.setpoint_at_micros.and_then(at),
        planned_kw: step.map(|s| kw(s.power_watts)),
        reserve_up_kw: step.map(|s| kw(s.up_watts)),
        reserve_down_kw: step.map(|s| kw(s.down_watts)),
        reason: plan.and_then(|(schedule, _)| said(&schedule.reason)),
        departure: needs.and_then(|n| n.departure_micros).and_then(at),
        missing_kwh: missing.map(kwh),
        slack_minutes: slack.map(|s| s.num_minutes()),
        soc_ratio: evse.session.as_ref().and_then(|s| s.soc_ratio),
        changed_at: at(evse.changed_at_micros),
        attention: attention(evse, power, slack, lens),
    }
}

fn doing(evse: &EvseState, power: Option<i64>, missing: Option<i64>) -> Doing {
    if !evse.online {
        return Doing::Offline;
    }
    if evse.session.is_none() {
        return Doing::Free;
    }
    match power.map(Flow::of) {
        None => Doing::Unmeasured,
        Some(Flow::Charging) => Doing::Charging,
        Some(Flow::Discharging) => Doing::Discharging,
        Some(Flow::Still) if missing.is_some_and(|m| m <= NOTHING_JOULES) => Doing::Ready,
        Some(Flow::Still) => Doing::Waiting,
    }
}

/// Energy still to be added; `None` where nobody stated a need or nothing was measured yet.
fn missing_joules(session: &Session) -> Option<i64> {
    let needs = session.needs.as_ref()?;
    Some((needs.energy_joules - session.added_joules?).max(0))
}

/// Time left at departure if the vehicle charges at full power from now on.
fn slack(evse: &EvseState, missing: Option<i64>, now: DateTime<Utc>) -> Option<TimeDelta> {
    let needs: &Needs = evse.session.as_ref()?.needs.as_ref()?;
    let departure = at(needs.departure_micros?)?;
    let missing = missing?;
    if missing <= NOTHING_JOULES {
        return Some(departure - now);
    }
    let watts = evse.max_charge_watts.min(needs.max_charge_watts);
    let seconds = kwh(missing) * 3_600.0 / (kw(watts) * evse.charge_efficiency);
    let charging = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    (departure - now).checked_sub(&TimeDelta::from_std(charging).ok()?)
}

/// The schedule of the stay in progress and its step that holds now.
fn planned<'a>(
    evse: &EvseState,
    state: &'a State,
    now: DateTime<Utc>,
) -> Option<(&'a Schedule, Option<&'a ScheduleStep>)> {
    let schedule = state.schedules.get(&evse.evse_id)?;
    let session = evse.session.as_ref()?;
    if schedule
        .session_id
        .as_ref()
        .is_some_and(|s| *s != session.session_id)
    {
        return None;
    }
    let since = (now - at(schedule.start_micros)?).num_seconds();
    let step = since.checked_div(i64::from(schedule.step_seconds));
    let step = step
        .and_then(|i| usize::try_from(i).ok())
        .and_then(|i| schedule.steps.get(i));
    Some((schedule, step))
}

fn attention(
    evse: &EvseState,
    power: Option<i64>,
    slack: Option<TimeDelta>,
    lens: &Lens,
) -> Vec<Attention> {
    let mut found = Vec::new();
    let mut note = |code, text: String| found.push(Attention { code, text });
    let here = evse.session.is_some();
    let missing = evse.session.as_ref().and_then(missing_joules).unwrap_or(0) > NOTHING_JOULES;
    match slack {
        Some(slack) if missing && slack < TimeDelta::zero() => {
            note(
                "short",
                format!("cannot be full in time: {} min late", -slack.num_minutes()),
            );
        }
        Some(slack) if missing && slack < TIGHT => note(
            "tight",
            "must charge at full power to leave on time".to_owned(),
        ),
        _ => {}
    }
    if evse.unresponsive {
        note("unresponsive", "does not follow its set-point".to_owned());
    }
    if !evse.online {
        let whom = if here {
            "station not connected, vehicle plugged in"
        } else {
            "station not connected"
        };
        note("offline", whom.to_owned());
    }
    let plugged = evse.session.as_ref().and_then(|s| at(s.plugged_in_micros));
    if evse.online && power.is_none() && plugged.is_some_and(|p| lens.is_stale(p, READING_LIMIT)) {
        note("silent", "no meter value".to_owned());
    }
    found.sort_by_key(rank);
    found
}

fn sites(state: &State, rows: &[Row]) -> Vec<SiteView> {
    let mut sites: BTreeMap<&str, (SiteView, f64, usize)> = BTreeMap::new();
    for row in rows {
        let (view, sum, measured) = sites.entry(&row.site).or_default();
        count(view, row);
        if let (Some(power), Some(at)) = (row.power_kw, row.power_at) {
            *sum += power;
            *measured += 1;
            view.power_at = Some(view.power_at.map_or(at, |oldest| oldest.min(at)));
        }
    }
    for id in state.sites.keys() {
        sites.entry(id).or_default();
    }
    sites
        .into_iter()
        .map(|(id, (mut view, sum, measured))| {
            let known = state.sites.get(id);
            view.site = id.to_owned();
            view.name = known
                .and_then(|s| said(&s.name))
                .unwrap_or_else(|| id.to_owned());
            view.import_limit_kw = known.map(|s| kw(s.import_limit_watts));
            view.export_limit_kw = known.map(|s| kw(s.export_limit_watts));
            view.power_kw = (measured > 0 || view.plugged == 0).then_some(sum);
            view
        })
        .collect()
}

fn count(site: &mut SiteView, row: &Row) {
    site.evses += 1;
    site.plugged += usize::from(row.plugged);
    site.attention += usize::from(!row.attention.is_empty());
    match row.doing {
        Doing::Offline => site.offline += 1,
        Doing::Charging => site.charging += 1,
        Doing::Discharging => site.discharging += 1,
        Doing::Unmeasured => site.unmeasured += 1,
        Doing::Free | Doing::Waiting | Doing::Ready => {}
    }
}
