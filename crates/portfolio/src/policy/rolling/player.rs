//! One vehicle in the plan: plugged in, or expected to come.

use crate::case::{Case, Session, Stay};

/// A vehicle that takes part in the plan, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Player {
    /// The session; with an assumed departure where the real one is not known.
    pub(crate) session: Session,
    /// How much of it counts: 1 for a vehicle that is plugged in, its probability for an expected one.
    pub(crate) weight: f64,
    /// Index into [`Case::sessions`] of a vehicle that is plugged in; `None` for an expected one.
    pub(crate) real: Option<usize>,
    /// Picture of the day it belongs to, where it is expected.
    pub(crate) picture: usize,
    /// First step still to decide, counted within the session.
    pub(crate) next: usize,
    /// Energy when step `next` begins, kWh.
    pub(crate) energy: f64,
    /// Planned charging power, kW per step of the session.
    pub(crate) charge: Vec<f64>,
    /// Planned discharging power, kW per step of the session.
    pub(crate) discharge: Vec<f64>,
    /// Where the departure is not known: the level that charging at once would have reached at the end of each step.
    pub(crate) at_once: Option<Vec<f64>>,
}

impl Player {
    /// A vehicle at its arrival, with an empty plan.
    pub(crate) fn new(session: Session, weight: f64, real: Option<usize>) -> Self {
        let steps = session.share.len();
        Self {
            weight,
            real,
            picture: 0,
            next: 0,
            energy: session.arrival,
            charge: vec![0.0; steps],
            discharge: vec![0.0; steps],
            at_once: None,
            session,
        }
    }

    /// The same under the rule for unknown departures: never behind charging at once.
    pub(crate) fn departing_any_time(mut self, case: &Case) -> Self {
        self.at_once = Some(levels_at_once(case, &self.session));
        self
    }

    /// Step of the grid at which the decision still to make begins.
    pub(crate) fn begins(&self) -> usize {
        self.session.first + self.next
    }

    /// Steps of the grid still to decide.
    pub(crate) fn ahead(&self) -> std::ops::Range<usize> {
        self.begins()..self.session.steps().end
    }

    /// Planned net power in step `t` of the grid, kW.
    pub(crate) fn net(&self, t: usize) -> f64 {
        t.checked_sub(self.session.first)
            .filter(|j| *j < self.charge.len())
            .map_or(0.0, |j| self.charge[j] - self.discharge[j])
    }

    /// Charging still owed, kWh at the grid side; zero once the goal is reached.
    pub(crate) fn owed(&self, efficiency: f64) -> f64 {
        (self.session.goal - self.energy).max(0.0) / efficiency
    }

    /// Lengthens an assumed stay to `plug_out` and keeps the plan made so far.
    pub(crate) fn stays_until(&mut self, case: &Case, plug_out: chrono::DateTime<chrono::Utc>) {
        let stay = Stay {
            plug_out: plug_out.min(case.grid.end()),
            ..self.session.stay.clone()
        };
        if stay.plug_out <= self.session.stay.plug_out {
            return;
        }
        let v2g = self.session.discharge_kw > 0.0;
        let session = case.session(stay, self.session.arrival, v2g);
        self.charge.resize(session.share.len(), 0.0);
        self.discharge.resize(session.share.len(), 0.0);
        self.at_once = Some(levels_at_once(case, &session));
        self.session = session;
    }
}

/// Energy at the end of each step when charging at once, kWh.
fn levels_at_once(case: &Case, session: &Session) -> Vec<f64> {
    let (efficiency, hours) = (case.fleet.charge_efficiency, case.grid.hours());
    let mut energy = session.arrival;
    crate::policy::unmanaged::charge_at_once(session, efficiency, hours)
        .into_iter()
        .map(|power| {
            energy += efficiency * power * hours;
            energy
        })
        .collect()
}
