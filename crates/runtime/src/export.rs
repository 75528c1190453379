//! Where traces, metrics and log lines go beside standard error and `/metrics`: an OpenTelemetry collector, over OTLP.

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, OTEL_EXPORTER_OTLP_ENDPOINT, SpanExporter,
    WithExportConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};

/// Variable that names this service to the collector, over what we say.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Where a collector is, section `[telemetry]`.
///
/// Everything else is said by the variables of OpenTelemetry: headers, timeouts, sampling (`OTEL_TRACES_SAMPLER`), batching
/// (`OTEL_BSP_SCHEDULE_DELAY`), attributes (`OTEL_RESOURCE_ATTRIBUTES`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address of OTLP over gRPC, like `http://collector:4317`; `OTEL_EXPORTER_OTLP_ENDPOINT` by default. Without either nothing is
    /// exported.
    pub otlp: Option<String>,
}

static METER: OnceLock<Meter> = OnceLock::new();

/// Where metrics are exported, if they are.
pub(crate) fn meter() -> Option<Meter> {
    METER.get().cloned()
}

/// What ends the exporting: what is waiting is sent when this is dropped.
#[derive(Debug)]
#[must_use = "what waits to be exported is sent when this is dropped"]
pub struct Exporting {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    pub(crate) logs: SdkLoggerProvider,
}

impl Telemetry {
    /// Exporters for a process called `service`, if a collector is named. Ask inside a tokio runtime.
    ///
    /// # Errors
    /// [`ExporterBuildError`] for an address that is none.
    pub(crate) fn exporting(&self, service: &str) -> Result<Option<Exporting>, ExporterBuildError> {
        if self.otlp.is_none() && !is_set(OTEL_EXPORTER_OTLP_ENDPOINT) {
            return Ok(None);
        }
        let mut spans = SpanExporter::builder().with_tonic();
        let mut measures = MetricExporter::builder().with_tonic();
        let mut lines = LogExporter::builder().with_tonic();
        if let Some(address) = &self.otlp {
            spans = spans.with_endpoint(address);
            measures = measures.with_endpoint(address);
            lines = lines.with_endpoint(address);
        }
        let resource = resource(service);
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(spans.build()?)
            .with_resource(resource.clone())
            .build();
        let metrics = SdkMeterProvider::builder()
            .with_periodic_exporter(measures.build()?)
            .with_view(in_seconds)
            .with_resource(resource.clone())
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_batch_exporter(lines.build()?)
            .with_resource(resource)
            .build();
        crate::trace::install(traces.tracer("shoal"));
        let _ = METER.set(metrics.meter("shoal"));
        Ok(Some(Exporting {
            traces,
            metrics,
            logs,
        }))
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        // Standard error still says what the collector does not get.
        if let Err(error) = self.traces.shutdown() {
            tracing::warn!(%error, "the last spans were not exported: {error}");
        }
        if let Err(error) = self.metrics.shutdown() {
            tracing::warn!(%error, "the last metrics were not exported: {error}");
        }
        if let Err(error) = self.logs.shutdown() {
            tracing::warn!(%error, "the last log lines were not exported: {error}");
        }
    }
}

/// The buckets that `/metrics` has.
fn in_seconds(instrument: &Instrument) -> Option<Stream> {
    let seconds = instrument.name().ends_with("_seconds");
    let buckets = Aggregation::ExplicitBucketHistogram {
        boundaries: crate::telemetry::SECONDS_BUCKETS.to_vec(),
        record_min_max: true,
    };
    let stream = seconds.then(|| Stream::builder().with_aggregation(buckets).build());
    stream?.ok()
}

fn resource(service: &str) -> Resource {
    let resource = Resource::builder().with_attribute(KeyValue::new(
        "service.instance.id",
        std::process::id().to_string(),
    ));
    if is_set(SERVICE_NAME) {
        resource.build()
    } else {
        resource.with_service_name(service.to_owned()).build()
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}
