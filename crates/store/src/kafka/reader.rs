//! A reader of the library, and how it is let go.

use std::ops::Deref;
use std::sync::mpsc;
use std::time::Duration;

use rdkafka::consumer::StreamConsumer;

use super::context::Watch;

/// How long a process that ends waits for a reader to leave its group. Who has not left by then is missed when
/// its session is over, as after a crash.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// A reader that leaves its group on a thread of its own when the last who holds it lets go: leaving waits for the broker, and with a
/// broker that does not come back the library waits for ever.
pub(super) struct Reader(Option<StreamConsumer<Watch>>);

impl Reader {
    pub(super) const fn new(consumer: StreamConsumer<Watch>) -> Self {
        Self(Some(consumer))
    }
}

impl Deref for Reader {
    type Target = StreamConsumer<Watch>;

    #[expect(
        clippy::expect_used,
        reason = "it is taken where the reader is dropped and nowhere else"
    )]
    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let consumer = self.0.take();
        let (leaving, left) = mpsc::channel::<()>();
        let leave = move || {
            drop(consumer);
            drop(leaving);
        };
        let thread = std::thread::Builder::new().name("leaves a group".to_owned());
        if let Err(error) = thread.spawn(leave) {
            tracing::warn!(%error, "no thread to leave a group on: {error}");
            return;
        }
        // A runtime that ends waits for what blocks: so its process stays until the others of the group know.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || left.recv_timeout(LEAVE_WITHIN));
        }
    }
}
