//! Which stations are registered, from the tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet::{Evse, EvseId, StationId};
use store::{StoreError, Tables};

use crate::station::{Outlets, Recalled, Station};

/// Unknown identities ask the tables at most this often.
const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// Reading the stays in progress takes at most this share of the time, one in so many.
const SHARE: u32 = 4;
/// What another process told this long ago is in the tables; what it tells later, this process would have told itself.
const INGESTED: Duration = Duration::from_secs(60);
/// Until then an index of this age does: stations come back in thousands, and what just happened elsewhere is told again if it is
/// not known yet.
const YOUNG: Duration = Duration::from_secs(2);

/// Stays in progress by outlet.
pub(crate) type Stays = BTreeMap<EvseId, Recalled>;

/// Stations by identity and by outlet; asks the tables for those it does not know.
#[derive(Debug)]
pub(crate) struct Registry {
    tables: Tables,
    known: Mutex<Known>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    begun: Instant,
    newest: tokio::sync::Mutex<Option<Read>>,
}

/// Stays in progress as they were read last.
#[derive(Debug)]
struct Read {
    stays: Arc<Stays>,
    begun: Instant,
    took: Duration,
}

#[derive(Debug, Default)]
struct Known {
    stations: HashMap<String, Arc<Mutex<Outlets>>>,
    places: HashMap<EvseId, (StationId, i32)>,
}

impl Registry {
    pub(crate) fn new(tables: Tables) -> Self {
        Self {
            tables,
            known: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            begun: Instant::now(),
            newest: tokio::sync::Mutex::default(),
        }
    }

    /// The station of that identity, if it is registered.
    ///
    /// # Errors
    /// [`StoreError`] if the tables cannot be read.
    pub(crate) async fn station(
        &self,
        identity: &str,
    ) -> Result<Option<Arc<Mutex<Outlets>>>, StoreError> {
        if let Some(station) = self.lock().stations.get(identity) {
            return Ok(Some(Arc::clone(station)));
        }
        self.refresh().await?;
        Ok(self.lock().stations.get(identity).map(Arc::clone))
    }

    /// Station and number of an outlet, if it is registered.
    ///
    /// # Errors
    /// [`StoreError`] if the tables cannot be read.
    pub(crate) async fn place(
        &self,
        evse: &EvseId,
    ) -> Result<Option<(StationId, i32)>, StoreError> {
        if let Some(place) = self.lock().places.get(evse) {
            return Ok(Some(place.clone()));
        }
        self.refresh().await?;
        Ok(self.lock().places.get(evse).cloned())
    }

    /// Reads registrations and stays in progress. Calls that come in a burst share one reading.
    ///
    /// # Errors
    /// [`StoreError`] if the tables cannot be read.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let mut last = self.refreshing.lock().await;
        if last.is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return Ok(());
        }
        let evses = self.tables.evses().await?;
        let stays = self.stays().await?;
        self.adopt(evses, &stays);
        *last = Some(Instant::now());
        Ok(())
    }

    /// Stays in progress, read after this was asked. Stations that come in a burst share a reading, so that a storm of them
    /// costs a share of the time and no more.
    async fn stays(&self) -> Result<Arc<Stays>, StoreError> {
        self.stays_since(Instant::now()).await
    }

    /// Stays in progress, read at that instant or later.
    async fn stays_since(&self, since: Instant) -> Result<Arc<Stays>, StoreError> {
        let mut newest = self.newest.lock().await;
        if let Some(read) = newest.as_ref() {
            if read.begun >= since {
                return Ok(Arc::clone(&read.stays));
            }
            tokio::time::sleep_until((read.begun + read.took * SHARE).into()).await;
        }
        let begun = Instant::now();
        let stays = Arc::new(self.read_stays().await?);
        *newest = Some(Read {
            stays: Arc::clone(&stays),
            begun,
            took: begun.elapsed(),
        });
        Ok(stays)
    }

    async fn read_stays(&self) -> Result<Stays, StoreError> {
        let open = self.tables.open_sessions().await?.into_iter();
        let recalled = open.map(|open| {
            let recalled = Recalled {
                session: open.session.id,
                added: open.added,
                needs: open.session.needs,
            };
            (open.session.evse, recalled)
        });
        Ok(recalled.collect())
    }

    fn adopt(&self, evses: Vec<Evse>, stays: &Stays) {
        let mut stations: BTreeMap<StationId, Vec<Evse>> = BTreeMap::new();
        for evse in evses {
            stations.entry(evse.station.clone()).or_default().push(evse);
        }
        let mut known = self.lock();
        for (id, mut evses) in stations {
            evses.sort_by_key(|e| outlet_order(&e.id));
            for (number, evse) in (1..).zip(&evses) {
                known.places.insert(evse.id.clone(), (id.clone(), number));
            }
            let Some(protocol) = evses.first().map(|e| e.protocol) else {
                continue;
            };
            let station = Station {
                id: id.clone(),
                protocol,
                evses,
            };
            match known.stations.get(id.as_str()) {
                Some(outlets) => {
                    let mut outlets = outlets.lock().unwrap_or_else(PoisonError::into_inner);
                    outlets.station = station;
                }
                None => {
                    let outlets = Outlets::new(station, stays);
                    known
                        .stations
                        .insert(id.to_string(), Arc::new(Mutex::new(outlets)));
                }
            }
        }
    }

    /// Looks up the stays of one station, for a transaction that this process never saw. Others could tell of it until this
    /// process began, or until the station came here: what was read a while after that is an index that is not read again.
    ///
    /// # Errors
    /// [`StoreError`] if the tables cannot be read.
    pub(crate) async fn recall(&self, outlets: &Mutex<Outlets>) -> Result<(), StoreError> {
        let lock = || outlets.lock().unwrap_or_else(PoisonError::into_inner);
        let came = lock()
            .came_at
            .map_or(self.begun, |came| came.max(self.begun));
        let now = Instant::now();
        let young = now.checked_sub(YOUNG).unwrap_or(now);
        let stays = self.stays_since(young.min(came + INGESTED)).await?;
        lock().recall(&stays);
        Ok(())
    }

    /// Reads the stays of a station that connects and may have been elsewhere.
    ///
    /// # Errors
    /// [`StoreError`] if the tables cannot be read.
    pub(crate) async fn welcome(&self, outlets: &Mutex<Outlets>) -> Result<(), StoreError> {
        let stays = self.stays().await?;
        let mut outlets = outlets.lock().unwrap_or_else(PoisonError::into_inner);
        outlets.returned(&stays);
        outlets.came_at = Some(Instant::now());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outlets in order of the number that ends their name (`S/2` before `S/10`), then by name.
fn outlet_order(evse: &EvseId) -> (u32, String) {
    let digits = evse.as_str().rsplit(|c: char| !c.is_ascii_digit()).next();
    let number = digits.and_then(|d| d.parse().ok()).unwrap_or(u32::MAX);
    (number, evse.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_outlet_comes_after_the_second() {
        let mut names: Vec<EvseId> = ["S/10", "S/2", "S/1"].map(|n| n.parse().unwrap()).to_vec();
        names.sort_by_key(outlet_order);
        assert_eq!(
            names.iter().map(EvseId::as_str).collect::<Vec<_>>(),
            ["S/1", "S/2", "S/10"]
        );
    }
}
