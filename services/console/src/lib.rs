//! shoal-console
