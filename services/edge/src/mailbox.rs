//! Set-points waiting for a station, and which connection serves it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Setpoint, StationId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Set-points that wait for their turn: one per EVSE, the newest.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    setpoints: BTreeMap<i32, Setpoint>,
    served: i32,
    closed: bool,
}

impl Mailbox {
    /// Leaves a set-point for an outlet. Returns it if nobody will fetch it, and the one it replaced otherwise.
    #[expect(
        clippy::result_large_err,
        reason = "what nobody fetches goes back to whoever left it"
    )]
    pub(crate) fn put(&self, place: i32, setpoint: Setpoint) -> Result<Option<Setpoint>, Setpoint> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(setpoint);
        }
        let replaced = waiting.setpoints.insert(place, setpoint);
        drop(waiting);
        self.arrived.notify_one();
        Ok(replaced)
    }

    /// Puts a set-point back unless a newer one came; then it is returned.
    pub(crate) fn put_back(&self, place: i32, setpoint: Setpoint) -> Option<Setpoint> {
        let mut waiting = self.lock();
        if waiting.setpoints.contains_key(&place) {
            return Some(setpoint);
        }
        waiting.setpoints.insert(place, setpoint);
        None
    }

    /// The next set-point among the outlets that may be told something now, outlets in turn.
    pub(crate) fn take(&self, may_tell: impl Fn(i32) -> bool) -> Option<(i32, Setpoint)> {
        let mut waiting = self.lock();
        let after = waiting.setpoints.range(waiting.served + 1..);
        let before = waiting.setpoints.range(..=waiting.served);
        let mut places = after.chain(before).map(|(place, _)| *place);
        let next = places.find(|place| may_tell(*place))?;
        waiting.served = next;
        waiting.setpoints.remove(&next).map(|s| (next, s))
    }

    /// Waits for something to be put.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Takes everything that waits and refuses what comes.
    pub(crate) fn close(&self) -> Vec<Setpoint> {
        let mut waiting = self.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.setpoints)
            .into_values()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which connection serves which station. The newest connection of an identity wins.
#[derive(Debug, Default)]
pub(crate) struct Switchboard {
    lines: Mutex<HashMap<String, Line>>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    /// Instant under which the connection was announced on the log, in whole microseconds.
    announced: i64,
    /// The announcement was read back.
    seen: bool,
    mailbox: Arc<Mailbox>,
    hang_up: CancellationToken,
}

/// One connection's place on the switchboard.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    number: u64,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Fires when another connection took over.
    pub(crate) hang_up: CancellationToken,
}

impl Switchboard {
    /// Connects a station, to be announced under the instant `at`; an older connection of the same identity is hung up.
    /// Returns the seat and whether there was an older one.
    pub(crate) fn connect(&self, station: &StationId, at: DateTime<Utc>) -> (Seat, bool) {
        let mut lines = self.lock();
        let older = lines.remove(station.as_str());
        let seat = Seat {
            number: older.as_ref().map_or(0, |line| line.number + 1),
            mailbox: Arc::default(),
            hang_up: CancellationToken::new(),
        };
        let line = Line {
            number: seat.number,
            announced: at.timestamp_micros(),
            seen: false,
            mailbox: Arc::clone(&seat.mailbox),
            hang_up: seat.hang_up.clone(),
        };
        lines.insert(station.to_string(), line);
        let replaced = older.is_some();
        if let Some(line) = older {
            line.hang_up.cancel();
        }
        (seat, replaced)
    }

    /// Gives up a seat. True if the station is now offline, false if a newer connection serves it.
    pub(crate) fn disconnect(&self, station: &StationId, seat: &Seat) -> bool {
        let mut lines = self.lock();
        let mine = lines
            .get(station.as_str())
            .is_some_and(|line| line.number == seat.number);
        if mine {
            lines.remove(station.as_str());
        }
        mine
    }

    /// Where to leave set-points for a station, if it is connected.
    pub(crate) fn mailbox(&self, station: &StationId) -> Option<Arc<Mailbox>> {
        self.lock()
            .get(station.as_str())
            .map(|line| Arc::clone(&line.mailbox))
    }

    /// The log says that a station came online at that instant. If another edge said so after this one did, the station is
    /// there now: the connection here is hung up. Returns whether it was.
    pub(crate) fn came_online(&self, station: &str, at: DateTime<Utc>) -> bool {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(station) else {
            return false;
        };
        if line.announced == at.timestamp_micros() {
            line.seen = true;
            return false;
        }
        // What stands before our own announcement is older.
        if !line.seen {
            return false;
        }
        line.hang_up.cancel();
        lines.remove(station);
        true
    }

