//! The forecaster over time: paths, recalibrated by its own past, watched against the naive model.

use chrono::{DateTime, TimeDelta, Utc};

use super::blend::How;
use super::calibrate;
use super::coming::{Coming, Expected, profiles};
use super::given;
use super::joint::{Paths, share_out};
use super::learn::{Learned, Lesson, hour};
use super::log::Log;
use super::num::size;
use super::paths::Grid;
use super::reduce::reduce;
use super::simulate::{Draw, Engine, way};
use super::usual::{Between, USUAL};
use crate::Quantity;
use units::Band;

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
    /// Whether the paths of every group are kept.
    pub by_group: bool,
    /// Threads that may be used; the answer does not depend on them.
    pub threads: usize,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            step: TimeDelta::minutes(15),
            hours: 48,
            paths: 200,
            seed: 0,
            by_group: false,
            threads: 1,
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
    /// The paths of the pool.
    pub paths: Paths,
    /// Those of its groups, if they were asked for: on every path they add up to the pool.
    pub groups: Vec<Paths>,
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
    /// Paths of several groups together: a site, a class or a network area. Groups that do not exist have no vehicles.
    #[must_use]
    pub fn part(&self, groups: &[u32]) -> Paths {
        let count = self.paths.of(Quantity::PluggedIn).len() / self.paths.steps().max(1);
        let mut part = Paths::new(count, self.paths.steps());
        for group in groups {
            let place = usize::try_from(*group).unwrap_or(usize::MAX);
            if let Some(paths) = self.groups.get(place) {
                part.add_all(paths);
            }
        }
        part
    }

    /// Quantiles of a quantity of the pool, see [`Paths::band`].
    #[must_use]
    pub fn band(&self, quantity: Quantity, step: usize) -> Option<Band> {
        self.paths.band(quantity, step)
    }
}

/// Forecasts one origin after the other, each from what was known then.
#[derive(Debug)]
pub struct Forecaster<'a> {
    log: &'a Log,
    learned: Learned,
}

impl<'a> Forecaster<'a> {
    /// Name of the model in published forecasts.
    pub const MODEL: &'static str = "availability-paths";
    /// Version of the model; changes whenever the same input may give another answer.
    pub const VERSION: &'static str = "10";

    /// A forecaster over `log`.
    #[must_use]
    pub fn new(log: &'a Log) -> Self {
        Self::resume(log, Learned::default())
    }

    /// A forecaster that goes on from what another learned over an older log of the same pool.
    #[must_use]
    pub const fn resume(log: &'a Log, learned: Learned) -> Self {
        Self { log, learned }
    }

    /// What was learned, for another forecaster.
    #[must_use]
    pub fn into_learned(self) -> Learned {
        self.learned
    }

