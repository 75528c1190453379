//! Where an earlier run stopped.
//!
//! ```text
//! log          ------s1------s2---s3--------committed------>
//! slice 1            |--- again ------------|               EVSEs of a slice were saved at its position, some of them later;
//! slice 2                     |--- again ---|               what came since had its effects and is only taken in again
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use fleet::EvseId;
use fleet::state::Rules;
use runtime::Clock;
use store::{Change, Log, LogError, Position, Record, Tables, Topic, topic};

use crate::fold::Fold;
use crate::held::{Held, Reached, SLICES, slice_key, slice_of};
use crate::{Error, GROUP, SLICES_GROUP, STATES_GROUP};

/// Records that are read at once.
const BATCH: usize = 10_000;

/// Wait for records that the log should have before it is asked whether it still does. A broker that is away is waited for.
const LOOK: Duration = Duration::from_secs(5);

/// The fold as of the last checkpoint.
pub(crate) async fn load(
    tables: &Tables,
    log: &Log,
    clock: &Clock,
    rules: Rules,
) -> Result<Fold, Error> {
    let mut fold = Fold::new(rules, tables.keeps_readings());
    let committed = Reached {
        readings: log.committed(topic::READINGS, GROUP).await?,
        setpoints: log.committed(topic::SETPOINTS, GROUP).await?,
    };
    let mut again = Again::read(tables, committed.clone()).await?;
    fold.reached = committed;
    for (slice, body) in tables.kept(STATES_GROUP).await? {
        fold.restore_slice(&slice, &body);
    }
    for (evse, body) in tables.kept(GROUP).await? {
        if let Some((evse, goes_on)) = fold.restore_alone(&evse, &body)
            && !goes_on
        {
            again.whole.insert(evse);
        }
    }
    let intervals = match fold.first_interval() {
        Some(first) => {
            let all = chrono::DateTime::<chrono::Utc>::MAX_UTC;
            tables.intervals_between(first, all).await?
        }
        None => Vec::new(),
    };
    fold.restore_intervals(&intervals);
    for evse in tables.evses().await? {
        if fold.state.get(&evse.id).is_none() {
            // Registered after the last checkpoint: what came for it before was refused.
            again.whole.insert(evse.id.clone());
        }
        fold.register(evse, clock.now());
    }
    let records = again.run(&mut fold, log).await?;
    fold.restore_intervals(&intervals);
    tracing::info!(
        evses = fold.state.iter().count(),
        records,
        "resumed the fleet from its last checkpoint, with {records} records taken in again"
    );
    Ok(fold)
}

/// What is taken in again.
struct Again {
    /// Position of each slice.
    slices: Vec<Reached>,
    committed: Reached,
    /// EVSEs that are as of what is committed.
    whole: HashSet<EvseId>,
}

impl Again {
    /// Positions of the slices; where one has none, everything was saved with the last checkpoint, and that is stored as its
    /// position before anything else happens.
    async fn read(tables: &Tables, committed: Reached) -> Result<Self, Error> {
        let kept: HashMap<String, String> = tables.kept(SLICES_GROUP).await?.into_iter().collect();
        let mut missing = Vec::new();
        let mut slices = Vec::with_capacity(SLICES);
        for slice in 0..SLICES {
            let key = slice_key(slice);
            let known = kept.get(&key).and_then(|text| Reached::parse(text).ok());
            if known.is_none() {
                missing.push((key, committed.text()));
            }
            slices.push(known.unwrap_or_else(|| committed.clone()));
        }
        tables
            .apply(Change::default().keep(SLICES_GROUP, missing))
            .await?;
        Ok(Self {
            slices,
            committed,
            whole: HashSet::new(),
        })
    }

    fn is_in(&self, evse: &EvseId, held: &Held, record: &Record) -> bool {
        held.seen.covers(record)
            || self.slices[slice_of(evse)].covers(record)
            || self.whole.contains(evse)
    }

    /// Reads what is between the oldest slice and what is committed. There is no order between topics: a set-point is taken in
    /// before the first reading of its EVSE that was appended later.
    async fn run(&self, fold: &mut Fold, log: &Log) -> Result<usize, LogError> {
        let mut waiting: HashMap<String, VecDeque<Record>> = HashMap::new();
        let mut records = 0;
        self.each(log, topic::SETPOINTS, |record| {
            let evse: Option<EvseId> = record.key.parse().ok();
            let held = evse.and_then(|evse| Some((fold.held(&evse)?, evse)));
            if held.is_some_and(|(held, evse)| !self.is_in(&evse, held, &record)) {
                records += 1;
                let same = waiting.entry(record.key.clone()).or_default();
                same.push_back(record);
            }
        })
        .await?;
        self.each(log, topic::READINGS, |record| {
            records += 1;
            if let Some(same) = waiting.get_mut(&record.key) {
                while let Some(told) =
                    same.pop_front_if(|told| told.appended_at <= record.appended_at)
                {
                    fold.setpoint_again(&told);
                }
            }
            fold.reading_again(&record, |evse, held| self.is_in(evse, held, &record));
        })
        .await?;
        for told in waiting.into_values().flatten() {
            fold.setpoint_again(&told);
        }
        Ok(records)
    }

    /// Hands out the records of `topic` from the oldest slice up to what is committed.
    async fn each(
        &self,
        log: &Log,
        topic: Topic,
        mut take: impl FnMut(Record),
    ) -> Result<(), LogError> {
        let committed = self.committed.of(topic);
        let oldest = self.oldest(topic);
        if oldest.covers(committed) {
            return Ok(());
        }
        let mut reader = log.replay(topic, &oldest)?;
        let mut gone = Position::default();
        loop {
            let mut position = reader.position();
            position.join(&gone);
            if position.covers(committed) {
                return Ok(());
            }
            let batch = tokio::time::timeout(LOOK, reader.next_batch(BATCH)).await;
            let Ok(batch) = batch else {
                gone = match log.beginning(topic).await {
                    Ok(beginning) => beginning,
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(topic = %topic, %error, "{topic} is waited for");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if !position.covers(&gone) {
                    tracing::error!(topic = %topic, "records of {topic} between {position} and {gone} are no longer on the log: what stations told in between and is not in a snapshot is lost");
                }
                continue;
            };
            for record in batch? {
                if record.offset <= committed.of(record.partition) {
                    take(record);
                }
            }
        }
    }

    /// Of each partition that has begun, the lowest position of a slice.
    fn oldest(&self, topic: Topic) -> Position {
        let mut oldest = Position::default();
        for (partition, offset) in self.committed.of(topic).partitions() {
            let slices = self.slices.iter().map(|slice| slice.of(topic));
            let lowest = slices.map(|position| position.of(partition)).min();
            oldest.advance(partition, lowest.unwrap_or(offset).min(offset));
        }
        oldest
    }
}
