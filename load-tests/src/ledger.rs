//! What stations know to be taken, and whether it is on the log.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{Setpoint, Telemetry};
use serde::{Deserialize, Serialize};
use store::{Log, Position, Store, topic};
use wire::proto::dispatch::v1 as dispatch;
use wire::proto::telemetry::v1 as telemetry;

use crate::counts::{Quantiles, Times};
use crate::failure::Failure;
use crate::life::{Event, Kind};

/// Records read at a time.
const BATCH: usize = 4_096;

/// A file with a line per message that was answered: `kind outlet microseconds`.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<BufWriter<File>>);

impl Ledger {
    /// # Errors
    /// Status 1 if the file cannot be made.
    pub(crate) fn create(file: &Path) -> Result<Self, Failure> {
        let made = File::create(file)
            .map_err(|e| Failure::Failed(format!("{}: not writable: {e}", file.display())))?;
        Ok(Self(Mutex::new(BufWriter::new(made))))
    }

    /// Keeps what the answered message said. A needs message says nothing that is counted.
    ///
    /// # Errors
    /// [`std::io::Error`] if the file cannot be written.
    pub(crate) fn keep(&self, identity: &str, event: &Event) -> std::io::Result<()> {
        let micros = event.meter.at.timestamp_micros();
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = match event.kind {
            Kind::Needs => return Ok(()),
            Kind::Values => None,
            Kind::PluggedIn => Some('p'),
            Kind::Left => Some('u'),
        };
        if let Some(kind) = begins {
            writeln!(file, "{kind} {identity}/1 {micros}")?;
        }
        writeln!(file, "r {identity}/1 {micros}")
    }

    /// # Errors
    /// [`std::io::Error`] if the file cannot be written.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

/// What was said: kind, outlet, microseconds.
type Said = (char, String, i64);

/// Stations against the log.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// How often each was answered, and how often it is on the log.
    said: HashMap<Said, (u32, u32)>,
    setpoints: HashMap<String, DateTime<Utc>>,
    times: Times,
    outcomes: Outcomes,
}

/// What became of set-points.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    /// On the log.
    pub(crate) told: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) unreachable: u64,
}

/// The comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Balance {
    /// Telemetry that stations know to be taken.
    pub(crate) taken: u64,
    /// Of it, what is not on the log.
    pub(crate) lost: u64,
    /// On the log more often than it was taken: sent again because an answer was lost on the way.
    pub(crate) doubled: u64,
    /// Readings on the log that were never answered: in hand when the run ended.
    pub(crate) unanswered: u64,
    pub(crate) setpoints: Outcomes,
    /// From the append to the log to the end of the write to the socket.
    pub(crate) setpoint_log_to_socket: Quantiles,
}

impl Books {
    /// Adds what one generator process wrote down.
    ///
    /// # Errors
    /// Status 1 with the file and line.
    pub(crate) fn add_ledger(&mut self, file: &Path) -> Result<(), Failure> {
        let shown = file.display();
        let lines = File::open(file)
            .map(BufReader::new)
            .map_err(|e| Failure::Failed(format!("{shown}: not readable: {e}")))?
            .lines();
        for (number, line) in (1..).zip(lines) {
            let line = line.map_err(|e| Failure::Failed(format!("{shown}:{number}: {e}")))?;
            let Some(said) = parse(&line) else {
                return Err(Failure::Failed(format!(
                    "{shown}:{number}: met {line:?}, expected kind, outlet and microseconds"
                )));
            };
            self.said.entry(said).or_default().0 += 1;
        }
        Ok(())
    }

    /// Adds what is on the log of one server.
    ///
    /// # Errors
    /// Status 1 if it cannot be read.
    pub(crate) async fn add_log(&mut self, dir: &Path) -> Result<(), Failure> {
        let open = Store::open(dir).await;
        let store = open.map_err(|e| Failure::of("the server's log", &e))?;
        self.add_records(&store.log()).await
    }

