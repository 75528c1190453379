//! Tables without a log: for those who only keep rows.

use std::sync::Arc;

use crate::change::Change;
use crate::database::{Pool, Uncommitted};
use crate::error::{StoreError, is_away};
use crate::outbox::away;
use crate::writer::Job;

/// Stores changes of rows.
pub(crate) struct Alone {
    pub(crate) pool: Pool,
}

impl Alone {
    /// Stores a group; if it is refused, each of its changes alone, so that one bad change harms no other.
    pub(crate) async fn serve(&self, group: Vec<Job>) {
        let changes: Vec<&Change> = group.iter().map(|job| &job.change).collect();
        let one = changes.len() == 1;
        match self.store(&changes).await {
            Ok(()) => {
                for job in group {
                    // A caller that gave up needs no answer.
                    let _ = job.answer.send(Ok(()));
                }
            }
            Err(StoreError::Unanswered { source }) => {
                for job in group {
                    let source = Arc::clone(&source);
                    let _ = job.answer.send(Err(StoreError::Unanswered { source }));
                }
            }
            Err(StoreError::Database { source, .. }) if is_away(&source) => away(group, source),
            Err(refused) if one => {
                for (job, refused) in group.into_iter().zip([refused]) {
                    let _ = job.answer.send(Err(refused));
                }
            }
            Err(_) => {
                for job in group {
                    let stored = self.store(&[&job.change]).await;
                    let _ = job.answer.send(stored);
                }
            }
        }
    }

    async fn store(&self, changes: &[&Change]) -> Result<(), StoreError> {
        let started = std::time::Instant::now();
        let mut within = self.pool.begin().await?;
        for change in changes {
            if !(change.records.is_empty() && change.commits.is_empty()) {
                return Err(StoreError::NoLog);
            }
            for rows in &change.rows {
                rows.write(&mut within).await?;
            }
        }
        match within.commit().await {
            Ok(()) => {}
            Err(Uncommitted::Unanswered(number, source)) => {
                match self.pool.settled(&number).await {
                    Some(true) => {}
                    Some(false) => return Err(Uncommitted::Refused(source).into()),
                    None => return Err(Uncommitted::Unanswered(number, source).into()),
                }
            }
            Err(refused) => return Err(refused.into()),
        }
        metrics::histogram!("shoal_store_commit_seconds").record(started.elapsed());
        metrics::counter!("shoal_store_changes_total").increment(changes.len() as u64);
        Ok(())
    }
}
