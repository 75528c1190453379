//! Offices that one process at a time may hold: who is elected, how long it may act, and how the next one follows.
//!
//! ```text
//! holder      beat ── beat ── beat ── (killed)
//!               │ acts for HOLDS after the begin of its last stored beat
//! candidate     └─ has seen no new beat for SILENT ──► takes the next term
//! ```
//!
//! The rules are those of [`crate::term`]. No two clocks are compared: a candidate measures the silence with its own, a holder its
//! right to act with its own, and `HOLDS` is shorter than `SILENT`. What a holder that slept decides nevertheless carries its term: whoever acts on it
//! refuses an earlier term than the newest one seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::change::Change;
use crate::term::{BEAT, Right, Watch};
use crate::{StoreError, Tables};

/// This process's monotonic clock.
fn clock() -> Duration {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    Instant::now().duration_since(*BEGINNING.get_or_init(Instant::now))
}

/// An office as the tables have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which.
    pub office: String,
    /// Who, unlike for each run of a process.
    pub holder: String,
    /// Where the holder is reached; empty once it has resigned.
    pub address: String,
    /// Number of the holder, from 1.
    pub term: u64,
    /// Rises while the holder lives.
    pub beat: u64,
}

/// Somebody who would hold an office.
#[derive(Debug, Clone)]
pub struct Candidate(Option<Standing>);

#[derive(Debug, Clone)]
struct Standing {
    tables: Tables,
    office: String,
    holder: String,
    address: String,
}

