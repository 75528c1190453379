//! One EVSE with everything its fold remembers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

use super::follow::Commands;
use super::live::Baseline;
use super::{Effect, EvseState, PowerAt, Rules, SessionState};
use crate::reading::{self, Accepted, Refusal};
use crate::{Evse, EvseId, Needs, Reading, Session, SessionId, Setpoint, Telemetry, VehicleId};

/// One EVSE with everything its fold remembers; serialisable, so that a consumer resumes where it stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    pub(super) state: EvseState,
    accepted: Accepted,
    baseline: Baseline,
    commands: Commands,
    needs_at: Option<DateTime<Utc>>,
    connection_at: Option<DateTime<Utc>>,
    /// The stay before, to which late samples may still belong.
    previous: Option<Past>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Past {
    session: SessionId,
    plugged_in: DateTime<Utc>,
    unplugged: DateTime<Utc>,
}

impl Tracked {
    pub(super) fn new(evse: Evse, now: DateTime<Utc>) -> Self {
        Self {
            state: EvseState {
                evse,
                online: false,
                changed_at: now,
                session: None,
                power: None,
                setpoint: None,
                unresponsive: false,
            },
            accepted: Accepted::default(),
            baseline: Baseline::default(),
            commands: Commands::default(),
            needs_at: None,
            connection_at: None,
            previous: None,
        }
    }

    /// The part that others see.
    #[must_use]
    pub fn state(&self) -> &EvseState {
        &self.state
    }

    pub(super) fn apply(&mut self, event: &Telemetry, now: DateTime<Utc>, rules: &Rules) -> Effect {
        let done = match event {
            Telemetry::Reading(reading) => return self.reading(reading, now, rules),
            Telemetry::PluggedIn {
                session,
                vehicle,
                at,
                ..
            } => self.plugged_in(session, vehicle.as_ref(), *at),
            Telemetry::Unplugged { session, at, .. } => self.unplugged(session, *at),
            Telemetry::Needs {
                session, needs, at, ..
            } => self.needs(session, needs, *at),
            Telemetry::Acknowledged(ack) => {
                self.commands.answered(ack);
                self.state.setpoint = self.commands.accepted();
                Ok(None)
            }
            Telemetry::Connection { online, at, .. } => {
                self.connected(*online, *at);
                Ok(None)
            }
        };
        match done {
            Ok(ended) => Effect {
                ended,
                ..Effect::default()
            },
            Err(refusal) => Effect::refused(refusal),
        }
    }

    /// Answers whether the state is another now; older news than the newest changes nothing.
    pub(super) fn connected(&mut self, online: bool, at: DateTime<Utc>) -> bool {
        if self.connection_at.is_some_and(|known| known > at) {
            return false;
        }
        self.connection_at = Some(at);
        let changed = self.state.online != online;
        self.state.online = online;
        if changed {
            self.state.changed_at = self.state.changed_at.max(at);
        }
        changed
    }

    pub(super) fn told(&mut self, setpoint: &Setpoint) {
        self.commands.told(setpoint);
        self.state.setpoint = self.commands.accepted();
    }

    fn plugged_in(
        &mut self,
        session: &SessionId,
        vehicle: Option<&VehicleId>,
        at: DateTime<Utc>,
    ) -> Result<Option<SessionState>, Refusal> {
        if self.is_previous(session) {
            return Err(self.gone(session));
        }
        if let Some(current) = &mut self.state.session {
            if current.session.id == *session {
                if current.session.vehicle.is_none() {
                    current.session.vehicle = vehicle.cloned();
                }
                return Ok(None);
            }
            let known = current.session.plugged_in;
            if at < known {
                let what = "plug-in";
                return Err(Refusal::Stale { what, at, known });
            }
        }
        // A station that missed the unplugging tells of the next vehicle: the stay before ended by then.
        let ended = self.end(at);
        let idle_since = self.previous.as_ref().map(|past| past.unplugged);
        self.baseline = Baseline::at_plug_in(&self.accepted, idle_since);
        self.state.session = Some(SessionState {
            session: Session {
                id: session.clone(),
                evse: self.state.evse.id.clone(),
                site: self.state.evse.site.clone(),
                vehicle: vehicle.cloned(),
                plugged_in: at,
                unplugged: None,
                needs: None,
            },
            added: None,
            soc: None,
        });
        Ok(ended)
    }

    fn unplugged(
        &mut self,
        session: &SessionId,
        at: DateTime<Utc>,
    ) -> Result<Option<SessionState>, Refusal> {
        let known = self.current(session)?.session.plugged_in;
        if at < known {
            let what = "unplugging";
            return Err(Refusal::Stale { what, at, known });
        }
        Ok(self.end(at))
    }