    /// The log says that a station is offline since that instant. If it is connected here, and was announced before, that is
    /// wrong: returns the instant under which it has to be announced again, `now` or right after.
    pub(crate) fn went_offline(
        &self,
        station: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let mut lines = self.lock();
        let line = lines.get_mut(station).filter(|line| line.seen)?;
        if since.timestamp_micros() <= line.announced {
            return None;
        }
        let again = now.max(since + TimeDelta::microseconds(1));
        line.announced = again.timestamp_micros();
        Some(again)
    }

    /// True if what the log says of a station since that instant is not what we said of its connection here, nor older than
    /// that.
    pub(crate) fn is_news(&self, station: &str, at: DateTime<Utc>) -> bool {
        let lines = self.lock();
        let line = lines.get(station);
        line.is_none_or(|line| line.seen && line.announced != at.timestamp_micros())
    }

    /// True if another connection of the station took a seat here.
    pub(crate) fn took_over(&self, station: &StationId, seat: &Seat) -> bool {
        let lines = self.lock();
        let line = lines.get(station.as_str());
        line.is_some_and(|line| line.number != seat.number)
    }

    /// True if a station of that name is connected here.
    pub(crate) fn serves(&self, station: &str) -> bool {
        self.lock().contains_key(station)
    }

    /// Connections in use.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use units::Power;

    fn setpoint(watts: i64) -> Setpoint {
        Setpoint {
            id: format!("sp-{watts}").parse().unwrap(),
            evse: "S/1".parse().unwrap(),
            power: Power::from_watts(watts),
            mode: fleet::Mode::default(),
            issued_at: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
            signal: None,
            reason: String::new(),
        }
    }

    #[test]
    fn the_newest_setpoint_waits_and_outlets_take_turns() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.put(1, setpoint(1)), Ok(None));
        assert_eq!(mailbox.put(1, setpoint(2)), Ok(Some(setpoint(1))));
        assert_eq!(mailbox.put(2, setpoint(3)), Ok(None));
        assert_eq!(mailbox.take(|_| true), Some((1, setpoint(2))));
        assert_eq!(mailbox.put(1, setpoint(4)), Ok(None));
        assert_eq!(
            mailbox.take(|_| true),
            Some((2, setpoint(3))),
            "outlet 2 is not starved"
        );
        assert_eq!(
            mailbox.take(|place| place != 1),
            None,
            "outlet 1 has to wait"
        );
        assert_eq!(mailbox.put_back(1, setpoint(5)), Some(setpoint(5)));
        assert_eq!(
            mailbox.take(|_| true),
            Some((1, setpoint(4))),
            "put back never replaces newer"
        );
        assert_eq!(mailbox.put(2, setpoint(6)), Ok(None));
        assert_eq!(mailbox.close(), vec![setpoint(6)]);
        assert_eq!(mailbox.put(1, setpoint(7)), Err(setpoint(7)));
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_station_that_came_online_elsewhere_later_is_let_go() {
        let board = Switchboard::default();
        let station: StationId = "S".parse().unwrap();
        let (seat, _) = board.connect(&station, at(5));
        assert!(
            !board.came_online("S", at(9)),
            "before our own: older, whatever its clock"
        );
        assert!(!board.came_online("S", at(5)), "our own");
        assert!(!board.came_online("T", at(6)));
        assert!(
            board.came_online("S", at(4)),
            "after our own: newer, whatever its clock"
        );
        assert!(seat.hang_up.is_cancelled());
        assert!(!board.disconnect(&station, &seat), "it is not offline");
        assert!(!board.serves("S"));
    }

    #[test]
    fn the_newest_connection_wins_and_the_old_one_cannot_take_it_offline() {
        let board = Switchboard::default();
        let station: StationId = "S".parse().unwrap();
        let (old, replaced) = board.connect(&station, at(0));
        assert!(!replaced);
        let (new, replaced) = board.connect(&station, at(1));
        assert!(replaced && old.hang_up.is_cancelled() && !new.hang_up.is_cancelled());
        assert!(!board.disconnect(&station, &old));
        assert!(board.mailbox(&station).is_some());
        assert!(board.disconnect(&station, &new));
        assert_eq!(board.len(), 0);
    }
}
