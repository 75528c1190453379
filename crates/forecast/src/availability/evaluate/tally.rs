//! Scores of one quantity.

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

use super::super::calibrate::{BANDS, band};
use super::super::log::Log;
use super::super::num::size;
use super::super::observed::Observed;
use super::baseline::{Persistence, chance, same_weekday};
use super::score::{Coverage, Loss, Pits, linear, loss, pit, quantile};
use super::{LEADS, Test, name};
use crate::Quantity;
use crate::availability::Availability;

/// Who is scored, in this order.
const MODELS: usize = 5;
/// Bins of the transform's histogram.
const BINS: usize = 20;

/// Mean pinball losses of the forecast and of what it is measured against.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Losses {
    /// The forecast.
    pub model: f64,
    /// Same weekday and clock of eight weeks.
    pub naive: f64,
    /// The same with all weeks.
    pub climatology: f64,
    /// The same with 13 weeks.
    pub climatology_13_weeks: f64,
    /// Value at the origin with its residuals.
    pub persistence: f64,
    /// Percent below the naive loss.
    pub below_naive_percent: f64,
    /// Percent below the better climatology.
    pub below_climatology_percent: f64,
    /// Percent below the best of all.
    pub below_best_percent: f64,
}

/// Scores of a band of leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BandScore {
    /// First lead, hours.
    pub from_hours: usize,
    /// Last lead, hours.
    pub to_hours: usize,
    /// Mean pinball losses.
    pub pinball: Losses,
    /// Shares inside the central bands.
    pub coverage: Coverage,
}

/// Scores of a quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantityScore {
    /// Quantity and unit.
    pub quantity: &'static str,
    /// Mean of what came.
    pub mean_outcome: f64,
    /// Mean pinball losses over all leads alike.
    pub pinball: Losses,
    /// The same on ordinary days.
    pub ordinary_days: Losses,
    /// CRPS: twice the mean pinball loss of 99 levels.
    pub crps: Losses,
    /// Root mean square error of the median over the mean outcome.
    pub nrmse: f64,
    /// Shares inside the central bands.
    pub coverage: Coverage,
    /// By band of leads.
    pub bands: Vec<BandScore>,
    /// By local hour of the target.
    pub coverage_by_hour: Vec<Coverage>,
    /// Shares of the randomised probability integral transform in 20 equal bins.
    pub pit: Vec<f64>,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    losses: [Loss; MODELS],
    count: [usize; MODELS],
}

impl Sum {
    fn add(&mut self, losses: &[Option<Loss>; MODELS]) {
        for (i, loss) in losses.iter().enumerate() {
            if let Some(loss) = loss {
                self.losses[i].pinball += loss.pinball;
                self.losses[i].crps += loss.crps;
                self.losses[i].square += loss.square;
                self.count[i] += 1;
            }
        }
    }

    fn mean(&self, of: impl Fn(&Loss) -> f64) -> Losses {
        let mean = |i: usize| of(&self.losses[i]) / size(self.count[i].max(1));
        let known = |i: usize| {
            if self.count[i] > 0 {
                mean(i)
            } else {
                f64::INFINITY
            }
        };
        let below = |other: f64| {
            if other > 0.0 && other.is_finite() {
                100.0 * (1.0 - mean(0) / other)
            } else {
                0.0
            }
        };
        let climatology = known(2).min(known(3));
        Losses {
            model: mean(0),
            naive: mean(1),
            climatology: mean(2),
            climatology_13_weeks: mean(3),
            persistence: mean(4),
            below_naive_percent: below(known(1)),
            below_climatology_percent: below(climatology),
            below_best_percent: below(climatology.min(known(1)).min(known(4))),
        }
    }
}

#[derive(Debug)]
pub(super) struct Tally {
    quantity: Quantity,
    special: Vec<(NaiveDate, NaiveDate)>,
    seed: u64,
    outcome: f64,
    all: Sum,
    ordinary: Sum,
    bands: Vec<Sum>,
    pits: Pits,
    band_pits: Vec<Pits>,
    hour_pits: Vec<Pits>,
}

