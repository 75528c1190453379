//! How far groups are, in the tables: what a group commits together with rows.

use sqlx::{SqliteConnection, SqlitePool};

use crate::change::Commit;
use crate::error::{StoreError, db};
use crate::upsert::{Bound, Upsert, insert};
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
    readers: &SqlitePool,
    topic: Topic,
    group: &str,
) -> Result<Position, StoreError> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT partition_id, committed FROM log_position WHERE topic = $1 AND group_name = $2",
    )
    .bind(topic.name())
    .bind(group.to_owned())
    .fetch_all(readers)
    .await
    .map_err(db("committed offset"))?;
    let mut position = Position::default();
    for (partition, committed) in rows {
        position.advance(
            u32::try_from(partition).unwrap_or(u32::MAX),
            committed.unsigned_abs(),
        );
    }
    Ok(position)
}

/// Takes a partition for a new holder: whoever held it before cannot commit any more.
pub(crate) async fn take(
    writer: &SqlitePool,
    topic: Topic,
    group: &str,
    partition: u32,
) -> Result<Taken, StoreError> {
    let (committed, epoch): (i64, i64) = sqlx::query_as(
        "INSERT INTO log_position (topic, partition_id, group_name, committed, epoch) VALUES ($1, $2, $3, 0, 1) \
         ON CONFLICT (topic, partition_id, group_name) DO UPDATE SET epoch = log_position.epoch + 1 \
         RETURNING committed, epoch",
    )
    .bind(topic.name())
    .bind(i64::from(partition))
    .bind(group.to_owned())
    .fetch_one(writer)
    .await
    .map_err(db("taking of a partition"))?;
    Ok(Taken {
        partition,
        committed: committed.unsigned_abs(),
        epoch,
    })
}

const COMMITTED: Upsert = Upsert {
    table: "log_position",
    columns: &["topic", "partition_id", "group_name", "committed", "epoch"],
    key: &["topic", "partition_id", "group_name"],
    only_if: Some("excluded.committed > log_position.committed"),
};

/// Commits what only this process reads.
pub(crate) async fn commit(to: &mut SqliteConnection, commit: &Commit) -> Result<(), StoreError> {
    let parts: Vec<(u32, u64)> = commit.position.partitions().collect();
    insert(
        to,
        &COMMITTED,
        &parts,
        |query: Bound, (partition, offset)| {
            query
                .bind(commit.topic.name())
                .bind(i64::from(*partition))
                .bind(commit.group.clone())
                .bind(to_i64(*offset))
                .bind(0_i64)
        },
    )
    .await
    .map_err(db("commit of an offset"))
}

/// Commits what is held since `epoch`; [`StoreError::Fenced`] if somebody else has taken it.
pub(crate) async fn commit_held(
    to: &mut SqliteConnection,
    commit: &Commit,
    epoch: impl Fn(u32) -> Option<i64>,
) -> Result<(), StoreError> {
    for (partition, offset) in commit.position.partitions() {
        let fenced = || StoreError::Fenced {
            topic: commit.topic,
            partition,
            group: commit.group.clone(),
        };
        let held = epoch(partition).ok_or_else(fenced)?;
        let done = sqlx::query(
            "UPDATE log_position SET committed = CASE WHEN committed < $1 THEN $1 ELSE committed END \
             WHERE topic = $2 AND partition_id = $3 AND group_name = $4 AND epoch = $5",
        )
        .bind(to_i64(offset))
        .bind(commit.topic.name())
        .bind(i64::from(partition))
        .bind(commit.group.clone())
        .bind(held)
        .execute(&mut *to)
        .await
        .map_err(db("commit of an offset"))?;
        if done.rows_affected() == 0 {
            return Err(fenced());
        }
    }
    Ok(())
}
