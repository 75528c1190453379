//! `shoal plan`: one delivery day as it is decided when its last gate closes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::Args as ClapArgs;
use portfolio::policy::{self, DayPlan, Policy};
use serde::Serialize;

use super::{Data, convert, extend, known, parse_policy};
use crate::cli::CliError;
use crate::output::Output;

/// Arguments of `shoal plan`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example: shoal plan nl-2024-01.toml --day 2024-01-22 --policy v2g --out out/nl"
)]
pub(crate) struct Args {
    /// Scenario file (TOML)
    scenario: PathBuf,
    #[command(flatten)]
    data: Data,
    /// Delivery day, a local date inside the scenario's period
    #[arg(long, value_name = "DATE")]
    day: NaiveDate,
    /// Policy that plans: v1g or v2g as its last gate closes; v1g-perfect or v2g-perfect with everything known
    #[arg(long, value_name = "NAME", value_parser = parse_policy, default_value = "v2g")]
    policy: Policy,
    /// Sell reserve in the whole volumes of its market; only for a policy that knows everything
    #[arg(long)]
    whole: bool,
    /// Folder for plan.json [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `plan.json`.
#[derive(Debug, Serialize)]
struct Document {
    scenario: String,
    area: &'static str,
    currency: String,
    #[serde(flatten)]
    plan: DayPlan,
}

/// Plans the day and writes `plan.json`.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    if args.policy == Policy::Unmanaged {
        return Err(CliError::Input(format!(
            "--policy {}: plans no day, expected v1g, v2g, v1g-perfect or v2g-perfect",
            args.policy
        )));
    }
    if args.whole && !args.policy.is_perfect() {
        return Err(CliError::Input(format!(
            "--whole with --policy {}, expected v1g-perfect or v2g-perfect",
            args.policy
        )));
    }
    let scenario = args.data.scenario(&args.scenario)?;
    let outside = || {
        CliError::Input(format!(
            "{}: --day {} is outside the period, expected a date from {} up to {}, not included",
            args.scenario.display(),
            args.day,
            scenario.from,
            scenario.to
        ))
    };
    if args.day < scenario.from || args.day >= scenario.to {
        return Err(outside());
    }
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("out").join(&scenario.name));
    if args.policy.is_perfect() {
        let plan = known::plan(&scenario, args.day, args.policy, args.whole)?;
        write(&dir, &plan)?;
        return output.result(&plan, || plan.table(&dir, scenario.zone()));
    }
    extend::refuse_extras(&scenario)?;
    let case = convert::case(&scenario, None, None)?;
    let plan = policy::plan_day(&case, args.policy, args.day).ok_or_else(outside)?;
    let document = Document {
        scenario: scenario.name.clone(),
        area: scenario.area.code(),
        currency: scenario.currency().to_string(),
        plan,
    };
    write(&dir, &document)?;
    output.result(&document, || table(&document, &dir, scenario.zone()))
}

/// Writes `plan.json` into a folder, which is made if it is not there.
fn write(dir: &Path, document: &impl Serialize) -> Result<(), CliError> {
    let failed =
        |e: std::io::Error| CliError::Failed(format!("{}: cannot write: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut text = serde_json::to_string_pretty(document).map_err(|e| failed(e.into()))?;
    text.push('\n');
    std::fs::write(dir.join("plan.json"), text).map_err(failed)
}

/// What a person reads on the terminal: the day by the hour, then the reserve bids.
fn table(document: &Document, dir: &Path, zone: chrono_tz::Tz) -> String {
    let plan = &document.plan;
    let mut text = format!(
        "{} ({}), {}: plan of {} made at {}\n{:<6} {:>14} {:>12} {:>14}  why\n",
        document.scenario,
        document.area,
        plan.day,
        plan.policy,
        plan.made_at
            .with_timezone(&zone)
            .format("%Y-%m-%d %H:%M %Z"),
        "local",
        format!("{}/MWh", document.currency),
        "charging kW",
        "discharging kW",
    );
    for step in &plan.positions {
        let local = step.start.with_timezone(&zone).format("%H:%M");
        let _ = writeln!(
            text,
            "{local:<6} {:>14.1} {:>12.1} {:>14.1}  {}",
            step.expected_price, step.charge_kw, step.discharge_kw, step.reason
        );
    }
    for bid in plan.bids.iter().filter(|b| b.product != "day_ahead") {
        let _ = writeln!(
            text,
            "{} {} to {}: {:.3} MW at {:.2} {} per MW and block, gate {}: {}",
            bid.product,
            bid.start.with_timezone(&zone).format("%H:%M"),
            bid.end.with_timezone(&zone).format("%H:%M"),
            bid.volume_mw,
            bid.price.unwrap_or(0.0),
            document.currency,
            bid.gate_closes
                .with_timezone(&zone)
                .format("%Y-%m-%d %H:%M"),
            bid.reason
        );
    }
    for word in &plan.relaxed {
        let _ = writeln!(text, "relaxed: {word}");
    }
    let _ = writeln!(text, "written to {}", dir.join("plan.json").display());
    text
}
