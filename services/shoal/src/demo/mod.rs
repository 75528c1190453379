//! `shoal demo`: the whole platform in one process, a simulated fleet that speaks real OCPP, a simulated market.

mod args;
mod operator;
mod outcome;
mod past;
mod platform;
mod world;
mod yesterday;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ::market::Area;
use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use runtime::Clock;
use runtime::latency::Probe;
use runtime::tasks::stop_on_signal;
use sim::exchange::Exchange;
use sim::fleet::{Fleet, Settings};
use sim::frequency::Frequency;
use sim::price::Prices;
use sim::station::{Options, Stations, Time, spawn_fleet};
use sim::twin;
use store::Store;
use tokio_util::sync::CancellationToken;
use units::DeliveryDay;
use wire::proto::dispatch::v1 as dispatch;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;

pub(crate) use self::args::Args;
use self::operator::Operator;
use self::outcome::Outcome;
use self::platform::{Channels, Parts, Pipes};
use self::world::{App, WorldTime};
use self::yesterday::Yesterday;
use crate::cli::CliError;
use crate::output::Output;

/// Where the demo's pool is sold.
const AREA: Area = Area::Nl;
/// A Tuesday in early summer: sun at midday, buses on their working-day timetable on both days of the run.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 6, 9).expect("a date");
/// Stays are played this far; nobody plugs in any more after it.
const LONGEST: TimeDelta = TimeDelta::days(60);
/// Simulated seconds between meter samples of a station at speed 1.
const SAMPLE: TimeDelta = TimeDelta::seconds(10);
/// Share of a run that ends before the usual hour after which frequency falls.
const FALL_AFTER_SHORT_RUN: f64 = 0.4;

/// Runs the demo until `--for` is over or somebody stops it.
///
/// # Errors
/// Status 2 for options that make no sense, status 1 when a service fails.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    args.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(play(args))?;
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    output.result(&outcome, || outcome.text())
}

/// A failure of the run, with its chain of causes.
fn failed(error: &anyhow::Error) -> CliError {
    CliError::Failed(format!("{error:#}"))
}

async fn play(args: &Args) -> Result<Outcome, CliError> {
    let console = if args.headless {
        None
    } else {
        Some(platform::bind(args.listen).await?)
    };
    let scratch = tempfile::tempdir()?;
    let dir = args.data_dir.as_deref().unwrap_or(scratch.path());
    let demo = Demo::prepare(args, dir).await.map_err(|e| failed(&e))?;
    demo.play(args, console).await.map_err(|e| failed(&e))
}

/// Everything before the clock starts.
struct Demo {
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    store: Store,
    fleet: Arc<Fleet>,
    yesterday: Yesterday,
    exchange: Exchange,
    start: DateTime<Utc>,
}

impl Demo {
    async fn prepare(args: &Args, dir: &Path) -> anyhow::Result<Self> {
        let metrics = runtime::telemetry::metrics().context("metrics")?;
        // Days pass in minutes: rows of single samples would be most of what is written.
        let keep = store::Keep {
            readings: TimeDelta::zero(),
            ..store::Keep::default()
        };
        let options = store::Options {
            keep,
            ..store::Options::default()
        };
        let store = Store::open_with(dir, options).await;
        let store = store.context("the embedded store")?;
        let zone = AREA.zone();
        let start = DeliveryDay::try_new(FIRST_DAY, zone)?.at(args::BEGINS);
        let settings = Settings {
            seed: args.seed,
            cars: args.vehicles,
            buses: args.buses,
            zone,
        };
        let fleet = Arc::new(Fleet::new(settings));
        let past = past::play(&fleet, start);
        let today = DeliveryDay::containing(start, AREA.exchange_zone());
        let prices = Prices::new(args.seed, zone);
        let mut exchange = Exchange::new(AREA, prices, today.previous().start());
        let history = exchange.history(start - TimeDelta::weeks(past::WEEKS), today.start());
        let yesterday = yesterday::trade(AREA, &mut exchange, &fleet, &past, &history, start)
            .context("yesterday's auctions")?;
        write_past(&store, &fleet, &past, &history, &yesterday)
            .await
            .context("writing down the past")?;
        Ok(Self {
            metrics,
            store,
            fleet,
            yesterday,
            exchange,
            start,
        })
    }

