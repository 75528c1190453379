//! shoal-optimizer
