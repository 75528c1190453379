//! Scenarios of `shoal forecast evaluate`: past visits of a pool, and the calendar known to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use toml::de::DeTable;

use crate::import::{FORMATS, Format, Summary};
use crate::records::read_text;
use crate::tree::{Branch, Leaf, Source};
use crate::{InputError, sessions};

const KW: (f64, f64) = (0.1, 2_000.0);
const KW_OR_NONE: (f64, f64) = (0.0, 2_000.0);

/// Name of the canonical session table among the formats.
const CANONICAL: &str = "canonical";

/// One past visit: what happened, and what was said at plug-in. Empty texts are unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// Outlet.
    pub evse_id: String,
    /// User or vehicle.
    pub user_id: String,
    /// Site.
    pub site_id: String,
    /// Arrival.
    pub plug_in: DateTime<Utc>,
    /// Departure, after `plug_in`.
    pub plug_out: DateTime<Utc>,
    /// Energy delivered, kWh.
    pub energy_kwh: f64,
    /// Highest power seen, kW.
    pub peak_kw: Option<f64>,
    /// When the driver said to leave.
    pub said_departure: Option<DateTime<Utc>>,
    /// Energy the driver asked for, kWh.
    pub said_energy_kwh: Option<f64>,
}

/// A scenario with its visits read.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Name.
    pub name: String,
    /// Zone of the local clock.
    pub zone: Tz,
    /// First local date no longer forecast from; the day after the last plug-in if `None`.
    pub test_to: Option<NaiveDate>,
    /// Power at which a vehicle charges if nobody steers it, kW; the power seen in each visit if `None`.
    pub charge_kw: Option<f64>,
    /// Power a vehicle could feed back, kW.
    pub discharge_kw: f64,
    /// Whether visits name outlets and all of them are known, so that a pool can be full.
    pub visits: Vec<Visit>,
    /// Days known long before on which fewer people come.
    pub off: Vec<NaiveDate>,
    /// Half-open stretches of dates that are not ordinary.
    pub special: Vec<(NaiveDate, NaiveDate)>,
    /// Rows read, kept and refused.
    pub summary: Summary,
}

/// Reads the scenario at `file`. Tables named under `data` are looked for below `data_dir`.
///
/// # Errors
/// [`InputError`] for the first thing that is not as it should be, by file, line and key.
pub fn load(file: &Path, data_dir: &Path) -> Result<Scenario, InputError> {
    let text = read_text(file)?;
    let source = Source { file, text: &text };
    let tree = DeTable::parse(&text).map_err(|e| source.refuse(&e))?;
    let mut root = Branch::root(source, tree.get_ref());
    let name = root.need("name", "a name")?.text("a name")?.to_owned();
    let zone = root.need("zone", "an IANA zone, as in \"Europe/Oslo\"")?;
    let zone: Tz = zone
        .text("an IANA zone, as in \"Europe/Oslo\"")?
        .parse()
        .map_err(|_| zone.error("expected an IANA zone, as in \"Europe/Oslo\""))?;
    let test_to = root.get("test_to").map(|leaf| leaf.date()).transpose()?;
    let history = root.need("history", "a table [history] with the past visits")?;
    let mut history = history.branch("a table")?;
    let charge_kw = history
        .get("charge_kw")
        .map(|leaf| leaf.number(KW))
        .transpose()?;
    let discharge_kw = history
        .need("discharge_kw", "kW a vehicle could feed back")?
        .number(KW_OR_NONE)?;
    let (mut visits, summary) = visits(&mut history, file, data_dir, zone)?;
    if let Some(sites) = history.get("sites") {
        at_sites(&mut visits, &sites)?;
    }
    history.finish()?;
    let (off, special) = calendar(root.get("calendar"))?;
    root.finish()?;
    Ok(Scenario {
        name,
        zone,
        test_to,
        charge_kw,
        discharge_kw,
        visits,
        off,
        special,
        summary,
    })
}

