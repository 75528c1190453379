//! What happens without us: full power from plug-in until the required energy is reached.

use super::{Policy, Run};
use crate::case::{Case, Session};
use crate::reference::SessionSchedule;

/// Charging power of a vehicle left alone, kW per step of its stay (mean over the whole step).
///
/// The last step before the level is reached is charged in part. Knows no site limit.
pub(crate) fn charge_at_once(session: &Session, efficiency: f64, step_hours: f64) -> Vec<f64> {
    let wanted = session.stay.required_kwh.min(session.stay.capacity_kwh);
    let mut energy = session.arrival;
    session
        .share
        .iter()
        .map(|share| {
            let missing = (wanted - energy).max(0.0) / (efficiency * step_hours);
            let power = missing.min(share * session.stay.charge_kw);
            energy += efficiency * power * step_hours;
            power
        })
        .collect()
}

/// A session's record under given powers: energies at the boundaries and what is missing at departure.
pub(crate) fn record(
    case: &Case,
    session: &Session,
    charge_kw: Vec<f64>,
    discharge_kw: Vec<f64>,
) -> SessionSchedule {
    let (hours, fleet) = (case.grid.hours(), case.fleet);
    let mut energy_kwh = Vec::with_capacity(charge_kw.len() + 1);
    let mut energy = session.arrival;
    energy_kwh.push(energy);
    for (c, d) in charge_kw.iter().zip(&discharge_kw) {
        energy += hours * (fleet.charge_efficiency * c - d / fleet.discharge_efficiency);
        energy_kwh.push(energy);
    }
    SessionSchedule {
        charge_kw,
        discharge_kw,
        energy_kwh,
        short_kwh: (session.goal - energy).max(0.0),
        reserves: Vec::new(),
    }
}

/// Runs the policy.
pub(super) fn run(case: &Case) -> Run {
    let sessions = case
        .sessions
        .iter()
        .map(|s| {
            let charge = charge_at_once(s, case.fleet.charge_efficiency, case.grid.hours());
            let idle = vec![0.0; charge.len()];
            record(case, s, charge, idle)
        })
        .collect();
    Run {
        policy: Policy::Unmanaged,
        sessions,
        sold_kw: None,
        sold_mw: Vec::new(),
        paid: Vec::new(),
        missing_mw: Vec::new(),
        qualifications_lost: Vec::new(),
        planned: Vec::new(),
        scores: Vec::new(),
        relative_gap: None,
        lower_bound: None,
        limits: Vec::new(),
    }
}
