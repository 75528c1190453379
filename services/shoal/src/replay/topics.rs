//! Topics of the log, read once from their beginning.

use std::collections::{BTreeMap, VecDeque};

use store::{Log, LogError, Position, Record, Subscription, Topic};
use wire::proto::dispatch::v1::Read;

/// Records fetched at a time.
const BATCH: usize = 4_096;

/// One topic, record by record; it ends where the topic ended when it was opened.
pub(super) struct Topics {
    topic: Topic,
    reader: Subscription,
    end: Position,
    read: Position,
    /// Fetched and not handed out, by partition.
    ahead: BTreeMap<u32, VecDeque<Record>>,
    /// Offset of the last record handed out, by partition.
    handed: Position,
}

/// What was asked for is not there any more, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) topic: Topic,
    pub(super) after: u64,
    pub(super) before: u64,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            topic,
            after,
            before,
        } = self;
        write!(
            f,
            "records of {topic} between offsets {after} and {before} are no longer kept"
        )
    }
}

impl Topics {
    /// From the records after `from`.
    pub(super) async fn open(log: &Log, topic: Topic, from: &Position) -> Result<Self, LogError> {
        Ok(Self {
            topic,
            end: log.newest(topic).await?,
            reader: log.replay(topic, from)?,
            read: from.clone(),
            handed: from.clone(),
            ahead: BTreeMap::new(),
        })
    }

    /// The next records of every partition, those of each in order; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        if self.read.covers(&self.end) {
            return Ok(Vec::new());
        }
        let batch = self.reader.next_batch(BATCH).await?;
        self.read.join(&Position::after(&batch));
        Ok(batch)
    }

    /// Every record up to the end.
    pub(super) async fn all(mut self) -> Result<Vec<Record>, LogError> {
        let mut all = Vec::new();
        loop {
            let batch = self.next().await?;
            if batch.is_empty() {
                return Ok(all);
            }
            all.extend(batch);
        }
    }

    /// The records up to `position` that were not handed out before; the second is what of them is missing.
    pub(super) async fn up_to(
        &mut self,
        position: &[Read],
    ) -> Result<(Vec<Record>, Option<Gone>), LogError> {
        let (mut found, mut gone) = (Vec::new(), None);
        for Read { partition, offset } in position {
            while self.read.of(*partition) < *offset {
                let batch = self.next().await?;
                if batch.is_empty() {
                    break;
                }
                for record in batch {
                    let ahead = self.ahead.entry(record.partition).or_default();
                    ahead.push_back(record);
                }
            }
            let ahead = self.ahead.entry(*partition).or_default();
            while ahead.front().is_some_and(|record| record.offset <= *offset) {
                let last = self.handed.of(*partition);
                found.extend(ahead.pop_front().inspect(|record| {
                    if record.offset > last + 1 {
                        gone = gone.take().or(Some(Gone {
                            topic: self.topic,
                            after: last,
                            before: record.offset,
                        }));
                    }
                    self.handed.advance(record.partition, record.offset);
                }));
            }
            let last = self.handed.of(*partition);
            if last < *offset {
                gone = gone.or(Some(Gone {
                    topic: self.topic,
                    after: last,
                    before: offset + 1,
                }));
                self.handed.advance(*partition, *offset);
            }
        }
        Ok((found, gone))
    }
}
