//! Reads a scenario file and every table it names.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{NaiveDate, TimeDelta};
use market::Area;
use toml::de::DeTable;
use units::DeliveryDay;

use super::depot;
use super::offers::extras;
use super::points::{optional, sites};
use super::prices::prices;
use super::stays::stays;
use super::types::{
    Afrr, Costs, Fcr, FleetParameters, Headroom, Markets, Planning, RefundBasis, Risk, Scenario,
    Site,
};
use crate::InputError;
use crate::records::read_text;
use crate::series::Window;
use crate::tree::{Branch, Leaf, Source};

/// What a limit, a fee or a share may be, both ends included.
pub(super) const ANY: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
pub(super) const NOT_NEGATIVE: (f64, f64) = (0.0, f64::INFINITY);
const SHARE: (f64, f64) = (0.0, 1.0);
/// An efficiency of zero would make energy vanish and divides.
const EFFICIENCY: (f64, f64) = (0.01, 1.0);
pub(super) const MINUTES_OF_A_DAY: (f64, f64) = (0.0, 1440.0);

// Where the scenario says nothing: the values shown in the contract, section 3; no cost given is no cost.
const STEP_MINUTES: u32 = 15;
const ONE_WAY_EFFICIENCY: f64 = 0.94;
const MIN_ENERGY_FRACTION: f64 = 0.1;
const FCR_ENDURANCE_MINUTES: f64 = 30.0;
const FCR_RECOVERY_STEPS: u32 = 2;
const AFRR_ENDURANCE_MINUTES: f64 = 60.0;
const RISK: Risk = Risk {
    planning: Planning::Stochastic,
    cvar_alpha: 0.95,
    beta: 0.0,
    reserve_reliability: 0.9,
};
/// A certainty of 1 leaves no tail to look at, and nothing to sell.
const LEVEL: (f64, f64) = (0.0, 0.9999);

/// What is read along the way.
pub(super) struct Reading<'a> {
    pub(super) folder: &'a Path,
    /// Folder of the tables named under `data`; `None` where none was given.
    pub(super) data: Option<&'a Path>,
    pub(super) window: Window,
    pub(super) notes: Vec<String>,
}

/// Reads the scenario at `file` with its tables, all of which stand beside it.
///
/// # Errors
/// [`InputError`] for the first thing that is not as the contract says, by file, line and key.
pub fn load(file: &Path) -> Result<Scenario, InputError> {
    read(file, None)
}

/// Reads the scenario at `file` with its tables. Those named under `data` are looked for below `data`.
///
/// # Errors
/// [`InputError`] for the first thing that is not as the contract says, by file, line and key.
pub fn load_with_data(file: &Path, data: &Path) -> Result<Scenario, InputError> {
    read(file, Some(data))
}

fn read(file: &Path, data: Option<&Path>) -> Result<Scenario, InputError> {
    let text = read_text(file)?;
    let source = Source { file, text: &text };
    let tree = DeTable::parse(&text).map_err(|e| source.refuse(&e))?;
    let mut root = Branch::root(source, tree.get_ref());

    let name = root.need("name", "a name")?.text("a name")?.to_owned();
    let area = root.need("area", "an area, as in \"NL\"")?;
    let area = area
        .text("an area")?
        .parse::<Area>()
        .map_err(|e| area.error(e.to_string()))?;
    let (from, to) = (
        root.need("from", "a local date")?,
        root.need("to", "a local date")?,
    );
    let window = window(area, &from, &to, root.get("step_minutes").as_ref())?;
    let mut reading = Reading {
        folder: file.parent().unwrap_or(Path::new(".")),
        data,
        window,
        notes: Vec::new(),
    };
    let markets = markets(root.get("markets"))?;
    let risk = risk(root.get("risk"))?;
    let prices = prices(&root.need("prices", "a table [prices]")?, &mut reading)?;
    require_series(&root, &markets, &prices)?;
    let period = (from.date()?, to.date()?);
    let fleet = fleet(
        &root.need("fleet", "a table [fleet]")?,
        period,
        &mut reading,
    )?;
    let sites = sites(root.get("site").as_ref(), &mut reading)?;
    let extras = extras(&mut root, (area, &markets), &sites, &mut reading)?;
    let costs = costs(root.get("costs"))?;
    require_ledgers(&root, &costs, &fleet, &sites)?;
    let (from, to) = period;
    root.finish()?;
    Ok(Scenario {
        file: file.to_owned(),
        name,
        area,
        from,
        to,
        start: window.start,
        end: window.end,
        step: window.step,
        prices,
        fleet,
        sites,
        costs,
        markets,
        risk,
        extras,
        notes: reading.notes,
    })
}

