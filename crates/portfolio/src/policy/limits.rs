//! What limited a result, read off the schedule: chargers, batteries, time and sites that stood at their limit.

use super::{Limit, Run};
use crate::case::{Case, Session};
use crate::policy::account::{deviation_cost, site_range};
use crate::reference::SessionSchedule;

/// Power this close to a limit is at it, kW.
const AT_LIMIT_KW: f64 = 1e-3;
/// Energy this close to a limit is at it, kWh.
const AT_LIMIT_KWH: f64 = 1e-3;

/// Limits that bound in any interval, most often first. Intervals are counted per session, at sites per site.
#[must_use]
pub fn limits(case: &Case, run: &Run) -> Vec<Limit> {
    let count = |at: fn(&Case, &Session, &SessionSchedule, usize) -> bool| {
        let sessions = case.sessions.iter().zip(&run.sessions);
        sessions
            .map(|(s, d)| (0..s.share.len()).filter(|j| at(case, s, d, *j)).count())
            .sum::<usize>()
    };
    let mut found = vec![
        limit("charger at full charging power", count(full_charge)),
        limit("charger at full discharging power", count(full_discharge)),
        limit("battery full", count(full_battery)),
        limit("battery at its floor", count(empty_battery)),
        limit(
            "no time to spare: charging must go on to be ready",
            count(no_time),
        ),
    ];
    let ranges = site_range(case, run);
    for (site, range) in case.sites.iter().zip(&ranges) {
        let at_import = range
            .iter()
            .filter(|r| r.1 >= site.import_kw - AT_LIMIT_KW)
            .count();
        let at_export = range
            .iter()
            .filter(|r| r.0 <= AT_LIMIT_KW - site.export_kw)
            .count();
        found.push(limit(
            &format!("site {} at its import limit", site.id),
            at_import,
        ));
        found.push(limit(
            &format!("site {} at its export limit", site.id),
            at_export,
        ));
    }
    found.extend(deviations(case, run));
    found.retain(|l| l.steps > 0);
    found.sort_by_key(|l| std::cmp::Reverse(l.steps));
    found
}

/// Forecast against fact: intervals off the sold position, and what they cost beyond the day-ahead price.
fn deviations(case: &Case, run: &Run) -> Option<Limit> {
    let sold = run.sold_kw.as_ref()?;
    let (charge, discharge) = run.load(case);
    let off = |t: usize| charge[t] - discharge[t] - sold[t];
    let steps = 0..case.grid.steps;
    Some(Limit {
        what: "forecast: deviations from the position sold day-ahead".to_owned(),
        steps: steps
            .clone()
            .filter(|t| off(*t).abs() > AT_LIMIT_KW)
            .count(),
        cost: Some(
            steps.map(|t| deviation_cost(case, t, off(t))).sum::<f64>() * case.grid.hours()
                / 1000.0,
        ),
    })
}

fn limit(what: &str, steps: usize) -> Limit {
    Limit {
        what: what.to_owned(),
        steps,
        cost: None,
    }
}

fn full_charge(_: &Case, s: &Session, d: &SessionSchedule, j: usize) -> bool {
    let most = s.share[j] * s.stay.charge_kw;
    most > 0.0 && d.charge_kw[j] >= most - AT_LIMIT_KW
}

fn full_discharge(_: &Case, s: &Session, d: &SessionSchedule, j: usize) -> bool {
    let most = s.share[j] * s.discharge_kw;
    most > 0.0 && d.discharge_kw[j] >= most - AT_LIMIT_KW
}

fn full_battery(_: &Case, s: &Session, d: &SessionSchedule, j: usize) -> bool {
    d.energy_kwh[j + 1] >= s.stay.capacity_kwh - AT_LIMIT_KWH
}

fn empty_battery(_: &Case, s: &Session, d: &SessionSchedule, j: usize) -> bool {
    d.energy_kwh[j + 1] <= s.floor + AT_LIMIT_KWH && s.discharge_kw > 0.0
}

/// At full power for the rest of the stay the goal is only just reached.
fn no_time(case: &Case, s: &Session, d: &SessionSchedule, j: usize) -> bool {
    let left: f64 = s.share[j..].iter().sum::<f64>() * case.grid.hours();
    let reach = d.energy_kwh[j] + case.fleet.charge_efficiency * s.stay.charge_kw * left;
    s.goal > d.energy_kwh[j] + AT_LIMIT_KWH && reach <= s.goal + AT_LIMIT_KWH
}
