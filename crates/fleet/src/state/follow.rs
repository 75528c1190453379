//! Does metered power follow what the EVSE was told?

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

use super::PowerAt;
use crate::setpoint::Outcome;
use crate::{Acknowledgement, Mode, Setpoint, SetpointId};

/// Set-points of one EVSE remembered while their acknowledgement, or they themselves, are under way.
const REMEMBERED: usize = 8;

/// Set-points that follow each other faster than this are judged together: signals come every 4 s and less.
const TOGETHER: TimeDelta = TimeDelta::seconds(10);
/// Spans of set-points remembered that were in force while the newest settles: a minute and more. Of more, the oldest are taken
/// together.
const PASSED: usize = 8;

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
    /// Those it replaced while they held, oldest first.
    #[serde(default)]
    passed: Vec<Passed>,
}

/// What the meter could show under a set-point that was replaced while it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    /// Lowest and highest power; `None` where the meter tells nothing.
    range: Option<(Power, Power)>,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Passed {
    /// This one and the next, as one.
    fn and(self, next: Self) -> Self {
        let range = self.range.zip(next.range);
        Self {
            range: range.map(|((low, high), (least, most))| (low.min(least), high.max(most))),
            since: self.since,
            until: next.until,
        }
    }
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
        let recent = std::mem::take(&mut self.recent);
        for command in &recent {
            let (Some((power, issued, expires)), Some((Outcome::Accepted, accepted))) =
                (command.told, command.answer)
            else {
                continue;
            };
            let newer = |known: &InForce| known.issued < issued;
            if self.in_force.as_ref().is_none_or(newer) {
                let next = InForce {
                    power,
                    mode: command.mode.clone(),
                    issued,
                    accepted,
                    expires,
                };
                let before = self.in_force.replace(next);
                self.pass(before, accepted);
            }
        }
        self.recent = recent;
    }

    /// Remembers what was in force until `accepted`; whatever came before a gap counts no more.
    fn pass(&mut self, before: Option<InForce>, accepted: DateTime<Utc>) {
        let Some(before) = before.filter(|before| before.expires >= accepted) else {
            self.passed.clear();
            return;
        };
        let next = Passed {
            range: before.mode.expected(before.power),
            since: before.accepted,
            until: accepted,
        };
        match self.passed.last_mut() {
            Some(last) if next.until - last.since <= TOGETHER => *last = last.and(next),
            _ => self.passed.push(next),
        }
        if self.passed.len() > PASSED {
            let oldest = self.passed.remove(0);
            self.passed[0] = oldest.and(self.passed[0]);
        }
    }

    /// The newest set-point that was accepted, and when.
    pub(super) fn accepted(&self) -> Option<PowerAt> {
        self.in_force.as_ref().map(|known| PowerAt {
            power: known.power,
            at: known.accepted,
        })
    }

    /// Whether `metered` follows what was in force while it could settle: with set-points that follow each other faster than that,
    /// it lies between the lowest and the highest of them. `None` if none was in force for long enough, or if a mode leaves the
    /// power to what the station measures.
    pub(super) fn follows(&self, metered: PowerAt, rules: &Following) -> Option<bool> {
        let known = self.in_force.as_ref()?;
        let from = metered.at - rules.settle;
        let since = self.passed.first().map_or(known.accepted, |p| p.since);
        if from < since || metered.at >= known.expires {
            return None;
        }
        let allowed = |power: Power| power.abs().scale(rules.share).max(rules.slack);
        let (mut low, mut high) = known.mode.expected(known.power)?;
        for passed in self.passed.iter().filter(|passed| passed.until > from) {
            let (least, most) = passed.range?;
            (low, high) = (low.min(least), high.max(most));
        }
        Some((low - allowed(low)..=high + allowed(high)).contains(&metered.power))
    }

    /// Forgets everything: another vehicle starts anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
