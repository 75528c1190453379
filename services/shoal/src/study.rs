//! `shoal study uncertain`: what planning on scenarios is worth, walked forward over the same days.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use chrono::NaiveDate;
use clap::{Args as ClapArgs, Subcommand};
use forecast::parallel;
use portfolio::case::{Case, Planning, Risk, Scoring};
use portfolio::policy::outcome::{Span, dear_tail, spans};
use portfolio::policy::{self, Account, Policy, Score, Scored};
use serde::Serialize;

use crate::backtest;
use crate::cli::CliError;
use crate::output::Output;

/// Arguments of `shoal study`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    study: Study,
}

/// The studies.
#[derive(Debug, Subcommand)]
enum Study {
    /// Play v2g on expected values and on scenarios at several weights of risk, over the same days
    Uncertain(Uncertain),
}

/// Arguments of `shoal study uncertain`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example: shoal study uncertain de-2024.toml --from 2024-02-01 --to 2024-04-01 --beta 0 --beta 1"
)]
struct Uncertain {
    /// Scenario file (TOML)
    scenario: PathBuf,
    #[command(flatten)]
    data: backtest::Data,
    /// First local date, instead of the scenario's; earlier sessions and prices are history
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// Local date after the last, instead of the scenario's
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// Weight of the dear tail to play, repeatable; 0, 0.5 and 1 without it
    #[arg(long = "beta", value_name = "WEIGHT")]
    betas: Vec<f64>,
    /// Ways drawn afresh in which each day's positions are scored, once its price is out
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    fresh: u32,
    /// Threads that may be used; what is played does not depend on them
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

/// Runs a study.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    match &args.study {
        Study::Uncertain(args) => uncertain(args, output),
    }
}

