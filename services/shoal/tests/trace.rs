//! One signal of the grid is one trace, from its receipt to the meter: what the services export is read by a collector.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod grid;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use grid::Grid;
use market::{Area, Award, AwardId, BidId, Direction, Product};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use processes::shoal;
use runtime::Clock;
use runtime::pipe::Listener;
use sim::fleet::{Fleet, Settings};
use sim::station::{Boxed, DriverApp, Options, Stated, Time, spawn_fleet};
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
    spans: Arc<Mutex<Vec<Span>>>,
    lines: Arc<Mutex<usize>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.spans.lock().unwrap().extend(spans);
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

impl Collector {
    /// Spans of a trace in which every hop was met.
    fn whole(&self) -> Option<Vec<Span>> {
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for span in self.spans.lock().unwrap().iter() {
            let trace = traces.entry(span.trace_id.clone()).or_default();
            trace.push(span.clone());
        }
        let met = |spans: &Vec<Span>| {
            let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            HOPS.iter().all(|hop| names.contains(hop))
        };
        traces.into_values().find(met)
    }

    fn names(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for span in self.spans.lock().unwrap().iter() {
            *names.entry(span.name.clone()).or_default() += 1;
        }
        names
    }
}

struct Wall(Clock);

impl Time for Wall {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

/// Two-way stations say what their vehicles need by themselves.
struct Quiet;

impl DriverApp for Quiet {
    fn state(&self, _: Stated) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}

/// A fleet is registered, and frequency containment was sold of it.
async fn prepare(dir: &Path, fleet: &Fleet, now: DateTime<Utc>) {
    let store = Store::open(dir).await.unwrap();
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

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serve(routes: Routes, stop: &CancellationToken) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(Listener::socket("test", socket).serve(routes, stop.clone()));
    address
}

/// Starts the services of the signal path; answers where charge points connect.
fn start(dir: &Path, operator: &str, collector: &str) -> (Killed, String) {
    let file = dir.join("shoal.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[grpc]\ngateway = \"127.0.0.1:0\"\ntelemetry_ingest = \"127.0.0.1:0\"\n\
         [store]\ndir = {:?}\n[peers]\noperator = {operator:?}\n[telemetry]\notlp = {collector:?}\n\
         [edge]\nlisten = \"127.0.0.1:0\"\npool_sample_seconds = 2\nidle_sample_seconds = 2\n\
         [edge.security]\ndischarge_without_tls = true\n",
        dir.join("data"),
    );
    std::fs::write(&file, text).unwrap();
    let mut child = shoal(&file)
        .args(["serve", "telemetry-ingest", "gateway", "edge"])
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(lines);
    let edge = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some((_, rest)) = line.split_once("served at ws://") {
            break rest.split('/').next().unwrap().to_owned();
        }
    };
    // Nobody may be stopped by a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (Killed(child), edge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_signal_of_the_grid_to_the_meter() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let now = clock.now();
    let settings = Settings {
        seed: 7,
        cars: 80,
        buses: 0,
        zone: Amsterdam,
    };
    let fleet = Arc::new(Fleet::new(settings));
    prepare(&dir.path().join("data"), &fleet, now).await;
    let stop = CancellationToken::new();
    let every = Duration::from_secs(1);
    let operator = MarketOperatorServer::new(Grid { clock, every });
    let operator = serve(Routes::new(operator), &stop).await;
    let collector = Collector::default();
    let routes = Routes::new(TraceServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()));
    let address = serve(routes, &stop).await;
    let (_services, edge) = start(dir.path(), &operator, &address);

    let mut options = Options::new(format!("ws://{edge}/ocpp"));
    options.sample_period = TimeDelta::seconds(2);
    let time: Arc<dyn Time> = Arc::new(Wall(clock));
    let app: Arc<dyn DriverApp> = Arc::new(Quiet);
    let until = now + TimeDelta::days(1);
    let stations = spawn_fleet(&fleet, now, until, &options, &time, &app).unwrap();

    let deadline = Instant::now() + PATIENCE;
    let trace = loop {
        if let Some(trace) = collector.whole() {
            break trace;
        }
        assert!(
            Instant::now() < deadline,
            "no trace has all hops: {:?}",
            collector.names()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // Each hop was caused by another one of the trace, the first by nothing.
    let cause = |span: &Span| {
        let found = trace
            .iter()
            .find(|other| other.span_id == span.parent_span_id);
        found.map(|other| other.name.clone())
    };
    let caused_by = |name: &str, by: Option<&str>| {
        let mut named = trace.iter().filter(|span| span.name == name);
        named.all(|span| cause(span).as_deref() == by)
    };
    assert!(caused_by("gateway.receive", None));
    assert!(caused_by("gateway.split", Some("gateway.receive")));
    assert!(caused_by("log.append", Some("gateway.split")));
    assert!(caused_by("edge.deliver", Some("log.append")));
    assert!(caused_by("station.setpoint", Some("edge.deliver")));
    assert!(caused_by("meter.answer", Some("log.append")));
    // Eighty vehicles are not eighty spans.
    assert!(trace.len() <= 12, "{} spans of one signal", trace.len());
    assert!(
        *collector.lines.lock().unwrap() > 0,
        "log lines are exported too"
    );
    stations.stop().await;
    stop.cancel();
}
