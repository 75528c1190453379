//! The forecaster over time: paths, recalibrated by its own past, watched against the naive model.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use super::calibrate::{self, Calibration, KEPT, Past};
use super::num::{floor, size};
use super::observed::Observed;
use super::paths::Grid;
use super::simulate::{Engine, Paths};
use super::visit::Log;
use crate::{LEVELS, Quantity};
use units::Band;

/// Days of past forecasts that the recalibration looks at.
const MEMORY_DAYS: i64 = 28;
/// Hours between the forecasts it looks at.
const EVERY_HOURS: usize = 3;
/// Days over which the model is compared with the naive one.
const WATCH_DAYS: f64 = 14.0;
/// Share of the naive loss above which the alarm goes: equal is not better.
const ALARM: f64 = 1.0;
/// Forecasts of the past below which nothing is said about the model.
const FEWEST: usize = 100;

/// Quantities that are forecast.
pub const QUANTITIES: [Quantity; 4] = [
    Quantity::PluggedIn,
    Quantity::PowerUp,
    Quantity::PowerDown,
    Quantity::EnergyNeeded,
];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Steps of the horizon.
    pub step: TimeDelta,
    /// Hours ahead; at most 48 are recalibrated.
    pub hours: usize,
    /// Paths drawn.
    pub paths: usize,
    /// Same seed, same forecast.
    pub seed: u64,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            step: TimeDelta::minutes(15),
            hours: 48,
            paths: 200,
            seed: 0,
        }
    }
}

/// Joint paths from the origin on.
#[derive(Debug, Clone)]
pub struct Availability {
    /// Newest input that may have had an influence; the first step begins there.
    pub until: DateTime<Utc>,
    /// Length of a step.
    pub step: TimeDelta,
    /// The paths.
    pub paths: Paths,
    /// Weekdays (Monday first) on which every second week is different.
    pub rhythm: [bool; 7],
    /// Loss of the model over that of the naive model, over the last days; `None` before enough is known.
    pub against_naive: Option<f64>,
    /// Whether the naive model has taken over.
    pub fallen_back: bool,
    /// Stated reasons to doubt it, each once.
    pub doubts: Vec<String>,
}

impl Availability {
    /// Quantiles of a quantity at step `step`, at the levels of the score: vehicles, kW or kWh. `None` past the horizon.
    #[must_use]
    pub fn band(&self, quantity: Quantity, step: usize) -> Option<Band> {
        if step >= self.paths.steps() {
            return None;
        }
        let sorted = self.paths.sorted(quantity, step);
        let values = LEVELS.map(|l| f64::from(calibrate::at(&sorted, l)));
        Band::try_new(LEVELS.to_vec(), values.to_vec()).ok()
    }
}

/// A past forecast, hour by hour.
#[derive(Debug, Clone)]
struct Kept {
    /// Quantity by quantity, lead by lead.
    levels: Vec<[f32; KEPT]>,
}

/// Forecasts one origin after the other, each from what was known then.
#[derive(Debug)]
pub struct Forecaster<'a> {
    log: &'a Log,
    off: BTreeSet<i32>,
    kept: BTreeMap<i64, Kept>,
    today: Option<Today>,
}

/// What was learned from the past at the last local midnight.
#[derive(Debug, Clone)]
struct Today {
    midnight: i64,
    seed: u64,
    calibrations: Vec<Calibration>,
    against_naive: Option<f64>,
}

/// Hours ahead that are kept for the recalibration.
const KEPT_HOURS: usize = 48;
/// Paths drawn for forecasts that only the recalibration sees.
const WARM_PATHS: usize = 100;

impl<'a> Forecaster<'a> {
    /// Name of the model in published forecasts.
    pub const MODEL: &'static str = "availability-paths";
    /// Version of the model; changes whenever the same input may give another answer.
    pub const VERSION: &'static str = "1";

    /// A forecaster over `log`; `off` are days known long before on which fewer people come: holidays and closures.
    #[must_use]
    pub fn new(log: &'a Log, off: &[NaiveDate]) -> Self {
        Self {
            log,
            off: off.iter().map(Datelike::num_days_from_ce).collect(),
            kept: BTreeMap::new(),
            today: None,
        }
    }

