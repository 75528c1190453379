//! The newest records of each topic in memory, and the wake-up of their readers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;

use crate::{Record, Topic};

/// Records of one topic kept in memory: readers this close to the head never ask the database.
const TAIL_RECORDS: usize = 16_384;

/// Payload bytes of one topic kept in memory.
const TAIL_BYTES: usize = 16 * 1024 * 1024;

/// Newest records of one topic.
#[derive(Debug)]
pub(crate) struct Head {
    tail: Mutex<Tail>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
}

/// What the tail holds after some offset.
#[derive(Debug)]
pub(crate) enum Hot {
    /// These records follow directly; empty if there are none yet.
    Records(Vec<Record>),
    /// The tail starts later: older records are in the database, up to but not including this offset.
    StartsAt(u64),
}

impl Head {
    fn new(newest: u64) -> Self {
        Self {
            tail: Mutex::default(),
            newest: watch::Sender::new(newest),
        }
    }

    /// Newest offset given out and committed; 0 if none.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Sees every later change of [`Head::newest`].
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Takes in committed records, in order of offset, and wakes readers.
    fn push(&self, records: impl IntoIterator<Item = Record>) {
        let mut newest = self.newest();
        {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            for record in records {
                newest = record.offset;
                tail.bytes += record.payload.len();
                tail.records.push_back(record);
                while tail.records.len() > TAIL_RECORDS || tail.bytes > TAIL_BYTES {
                    let Some(oldest) = tail.records.pop_front() else {
                        break;
                    };
                    tail.bytes -= oldest.payload.len();
                }
            }
        }
        self.newest.send_replace(newest);
    }

    /// Another writer has given out offsets up to `newest`: its records are in the database, not here.
    fn advance(&self, newest: u64) {
        if newest > self.newest() {
            *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Tail::default();
            self.newest.send_replace(newest);
        }
    }

    /// At most `max` records after `offset`.
    pub(crate) fn after(&self, offset: u64, max: usize) -> Hot {
        let newest = self.newest();
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        match tail.records.front() {
            Some(oldest) if oldest.offset > offset + 1 => Hot::StartsAt(oldest.offset),
            None if newest > offset => Hot::StartsAt(newest + 1),
            _ => {
                let from = tail.records.partition_point(|r| r.offset <= offset);
                Hot::Records(tail.records.iter().skip(from).take(max).cloned().collect())
            }
        }
    }
}

/// Heads of all topics.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    heads: RwLock<HashMap<String, Arc<Head>>>,
}

impl Heads {
    /// Head of `topic`; a new topic is empty.
    pub(crate) fn of(&self, topic: Topic) -> Arc<Head> {
        let known = {
            let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
            heads.get(topic.name()).cloned()
        };
        known.unwrap_or_else(|| {
            let mut heads = self.heads.write().unwrap_or_else(PoisonError::into_inner);
            heads
                .entry(topic.name().to_owned())
                .or_insert_with(|| Arc::new(Head::new(0)))
                .clone()
        })
    }

    /// Takes in what is stored: topic and newest offset.
    pub(crate) fn advance(&self, stored: impl IntoIterator<Item = (String, u64)>) {
        for (topic, newest) in stored {
            let head = {
                let mut heads = self.heads.write().unwrap_or_else(PoisonError::into_inner);
                heads
                    .entry(topic)
                    .or_insert_with(|| Arc::new(Head::new(0)))
                    .clone()
            };
            head.advance(newest);
        }
    }

    /// Takes in committed records of any topics, each topic's in order of offset.
    pub(crate) fn push(&self, records: Vec<Record>) {
        let mut by_topic: Vec<(Topic, Vec<Record>)> = Vec::new();
        for record in records {
            match by_topic
                .iter_mut()
                .find(|(topic, _)| *topic == record.topic)
            {
                Some((_, same)) => same.push(record),
                None => by_topic.push((record.topic, vec![record])),
            }
        }
        for (topic, records) in by_topic {
            self.of(topic).push(records);
        }
    }
}
