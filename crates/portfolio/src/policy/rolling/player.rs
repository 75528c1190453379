//! One vehicle in the plan: plugged in, or expected to come.

use super::hold::{Hold, Terms};
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
    /// How many of it there are in its picture: 1, or less where one picture stands for the mean of several days.
    pub(crate) part: f64,
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
    /// Worth of one more kWh in the battery at the end of each step, currency per kWh; empty before the first answer.
    pub(crate) worth: Vec<f64>,
    /// Whether it has refused part of a share of reserve, and is asked for no more in this step.
    pub(crate) full: bool,
    /// Reserve it holds or has held, kW: `[product][step of the session]`; empty where there never was any.
    holds: Vec<Vec<Hold>>,
    /// The same as its present plan keeps it free, before the last sharing out.
    kept: Vec<Vec<Hold>>,
}

impl Player {
    /// A vehicle at its arrival, with an empty plan.
    pub(crate) fn new(session: Session, weight: f64, real: Option<usize>) -> Self {
        let steps = session.share.len();
        Self {
            weight,
            real,
            picture: 0,
            part: 1.0,
            next: 0,
            energy: session.arrival,
            charge: vec![0.0; steps],
            discharge: vec![0.0; steps],
            at_once: None,
            worth: Vec::new(),
            full: false,
            holds: Vec::new(),
            kept: Vec::new(),
            session,
        }
    }

    /// The same under the rule for unknown departures: never behind charging at once.
    pub(crate) fn departing_any_time(mut self, case: &Case) -> Self {
        self.at_once = Some(levels_at_once(case, &self.session));
        self
    }

    /// One of a picture: it counts for `weight` in all, and there are `part` of it in its picture.
    pub(crate) fn expected(mut self, picture: usize, weight: f64, part: f64) -> Self {
        self.picture = picture;
        self.weight = weight;
        self.part = part;
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

    /// Whether any reserve is held from the next step on.
    pub(crate) fn holds_any(&self) -> bool {
        let ahead = |held: &Vec<Hold>| held.iter().skip(self.next).any(|h| *h != Hold::default());
        self.holds.iter().any(ahead)
    }

    /// Gives up reserve from the next step on. What was held before is sold and may still be called: its energy stays
    /// kept until its last activation is made good.
    pub(crate) fn release_holds(&mut self) {
        for held in &mut self.holds {
            let next = self.next.min(held.len());
            held[next..].fill(Hold::default());
        }
    }

    /// Notes the reserve held: the plan made keeps it free.
    pub(crate) fn note_holds(&mut self) {
        self.kept.clone_from(&self.holds);
    }

    /// Takes half of what is new to it from the next step on, as against the reserve noted.
    pub(crate) fn halve_what_is_new(&mut self) {
        for (product, held) in self.holds.iter_mut().enumerate() {
            for (j, hold) in held.iter_mut().enumerate().skip(self.next) {
                let kept = self.kept.get(product).and_then(|kept| kept.get(j));
                let kept = kept.copied().unwrap_or_default();
                hold.up = f64::midpoint(hold.up, kept.up);
                hold.down = f64::midpoint(hold.down, kept.down);
            }
        }
    }

    /// Holds again from the next step on what was noted, which the plan made keeps free.
    pub(crate) fn return_to_noted(&mut self) {
        for (held, kept) in self.holds.iter_mut().zip(&self.kept) {
            let next = self.next.min(held.len()).min(kept.len());
            let end = held.len().min(kept.len());
            held[next..end].copy_from_slice(&kept[next..end]);
        }
        if self.kept.is_empty() {
            self.release_holds();
        }
    }

    /// Reserve held of a product in step `t` of the grid.
    pub(crate) fn hold(&self, product: usize, t: usize) -> Option<Hold> {
        let j = t.checked_sub(self.session.first)?;
        self.holds.get(product)?.get(j).copied()
    }

    /// Holds reserve of a product in step `t` of the grid.
    pub(crate) fn set_hold(&mut self, case: &Case, product: usize, t: usize, hold: Hold) {
        if self.holds.is_empty() {
            self.holds = vec![vec![Hold::default(); self.session.share.len()]; case.reserves.len()];
        }
        if let Some(held) = t
            .checked_sub(self.session.first)
            .and_then(|j| self.holds.get_mut(product)?.get_mut(j))
        {
            *held = hold;
        }
    }

    /// Power kept free in step `j` of the session for all products, up and down, kW.
    pub(crate) fn power_kept(&self, terms: &[Terms], j: usize) -> (f64, f64) {
        let mut kept = (0.0, 0.0);
        for (held, terms) in self.holds.iter().zip(terms) {
            let hold = held.get(j).copied().unwrap_or_default();
            kept.0 += terms.factor * hold.up;
            kept.1 += terms.factor * hold.down;
        }
        kept
    }

    /// Energy kept above the floor and below the ceiling at the end of step `j`, kWh: for every step whose activation
    /// can still be felt there.
    pub(crate) fn energy_kept(&self, terms: &[Terms], j: usize) -> (f64, f64) {
        let mut kept = (0.0, 0.0);
        for (held, terms) in self.holds.iter().zip(terms) {
            let first = (j + 1).saturating_sub(terms.tail);
            let most = held[first.min(held.len())..(j + 1).min(held.len())]
                .iter()
                .fold((0.0_f64, 0.0_f64), |m, h| (m.0.max(h.up), m.1.max(h.down)));
            kept.0 += terms.per_kw * most.0;
            kept.1 += terms.per_kw * most.1;
        }
        kept
    }

    /// Power (kW) and energy (kWh) that step `t` of the grid keeps free for the products beside `product`.
    pub(crate) fn kept_for_others(
        &self,
        terms: &[Terms],
        product: usize,
        t: usize,
    ) -> (Hold, Hold) {
        let (mut kw, mut kwh) = (Hold::default(), Hold::default());
        let Some(j) = t.checked_sub(self.session.first) else {
            return (kw, kwh);
        };
        for (index, (held, terms)) in self.holds.iter().zip(terms).enumerate() {
            if let Some(hold) = held.get(j).filter(|_| index != product) {
                kw.up += terms.factor * hold.up;
                kw.down += terms.factor * hold.down;
                kwh.up += terms.per_kw * hold.up;
                kwh.down += terms.per_kw * hold.down;
            }
        }
        (kw, kwh)
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
        self.release_holds();
        for held in &mut self.holds {
            held.resize(session.share.len(), Hold::default());
        }
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

/// What a vehicle does in its step in hand when it is there for `share` of the step, kW over the whole step.
///
/// Energy that is owed is charged first and at full power, as a vehicle left alone would, so that one that leaves
/// within the step has as much; the rest of the plan follows.
pub(crate) fn carried(case: &Case, player: &Player, share: f64) -> (f64, f64) {
    let j = player.next;
    let (charge, discharge) = (player.charge[j], player.discharge[j]);
    let assumed = player.session.share[j];
    if share >= assumed || assumed <= 0.0 {
        return (charge, discharge);
    }
    let most = player.session.stay.charge_kw.max(1e-9);
    let wanted = player
        .session
        .stay
        .required_kwh
        .min(player.session.stay.capacity_kwh);
    let hours = case.grid.hours();
    let owed =
        ((wanted - player.energy).max(0.0) / (case.fleet.charge_efficiency * hours)).min(charge);
    let first = owed.min(share * most);
    let rest = (share - owed / most).max(0.0) / (assumed - owed / most).max(1e-9);
    (
        first + (charge - owed) * rest.min(1.0),
        discharge * rest.min(1.0),
    )
}
