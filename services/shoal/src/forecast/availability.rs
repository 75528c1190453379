//! Availability: visits from a scenario, scores from the `forecast` crate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use chrono::NaiveDate;
use forecast::availability::evaluate::{Evaluation, Test, evaluate};
use forecast::availability::{Log, Said, Visit};
use frames::history::{self, Scenario};
use frames::import::Summary;
use serde::Serialize;
use units::{Energy, Interval, Power};

use super::{Evaluate, html};
use crate::cli::CliError;
use crate::output::{Output, note};

/// What `forecast.json` holds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: String,
    zone: String,
    test_from: NaiveDate,
    test_to: NaiveDate,
    #[serde(flatten)]
    evaluation: Evaluation,
    rows: Summary,
    seconds: f64,
}

impl Report {
    pub(super) fn scenario(&self) -> &str {
        &self.scenario
    }
}

/// Scores the availability forecast over a scenario and writes what came of it.
pub(super) fn run(args: &Evaluate, output: Output) -> Result<(), CliError> {
    let begun = Instant::now();
    let scenario = history::load(&args.scenario, &args.data)?;
    let log =
        Log::new(scenario.zone, visits(&scenario)).with_days_off(scenario.off.iter().copied());
    let test = test(args, &scenario)?;
    let mut told = 0;
    let evaluation = evaluate(&log, &test, &mut |done, of| {
        if 10 * done / of > told {
            told = 10 * done / of;
            note(&format!("{done} of {of} origins"));
        }
    })
    .map_err(|e| CliError::Input(format!("{}: {e}", args.scenario.display())))?;
    let report = Report {
        zone: scenario.zone.to_string(),
        test_from: test.from,
        test_to: test.to,
        evaluation,
        rows: scenario.summary,
        seconds: begun.elapsed().as_secs_f64(),
        scenario: scenario.name,
    };
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("out").join(&report.scenario));
    std::fs::create_dir_all(&dir)?;
    let json = serde_json::to_string_pretty(&report).map_err(|e| CliError::failed(&e))?;
    std::fs::write(dir.join("forecast.json"), json)?;
    html::write(&dir, &report)?;
    output.result(&report, || text(&report, &dir))
}

fn test(args: &Evaluate, scenario: &Scenario) -> Result<Test, CliError> {
    let last = scenario.visits.iter().map(|v| v.plug_in).max();
    let last = last.map(|at| at.with_timezone(&scenario.zone).date_naive());
    let to = scenario.test_to.or_else(|| last.and_then(|d| d.succ_opt()));
    let Some(to) = to else {
        return Err(CliError::Input(format!(
            "{}: no visit was kept, expected some",
            args.scenario.display()
        )));
    };
    Ok(Test {
        from: args.test_from,
        to,
        special: scenario.special.clone(),
        paths: usize::try_from(args.paths).unwrap_or(200),
        seed: args.seed,
        threads: usize::try_from(args.threads).unwrap_or(1),
    })
}

/// Numbers for names, in order of their first sight.
#[derive(Debug, Default)]
struct Numbers(BTreeMap<String, u32>);

impl Numbers {
    /// `None` for the empty name: unknown.
    fn of(&mut self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return None;
        }
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        Some(*self.0.entry(name.to_owned()).or_insert(next))
    }
}

fn visits(scenario: &Scenario) -> Vec<Visit> {
    /// Where neither the scenario nor the source knows a power: a single-phase outlet.
    const UNKNOWN_KW: f64 = 3.7;
    let (mut outlets, mut users, mut sites) =
        (Numbers::default(), Numbers::default(), Numbers::default());
    let rating = scenario.charge_kw.map(Power::from_kw);
    let one = |v: &history::Visit| {
        Some(Visit {
            span: Interval::try_new(v.plug_in, v.plug_out).ok()?,
            energy: Energy::from_kwh(v.energy_kwh),
            charge: rating.unwrap_or_else(|| Power::from_kw(v.peak_kw.unwrap_or(UNKNOWN_KW))),
            rating,
            discharge: Power::from_kw(scenario.discharge_kw),
            outlet: outlets.of(&v.evse_id),
            user: users.of(&v.user_id),
            group: sites.of(&v.site_id).unwrap_or(0),
            class: 0,
            metered: None,
            slack: None,
            said: v.said_departure.map(|departure| Said {
                departure,
                energy: v.said_energy_kwh.map(Energy::from_kwh),
            }),
        })
    };
    scenario.visits.iter().filter_map(one).collect()
}

fn text(report: &Report, dir: &Path) -> String {
    let e = &report.evaluation;
    let mut text = format!(
        "{} from {} to {}: {} origins, {} visits before, {} in the test\n",
        report.scenario,
        report.test_from,
        report.test_to,
        e.origins,
        e.visits_before,
        e.visits_in_test
    );
    for q in &e.quantities {
        let _ = writeln!(
            text,
            "  {:<18} {:5.1} % below naive, {:5.1} % below climatology, {:5.1} % below the best of three; bands cover {:.1} / {:.1} / {:.1} %",
            q.quantity,
            q.pinball.below_naive_percent,
            q.pinball.below_climatology_percent,
            q.pinball.below_best_percent,
            100.0 * q.coverage.band_50,
            100.0 * q.coverage.band_80,
            100.0 * q.coverage.band_90
        );
    }
    let _ = writeln!(
        text,
        "  4 h sums           90 % band covers {:.1} %, shuffled {:.1} %",
        100.0 * e.joint.block_sum.band_90,
        100.0 * e.joint.block_sum_shuffled.band_90
    );
    let said = e
        .departure
        .of_said_ratio
        .map_or_else(String::new, |r| format!("{r:.3} of the drivers' own, "));
    let _ = writeln!(
        text,
        "  departure          error {said}{:.3} of the naive over {} visits",
        e.departure.of_naive_ratio, e.departure.visits
    );
    let p = &e.p90;
    let _ = writeln!(
        text,
        "  sold with 90 %     {} short of {} offered (limit {}), {:.1} % unserved, {:.2} of perfect foresight, {:.2} of the best fixed level",
        p.short,
        p.offered,
        p.short_limit,
        100.0 * p.unserved_ratio,
        p.of_perfect_ratio,
        p.of_best_level_ratio
    );
    if e.origins_fallen_back > 0 {
        let _ = writeln!(
            text,
            "  alarm: the naive model had taken over at {} of {} origins",
            e.origins_fallen_back, e.origins
        );
    }
    for doubt in &e.doubts {
        let _ = writeln!(text, "  doubt: {doubt}");
    }
    let _ = writeln!(text, "{}", dir.join("forecast.html").display());
    text
}
