//! What a forecaster learns from the outcomes of its own past forecasts, once per local day.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::blend::{Blend, Told, WAYS};
use super::calibrate::{self, Calibration, KEPT, Past};
use super::change;
use super::donor::HALF_LIFE;
use super::given::FEW;
use super::joint::Paths;
use super::kind::{self, Days};
use super::leaving::{Leaving, Leavings};
use super::level::Known;
use super::log::Log;
use super::num::{floor, size};
use super::observed::Observed;
use super::outlook::Outlooks;
use super::paths::Grid;
use super::simulate::{Draw, Engine, is_small, way};
use super::usual::{self, Between, USUAL, at_levels};
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
/// Hours from a midnight on for which it is laid down what is usual.
pub(crate) const USUAL_HOURS: i64 = 74;
/// Paths drawn for forecasts that only what is learned sees: in one way, and in several together.
const WARM_PATHS: [usize; 2] = [100, 150];

/// A past forecast, hour by hour.
#[derive(Debug, Clone)]
struct Kept {
    /// Quantity by quantity, lead by lead, way by way; `None` for a way that was not gone.
    levels: Vec<[Option<[f32; KEPT]>; WAYS]>,
    /// Quantity by quantity, lead by lead: as it was at the origin, with its usual change.
    changed: Vec<Option<[f32; KEPT]>>,
}

/// What was learned from the past at a local midnight, with the past forecasts it was learned from. It may be handed to a
/// forecaster over a newer log.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    kept: BTreeMap<i64, Kept>,
    leavings: Leavings,
    outlooks: Outlooks,
    today: Option<Today>,
}

#[derive(Debug, Clone)]
struct Today {
    midnight: i64,
    seed: u64,
    lessons: Vec<Lesson>,
    watch: Option<Watch>,
}

/// What was learned of one quantity.
#[derive(Debug, Clone)]
pub(crate) struct Lesson {
    pub(crate) blend: Blend,
    pub(crate) calibration: Calibration,
    /// What is usual at every hour from the midnight on, sorted; empty where nothing is.
    usual: Vec<[Vec<f32>; USUAL - 1]>,
    midnight: i64,
}

impl Lesson {
    /// What is usual at `at` in the `which`th way that needs no model and does not look at what is there now, if anything.
    pub(crate) fn usual(&self, at: i64, which: usize) -> Option<Between<'_>> {
        let hours = |h: usize| self.usual.get(h)?.get(which).map(Vec::as_slice);
        Between::of(hours, at - self.midnight)
    }
}

