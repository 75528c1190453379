//! Set-points for stations that are connected to no edge: exactly one of several edges says that they were not delivered.
//!
//! ```text
//! issued            deadline             said                 claimed
//!   |--- LONGEST -----|--- call timeout ---|--- call timeout ---|   said once the claim is read back
//! ```
//!
//! The log decides. Until the deadline of a set-point a station may come back: whoever announces it by then has the set-point, and
//! delivers it. If nobody did, the edge whose announcement of the station stands last says that it was not delivered, a call timeout
//! later: time in which all have read what was announced. If that edge is gone, nobody answers; then the others announce that
//! the station is offline, and the one whose announcement comes first on the log answers.
//!
//! An edge that is alive and slow looks like one that is gone, and to say that thousands of connected stations are offline would make it
//! slower. So the first claim is a question: as long as nobody contradicts, twice as many follow with each look.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{EvseId, Setpoint, SetpointId, StationId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::Seen;
use crate::connection::{self, Edge};
use crate::writer::acknowledge;

/// Time that a station has to come back, unless the set-point expires before.
const LONGEST: TimeDelta = TimeDelta::seconds(20);
/// Of announcements that a station is offline, closer together than this, the first counts.
const CLAIM: TimeDelta = TimeDelta::seconds(60);
/// Long after every set-point, claimed or not, should have been answered.
const FORGET: TimeDelta = TimeDelta::minutes(10);
/// Set-points that may wait for somebody to answer them: a minute of a large fleet.
const MOST: usize = 65_536;
/// Claims of one look at most.
const CLAIMS: usize = 4_096;
/// Real time between looks.
const LOOK: Duration = Duration::from_secs(1);

/// Who says what became of a set-point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Whoever announced the station last.
    Open,
    Us,
    Others,
}

#[derive(Debug)]
struct Entry {
    place: i32,
    setpoint: Setpoint,
    owner: Owner,
    /// A connection here has it in hand, and says what becomes of it.
    held: bool,
}

impl Entry {
    fn deadline(&self) -> DateTime<Utc> {
        (self.setpoint.issued_at + LONGEST).min(self.setpoint.expires_at)
    }
}

/// The announcement that a station is offline which we made.
#[derive(Debug, Clone, Copy)]
struct Mine {
    /// Its instant, in whole microseconds.
    at: i64,
    /// It was read back. What is read before is older.
    seen: bool,
    /// Nobody told us: we take the edge of the station to be gone.
    claimed: bool,
}

/// What is known of a station that is not connected here.
#[derive(Debug, Default)]
struct Missing {
    entries: Vec<Entry>,
    mine: Option<Mine>,
    /// The announcement that it is offline which stands.
    offline: Option<DateTime<Utc>>,
}

impl Missing {
    /// True if our announcement that it is offline stands.
    fn ours(&self) -> bool {
        self.mine.is_some_and(|mine| mine.seen)
    }
}

/// What has to be done now.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Due {
    /// Set-points to be said undelivered.
    pub(crate) undelivered: Vec<Setpoint>,
    /// Stations to be announced as offline, and the instants under which.
    pub(crate) claims: Vec<(StationId, DateTime<Utc>)>,
    /// Set-points that are given up without an answer, as claims of their stations do not come back.
    pub(crate) forgotten: usize,
}

/// Set-points that wait for somebody to answer them.
#[derive(Debug)]
pub(crate) struct Absent {
    /// Spreads the claims of several edges.
    name: Uuid,
    call_timeout: TimeDelta,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stations: BTreeMap<String, Missing>,
    /// Station of each outlet for which a set-point waits.
    evses: HashMap<String, String>,
    count: usize,
    claims: Claims,
    /// Set-points whose answer was read before they were: there is no order between the topics.
    answered: Seen,
}

/// How many claims are made, and of whom the last was.
#[derive(Debug)]
struct Claims {
    most: usize,
    last: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            most: 1,
            last: String::new(),
        }
    }
}

impl Claims {
    /// Chooses of `names`, which are in order: those first that were not chosen for long.
    fn choose(&mut self, mut names: Vec<String>) -> Vec<String> {
        if names.is_empty() {
            return names;
        }
        let next = names.partition_point(|name| *name <= self.last);
        names.rotate_left(next);
        names.truncate(self.most);
        self.last = names.last().cloned().unwrap_or_default();
        self.most = (self.most * 2).min(CLAIMS);
        names
    }
}

impl Absent {
    /// Nobody is missing.
    pub(crate) fn new(call_timeout: Duration) -> Self {
        Self {
            name: Uuid::new_v4(),
            call_timeout: TimeDelta::from_std(call_timeout).unwrap_or(LONGEST),
            inner: Mutex::default(),
        }
    }

