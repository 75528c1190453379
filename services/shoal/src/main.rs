#![doc = include_str!("../README.md")]

mod backtest;
mod catalogue;
mod cli;
mod demo;
mod doctor;
mod export;
mod forecast;
mod import;
mod migrate;
mod output;
mod replay;
mod serve;
mod study;
mod synth;

use std::process::ExitCode;

use clap::Parser;

/// Services make and drop some twenty small things for each message.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse_from(serve::called_as(std::env::args_os().collect()));
    if !cli.command.logs_by_configuration() {
        cli::log_to_stderr();
    }
    let output = output::Output::new(cli.json);
    match cli.command.run(output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.status())
        }
    }
}
