//! `shoal catalogue`: the reference tables of buses and chargers.

use std::fmt::Write as _;

use clap::ValueEnum;
use frames::catalogue::{self, Bus, Charger};

use crate::cli::CliError;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  shoal catalogue buses
  shoal catalogue chargers --json

A scenario names a bus as buses = \"catalogue:ID\" under [[fleet.depot]].";

/// Arguments of `shoal catalogue`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Table to print
    table: Table,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Table {
    /// Battery-electric buses: battery and charging power, each with its source
    Buses,
    /// Chargers: output and connection, each with its source
    Chargers,
}

/// Prints the table.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    match args.table {
        Table::Buses => {
            let buses = catalogue::buses()?;
            output.result(&buses, || buses_text(&buses))
        }
        Table::Chargers => {
            let chargers = catalogue::chargers()?;
            output.result(&chargers, || chargers_text(&chargers))
        }
    }
}

fn buses_text(buses: &[Bus]) -> String {
    let mut text = format!(
        "{:<34} {:>5} {:>8} {:>8} {:>8}  source\n",
        "id", "m", "kWh", "usable", "kW"
    );
    for bus in buses {
        let power = bus
            .max_charge_kw
            .map_or("-".to_owned(), |kw| kw.to_string());
        let assumed = if bus.assumed.is_empty() {
            String::new()
        } else {
            format!("; assumed: {}", bus.assumed)
        };
        let _ = writeln!(
            text,
            "{:<34} {:>5} {:>8} {:>8} {:>8}  {}{assumed}",
            bus.id, bus.length_m, bus.battery_kwh, bus.usable_kwh, power, bus.source
        );
    }
    text
}

fn chargers_text(chargers: &[Charger]) -> String {
    let mut text = format!(
        "{:<26} {:>7} {:<3} {:<18}  source\n",
        "id", "kW", "", "connection"
    );
    for charger in chargers {
        let _ = writeln!(
            text,
            "{:<26} {:>7} {:<3} {:<18}  {}",
            charger.id, charger.max_kw, charger.current, charger.connection, charger.source
        );
    }
    text
}
