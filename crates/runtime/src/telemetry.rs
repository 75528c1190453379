//! Logs to standard error, what is exported beside them, and the metrics recorder.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use metrics_util::layers::FanoutBuilder;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::export::{Exporting, Telemetry};

/// What the exporters themselves run on: their lines would cause lines for ever.
const NOT_EXPORTED: &str = "h2=off,hyper=off,hyper_util=off,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,tonic=off,tower=off";

/// Upper bounds of duration histograms, in seconds: from the wake-up of a task to a solve of a large fleet.
pub(crate) const SECONDS_BUCKETS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0,
];

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info,shoal_gateway=debug`.
    pub filter: String,
    /// How lines look.
    pub format: Format,
}

impl Default for Logging {
    /// One line per decision, and what the libraries warn about.
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Text,
        }
    }
}

/// Logging or metrics that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that does not parse.
    #[error("log filter {filter:?}")]
    Filter {
        /// As given.
        filter: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A collector whose address cannot be used.
    #[error("telemetry.otlp: {address:?}")]
    Export {
        /// As given; empty if the variables of OpenTelemetry name it.
        address: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Another subscriber is installed already.
    #[error("a log subscriber is already installed")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Metrics cannot be recorded.
    #[error("metrics recorder")]
    Metrics(#[source] BuildError),
    /// Another metrics recorder is installed already.
    #[error("a metrics recorder is already installed")]
    Recorder,
}

/// Starts logging to standard error. Call once per process.
///
/// # Errors
/// [`TelemetryError`] for a filter that does not parse or a second call.
pub fn init(logging: &Logging) -> Result<(), TelemetryError> {
    begin(logging, None)
}

/// Starts logging to standard error, and exporting for a process called `service` where `telemetry` names a collector. Call
/// once per process, inside a tokio runtime; exporting ends with what is returned.
///
/// # Errors
/// [`TelemetryError`] for a filter that does not parse, a collector without an address or a second call.
pub fn init_exporting(
    logging: &Logging,
    telemetry: &Telemetry,
    service: &str,
) -> Result<Option<Exporting>, TelemetryError> {
    let exporting = telemetry
        .exporting(service)
        .map_err(|source| TelemetryError::Export {
            address: telemetry.otlp.clone().unwrap_or_default(),
            source,
        })?;
    begin(logging, exporting.as_ref())?;
    Ok(exporting)
}

fn begin(logging: &Logging, exporting: Option<&Exporting>) -> Result<(), TelemetryError> {
    let filter = |directives: String| {
        EnvFilter::try_new(&directives).map_err(|source| TelemetryError::Filter {
            filter: logging.filter.clone(),
            source,
        })
    };
    let lines = filter(logging.filter.clone())?;
    let exported = filter(format!("{},{NOT_EXPORTED}", logging.filter))?;
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let stderr = match logging.format {
        Format::Text => stderr.boxed(),
        Format::Json => stderr.json().boxed(),
    };
    let bridge = exporting.map(|e| OpenTelemetryTracingBridge::new(&e.logs).with_filter(exported));
    tracing_subscriber::registry()
        .with(stderr.with_filter(lines))
        .with(bridge)
        .try_init()
        .map_err(|error| TelemetryError::Installed(error.into()))
}

/// The process's metrics, for `/metrics`; installs the recorder on the first call, which comes after that of
/// [`init_exporting`] where metrics are exported too. Histograms whose name ends in
/// `_seconds` have buckets from half a millisecond to a minute.
///
/// # Errors
/// [`TelemetryError::Recorder`] if something else installed a recorder.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = INSTALLING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .map_err(TelemetryError::Metrics)?
        .build_recorder();
    let handle = recorder.handle();
    let installed = match crate::export::meter() {
        None => metrics::set_global_recorder(recorder).is_ok(),
        Some(meter) => {
            let exported = OpenTelemetryRecorder::new(OpenTelemetryMetrics::new(meter));
            let both = FanoutBuilder::default().add_recorder(recorder);
            metrics::set_global_recorder(both.add_recorder(exported).build()).is_ok()
        }
    };
    if !installed {
        return Err(TelemetryError::Recorder);
    }
    Ok(HANDLE.get_or_init(|| handle).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorder_is_installed_once() {
        assert!(metrics().is_ok() && metrics().is_ok());
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused_with_its_text() {
        let logging = Logging {
            filter: "info,=[".to_owned(),
            ..Logging::default()
        };
        let refused = init(&logging).unwrap_err().to_string();
        assert!(refused.contains("info,=["), "{refused}");
    }
}