    pub(crate) const fn log(&self) -> &'a Log {
        self.log
    }

    /// Forecasts from `until` on. What the recalibration knows is as of the last local midnight; past forecasts that it needs are made
    /// up for, so that the answer does not depend on what was asked before.
    pub fn forecast(&mut self, until: DateTime<Utc>, ask: &Ask) -> Availability {
        self.refit(until, ask);
        self.ahead(until, ask)
    }

    /// Learns what the past teaches at the last local midnight before `until`.
    pub fn refit(&mut self, until: DateTime<Utc>, ask: &Ask) {
        let midnight = self.log.instant(self.log.clock(until.timestamp()).0, 0);
        let mut learned = std::mem::take(&mut self.learned);
        learned.learn(self.log, midnight, ask);
        self.learned = learned;
    }

    /// Forecasts from `until` on with what was learned before; without recalibration if nothing was.
    #[must_use]
    pub fn ahead(&self, until: DateTime<Utc>, ask: &Ask) -> Availability {
        let at = until.timestamp();
        let grid = Grid {
            start: at,
            step: ask.step.num_seconds().max(1),
            count: steps(ask),
        };
        let engine = self.engine(grid, ask.seed);
        let rhythm = engine.rhythm();
        let (drawn, mut groups) = engine.paths(Draw {
            paths: ask.paths.max(1),
            groups: ask.by_group,
            threads: ask.threads,
        });
        let mut paths = drawn.clone();
        let fallen_back = self.learned.alarm();
        let ways = engine.ways();
        let lessons = self.learned.lessons();
        let changed = if lessons.is_empty() {
            Default::default()
        } else {
            self.log.changed(at, &drawn)
        };
        for ((quantity, lesson), changed) in QUANTITIES.into_iter().zip(lessons).zip(&changed) {
            self.correct(&mut paths, grid, quantity, (lesson, ways, changed));
            if matches!(quantity, Quantity::PowerUp | Quantity::PowerDown) {
                given::follow(&mut paths, &drawn, quantity);
            }
        }
        if fallen_back {
            self.fall_back(&mut paths, grid);
        }
        empty_is_empty(&mut paths);
        share_out(&mut groups, &drawn, &paths);
        Availability {
            until,
            step: ask.step,
            paths,
            groups,
            rhythm,
            against_naive: self.learned.watch().map(|w| w.against_naive),
            fallen_back,
            doubts: self.doubts(at, fallen_back),
        }
    }

    /// `count` ways the time from `until` to `to` may go, visit by visit, chosen among `ask.paths` so that they stand for all; `ask.hours`
    /// is not looked at. Likeliest first, weights adding to 1. Single visits are not recalibrated.
    #[must_use]
    pub fn scenarios(
        &self,
        until: DateTime<Utc>,
        to: DateTime<Utc>,
        count: usize,
        ask: &Ask,
    ) -> Vec<Expected> {
        let at = until.timestamp();
        let hours = ((to - until).num_seconds().max(0) + 3599) / 3600;
        let grid = Grid {
            start: at,
            step: 3600,
            count: usize::try_from(hours).unwrap_or(0) + 1,
        };
        let engine = self.engine(grid, ask.seed);
        let mut paths = engine.stays(ask.paths.max(1), ask.threads);
        let profiles = profiles(&paths, grid);
        reduce(&profiles, count.max(1))
            .into_iter()
            .map(|(path, weight)| Expected {
                weight,
                stays: std::mem::take(&mut paths[path])
                    .into_iter()
                    .filter_map(|trip| Coming::of(&trip, until))
                    .collect(),
            })
            .collect()
    }

    fn engine(&self, grid: Grid, base: u64) -> Engine<'_> {
        let leaving = self.learned.leaving(self.log.clock(grid.start).0);
        let view = self.log.view(grid.start);
        Engine::new(view, self.log.off(), leaving, grid, seed(base, grid.start))
    }

    /// Blends the ways in which paths were drawn and recalibrates; order among the paths of a way stays.
    fn correct(
        &self,
        paths: &mut Paths,
        grid: Grid,
        quantity: Quantity,
        (lesson, ways, changed): (&Lesson, usize, &[Vec<f32>]),
    ) {
        let count = paths.steps();
        for step in 0..count {
            let ahead = grid.step * i64::try_from(step).unwrap_or(0);
            let (day, clock) = self.log.clock(grid.start + ahead);
            let lead = usize::try_from((ahead + 3599) / 3600).unwrap_or(1).max(1);
            let how = lesson
                .calibration
                .at(lead, hour(clock), self.log.is_off(day));
            // What is there now is known.
            if step == 0 && quantity == Quantity::PluggedIn {
                continue;
            }
            let mut column: Vec<f32> = paths.column(quantity, step).collect();
            if step > 0 {
                let usual = std::array::from_fn(|which| {
                    if which + 1 < USUAL {
                        lesson.usual(grid.start + ahead, which)
                    } else {
                        Between::of(|h| changed.get(h).map(Vec::as_slice), ahead)
                    }
                });
                let how = if quantity == Quantity::PluggedIn && given::few(&column) {
                    How::Chances
                } else {
                    How::Values
                };
                let way = |path| way(path, ways);
                lesson.blend.apply(&mut column, (lead, how), way, &usual);
            }
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

    /// Spreads the vehicles plugged in as the naive model says; order among paths, and each path's power and energy per vehicle, stay.
    fn fall_back(&self, paths: &mut Paths, grid: Grid) {
        let count = paths.steps();
        for step in 1..count {
            let target = grid.start + grid.step * i64::try_from(step).unwrap_or(0);
            let before: Vec<f32> = paths.column(Quantity::PluggedIn, step).collect();
            let mut order: Vec<usize> = (0..before.len()).collect();
            order.sort_by(|a, b| before[*a].total_cmp(&before[*b]));
            let levels: Vec<f64> = (0..before.len())
                .map(|i| (size(i) + 0.5) / size(before.len()))
                .collect();
            let Some(values) = self.log.naive(target, grid.start, &levels) else {
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
                paths.of_mut(Quantity::PluggedIn)[place] = new;
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
        if self.learned.until().is_none() {
            doubts.push("not learned from its own past yet: bands as drawn".to_owned());
        }
        let dropped = self.log.dropped();
        if dropped.repeated + dropped.endless > 0 {
            doubts.push(format!(
                "{} repeated visits were left out, {} endless ones cut after a month",
                dropped.repeated, dropped.endless
            ));
        }
        if dropped.overfull > 0 {
            doubts.push(format!(
                "{} visits had more energy than their power can have brought: counted with what it can",
                dropped.overfull
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

fn steps(ask: &Ask) -> usize {
    let step = ask.step.num_seconds().max(1);
    let seconds = i64::try_from(ask.hours).unwrap_or(0) * 3600;
    usize::try_from(seconds / step).unwrap_or(0) + 1
}

/// A seed of its own for every origin (Steele, Lea and Flood 2014, the finaliser of `SplitMix64`).
pub(crate) fn seed(base: u64, origin: i64) -> u64 {
    let mut z = base ^ origin.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

/// Where nobody is plugged in there is neither power nor energy.
fn empty_is_empty(paths: &mut Paths) {
    for place in 0..paths.of(Quantity::PluggedIn).len() {
        if paths.of(Quantity::PluggedIn)[place] <= 0.0 {
            for quantity in QUANTITIES {
                paths.of_mut(quantity)[place] = 0.0;
            }
        }
    }
}