/// What came of one way to plan.
#[derive(Debug, Serialize)]
struct Row {
    planning: &'static str,
    beta: f64,
    reserve_reliability: f64,
    /// Share of the blocks sold in which some reserve was missing at some time; `None` where none was sold.
    joint_shortfall: Option<f64>,
    /// Mean of the dearest `1 - cvar_alpha` of the days sold ahead, each by what it cost beyond what the first way that plans
    /// on scenarios expected of it; `None` without such days.
    dear_surprises: Option<f64>,
    #[serde(flatten)]
    account: Account,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Table {
    scenario: String,
    sessions: usize,
    rows: Vec<Row>,
    /// Positions made with each weight of the dear tail on the days of the first way that plans on scenarios.
    positions: Vec<Position>,
}

/// What positions made with one weight of the dear tail earn in ways that they were not made from, per day.
#[derive(Debug, Serialize)]
struct Position {
    beta: f64,
    days: usize,
    /// Mean over days and ways.
    mean: f64,
    /// Mean over days of each day's dearest ways.
    tail: f64,
    /// How much more than with the first weight, with the standard error over the days.
    mean_gain: Gain,
    tail_gain: Gain,
}

/// A mean difference.
#[derive(Debug, Clone, Copy, Serialize)]
struct Gain {
    mean: f64,
    standard_error: Option<f64>,
}

fn uncertain(args: &Uncertain, output: Output) -> Result<(), CliError> {
    if let Some(beta) = args.betas.iter().find(|b| !(0.0..=1.0).contains(*b)) {
        return Err(CliError::Input(format!(
            "--beta {beta}: expected a weight from 0 to 1"
        )));
    }
    let scenario = args.data.scenario(&args.scenario)?;
    let case = backtest::convert::case(&scenario, args.from, args.to)?;
    let asked = case.risk;
    let betas = if args.betas.is_empty() {
        &[0.0, 0.5, 1.0][..]
    } else {
        args.betas.as_slice()
    };
    let ways = std::iter::once((Planning::Expected, 0.0))
        .chain(betas.iter().map(|beta| (Planning::Stochastic, *beta)));
    let scoring = Scoring {
        ways: usize::try_from(args.fresh).unwrap_or(1),
        betas: betas.to_vec(),
    };
    let cases: Vec<Case> = ways
        .enumerate()
        .map(|(place, (planning, beta))| {
            let mut case = case.clone();
            // The expected-value planner is first.
            case.scoring = (place == 1).then(|| scoring.clone());
            case.risk = Risk {
                planning,
                beta,
                ..asked
            };
            case
        })
        .collect();
    let threads = usize::try_from(args.threads).unwrap_or(1);
    let played = parallel::each(cases.iter().collect(), threads, play);
    let mut played: Vec<Played> = played.into_iter().collect::<Result<_, _>>()?;
    let expected = played.get(1).map_or_else(Vec::new, |p| p.spans.clone());
    for played in &mut played {
        played.row.dear_surprises = surprises(&expected, &played.spans, asked.cvar_alpha);
    }
    let scores = played.iter().flat_map(|played| &played.scores);
    let table = Table {
        scenario: scenario.name,
        sessions: case.sessions.len(),
        positions: positions(betas, &scores.collect::<Vec<_>>()),
        rows: played.into_iter().map(|played| played.row).collect(),
    };
    output.result(&table, || text(&table))
}

/// One way to plan, played.
struct Played {
    row: Row,
    scores: Vec<Score>,
    spans: Vec<Span>,
}

fn play(case: &Case) -> Result<Played, CliError> {
    let begun = Instant::now();
    let run = policy::run(case, Policy::V2g).map_err(|e| CliError::failed(&e))?;
    let mut account = policy::account(case, &run);
    account.solve_seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of blocks")]
    let joint_shortfall = (account.reserve_blocks_sold > 0)
        .then(|| account.reserve_blocks_short as f64 / account.reserve_blocks_sold as f64);
    let row = Row {
        planning: match case.risk.planning {
            Planning::Expected => "expected",
            Planning::Stochastic => "stochastic",
        },
        beta: case.risk.beta,
        reserve_reliability: case.risk.reserve_reliability,
        joint_shortfall,
        dear_surprises: None,
        account,
    };
    Ok(Played {
        row,
        spans: spans(case, &run),
        scores: run.scores,
    })
}

/// Mean of the dearest `1 - alpha` of the days of `done`, each by what it cost beyond what `expected` has for it.
fn surprises(expected: &[Span], done: &[Span], alpha: f64) -> Option<f64> {
    let known = |span: &Span| expected.iter().find(|e| e.steps == span.steps);
    let beyond = |span: &Span| Some(span.cost - known(span)?.expected);
    let all: Vec<f64> = done.iter().filter_map(beyond).collect();
    (!all.is_empty()).then(|| dear_tail(all, alpha))
}

/// Positions by weight of the dear tail, each over all days.
fn positions(betas: &[f64], scores: &[&Score]) -> Vec<Position> {
    let of = |place: usize, value: fn(&Scored) -> f64| -> Vec<f64> {
        let scored = scores.iter().filter_map(|s| s.positions.get(place));
        scored.map(|s| -value(s)).collect()
    };
    let gain = |place: usize, value: fn(&Scored) -> f64| {
        let pairs = of(place, value).into_iter().zip(of(0, value));
        Gain::over(&pairs.map(|(a, b)| a - b).collect::<Vec<_>>())
    };
    let (mean, tail) = (|s: &Scored| s.mean, |s: &Scored| s.tail);
    betas
        .iter()
        .enumerate()
        .filter(|_| !scores.is_empty())
        .map(|(place, beta)| Position {
            beta: *beta,
            days: scores.len(),
            mean: Gain::over(&of(place, mean)).mean,
            tail: Gain::over(&of(place, tail)).mean,
            mean_gain: gain(place, mean),
            tail_gain: gain(place, tail),
        })
        .collect()
}

impl Gain {
    #[expect(clippy::cast_precision_loss, reason = "a count of days")]
    fn over(days: &[f64]) -> Self {
        let count = days.len() as f64;
        let mean = days.iter().sum::<f64>() / count;
        let squares: f64 = days.iter().map(|d| (d - mean).powi(2)).sum();
        Self {
            mean,
            standard_error: (days.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
        }
    }
}

impl std::fmt::Display for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.standard_error {
            Some(error) => write!(f, "{:+.3} ± {error:.3}", self.mean),
            None => write!(f, "{:+.3}", self.mean),
        }
    }
}

