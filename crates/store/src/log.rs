//! The event log: append, subscribe, commit; kept by Kafka or by the tables' own database.

use crate::error::LogError;
use crate::kafka::{self, Kafka};
use crate::{NewRecord, Position, Record, Topic, embedded};

/// The event log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log(Kept);

#[derive(Debug, Clone)]
enum Kept {
    Embedded(embedded::Log),
    Kafka(Kafka),
}

impl From<embedded::Log> for Log {
    fn from(log: embedded::Log) -> Self {
        Self(Kept::Embedded(log))
    }
}

impl From<Kafka> for Log {
    fn from(log: Kafka) -> Self {
        Self(Kept::Kafka(log))
    }
}

impl Log {
    /// Appends `records`; those of one key stay in their order. What is appended when this returns survives the death of the
    /// process (over Kafka: of all but the last in-sync broker). A caller that stops waiting does not know whether they
    /// were appended.
    ///
    /// # Errors
    /// [`LogError::Append`]. The embedded log then holds none of them; Kafka may hold some: appending all of them again is
    /// safe for readers that know a record by its id.
    pub async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        match &self.0 {
            Kept::Embedded(log) => log.append(records).await,
            Kept::Kafka(log) => log.append(&records).await,
        }
    }

    /// Reads `topic` on from what `group` committed, from the oldest record left if it never did. Over Kafka, subscriptions of one
    /// group share the partitions of the topic; when one ends or stops reading, the others take over its share.
    ///
    /// # Errors
    /// [`LogError::Read`] if the committed offset cannot be read.
    pub async fn subscribe(&self, topic: Topic, group: &str) -> Result<Subscription, LogError> {
        Ok(Subscription(match &self.0 {
            Kept::Embedded(log) => Reader::Embedded(log.subscribe(topic, group).await?),
            Kept::Kafka(log) => Reader::Kafka(Box::new(log.subscribe(topic, group)?)),
        }))
    }

    /// Reads the whole of `topic` from now on, for no group: what is appended after this returns is read.
    ///
    /// # Errors
    /// [`LogError::Read`] if the end of the topic cannot be asked for.
    pub async fn tail(&self, topic: Topic) -> Result<Subscription, LogError> {
        Ok(Subscription(match &self.0 {
            Kept::Embedded(log) => Reader::Embedded(log.tail(topic)),
            Kept::Kafka(log) => {
                let newest = log.newest(topic).await?;
                Reader::Kafka(Box::new(log.replay(topic, &newest)?))
            }
        }))
    }

    /// Reads the whole of `topic` from the records after `from` (the default: the oldest left), for no group.
    ///
    /// # Errors
    /// [`LogError::Read`] if no reader can be made.
    pub fn replay(&self, topic: Topic, from: &Position) -> Result<Subscription, LogError> {
        Ok(Subscription(match &self.0 {
            Kept::Embedded(log) => Reader::Embedded(log.replay(topic, from)),
            Kept::Kafka(log) => Reader::Kafka(Box::new(log.replay(topic, from)?)),
        }))
    }

    /// Where `topic` ends: the newest record of each partition, or the last one that there was.
    ///
    /// # Errors
    /// [`LogError::Read`] if Kafka cannot be asked.
    pub async fn newest(&self, topic: Topic) -> Result<Position, LogError> {
        match &self.0 {
            Kept::Embedded(log) => Ok(Position::at(embedded::PARTITION, log.newest(topic))),
            Kept::Kafka(log) => log.newest(topic).await,
        }
    }

    /// Where what is left of `topic` begins: of each partition the record before the oldest one; its newest where none is left.
    ///
    /// # Errors
    /// [`LogError::Read`] if it cannot be asked for.
    pub async fn beginning(&self, topic: Topic) -> Result<Position, LogError> {
        match &self.0 {
            Kept::Embedded(log) => {
                let before = log.beginning(topic).await?;
                Ok(Position::at(embedded::PARTITION, before))
            }
            Kept::Kafka(log) => log.beginning(topic).await,
        }
    }

    /// Offset and key of the records of `topic` that are not as they were written. Of Kafka none is told: it checks each batch by
    /// itself.
    ///
    /// # Errors
    /// [`LogError::Read`] if the topic cannot be read.
    pub async fn damaged(&self, topic: Topic) -> Result<Vec<(u64, String)>, LogError> {
        match &self.0 {
            Kept::Embedded(log) => log.damaged(topic).await,
            Kept::Kafka(_) => Ok(Vec::new()),
        }
    }

    /// Up to and with where `group` has handled `topic`.
    ///
    /// # Errors
    /// [`LogError::Read`] if it cannot be read.
    pub async fn committed(&self, topic: Topic, group: &str) -> Result<Position, LogError> {
        match &self.0 {
            Kept::Embedded(log) => {
                let offset = log.committed(topic, group).await?;
                Ok(Position::at(embedded::PARTITION, offset))
            }
            Kept::Kafka(log) => log.committed(topic, group).await,
        }
    }
}

/// One reader of one topic.
#[derive(Debug)]
pub struct Subscription(Reader);

#[derive(Debug)]
enum Reader {
    Embedded(embedded::Subscription),
    Kafka(Box<kafka::Subscription>),
}

impl Subscription {
    /// The next records, at least one and at most `max` (at least 1), those of each partition in order; waits until there is
    /// one. May be dropped while waiting: no record is lost.
    ///
    /// A broker that is away is waited for. Records of a partition that went to another reader of the group meanwhile are not
    /// handed out.
    ///
    /// # Errors
    /// [`LogError::Read`]; the same records are read by the next call.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        match &mut self.0 {
            Reader::Embedded(reader) => reader.next_batch(max.max(1)).await,
            Reader::Kafka(reader) => reader.next_batch(max.max(1)).await,
        }
    }

    /// Says that everything up to and with `position` has had its effect. An older offset than before changes nothing, nor does
    /// one of a partition that went to another reader of the group: that one meets those records again.
    ///
    /// On Kafka, while the group shares out its partitions anew, it may take effect later: with the next, or before a partition goes. A
    /// process that ends before then meets those records again.
    ///
    /// # Errors
    /// [`LogError::Commit`] if it could not be stored, [`LogError::NoGroup`] without a group.
    pub async fn commit(&mut self, position: &Position) -> Result<(), LogError> {
        match &mut self.0 {
            Reader::Embedded(reader) => reader.commit(position).await,
            Reader::Kafka(reader) => reader.commit(position).await,
        }
    }

    /// The last records handed out (at first, those committed). Over Kafka, of the partitions that this reader holds.
    #[must_use]
    pub fn position(&self) -> Position {
        match &self.0 {
            Reader::Embedded(reader) => Position::at(embedded::PARTITION, reader.position()),
            Reader::Kafka(reader) => reader.position(),
        }
    }

    /// Records appended and not yet handed out. Over Kafka, of the partitions that this reader holds and as far as it has heard:
    /// it is told every second.
    #[must_use]
    pub fn lag(&self) -> u64 {
        match &self.0 {
            Reader::Embedded(reader) => reader.lag(),
            Reader::Kafka(reader) => reader.lag(),
        }
    }
}
