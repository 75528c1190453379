//! What the gateway knows: fleet, plan, position and signal as they came in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::SiteLimit;
use dispatch::fleet::schedule::Schedule;
use dispatch::fleet::{EvseId, EvseState, Site, SiteId};
use market::baseline::Version;
use market::settlement::{ImbalancePrice, QUARTER};
use market::{Area, Award, Baselines, GridSignal, Plan};
use runtime::trace;
use store::{Log, LogError, Position, Record, StoreError, Subscription, Tables, topic};
use tokio_util::sync::CancellationToken;
use units::{Interval, Power};

use crate::decisions::Journal;

/// Time that awards and baselines are remembered after their delivery: a day that is settled late still finds them in the tables.
const REMEMBERED: TimeDelta = TimeDelta::days(2);
/// Awards further ahead than any gate.
const AHEAD: TimeDelta = TimeDelta::days(16);
/// Real time before a log that could not be read is asked again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(200);
/// Fleet states taken at once.
const BATCH: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct View {
    fleet: BTreeMap<EvseId, EvseState>,
    /// Counts changes of who there is and what limits hold where.
    version: u64,
    pub(crate) sites: BTreeMap<SiteId, SiteLimit>,
    pub(crate) plan: Option<Plan>,
    pub(crate) schedules: BTreeMap<EvseId, Schedule>,
    pub(crate) position: market::Position,
    pub(crate) baselines: Baselines,
    pub(crate) signal: Option<GridSignal>,
    /// The hop that received it, if its trace is exported.
    pub(crate) received: Option<trace::Context>,
    pub(crate) imbalance: BTreeMap<DateTime<Utc>, ImbalancePrice>,
    /// How far states of the fleet were read.
    pub(crate) fleet_read: Position,
    /// What comes in, for the log; none while nothing is decided here.
    pub(crate) journal: Option<Journal>,
}

impl View {
    /// The newest state of each EVSE.
    pub(crate) const fn fleet(&self) -> &BTreeMap<EvseId, EvseState> {
        &self.fleet
    }

    /// Differs from one call to the next only if an EVSE came or moved, or limits of sites were told.
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// A newer state of an EVSE.
    pub(crate) fn take_state(&mut self, state: EvseState) {
        match self.fleet.get_mut(&state.evse.id) {
            Some(held) => {
                self.version += u64::from(held.evse.site != state.evse.site);
                *held = state;
            }
            None => {
                self.version += 1;
                self.fleet.insert(state.evse.id.clone(), state);
            }
        }
    }

    /// A newer plan replaces the one before; its steps are words about the baseline of every quarter hour still ahead.
    pub(crate) fn take_plan(
        &mut self,
        plan: Plan,
        schedules: Vec<Schedule>,
        said_at: DateTime<Utc>,
    ) {
        if self
            .plan
            .as_ref()
            .is_some_and(|held| held.solved_at > plan.solved_at)
        {
            return;
        }
        for step in plan.steps.iter().filter(|s| {
            quarter_of(s.interval.start()) == Some(s.interval) && s.interval.start() > said_at
        }) {
            let version = Version {
                power: step.baseline,
                created_at: said_at,
                plan: Some(plan.id),
            };
            self.baselines.record(step.interval, version);
        }
        self.resume_plan(plan, schedules);
        self.baselines.forget(said_at - REMEMBERED);
        self.position.forget(said_at - REMEMBERED);
    }

    /// A plan whose words about the baseline are known.
    pub(crate) fn resume_plan(&mut self, plan: Plan, schedules: Vec<Schedule>) {
        self.schedules = schedules.into_iter().map(|s| (s.evse.clone(), s)).collect();
        self.plan = Some(plan);
    }

    pub(crate) fn take_sites(&mut self, sites: &[Site]) {
        let limit = |site: &Site| SiteLimit {
            import: site.import_limit,
            export: site.export_limit,
        };
        let told = sites.iter().map(|site| (site.id.clone(), limit(site)));
        let told: BTreeMap<SiteId, SiteLimit> = told.collect();
        if told != self.sites {
            self.sites = told;
            self.version += 1;
        }
        if let Some(journal) = &mut self.journal {
            journal.sites(sites);
        }
    }

    pub(crate) fn take_award(&mut self, award: Award) {
        if let Some(journal) = &mut self.journal {
            journal.award(&award);
        }
        self.position.apply(award);
    }

    pub(crate) fn take_signal(&mut self, signal: GridSignal) {
        if let Some(journal) = &mut self.journal {
            journal.signal(&signal);
        }
        self.signal = Some(signal);
    }

    /// States of the fleet, read up to `read`.
    fn take_states(&mut self, states: Vec<EvseState>, read: &Position) {
        for state in states {
            self.take_state(state);
        }
        self.fleet_read.join(read);
        if let Some(journal) = &mut self.journal {
            journal.fleet(read);
        }
    }

    /// The limits of sites as a message; they have no names here.
    pub(crate) fn sites_message(&self) -> Vec<wire::proto::fleet::v1::Site> {
        let site = |(id, limit): (&SiteId, &SiteLimit)| wire::proto::fleet::v1::Site {
            site_id: id.to_string(),
            name: String::new(),
            import_limit_watts: limit.import.watts(),
            export_limit_watts: limit.export.watts(),
        };
        self.sites.iter().map(site).collect()
    }

    pub(crate) fn knows(&self, award: &Award) -> bool {
        self.position.awards().any(|a| a == award)
    }
}