    async fn play(
        self,
        args: &Args,
        console: Option<tokio::net::TcpListener>,
    ) -> anyhow::Result<Outcome> {
        let stop = CancellationToken::new();
        let latency = Probe::new();
        let pipes = Pipes::new();
        let clock = Clock::accelerated(self.start, args.speed).after(platform::WARM_UP);
        let falls_at = self.start + falls_after(args);
        let frequency = Frequency::new(args.seed, Some(falls_at));
        let operator = Operator::new(
            clock,
            self.exchange.clone(),
            frequency,
            self.yesterday.awards.clone(),
        );
        let cycle = operator.signal_period();
        let edge_deps = shoal_edge::Deps {
            clock,
            log: self.store.log(),
            tables: self.store.tables(),
            latency: latency.clone(),
        };
        // Stations are told to sample as they do: at high speeds more often nobody looks.
        let sample = u32::try_from(sample_period(cycle).num_seconds()).unwrap_or(u32::MAX);
        let config = shoal_edge::Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            pool_sample_seconds: sample,
            idle_sample_seconds: sample,
            // Simulated stations on loopback: nobody else can speak there.
            security: shoal_edge::Security {
                discharge_without_tls: true,
                ..Default::default()
            },
            ..Default::default()
        };
        let edge = shoal_edge::Edge::bind(config, edge_deps)
            .await
            .context("edge")?;
        let address = edge.address();
        let console_at = console.as_ref().and_then(|l| l.local_addr().ok());
        let parts = Parts {
            area: AREA,
            clock,
            store: self.store.clone(),
            operator,
            edge,
            latency,
            stays: self
                .fleet
                .stays(self.start, self.start + TimeDelta::seconds(1))
                .len(),
            console,
        };
        let (tasks, channels) = platform::start(parts, pipes, &stop);
        let running = tokio::spawn(tasks.run());
        announce(args, address, console_at, cycle);
        let stations = self.stations(address, clock, cycle, &channels)?;
        let ended = wait(args, &stop).await;
        let seen = self.look(args, &channels, &stations, clock, cycle).await;
        stations.stop().await;
        stop.cancel();
        running
            .await
            .context("services")?
            .context("a service failed")?;
        ended?;
        self.account(args, seen?).await
    }

    fn stations(
        &self,
        edge: SocketAddr,
        clock: Clock,
        cycle: TimeDelta,
        channels: &Channels,
    ) -> anyhow::Result<Stations> {
        let mut options = Options::new(format!("ws://{edge}/ocpp"));
        options.sample_period = sample_period(cycle);
        let time: Arc<dyn Time> = Arc::new(WorldTime(clock));
        let app = App::shared(channels.fleet.clone());
        spawn_fleet(
            &self.fleet,
            self.start,
            self.start + LONGEST,
            &options,
            &time,
            &app,
        )
        .context("stations")
    }
}

/// Time between meter samples: at high speeds once per lengthened cycle.
fn sample_period(cycle: TimeDelta) -> TimeDelta {
    SAMPLE.max(cycle * 2)
}

/// When frequency falls after the start: at half past two of the second day, or within the run where that is shorter.
fn falls_after(args: &Args) -> TimeDelta {
    let usual = TimeDelta::minutes(32 * 60 + 30);
    let short = args.simulated().map(|span| {
        let seconds = span.as_seconds_f64() * FALL_AFTER_SHORT_RUN;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most the length of the run"
        )]
        TimeDelta::seconds(seconds as i64)
    });
    match (short, args.simulated()) {
        (Some(short), Some(span)) if span < usual + TimeDelta::hours(1) => short,
        _ => usual,
    }
}

async fn write_past(
    store: &Store,
    fleet: &Fleet,
    past: &[twin::Stayed],
    history: &[::market::Clearing],
    yesterday: &Yesterday,
) -> Result<(), store::StoreError> {
    let tables = store.tables();
    past::write(&tables, fleet, past).await?;
    tables.upsert_clearings(history).await?;
    tables.upsert_clearings(&yesterday.clearings).await?;
    tables.upsert_bids(&yesterday.bids).await?;
    tables.upsert_awards(&yesterday.awards).await
}

fn announce(args: &Args, edge: SocketAddr, console: Option<SocketAddr>, cycle: TimeDelta) {
    let mut lines = format!(
        "charge points connect to ws://{edge}/ocpp/, {} cars and {} buses, speed {}, real-time cycle {} s\n",
        args.vehicles,
        args.buses,
        args.speed,
        cycle.as_seconds_f64()
    );
    if let Some(console) = console {
        lines.push_str(&format!("control room at http://{console}/\n"));
    }
    crate::output::note(&lines);
}

/// Waits for the end of the run: `--for`, a signal, or a service that ended.
async fn wait(args: &Args, stop: &CancellationToken) -> anyhow::Result<()> {
    // `--for` counts from the moment the clock runs.
    let length = args
        .length
        .unwrap_or(std::time::Duration::MAX)
        .saturating_add(platform::WARM_UP);
    let signalled = CancellationToken::new();
    let listening = tokio::spawn(stop_on_signal(signalled.clone()));
    tokio::select! {
        () = tokio::time::sleep(length.min(std::time::Duration::from_secs(86_400 * 365))) => {}
        () = signalled.cancelled() => {}
        () = stop.cancelled() => {}
    }
    listening.abort();
    Ok(())
}

/// What can only be seen while everything runs.
struct Seen {
    until: DateTime<Utc>,
    cycle: TimeDelta,
    truth: sim::station::Truth,
    activations: Vec<dispatch::Activation>,
    latency: outcome::Latency,
}