fn window(
    area: Area,
    from: &Leaf<'_>,
    to: &Leaf<'_>,
    step: Option<&Leaf<'_>>,
) -> Result<Window, InputError> {
    let midnight = |leaf: &Leaf<'_>| {
        let day = DeliveryDay::try_new(leaf.date()?, area.zone());
        day.map(DeliveryDay::start)
            .map_err(|e| leaf.error(e.to_string()))
    };
    let (start, end) = (midnight(from)?, midnight(to)?);
    if start >= end {
        return Err(to.error(format!(
            "{} is not after from, {}, expected a later date",
            to.date()?,
            from.date()?
        )));
    }
    let minutes = match step {
        None => STEP_MINUTES,
        Some(leaf) => match leaf.count((1, 60))? {
            minutes if 60 % minutes == 0 => minutes,
            minutes => return Err(leaf.error(format!("{minutes}, expected a divisor of 60"))),
        },
    };
    Ok(Window {
        start,
        end,
        step: TimeDelta::minutes(i64::from(minutes)),
        zone: area.zone(),
    })
}

fn require_series(
    root: &Branch<'_>,
    markets: &Markets,
    prices: &super::Prices,
) -> Result<(), InputError> {
    if markets.fcr.enabled && prices.fcr.is_none() {
        return Err(root
            .error("markets.fcr is enabled without prices.fcr, expected a series of FCR prices"));
    }
    if markets.afrr.enabled && prices.afrr_up.is_none() && prices.afrr_down.is_none() {
        return Err(root.error(
            "markets.afrr is enabled without prices.afrr_up or prices.afrr_down, expected a series of aFRR prices",
        ));
    }
    Ok(())
}

/// A refund is earned where energy was drawn, so that every site needs its ledger.
fn require_ledgers(
    root: &Branch<'_>,
    costs: &Costs,
    fleet: &FleetParameters,
    sites: &[Site],
) -> Result<(), InputError> {
    let known = |id: &str| sites.iter().any(|site| site.id == id);
    let missing = fleet.sessions.iter().find(|s| !known(&s.site_id));
    match missing.filter(|_| costs.refund_per_mwh > 0.0) {
        Some(session) => Err(root.error(format!(
            "costs.refund_per_mwh with sessions at {:?}, expected a [[site]] for every site: a refund has a ledger at each",
            session.site_id
        ))),
        None => Ok(()),
    }
}

