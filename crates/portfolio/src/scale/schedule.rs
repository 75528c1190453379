//! From the iterate of a group back to schedules.

use pulp::Simd;

use crate::reference::{Held, Session, SessionSchedule};

use super::build::{Frame, plugged_in};
use super::group::Group;
use super::pack::Pack;
use super::rows::{self, OWN};

impl Frame<'_> {
    /// Reads the schedules of a group.
    pub(super) fn read<S: Simd>(&self, group: &Group<S>) -> Vec<(usize, SessionSchedule)> {
        let mut out = Vec::new();
        for pack in &group.packs {
            for (lane, index) in pack.session.iter().enumerate() {
                if let Some(index) = index {
                    out.push((
                        *index,
                        self.schedule(pack, lane, &self.problem.sessions[*index]),
                    ));
                }
            }
        }
        out
    }

    fn schedule<S: Simd>(&self, pack: &Pack<S>, lane: usize, session: &Session) -> SessionSchedule {
        let (ec, ed) = (session.charge_efficiency, session.discharge_efficiency);
        let steps = session.share.len();
        let none = || vec![0.0; steps];
        let mut done = SessionSchedule {
            charge_kw: none(),
            discharge_kw: none(),
            energy_kwh: Vec::new(),
            short_kwh: 0.0,
            reserves: self
                .problem
                .reserves
                .iter()
                .map(|_| Held {
                    up_charge_kw: none(),
                    up_discharge_kw: none(),
                    down_kw: none(),
                })
                .collect(),
        };
        let mut before = session.arrival / self.problem.step_hours;
        for step in plugged_in(session) {
            let (at, j) = (step - pack.first, step - session.first);
            let x: [f64; OWN] = std::array::from_fn(|i| pack.x[at][i].lane(lane));
            let discharge = if session.discharge_kw > 0.0 {
                x[rows::D]
            } else {
                0.0
            };
            done.discharge_kw[j] = discharge;
            done.charge_kw[j] = (x[rows::E] - before) / ec + discharge / (ec * ed);
            before = x[rows::E];
            if let Some(held) = done.reserves.get_mut(self.product) {
                let own = if session.discharge_kw > 0.0 {
                    x[rows::U].max(0.0)
                } else {
                    0.0
                };
                if self.may_hold(session, j, true) {
                    held.up_discharge_kw[j] = own;
                    held.up_charge_kw[j] = ((x[rows::W] - own / ed) / ec).max(0.0);
                }
                if self.may_hold(session, j, false) {
                    held.down_kw[j] = x[rows::R].max(0.0);
                }
            }
        }
        done
    }
}
