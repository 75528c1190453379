//! shoal-edge
