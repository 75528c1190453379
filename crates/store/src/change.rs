//! Rows, records and commits that happen together or not at all.

use std::sync::Arc;

use fleet::{Evse, MeterInterval, Reading, SessionState, Site};
use market::{Award, Bid, BidId, BidStatus, Clearing, Plan, Statement};

use crate::lease::Lease;
use crate::rows::{ForecastRow, PlanRow, Rows};
use crate::{NewRecord, Position, Topic};

/// One unit of work for the writer: everything in it is stored in one transaction. Rows are upserts, so that a change
/// applied twice leaves what it left the first time (its records are appended twice).
///
/// With the log on Kafka, records that come with rows are stored in the outbox with them and appended from there, in their order
/// and soon after, by this process or, if it dies, by the next one of its name. Should it die right between, they are appended
/// twice.
///
/// ```no_run
/// # async fn example(tables: store::Tables, bid: market::Bid, record: store::NewRecord) -> Result<(), store::StoreError> {
/// tables.apply(store::Change::default().bids(&[bid]).records(vec![record])).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Shared: a change that is tried again is cloned, and may hold many thousand rows.
    pub(crate) rows: Vec<Arc<Rows>>,
    pub(crate) records: Vec<NewRecord>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) forgotten: Vec<Forgotten>,
}

/// Records of a topic that retention takes: the offsets from the first to the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forgotten {
    pub(crate) topic: Topic,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A group has handled a topic up to and with a position.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) topic: Topic,
    pub(crate) group: String,
    pub(crate) position: Position,
}

impl Change {
    fn with(mut self, rows: Rows) -> Self {
        if !rows.is_empty() {
            self.rows.push(Arc::new(rows));
        }
        self
    }

    /// True if applying it would do nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.records.is_empty()
            && self.commits.is_empty()
            && self.forgotten.is_empty()
    }

    /// True if it is nothing but records.
    pub(crate) fn is_records_only(&self) -> bool {
        self.rows.is_empty() && self.commits.is_empty() && self.forgotten.is_empty()
    }

    /// Records to append.
    #[must_use]
    pub fn records(mut self, records: impl IntoIterator<Item = NewRecord>) -> Self {
        self.records.extend(records);
        self
    }

    /// `group` has handled `topic` up to and with `position`; an older offset changes nothing. Over Kafka this process must hold
    /// the partitions through a subscription: if another has taken one over, the change is refused whole.
    #[must_use]
    pub fn commit(mut self, topic: Topic, group: &str, position: &Position) -> Self {
        self.commits.push(Commit {
            topic,
            group: group.to_owned(),
            position: position.clone(),
        });
        self
    }

    pub(crate) fn forget(mut self, forgotten: impl IntoIterator<Item = Forgotten>) -> Self {
        self.forgotten.extend(forgotten);
        self
    }

    /// What `group` needs to resume, by key: saved with the offset it belongs to. An empty body forgets the key.
    #[must_use]
    pub fn keep(self, group: &str, kept: impl IntoIterator<Item = (String, String)>) -> Self {
        let kept = kept
            .into_iter()
            .map(|(key, body)| (group.to_owned(), key, body))
            .collect();
        self.with(Rows::Kept(kept))
    }

    pub(crate) fn lease(self, lease: Lease) -> Self {
        self.with(Rows::Lease(lease))
    }

    /// Sites, by id.
    #[must_use]
    pub fn sites(self, sites: &[Site]) -> Self {
        self.with(Rows::Sites(sites.to_vec()))
    }

    /// EVSEs, by id.
    #[must_use]
    pub fn evses(self, evses: &[Evse]) -> Self {
        self.with(Rows::Evses(evses.to_vec()))
    }

    /// Stays, by id.
    #[must_use]
    pub fn sessions(self, sessions: &[SessionState]) -> Self {
        self.with(Rows::Sessions(sessions.to_vec()))
    }

    /// Samples of meters, by EVSE and instant.
    #[must_use]
    pub fn readings(self, readings: impl Into<Vec<Reading>>) -> Self {
        self.with(Rows::Readings(readings.into()))
    }

    /// Metered intervals, by EVSE and start; an older version never replaces a newer one.
    #[must_use]
    pub fn intervals(self, intervals: &[MeterInterval]) -> Self {
        self.with(Rows::Intervals(intervals.to_vec()))
    }

    /// Bids, by id, with their status.
    #[must_use]
    pub fn bids(self, bids: &[Bid]) -> Self {
        self.with(Rows::Bids(bids.to_vec()))
    }

    /// Where a bid stands now; an unknown bid changes nothing.
    #[must_use]
    pub fn bid_status(self, bid: BidId, status: BidStatus) -> Self {
        self.with(Rows::BidStatus(vec![(bid, status)]))
    }

    /// Awards, by id.
    #[must_use]
    pub fn awards(self, awards: &[Award]) -> Self {
        self.with(Rows::Awards(awards.to_vec()))
    }

    /// Clearing prices, by area, product and start of delivery.
    #[must_use]
    pub fn clearings(self, clearings: &[Clearing]) -> Self {
        self.with(Rows::Clearings(clearings.to_vec()))
    }

    /// Statements, by account, area, day and version.
    #[must_use]
    pub fn statements(self, statements: &[Statement]) -> Self {
        self.with(Rows::Statements(statements.to_vec()))
    }

    /// A plan, by id, with its schedules. Schedules are kept for the newest four plans of an area.
    #[must_use]
    pub fn plan(self, plan: &Plan, schedules: &[fleet::schedule::Schedule]) -> Self {
        self.with(Rows::Plan(Box::new(PlanRow::new(plan, schedules))))
    }

    /// Forecasts, by id.
    #[must_use]
    pub fn forecasts(self, forecasts: &[ForecastRow]) -> Self {
        self.with(Rows::Forecasts(forecasts.to_vec()))
    }
}
