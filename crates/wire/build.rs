//! Compiles `proto/` in pure Rust: no `protoc` is needed.

use std::path::Path;

use prost::Message as _;

const FILES: [&str; 9] = [
    "shoal/telemetry/v1/telemetry.proto",
    "shoal/fleet/v1/fleet.proto",
    "shoal/forecast/v1/forecast.proto",
    "shoal/portfolio/v1/portfolio.proto",
    "shoal/market/v1/market.proto",
    "shoal/market/v1/operator.proto",
    "shoal/dispatch/v1/dispatch.proto",
    "shoal/dispatch/v1/decision.proto",
    "shoal/portfolio/v1/decision.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = protox::compile(FILES, [root])?;
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(Path::new(&out).join("types.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
