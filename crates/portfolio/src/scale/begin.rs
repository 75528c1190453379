//! Where a path begins: a first iterate of every vehicle, which rows count, and the slacks and multipliers of both.

use pulp::Simd;

use crate::reference::Session;

use super::build::{Frame, plugged_in};
use super::pack::Pack;
use super::rows::{self, ROWS, SNAPSHOT};
use super::site::Site;

impl Frame<'_> {
    /// A first iterate: steady charging towards the goal, a little discharge and reserve; marks the rows that count.
    pub(super) fn begin<S: Simd>(&self, pack: &mut Pack<S>, lane: usize, session: &Session) {
        let hours = self.problem.step_hours;
        let window = plugged_in(session);
        let shares: f64 = session.share.iter().sum();
        let two_way = session.discharge_kw > 0.0;
        let target = session.goal.max(session.arrival).clamp(
            session.floor + 0.1 * (session.capacity - session.floor),
            session.capacity - 0.1 * (session.capacity - session.floor),
        );
        let rise = (target - session.arrival) / hours / shares.max(1e-3);
        let mut energy = session.arrival / hours;
        for (at, step) in (pack.first..pack.first + pack.steps.len()).enumerate() {
            let x = &mut pack.x[at];
            if !window.contains(&step) {
                x[rows::E].set(lane, energy);
                continue;
            }
            let j = step - session.first;
            let (share, charge) = (session.share[j], session.charge_kw);
            let (up, down) = (
                self.may_hold(session, j, true),
                self.may_hold(session, j, false),
            );
            energy += rise * share;
            x[rows::E].set(lane, energy);
            let discharge = if two_way {
                0.05 * share * session.discharge_kw
            } else {
                0.0
            };
            x[rows::D].set(lane, discharge);
            let own = if two_way && up {
                0.05 * session.discharge_kw
            } else {
                0.0
            };
            x[rows::U].set(lane, own);
            let cancel = if up { 0.05 * charge } else { 0.0 };
            x[rows::W].set(
                lane,
                session.charge_efficiency * cancel + own / session.discharge_efficiency,
            );
            x[rows::R].set(lane, if down { 0.05 * charge } else { 0.0 });
            let held_before =
                |back: usize, up: bool| j >= back && self.may_hold(session, j - back, up);
            let snapshot = self.setting.rule == SNAPSHOT;
            let reach = self.window - 1;
            let older =
                |i: usize, up: bool| !snapshot && i <= self.recovery && held_before(i + reach, up);
            let counts: [bool; ROWS] = [
                if two_way {
                    !up
                } else {
                    !(up && self.power_factor() >= 1.0)
                },
                two_way,
                two_way || !down,
                up,
                two_way && up,
                two_way && up,
                up,
                down,
                down,
                !snapshot || up,
                if snapshot { up } else { older(1, true) },
                if snapshot { !up } else { older(2, true) },
                !snapshot || down,
                if snapshot { down } else { older(1, false) },
                if snapshot { !down } else { older(2, false) },
            ];
            for (row, counts) in counts.into_iter().enumerate() {
                if counts {
                    pack.z[at][row].set(lane, 1.0);
                }
            }
        }
        if session.goal > session.floor {
            pack.goal.z[0].set(lane, 1.0);
            pack.goal.z[1].set(lane, 1.0);
            pack.goal.short.set(lane, 0.05 * session.charge_kw);
        }
    }
}

impl<S: Simd> Pack<S> {
    /// Slacks no smaller than a twentieth of the charger, and multipliers whose products are all alike; rows that count
    /// are marked by a multiplier above zero.
    pub(super) fn slacken<const RULE: u8>(&mut self, product: f64) {
        let zero = self.one_way.like(0.0);
        let one = self.one_way.like(1.0);
        let least = (self.vehicle.charge_kw * zero.like(0.05)).max(zero.like(1e-3));
        for j in 0..self.steps.len() {
            let value = self.value::<RULE>(j);
            for i in 0..ROWS {
                let on = self.z[j][i];
                let s = value[i].max(least);
                self.s[j][i] = on.if_positive(s, one);
                self.z[j][i] = on.if_positive(zero.like(product).over(s), zero);
            }
        }
        let value = self.goal_value();
        for i in 0..2 {
            let on = self.goal.z[i];
            let s = value[i].max(least);
            self.goal.s[i] = on.if_positive(s, one);
            self.goal.z[i] = on.if_positive(zero.like(product).over(s), zero);
        }
    }
}

impl<S: Simd> Site<S> {
    /// Adds a lane's first powers to the sums.
    pub(super) fn begin_with(&mut self, pack: &Pack<S>, lane: usize) {
        let mut before = pack.vehicle.arrival.lane(lane);
        for (j, x) in pack.x.iter().enumerate() {
            let (a, g) = (pack.vehicle.a.lane(lane), pack.vehicle.g.lane(lane));
            let here = pack.steps[j].here.lane(lane);
            let at = self.place(pack.first + j);
            let energy = x[rows::E].lane(lane);
            let sums = &mut self.sums[0][at];
            sums[0] += here * (a * (energy - before) + g * x[rows::D].lane(lane));
            sums[1] += a * x[rows::W].lane(lane) - g * x[rows::U].lane(lane);
            sums[2] += x[rows::R].lane(lane);
            before = energy;
        }
    }
}