    /// Adds what is on a log.
    ///
    /// # Errors
    /// Status 1 if it cannot be read.
    pub(crate) async fn add_records(&mut self, log: &Log) -> Result<(), Failure> {
        // Set-points first: answers refer to them.
        for topic in [topic::SETPOINTS, topic::READINGS] {
            let unread = |e| Failure::of("the server's log", &e);
            let newest = log.newest(topic).await.map_err(unread)?;
            let mut reader = log.replay(topic, &Position::default()).map_err(unread)?;
            while !reader.position().covers(&newest) {
                for record in reader.next_batch(BATCH).await.map_err(unread)? {
                    if topic == topic::SETPOINTS {
                        self.setpoint(&record)?;
                    } else {
                        self.telemetry(&record)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn setpoint(&mut self, record: &store::Record) -> Result<(), Failure> {
        let message = wire::decode::<dispatch::Setpoint>(&record.payload);
        let setpoint = message
            .and_then(Setpoint::try_from)
            .map_err(|e| Failure::of("a set-point on the log", &e))?;
        self.outcomes.told += 1;
        self.setpoints
            .insert(setpoint.id.to_string(), record.appended_at);
        Ok(())
    }

    fn telemetry(&mut self, record: &store::Record) -> Result<(), Failure> {
        let message = wire::decode::<telemetry::Telemetry>(&record.payload);
        let told = message
            .and_then(Telemetry::try_from)
            .map_err(|e| Failure::of("telemetry on the log", &e))?;
        let (kind, evse, at) = match &told {
            Telemetry::Reading(reading) => ('r', &reading.evse, reading.at),
            Telemetry::PluggedIn { evse, at, .. } => ('p', evse, *at),
            Telemetry::Unplugged { evse, at, .. } => ('u', evse, *at),
            Telemetry::Acknowledged(answer) => {
                self.answered(answer);
                return Ok(());
            }
            Telemetry::Connection { .. } | Telemetry::Needs { .. } => return Ok(()),
        };
        let said = (kind, evse.to_string(), at.timestamp_micros());
        self.said.entry(said).or_default().1 += 1;
        Ok(())
    }

    fn answered(&mut self, answer: &fleet::Acknowledgement) {
        match answer.outcome {
            Outcome::Accepted => self.outcomes.accepted += 1,
            Outcome::Rejected => self.outcomes.rejected += 1,
            Outcome::Unreachable => self.outcomes.unreachable += 1,
        }
        let appended = self.setpoints.get(answer.setpoint.as_str());
        if let (Some(appended), Outcome::Accepted) = (appended, answer.outcome) {
            let took = (answer.sent_at - *appended).max(TimeDelta::zero());
            self.times.add(took.to_std().unwrap_or_default());
        }
    }

    /// Stations against the log.
    pub(crate) fn balance(&self) -> Balance {
        let mut balance = Balance {
            taken: 0,
            lost: 0,
            doubled: 0,
            unanswered: 0,
            setpoints: self.outcomes,
            setpoint_log_to_socket: self.times.quantiles(),
        };
        for ((kind, ..), (answered, logged)) in &self.said {
            balance.taken += u64::from(*answered);
            if *answered == 0 {
                // A stay may be told to have begun by a message in its middle, where nobody remembers its beginning.
                balance.unanswered += u64::from(*kind == 'r');
                continue;
            }
            if *logged == 0 {
                balance.lost += 1;
            }
            balance.doubled += u64::from(logged.saturating_sub(*answered));
        }
        balance
    }
}

fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    let kind = words.next()?.chars().next()?;
    let outlet = words.next()?.to_owned();
    let micros = words.next()?.parse().ok()?;
    Some((kind, outlet, micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlet::Outlet;
    use fleet::Reading;
    use store::NewRecord;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn event(seconds: i64) -> Event {
        let mut outlet = Outlet::new(at(0));
        outlet.advance(at(seconds));
        Event {
            kind: Kind::Values,
            meter: outlet.meter(),
            stay: 1,
            since: at(0),
            sequence: 1,
        }
    }

    fn record(seconds: i64) -> NewRecord {
        let reading = Telemetry::Reading(Reading {
            evse: "load-1/1".parse().unwrap(),
            session: None,
            at: at(seconds),
            power: None,
            import_register: None,
            export_register: None,
            soc: None,
        });
        NewRecord {
            topic: topic::READINGS,
            key: reading.key().to_owned(),
            payload: wire::encode(&telemetry::Telemetry::from(&reading)),
        }
    }

    #[tokio::test]
    async fn what_is_missing_doubled_or_unanswered_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ledger");
        let ledger = Ledger::create(&file).unwrap();
        for seconds in [10, 20, 30] {
            ledger.keep("load-1", &event(seconds)).unwrap();
        }
        ledger.flush().unwrap();
        {
            let store = Store::open(dir.path()).await.unwrap();
            // 20 is missing, 30 is there twice, nobody answered 40.
            let records = [10, 30, 30, 40].map(record).to_vec();
            store.log().append(records).await.unwrap();
        }
        let mut books = Books::default();
        books.add_ledger(&file).unwrap();
        books.add_log(dir.path()).await.unwrap();
        let balance = books.balance();
        assert_eq!(
            (
                balance.taken,
                balance.lost,
                balance.doubled,
                balance.unanswered
            ),
            (3, 1, 1, 1)
        );
    }
}
