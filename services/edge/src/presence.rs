//! Which edge serves a station: the one whose announcement stands last on the log.

use std::sync::Arc;

use fleet::Telemetry;
use store::{LogError, Record, Subscription};
use tokio_util::sync::CancellationToken;
use wire::proto::telemetry::v1 as proto;

use crate::connection::{self, Edge};

/// Records fetched at a time.
const BATCH: usize = 1_024;

/// Lets stations go that came online elsewhere, until `stop`. Without `readings` this edge is alone.
///
/// # Errors
/// [`LogError`] when the log cannot be read any more.
pub(crate) async fn run(
    edge: Arc<Edge>,
    readings: Option<Subscription>,
    stop: CancellationToken,
) -> Result<(), LogError> {
    let Some(mut readings) = readings else {
        return Ok(());
    };
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            batch = readings.next_batch(BATCH) => batch?,
        };
        for record in &batch {
            watch(&edge, record).await;
        }
    }
}

/// Announcements of stations that matter here, and answers to set-points; everything else is passed over unread.
async fn watch(edge: &Edge, record: &Record) {
    let (served, missed) = (
        edge.switchboard.serves(&record.key),
        edge.absent.concerns(&record.key),
    );
    if !served && !missed && !is_answer(&record.payload) {
        return;
    }
    let told = wire::decode::<proto::Telemetry>(&record.payload).and_then(Telemetry::try_from);
    match told {
        Ok(Telemetry::Acknowledged(ack)) => edge.absent.answered(&ack.evse, &ack.setpoint),
        Ok(Telemetry::Connection {
            station,
            evses,
            online,
            at,
        }) => {
            if edge.switchboard.is_news(station.as_str(), at) {
                edge.absent.heard(station.as_str(), online, at);
            }
            let now = edge.clock.now();
            if online && edge.switchboard.came_online(station.as_str(), at) {
                metrics::counter!("shoal_edge_moved_total").increment(1);
                tracing::info!(station.id = %station, "station {station} connected to another edge: it is let go here");
            } else if !online
                && let Some(again) = edge.switchboard.went_offline(station.as_str(), at, now)
            {
                tracing::info!(station.id = %station, "station {station} is said to be offline and is connected here");
                edge.post
                    .tell(&connection::presence(&station, evses, true, again))
                    .await;
            }
        }
        Ok(_) | Err(_) => {}
    }
}

/// True if a message begins as an answer to a set-point does: `acknowledged` is field 6 of `Telemetry`.
fn is_answer(payload: &[u8]) -> bool {
    payload.first().is_some_and(|tag| tag >> 3 == 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::proto::dispatch::v1 as dispatch;
    use wire::proto::telemetry::v1::telemetry::Event;

    #[test]
    fn an_answer_is_told_apart_by_its_first_byte() {
        let encoded = |event| wire::encode(&proto::Telemetry { event: Some(event) });
        let answer = Event::Acknowledged(proto::Acknowledgement::default());
        let online = Event::Connection(proto::Connection::default());
        assert!(is_answer(&encoded(answer)));
        assert!(!is_answer(&encoded(online)));
        assert!(!is_answer(&wire::encode(&dispatch::Setpoint::default())));
    }
}
