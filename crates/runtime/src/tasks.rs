//! Supervised tasks: one that ends when it should not ends the process in order, and a stop has a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the end of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Runs until the stop; ending before it, even without an error, stops everything.
    Essential,
    /// May finish; only an error stops everything.
    Finite,
}

/// Why a set of tasks ended before it was told to, or not in time.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task ended with an error.
    #[error("task {name}")]
    Failed {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A task panicked.
    #[error("task {name} panicked: {detail}")]
    Panicked {
        /// Which.
        name: String,
        /// The panic's message.
        detail: String,
    },
    /// An essential task ended although nobody asked it to.
    #[error("task {name} ended before it was stopped")]
    EndedEarly {
        /// Which.
        name: String,
    },
    /// Tasks that did not stop in time and were cut.
    #[error("tasks {} did not stop within {grace:?} and were cut", names.join(", "))]
    Overdue {
        /// Which.
        names: Vec<String>,
        /// The time they had.
        grace: Duration,
    },
}

/// A set of tasks under one stop.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    grace: Duration,
    running: JoinSet<Result<(), BoxError>>,
    names: BTreeMap<Id, (String, Duty)>,
}

impl Tasks {
    /// An empty set; after `stop` its tasks have `grace` to end.
    #[must_use]
    pub fn new(stop: CancellationToken, grace: Duration) -> Self {
        Self {
            stop,
            grace,
            running: JoinSet::new(),
            names: BTreeMap::new(),
        }
    }

    /// Starts a task.
    pub fn spawn<E: Into<BoxError>>(
        &mut self,
        name: &str,
        duty: Duty,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let started = self
            .running
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(started.id(), (name.to_owned(), duty));
    }

    /// Waits for the stop, or for a task that ends when it should not (which then stops the others), and drains.
    ///
    /// # Errors
    /// The first [`TaskError`] met.
    pub async fn run(mut self) -> Result<(), TaskError> {
        let mut first = Ok(());
        while first.is_ok() {
            let ended = tokio::select! {
                () = self.stop.cancelled() => break,
                ended = self.running.join_next_with_id() => ended,
            };
            let Some(ended) = ended else { return Ok(()) };
            first = self.judge(ended);
        }
        self.stop.cancel();
        let drained = self.drain().await;
        first.and(drained)
    }

    async fn drain(&mut self) -> Result<(), TaskError> {
        let deadline = tokio::time::Instant::now() + self.grace;
        let mut first = Ok(());
        loop {
            match tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await {
                Ok(None) => return first,
                Ok(Some(ended)) => first = first.and(self.judge(ended)),
                Err(_) => break,
            }
        }
        let names = self.names.values().map(|(name, _)| name.clone()).collect();
        self.running.abort_all();
        let grace = self.grace;
        first.and(Err(TaskError::Overdue { names, grace }))
    }

    fn judge(
        &mut self,
        ended: Result<(Id, Result<(), BoxError>), JoinError>,
    ) -> Result<(), TaskError> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (name, duty) = self
            .names
            .remove(&id)
            .unwrap_or_else(|| ("unnamed".to_owned(), Duty::Finite));
        match ended {
            Err(join) => Err(TaskError::Panicked {
                name,
                detail: panic_text(join),
            }),
            Ok((_, Err(source))) => Err(TaskError::Failed { name, source }),
            Ok((_, Ok(()))) if duty == Duty::Essential && !self.stop.is_cancelled() => {
                Err(TaskError::EndedEarly { name })
            }
            Ok((_, Ok(()))) => Ok(()),
        }
    }
}

fn panic_text(join: JoinError) -> String {
    match join.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned()),
        Err(_) => "cancelled".to_owned(),
    }
}

/// `task`, at whose end, however it comes, `all` is cancelled: whoever ends, ends all. A service shall not go on with a part of
/// itself.
pub async fn ends_all<T>(all: CancellationToken, task: impl Future<Output = T>) -> T {
    let _all = all.drop_guard();
    task.await
}

/// Cancels `stop` on the first interrupt or termination signal and leaves the process on the second, with the exit
/// status shells use for an interrupt.
pub async fn stop_on_signal(stop: CancellationToken) {
    signal().await;
    tracing::info!("stopping: finishing what is in hand; a second signal leaves at once");
    stop.cancel();
    signal().await;
    std::process::exit(130);
}

async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    // Without a handler there is nothing to wait for: the default action of the signal applies.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn tasks(grace_ms: u64) -> (Tasks, CancellationToken) {
        let stop = CancellationToken::new();
        let tasks = Tasks::new(stop.clone(), Duration::from_millis(grace_ms));
        (tasks, stop)
    }

    #[tokio::test]
    async fn whoever_ends_ends_all_a_panic_included() {
        let all = CancellationToken::new();
        let panics = tokio::spawn(ends_all(all.clone(), async { panic!("of its own") }));
        let waits = tokio::spawn(ends_all(all.clone(), until(all.clone())));
        assert!(panics.await.is_err_and(|join: JoinError| join.is_panic()));
        assert!(waits.await.is_ok_and(|ended| ended.is_ok()));
    }

    async fn until(stop: CancellationToken) -> io::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_task_that_fails_stops_the_others_and_is_named() {
        let (mut tasks, stop) = tasks(1_000);
        tasks.spawn("steady", Duty::Essential, until(stop.clone()));
        tasks.spawn("broken", Duty::Essential, async {
            Err::<(), _>(io::Error::other("no disk"))
        });
        let error = tasks.run().await.unwrap_err();
        assert_eq!(error.to_string(), "task broken");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn an_essential_task_may_not_just_end_a_finite_one_may() {
        let (mut tasks1, stop) = tasks(1_000);
        tasks1.spawn("import", Duty::Finite, async { io::Result::Ok(()) });
        tasks1.spawn("steady", Duty::Essential, until(stop.clone()));
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stop.cancel();
        });
        tasks1.run().await.unwrap();

        let (mut tasks2, _stop) = tasks(1_000);
        tasks2.spawn("server", Duty::Essential, async { io::Result::Ok(()) });
        let error = tasks2.run().await.unwrap_err();
        assert!(matches!(error, TaskError::EndedEarly { name } if name == "server"));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let (mut tasks, _stop) = tasks(1_000);
        tasks.spawn("odd", Duty::Finite, async {
            if true {
                panic!("seven");
            }
            io::Result::Ok(())
        });
        let error = tasks.run().await.unwrap_err().to_string();
        assert_eq!(error, "task odd panicked: seven");
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_cut_and_named() {
        let (mut tasks, stop) = tasks(20);
        tasks.spawn(
            "deaf",
            Duty::Essential,
            std::future::pending::<io::Result<()>>(),
        );
        stop.cancel();
        let error = tasks.run().await.unwrap_err().to_string();
        assert!(error.contains("deaf"), "{error}");
    }
}