impl Tally {
    pub(super) fn new(quantity: Quantity, test: &Test) -> Self {
        Self {
            quantity,
            special: test.special.clone(),
            seed: test.seed,
            outcome: 0.0,
            all: Sum::default(),
            ordinary: Sum::default(),
            bands: vec![Sum::default(); BANDS.len()],
            pits: Pits::default(),
            band_pits: vec![Pits::default(); BANDS.len()],
            hour_pits: vec![Pits::default(); 24],
        }
    }

    /// Scores one forecast at all leads.
    pub(super) fn add(
        &mut self,
        log: &Log,
        truth: &Observed,
        ahead: &Availability,
        persistence: &Persistence,
    ) {
        let origin = ahead.until.timestamp();
        // Power and energy of visits that last are not known at the origin: the median of what they may be.
        let now = quantile(&ahead.paths.sorted(self.quantity, 0), 0.5);
        let origin_hour = log.clock(origin).1 / 3600;
        let per_hour = usize::try_from(3600 / ahead.step.num_seconds().max(1)).unwrap_or(1);
        for lead in 1..=LEADS {
            let target = origin + 3600 * i64::try_from(lead).unwrap_or(0);
            let Some(came) = truth.at(self.quantity, target) else {
                continue;
            };
            let sorted = ahead.paths.sorted(self.quantity, lead * per_hour);
            let mut losses = [None; MODELS];
            losses[0] = Some(loss(|l| quantile(&sorted, l), came));
            let past = same_weekday(log, truth, self.quantity, (target, origin));
            for (slot, samples) in losses[1..].iter_mut().zip(&past) {
                *slot = (!samples.is_empty()).then(|| loss(|l| linear(samples, l), came));
            }
            losses[4] = persistence
                .quantile(now, origin_hour, lead, 0.5)
                .map(|median| {
                    let of = |l| persistence.quantile(now, origin_hour, lead, l);
                    loss(|l| of(l).unwrap_or(median), came)
                });
            let (day, clock) = log.clock(target);
            self.outcome += came;
            self.all.add(&losses);
            self.bands[band(lead)].add(&losses);
            if !self.is_special(day) {
                self.ordinary.add(&losses);
            }
            let pit = pit(&sorted, came, chance(self.seed, target, lead));
            self.pits.add(pit);
            self.band_pits[band(lead)].add(pit);
            let hour = usize::try_from(clock / 3600).unwrap_or(0).min(23);
            self.hour_pits[hour].add(pit);
        }
    }

    fn is_special(&self, day: i32) -> bool {
        let inside = |(from, to): &(NaiveDate, NaiveDate)| {
            (from.num_days_from_ce()..to.num_days_from_ce()).contains(&day)
        };
        self.special.iter().any(inside)
    }

    pub(super) fn finish(self) -> QuantityScore {
        let count = size(self.all.count[0].max(1));
        let mean_outcome = self.outcome / count;
        let rmse = (self.all.losses[0].square / count).sqrt();
        let bands = BANDS
            .iter()
            .zip(&self.bands)
            .zip(&self.band_pits)
            .map(|((hours, sum), pits)| BandScore {
                from_hours: hours.0,
                to_hours: hours.1.min(LEADS),
                pinball: sum.mean(|l| l.pinball),
                coverage: pits.coverage(),
            })
            .collect();
        QuantityScore {
            quantity: name(self.quantity),
            mean_outcome,
            pinball: self.all.mean(|l| l.pinball),
            ordinary_days: self.ordinary.mean(|l| l.pinball),
            crps: self.all.mean(|l| l.crps),
            nrmse: rmse / mean_outcome.max(f64::MIN_POSITIVE),
            coverage: self.pits.coverage(),
            bands,
            coverage_by_hour: self.hour_pits.iter().map(Pits::coverage).collect(),
            pit: self.pits.histogram(BINS),
        }
    }
}
