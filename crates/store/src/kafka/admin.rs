//! Topics of the cluster: made, counted, checked.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::Quiet;
use super::{ANSWER_WITHIN, KafkaOptions, blocking, broker, id};
use crate::error::StoreError;
use crate::topic::{Lifetime, Spec, Spread};
use crate::{Position, Topic};

/// Bytes of a batch beside the largest payload: key, headers of record and batch, and what compression may add.
pub(super) const OVERHEAD: u32 = 512 * 1024;

/// Wait before the cluster is asked again whether a topic that was made is there.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A topic as [`crate::migrate`] found or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFound {
    /// Which.
    pub topic: Topic,
    /// Partitions that it has.
    pub partitions: u32,
    /// False if it was there before.
    pub made: bool,
}

/// Makes the topics that are missing; answers all, in the order of their declaration.
///
/// # Errors
/// [`StoreError::Kafka`] if the cluster refuses, [`StoreError::Topics`] if a topic that was there has too few partitions.
pub(crate) async fn made(options: &KafkaOptions) -> Result<Vec<TopicFound>, StoreError> {
    let admin: AdminClient<Quiet> = options
        .client()
        .create_with_context(Quiet::default())
        .map_err(broker("client for topics"))?;
    let (admin, before) = found(admin, options.clone()).await?;
    let missing: Vec<&Spec> = options
        .topics
        .iter()
        .filter(|spec| !before.contains_key(&spec.topic))
        .collect();
    if !missing.is_empty() {
        make(&admin, options, &missing).await?;
    }
    let mut client = admin;
    let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
    let after = loop {
        let (again, after) = found(client, options.clone()).await?;
        client = again;
        if after.len() == options.topics.len() || tokio::time::Instant::now() > deadline {
            break after;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let partitions = checked(options, &after)?;
    let topics = options.topics.iter().filter_map(|spec| {
        Some(TopicFound {
            topic: spec.topic,
            partitions: *partitions.get(&spec.topic)?,
            made: !before.contains_key(&spec.topic),
        })
    });
    Ok(topics.collect())
}

async fn found(
    admin: AdminClient<Quiet>,
    options: KafkaOptions,
) -> Result<(AdminClient<Quiet>, HashMap<Topic, u32>), StoreError> {
    blocking(move || {
        let found = counted(admin.inner(), &options)?;
        Ok((admin, found))
    })
    .await?
}

async fn make(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    missing: &[&Spec],
) -> Result<(), StoreError> {
    let settings: Vec<(String, Vec<(&str, String)>)> = missing
        .iter()
        .map(|spec| (options.name(spec.topic), settings(spec, options)))
        .collect();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(spec, (name, settings))| {
            let copies = TopicReplication::Fixed(id(options.replication));
            let topic = NewTopic::new(name, id(wanted(spec, options)), copies);
            settings
                .iter()
                .fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let patience = AdminOptions::new()
        .request_timeout(Some(ANSWER_WITHIN))
        .operation_timeout(Some(ANSWER_WITHIN));
    let answers = admin
        .create_topics(&topics, &patience)
        .await
        .map_err(broker("making of topics"))?;
    for answer in answers {
        match answer {
            // Two migrations at once make the same.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, refused)) => {
                return Err(StoreError::Topic {
                    name,
                    source: Box::new(KafkaError::AdminOp(refused)),
                });
            }
        }
    }
    Ok(())
}

const fn wanted(spec: &Spec, options: &KafkaOptions) -> u32 {
    match spec.spread {
        Spread::One => 1,
        Spread::Wide => options.partitions,
    }
}

fn settings(spec: &Spec, options: &KafkaOptions) -> Vec<(&'static str, String)> {
    let in_sync = options.replication.saturating_sub(1).max(1);
    let mut settings = vec![
        ("min.insync.replicas", in_sync.to_string()),
        (
            "max.message.bytes",
            spec.largest.saturating_add(OVERHEAD).to_string(),
        ),
        // Stamps are the platform's clock; one far off shall not keep a segment for ever.
        ("message.timestamp.type", "CreateTime".to_owned()),
    ];
    match spec.lifetime {
        Lifetime::Days(days) => {
            let milliseconds = i64::from(days) * 24 * 60 * 60 * 1_000;
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", milliseconds.to_string()));
        }
        Lifetime::Ever => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", "-1".to_owned()));
            settings.push(("retention.bytes", "-1".to_owned()));
        }
        Lifetime::LatestPerKey { grace } => {
            let grace = grace.num_milliseconds().max(0);
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("min.compaction.lag.ms", grace.to_string()));
            // A segment is compacted once it is closed: as often as its records are old enough.
            settings.push(("segment.ms", grace.max(1_000).to_string()));
            // A reader that starts anew reads little more than one record per key.
            settings.push(("min.cleanable.dirty.ratio", "0.1".to_owned()));
        }
    }
    settings
}

