//! What only one gateway of an area does at a time: bids out, results in, dispatch, settlement.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use dispatch::Guard;
use runtime::Clock;
use runtime::front::Seat;
use runtime::latency::Probe;
use runtime::tasks::ends_all;
use store::{Log, Tables, Tenure};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use wire::proto::dispatch::v1::dispatch_service_server::DispatchServiceServer;
use wire::proto::market::v1::market_service_server::MarketServiceServer;

use crate::control::Control;
use crate::results::Results;
use crate::settle::Settler;
use crate::view::Shared;
use crate::{Config, Error, bids, results, serve};

/// Everything it takes, apart from the right to do it.
pub(crate) struct Office {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) tables: Tables,
    pub(crate) operator: Channel,
    pub(crate) latency: Probe,
    pub(crate) shared: Shared,
    /// What was told when the office was held last, and in which term.
    pub(crate) told: Mutex<Option<(u64, Guard)>>,
}

impl Office {
    /// What was told in the term before this one, if that was held here too: nobody has told anything since.
    fn told_before(&self, tenure: &Tenure) -> Option<Guard> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, term) = tenure.term()?;
        let (before, guard) = told.take()?;
        (before + 1 == term).then_some(guard)
    }

    fn remember(&self, tenure: &Tenure, control: &Control) {
        if let Some((_, term)) = tenure.term() {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Some((term, control.dispatcher().guard.clone()));
        }
    }

    /// Does it until `stop`; calls are answered here meanwhile.
    pub(crate) async fn hold(
        &self,
        tenure: &Tenure,
        seat: &watch::Sender<Seat>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let (config, clock) = (&self.config, self.clock);
        // What was awarded and said while another one held the office.
        self.shared
            .refresh(config.area, &self.tables, clock.now())
            .await?;
        let pace = config.pace(clock.speed());
        let least_real = Duration::from_millis(u64::from(config.least_real_cycle_ms))
            .min(clock.real(pace.cycle));
        let control = Control::load(
            config.area,
            pace,
            least_real,
            self.shared.clone(),
            clock,
            self.log.clone(),
            self.tables.clone(),
            tenure.clone(),
        )
        .await?;
        if let Some(guard) = self.told_before(tenure) {
            control.dispatcher().guard = guard;
        }
        let settler = Settler {
            area: config.area,
            tables: self.tables.clone(),
            clock,
            after: TimeDelta::minutes(i64::from(config.settle_after_minutes)),
            correct_after: TimeDelta::hours(i64::from(config.correct_after_hours)),
        };
        let results = Results::load(self.tables.clone(), self.shared.clone(), clock.now()).await?;
        let ended = stop.child_token();
        seat.send_replace(Seat::Here(self.routes(&control, &settler, &ended)));
        let (wake, woken) = watch::channel(0);
        tracing::info!(area = %config.area, cycle = %pace.cycle, "gateway of {}: one cycle each {}", config.area, pace.cycle);
        let (log, tables, operator) =
            (self.log.clone(), self.tables.clone(), self.operator.clone());
        let bids = bids::run(log, tables, clock, operator, tenure, ended.clone());
        let signals = results::signals(
            self.shared.clone(),
            self.operator.clone(),
            self.latency.clone(),
            clock,
            wake,
            ended.clone(),
        );
        let (a, b, c, d, e) = tokio::join!(
            ends_all(ended.clone(), bids),
            ends_all(
                ended.clone(),
                results.run(self.operator.clone(), ended.clone())
            ),
            ends_all(ended.clone(), signals),
            ends_all(ended.clone(), control.clone().run(woken, ended.clone())),
            ends_all(ended.clone(), settler.run(ended.clone())),
        );
        self.remember(tenure, &control);
        // Whoever holds the office next writes down what it decides from.
        self.shared.lock().journal = None;
        a.and(b).and(c).and(d).and(e)
    }

    fn routes(&self, control: &Control, settler: &Settler, ended: &CancellationToken) -> Routes {
        Routes::new(MarketServiceServer::new(serve::Market {
            area: self.config.area,
            clock: self.clock,
            tables: self.tables.clone(),
            settler: settler.clone(),
        }))
        .add_service(DispatchServiceServer::new(serve::Dispatch {
            control: control.clone(),
            latency: self.latency.clone(),
            stop: ended.clone(),
        }))
    }
}
