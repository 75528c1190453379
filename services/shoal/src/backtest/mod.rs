//! `shoal backtest` and `shoal plan`: thin verbs around `portfolio::policy`.

mod constraint;
pub(crate) mod convert;
mod days;
mod exclusive;
mod extend;
mod html;
mod known;
pub(crate) mod plan;
mod points;
mod report;
mod tables;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::NaiveDate;
use clap::Args as ClapArgs;
use frames::scenario::{self, Scenario};
use portfolio::case::Case;
use portfolio::policy::{self, Policy};

use crate::cli::CliError;
use crate::output::Output;
use report::{Entry, Played, Report, Unsolved};

/// Arguments of `shoal backtest`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example: shoal backtest nl-2024-01.toml --policy unmanaged --policy v2g --out out/nl"
)]
pub(crate) struct Args {
    /// Scenario file (TOML)
    scenario: PathBuf,
    #[command(flatten)]
    data: Data,
    /// First local date, instead of the scenario's
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// Local date after the last, instead of the scenario's
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// Policy to play, repeatable; all five without it
    #[arg(long = "policy", value_name = "NAME", value_parser = parse_policy)]
    policies: Vec<Policy>,
    /// Folder for report.json, report.html, positions.parquet and sessions.parquet [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn parse_policy(name: &str) -> Result<Policy, policy::PolicyNameError> {
    name.parse()
}

/// Where the published files stand that a scenario reads as they are.
#[derive(Debug, ClapArgs)]
pub(crate) struct Data {
    /// Folder of the data that scenarios name under `data`
    #[arg(
        long = "data",
        env = "SHOAL_DATA",
        value_name = "DIR",
        default_value = "../shared/data"
    )]
    folder: PathBuf,
}

impl Data {
    /// The scenario at `file` with its tables.
    pub(crate) fn scenario(&self, file: &Path) -> Result<Scenario, CliError> {
        Ok(scenario::load_with_data(file, &self.folder)?)
    }
}

/// Plays the policies over a scenario and writes what came of it.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let scenario = args.data.scenario(&args.scenario)?;
    extend::refuse_extras(&scenario)?;
    let case = convert::case(&scenario, args.from, args.to)?;
    let (played, unsolved) = play(&case, &chosen(&args.policies));
    let report = make_report(&scenario, &case, args, &played, unsolved);
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("out").join(&scenario.name));
    write_all(&dir, &case, &report, &played)?;
    output.result(&report, || summary(&report, &dir))?;
    match report.unsolved.first() {
        None => Ok(()),
        Some(first) => Err(CliError::Failed(format!(
            "policy {}: {}",
            first.name, first.reason
        ))),
    }
}

/// The policies asked for, each once, in the order of a report.
fn chosen(asked: &[Policy]) -> Vec<Policy> {
    Policy::ALL
        .into_iter()
        .filter(|p| asked.is_empty() || asked.contains(p))
        .collect()
}

fn play(case: &Case, policies: &[Policy]) -> (Vec<Played>, Vec<Unsolved>) {
    let (mut played, mut unsolved) = (Vec::new(), Vec::new());
    for policy in policies {
        let begun = Instant::now();
        tracing::info!(policy = policy.name(), "playing {policy}");
        match policy::run(case, *policy) {
            Ok(run) => {
                let mut account = policy::account(case, &run);
                account.solve_seconds = begun.elapsed().as_secs_f64();
                played.push(Played { run, account });
            }
            Err(error) => unsolved.push(Unsolved {
                name: policy.name(),
                reason: error.to_string(),
            }),
        }
    }
    (played, unsolved)
}

fn make_report(
    scenario: &Scenario,
    case: &Case,
    args: &Args,
    played: &[Played],
    unsolved: Vec<Unsolved>,
) -> Report {
    let mut notes = scenario.notes.clone();
    notes.push(
        "energy_cost prices energy used at the day-ahead price; imbalance_cost is what deviations from the sold position cost beyond it".to_owned(),
    );
    if case.costs.demand > 0.0 {
        notes.push("demand_cost is not part of the reference problem's objective: a -perfect policy minimises the other terms".to_owned());
    }
    Report {
        scenario: scenario.name.clone(),
        area: scenario.area.code().to_owned(),
        from: args.from.unwrap_or(scenario.from),
        to: args.to.unwrap_or(scenario.to),
        currency: scenario.currency().to_string(),
        vehicles: case.vehicles(),
        sessions: case.sessions.len(),
        sessions_skipped: case.others.len(),
        price_gaps_filled: scenario.price_gaps_filled(),
        value_capture: report::value_capture(played),
        policies: played
            .iter()
            .map(|p| Entry {
                account: p.account.clone(),
                limits: p
                    .run
                    .limits
                    .iter()
                    .cloned()
                    .chain(policy::limits(case, &p.run))
                    .collect(),
                reserve_blocks: report::blocks(case, &p.run),
            })
            .collect(),
        unsolved,
        notes,
    }
}

fn write_all(dir: &Path, case: &Case, report: &Report, played: &[Played]) -> Result<(), CliError> {
    std::fs::create_dir_all(dir)
        .and_then(|()| report.write(dir))
        .and_then(|()| html::write(dir, case, report, played))
        .map_err(|e| CliError::Failed(format!("{}: cannot write: {e}", dir.display())))?;
    tables::positions(case, played)
        .and_then(|t| t.write_parquet(&dir.join("positions.parquet")))
        .map_err(|e| CliError::failed(&e))?;
    tables::sessions(case, played)
        .and_then(|t| t.write_parquet(&dir.join("sessions.parquet")))
        .map_err(|e| CliError::failed(&e))
}

/// What a person reads on the terminal.
fn summary(report: &Report, dir: &Path) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} ({}), {} to {}: {} sessions of {} vehicles, {} skipped",
        report.scenario,
        report.area,
        report.from,
        report.to,
        report.sessions,
        report.vehicles,
        report.sessions_skipped
    );
    let _ = writeln!(
        text,
        "{:<12} {:>12} {:>12} {:>13} {:>6} {:>9} {:>9} {:>8}",
        "policy",
        "net cost",
        "charged kWh",
        "discharged kWh",
        "short",
        "breaches",
        "gap",
        "seconds"
    );
    for entry in &report.policies {
        let a = &entry.account;
        let gap = a
            .relative_gap
            .map_or_else(|| "-".to_owned(), |g| format!("{g:.1e}"));
        let _ = writeln!(
            text,
            "{:<12} {:>8.2} {} {:>12.1} {:>14.1} {:>6} {:>9} {:>9} {:>8.2}",
            a.name,
            a.net_cost,
            report.currency,
            a.energy_charged_kwh,
            a.energy_discharged_kwh,
            a.short_departures,
            a.site_limit_breaches,
            gap,
            a.solve_seconds
        );
    }
    for unsolved in &report.unsolved {
        let _ = writeln!(text, "{:<12} {}", unsolved.name, unsolved.reason);
    }
    if let Some(capture) = report.value_capture {
        let _ = writeln!(
            text,
            "value capture {:.1} % of the way from unmanaged to v2g-perfect",
            capture * 100.0
        );
    }
    let _ = writeln!(text, "written to {}", dir.display());
    text
}