/// Where the table is: `file` beside the scenario, or `data` in the data folder.
pub(crate) fn table(
    history: &mut Branch<'_>,
    file: &Path,
    data_dir: &Path,
) -> Result<PathBuf, InputError> {
    match (history.get("file"), history.get("data")) {
        (Some(own), None) => {
            let folder = file.parent().unwrap_or(Path::new("."));
            Ok(folder.join(own.text("a path beside this file")?))
        }
        (None, Some(shared)) => Ok(data_dir.join(shared.text("a path in the data folder")?)),
        _ => {
            Err(history
                .error("expected either file (beside this file) or data (in the data folder)"))
        }
    }
}

fn visits(
    history: &mut Branch<'_>,
    file: &Path,
    data_dir: &Path,
    zone: Tz,
) -> Result<(Vec<Visit>, Summary), InputError> {
    let path = table(history, file, data_dir)?;
    let expected = "canonical or a session format of shoal import";
    let format = history.need("format", expected)?;
    let wanted = format.text(expected)?;
    if wanted == CANONICAL {
        let visits: Vec<Visit> = sessions::read(&path)?.iter().map(canonical).collect();
        let summary = Summary {
            rows_read: visits.len(),
            rows_kept: visits.len(),
            rows_refused: 0,
            refused: BTreeMap::new(),
            repaired: BTreeMap::new(),
            notes: Vec::new(),
        };
        return Ok((visits, summary));
    }
    let read = Format::named(wanted).and_then(|f| f.stays(&[path], Some(zone)));
    let Some(read) = read else {
        let names: Vec<_> = FORMATS
            .iter()
            .filter(|f| f.is_sessions())
            .map(|f| f.name)
            .collect();
        return Err(format.error(format!(
            "{wanted:?}, expected {CANONICAL} or one of {}",
            names.join(", ")
        )));
    };
    let (stays, summary) = read?;
    let visits = stays.into_iter().map(|stay| Visit {
        evse_id: stay.evse_id,
        user_id: stay.vehicle_id,
        site_id: stay.site_id,
        plug_in: stay.plug_in,
        plug_out: stay.plug_out,
        energy_kwh: stay.energy_kwh,
        peak_kw: stay.peak_kw,
        said_departure: stay.said.map(|s| s.0),
        said_energy_kwh: stay.said.and_then(|s| s.1),
    });
    Ok((visits.collect(), summary))
}

/// Leaves visits at the named sites alone.
fn at_sites(visits: &mut Vec<Visit>, sites: &Leaf<'_>) -> Result<(), InputError> {
    let mut names = BTreeSet::new();
    for leaf in sites.list() {
        let name = leaf.text("the name of a site")?;
        if !visits.iter().any(|v| v.site_id == name) {
            let known: BTreeSet<&str> = visits.iter().map(|v| v.site_id.as_str()).collect();
            let known: Vec<&str> = known.into_iter().take(8).collect();
            return Err(leaf.error(format!(
                "no visit at {name:?}, expected a site of the table, as in {}",
                known.join(", ")
            )));
        }
        names.insert(name.to_owned());
    }
    visits.retain(|v| names.contains(&v.site_id));
    Ok(())
}

/// A canonical session took what brought it to its required level; with an unknown level at arrival that is its whole requirement.
fn canonical(session: &sessions::Session) -> Visit {
    let arrival = session.energy_arrival_kwh.unwrap_or(0.0);
    Visit {
        evse_id: session.evse_id.clone(),
        user_id: session.vehicle_id.clone(),
        site_id: session.site_id.clone(),
        plug_in: session.plug_in,
        plug_out: session.plug_out,
        energy_kwh: (session.energy_required_kwh - arrival).max(0.0),
        peak_kw: Some(session.max_charge_kw).filter(|kw| *kw > 0.0),
        said_departure: None,
        said_energy_kwh: None,
    }
}

type Calendar = (Vec<NaiveDate>, Vec<(NaiveDate, NaiveDate)>);