/// How the model fared over the last 14 days, vehicles plugged in, before recalibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watch {
    /// Its loss over that of the naive model.
    pub against_naive: f64,
    /// Share of outcomes inside its 90 % band.
    pub inside_90: f64,
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

    /// How long a stay usually is, for forecasts made on local day `day`; `None` if it was not learned.
    pub(crate) fn leaving(&self, day: i32) -> Option<&Leaving> {
        self.leavings.of(day)
    }

    /// By quantity, in the order of [`QUANTITIES`]; none if nothing was learned.
    pub(crate) fn lessons(&self) -> &[Lesson] {
        self.today.as_ref().map_or(&[], |t| &t.lessons)
    }

    /// Learns what the past teaches at `midnight`, unless it is known.
    pub(crate) fn learn(&mut self, log: &Log, midnight: i64, ask: &Ask) {
        let known = self.today.as_ref().map(|t| (t.midnight, t.seed));
        if known == Some((midnight, ask.seed)) {
            return;
        }
        if known.is_some_and(|(_, seed)| seed != ask.seed) {
            self.kept.clear();
        }
        let (day, _) = log.clock(midnight);
        let memory = i32::try_from(MEMORY_DAYS).unwrap_or(0);
        self.leavings.learn(log, (day, memory), ask.threads);
        self.remember(log, midnight, ask);
        self.outlooks.learn(log, (day, memory), ask.threads);
        let view = log.view(midnight);
        let kinds = Days::new(&view, day, log.off(), HALF_LIFE);
        let vehicles = view.mean_count(midnight - MEMORY_DAYS * 86_400);
        let few = vehicles < FEW;
        let days = if few { usual::MANY_DAYS } else { usual::DAYS };
        let observed = Observed::by_kinds(&view, &kinds, log.off(), (days, 3600));
        let past = usual::Past {
            log,
            off: log.off(),
            kinds: &kinds,
            observed: &observed,
            few,
        };
        let mut watch = None;
        let mut lessons = Vec::new();
        for quantity in QUANTITIES {
            let told = self.told(log, midnight, quantity, past);
            let blend = Blend::learn(&told, few);
            let told = outcomes(&told, &blend);
            if quantity == Quantity::PluggedIn {
                watch = fared(log, midnight, &told);
            }
            lessons.push(Lesson {
                blend,
                calibration: Calibration::learn(&told, quantity, calibrate::believed(vehicles)),
                usual: self.usual(quantity, past, midnight),
                midnight,
            });
        }
        self.today = Some(Today {
            midnight,
            seed: ask.seed,
            lessons,
            watch,
        });
    }

    /// Makes the past forecasts that are missing.
    fn remember(&mut self, log: &Log, at: i64, ask: &Ask) {
        let (today, _) = log.clock(at);
        let oldest = at - MEMORY_DAYS * 86_400;
        self.kept.retain(|o, _| *o >= oldest);
        let days = i32::try_from(MEMORY_DAYS).unwrap_or(0);
        let hours = || (0_i64..24).step_by(EVERY_HOURS);
        let missing: Vec<i64> = (today - days..=today)
            .flat_map(|day| hours().map(move |hour| (day, hour)))
            .map(|(day, hour)| log.instant(day, 3600 * hour))
            .filter(|o| (oldest..at).contains(o) && !self.kept.contains_key(o))
            .collect();
        let leavings = &self.leavings;
        let made = each(missing, ask.threads, |origin| {
            let grid = Grid {
                start: origin,
                step: 3600,
                count: KEPT_HOURS + 1,
            };
            let view = log.view(origin);
            let leaving = leavings.of(log.clock(origin).0);
            let engine = Engine::new(view, log.off(), leaving, grid, seed(ask.seed, origin));
            let (paths, _) = engine.paths(Draw {
                paths: WARM_PATHS[usize::from(engine.ways() > 1)],
                groups: false,
                threads: 1,
            });
            (origin, kept(&paths, engine.ways(), log, origin))
        });
        self.kept.extend(made);
    }

    /// What is usual at every hour from `midnight` on.
    fn usual(
        &self,
        quantity: Quantity,
        past: usual::Past<'_>,
        midnight: i64,
    ) -> Vec<[Vec<f32>; USUAL - 1]> {
        let hours = (0_usize..).zip((0..USUAL_HOURS).map(|h| midnight + 3600 * h));
        let all = hours.map(|(hour, at)| {
            let [short, long] = past.samples(quantity, at);
            let [fast, slow] = self.outlooks.samples(place(quantity), hour);
            [short, long, fast, slow]
        });
        all.collect()
    }

    /// Past forecasts of a quantity with their outcomes, work days beside days off left out.
    fn told(&self, log: &Log, at: i64, quantity: Quantity, past: usual::Past<'_>) -> Vec<Told> {
        let place = place(quantity);
        let mut usual: BTreeMap<i64, [Option<[f32; KEPT]>; usual::WEEKS.len()]> = BTreeMap::new();
        let mut told = Vec::new();
        for (origin, kept) in self.kept.range(..at) {
            let (begun, _) = log.clock(*origin);
            let midnight = log.instant(begun, 0);
            for lead in 1..=KEPT_HOURS {
                let target = origin + 3600 * i64::try_from(lead).unwrap_or(0);
                let (day, clock) = log.clock(target);
                // What lay off beside days off lies off nowhere else.
                if target > at || kind::beside(day, log.off()) {
                    continue;
                }
                let Some(outcome) = past.observed.at(quantity, target) else {
                    continue;
                };
                let usual = usual
                    .entry(target)
                    .or_insert_with(|| past.samples(quantity, target).map(|s| at_levels(&s)));
                let since = usize::try_from((target - midnight) / 3600).unwrap_or(0);
                let [fast, slow] = self.outlooks.said(begun, place, since);
                let ways = kept.levels[place * KEPT_HOURS + lead - 1];
                let changed = kept.changed[place * KEPT_HOURS + lead - 1];
                told.push(Told {
                    lead,
                    hour: hour(clock),
                    off: log.is_off(day),
                    age: calibrate::age(at, target),
                    said: [
                        ways[0], ways[1], ways[2], usual[0], usual[1], fast, slow, changed,
                    ],
                    outcome,
                });
            }
        }
        told
    }
}