    fn needs(
        &mut self,
        session: &SessionId,
        needs: &Needs,
        at: DateTime<Utc>,
    ) -> Result<Option<SessionState>, Refusal> {
        check_needs(needs)?;
        let known = self.needs_at;
        let current = self.current(session)?;
        if let Some(known) = known.filter(|known| *known > at) {
            let what = "statement of needs";
            return Err(Refusal::Stale { what, at, known });
        }
        current.session.needs = Some(needs.clone());
        self.needs_at = Some(at);
        self.measure();
        Ok(None)
    }

    pub(super) fn reading(
        &mut self,
        reading: &Reading,
        now: DateTime<Utc>,
        rules: &Rules,
    ) -> Effect {
        let late = match self.belongs(reading) {
            Ok(late) => late,
            Err(refusal) => return Effect::refused(refusal),
        };
        let evse = &self.state.evse;
        let checked = reading::check(reading, evse, &self.accepted, now, &rules.limits);
        let Some(kept) = checked.kept else {
            return Effect {
                refused: checked.refused,
                ..Effect::default()
            };
        };
        self.accepted.take(&kept);
        if !late {
            self.take(&kept, rules);
        }
        Effect {
            accepted: Some(kept),
            refused: checked.refused,
            ..Effect::default()
        }
    }

    /// True for a sample of the stay before that arrives late; an error for one of a stay that is not known.
    fn belongs(&self, reading: &Reading) -> Result<bool, Refusal> {
        let Some(session) = &reading.session else {
            return Ok(false);
        };
        match (&self.state.session, &self.previous) {
            (Some(current), _) if current.session.id == *session => Ok(false),
            (_, Some(past))
                if past.session == *session
                    && (past.plugged_in..=past.unplugged).contains(&reading.at) =>
            {
                Ok(true)
            }
            _ => Err(self.gone(session)),
        }
    }

    fn take(&mut self, kept: &Reading, rules: &Rules) {
        if let Some(power) = kept.power
            && self.state.power.is_none_or(|known| known.at <= kept.at)
        {
            let metered = PowerAt { power, at: kept.at };
            self.state.power = Some(metered);
            match self.commands.follows(metered, &rules.following) {
                Some(follows) if self.state.session.is_some() => self.state.unresponsive = !follows,
                Some(_) => self.state.unresponsive = false,
                None => {}
            }
        }
        let newest = self
            .accepted
            .newest
            .as_ref()
            .is_none_or(|newest| newest.at <= kept.at);
        if let Some(current) = &mut self.state.session
            && kept.at >= current.session.plugged_in
            && newest
        {
            current.soc = kept.soc.or(current.soc);
        }
        self.measure();
    }

    fn measure(&mut self) {
        let Some(current) = &mut self.state.session else {
            return;
        };
        self.baseline.complete(&self.accepted, current.soc);
        let needs = current.session.needs.as_ref();
        current.added = self
            .baseline
            .added(&self.accepted, current.soc, &self.state.evse, needs)
            .or(current.added);
    }

    fn end(&mut self, at: DateTime<Utc>) -> Option<SessionState> {
        let mut ended = self.state.session.take()?;
        ended.session.unplugged = Some(at);
        self.previous = Some(Past {
            session: ended.session.id.clone(),
            plugged_in: ended.session.plugged_in,
            unplugged: at,
        });
        self.needs_at = None;
        self.commands.clear();
        self.state.setpoint = None;
        self.state.unresponsive = false;
        Some(ended)
    }

    fn current(&mut self, session: &SessionId) -> Result<&mut SessionState, Refusal> {
        let evse: EvseId = self.state.evse.id.clone();
        self.state
            .session
            .as_mut()
            .filter(|current| current.session.id == *session)
            .ok_or_else(|| Refusal::GoneSession {
                session: session.clone(),
                evse,
            })
    }

    fn is_previous(&self, session: &SessionId) -> bool {
        self.previous
            .as_ref()
            .is_some_and(|past| past.session == *session)
    }

    fn gone(&self, session: &SessionId) -> Refusal {
        Refusal::GoneSession {
            session: session.clone(),
            evse: self.state.evse.id.clone(),
        }
    }
}

fn check_needs(needs: &Needs) -> Result<(), Refusal> {
    let figures = [
        ("energy", needs.energy.joules()),
        (
            "stored energy",
            needs.stored.map_or(0, units::Energy::joules),
        ),
        ("capacity", needs.capacity.map_or(0, units::Energy::joules)),
        ("charging power", needs.max_charge.watts()),
        ("discharging power", needs.max_discharge.watts()),
        ("floor", needs.floor.joules()),
    ];
    match figures
        .into_iter()
        .find(|(_, value)| *value < Power::ZERO.watts())
    {
        Some((what, value)) => Err(Refusal::Needs { what, value }),
        None => Ok(()),
    }
}
