//! Where traces and log lines go beside standard error: an OpenTelemetry collector, over OTLP.

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, OTEL_EXPORTER_OTLP_ENDPOINT, SpanExporter,
    WithExportConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
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

/// What ends the exporting: what is waiting is sent when this is dropped.
#[derive(Debug)]
#[must_use = "what waits to be exported is sent when this is dropped"]
pub struct Exporting {
    traces: SdkTracerProvider,
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
        let (mut spans, mut lines) = (
            SpanExporter::builder().with_tonic(),
            LogExporter::builder().with_tonic(),
        );
        if let Some(address) = &self.otlp {
            spans = spans.with_endpoint(address);
            lines = lines.with_endpoint(address);
        }
        let resource = resource(service);
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(spans.build()?)
            .with_resource(resource.clone())
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_batch_exporter(lines.build()?)
            .with_resource(resource)
            .build();
        crate::trace::install(traces.tracer("shoal"));
        Ok(Some(Exporting { traces, logs }))
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        // Standard error still says what the collector does not get.
        if let Err(error) = self.traces.shutdown() {
            tracing::warn!(%error, "the last spans were not exported: {error}");
        }
        if let Err(error) = self.logs.shutdown() {
            tracing::warn!(%error, "the last log lines were not exported: {error}");
        }
    }
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
