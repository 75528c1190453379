//! Real servers for tests.
#![allow(
    dead_code,
    unused_imports,
    clippy::print_stdout,
    reason = "each test program uses its own part of what they share, and one that is skipped says so"
)]

mod kafka;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod young;

pub(crate) use kafka::{Broker, script, signal, store};
