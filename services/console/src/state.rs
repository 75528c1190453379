//! The newest word of every service, kept in one place.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use wire::proto::dispatch::v1::Cycle;
use wire::proto::fleet::v1::{EvseState, Fleet, Site};
use wire::proto::forecast::v1::Forecast;
use wire::proto::market::v1::{Award, Gate};
use wire::proto::portfolio::v1::{Plan, Schedule};

/// Cycles kept for the traces: 15 minutes of one a second, twice.
const MOST_CYCLES: usize = 1_800;

/// Who the console listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Fleet state of telemetry-ingest.
    Fleet,
    /// Forecasts of the forecaster.
    Forecast,
    /// Plans of the optimizer.
    Plan,
    /// Cycles of the dispatcher.
    Dispatch,
    /// Gates and awards of the gateway.
    Market,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Fleet,
        Self::Forecast,
        Self::Plan,
        Self::Dispatch,
        Self::Market,
    ];

    /// Name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Forecast => "forecast",
            Self::Plan => "plan",
            Self::Dispatch => "dispatch",
            Self::Market => "market",
        }
    }
}

/// Whether a source answers, and when it last said something.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contact {
    /// True while the stream is open or the last question was answered.
    pub up: bool,
    /// Instant of the last change of `up`.
    pub since: Option<DateTime<Utc>>,
    /// Instant of the last word.
    pub heard: Option<DateTime<Utc>>,
    /// Why it is not up, empty if it is.
    pub detail: String,
}

/// One cycle with its number in the order of arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// Rising, never used twice.
    pub number: u64,
    /// The cycle.
    pub cycle: Cycle,
}

/// Everything known.
#[derive(Debug, Default)]
pub struct State {
    /// Outlets by name.
    pub evses: BTreeMap<String, EvseState>,
    /// Sites by name.
    pub sites: BTreeMap<String, Site>,
    /// Newest plan, without its schedules.
    pub plan: Option<Plan>,
    /// Schedules of the newest plan by outlet.
    pub schedules: HashMap<String, Schedule>,
    /// Cycles in order of arrival, newest last.
    pub cycles: VecDeque<Numbered>,
    /// Next gate of each product.
    pub gates: Vec<Gate>,
    /// Awards whose delivery is near.
    pub awards: Vec<Award>,
    /// Newest forecast by quantity.
    pub forecasts: BTreeMap<i32, Forecast>,
    /// Health of each source.
    pub contacts: BTreeMap<Source, Contact>,
    next_cycle: u64,
}

impl State {
    /// Takes the whole fleet.
    pub fn take_fleet(&mut self, fleet: Fleet) {
        self.evses = fleet
            .evses
            .into_iter()
            .map(|e| (e.evse_id.clone(), e))
            .collect();
        self.sites = fleet
            .sites
            .into_iter()
            .map(|s| (s.site_id.clone(), s))
            .collect();
    }

    /// Takes one outlet, unless a newer state of it is known.
    pub fn take_evse(&mut self, evse: EvseState) {
        let known = self.evses.get(&evse.evse_id);
        if known.is_none_or(|k| k.changed_at_micros <= evse.changed_at_micros) {
            self.evses.insert(evse.evse_id.clone(), evse);
        }
    }

    /// Takes a plan, unless a newer one is known.
    pub fn take_plan(&mut self, mut plan: Plan) {
        let known = self.plan.as_ref();
        if known.is_some_and(|k| k.solved_at_micros > plan.solved_at_micros) {
            return;
        }
        let schedules = std::mem::take(&mut plan.schedules);
        self.schedules = schedules
            .into_iter()
            .map(|s| (s.evse_id.clone(), s))
            .collect();
        self.plan = Some(plan);
    }

    /// Takes a cycle and forgets those older than `window`.
    pub fn take_cycle(&mut self, cycle: Cycle, window: TimeDelta) {
        let oldest = cycle
            .at_micros
            .saturating_sub(window.num_microseconds().unwrap_or(i64::MAX));
        self.cycles.push_back(Numbered {
            number: self.next_cycle,
            cycle,
        });
        self.next_cycle += 1;
        while self.cycles.len() > MOST_CYCLES
            || self
                .cycles
                .front()
                .is_some_and(|c| c.cycle.at_micros < oldest)
        {
            self.cycles.pop_front();
        }
    }

    /// Newest cycle.
    #[must_use]
    pub fn cycle(&self) -> Option<&Cycle> {
        self.cycles.back().map(|c| &c.cycle)
    }

    /// Notes that `source` said something.
    pub fn heard(&mut self, source: Source, now: DateTime<Utc>) {
        let contact = self.contacts.entry(source).or_default();
        if !contact.up {
            contact.up = true;
            contact.since = Some(now);
            contact.detail.clear();
        }
        contact.heard = Some(now);
    }

    /// Notes that `source` is away; true if that is news.
    pub fn lost(&mut self, source: Source, now: DateTime<Utc>, detail: &str) -> bool {
        let contact = self.contacts.entry(source).or_default();
        let news = contact.up || contact.since.is_none();
        if news {
            contact.up = false;
            contact.since = Some(now);
        }
        detail.clone_into(&mut contact.detail);
        news
    }
}

/// The state, shared between the feeds that write it and the views that read it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shared {
    state: Arc<RwLock<State>>,
    changed: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Shared {
    /// Changes the state and tells the publisher.
    pub fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
        answer
    }

    /// The state; do not hold it over an await.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
