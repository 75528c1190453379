//! The settlement job: a statement of the pool and of every site once a delivery day is over.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market::settlement::{Availability, Day, ImbalancePrice, Metered, Settled, settle};
use market::{Area, BidStatus, Product, Rules, Statement, calendar};
use runtime::Clock;
use store::{Change, NewRecord, StoreError, Tables, topic};
use tokio_util::sync::CancellationToken;
use units::{DeliveryDay, Energy, Interval};
use wire::proto::market::v1 as proto;

use crate::{Error, GROUP, records};

/// Real time before a day is settled again that could not be stored.
const AGAIN: Duration = Duration::from_secs(1);
/// Days looked back at after a start for days that were not settled.
const BACK_DAYS: i64 = 7;
/// Longest delivery: an award of a block that began the day before still counts.
const LONGEST_DELIVERY: TimeDelta = TimeDelta::hours(26);

/// Settles days from what the tables hold.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    pub(crate) area: Area,
    pub(crate) tables: Tables,
    pub(crate) clock: Clock,
    pub(crate) after: TimeDelta,
    pub(crate) correct_after: TimeDelta,
}

impl Settler {
    /// Settles each day when its time has come, and what is over when `stop` fires.
    ///
    /// # Errors
    /// [`Error`] when the tables are lost.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let began = self.clock.now();
        let mut checked = self.day(began).plus(-BACK_DAYS);
        let mut corrected = checked;
        loop {
            let due = (checked.end() + self.after).min(corrected.end() + self.correct_after);
            tokio::select! {
                () = self.clock.sleep_until(due) => {}
                () = stop.cancelled() => break,
            }
            let day = if checked.end() + self.after <= due {
                {
                    let next = checked.next();
                    std::mem::replace(&mut checked, next)
                }
            } else {
                {
                    let next = corrected.next();
                    std::mem::replace(&mut corrected, next)
                }
            };
            loop {
                match self.settle(day, self.clock.now()).await {
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, day = %day.date(), "{} is settled again later", day.date());
                    }
                    done => break done?,
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
        let now = self.clock.now();
        for day in [self.day(now).previous(), self.day(now)] {
            match self.settle(day, now).await {
                // The next start settles the days before it.
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, day = %day.date(), "{} is left to the next start", day.date());
                }
                done => done?,
            }
        }
        Ok(())
    }

    fn day(&self, at: DateTime<Utc>) -> DeliveryDay {
        calendar::day_of(Rules::built_in(), self.area, Product::DayAhead, at)
            .unwrap_or_else(|| DeliveryDay::containing(at, self.area.exchange_zone()))
    }

    /// Settles what of `day` is over at `until`; a statement that says what the newest one says is not stored again.
    pub(crate) async fn settle(
        &self,
        day: DeliveryDay,
        until: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let settled = self.compute(day, until).await?;
        if settled.pool.lines.is_empty() {
            return Ok(());
        }
        let known = self.stored(day.interval()).await?;
        let news: Vec<Statement> = settled
            .statements()
            .filter_map(|s| newer(s, &known))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        if !settled.gaps.is_empty() {
            tracing::warn!(
                day = %day.date(),
                gaps = settled.gaps.len(),
                "{} inputs were missing when {} was settled, first {:?}",
                settled.gaps.len(), day.date(), settled.gaps[0]
            );
        }
        tracing::info!(
            day = %day.date(),
            "settled {}: {} {} over {} sites, until {until}",
            day.date(), settled.pool.total.amount().round_dp(2), settled.pool.total.currency(), settled.sites.len()
        );
        let published: Vec<NewRecord> = news
            .iter()
            .map(|s| NewRecord {
                topic: topic::STATEMENTS,
                key: s.account.clone(),
                payload: wire::encode(&proto::Statement::from(s)),
            })
            .collect();
        self.tables
            .apply(Change::default().statements(&news).records(published))
            .await?;
        Ok(())
    }

    /// Statements of the day that is running, as far as it is over; stored nowhere.
    pub(crate) async fn provisional(&self) -> Result<Vec<Statement>, StoreError> {
        let now = self.clock.now();
        let settled = self.compute(self.day(now), now).await?;
        Ok(settled
            .statements()
            .filter(|s| !s.lines.is_empty())
            .cloned()
            .collect())
    }

    /// Newest stored statement of each account.
    async fn stored(&self, day: Interval) -> Result<BTreeMap<String, Statement>, StoreError> {
        let mut newest: BTreeMap<String, Statement> = BTreeMap::new();
        for statement in self
            .tables
            .statements_between(day.start(), day.start() + TimeDelta::seconds(1))
            .await?
        {
            let newer = newest
                .get(&statement.account)
                .is_none_or(|s| s.version < statement.version);
            if statement.area == self.area && newer {
                newest.insert(statement.account.clone(), statement);
            }
        }
        Ok(newest)
    }

    async fn compute(&self, day: DeliveryDay, until: DateTime<Utc>) -> Result<Settled, StoreError> {
        let span = day.interval();
        let (start, end) = (span.start(), span.end());
        let awards = self
            .tables
            .awards_between(start - LONGEST_DELIVERY, end)
            .await?;
        let clearings = self
            .tables
            .clearings_between(start - LONGEST_DELIVERY, end)
            .await?;
        let bids = self.tables.bids_between(start, end).await?;
        // A bid that never left the house did not take part.
        let auctioned = bids.iter().any(|b| {
            b.area == self.area
                && b.product == Product::DayAhead
                && matches!(
                    b.status,
                    BidStatus::Submitted
                        | BidStatus::Acknowledged
                        | BidStatus::Awarded
                        | BidStatus::Rejected
                )
                && !b.reason.starts_with("not sent:")
        });
        let auctioned = auctioned
            || awards
                .iter()
                .any(|a| a.product == Product::DayAhead && span.contains(a.delivery.start()));
        let metered = self.metered(span).await?;
        let (imbalance, availability) = self.kept(span).await?;
        Ok(settle(
            Rules::built_in(),
            &Day {
                area: self.area,
                day: span,
                until,
                version: 1,
                auctioned,
                awards: &awards,
                clearings: &clearings,
                imbalance: &imbalance,
                metered: &metered,
                availability: &availability,
            },
        ))
    }

    /// Metered energy per site and quarter hour.
    async fn metered(&self, span: Interval) -> Result<Vec<Metered>, StoreError> {
        let mut sums: BTreeMap<(String, Interval), Energy> = BTreeMap::new();
        for row in self
            .tables
            .intervals_between(span.start(), span.end())
            .await?
        {
            *sums
                .entry((row.site.as_str().to_owned(), row.interval))
                .or_default() += row.net();
        }
        Ok(sums
            .into_iter()
            .map(|((account, interval), energy)| Metered {
                account,
                interval,
                energy,
            })
            .collect())
    }

    async fn kept(
        &self,
        span: Interval,
    ) -> Result<(Vec<ImbalancePrice>, Vec<Availability>), StoreError> {
        let mut imbalance: Vec<ImbalancePrice> = Vec::new();
        let mut availability: Vec<Availability> = Vec::new();
        for (key, body) in self.tables.kept(GROUP).await? {
            if key.starts_with(records::IMBALANCE) {
                imbalance.extend(
                    serde_json::from_str::<ImbalancePrice>(&body)
                        .ok()
                        .filter(|p| span.contains(p.interval.start())),
                );
            } else if key.starts_with(records::AVAILABILITY) {
                availability.extend(
                    serde_json::from_str::<Availability>(&body)
                        .ok()
                        .filter(|a| span.contains(a.interval.start())),
                );
            }
        }
        Ok((imbalance, availability))
    }
}

/// The statement under its next version, if it says something new.
fn newer(statement: &Statement, known: &BTreeMap<String, Statement>) -> Option<Statement> {
    let Some(held) = known.get(&statement.account) else {
        return Some(statement.clone());
    };
    let next = Statement {
        version: held.version,
        ..statement.clone()
    };
    (next != *held).then(|| Statement {
        version: held.version + 1,
        ..next
    })
}