fn fleet(
    leaf: &Leaf<'_>,
    period: (NaiveDate, NaiveDate),
    reading: &mut Reading<'_>,
) -> Result<FleetParameters, InputError> {
    let mut table = leaf.branch("a table [fleet]")?;
    let (timetable, depots) = (table.get("timetable"), table.get("depot"));
    let charge_efficiency = table.number("charge_efficiency", ONE_WAY_EFFICIENCY, EFFICIENCY)?;
    let min_energy_fraction = table.number("min_energy_fraction", MIN_ENERGY_FRACTION, SHARE)?;
    let mut sessions = match table.get("sessions") {
        Some(leaf) => stays(&leaf, reading)?,
        None if depots.is_some() => Vec::new(),
        None => {
            table.need("sessions", "a file of sessions")?;
            Vec::new()
        }
    };
    match (&timetable, &depots) {
        (Some(timetable), Some(list)) => {
            let common = depot::Common {
                charge_efficiency,
                min_energy_fraction,
            };
            sessions.extend(depot::sessions(timetable, list, period, &common, reading)?);
            depot::distinct(&sessions, leaf.source.file)?;
        }
        (Some(alone), None) => {
            return Err(alone.error("a timetable without depot, expected a table [[fleet.depot]]"));
        }
        (None, Some(alone)) => {
            return Err(
                alone.error("a depot without timetable, expected fleet.timetable, a GTFS zip")
            );
        }
        (None, None) => {}
    }
    let fleet = FleetParameters {
        sessions,
        charge_efficiency,
        discharge_efficiency: table.number(
            "discharge_efficiency",
            ONE_WAY_EFFICIENCY,
            EFFICIENCY,
        )?,
        min_energy_fraction,
        v2g_share: table.number("v2g_share", 1.0, SHARE)?,
        departure_known: table.flag("departure_known", false)?,
        keep_fraction: table.number("keep_fraction", 0.0, SHARE)?,
        kva_per_kw: optional(&mut table, "kva_per_kw", (1.0, 10.0))?,
        days_off: match table.get("days_off") {
            Some(leaf) => leaf
                .list()
                .iter()
                .map(Leaf::date)
                .collect::<Result<_, _>>()?,
            None => BTreeSet::new(),
        },
    };
    table.finish()?;
    Ok(fleet)
}

/// The path that `leaf` names, if there is a file.
pub(super) fn existing(leaf: &Leaf<'_>, folder: &Path) -> Result<std::path::PathBuf, InputError> {
    let file = folder.join(leaf.text("the path of a file")?);
    if file.is_file() {
        return Ok(file);
    }
    Err(leaf.error(format!(
        "no file {}, expected a .csv, .csv.gz or .parquet file there",
        file.display()
    )))
}

fn costs(leaf: Option<Leaf<'_>>) -> Result<Costs, InputError> {
    let Some(leaf) = leaf else {
        return Ok(Costs::default());
    };
    let mut table = leaf.branch("a table [costs]")?;
    let refund = table.get("refund_per_mwh");
    let costs = Costs {
        import_per_mwh: table.number("import_per_mwh", 0.0, ANY)?,
        export_per_mwh: table.number("export_per_mwh", 0.0, ANY)?,
        wear_per_mwh: table.number("wear_per_mwh", 0.0, NOT_NEGATIVE)?,
        demand_per_kw_month: table.number("demand_per_kw_month", 0.0, NOT_NEGATIVE)?,
        reactive_per_kvar_month: table.number("reactive_per_kvar_month", 0.0, NOT_NEGATIVE)?,
        reactive_free_share: table.number("reactive_free_share", 0.0, NOT_NEGATIVE)?,
        refund_per_mwh: refund
            .as_ref()
            .map_or(Ok(0.0), |l| l.number(NOT_NEGATIVE))?,
        refund_basis: match table.get("refund_basis") {
            None => RefundBasis::default(),
            Some(leaf) => match leaf.text("\"returned\" or \"drawn\"")? {
                "returned" => RefundBasis::Returned,
                "drawn" => RefundBasis::Drawn,
                other => {
                    return Err(
                        leaf.error(format!("{other:?}, expected \"returned\" or \"drawn\""))
                    );
                }
            },
        },
    };
    let round = costs.import_per_mwh + costs.export_per_mwh + costs.wear_per_mwh;
    if round < 0.0 {
        return Err(table.error(format!(
            "import_per_mwh, export_per_mwh and wear_per_mwh add up to {round}: charging and discharging at once would earn that; \
             expected 0 or more, a refund no larger than what is paid"
        )));
    }
    if let Some(leaf) = refund.filter(|_| costs.refund_per_mwh > costs.import_per_mwh) {
        return Err(leaf.error(format!(
            "{} is more than import_per_mwh, {}, expected at most what is paid on what is drawn",
            costs.refund_per_mwh, costs.import_per_mwh
        )));
    }
    table.finish()?;
    Ok(costs)
}