/// Blended forecasts with their outcomes.
fn outcomes(told: &[Told], blend: &Blend) -> Vec<Past> {
    let past = told.iter().map(|t| Past {
        lead: t.lead,
        hour: t.hour,
        off: t.off,
        age: t.age,
        levels: blend.levels(t.lead, &t.said),
        outcome: t.outcome,
    });
    past.collect()
}

fn fared(log: &Log, at: i64, all: &[Past]) -> Option<Watch> {
    let (mut own, mut naive, mut inside, mut count) = (0.0, 0.0, 0.0, 0);
    for past in all {
        if past.age > WATCH_DAYS || past.lead % 6 != 0 {
            continue;
        }
        let target = at - floor(past.age * 86_400.0);
        let Some(values) = log.naive(target, at, &LEVELS) else {
            continue;
        };
        let naive_levels: [f64; KEPT] = std::array::from_fn(|i| values[i]);
        // Vehicles are whole, as in what is published.
        let levels = past.levels.map(|l| f64::from(l).round());
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

impl Log {
    pub(crate) fn is_off(&self, day: i32) -> bool {
        kind::rests(day, self.off())
    }

    /// What `look` makes of the last `days` days as they were known at `at`; `None` of a large pool, where days say enough.
    pub(crate) fn small<T>(
        &self,
        at: i64,
        days: i32,
        look: impl FnOnce(Known<'_>) -> T,
    ) -> Option<T> {
        let view = self.view(at);
        if !is_small(&view) {
            return None;
        }
        let (today, _) = self.clock(at);
        let kinds = Days::new(&view, today, self.off(), HALF_LIFE);
        let span = (i64::from(days) + 2, 3600);
        Some(look(Known {
            log: self,
            off: self.off(),
            kinds: &kinds,
            observed: &Observed::by_kinds(&view, &kinds, self.off(), span),
            today,
        }))
    }

    /// What is there at `origin`, as `paths` have it, with its usual change: quantity by quantity, hour by hour from the origin on.
    /// Nothing of a large pool, and nothing of energy.
    pub(crate) fn changed(&self, origin: i64, paths: &Paths) -> [Vec<Vec<f32>>; QUANTITIES.len()] {
        let of = |known: Known<'_>, quantity: Quantity| {
            if quantity == Quantity::EnergyNeeded {
                return Vec::new();
            }
            let now = f64::from(calibrate::at(&paths.sorted(quantity, 0), 0.5));
            change::changed(known, quantity, (origin, now), KEPT_HOURS)
        };
        let all = |known: Known<'_>| QUANTITIES.map(|q| of(known, q));
        self.small(origin, change::DAYS, all).unwrap_or_default()
    }

    /// The naive model of vehicles plugged in at `target`, from counts known at `at`: same weekday and clock of the last eight
    /// weeks that have data.
    pub(crate) fn naive(&self, target: i64, at: i64, levels: &[f64]) -> Option<Vec<f64>> {
        let view = self.view(at);
        let (day, clock) = self.clock(target);
        let first = view.first_day()?;
        let samples: Vec<f64> = (1..)
            .map(|week| day - 7 * week)
            .take_while(|d| *d > first)
            .filter_map(|d| view.count(self.instant(d, clock)).map(f64::from))
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

fn kept(paths: &Paths, ways: usize, log: &Log, origin: i64) -> Kept {
    let mut levels = Vec::with_capacity(QUANTITIES.len() * KEPT_HOURS);
    for quantity in QUANTITIES {
        for lead in 1..=KEPT_HOURS {
            let mut by_way: [Vec<f32>; WAYS] = Default::default();
            for (path, value) in paths.column(quantity, lead).enumerate() {
                by_way[way(path, ways)].push(value);
            }
            levels.push(by_way.map(|mut values| {
                values.sort_by(f32::total_cmp);
                (!values.is_empty()).then(|| LEVELS.map(|l| calibrate::at(&values, l)))
            }));
        }
    }
    let fine = log.changed(origin, paths);
    let at = |hours: &Vec<Vec<f32>>, lead: usize| at_levels(hours.get(lead)?);
    let changed = fine
        .iter()
        .flat_map(|hours| (1..=KEPT_HOURS).map(move |lead| at(hours, lead)));
    Kept {
        levels,
        changed: changed.collect(),
    }
}
