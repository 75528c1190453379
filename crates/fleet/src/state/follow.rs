//! Does metered power follow what the EVSE was told?

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

use super::PowerAt;
use crate::setpoint::Outcome;
use crate::{Acknowledgement, Mode, Setpoint, SetpointId};

/// Set-points of one EVSE remembered while their acknowledgement, or they themselves, are under way.
const REMEMBERED: usize = 8;

/// When an EVSE counts as not following.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Following {
    /// Time a vehicle has to reach a set-point: IEC 61851-1 allows 5 s for the current to follow the pilot signal, ISO 15118
    /// loops and ramps take longer.
    pub settle: TimeDelta,
    /// Deviation allowed as a share of the set-point.
    pub share: f64,
    /// Deviation allowed whatever the set-point.
    pub slack: Power,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            settle: TimeDelta::seconds(60),
            share: 0.15,
            slack: Power::from_watts(750),
        }
    }
}

/// One set-point as far as it is known: told, answered, or both, in whichever order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Command {
    id: SetpointId,
    told: Option<(Power, DateTime<Utc>, DateTime<Utc>)>,
    #[serde(default)]
    mode: Mode,
    answer: Option<(Outcome, DateTime<Utc>)>,
}

/// The newest set-points of one EVSE.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commands {
    recent: Vec<Command>,
    /// The set-point in force: power, since when, until when; with the instant it was issued.
    in_force: Option<InForce>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InForce {
    power: Power,
    #[serde(default)]
    mode: Mode,
    issued: DateTime<Utc>,
    accepted: DateTime<Utc>,
    expires: DateTime<Utc>,
}

impl Commands {
    pub(super) fn told(&mut self, setpoint: &Setpoint) {
        let told = (setpoint.power, setpoint.issued_at, setpoint.expires_at);
        let command = self.entry(&setpoint.id);
        if command.told.is_none() {
            command.told = Some(told);
            command.mode = setpoint.mode.clone();
        }
        self.settle();
    }

    pub(super) fn answered(&mut self, ack: &Acknowledgement) {
        let answer = (ack.outcome, ack.answered_at);
        self.entry(&ack.setpoint).answer.get_or_insert(answer);
        self.settle();
    }

    fn entry(&mut self, id: &SetpointId) -> &mut Command {
        let at = self.recent.iter().position(|command| command.id == *id);
        let at = at.unwrap_or_else(|| {
            if self.recent.len() == REMEMBERED {
                self.recent.remove(0);
            }
            self.recent.push(Command {
                id: id.clone(),
                told: None,
                mode: Mode::default(),
                answer: None,
            });
            self.recent.len() - 1
        });
        &mut self.recent[at]
    }

    /// Puts the newest set-point that was accepted in force; a later one is never replaced by an earlier one.
    fn settle(&mut self) {
        for command in &self.recent {
            let (Some((power, issued, expires)), Some((Outcome::Accepted, accepted))) =
                (command.told, command.answer)
            else {
                continue;
            };
            if self
                .in_force
                .as_ref()
                .is_none_or(|known| known.issued < issued)
            {
                self.in_force = Some(InForce {
                    power,
                    mode: command.mode.clone(),
                    issued,
                    accepted,
                    expires,
                });
            }
        }
    }

    /// The newest set-point that was accepted, and when.
    pub(super) fn accepted(&self) -> Option<PowerAt> {
        self.in_force.as_ref().map(|known| PowerAt {
            power: known.power,
            at: known.accepted,
        })
    }

    /// Whether `metered` follows the set-point in force at that instant; `None` if none was, not for long enough, or if its
    /// mode leaves the power to what the station measures.
    pub(super) fn follows(&self, metered: PowerAt, rules: &Following) -> Option<bool> {
        let known = self.in_force.as_ref()?;
        if metered.at < known.accepted + rules.settle || metered.at >= known.expires {
            return None;
        }
        let (low, high) = known.mode.expected(known.power)?;
        let allowed = |power: Power| power.abs().scale(rules.share).max(rules.slack);
        let within = (low - allowed(low)..=high + allowed(high)).contains(&metered.power);
        Some(within)
    }

    /// Forgets everything: another vehicle starts anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