    pub(crate) const fn log(&self) -> &'a Log {
        self.log
    }

    pub(crate) const fn off(&self) -> &BTreeSet<i32> {
        &self.off
    }

    /// Forecasts from `until` on. What the recalibration knows is as of the last local midnight; past forecasts that it needs are made
    /// up for, so that the answer does not depend on what was asked before.
    pub fn forecast(&mut self, until: DateTime<Utc>, ask: &Ask) -> Availability {
        let at = until.timestamp();
        let grid = Grid {
            start: at,
            step: ask.step.num_seconds().max(1),
            count: steps(ask),
        };
        let engine = Engine::new(self.log.view(at), &self.off, grid, seed(ask.seed, at));
        let rhythm = engine.rhythm();
        let mut paths = engine.paths(ask.paths.max(1));
        let today = self.learn(self.log.instant(self.log.clock(at).0, 0), ask.seed);
        let fallen_back = today.against_naive.is_some_and(|w| w > ALARM);
        for (quantity, calibration) in QUANTITIES.into_iter().zip(&today.calibrations) {
            self.recalibrate(&mut paths, grid, quantity, calibration);
        }
        if fallen_back {
            self.fall_back(&mut paths, grid);
        }
        empty_is_empty(&mut paths);
        Availability {
            until,
            step: ask.step,
            paths,
            rhythm,
            against_naive: today.against_naive,
            fallen_back,
            doubts: self.doubts(at, fallen_back),
        }
    }

    /// What the past teaches at `midnight`.
    fn learn(&mut self, midnight: i64, base_seed: u64) -> Today {
        if let Some(today) = &self.today
            && (today.midnight, today.seed) == (midnight, base_seed)
        {
            return today.clone();
        }
        if self.today.as_ref().is_some_and(|t| t.seed != base_seed) {
            self.kept.clear();
        }
        self.remember(midnight, base_seed);
        let observed = Observed::new(&self.log.view(midnight), &self.off, MEMORY_DAYS + 3, 3600);
        let today = Today {
            midnight,
            seed: base_seed,
            calibrations: QUANTITIES
                .into_iter()
                .map(|q| Calibration::learn(&self.past(midnight, q, &observed), q))
                .collect(),
            against_naive: self.watch(midnight, &observed),
        };
        self.today = Some(today.clone());
        today
    }

    /// Makes the past forecasts that are missing.
    fn remember(&mut self, at: i64, base_seed: u64) {
        let (today, _) = self.log.clock(at);
        let oldest = at - MEMORY_DAYS * 86_400;
        self.kept.retain(|o, _| *o >= oldest);
        let days = i32::try_from(MEMORY_DAYS).unwrap_or(0);
        for day in today - days..=today {
            for hour in (0..24).step_by(EVERY_HOURS) {
                let origin = self.log.instant(day, 3600 * hour);
                if origin < oldest || origin >= at || self.kept.contains_key(&origin) {
                    continue;
                }
                let grid = Grid {
                    start: origin,
                    step: 3600,
                    count: KEPT_HOURS + 1,
                };
                let view = self.log.view(origin);
                let paths =
                    Engine::new(view, &self.off, grid, seed(base_seed, origin)).paths(WARM_PATHS);
                self.kept.insert(origin, kept(&paths));
            }
        }
    }

    /// Past forecasts of a quantity with their outcomes.
    fn past(&self, at: i64, quantity: Quantity, observed: &Observed) -> Vec<Past> {
        let place = place(quantity);
        let mut past = Vec::new();
        for (origin, kept) in self.kept.range(..at) {
            for lead in 1..=KEPT_HOURS {
                let target = origin + 3600 * i64::try_from(lead).unwrap_or(0);
                let Some(outcome) = observed.at(quantity, target).filter(|_| target <= at) else {
                    continue;
                };
                let (day, clock) = self.log.clock(target);
                past.push(Past {
                    lead,
                    hour: hour(clock),
                    off: self.is_off(day),
                    age: calibrate::age(at, target),
                    levels: kept.levels[place * KEPT_HOURS + lead - 1],
                    outcome,
                });
            }
        }
        past
    }

    fn is_off(&self, day: i32) -> bool {
        self.off.contains(&day) || (day - 1).rem_euclid(7) >= 5
    }

    fn recalibrate(&self, paths: &mut Paths, grid: Grid, quantity: Quantity, by: &Calibration) {
        let count = paths.steps;
        for step in 0..count {
            let ahead = grid.step * i64::try_from(step).unwrap_or(0);
            let (day, clock) = self.log.clock(grid.start + ahead);
            let lead = usize::try_from((ahead + 3599) / 3600).unwrap_or(1).max(1);
            let how = by.at(lead, hour(clock), self.is_off(day));
            // What is there now is known.
            if step == 0 && quantity == Quantity::PluggedIn {
                continue;
            }
            let mut column: Vec<f32> = paths.column(quantity, step).collect();
            let mut sorted = column.clone();
            sorted.sort_by(f32::total_cmp);
            calibrate::correct(&mut column, &sorted, how, quantity);
            for (value, new) in paths.of_mut(quantity)[step..]
                .iter_mut()
                .step_by(count)
                .zip(column)
            {
                *value = new;
            }
        }
    }

    /// Loss over that of the naive model, vehicles plugged in, over the last days.
    fn watch(&self, at: i64, observed: &Observed) -> Option<f64> {
        let (mut own, mut naive, mut count) = (0.0, 0.0, 0);
        for past in self.past(at, Quantity::PluggedIn, observed) {
            if past.age > WATCH_DAYS || past.lead % 6 != 0 {
                continue;
            }
            let target = at - floor(past.age * 86_400.0);
            let Some(values) = self.naive(Quantity::PluggedIn, target, at, &LEVELS) else {
                continue;
            };
            let naive_levels: [f64; KEPT] = std::array::from_fn(|i| values[i]);
            own += calibrate::pinball(&past.levels.map(f64::from), past.outcome);
            naive += calibrate::pinball(&naive_levels, past.outcome);
            count += 1;
        }
        (count >= FEWEST && naive > 0.0).then(|| own / naive)
    }

    /// The naive model from counts alone: same weekday and clock of the last eight weeks that have data.
    fn naive(&self, quantity: Quantity, target: i64, at: i64, levels: &[f64]) -> Option<Vec<f64>> {
        if quantity != Quantity::PluggedIn {
            return None;
        }
        let view = self.log.view(at);
        let (day, clock) = self.log.clock(target);
        let first = view.first_day()?;
        let samples: Vec<f64> = (1..)
            .map(|week| day - 7 * week)
            .take_while(|d| *d > first)
            .filter_map(|d| view.count(self.log.instant(d, clock)).map(f64::from))
            .take(8)
            .collect();
        crate::quantiles(&samples, levels)
    }

    /// Spreads the vehicles plugged in as the naive model says; order among paths, and each path's power and energy per vehicle, stay.
    fn fall_back(&self, paths: &mut Paths, grid: Grid) {
        let count = paths.steps;
        for step in 1..count {
            let target = grid.start + grid.step * i64::try_from(step).unwrap_or(0);
            let before: Vec<f32> = paths.column(Quantity::PluggedIn, step).collect();
            let mut order: Vec<usize> = (0..before.len()).collect();
            order.sort_by(|a, b| before[*a].total_cmp(&before[*b]));
            let levels: Vec<f64> = (0..before.len())
                .map(|i| (size(i) + 0.5) / size(before.len()))
                .collect();
            let Some(values) = self.naive(Quantity::PluggedIn, target, grid.start, &levels) else {
                continue;
            };
            for (rank, path) in order.into_iter().enumerate() {
                let new = super::num::narrow(values[rank].round());
                let factor = if before[path] > 0.0 {
                    new / before[path]
                } else {
                    1.0
                };
                let place = path * count + step;
                for quantity in QUANTITIES {
                    paths.of_mut(quantity)[place] *= factor;
                }
                paths.count[place] = new;
            }
        }
    }

    fn doubts(&self, at: i64, fallen_back: bool) -> Vec<String> {
        let mut doubts = Vec::new();
        let view = self.log.view(at);
        let known = view.ended(i64::MIN).count();
        if known == 0 {
            doubts.push(
                "no visit has ended before the origin: nobody is expected to come".to_owned(),
            );
        } else if known < 50 {
            doubts.push(format!("only {known} visits have ended before the origin"));
        }
        if view
            .first_day()
            .is_none_or(|d| self.log.clock(at).0 - d < 21)
        {
            doubts.push("less than three weeks of history".to_owned());
        }
        let dropped = self.log.dropped();
        if dropped.repeated + dropped.endless > 0 {
            doubts.push(format!(
                "{} repeated visits were left out, {} endless ones cut after a month",
                dropped.repeated, dropped.endless
            ));
        }
        if fallen_back {
            doubts.push(
                "the model was no better than the naive one over the last 14 days: the naive one has taken over"
                    .to_owned(),
            );
        }
        doubts
    }
}

