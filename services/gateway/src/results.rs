//! Awards, prices and signals in; each result counts once, however often it is told.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market::settlement::ImbalancePrice;
use market::{Award, BidId, BidStatus, Clearing, GridSignal, Product};
use runtime::Clock;
use runtime::latency::Probe;
use runtime::trace::Span;
use rust_decimal::Decimal;
use store::{Change, NewRecord, StoreError, Tables, topic};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use units::{Interval, Price};
use wire::proto::market::v1 as proto;
use wire::proto::market::v1::market_operator_client::MarketOperatorClient;

use crate::records;
use crate::view::Shared;
use crate::{Error, GROUP};

/// Real time before the market is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How far back results are asked for after a start: gates of the day before.
const BACK: TimeDelta = TimeDelta::days(2);

/// Takes in results.
pub(crate) struct Results {
    tables: Tables,
    shared: Shared,
    prices: BTreeSet<(Product, DateTime<Utc>)>,
    after: DateTime<Utc>,
}

impl Results {
    pub(crate) async fn load(
        tables: Tables,
        shared: Shared,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let known = tables.clearings_between(now - BACK, now + BACK * 2).await?;
        Ok(Self {
            prices: known
                .iter()
                .map(|c| (c.product, c.delivery.start()))
                .collect(),
            tables,
            shared,
            after: now - BACK,
        })
    }