/// An office that is held. It is held on as long as this lives and beats can be stored.
#[derive(Debug, Clone)]
pub struct Tenure(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    tables: Tables,
    lease: Mutex<Lease>,
    right: watch::Sender<Right>,
    resigned: AtomicBool,
    stop: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Candidate {
    /// One who has no rivals, as in a process that is all there is: elected at once and for ever, without a term.
    #[must_use]
    pub const fn alone() -> Self {
        Self(None)
    }

    /// A candidate for `office`. `holder` is a name that no other process has and no earlier run of this one had; `address`
    /// is where it is reached.
    #[must_use]
    pub fn new(tables: Tables, office: &str, holder: &str, address: &str) -> Self {
        Self(Some(Standing {
            tables,
            office: office.to_owned(),
            holder: holder.to_owned(),
            address: address.to_owned(),
        }))
    }

    /// Waits until the office is ours. `seen` is told where its holder is, whenever that changes. Tables that cannot be read are
    /// asked again for ever.
    pub async fn elected(&self, mut seen: impl FnMut(&str)) -> Tenure {
        let Some(standing) = &self.0 else {
            return Tenure(None);
        };
        let mut watched = Watch::default();
        let mut told = String::new();
        loop {
            match standing.look(&mut watched).await {
                Ok(Some(tenure)) => return tenure,
                Ok(None) => {
                    if let Some(lease) = watched.seen()
                        && lease.address != told
                    {
                        told.clone_from(&lease.address);
                        seen(&told);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, office = standing.office, "{} cannot be asked for", standing.office);
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}

impl Standing {
    /// Looks once who holds the office; takes it if nobody does.
    async fn look(&self, watched: &mut Watch) -> Result<Option<Tenure>, StoreError> {
        let found = self.tables.lease(&self.office).await?;
        let Some(term) = watched.look(found.as_ref(), clock()) else {
            return Ok(None);
        };
        let wanted = Lease {
            office: self.office.clone(),
            holder: self.holder.clone(),
            address: self.address.clone(),
            term,
            beat: 0,
        };
        let began = clock();
        let change = Change::default().lease(wanted.clone());
        self.tables.apply(change).await?;
        // Of several who asked at once the first has it.
        if self.tables.lease(&self.office).await?.as_ref() != Some(&wanted) {
            return Ok(None);
        }
        tracing::info!(
            office = self.office,
            term,
            "{} is held from here, term {term}",
            self.office
        );
        metrics::gauge!("shoal_office_term", "office" => self.office.clone())
            .set(u32::try_from(term).unwrap_or(u32::MAX));
        Ok(Some(Tenure::begin(self.tables.clone(), wanted, began)))
    }
}

impl Tenure {
    fn begin(tables: Tables, lease: Lease, began: Duration) -> Self {
        let stop = CancellationToken::new();
        let held = Arc::new(Held {
            tables,
            lease: Mutex::new(lease),
            right: watch::Sender::new(Right::begun(began)),
            resigned: AtomicBool::new(false),
            stop: stop.clone(),
        });
        tokio::spawn(beat(Arc::downgrade(&held), stop));
        Self(Some(held))
    }

    /// Office and number of this holder; none where there are no others.
    #[must_use]
    pub fn term(&self) -> Option<(String, u64)> {
        let lease = self.0.as_ref()?.lease();
        Some((lease.office, lease.term))
    }

    /// True as long as this process may act. To be asked right before each act.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|held| held.right.borrow().holds(clock()))
    }

    /// Waits until the office is lost; for ever where there are no others.
    pub async fn lost(&self) {
        let Some(held) = &self.0 else {
            return std::future::pending().await;
        };
        let mut right = held.right.subscribe();
        loop {
            let (now, end) = (clock(), right.borrow_and_update().until());
            if now >= end {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(end.saturating_sub(now)) => {}
                _ = right.changed() => {}
            }
        }
    }

    /// Gives the office up, so that the next one takes it without waiting for silence.
    pub async fn resign(&self) {
        let Some(held) = &self.0 else { return };
        if held.resigned.swap(true, Ordering::AcqRel) {
            return;
        }
        held.stop.cancel();
        let was_held = self.is_held();
        held.right.send_replace(Right::ended(clock()));
        if !was_held {
            return;
        }
        let mut lease = held.next();
        lease.address.clear();
        let office = lease.office.clone();
        if let Err(error) = held.tables.apply(Change::default().lease(lease)).await {
            tracing::warn!(%error, office, "the next holder of {office} has to wait for silence");
        }
    }
}

impl Held {
    fn lease(&self) -> Lease {
        self.lease
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The lease with a beat that was never stored: one that failed may have been stored nevertheless.
    fn next(&self) -> Lease {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        lease.beat += 1;
        lease.clone()
    }

    /// Stores one beat. False once somebody else holds the office.
    async fn beat(&self) -> Result<bool, StoreError> {
        let lease = self.next();
        let began = clock();
        self.tables
            .apply(Change::default().lease(lease.clone()))
            .await?;
        let found = self.tables.lease(&lease.office).await?;
        if found.as_ref().is_none_or(|found| found.term != lease.term) {
            return Ok(false);
        }
        self.right
            .send_if_modified(|right| right.renew(began, clock()));
        Ok(true)
    }
}

async fn beat(held: std::sync::Weak<Held>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            () = stop.cancelled() => return,
        }
        let Some(held) = held.upgrade() else { return };
        match held.beat().await {
            Ok(true) if held.right.borrow().holds(clock()) => {}
            Ok(_) => {
                held.right.send_replace(Right::ended(clock()));
                return;
            }
            Err(error) => tracing::warn!(%error, "a beat could not be stored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::term::SILENT;

    fn candidate(store: &Store, name: &str) -> Candidate {
        Candidate::new(
            store.tables(),
            "dispatch/NL",
            name,
            &format!("http://{name}"),
        )
    }

    async fn elected(candidate: &Candidate) -> Tenure {
        candidate.elected(|_| {}).await
    }

    #[tokio::test]
    async fn one_holds_the_office_and_the_next_follows_when_it_resigns() {
        let store = Store::in_memory().await.unwrap();
        let first = elected(&candidate(&store, "a")).await;
        assert_eq!(first.term(), Some(("dispatch/NL".to_owned(), 1)));
        let (tell, mut told) = watch::channel(String::new());
        let other = candidate(&store, "b");
        let waiting = tokio::spawn(async move {
            other
                .elected(|address| {
                    tell.send_replace(address.to_owned());
                })
                .await
        });
        told.wait_for(|address| address == "http://a")
            .await
            .unwrap();
        // Longer than any silence: the first one lives.
        tokio::time::sleep(SILENT * 2).await;
        assert!(first.is_held() && !waiting.is_finished());
        first.resign().await;
        assert!(!first.is_held());
        let second = waiting.await.unwrap();
        assert_eq!(second.term(), Some(("dispatch/NL".to_owned(), 2)));
        first.lost().await;
        second.resign().await;
    }

    #[tokio::test]
    async fn a_holder_that_falls_silent_is_succeeded_only_after_it_may_not_act_any_more() {
        let store = Store::in_memory().await.unwrap();
        let first = elected(&candidate(&store, "a")).await;
        // As a killed process does: no beat, no resignation.
        first.0.as_ref().unwrap().stop.cancel();
        let second = elected(&candidate(&store, "b")).await;
        assert!(!first.is_held(), "two holders");
        assert!(second.is_held());
        assert_eq!(second.term().unwrap().1, 2);
        assert!(!first.0.as_ref().unwrap().beat().await.unwrap());
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_one_is_elected() {
        let store = Store::in_memory().await.unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..8 {
            let candidate = candidate(&store, &format!("c{n}"));
            asking.spawn(async move { elected(&candidate).await });
        }
        let held = asking.join_next().await.unwrap().unwrap();
        tokio::time::sleep(SILENT).await;
        assert!(held.is_held());
        assert!(asking.try_join_next().is_none(), "two are elected");
        asking.abort_all();
    }

    #[tokio::test]
    async fn who_has_no_rivals_holds_for_ever() {
        let tenure = elected(&Candidate::alone()).await;
        assert!(tenure.is_held());
        assert_eq!(tenure.term(), None);
        tenure.resign().await;
        assert!(tenure.is_held());
    }
}