    /// True if something on the log under that key matters here.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        let inner = self.lock();
        inner.evses.contains_key(key) || inner.stations.contains_key(key)
    }

    /// A set-point was read; `held` says that its station is connected here. It is remembered until the log says what became of
    /// it. False if there is no room.
    pub(crate) fn wait(
        &self,
        station: &StationId,
        place: i32,
        setpoint: Setpoint,
        held: bool,
    ) -> bool {
        let mut inner = self.lock();
        if inner.answered.knows(&setpoint.id) {
            return true;
        }
        if inner.count >= MOST {
            return false;
        }
        inner.count += 1;
        let evse = setpoint.evse.to_string();
        inner.evses.insert(evse, station.to_string());
        let missing = inner.stations.entry(station.to_string()).or_default();
        missing.entries.push(Entry {
            place,
            setpoint,
            owner: Owner::Open,
            held,
        });
        true
    }

    /// The connection that had a set-point in hand is gone, and does not know what became of it.
    pub(crate) fn release(&self, setpoint: &Setpoint) {
        let mut inner = self.lock();
        let station = inner.evses.get(setpoint.evse.as_str()).cloned();
        let missing = station.and_then(|station| inner.stations.get_mut(&station));
        for entry in missing.into_iter().flat_map(|m| &mut m.entries) {
            entry.held &= entry.setpoint.id != setpoint.id;
        }
    }

    /// A station connected here and will be announced under the instant `at`. Returns the set-points that are ours to deliver.
    pub(crate) fn came(&self, station: &StationId, at: DateTime<Utc>) -> Vec<(i32, Setpoint)> {
        let mut inner = self.lock();
        let Some(missing) = inner.stations.get_mut(station.as_str()) else {
            return Vec::new();
        };
        let mut timely = Vec::new();
        for entry in missing.entries.iter_mut().filter(|entry| !entry.held) {
            if entry.owner == Owner::Open && at <= entry.deadline() {
                entry.held = true;
                timely.push((entry.place, entry.setpoint.clone()));
            }
        }
        missing.settle();
        timely
    }

    /// A station left and will be announced as offline under the instant `at`.
    pub(crate) fn left(&self, station: &StationId, at: DateTime<Utc>) {
        let mut inner = self.lock();
        let missing = inner.stations.entry(station.to_string()).or_default();
        missing.mine = Some(Mine {
            at: at.timestamp_micros(),
            seen: false,
            claimed: false,
        });
    }

    /// The log says that a station is online, or offline, since an instant. Not for what we said of a station that is connected
    /// here, nor for what was said before we did.
    pub(crate) fn heard(&self, station: &str, online: bool, at: DateTime<Utc>) {
        let mut inner = self.lock();
        let Inner {
            stations, claims, ..
        } = &mut *inner;
        let Some(missing) = stations.get_mut(station) else {
            return;
        };
        if online && missing.mine.is_some_and(|mine| mine.claimed) {
            claims.most = 1;
        }
        let own = missing
            .mine
            .is_some_and(|mine| mine.at == at.timestamp_micros());
        let coming = missing.mine.is_some_and(|mine| !mine.seen);
        let recent = missing.offline.is_some_and(|first| at - first < CLAIM);
        if online && !coming {
            for entry in &mut missing.entries {
                if entry.owner == Owner::Open && at <= entry.deadline() {
                    entry.owner = Owner::Others;
                }
            }
            missing.settle();
        } else if !online && own && recent {
            // Another was faster.
            missing.mine = None;
        } else if !online && own {
            missing.mine = missing.mine.map(|mine| Mine { seen: true, ..mine });
            missing.offline = Some(at);
        } else if !online && !recent {
            missing.mine = missing.mine.filter(|mine| !mine.seen);
            missing.offline = Some(at);
        }
        inner.gone(station, []);
    }

    /// The log says what became of a set-point, which may not have been read yet.
    pub(crate) fn answered(&self, evse: &EvseId, setpoint: &SetpointId) {
        let mut inner = self.lock();
        let station = inner.evses.get(evse.as_str()).cloned();
        let missing = station.and_then(|name| Some((inner.stations.get_mut(&name)?, name)));
        let Some((missing, station)) = missing else {
            inner.answered.first(setpoint);
            return;
        };
        let of_it = |entry: &mut Entry| entry.setpoint.id == *setpoint;
        let removed: Vec<_> = missing.entries.extract_if(.., of_it).collect();
        if removed.is_empty() {
            inner.answered.first(setpoint);
        }
        inner.gone(&station, removed.iter().map(|entry| &entry.setpoint.evse));
    }

    /// What has to be done at an instant.
    pub(crate) fn due(&self, now: DateTime<Utc>) -> Due {
        let mut due = Due::default();
        let mut inner = self.lock();
        let mut over = Vec::new();
        let mut unanswered = Vec::new();
        for (name, missing) in &mut inner.stations {
            let (mine, claimed) = (missing.ours(), missing.offline);
            let late = |entry: &Entry| now - entry.deadline();
            let said = missing.entries.extract_if(.., |entry| {
                let ours = match entry.owner {
                    Owner::Open => mine,
                    Owner::Us => true,
                    Owner::Others => false,
                };
                // After a claim of ours there is nobody else.
                let left_over = mine && late(entry) >= self.call_timeout * 2;
                !entry.held && ((ours && late(entry) >= self.call_timeout) || left_over)
            });
            let said: Vec<_> = said.map(|entry| entry.setpoint).collect();
            let patience = self.call_timeout * 2 + self.spread(name);
            let mut open = missing.entries.iter().filter(|entry| !entry.held);
            let is_late = open.any(|entry| late(entry) >= patience);
            let free = claimed.is_none_or(|at| now - at >= CLAIM) && missing.mine.is_none();
            if is_late && free {
                unanswered.push(name.clone());
            }
            let forgotten = missing
                .entries
                .extract_if(.., |entry| late(entry) >= FORGET);
            let forgotten: Vec<_> = forgotten.map(|entry| entry.setpoint).collect();
            due.forgotten += forgotten.len();
            if !said.is_empty() || !forgotten.is_empty() {
                let evses = said.iter().chain(&forgotten).map(|s| s.evse.clone());
                over.push((name.clone(), evses.collect::<Vec<_>>()));
            }
            due.undelivered.extend(said);
        }
        for (name, evses) in over {
            inner.gone(&name, &evses);
        }
        // Announcements are told apart by their instants: no two edges have the same.
        let at = now + TimeDelta::microseconds(self.salt(1_000, &""));
        due.claims = inner.claim(unanswered, at);
        due
    }

    /// Up to a call timeout, another for each edge and station: seldom do two claim the same at once.
    fn spread(&self, station: &str) -> TimeDelta {
        TimeDelta::milliseconds(self.salt(self.call_timeout.num_milliseconds(), &station))
    }

    /// A number from zero to below `most`, another for each edge and `of`.
    fn salt(&self, most: i64, of: &impl Hash) -> i64 {
        let mut hasher = DefaultHasher::new();
        (self.name, of).hash(&mut hasher);
        let most = u64::try_from(most).unwrap_or(0).max(1);
        i64::try_from(hasher.finish() % most).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Missing {
    /// The station is online: what came too late for that is for whoever had it before.
    fn settle(&mut self) {
        let ours = self.ours();
        for entry in self.entries.iter_mut().filter(|e| e.owner == Owner::Open) {
            if !entry.held {
                entry.owner = if ours { Owner::Us } else { Owner::Others };
            }
        }
        (self.mine, self.offline) = (None, None);
    }
}

impl Inner {
    /// Claims some of the stations of these names.
    fn claim(
        &mut self,
        unanswered: Vec<String>,
        at: DateTime<Utc>,
    ) -> Vec<(StationId, DateTime<Utc>)> {
        let mut claims = Vec::new();
        for name in self.claims.choose(unanswered) {
            // What it waited for may have been given up meanwhile.
            if let Some(missing) = self.stations.get_mut(&name)
                && let Ok(station) = name.parse()
            {
                missing.mine = Some(Mine {
                    at: at.timestamp_micros(),
                    seen: false,
                    claimed: true,
                });
                claims.push((station, at));
            }
        }
        claims
    }

    /// Set-points for those outlets of a station wait no more; what says nothing any more is forgotten.
    fn gone<'a>(&mut self, station: &str, evses: impl IntoIterator<Item = &'a EvseId>) {
        let Some(missing) = self.stations.get(station) else {
            return;
        };
        for evse in evses {
            self.count -= 1;
            let mut entries = missing.entries.iter();
            if entries.all(|entry| entry.setpoint.evse != *evse) {
                self.evses.remove(evse.as_str());
            }
        }
        if missing.entries.is_empty() && missing.mine.is_none() && missing.offline.is_none() {
            self.stations.remove(station);
        }
    }
}

/// Says what was not delivered, and claims stations that nobody answers for, until `stop`.
pub(crate) async fn run(edge: Arc<Edge>, stop: CancellationToken) {
    if !edge.config.replicas {
        // Nobody else could have them.
        return stop.cancelled().await;
    }
    while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
        let now = edge.clock.now();
        let due = edge.absent.due(now);
        metrics::counter!("shoal_edge_setpoints_forgotten_total").increment(due.forgotten as u64);
        for setpoint in due.undelivered {
            let why = "the station is not connected to any edge";
            acknowledge(&edge, &setpoint, Outcome::Unreachable, why, None).await;
        }
        for (station, at) in due.claims {
            metrics::counter!("shoal_edge_claims_total").increment(1);
            tracing::warn!(station.id = %station, "no edge answers for station {station}: it is taken to be offline");
            let outlets = edge.registry.station(station.as_str()).await.ok().flatten();
            let evses = outlets.map(|outlets| connection::lock(&outlets).station.evse_ids());
            let gone = connection::presence(&station, evses.unwrap_or_default(), false, at);
            edge.post.tell(&gone).await;
        }
    }
}

#[cfg(test)]
mod tests;
