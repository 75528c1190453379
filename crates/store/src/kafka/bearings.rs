//! Whether a client of the library still knows a broker.
//!
//! A broker that has just started serves before its cluster has let it in, and names no broker then. The library lets go of every
//! broker that an answer does not name (librdkafka since 2.10), and with none left it may never ask anybody again, see
//! <https://github.com/confluentinc/librdkafka/issues/5301>. A client that has lost its bearings is replaced by a new one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::locked;

/// A client that knows no broker for this time has lost its bearings: one that lets go of brokers in good order knows others at once.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// How often the library tells its figures, milliseconds.
pub(super) const FIGURES_MS: &str = "1000";

/// What a client knows, as its figures tell.
#[derive(Debug, Default)]
pub(crate) struct Bearings {
    /// Since when it knows nobody.
    alone: Mutex<Option<Instant>>,
    lost: CancellationToken,
}

/// The part of the library's figures that is about brokers.
#[derive(Debug, Deserialize)]
struct Figures {
    brokers: HashMap<String, Known>,
}

#[derive(Debug, Deserialize)]
struct Known {
    source: String,
}

impl Bearings {
    /// Takes in the library's figures; what does not read changes nothing.
    pub(super) fn read(&self, figures: &[u8]) {
        match serde_json::from_slice::<Figures>(figures) {
            Ok(figures) => {
                let sources = figures.brokers.values().map(|known| known.source.as_str());
                self.look(sources);
            }
            Err(error) => tracing::debug!(%error, "kafka: figures do not read"),
        }
    }

    /// Takes in where the library has each of its brokers from.
    pub(super) fn look<'a>(&self, mut sources: impl Iterator<Item = &'a str>) {
        // The others are names for one that is learned, and for nobody.
        let knows = sources.any(|source| matches!(source, "configured" | "learned"));
        let mut alone = locked(&self.alone);
        if knows {
            *alone = None;
            return;
        }
        let since = *alone.get_or_insert_with(Instant::now);
        if since.elapsed() >= LOST_AFTER && !self.lost.is_cancelled() {
            metrics::counter!("shoal_log_clients_lost_total").increment(1);
            tracing::warn!("kafka: a client knows no broker any more and is replaced");
            self.lost.cancel();
        }
    }

    /// True once the client has lost its bearings; it does not find them again.
    pub(super) fn are_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until the client has lost its bearings. May be dropped while waiting.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_knows_nobody_for_a_while_is_lost_and_a_name_for_nobody_is_not_a_broker() {
        let bearings = Bearings::default();
        bearings.look(["configured", "logical"].into_iter());
        for _ in 0..3 {
            bearings.look(["logical", "internal"].into_iter());
            tokio::time::advance(LOST_AFTER - Duration::from_millis(1)).await;
            // Found again in time.
            bearings.look(["learned"].into_iter());
        }
        assert!(!bearings.are_lost());
        bearings.read(br#"{"brokers": {"GroupCoordinator": {"source": "logical", "state": "UP"}}, "topics": {}}"#);
        tokio::time::advance(LOST_AFTER).await;
        bearings.read(b"no figures");
        assert!(!bearings.are_lost());
        bearings.read(br#"{"brokers": {}}"#);
        bearings.lost().await;
        bearings.look(["learned"].into_iter());
        assert!(bearings.are_lost());
    }
}