    /// Watches results until `stop`, and asks again from the newest one stored after a lost connection or when one cannot be stored.
    ///
    /// # Errors
    /// [`Error`] when the tables refuse for good.
    pub(crate) async fn run(
        mut self,
        operator: Channel,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let mut market = MarketOperatorClient::new(operator);
        loop {
            let ended = tokio::select! {
                ended = self.watch(&mut market) => ended,
                () = stop.cancelled() => return Ok(()),
            };
            let why = match ended {
                Ok(status) => status.message().to_owned(),
                // The one that could not be stored is told again.
                Err(error) if error.is_retryable() => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            tracing::warn!("results of the market ended and are asked for again: {why}");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn watch(
        &mut self,
        market: &mut MarketOperatorClient<Channel>,
    ) -> Result<tonic::Status, StoreError> {
        let request = proto::WatchResultsRequest {
            after_micros: self.after.timestamp_micros() - 1,
        };
        let mut stream = match market.watch_results(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(status),
        };
        loop {
            match stream.message().await {
                Ok(Some(result)) => self.take(result).await?,
                Ok(None) => return Ok(tonic::Status::unavailable("the stream ended")),
                Err(status) => return Ok(status),
            }
        }
    }

    /// One result; a result told before changes nothing.
    pub(crate) async fn take(&mut self, result: proto::Result) -> Result<(), StoreError> {
        use proto::result::Result as Kind;
        match result.result {
            Some(Kind::Award(award)) => match Award::try_from(award) {
                Ok(award) => self.award(award).await?,
                Err(e) => tracing::error!("an award does not read: {e}"),
            },
            Some(Kind::Clearing(clearing)) => match Clearing::try_from(clearing) {
                Ok(clearing) => self.clearing(clearing).await?,
                Err(e) => tracing::error!("a clearing price does not read: {e}"),
            },
            Some(Kind::Rejected(receipt)) => self.rejected(&receipt).await?,
            Some(Kind::Imbalance(imbalance)) => match imbalance_price(&imbalance) {
                Some(price) => self.imbalance(price).await?,
                None => tracing::error!("an imbalance price does not read"),
            },
            None => tracing::warn!("a result of a kind that this version does not know"),
        }
        Ok(())
    }

    async fn award(&mut self, award: Award) -> Result<(), StoreError> {
        let published = award.awarded_at;
        if self.shared.lock().knows(&award) {
            self.after = self.after.max(published);
            return Ok(());
        }
        if self.tables.bid(award.bid).await?.is_none() {
            tracing::warn!(award.id = %award.id, bid.id = %award.bid, "an award for a bid that we do not know; it obliges nevertheless");
        }
        let record = NewRecord {
            topic: topic::AWARDS,
            key: award.id.to_string(),
            payload: wire::encode(&proto::Award::from(&award)),
        };
        let change = Change::default()
            .awards(std::slice::from_ref(&award))
            .bid_status(award.bid, BidStatus::Awarded)
            .records([record]);
        self.tables.apply(change).await?;
        tracing::info!(
            award.id = %award.id,
            "awarded {} {:?} of {} from {} at {}",
            award.product.name(), award.direction, award.volume, award.delivery.start(), award.price
        );
        metrics::counter!("shoal_awards_total", "product" => award.product.name()).increment(1);
        self.shared.lock().take_award(award);
        self.after = self.after.max(published);
        Ok(())
    }

    async fn clearing(&mut self, clearing: Clearing) -> Result<(), StoreError> {
        let (key, published) = (
            (clearing.product, clearing.delivery.start()),
            clearing.published_at,
        );
        if self.prices.contains(&key) {
            self.after = self.after.max(published);
            return Ok(());
        }
        let record = NewRecord {
            topic: topic::PRICES,
            key: format!("{}/{}", clearing.area, clearing.product.name()),
            payload: wire::encode(&proto::Clearing::from(&clearing)),
        };
        self.tables
            .apply(Change::default().clearings(&[clearing]).records([record]))
            .await?;
        self.prices.insert(key);
        self.after = self.after.max(published);
        Ok(())
    }

    async fn rejected(&mut self, receipt: &proto::BidReceipt) -> Result<(), StoreError> {
        let Ok(id) = receipt.bid_id.parse::<BidId>() else {
            tracing::error!("the market rejected a bid called {:?}", receipt.bid_id);
            return Ok(());
        };
        let Some(mut bid) = self.tables.bid(id).await? else {
            return Ok(());
        };
        if matches!(
            bid.status,
            BidStatus::Awarded | BidStatus::Rejected | BidStatus::Withdrawn
        ) {
            return Ok(());
        }
        bid.status = BidStatus::Rejected;
        if !receipt.reason.is_empty() {
            bid.reason = format!("not taken: {}; {}", receipt.reason, bid.reason);
        }
        self.tables.apply(Change::default().bids(&[bid])).await?;
        Ok(())
    }

    async fn imbalance(&mut self, price: ImbalancePrice) -> Result<(), StoreError> {
        let start = price.interval.start();
        if self.shared.lock().imbalance.get(&start) == Some(&price) {
            return Ok(());
        }
        let kept = records::body(records::imbalance_key(start), &price);
        self.tables
            .apply(Change::default().keep(GROUP, kept))
            .await?;
        self.shared.lock().imbalance.insert(start, price);
        Ok(())
    }
}

fn imbalance_price(wire: &proto::Imbalance) -> Option<ImbalancePrice> {
    let instant = DateTime::from_timestamp_micros;
    let interval =
        Interval::try_new(instant(wire.start_micros)?, instant(wire.end_micros)?).ok()?;
    let currency = wire.currency.parse().ok()?;
    let price = |text: &str| {
        text.parse::<Decimal>()
            .ok()
            .map(|p| Price::new(p, currency))
    };
    Some(ImbalancePrice {
        interval,
        short: price(&wire.price_short)?,
        long: price(&wire.price_long)?,
    })
}

/// Watches grid signals until `stop`; the newest one counts, and each wakes the dispatcher.
pub(crate) async fn signals(
    shared: Shared,
    operator: Channel,
    probe: Probe,
    clock: Clock,
    wake: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut market = MarketOperatorClient::new(operator);
    loop {
        let watching = async {
            let mut stream = market
                .watch_signals(proto::WatchSignalsRequest {})
                .await?
                .into_inner();
            while let Some(signal) = stream.message().await? {
                take_signal(&shared, signal, &probe, &clock, &wake);
            }
            Ok::<(), tonic::Status>(())
        };
        tokio::select! {
            ended = watching => {
                let why = ended.err().map_or_else(|| "the stream ended".to_owned(), |s| s.message().to_owned());
                tracing::warn!("grid signals ended and are asked for again: {why}");
            }
            () = stop.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn take_signal(
    shared: &Shared,
    signal: proto::GridSignal,
    probe: &Probe,
    clock: &Clock,
    wake: &watch::Sender<u64>,
) {
    let hop = Span::root("gateway.receive").with("signal.id", signal.id.clone());
    let signal = match GridSignal::try_from(signal) {
        Ok(signal) => signal,
        Err(e) => return tracing::error!("a grid signal does not read: {e}"),
    };
    // A signal from the future is a clock that is off; following it would freeze all later ones.
    if signal.at > clock.now() + TimeDelta::minutes(1) && clock.speed() <= 1.0 {
        return tracing::error!(
            signal.id,
            "a grid signal is dated {}, which is ahead of our clock",
            signal.at
        );
    }
    let mut view = shared.lock();
    if view.signal.as_ref().is_some_and(|held| held.at > signal.at) {
        return;
    }
    probe.started(&signal.id);
    view.take_signal(signal);
    view.received = hop.context();
    drop(view);
    wake.send_modify(|n| *n += 1);
}