/// Partitions of each declared topic that is there.
fn counted<C: ClientContext>(
    client: &Client<C>,
    options: &KafkaOptions,
) -> Result<HashMap<Topic, u32>, StoreError> {
    let metadata = client
        .fetch_metadata(None, ANSWER_WITHIN)
        .map_err(broker("list of topics"))?;
    let there: HashMap<&str, u32> = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .map(|topic| {
            let count = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
            (topic.name(), count)
        })
        .collect();
    Ok(options
        .topics
        .iter()
        .filter_map(|spec| {
            let count = there.get(options.name(spec.topic).as_str())?;
            Some((spec.topic, *count))
        })
        .collect())
}

/// Partitions of each declared topic, if all are there and none has too few.
pub(super) fn partitions<C: ClientContext>(
    client: &Client<C>,
    options: &KafkaOptions,
) -> Result<HashMap<Topic, u32>, StoreError> {
    checked(options, &counted(client, options)?)
}

fn checked(
    options: &KafkaOptions,
    found: &HashMap<Topic, u32>,
) -> Result<HashMap<Topic, u32>, StoreError> {
    let wrong: Vec<String> = options
        .topics
        .iter()
        .filter_map(|spec| {
            let (name, wanted) = (options.name(spec.topic), wanted(spec, options));
            match (found.get(&spec.topic), spec.spread) {
                (None, _) => Some(format!("{name} does not exist (shoal migrate makes it)")),
                (Some(has), Spread::Wide) if *has < wanted => Some(format!(
                    "{name} has {has} partitions, expected at least {wanted}"
                )),
                // More would break the order of the whole topic.
                (Some(has), Spread::One) if *has != 1 => {
                    Some(format!("{name} has {has} partitions, expected 1"))
                }
                (Some(_), _) => None,
            }
        })
        .collect();
    if wrong.is_empty() {
        Ok(found.clone())
    } else {
        Err(StoreError::Topics(wrong.join("; ")))
    }
}

/// Offsets of a partition: the one before the oldest record left, and that of the newest.
pub(super) fn ends<C: ClientContext>(
    client: &Client<C>,
    name: &str,
    partition: u32,
) -> Result<(u64, u64), KafkaError> {
    let (oldest, end) = patiently(|| client.fetch_watermarks(name, id(partition), ANSWER_WITHIN))?;
    Ok((oldest.max(0).unsigned_abs(), end.max(0).unsigned_abs()))
}

/// Asks until there is an answer, for as long as refusals are of the kind that passes: a topic that was just made, or a broker that just
/// came back, needs a moment until somebody leads the partition or looks after the group.
pub(super) fn patiently<T>(
    mut ask: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let deadline = std::time::Instant::now() + ANSWER_WITHIN;
    loop {
        match ask() {
            Err(error) if is_passing(&error) && std::time::Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN);
            }
            answered => return answered,
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

/// What a group committed to Kafka.
pub(super) fn committed(
    config: &ClientConfig,
    name: &str,
    partitions: u32,
) -> Result<Position, StoreError> {
    let consumer: BaseConsumer = config
        .create()
        .map_err(broker("client for committed offsets"))?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(name, 0, id(partitions.saturating_sub(1)));
    let list = patiently(|| consumer.committed_offsets(list.clone(), ANSWER_WITHIN));
    Ok(named(&list.map_err(broker("committed offsets"))?))
}

/// Offsets that a list names, as a position.
pub(super) fn named(list: &TopicPartitionList) -> Position {
    let mut position = Position::default();
    for element in list.elements() {
        if let Offset::Offset(next) = element.offset() {
            position.advance(element.partition().unsigned_abs(), next.unsigned_abs());
        }
    }
    position
}
