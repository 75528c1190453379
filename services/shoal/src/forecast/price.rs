//! Day-ahead prices: days from a scenario, scores from the `forecast` crate.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use chrono::NaiveDate;
use forecast::price::{Hours, PriceDay, PriceDays, PriceScores, german_holiday, score, walk};
use frames::price_study::{self, PriceStudy};
use serde::Serialize;

use super::Evaluate;
use crate::cli::CliError;
use crate::output::Output;

/// What `forecast.json` holds.
#[derive(Debug, Serialize)]
struct Report {
    scenario: String,
    area: String,
    test_from: NaiveDate,
    test_to: NaiveDate,
    /// Series known before the gate.
    known: Vec<String>,
    #[serde(flatten)]
    scores: PriceScores,
    seconds: f64,
}

/// Scores the price forecast over a scenario, every day from what was known before it, and writes what came of it.
pub(super) fn run(args: &Evaluate, output: Output) -> Result<(), CliError> {
    let begun = Instant::now();
    let study = price_study::load(&args.scenario, &args.data)?;
    let refused = |what: String| CliError::Input(format!("{}: {what}", args.scenario.display()));
    let published: Option<Vec<Hours>> = study.days.iter().map(|d| d.published).collect();
    let (days, test_to) = days(&study).map_err(refused)?;
    let from = days.index(args.test_from).ok_or_else(|| {
        refused(format!(
            "--test-from {}: not among its days",
            args.test_from
        ))
    })?;
    let to = days.days().len();
    let forecasts = walk(&days, from, to).map_err(|e| refused(e.to_string()))?;
    let scores = score(&days, from, &forecasts, published.as_deref())
        .ok_or_else(|| refused(format!("no day from {} on to score", args.test_from)))?;
    let report = Report {
        scenario: study.name,
        area: study.area,
        test_from: args.test_from,
        test_to,
        known: study.known,
        scores,
        seconds: begun.elapsed().as_secs_f64(),
    };
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("out").join(&report.scenario));
    std::fs::create_dir_all(&dir)?;
    let json = serde_json::to_string_pretty(&report).map_err(|e| CliError::failed(&e))?;
    std::fs::write(dir.join("forecast.json"), json)?;
    output.result(&report, || text(&report, &dir))
}

/// The days before the end of the test.
fn days(study: &PriceStudy) -> Result<(PriceDays, NaiveDate), String> {
    let holiday: fn(NaiveDate) -> bool = match study.area.as_str() {
        "DE" => german_holiday,
        other => {
            return Err(format!(
                "area: {other:?}, expected DE, whose holidays are known"
            ));
        }
    };
    let last = study.days.last().and_then(|d| d.date.succ_opt());
    let Some(test_to) = study.test_to.or(last) else {
        return Err("no day, expected some".to_owned());
    };
    let before = study.days.iter().filter(|d| d.date < test_to);
    let days = before.map(|day| PriceDay {
        date: day.date,
        price: Some(day.price),
        known: day.known.clone(),
        holiday: holiday(day.date),
    });
    let days = PriceDays::try_new(days.collect()).map_err(|e| e.to_string())?;
    Ok((days, test_to))
}

fn text(report: &Report, dir: &Path) -> String {
    let s = &report.scores;
    let mut text = format!(
        "{} from {} to {}: {} days\n  median             mean absolute error {:.3} per MWh\n  distribution       CRPS {:.3}, {:.3} of that of the last eight same weekdays\n",
        report.scenario,
        report.test_from,
        report.test_to,
        s.days,
        s.mae,
        s.crps,
        s.crps_ratio_same_weekday
    );
    if let Some(p) = &s.published {
        let _ = writeln!(
            text,
            "  published          error {:.3} and CRPS {:.3}: ours is {:.3} and {:.3} of them",
            p.mae, p.crps, p.mae_ratio, p.crps_ratio
        );
    }
    let c = &s.coverage;
    let _ = writeln!(
        text,
        "  bands cover        {:.1} / {:.1} / {:.1} % (50, 80, 90 %)",
        100.0 * c.band_50,
        100.0 * c.band_80,
        100.0 * c.band_90
    );
    let _ = writeln!(text, "{}", dir.join("forecast.json").display());
    text
}
