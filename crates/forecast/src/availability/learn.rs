//! What a forecaster learns from the outcomes of its own past forecasts, once per local day.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::calibrate::{self, Calibration, KEPT, Past};
use super::joint::Paths;
use super::log::Log;
use super::num::{floor, size};
use super::observed::Observed;
use super::paths::Grid;
use super::simulate::{Draw, Engine};
use super::walk::{Ask, QUANTITIES, seed};
use crate::parallel::each;
use crate::{LEVELS, Quantity};

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

/// Hours ahead that are kept for the recalibration.
const KEPT_HOURS: usize = 48;
/// Paths drawn for forecasts that only the recalibration sees.
const WARM_PATHS: usize = 100;

/// A past forecast, hour by hour.
#[derive(Debug, Clone)]
struct Kept {
    /// Quantity by quantity, lead by lead.
    levels: Vec<[f32; KEPT]>,
}

/// What was learned from the past at a local midnight, with the past forecasts it was learned from. It may be handed to a
/// forecaster over a newer log.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    kept: BTreeMap<i64, Kept>,
    today: Option<Today>,
}

#[derive(Debug, Clone)]
struct Today {
    midnight: i64,
    seed: u64,
    calibrations: Vec<Calibration>,
    watch: Option<Watch>,
}

/// How the model fared over the last 14 days, vehicles plugged in, before recalibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watch {
    /// Its loss over that of the naive model.
    pub against_naive: f64,
    /// Share of outcomes inside its 90 % band.
    pub inside_90: f64,
}

/// A log with its days off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) log: &'a Log,
    pub(crate) off: &'a BTreeSet<i32>,
}

impl Learned {
    /// The local midnight before which outcomes counted; `None` if nothing was learned yet.
    #[must_use]
    pub fn until(&self) -> Option<DateTime<Utc>> {
        let midnight = self.today.as_ref()?.midnight;
        DateTime::from_timestamp(midnight, 0)
    }

    /// How the model fared lately; `None` before enough is known.
    #[must_use]
    pub fn watch(&self) -> Option<Watch> {
        self.today.as_ref()?.watch
    }

    /// Whether the naive model should take over.
    #[must_use]
    pub fn alarm(&self) -> bool {
        self.watch().is_some_and(|w| w.against_naive > ALARM)
    }

    /// By quantity, in the order of [`QUANTITIES`]; none if nothing was learned.
    pub(crate) fn calibrations(&self) -> &[Calibration] {
        self.today.as_ref().map_or(&[], |t| &t.calibrations)
    }

    /// Learns what the past teaches at `midnight`, unless it is known.
    pub(crate) fn learn(&mut self, world: World<'_>, midnight: i64, ask: &Ask) {
        let known = self.today.as_ref().map(|t| (t.midnight, t.seed));
        if known == Some((midnight, ask.seed)) {
            return;
        }
        if known.is_some_and(|(_, seed)| seed != ask.seed) {
            self.kept.clear();
        }
        self.remember(world, midnight, ask);
        let view = world.log.view(midnight);
        let observed = Observed::new(&view, world.off, MEMORY_DAYS + 3, 3600);
        let learn = |q| Calibration::learn(&self.past(world, midnight, q, &observed), q);
        self.today = Some(Today {
            midnight,
            seed: ask.seed,
            calibrations: QUANTITIES.into_iter().map(learn).collect(),
            watch: self.fared(world, midnight, &observed),
        });
    }

    /// Makes the past forecasts that are missing.
    fn remember(&mut self, world: World<'_>, at: i64, ask: &Ask) {
        let (today, _) = world.log.clock(at);
        let oldest = at - MEMORY_DAYS * 86_400;
        self.kept.retain(|o, _| *o >= oldest);
        let days = i32::try_from(MEMORY_DAYS).unwrap_or(0);
        let hours = || (0_i64..24).step_by(EVERY_HOURS);
        let missing: Vec<i64> = (today - days..=today)
            .flat_map(|day| hours().map(move |hour| (day, hour)))
            .map(|(day, hour)| world.log.instant(day, 3600 * hour))
            .filter(|o| (oldest..at).contains(o) && !self.kept.contains_key(o))
            .collect();
        let made = each(missing, ask.threads, |origin| {
            let grid = Grid {
                start: origin,
                step: 3600,
                count: KEPT_HOURS + 1,
            };
            let view = world.log.view(origin);
            let engine = Engine::new(view, world.off, grid, seed(ask.seed, origin));
            let (paths, _) = engine.paths(Draw {
                paths: WARM_PATHS,
                groups: false,
                threads: 1,
            });
            (origin, kept(&paths))
        });
        self.kept.extend(made);
    }

    /// Past forecasts of a quantity with their outcomes.
    fn past(
        &self,
        world: World<'_>,
        at: i64,
        quantity: Quantity,
        observed: &Observed,
    ) -> Vec<Past> {
        let place = place(quantity);
        let mut past = Vec::new();
        for (origin, kept) in self.kept.range(..at) {
            for lead in 1..=KEPT_HOURS {
                let target = origin + 3600 * i64::try_from(lead).unwrap_or(0);
                let Some(outcome) = observed.at(quantity, target).filter(|_| target <= at) else {
                    continue;
                };
                let (day, clock) = world.log.clock(target);
                past.push(Past {
                    lead,
                    hour: hour(clock),
                    off: world.is_off(day),
                    age: calibrate::age(at, target),
                    levels: kept.levels[place * KEPT_HOURS + lead - 1],
                    outcome,
                });
            }
        }
        past
    }

    fn fared(&self, world: World<'_>, at: i64, observed: &Observed) -> Option<Watch> {
        let (mut own, mut naive, mut inside, mut count) = (0.0, 0.0, 0.0, 0);
        for past in self.past(world, at, Quantity::PluggedIn, observed) {
            if past.age > WATCH_DAYS || past.lead % 6 != 0 {
                continue;
            }
            let target = at - floor(past.age * 86_400.0);
            let Some(values) = world.naive(target, at, &LEVELS) else {
                continue;
            };
            let naive_levels: [f64; KEPT] = std::array::from_fn(|i| values[i]);
            let levels = past.levels.map(f64::from);
            own += calibrate::pinball(&levels, past.outcome);
            inside += calibrate::within(&levels, past.outcome, (0, KEPT - 1));
            naive += calibrate::pinball(&naive_levels, past.outcome);
            count += 1;
        }
        (count >= FEWEST && naive > 0.0).then(|| Watch {
            against_naive: own / naive,
            inside_90: inside / size(count),
        })
    }
}

impl World<'_> {
    pub(crate) fn is_off(&self, day: i32) -> bool {
        self.off.contains(&day) || (day - 1).rem_euclid(7) >= 5
    }

    /// The naive model of vehicles plugged in at `target`, from counts known at `at`: same weekday and clock of the last eight
    /// weeks that have data.
    pub(crate) fn naive(&self, target: i64, at: i64, levels: &[f64]) -> Option<Vec<f64>> {
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
}

pub(crate) fn hour(clock: i64) -> usize {
    usize::try_from(clock / 3600).unwrap_or(0).min(23)
}

fn place(quantity: Quantity) -> usize {
    QUANTITIES.iter().position(|q| *q == quantity).unwrap_or(0)
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
