//! Scores of the availability forecast, walking forward: each forecast from what was known at its origin, each score as the
//! project's forecasting definitions say.

mod baseline;
mod departure;
mod joint;
mod sale;
mod score;
mod tally;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use serde::Serialize;

pub use departure::Departure;
pub use joint::Joint;
pub use sale::Sale;
pub use score::Coverage;
pub use tally::{BandScore, QuantityScore};

use super::log::Log;
use super::observed::Observed;
use super::walk::{Ask, Forecaster};
use crate::Quantity;
use baseline::Persistence;
use tally::Tally;

/// Leads scored, hours.
const LEADS: usize = 36;
/// Origins whose fans are kept for drawing.
const FANS: usize = 6;
/// Levels of a fan.
const FAN: [f64; 5] = [0.05, 0.25, 0.50, 0.75, 0.95];

/// What is scored.
pub const SCORED: [Quantity; 3] = [
    Quantity::PluggedIn,
    Quantity::PowerUp,
    Quantity::EnergyNeeded,
];

/// The test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// First local date scored; everything before is history.
    pub from: NaiveDate,
    /// First local date no longer forecast from.
    pub to: NaiveDate,
    /// Half-open stretches of dates that are not ordinary.
    pub special: Vec<(NaiveDate, NaiveDate)>,
    /// Paths per forecast.
    pub paths: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Threads that may be used; the scores do not depend on them.
    pub threads: usize,
}

/// One forecast, to be drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fan {
    /// Origin.
    pub until: DateTime<Utc>,
    /// Quantity.
    pub quantity: &'static str,
    /// Seconds between steps.
    pub step_seconds: i64,
    /// Levels of the bands.
    pub levels: [f64; 5],
    /// Step by step, level by level.
    pub bands: Vec<[f64; 5]>,
    /// What came.
    pub outcome: Vec<Option<f64>>,
}

/// Scores of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Name of the model.
    pub model: &'static str,
    /// Version of the model.
    pub version: &'static str,
    /// Origins forecast from.
    pub origins: usize,
    /// Paths per forecast.
    pub paths: usize,
    /// Visits before the test.
    pub visits_before: usize,
    /// Visits plugged in during the test.
    pub visits_in_test: usize,
    /// Weekdays with a 14-day rhythm at the end of the test, Monday is 1.
    pub fortnights: Vec<usize>,
    /// Origins at which the naive model had taken over.
    pub origins_fallen_back: usize,
    /// Latest loss over that of the naive model in the trailing days.
    pub against_naive: Option<f64>,
    /// By quantity.
    pub quantities: Vec<QuantityScore>,
    /// Paths as a whole.
    pub joint: Joint,
    /// Departures of vehicles as they plug in.
    pub departure: Departure,
    /// Power sold with 90 %.
    pub p90: Sale,
    /// Stated reasons to doubt the last forecast.
    pub doubts: Vec<String>,
    /// Some forecasts with what came.
    pub fans: Vec<Fan>,
}

/// Nothing to score.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTest {
    /// The span is empty.
    #[error("test from {from} to {to}: expected a later end")]
    Empty {
        /// First date.
        from: NaiveDate,
        /// End.
        to: NaiveDate,
    },
    /// No visit before the test.
    #[error("no visit has ended before {0}: nothing to train on")]
    Untrained(NaiveDate),
    /// No visit in the test.
    #[error("no visit from {0} on: nothing to score")]
    Unseen(NaiveDate),
}

