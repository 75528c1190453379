//! How far groups are, in the tables: what a group commits together with rows.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;

use crate::change::Commit;
use crate::database::{Pool, Row, Transaction, Values, sql};
use crate::error::{StoreError, db};
use crate::upsert::Upsert;
use crate::writer::to_i64;
use crate::{Position, Topic};

/// A partition as its holder took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) partition: u32,
    /// Offset up to which earlier holders have stored what follows from it.
    pub(crate) committed: u64,
    /// Number of this holder.
    pub(crate) epoch: i64,
}

/// Where `group` stands in `topic`.
pub(crate) async fn stored(
    readers: &Pool,
    topic: Topic,
    group: &str,
) -> Result<Position, StoreError> {
    let stored = sql(
        "SELECT partition_id, committed FROM log_position WHERE topic = $1 AND group_name = $2",
    )
    .bind(topic.name())
    .bind(group.to_owned());
    let rows = readers.fetch(stored).await;
    let mut position = Position::default();
    for row in rows.map_err(db("committed offset"))? {
        let (partition, committed) = (number(&row, "partition_id")?, number(&row, "committed")?);
        position.advance(
            u32::try_from(partition).unwrap_or(u32::MAX),
            committed.unsigned_abs(),
        );
    }
    Ok(position)
}

fn number(row: &Row, column: &str) -> Result<i64, StoreError> {
    row.get(column).map_err(db("committed offset"))
}

/// Takes a partition for a new holder: whoever held it before cannot commit any more.
pub(crate) async fn take(
    writer: &Pool,
    topic: Topic,
    group: &str,
    partition: u32,
) -> Result<Taken, StoreError> {
    let take = sql(
        "INSERT INTO log_position (topic, partition_id, group_name, committed, epoch) VALUES ($1, $2, $3, 0, 1) \
         ON CONFLICT (topic, partition_id, group_name) DO UPDATE SET epoch = log_position.epoch + 1 \
         RETURNING committed, epoch",
    )
    .bind(topic.name())
    .bind(i64::from(partition))
    .bind(group.to_owned());
    let what = db("taking of a partition");
    let row = match writer.fetch(take).await {
        Ok(rows) => rows.into_iter().next(),
        Err(refused) => return Err(what(refused)),
    };
    let row = row.ok_or(sqlx::Error::RowNotFound).map_err(what)?;
    Ok(Taken {
        partition,
        committed: number(&row, "committed")?.unsigned_abs(),
        epoch: number(&row, "epoch")?,
    })
}

const COMMITTED: Upsert = Upsert::new(
    "log_position",
    &["topic", "partition_id", "group_name", "committed", "epoch"],
    &["topic", "partition_id", "group_name"],
)
.versioned("committed");

/// Commits what only this process reads.
pub(crate) async fn commit(to: &mut Transaction, commit: &Commit) -> Result<(), StoreError> {
    let row = |(partition, offset)| {
        Values::of(5)
            .bind(commit.topic.name())
            .bind(i64::from(partition))
            .bind(commit.group.as_str())
            .bind(to_i64(offset))
            .bind(0_i64)
    };
    let rows: Vec<_> = commit.position.partitions().map(row).collect();
    to.insert(&COMMITTED, rows)
        .await
        .map_err(db("commit of an offset"))
}

/// Commits what is held since `epoch`; [`StoreError::Fenced`] if somebody else has taken it.
pub(crate) async fn commit_held(
    to: &mut Transaction,
    commit: &Commit,
    epoch: impl Fn(u32) -> Option<i64>,
) -> Result<(), StoreError> {
    let fenced = |partition| StoreError::Fenced {
        topic: commit.topic,
        partition,
        group: commit.group.clone(),
    };
    let mut held = Vec::new();
    for (partition, offset) in commit.position.partitions() {
        let epoch = epoch(partition).ok_or_else(|| fenced(partition))?;
        held.push((partition, offset, epoch));
    }
    if held.is_empty() || advance(to, commit, &held).await? == held.len() as u64 {
        return Ok(());
    }
    // Nothing of the transaction stays: it is only asked which partition it was.
    for one in held {
        if advance(to, commit, &[one]).await? == 0 {
            return Err(fenced(one.0));
        }
    }
    Ok(())
}

/// Moves partitions on to their offsets where they are held since their epochs; answers how many are.
async fn advance(
    to: &mut Transaction,
    commit: &Commit,
    held: &[(u32, u64, i64)],
) -> Result<u64, StoreError> {
    let mut text = "UPDATE log_position SET committed = \
         CASE WHEN committed < held.column2 THEN held.column2 ELSE committed END FROM (VALUES "
        .to_owned();
    for n in 0..held.len() {
        let comma = if n == 0 { "" } else { ", " };
        let first = 3 * n + 3;
        // Writing to a String cannot end in an error.
        let _ = write!(text, "{comma}(${first}, ${}, ${})", first + 1, first + 2);
    }
    text += ") AS held WHERE topic = $1 AND group_name = $2 \
         AND partition_id = held.column1 AND epoch = held.column3";
    let mut update = sql(AssertSqlSafe(text))
        .bind(commit.topic.name())
        .bind(commit.group.clone());
    for (partition, offset, epoch) in held {
        update = update
            .bind(i64::from(*partition))
            .bind(to_i64(*offset))
            .bind(*epoch);
    }
    to.execute(update).await.map_err(db("commit of an offset"))
}