fn calendar(leaf: Option<Leaf<'_>>) -> Result<Calendar, InputError> {
    let Some(leaf) = leaf else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut branch = leaf.branch("a table")?;
    let dates = |leaf: Option<Leaf<'_>>| -> Result<Vec<NaiveDate>, InputError> {
        leaf.map_or(Ok(Vec::new()), |l| {
            l.list().iter().map(Leaf::date).collect()
        })
    };
    let off = dates(branch.get("off"))?;
    let special = match branch.get("special") {
        None => Vec::new(),
        Some(list) => list.list().iter().map(stretch).collect::<Result<_, _>>()?,
    };
    branch.finish()?;
    Ok((off, special))
}

/// `[first date, first date no longer in it]`.
fn stretch(leaf: &Leaf<'_>) -> Result<(NaiveDate, NaiveDate), InputError> {
    match leaf.list().as_slice() {
        [from, to] if from.date()? < to.date()? => Ok((from.date()?, to.date()?)),
        _ => Err(leaf.error("expected two dates, the second after the first")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"name = "two visits"
zone = "Europe/Amsterdam"
[history]
format = "elaad"
file = "elaad.csv"
discharge_kw = 11.0
[calendar]
off = [2018-06-05]
special = [[2018-06-04, 2018-06-06]]
"#;
    const VISITS: &str = "plug_in_local,plug_out_local,energy_wh,connected_hours,charging_hours,max_power_w\n\
2018-06-04 08:00:00,2018-06-04 10:00:00,9400,2.0,1.5,7400\n\
2018-06-05 08:00:00,2018-06-05 07:00:00,9400,,1.5,7400\n";

    fn read(scenario: &str) -> Result<Scenario, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("elaad.csv"), VISITS).unwrap();
        let file = dir.path().join("s.toml");
        std::fs::write(&file, scenario).unwrap();
        load(&file, dir.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_scenario_reads_visits_and_calendar_and_counts_refusals() {
        let s = read(SCENARIO).unwrap();
        assert_eq!((s.visits.len(), s.summary.rows_refused), (1, 1));
        assert_eq!(s.visits[0].peak_kw, Some(7.4));
        assert_eq!(s.off.len(), 1);
        assert_eq!(s.special.len(), 1);
    }

    #[test]
    fn visits_at_other_sites_are_left_out() {
        let visit = |site: &str| Visit {
            site_id: site.to_owned(),
            ..read(SCENARIO).unwrap().visits.remove(0)
        };
        let kept = |names: &str| {
            let text = format!("sites = {names}");
            let tree = DeTable::parse(&text).unwrap();
            let source = Source {
                file: Path::new("s.toml"),
                text: &text,
            };
            let mut root = Branch::root(source, tree.get_ref());
            let mut visits = vec![visit("east"), visit("west"), visit("east")];
            at_sites(&mut visits, &root.get("sites").unwrap()).map_err(|e| e.to_string())?;
            Ok(visits.len())
        };
        assert_eq!(kept("[\"east\"]"), Ok(2));
        assert_eq!(kept("[\"east\", \"west\"]"), Ok(3));
        let error: String = kept("[\"north\"]").unwrap_err();
        assert!(error.ends_with("as in east, west"), "{error}");
    }

    #[test]
    fn a_scenario_that_is_wrong_names_line_and_key() {
        for (from, to, expected) in [
            (
                "\"elaad\"",
                "\"gtfs\"",
                "s.toml:4: history.format: \"gtfs\", expected canonical or one of acn",
            ),
            ("file = \"elaad.csv\"", "", "expected either file"),
            (
                "discharge_kw = 11.0",
                "discharge_kw = -1",
                "history.discharge_kw",
            ),
            (
                "discharge_kw = 11.0",
                "discharge_kw = 11.0\nsites = [\"Delft\"]",
                "no visit at \"Delft\", expected a site of the table",
            ),
            ("Europe/Amsterdam", "Mars/Olympus", "zone"),
            (
                "[2018-06-04, 2018-06-06]",
                "[2018-06-06, 2018-06-04]",
                "expected two dates",
            ),
            ("off =", "of =", "unknown key"),
        ] {
            assert!(SCENARIO.contains(from), "{from}");
            let error = read(&SCENARIO.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error} / {expected}");
        }
    }
}
