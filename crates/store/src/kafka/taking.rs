//! Partitions that a reader of a group was given: where it begins in them.

use std::sync::Arc;

use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::reader::Reader;
use super::{ANSWER_WITHIN, Kafka, admin, blocking, broker, id, locked, reading};
use crate::error::{LogError, StoreError};
use crate::{Position, Topic, progress};

/// What it takes to ask.
pub(super) struct Taking {
    pub(super) log: Kafka,
    pub(super) topic: Topic,
    pub(super) name: String,
    pub(super) group: String,
    pub(super) consumer: Arc<Reader>,
}

impl Taking {
    /// Asks the tables where partitions begin, each as it was given ([`super::context::Held::fresh`]): whoever held them before has stored
    /// their effects up to there, perhaps further than Kafka was told.
    pub(super) async fn take(&self, fresh: &[(u32, u64)]) -> Result<(), LogError> {
        let told = self.told_to_kafka(fresh).await?;
        for (partition, given) in fresh {
            let taken = progress::take(&self.log.0.tables, self.topic, &self.group, *partition);
            let taken = taken.await.map_err(|error| reading(self.topic, error))?;
            if taken.committed > 0 {
                self.is_there(taken).await?;
            }
            let mut held = locked(&self.consumer.context().held);
            // It may have been given back meanwhile; whoever has it now takes it with a higher epoch, and so do we if it came back.
            let part = held.parts.get_mut(partition);
            if let Some(part) = part.filter(|part| part.given == *given) {
                part.fresh = false;
                let begins = taken.committed.max(told.of(*partition));
                part.position = part.position.max(begins);
                part.begins = part.begins.max(begins);
                let key = (self.topic, self.group.clone(), *partition);
                locked(&self.log.0.held).epochs.insert(key, taken.epoch);
            }
        }
        Ok(())
    }

    /// What the group committed to Kafka of `partitions`.
    async fn told_to_kafka(&self, fresh: &[(u32, u64)]) -> Result<Position, LogError> {
        let mut list = TopicPartitionList::new();
        for (partition, _) in fresh {
            list.add_partition(&self.name, id(*partition));
        }
        let asked = Arc::clone(&self.consumer);
        let ask = move || asked.committed_offsets(list.clone(), ANSWER_WITHIN);
        let answer = blocking(move || admin::patiently(ask)).await;
        let list = answer.map_err(|error| reading(self.topic, error))?;
        let list =
            list.map_err(|refused| reading(self.topic, broker("committed offsets")(refused)))?;
        Ok(admin::named(&list))
    }

    /// A log that ends before what the tables have handled is not the log that they have handled: skipping up to there would
    /// lose records.
    async fn is_there(&self, taken: progress::Taken) -> Result<(), LogError> {
        let (asked, name) = (Arc::clone(&self.consumer), self.name.clone());
        let ends = blocking(move || admin::ends(asked.client(), &name, taken.partition));
        let ends = ends.await.map_err(|error| reading(self.topic, error))?;
        let (_, end) =
            ends.map_err(|error| reading(self.topic, broker("ends of a topic")(error)))?;
        if end >= taken.committed {
            return Ok(());
        }
        Err(reading(
            self.topic,
            StoreError::Rewritten {
                topic: self.topic,
                partition: taken.partition,
                group: self.group.clone(),
                handled: taken.committed,
                end,
            },
        ))
    }
}
