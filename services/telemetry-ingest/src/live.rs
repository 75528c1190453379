//! The fold shared between the consumer, which changes it, and the server, which reads it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use fleet::state::Rules;
use fleet::{EvseId, EvseState};
use runtime::Clock;
use store::{Log, Tables};
use tokio::sync::broadcast;

use crate::fold::Fold;
use crate::{Error, resume};

/// States that a slow watcher may fall behind before it is sent the whole fleet again.
const WATCH_BACKLOG: usize = 16_384;

/// Real time that a set-point, its answer and the next sample take through sockets, log and service: at high clock speeds an
/// EVSE that follows at once must not look as if it did not.
const ROUND_TRIP: Duration = Duration::from_millis(500);

/// The fold and the stream of its changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    fold: Arc<RwLock<Fold>>,
    changes: broadcast::Sender<Arc<EvseState>>,
}

impl Live {
    /// The fold as of the last checkpoint.
    pub(crate) async fn load(tables: &Tables, log: &Log, clock: &Clock) -> Result<Self, Error> {
        let fold = resume::load(tables, log, clock, rules(clock)).await?;
        Ok(Self {
            fold: Arc::new(RwLock::new(fold)),
            changes: broadcast::Sender::new(WATCH_BACKLOG),
        })
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Fold) -> T) -> T {
        look(&self.fold.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Fold) -> T) -> T {
        change(&mut self.fold.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// All states and every later change of one.
    pub(crate) fn watch(&self) -> (Vec<EvseState>, broadcast::Receiver<Arc<EvseState>>) {
        // Subscribed before the states are read: a change in between comes twice rather than never.
        let changes = self.changes.subscribe();
        (self.all(), changes)
    }

    pub(crate) fn all(&self) -> Vec<EvseState> {
        self.read(|fold| fold.state.iter().cloned().collect())
    }

    pub(crate) fn get(&self, evse: &EvseId) -> Option<EvseState> {
        self.read(|fold| fold.state.get(evse).cloned())
    }

    /// Tells watchers.
    pub(crate) fn announce(&self, states: Vec<EvseState>) {
        if self.changes.receiver_count() == 0 {
            return;
        }
        for state in states {
            // No watcher is no error.
            let _ = self.changes.send(Arc::new(state));
        }
    }
}

fn rules(clock: &Clock) -> Rules {
    let mut rules = Rules::default();
    let round_trip = ROUND_TRIP.mul_f64(clock.speed().max(1.0));
    let round_trip = TimeDelta::from_std(round_trip).unwrap_or(TimeDelta::MAX);
    rules.following.settle = rules.following.settle.max(round_trip);
    rules
}