/// Trains before the test and scores in it. `progress` hears the origins done and their number.
///
/// # Errors
/// [`NoTest`] if there is nothing to train on or to score.
pub fn evaluate(
    log: &Log,
    test: &Test,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation, NoTest> {
    let (first, last) = (test.from.num_days_from_ce(), test.to.num_days_from_ce());
    let begin = log.instant(first, 0);
    check(log, test, begin)?;
    let truth = Observed::all(log, 900);
    let ask = Ask {
        step: TimeDelta::minutes(15),
        hours: 48,
        paths: test.paths,
        seed: test.seed,
        by_group: false,
        threads: test.threads,
    };
    let mut forecaster = Forecaster::new(log);
    let before = sale::origins(log, log.clock(truth.start()).0, first);
    let persistence = SCORED.map(|q| Persistence::learn(log, &truth, q, &before, begin));
    let mut tallies = SCORED.map(|q| Tally::new(q, test));
    let mut joint = joint::Tally::new(test.seed);
    let mut fans = Vec::new();
    let mut fallen_back = 0;
    let mut latest = None;
    let mut sale = sale::Tally::default();
    let origins = sale::origins(log, first, last);
    let gates = sale::origins(log, first - sale::WARM_DAYS, first)
        .into_iter()
        .filter(|o| sale::is_gate(log, *o) && *o > truth.start());
    for gate in gates {
        if let Some(until) = DateTime::from_timestamp(gate, 0) {
            let ahead = forecaster.forecast(until, &ask);
            sale.add(&forecaster, &truth, &ahead);
        }
    }
    let drawn: Vec<usize> = baseline::spread(FANS, origins.len() / 8)
        .map(|day| 8 * day + 2)
        .collect();
    for (done, origin) in origins.iter().enumerate() {
        let Some(until) = DateTime::from_timestamp(*origin, 0) else {
            continue;
        };
        let ahead = forecaster.forecast(until, &ask);
        for (tally, persistence) in tallies.iter_mut().zip(&persistence) {
            tally.add(log, &truth, &ahead, persistence);
        }
        joint.add(log, &truth, &ahead);
        if sale::is_gate(log, *origin) {
            sale.add(&forecaster, &truth, &ahead);
        }
        if drawn.contains(&done) {
            fans.extend([Quantity::PluggedIn, Quantity::PowerUp].map(|q| fan(&truth, &ahead, q)));
        }
        fallen_back += usize::from(ahead.fallen_back);
        latest = Some(ahead);
        progress(done + 1, origins.len());
    }
    let departure = departure::score(&forecaster, (begin, log.instant(last, 0)), test.threads);
    let p90 = sale.finish(first, last);
    Ok(Evaluation {
        model: Forecaster::MODEL,
        version: Forecaster::VERSION,
        origins: origins.len(),
        paths: test.paths,
        visits_before: log.visits().filter(|v| v.end <= begin).count(),
        visits_in_test: log.visits().filter(|v| v.start >= begin).count(),
        fortnights: latest
            .as_ref()
            .map_or_else(Vec::new, |l| (1..=7).filter(|w| l.rhythm[w - 1]).collect()),
        origins_fallen_back: fallen_back,
        against_naive: latest.as_ref().and_then(|l| l.against_naive),
        quantities: tallies.into_iter().map(Tally::finish).collect(),
        joint: joint.finish(),
        departure,
        p90,
        doubts: latest.map_or_else(Vec::new, |l| l.doubts),
        fans,
    })
}

/// Scores departures at plug-in alone, as [`evaluate`] does.
///
/// # Errors
/// [`NoTest`] if there is nothing to train on or to score.
pub fn departures(log: &Log, test: &Test) -> Result<Departure, NoTest> {
    let instant = |date: NaiveDate| log.instant(date.num_days_from_ce(), 0);
    let (begin, end) = (instant(test.from), instant(test.to));
    check(log, test, begin)?;
    let forecaster = Forecaster::new(log);
    Ok(departure::score(&forecaster, (begin, end), test.threads))
}

fn check(log: &Log, test: &Test, begin: i64) -> Result<(), NoTest> {
    if test.from >= test.to {
        return Err(NoTest::Empty {
            from: test.from,
            to: test.to,
        });
    }
    if !log.visits().any(|v| v.end <= begin) {
        return Err(NoTest::Untrained(test.from));
    }
    if !log.visits().any(|v| v.start >= begin) {
        return Err(NoTest::Unseen(test.from));
    }
    Ok(())
}

/// Name of a quantity in reports; the unit ends it.
#[must_use]
pub const fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::PluggedIn => "plugged_in",
        Quantity::PowerUp => "power_up_kw",
        Quantity::PowerDown => "power_down_kw",
        Quantity::EnergyNeeded => "energy_needed_kwh",
    }
}

fn fan(truth: &Observed, ahead: &super::Availability, quantity: Quantity) -> Fan {
    let step = ahead.step.num_seconds();
    let at = |k: usize| ahead.until.timestamp() + step * i64::try_from(k).unwrap_or(0);
    let bands = (0..ahead.paths.steps())
        .map(|k| {
            let sorted = ahead.paths.sorted(quantity, k);
            FAN.map(|l| score::quantile(&sorted, l))
        })
        .collect();
    Fan {
        until: ahead.until,
        quantity: name(quantity),
        step_seconds: step,
        levels: FAN,
        bands,
        outcome: (0..ahead.paths.steps())
            .map(|k| truth.at(quantity, at(k)))
            .collect(),
    }
}
