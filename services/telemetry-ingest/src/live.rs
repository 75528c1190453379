//! The fold shared between the consumer, which changes it, and the server, which reads it.

use std::sync::{Arc, PoisonError, RwLock};

use fleet::{EvseId, EvseState};
use runtime::Clock;
use store::Tables;
use tokio::sync::broadcast;

use crate::fold::Fold;
use crate::{Config, Error, GROUP};

/// States that a slow watcher may fall behind before it is sent the whole fleet again.
const WATCH_BACKLOG: usize = 16_384;

/// The fold and the stream of its changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    fold: Arc<RwLock<Fold>>,
    changes: broadcast::Sender<Arc<EvseState>>,
}

impl Live {
    /// The fold as of the last checkpoint.
    pub(crate) async fn load(
        _config: &Config,
        tables: &Tables,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let mut fold = Fold::new(fleet::state::Rules::default());
        for (evse, body) in tables.kept(GROUP).await? {
            fold.restore(&evse, &body);
        }
        let first = fold
            .meters
            .values()
            .filter_map(fleet::metering::Meter::first_interval)
            .min();
        if let Some(first) = first {
            let all = chrono::DateTime::<chrono::Utc>::MAX_UTC;
            fold.restore_intervals(&tables.intervals_between(first, all).await?);
        }
        for evse in tables.evses().await? {
            fold.register(evse, clock.now());
        }
        tracing::info!(
            evses = fold.state.iter().count(),
            "resumed the fleet from its last checkpoint"
        );
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
        for state in states {
            // No watcher is no error.
            let _ = self.changes.send(Arc::new(state));
        }
    }
}
