//! shoal-telemetry-ingest
