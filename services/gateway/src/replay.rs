//! Decides again what was decided, from what is on the log.

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::envelope::Horizon;
use dispatch::fleet::{EvseId, EvseState, Site};
use dispatch::guard::Sent;
use market::baseline::Version;
use market::{Area, Award, GridSignal};
use store::{NewRecord, Record};
use units::{Interval, Power};
use wire::WireError;
use wire::proto::dispatch::v1 as proto;

use crate::config::Pace;
use crate::control::setpoint_records;
use crate::cycle::Dispatcher;
use crate::decisions::reads;
use crate::view::{View, quarter_of};

/// No plan reaches further ahead.
const BASELINES_AHEAD: TimeDelta = TimeDelta::days(4);

/// Something on the log that does not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A field of a decision.
    #[error("{field}: met {met}, expected {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        met: String,
        /// What should.
        expected: &'static str,
    },
}

fn field(field: &'static str, met: &impl ToString, expected: &'static str) -> ReplayError {
    ReplayError::Field {
        field,
        met: met.to_string(),
        expected,
    }
}

fn instant(name: &'static str, micros: i64) -> Result<DateTime<Utc>, ReplayError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| field(name, &micros, "microseconds inside the calendar"))
}

/// A dispatcher that decides from the log what another one decided when it was written.
#[derive(Debug)]
pub struct Replay {
    view: View,
    dispatcher: Dispatcher,
}

impl Replay {
    /// A dispatcher that knows what the other one knew.
    ///
    /// # Errors
    /// [`ReplayError`] for a snapshot that does not read.
    pub fn from(snapshot: &proto::Snapshot) -> Result<Self, ReplayError> {
        let area: Area = snapshot
            .area
            .parse()
            .map_err(|_| field("area", &snapshot.area, "the code of an area"))?;
        let pace = pace(snapshot.pace.unwrap_or_default());
        let began = instant("began_micros", snapshot.began_micros)?;
        let mut view = View::default();
        for state in &snapshot.fleet {
            let state = EvseState::try_from(state.clone())?;
            view.take_state(state);
        }
        let sites = snapshot.sites.iter().cloned().map(Site::try_from);
        view.take_sites(&sites.collect::<Result<Vec<_>, _>>()?);
        for award in &snapshot.awards {
            view.take_award(Award::try_from(award.clone())?);
        }
        for said in &snapshot.baselines {
            let (interval, version) = baseline(said)?;
            view.baselines.record(interval, version);
        }
        if let Some(plan) = &snapshot.plan {
            let (plan, schedules) = wire::portfolio::plan_from_message(plan.clone())?;
            view.resume_plan(plan, schedules);
        }
        if let Some(signal) = &snapshot.signal {
            view.signal = Some(GridSignal::try_from(signal.clone())?);
        }
        let mut dispatcher = Dispatcher::new(area, pace, began, Vec::new());
        dispatcher.resume(snapshot)?;
        Ok(Self { view, dispatcher })
    }

    /// A state of the fleet. One that does not read was passed over then, too.
    pub fn fleet(&mut self, record: &Record) {
        let state = wire::decode::<wire::proto::fleet::v1::EvseState>(&record.payload);
        if let Ok(state) = state.and_then(EvseState::try_from) {
            self.view.take_state(state);
        }
    }

    /// A plan, and when it was taken in.
    ///
    /// # Errors
    /// [`ReplayError`] for a record that is no plan.
    pub fn plan(&mut self, record: &Record, said_at_micros: i64) -> Result<(), ReplayError> {
        let plan = wire::decode::<wire::proto::portfolio::v1::Plan>(&record.payload)?;
        let (plan, schedules) = wire::portfolio::plan_from_message(plan)?;
        let said_at = instant("said_at_micros", said_at_micros)?;
        self.view.take_plan(plan, schedules, said_at);
        Ok(())
    }

    /// What else came in. States and plans are handed over by [`Replay::fleet`] and [`Replay::plan`].
    ///
    /// # Errors
    /// [`ReplayError`] for what does not read.
    pub fn take(&mut self, taken: &proto::taken::Taken) -> Result<(), ReplayError> {
        use proto::taken::Taken;
        match taken {
            Taken::Fleet(_) | Taken::Plan(_) => {}
            Taken::Sites(sites) => {
                let sites = sites.sites.iter().cloned().map(Site::try_from);
                self.view.take_sites(&sites.collect::<Result<Vec<_>, _>>()?);
            }
            Taken::Award(award) => self.view.take_award(Award::try_from(award.clone())?),
            Taken::Signal(signal) => {
                self.view.signal = Some(GridSignal::try_from(signal.clone())?);
            }
            Taken::Order(order) => {
                self.dispatcher.order = serde_json::from_str(order)
                    .map_err(|_| field("order", &order, "an order as it is kept"))?;
            }
        }
        Ok(())
    }

    /// The cycle after everything that came in was taken: the records of its set-points.
    ///
    /// # Errors
    /// [`ReplayError`] for an instant outside the calendar.
    pub fn cycle(&mut self, step: &proto::Step) -> Result<Vec<NewRecord>, ReplayError> {
        if step.anew {
            self.dispatcher.tell_all_again();
        }
        let now = instant("at_micros", step.at_micros)?;
        let decision = self.dispatcher.cycle(&self.view, now);
        let term = step.term.clone();
        Ok(setpoint_records(
            &decision.setpoints,
            term.as_ref(),
            step.traceparent.as_deref(),
        ))
    }
}