/// The view as its readers and writers share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared {
    view: Arc<Mutex<View>>,
    /// EVSEs that stand for their signal in its trace, until a meter shows how they answered.
    pub(crate) unanswered: Arc<trace::Pending<Told>>,
}

/// A set-point whose metered answer is waited for.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) by: trace::Context,
    /// When, by the wall clock.
    pub(crate) began: SystemTime,
    pub(crate) issued_at: DateTime<Utc>,
    pub(crate) power: Power,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metered answer to a set-point as a hop of its signal's trace: from the set-point to the first sample that was taken
    /// after the station had accepted it, or a later one.
    fn answered(&self, state: &EvseState) {
        let (Some(metered), Some(accepted)) = (state.power, state.setpoint) else {
            return;
        };
        let follows = |told: &Told| accepted.at >= told.issued_at && metered.at > accepted.at;
        if let Some(told) = self.unanswered.met(state.evse.id.as_str(), follows) {
            let hop = trace::Span::since(&told.by, "meter.answer", told.began);
            drop(
                hop.with("evse.id", state.evse.id.to_string())
                    .with("setpoint_watts", told.power.watts())
                    .with("power_watts", metered.power.watts()),
            );
        }
    }

    /// What the tables remember.
    pub(crate) async fn load(
        area: Area,
        tables: &Tables,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let shared = Self::default();
        shared.refresh(area, tables, now).await?;
        Ok(shared)
    }

    /// Takes in what the tables remember and this view does not.
    pub(crate) async fn refresh(
        &self,
        area: Area,
        tables: &Tables,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let sites = tables.sites().await?;
        let awards = tables.awards_between(now - REMEMBERED, now + AHEAD).await?;
        let plan = tables.latest_plan(area).await?;
        let kept = tables.kept(crate::GROUP).await?;
        let mut view = self.lock();
        view.take_sites(&sites);
        for award in awards {
            if !view.knows(&award) {
                view.take_award(award);
            }
        }
        if let Some((plan, schedules)) = plan {
            let said_at = plan.solved_at;
            view.take_plan(plan, schedules, said_at);
        }
        for (key, body) in kept {
            if !key.starts_with(crate::records::IMBALANCE) {
                continue;
            }
            match serde_json::from_str::<ImbalancePrice>(&body) {
                Ok(price) => {
                    view.imbalance.insert(price.interval.start(), price);
                }
                Err(e) => tracing::warn!(key, "an imbalance price does not read: {e}"),
            }
        }
        Ok(())
    }

    /// Follows the fleet until `stop`.
    pub(crate) async fn follow_fleet(
        self,
        log: Log,
        tables: Tables,
        stop: CancellationToken,
    ) -> Result<(), LogError> {
        let mut states = log.replay(topic::FLEET_STATE, &Position::default())?;
        loop {
            let batch = tokio::select! {
                batch = read(&mut states, BATCH) => batch?,
                () = stop.cancelled() => return Ok(()),
            };
            let mut decoded = Vec::with_capacity(batch.len());
            for record in &batch {
                let state = wire::decode::<wire::proto::fleet::v1::EvseState>(&record.payload)
                    .and_then(EvseState::try_from);
                match state {
                    Ok(state) => {
                        self.answered(&state);
                        decoded.push(state);
                    }
                    Err(e) => {
                        tracing::warn!(evse.id = %record.key, "a fleet state does not read: {e}")
                    }
                }
            }
            let unknown = {
                let mut view = self.lock();
                let unknown = decoded
                    .iter()
                    .any(|s| !view.sites.contains_key(&s.evse.site));
                view.take_states(decoded, &Position::after(&batch));
                unknown
            };
            if unknown {
                match tables.sites().await {
                    Ok(sites) => self.lock().take_sites(&sites),
                    Err(e) => tracing::warn!("site limits could not be read: {e}"),
                }
            }
        }
    }

    /// Follows the plans until `stop`.
    pub(crate) async fn follow_plans(
        self,
        area: Area,
        log: Log,
        clock: runtime::Clock,
        stop: CancellationToken,
    ) -> Result<(), LogError> {
        let mut plans = log.tail(topic::PLANS).await?;
        loop {
            let batch = tokio::select! {
                batch = read(&mut plans, 16) => batch?,
                () = stop.cancelled() => return Ok(()),
            };
            for record in batch {
                let plan = wire::decode::<wire::proto::portfolio::v1::Plan>(&record.payload)
                    .and_then(wire::portfolio::plan_from_message);
                match plan {
                    Ok((plan, schedules)) if plan.area == area => {
                        let said_at = clock.now();
                        let mut view = self.lock();
                        view.take_plan(plan, schedules, said_at);
                        if let Some(journal) = &mut view.journal {
                            journal.plan(record.partition, record.offset, said_at);
                        }
                    }
                    Ok(_) => {}
                    Err(e) => tracing::warn!(key = record.key, "a plan does not read: {e}"),
                }
            }
        }
    }
}

/// The next records; a log that is away is asked again.
///
/// # Errors
/// [`LogError`] that will not pass.
async fn read(from: &mut Subscription, max: usize) -> Result<Vec<Record>, LogError> {
    loop {
        match from.next_batch(max).await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "the log is read again");
                tokio::time::sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

/// The quarter hour that contains `at`.
pub(crate) fn quarter_of(at: DateTime<Utc>) -> Option<Interval> {
    let seconds = QUARTER.num_seconds();
    let start = DateTime::from_timestamp(at.timestamp().div_euclid(seconds) * seconds, 0)?;
    Interval::try_new(start, start + QUARTER).ok()
}
