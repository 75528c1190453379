//! Set-points from the log to the stations' mailboxes.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use fleet::setpoint::Outcome;
use fleet::{Setpoint, SetpointId};
use store::{LogError, Subscription};
use tokio_util::sync::CancellationToken;
use wire::proto::dispatch::v1 as proto;

use crate::connection::Edge;
use crate::writer::acknowledge;

/// Records fetched at a time.
const BATCH: usize = 1_024;
/// Set-points remembered so that none is sent twice: minutes of a fleet of thousands.
const REMEMBERED: usize = 65_536;

/// Identifiers seen, the newest [`REMEMBERED`].
#[derive(Debug, Default)]
struct Seen {
    known: HashSet<SetpointId>,
    order: VecDeque<SetpointId>,
}

impl Seen {
    /// True the first time an identifier is met.
    fn first(&mut self, id: &SetpointId) -> bool {
        if !self.known.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// Hands set-points to stations until `stop`.
///
/// # Errors
/// [`LogError`] when the log cannot be read any more.
pub(crate) async fn run(
    edge: Arc<Edge>,
    mut setpoints: Subscription,
    stop: CancellationToken,
) -> Result<(), LogError> {
    let mut seen = Seen::default();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            batch = setpoints.next_batch(BATCH) => batch?,
        };
        for record in batch {
            let decoded =
                wire::decode::<proto::Setpoint>(&record.payload).and_then(Setpoint::try_from);
            match decoded {
                Ok(setpoint) if seen.first(&setpoint.id) => deliver(&edge, setpoint).await,
                Ok(_) => metrics::counter!("shoal_edge_setpoints_duplicate_total").increment(1),
                Err(error) => tracing::error!(
                    evse.id = record.key,
                    offset = record.offset,
                    "set-point for {} at {}:{} is unreadable: {error}",
                    record.key,
                    record.partition,
                    record.offset
                ),
            }
        }
    }
}

async fn deliver(edge: &Edge, setpoint: Setpoint) {
    let refused = match edge.registry.place(&setpoint.evse).await {
        Err(error) => Err((setpoint, format!("registrations cannot be read: {error}"))),
        Ok(None) => {
            let why = format!("EVSE {} is not registered", setpoint.evse);
            Err((setpoint, why))
        }
        Ok(Some((station, place))) => match edge.switchboard.mailbox(&station) {
            None if edge.config.replicas => {
                metrics::counter!("shoal_edge_setpoints_elsewhere_total").increment(1);
                return;
            }
            None => Err((setpoint, format!("station {station} is not connected"))),
            Some(mailbox) => mailbox
                .put(place, setpoint)
                .map_err(|setpoint| (setpoint, format!("station {station} is disconnecting"))),
        },
    };
    match refused {
        Ok(None) => {}
        Ok(Some(_replaced)) => {
            metrics::counter!("shoal_edge_setpoints_replaced_total").increment(1);
        }
        Err((setpoint, why)) => {
            acknowledge(edge, &setpoint, Outcome::Unreachable, &why, None).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_first_once_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let id = |n: usize| format!("sp-{n}").parse::<SetpointId>().unwrap();
        assert!(seen.first(&id(0)) && !seen.first(&id(0)));
        for n in 1..=REMEMBERED {
            assert!(seen.first(&id(n)));
        }
        assert_eq!(seen.known.len(), REMEMBERED);
        assert!(seen.first(&id(0)), "forgotten after {REMEMBERED} others");
    }
}