impl Demo {
    async fn look(
        &self,
        args: &Args,
        channels: &Channels,
        stations: &Stations,
        clock: Clock,
        cycle: TimeDelta,
    ) -> anyhow::Result<Seen> {
        let until = args
            .simulated()
            .map_or_else(|| clock.now(), |span| self.start + span);
        let mut client = DispatchServiceClient::new(channels.gateway.clone());
        let request = dispatch::ListActivationsRequest {
            from_micros: self.start.timestamp_micros(),
            to_micros: until.timestamp_micros(),
        };
        let activations = client
            .list_activations(request)
            .await
            .context("activations")?
            .into_inner()
            .activations;
        let latency = client
            .latency(dispatch::LatencyRequest {})
            .await
            .context("latency")?
            .into_inner();
        Ok(Seen {
            until,
            cycle,
            truth: stations.truth(),
            activations,
            latency: outcome::Latency {
                signals: latency.signals,
                p50_ms: latency.p50_ms,
                p99_ms: latency.p99_ms,
                max_ms: latency.max_ms,
            },
        })
    }

    async fn account(&self, args: &Args, seen: Seen) -> anyhow::Result<Outcome> {
        let (tables, from) = (self.store.tables(), self.start);
        let decided = self.store.log().newest(store::topic::SETPOINTS).await?;
        let today = DeliveryDay::containing(from, AREA.exchange_zone());
        let horizon = seen.until + TimeDelta::days(3);
        let all_bids = tables.bids_between(from, horizon).await?;
        let all_awards = tables.awards_between(from, horizon).await?;
        let prices = tables.clearings_between(today.start(), horizon).await?;
        let statements = newest(tables.statements_between(today.start(), horizon).await?);
        let pool: Vec<&::market::Statement> = statements
            .iter()
            .filter(|s| s.account == ::market::settlement::POOL)
            .collect();
        let until = outcome::settled_until(&pool, from);
        let stays = twin::unmanaged(&self.fleet, from - TimeDelta::days(10), until);
        let mut account = outcome::pool(
            &pool,
            &seen.truth,
            from,
            until,
            yesterday::COSTS.wear_per_mwh,
        );
        let mut twin = outcome::twin_account(&self.fleet, &stays, &prices, from, until);
        let extra = outcome::pool_stored(&seen.truth, &self.fleet, until)
            - outcome::twin_stored(&self.fleet, &stays, until);
        let efficiency = self
            .fleet
            .evses()
            .first()
            .map_or(1.0, |e| e.charge_efficiency.share());
        account.close(extra, outcome::mean_price(&prices, from, until), efficiency);
        twin.close(units::Energy::ZERO, 0.0, 1.0);
        let span = seen.until - from;
        Ok(Outcome {
            seed: args.seed,
            speed: args.speed,
            from,
            to: seen.until,
            simulated_hours: span.as_seconds_f64() / 3_600.0,
            vehicles: args.vehicles,
            buses: args.buses,
            cycle_seconds: seen.cycle.as_seconds_f64(),
            cycle_lengthened_by: seen.cycle.as_seconds_f64(),
            forecasts_made: self.counted("shoal_forecasts_made_total", ""),
            bids: outcome::bids(&all_bids),
            awards: outcome::awards(&all_awards, from),
            awards_followed: seen.activations.iter().filter(|a| a.followed).count(),
            awards_delivered: seen.activations.len(),
            activations: seen.activations.iter().map(Into::into).collect(),
            setpoints: self.setpoints(decided.total()),
            latency: seen.latency,
            departures: seen.truth.stays_ended,
            vehicles_left_short: seen.truth.left_short,
            energy_short_kwh: seen.truth.short.kwh(),
            better_off_by: twin.net_cost - account.net_cost,
            pool: account,
            unmanaged_twin: twin,
            currency: AREA.currency().code(),
            statements: statements.iter().map(outcome::site).collect(),
        })
    }

    /// Sum of a counter over its labels that contain `label`: the metrics that operators watch too.
    fn counted(&self, name: &str, label: &str) -> u64 {
        self.metrics
            .render()
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// `decided`: set-points on the log.
    fn setpoints(&self, decided: u64) -> outcome::Setpoints {
        const ANSWERED: &str = "shoal_edge_setpoints_answered_total";
        outcome::Setpoints {
            decided,
            sent: self.counted("shoal_edge_setpoints_sent_total", ""),
            replaced_before_sending: self.counted("shoal_edge_setpoints_replaced_total", ""),
            accepted: self.counted(ANSWERED, "accepted"),
            rejected: self.counted(ANSWERED, "rejected"),
            unreachable: self.counted(ANSWERED, "unreachable"),
        }
    }
}

/// The newest version of each statement, in order of day, the pool's first.
fn newest(mut statements: Vec<::market::Statement>) -> Vec<::market::Statement> {
    statements.sort_by_key(|s| {
        (
            s.day.start(),
            s.account != ::market::settlement::POOL,
            s.account.clone(),
            std::cmp::Reverse(s.version),
        )
    });
    statements.dedup_by(|later, first| later.day == first.day && later.account == first.account);
    statements
}
