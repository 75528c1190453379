//! One signal of the grid is one trace, from its receipt to the meter: what the services export is read by a collector.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../../../crates/store/tests/support/kafka.rs"]
mod support;

mod drivers;
mod grid;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use drivers::{Quiet, Wall};
use grid::Grid;
use market::{Area, Award, AwardId, BidId, Direction, Product};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use runtime::Clock;
use runtime::pipe::Listener;
use sim::fleet::{Fleet, Settings};
use sim::station::{DriverApp, Options, Stations, Time, spawn_fleet};
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use units::{Currency, Interval, Power, Price};
use uuid::Uuid;
use wire::proto::market::v1::market_operator_server::MarketOperatorServer;

/// Only a test that fails waits so long, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// From the grid's signal to the meter, each caused by one before it.
const HOPS: [&str; 6] = [
    "gateway.receive",
    "gateway.split",
    "log.append",
    "edge.deliver",
    "station.setpoint",
    "meter.answer",
];

/// What was exported.
#[derive(Debug, Clone, Default)]
struct Collector {
    /// With the name of the service that exported them.
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    lines: Arc<Mutex<usize>>,
    /// Names.
    metrics: Arc<Mutex<BTreeSet<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for exported in request.into_inner().resource_spans {
            let resource = exported.resource.unwrap_or_default();
            let name = resource.attributes.iter().find(|a| a.key == "service.name");
            let name = format!("{:?}", name.and_then(|name| name.value.as_ref()));
            let scopes = exported.scope_spans.into_iter();
            let spans = scopes.flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (name.clone(), span));
            self.spans.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_logs);
        *self.lines.lock().unwrap() += scopes.map(|scope| scope.log_records.len()).sum::<usize>();
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let resources = request.into_inner().resource_metrics.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|m| m.name);
        self.metrics.lock().unwrap().extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Collector {
    /// Log lines and metrics come with the spans.
    fn has_the_rest(&self) -> bool {
        let metrics = self.metrics.lock().unwrap();
        *self.lines.lock().unwrap() > 0
            && [
                "shoal_dispatch_decision_seconds",
                "shoal_edge_setpoints_sent_total",
            ]
            .iter()
            .all(|name| metrics.contains(*name))
    }

    /// Spans of a trace in which every hop was met, and what caused each: a cause may be exported after what it caused.
    fn whole(&self) -> Option<Vec<(String, Span)>> {
        let mut traces: BTreeMap<Vec<u8>, Vec<(String, Span)>> = BTreeMap::new();
        for exported in self.spans.lock().unwrap().iter() {
            let trace = traces.entry(exported.1.trace_id.clone()).or_default();
            trace.push(exported.clone());
        }
        let met = |spans: &Vec<(String, Span)>| {
            let known = |id: &[u8]| spans.iter().any(|(_, span)| span.span_id == id);
            HOPS.iter()
                .all(|hop| spans.iter().any(|(_, span)| span.name == *hop))
                && spans
                    .iter()
                    .all(|(_, span)| span.parent_span_id.is_empty() || known(&span.parent_span_id))
        };
        traces.into_values().find(met)
    }

    fn names(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for (_, span) in self.spans.lock().unwrap().iter() {
            *names.entry(span.name.clone()).or_default() += 1;
        }
        names
    }

    async fn wait(&self) -> Vec<(String, Span)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(trace) = self.whole() {
                return trace;
            }
            let names = self.names();
            assert!(
                Instant::now() < deadline,
                "no trace has all hops: {names:?}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A fleet is registered, and frequency containment was sold of it.
async fn prepare(store: &Store, fleet: &Fleet, now: DateTime<Utc>) {
    let tables = store.tables();
    let sites = fleet.sites().iter().map(|site| fleet::Site {
        id: site.id.clone(),
        name: site.name.clone(),
        import_limit: site.import_limit,
        export_limit: site.export_limit,
    });
    let sites: Vec<_> = sites.collect();
    tables.upsert_sites(&sites).await.unwrap();
    tables.upsert_evses(fleet.evses()).await.unwrap();
    let delivery = Interval::try_new(now - TimeDelta::hours(1), now + TimeDelta::hours(5));
    let award = Award {
        id: AwardId(Uuid::from_u128(1)),
        bid: BidId(Uuid::from_u128(2)),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: delivery.unwrap(),
        volume: Power::from_kw(60.0),
        price: Price::new(42.into(), Currency::Eur),
        awarded_at: now - TimeDelta::hours(2),
    };
    tables.upsert_award(&award).await.unwrap();
}

async fn serve(routes: Routes, stop: &CancellationToken) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(Listener::socket("test", socket).serve(routes, stop.clone()));
    address
}

/// Settings of the services of the signal path.
fn settings(dir: &Path, operator: &str, collector: &str, log: &str) -> PathBuf {
    let file = dir.join("shoal.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[grpc]\ngateway = \"127.0.0.1:0\"\ntelemetry_ingest = \"127.0.0.1:0\"\n\
         [store]\ndir = {:?}\n[peers]\noperator = {operator:?}\n[telemetry]\notlp = {collector:?}\n\
         [edge]\nlisten = \"127.0.0.1:0\"\npool_sample_seconds = 2\nidle_sample_seconds = 2\n\
         [edge.security]\ndischarge_without_tls = true\n{log}",
        dir.join("data"),
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What is around the services.
struct Around {
    fleet: Arc<Fleet>,
    clock: Clock,
    now: DateTime<Utc>,
    collector: Collector,
    /// Their addresses.
    operator: String,
    collected_at: String,
    stop: CancellationToken,
}

impl Around {
    async fn new() -> Self {
        let (clock, stop) = (Clock::system(), CancellationToken::new());
        let every = Duration::from_secs(1);
        let operator = MarketOperatorServer::new(Grid { clock, every });
        let collector = Collector::default();
        let routes = Routes::new(TraceServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()));
        let cars = Settings {
            seed: 7,
            cars: 80,
            buses: 0,
            zone: Amsterdam,
        };
        Self {
            fleet: Arc::new(Fleet::new(cars)),
            clock,
            now: clock.now(),
            operator: serve(Routes::new(operator), &stop).await,
            collected_at: serve(routes, &stop).await,
            collector,
            stop,
        }
    }

    fn stations(&self, edge: &str) -> Stations {
        let mut options = Options::new(format!("ws://{edge}/ocpp"));
        options.sample_period = TimeDelta::seconds(2);
        let time: Arc<dyn Time> = Arc::new(Wall(self.clock));
        let app: Arc<dyn DriverApp> = Arc::new(Quiet);
        let until = self.now + TimeDelta::days(1);
        spawn_fleet(&self.fleet, self.now, until, &options, &time, &app).unwrap()
    }
}

/// Each hop was caused by another one of the trace, the first by nothing.
fn check(trace: &[(String, Span)]) {
    let cause = |span: &Span| {
        let found = trace
            .iter()
            .find(|(_, other)| other.span_id == span.parent_span_id);
        found.map(|(_, other)| other.name.clone())
    };
    let caused_by = |name: &str, by: Option<&str>| {
        let mut named = trace.iter().filter(|(_, span)| span.name == name);
        named.all(|(_, span)| cause(span).as_deref() == by)
    };
    assert!(caused_by("gateway.receive", None));
    assert!(caused_by("gateway.split", Some("gateway.receive")));
    assert!(caused_by("log.append", Some("gateway.split")));
    assert!(caused_by("edge.deliver", Some("log.append")));
    assert!(caused_by("station.setpoint", Some("edge.deliver")));
    assert!(caused_by("meter.answer", Some("log.append")));
    // Eighty vehicles are not eighty spans: each reader of the log may meet a signal in several batches.
    assert!(trace.len() <= 20, "{} spans of one signal", trace.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_signal_of_the_grid_to_the_meter() {
    let around = Around::new().await;
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(&dir.path().join("data")).await.unwrap();
        prepare(&store, &around.fleet, around.now).await;
    }
    let file = settings(dir.path(), &around.operator, &around.collected_at, "");
    let roles = ["telemetry-ingest", "gateway", "edge"];
    let services = processes::serve_all(&file, &roles, "all", "ws://");
    let stations = around.stations(&services.address);
    check(&around.collector.wait().await);
    let deadline = Instant::now() + PATIENCE;
    while !around.collector.has_the_rest() {
        let metrics = around.collector.metrics.lock().unwrap().clone();
        assert!(
            Instant::now() < deadline,
            "log lines, or of metrics {metrics:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stations.stop().await;
    around.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_through_processes_and_the_log_on_kafka_and_what_they_decided_replays() {
    let Some(broker) = support::Broker::start() else {
        return;
    };
    let kafka = broker.options(&store::topic::ALL);
    let around = Around::new().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = support::store(data.as_path(), &kafka, "test").await;
    prepare(&store, &around.fleet, around.now).await;
    drop(store);
    let log = format!(
        "[log]\nbrokers = {:?}\nprefix = {:?}\npartitions = 3\nreplication = 1\n",
        kafka.brokers, kafka.prefix
    );
    let file = settings(dir.path(), &around.operator, &around.collected_at, &log);
    let ingest = processes::serve(&file, "telemetry-ingest", "ingest", "grpc://");
    let mut gateway = processes::serve(&file, "gateway", "gateway", "grpc://");
    let edge = processes::serve(&file, "edge", "edge", "ws://");
    let stations = around.stations(&edge.address);
    let trace = around.collector.wait().await;
    check(&trace);
    let services: BTreeSet<&String> = trace.iter().map(|(service, _)| service).collect();
    assert_eq!(services.len(), 2, "gateway and edge: {services:?}");
    stations.stop().await;

    // What it decided is written down when it stops in order.
    support::signal("-TERM", &gateway.child.id().to_string());
    assert!(gateway.child.wait().unwrap().success());
    drop((ingest, edge));
    let day = around.now.with_timezone(&Amsterdam).date_naive();
    let replay = processes::shoal(&file)
        .args(["replay", "--json", "--day", &day.to_string()])
        .output()
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");
    let told: serde_json::Value = serde_json::from_slice(&replay.stdout).unwrap();
    let found = told["setpoints"]["found_again"].as_u64().unwrap();
    assert!(found > 0, "{told}");
    around.stop.cancel();
}