fn baseline(said: &proto::Baseline) -> Result<(Interval, Version), ReplayError> {
    let start = instant("start_micros", said.start_micros)?;
    let end = instant("end_micros", said.end_micros)?;
    let interval = Interval::try_new(start, end)
        .map_err(|_| field("end_micros", &said.end_micros, "an instant after the start"))?;
    let plan = said.plan_id.as_deref().map(|id| {
        id.parse()
            .map_err(|_| field("plan_id", &id, "the id of a plan"))
    });
    let version = Version {
        power: Power::from_watts(said.power_watts),
        created_at: instant("created_at_micros", said.created_at_micros)?,
        plan: plan.transpose()?,
    };
    Ok((interval, version))
}

fn pace(said: proto::Pace) -> Pace {
    let span = TimeDelta::microseconds;
    Pace {
        cycle: span(said.cycle_micros),
        expiry: span(said.expiry_micros),
        // A release before this field had one span for all.
        planned: span(said.planned_micros.unwrap_or(said.expiry_micros)),
        oldest_signal: span(said.oldest_signal_micros),
        settling: span(said.settling_micros),
        oldest_plan: span(said.oldest_plan_micros),
        horizon: Horizon {
            decision: span(said.decision_micros),
            margin: span(said.margin_micros),
        },
        threshold: Power::from_watts(said.threshold_watts),
    }
}

fn pace_message(pace: &Pace) -> proto::Pace {
    let micros = |span: TimeDelta| span.num_microseconds().unwrap_or(i64::MAX);
    proto::Pace {
        cycle_micros: micros(pace.cycle),
        expiry_micros: micros(pace.expiry),
        planned_micros: Some(micros(pace.planned)),
        oldest_signal_micros: micros(pace.oldest_signal),
        settling_micros: micros(pace.settling),
        oldest_plan_micros: micros(pace.oldest_plan),
        decision_micros: micros(pace.horizon.decision),
        margin_micros: micros(pace.horizon.margin),
        threshold_watts: pace.threshold.watts(),
    }
}

impl Dispatcher {
    /// Everything that a set-point follows from, as of now.
    pub(crate) fn snapshot(&self, view: &View, now: DateTime<Utc>) -> proto::Snapshot {
        let plan = view.plan.as_ref().map(|plan| {
            let schedules: Vec<_> = view.schedules.values().cloned().collect();
            (plan, schedules.as_slice()).into()
        });
        let restoration = self.tracker.restoration();
        proto::Snapshot {
            at_micros: now.timestamp_micros(),
            area: self.area.code().to_owned(),
            began_micros: self.began.timestamp_micros(),
            pace: Some(pace_message(&self.pace)),
            fleet: view.fleet().values().map(Into::into).collect(),
            fleet_read: reads(&view.fleet_read),
            sites: view.sites_message(),
            plan,
            awards: view.position.awards().map(Into::into).collect(),
            baselines: baselines(view, now),
            signal: view.signal.as_ref().map(Into::into),
            sent: self
                .guard
                .sent()
                .map(|(evse, sent)| told(evse, sent))
                .collect(),
            restoration_at_micros: restoration.map(|(at, _)| at.timestamp_micros()),
            restoration_watts: restoration.map(|(_, power)| power.watts()),
            answered_signal_id: self.answered.clone(),
            order: serde_json::to_string(&self.order).unwrap_or_default(),
        }
    }

    /// Goes on from where another one was.
    fn resume(&mut self, snapshot: &proto::Snapshot) -> Result<(), ReplayError> {
        self.order = serde_json::from_str(&snapshot.order)
            .map_err(|_| field("order", &snapshot.order, "an order as it is kept"))?;
        self.answered.clone_from(&snapshot.answered_signal_id);
        if let (Some(at), Some(watts)) =
            (snapshot.restoration_at_micros, snapshot.restoration_watts)
        {
            let at = instant("restoration_at_micros", at)?;
            self.tracker.resume(at, Power::from_watts(watts));
        }
        for told in &snapshot.sent {
            let evse: EvseId = told
                .evse_id
                .parse()
                .map_err(|_| field("evse_id", &told.evse_id, "the id of an EVSE"))?;
            let sent = Sent {
                power: Power::from_watts(told.power_watts),
                since: instant(
                    "since_micros",
                    told.since_micros.unwrap_or(snapshot.at_micros),
                )?,
                expires_at: instant("expires_at_micros", told.expires_at_micros)?,
            };
            self.guard.resume(evse, sent);
        }
        Ok(())
    }
}

/// What was said about the quarter hour that runs and those ahead.
fn baselines(view: &View, now: DateTime<Utc>) -> Vec<proto::Baseline> {
    let first = quarter_of(now);
    let quarters = std::iter::successors(first, |q| quarter_of(q.end()));
    let ahead = quarters.take_while(|q| q.start() < now + BASELINES_AHEAD);
    let versions = |q: Interval| view.baselines.versions(q).iter().map(move |v| said(q, v));
    ahead.flat_map(versions).collect()
}

fn said(interval: Interval, version: &Version) -> proto::Baseline {
    proto::Baseline {
        start_micros: interval.start().timestamp_micros(),
        end_micros: interval.end().timestamp_micros(),
        power_watts: version.power.watts(),
        created_at_micros: version.created_at.timestamp_micros(),
        plan_id: version.plan.map(|id| id.to_string()),
    }
}

fn told(evse: &EvseId, sent: &Sent) -> proto::Sent {
    proto::Sent {
        evse_id: evse.to_string(),
        power_watts: sent.power.watts(),
        expires_at_micros: sent.expires_at.timestamp_micros(),
        since_micros: Some(sent.since.timestamp_micros()),
    }
}
