//! `shoal import`: foreign files to canonical tables.

use std::path::PathBuf;

use crate::cli::CliError;
use crate::output::Output;

/// Arguments of `shoal import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files to read, in order
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// File to write: .csv, .csv.gz or .parquet
    #[arg(long)]
    out: PathBuf,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, _output: Output) -> Result<(), CliError> {
    let file = args
        .files
        .first()
        .map_or_else(String::new, |f| f.display().to_string());
    Err(CliError::Input(format!(
        "{file}: no reader knows this file, expected one of the formats in --help"
    )))
}