fn markets(leaf: Option<Leaf<'_>>) -> Result<Markets, InputError> {
    let mut table = leaf.map(|l| l.branch("a table [markets]")).transpose()?;
    let day_ahead = table
        .as_mut()
        .map_or(Ok(true), |t| t.flag("day_ahead", true))?;
    let fcr = fcr(table.as_mut().and_then(|t| t.get("fcr")))?;
    let afrr = afrr(table.as_mut().and_then(|t| t.get("afrr")))?;
    table.map_or(Ok(()), Branch::finish)?;
    Ok(Markets {
        day_ahead,
        fcr,
        afrr,
    })
}

fn fcr(leaf: Option<Leaf<'_>>) -> Result<Fcr, InputError> {
    let mut fcr = Fcr {
        enabled: false,
        power_factor: 1.0,
        endurance_minutes: FCR_ENDURANCE_MINUTES,
        headroom: Headroom::Snapshot,
        recovery_steps: FCR_RECOVERY_STEPS,
    };
    let Some(leaf) = leaf else { return Ok(fcr) };
    let mut table = leaf.branch("a table, as in { enabled = true }")?;
    fcr.enabled = table.flag("enabled", false)?;
    fcr.power_factor = table.number("power_factor", fcr.power_factor, (1.0, 100.0))?;
    fcr.endurance_minutes =
        table.number("endurance_minutes", fcr.endurance_minutes, MINUTES_OF_A_DAY)?;
    if let Some(leaf) = table.get("headroom") {
        fcr.headroom = match leaf.text("\"snapshot\" or \"window\"")? {
            "snapshot" => Headroom::Snapshot,
            "window" => Headroom::Window,
            other => {
                return Err(leaf.error(format!("{other:?}, expected \"snapshot\" or \"window\"")));
            }
        };
    }
    if let Some(leaf) = table.get("recovery_steps") {
        fcr.recovery_steps = leaf.count((0, 1440))?;
    }
    table.finish()?;
    Ok(fcr)
}

fn afrr(leaf: Option<Leaf<'_>>) -> Result<Afrr, InputError> {
    let mut afrr = Afrr {
        enabled: false,
        endurance_minutes: AFRR_ENDURANCE_MINUTES,
    };
    let Some(leaf) = leaf else { return Ok(afrr) };
    let mut table = leaf.branch("a table, as in { enabled = true }")?;
    afrr.enabled = table.flag("enabled", false)?;
    afrr.endurance_minutes = table.number(
        "endurance_minutes",
        afrr.endurance_minutes,
        MINUTES_OF_A_DAY,
    )?;
    table.finish()?;
    Ok(afrr)
}

fn risk(leaf: Option<Leaf<'_>>) -> Result<Risk, InputError> {
    let mut risk = RISK;
    let Some(leaf) = leaf else { return Ok(risk) };
    let mut table = leaf.branch("a table [risk]")?;
    risk.cvar_alpha = table.number("cvar_alpha", risk.cvar_alpha, LEVEL)?;
    risk.beta = table.number("beta", risk.beta, SHARE)?;
    risk.reserve_reliability =
        table.number("reserve_reliability", risk.reserve_reliability, LEVEL)?;
    if let Some(leaf) = table.get("planning") {
        risk.planning = match leaf.text("\"stochastic\" or \"expected\"")? {
            "stochastic" => Planning::Stochastic,
            "expected" => Planning::Expected,
            other => {
                return Err(leaf.error(format!(
                    "{other:?}, expected \"stochastic\" or \"expected\""
                )));
            }
        };
    }
    table.finish()?;
    Ok(risk)
}