fn hour(clock: i64) -> usize {
    usize::try_from(clock / 3600).unwrap_or(0).min(23)
}

fn place(quantity: Quantity) -> usize {
    QUANTITIES.iter().position(|q| *q == quantity).unwrap_or(0)
}

fn steps(ask: &Ask) -> usize {
    let step = ask.step.num_seconds().max(1);
    let seconds = i64::try_from(ask.hours).unwrap_or(0) * 3600;
    usize::try_from(seconds / step).unwrap_or(0) + 1
}

/// A seed of its own for every origin (Steele, Lea and Flood 2014, the finaliser of `SplitMix64`).
fn seed(base: u64, origin: i64) -> u64 {
    let mut z = base ^ origin.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

fn kept(paths: &Paths) -> Kept {
    let mut levels = Vec::with_capacity(QUANTITIES.len() * KEPT_HOURS);
    for quantity in QUANTITIES {
        for lead in 1..=KEPT_HOURS {
            let mut sorted: Vec<f32> = paths.column(quantity, lead).collect();
            sorted.sort_by(f32::total_cmp);
            levels.push(LEVELS.map(|l| calibrate::at(&sorted, l)));
        }
    }
    Kept { levels }
}

/// Where nobody is plugged in there is neither power nor energy.
fn empty_is_empty(paths: &mut Paths) {
    for place in 0..paths.count.len() {
        if paths.count[place] <= 0.0 {
            paths.up[place] = 0.0;
            paths.down[place] = 0.0;
            paths.need[place] = 0.0;
        }
    }
}
