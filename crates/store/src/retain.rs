//! Retention: what is looked up beside the writer, and taken by it in small pieces, so that an append never waits long.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::Topic;
use crate::change::{Change, Forgotten};
use crate::database::{Pool, sql};
use crate::embedded::apply;
use crate::error::{StoreError, db};
use crate::topic::Retention;
use crate::writer::{Job, to_i64};

/// Records appended to a topic between two rounds.
const EVERY: u64 = 10_000;

/// Records that one transaction takes: some milliseconds.
const AT_ONCE: u64 = 1_000;

/// Starts rounds of retention when topics have grown.
pub(crate) struct Retainer {
    rule: fn(&str) -> Retention,
    readers: Pool,
    /// Weak: retention alone does not keep the writer alive.
    jobs: mpsc::WeakSender<Job>,
    last: HashMap<Topic, u64>,
}

impl Retainer {
    pub(crate) fn new(
        rule: fn(&str) -> Retention,
        readers: Pool,
        jobs: mpsc::WeakSender<Job>,
    ) -> Self {
        Self {
            rule,
            readers,
            jobs,
            last: HashMap::new(),
        }
    }

    /// `topic` has records up to `newest`: starts a round if enough came since the last one.
    pub(crate) fn grown(&mut self, topic: Topic, newest: u64) {
        let last = self.last.entry(topic).or_insert(newest);
        if newest < *last + EVERY {
            return;
        }
        *last = newest;
        let Some(jobs) = self.jobs.upgrade() else {
            return;
        };
        let (rule, readers) = ((self.rule)(topic.name()), self.readers.clone());
        tokio::spawn(async move {
            if let Err(error) = round(topic, newest, rule, &readers, &jobs).await {
                tracing::warn!(topic = %topic, error = %error, "retention of topic {topic} was refused, it is tried again later");
            }
        });
    }
}

async fn round(
    topic: Topic,
    newest: u64,
    rule: Retention,
    readers: &Pool,
    jobs: &mpsc::Sender<Job>,
) -> Result<(), StoreError> {
    let (last, kept) = match rule {
        Retention::Newest(kept) => (newest.saturating_sub(kept), Vec::new()),
        Retention::LatestPerKey { grace } => {
            let last = newest.saturating_sub(grace);
            (last, newest_per_key(topic, last, readers).await?)
        }
    };
    let Some(first) = oldest(topic, readers).await? else {
        return Ok(());
    };
    for piece in pieces(topic, first, last, &kept) {
        apply(jobs, Change::default().forget([piece])).await?;
    }
    Ok(())
}

async fn oldest(topic: Topic, readers: &Pool) -> Result<Option<u64>, StoreError> {
    let oldest =
        sql("SELECT MIN(log_offset) AS oldest FROM log WHERE topic = $1").bind(topic.name());
    let what = db("oldest record");
    let oldest: Option<i64> = match readers.fetch(oldest).await {
        Ok(rows) => rows.first().map_or(Ok(None), |row| row.get("oldest")),
        Err(refused) => Err(refused),
    }
    .map_err(what)?;
    Ok(oldest.map(i64::unsigned_abs))
}

/// Offsets up to `last` that are the newest of their key, rising.
async fn newest_per_key(topic: Topic, last: u64, readers: &Pool) -> Result<Vec<u64>, StoreError> {
    let kept = sql(
        "SELECT MAX(log_offset) AS newest FROM log WHERE topic = $1 GROUP BY record_key \
         HAVING MAX(log_offset) <= $2 ORDER BY newest",
    )
    .bind(topic.name())
    .bind(to_i64(last));
    let rows = readers.fetch(kept).await;
    let kept: Result<Vec<i64>, sqlx::Error> =
        rows.and_then(|rows| rows.iter().map(|row| row.get("newest")).collect());
    let kept = kept.map_err(db("newest record of each key"))?;
    Ok(kept.into_iter().map(i64::unsigned_abs).collect())
}

/// What lies between `first` and `last` and around `kept`, in pieces of bounded size.
fn pieces(topic: Topic, first: u64, last: u64, kept: &[u64]) -> Vec<Forgotten> {
    let mut pieces = Vec::new();
    let mut from = first;
    for until in kept.iter().copied().chain([last + 1]) {
        while from < until {
            let to = (from + AT_ONCE - 1).min(until - 1);
            pieces.push(Forgotten {
                topic,
                first: from,
                last: to,
            });
            from = to + 1;
        }
        from = from.max(until + 1);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_cover_everything_but_what_is_kept_once(
            first in 1_u64..3_000,
            length in 0_u64..6_000,
            kept in prop::collection::btree_set(1_u64..9_000, 0..20),
        ) {
            let last = first + length;
            let kept: Vec<u64> = kept.into_iter().filter(|k| *k <= last).collect();
            let topic = Topic::new("t");
            let mut taken = Vec::new();
            for piece in pieces(topic, first, last, &kept) {
                prop_assert!(piece.first <= piece.last && piece.last - piece.first < AT_ONCE);
                taken.extend(piece.first..=piece.last);
            }
            let expected: Vec<u64> = (first..=last).filter(|o| !kept.contains(o)).collect();
            prop_assert_eq!(taken, expected);
        }
    }
}
