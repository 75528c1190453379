//! Set-points from the log to the stations' mailboxes.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use fleet::setpoint::Outcome;
use fleet::{Setpoint, SetpointId};
use runtime::trace;
use store::{LogError, Subscription, Tables};
use tokio_util::sync::CancellationToken;
use wire::proto::dispatch::v1 as proto;

use crate::connection::{Edge, put};
use crate::writer::acknowledge;

/// Records fetched at a time.
const BATCH: usize = 1_024;
/// Set-points remembered so that none is sent twice: minutes of a fleet of thousands.
const REMEMBERED: usize = 65_536;

/// Identifiers seen, the newest of them: 65 536.
#[derive(Debug, Default)]
pub struct Seen {
    known: HashSet<SetpointId>,
    order: VecDeque<SetpointId>,
}

impl Seen {
    /// True if an identifier was met.
    #[must_use]
    pub fn knows(&self, id: &SetpointId) -> bool {
        self.known.contains(id)
    }

    /// True the first time an identifier is met.
    pub fn first(&mut self, id: &SetpointId) -> bool {
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

/// The newest term seen of each office: what was decided in an earlier one is void.
#[derive(Debug, Default)]
pub struct Terms(BTreeMap<String, u64>);

impl Terms {
    /// Whether what was decided in `term` still holds. Of an office that is met for the first time the tables say which
    /// term it has come to.
    async fn holds(&mut self, tables: &Tables, term: Option<&proto::Term>) -> bool {
        let Some(term) = term else { return true };
        if !self.knows(&term.office) {
            match tables.lease(&term.office).await {
                Ok(lease) => {
                    let number = lease.map_or(0, |lease| lease.term);
                    self.learn(&term.office, number);
                }
                Err(error) => {
                    tracing::warn!(%error, office = term.office, "the term of {} cannot be read", term.office);
                }
            }
        }
        self.newest(term)
    }

    /// Whether an office was met or learnt before. Of another one the tables are asked first.
    #[must_use]
    pub fn knows(&self, office: &str) -> bool {
        self.0.contains_key(office)
    }

    /// The tables say which term an office has come to.
    pub fn learn(&mut self, office: &str, number: u64) {
        self.0.insert(office.to_owned(), number);
    }

    /// Whether what was decided in `term` still holds.
    pub fn newest(&mut self, term: &proto::Term) -> bool {
        let newest = self.0.entry(term.office.clone()).or_insert(term.number);
        *newest = term.number.max(*newest);
        term.number == *newest
    }
}

/// Hands set-points to stations until `stop`.
///
/// # Errors
/// [`LogError`] when the log cannot be read any more.
pub(crate) async fn run(
    edge: Arc<Edge>,
    tables: Tables,
    mut setpoints: Subscription,
    stop: CancellationToken,
) -> Result<(), LogError> {
    let mut seen = Seen::default();
    let mut terms = Terms::default();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            batch = setpoints.next_batch(BATCH) => batch?,
        };
        let count = batch.len();
        // One hop per signal and batch; a few of its set-points say which trace they belong to.
        let mut hop = trace::Span::default();
        for record in batch {
            let decoded = wire::decode::<proto::Setpoint>(&record.payload);
            if let Ok(message) = &decoded
                && !terms.holds(&tables, message.term.as_ref()).await
            {
                metrics::counter!("shoal_edge_setpoints_fenced_total").increment(1);
                tracing::warn!(
                    evse.id = record.key,
                    setpoint.id = message.id,
                    "a set-point for {} is void: its dispatcher was succeeded before it came",
                    record.key
                );
                continue;
            }
            if let Ok(message) = &decoded
                && let Some(context) = follow(message, count, &mut hop)
            {
                edge.traced.expect(&message.id, context);
            }
            match decoded.and_then(Setpoint::try_from) {
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

/// The hop of this batch for a set-point that says what caused it.
fn follow(
    message: &proto::Setpoint,
    batch: usize,
    hop: &mut trace::Span,
) -> Option<trace::Context> {
    let said = trace::Context::of(message.traceparent.as_deref()?)?;
    if !hop.context().is_some_and(|here| here.is_of(&said)) {
        *hop = trace::Span::after(&said, "edge.deliver")
            .with("signal.id", message.signal_id.clone().unwrap_or_default())
            .with("records", i64::try_from(batch).unwrap_or(i64::MAX));
    }
    hop.context()
}

async fn deliver(edge: &Edge, setpoint: Setpoint) {
    let why = match edge.registry.place(&setpoint.evse).await {
        Err(error) => format!("registrations cannot be read: {error}"),
        Ok(None) => format!("EVSE {} is not registered", setpoint.evse),
        Ok(Some((station, place))) => {
            let mailbox = edge.switchboard.mailbox(&station);
            if edge.config.replicas {
                let held = mailbox.is_some();
                if !edge.absent.wait(&station, place, setpoint.clone(), held) {
                    metrics::counter!("shoal_edge_setpoints_forgotten_total").increment(1);
                }
            }
            match mailbox {
                Some(mailbox) => return put(edge, &mailbox, place, setpoint).await,
                None if edge.config.replicas => {
                    metrics::counter!("shoal_edge_setpoints_elsewhere_total").increment(1);
                    return;
                }
                None => format!("station {station} is not connected"),
            }
        }
    };
    acknowledge(edge, &setpoint, Outcome::Unreachable, &why, None).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_earlier_dispatcher_decided_is_void_once_a_later_one_was_seen() {
        let tables = store::Store::in_memory().await.unwrap().tables();
        let term = |number| proto::Term {
            office: "dispatch/NL".to_owned(),
            number,
        };
        let mut terms = Terms::default();
        for (number, holds) in [(3, true), (3, true), (2, false), (4, true), (3, false)] {
            assert_eq!(terms.holds(&tables, Some(&term(number))).await, holds);
        }
        assert!(terms.holds(&tables, None).await);
        // An edge that has just started asks the tables.
        let candidate = || store::Candidate::new(tables.clone(), "dispatch/NL", "a", "http://a:1");
        for _ in 0..2 {
            candidate().elected(|_| {}).await.resign().await;
        }
        let mut terms = Terms::default();
        assert!(!terms.holds(&tables, Some(&term(1))).await);
        assert!(terms.holds(&tables, Some(&term(2))).await);
    }

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
