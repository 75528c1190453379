//! Which edge serves a station: the one whose announcement stands last on the log.

use std::sync::Arc;

use fleet::Telemetry;
use store::{LogError, Record, Subscription};
use tokio_util::sync::CancellationToken;
use wire::proto::telemetry::v1 as proto;

use crate::connection::Edge;

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
            watch(&edge, record);
        }
    }
}

/// Only announcements have a station as their key: everything else is passed over unread.
fn watch(edge: &Edge, record: &Record) {
    if !edge.switchboard.serves(&record.key) {
        return;
    }
    let told = wire::decode::<proto::Telemetry>(&record.payload).and_then(Telemetry::try_from);
    if let Ok(Telemetry::Connection {
        station,
        online: true,
        at,
        ..
    }) = told
        && edge.switchboard.came_online(station.as_str(), at)
    {
        metrics::counter!("shoal_edge_moved_total").increment(1);
        tracing::info!(station.id = %station, "station {station} connected to another edge: it is let go here");
    }
}