/// The table as Markdown. Money is earned: a cost is negative.
fn text(table: &Table) -> String {
    let mut text = format!("{}: {} sessions\n\n", table.scenario, table.sessions);
    let _ = writeln!(
        text,
        "| planning | beta | earned | worst days' mean | worst surprises' mean | reserve | penalties | blocks sold | short | lost | optimism gap | left short | s |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for row in &table.rows {
        let a = &row.account;
        let share = row
            .joint_shortfall
            .map_or_else(|| "-".to_owned(), |s| format!("{:.1} %", s * 100.0));
        let gap = a
            .optimism_gap
            .map_or_else(|| "-".to_owned(), |g| format!("{g:.2}"));
        let surprises = row
            .dear_surprises
            .map_or_else(|| "-".to_owned(), |s| format!("{:.2}", -s));
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {surprises} | {:.2} | {:.2} | {} | {share} | {} | {gap} | {} | {:.0} |",
            row.planning,
            row.beta,
            -a.net_cost,
            -a.daily_cost_cvar,
            a.capacity_revenue.total(),
            a.penalties,
            a.reserve_blocks_sold,
            a.qualifications_lost,
            a.short_departures,
            a.solve_seconds
        );
    }
    if let Some(first) = table.positions.first() {
        let _ = writeln!(
            text,
            "\nPositions of {} days in ways they were not made from, per day:\n\n| beta | earned | worst ways' mean | more than at beta {} | worst ways' mean |\n|---|---|---|---|---|",
            first.days, first.beta
        );
    }
    for p in &table.positions {
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.3} | {} | {} |",
            p.beta, p.mean, p.tail, p.mean_gain, p.tail_gain
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(day: usize, expected: f64, cost: f64) -> Span {
        Span {
            steps: 96 * day..96 * (day + 1),
            expected,
            cost,
        }
    }

    #[test]
    fn a_surprise_is_what_a_day_cost_beyond_what_was_expected_of_it() {
        let expected = [span(0, 10.0, 0.0), span(1, 20.0, 0.0), span(3, 5.0, 0.0)];
        // Day 2 was not planned by the first, and its own expectation does not count.
        let done = [
            span(0, 0.0, 14.0),
            span(1, 0.0, 19.0),
            span(2, 0.0, 99.0),
            span(3, 0.0, 7.0),
        ];
        assert_eq!(
            surprises(&expected, &done, 0.0),
            Some((4.0 - 1.0 + 2.0) / 3.0)
        );
        assert_eq!(
            surprises(&expected, &done, 2.0 / 3.0).map(f64::round),
            Some(4.0)
        );
        assert_eq!(surprises(&expected, &[], 0.95), None);
    }

    #[test]
    fn positions_are_told_by_weight_over_all_days_with_their_errors() {
        let scored = |beta, mean, tail| Scored { beta, mean, tail };
        let day = |positions| Score {
            steps: 0..96,
            positions,
        };
        let days = [
            day(vec![scored(0.0, 10.0, 30.0), scored(1.0, 11.0, 28.0)]),
            day(vec![scored(0.0, 20.0, 50.0), scored(1.0, 23.0, 46.0)]),
        ];
        let told = positions(&[0.0, 1.0], &days.iter().collect::<Vec<_>>());
        let [neutral, leaning] = &told[..] else {
            panic!("{} positions", told.len());
        };
        assert_eq!(
            (neutral.mean, neutral.tail, neutral.mean_gain.mean),
            (-15.0, -40.0, 0.0)
        );
        assert_eq!((leaning.mean, leaning.tail), (-17.0, -37.0));
        // A cost of one and three more a day, a tail of two and four less: means two and three, each off by one.
        assert_eq!(
            (leaning.mean_gain.mean, leaning.tail_gain.mean),
            (-2.0, 3.0)
        );
        assert_eq!(leaning.mean_gain.standard_error, Some(1.0));
        assert!(positions(&[0.0], &[]).is_empty());
    }
}
