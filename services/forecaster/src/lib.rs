//! shoal-forecaster
