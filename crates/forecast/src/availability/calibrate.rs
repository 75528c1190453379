//! Daily recalibration: how far past forecasts were off, and how wide they should have been.

use super::drift::{self, Drift};
use super::num::{floor, index, narrow, real, size};
use crate::{LEVELS, Quantity};

/// Levels kept of every forecast.
pub(crate) const KEPT: usize = LEVELS.len();
/// Place of the median among [`LEVELS`].
const MEDIAN: usize = 3;
/// Blocks of the local day that are judged apart.
const BLOCKS: usize = 8;
/// Working days and days off.
const CLASSES: usize = 2;
/// Bands of leads, hours, both ends included: those of the score.
pub(crate) const BANDS: [(usize, usize); 5] = [(1, 1), (2, 4), (5, 12), (13, 24), (25, 48)];

/// Age at which an error counts half for the shift, days; days of agreement that a shift must outweigh; and the part of it that is taken
/// beside the drift.
const SHIFT_HALF_LIFE: f64 = 10.0;
const SHIFT_PRIOR_DAYS: f64 = 6.0;
const SHIFT_TAKEN: f64 = 0.3;
/// Days of agreement with its band of leads that a cell's own width must outweigh: of vehicles, of power, whose lower ends are sold block
/// by block, and of energy, which strays more and keeps its promise more evenly.
const PRIOR_DAYS: [f64; 3] = [15.0, 6.0, 60.0];
/// Widths tried.
const WIDTHS: [f64; 21] = [
    0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.27, 1.35, 1.42, 1.5,
    1.7, 1.9, 2.2, 2.6,
];

/// Vehicles there on the mean up to which errors are chance, and from which on corrections are taken whole.
const BELIEVED: (f64, f64) = (super::given::FEW, 2.0 * super::given::FEW);

/// Part of the width that is taken of energy at least.
const WIDTH_OF_ENERGY: f64 = 0.3;

/// Part of what errors teach that is taken where so many vehicles are there on the mean: a month of few visits teaches nothing but itself.
pub(crate) fn believed(vehicles: f64) -> f64 {
    let (none, whole) = BELIEVED;
    ((vehicles - none) / (whole - none)).clamp(0.0, 1.0)
}

/// Band of a lead of `hours`.
#[must_use]
pub(crate) fn band(hours: usize) -> usize {
    BANDS
        .iter()
        .position(|(_, last)| hours <= *last)
        .unwrap_or(BANDS.len() - 1)
}

/// One past forecast of one hour, and what came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) lead: usize,
    /// Local hour of the target.
    pub(crate) hour: usize,
    /// Whether the target lies on a day off.
    pub(crate) off: bool,
    /// Days ago.
    pub(crate) age: f64,
    pub(crate) levels: [f32; KEPT],
    pub(crate) outcome: f64,
}

/// What is done to a path's value: the distance from the median is multiplied by `width`, and the whole is moved by a share of its
/// mean; values that are skewed are multiplied instead, so that what is zero stays zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Correction {
    pub(crate) share: f64,
    /// In the unit of the value; zero where values are skewed.
    pub(crate) shift: f64,
    pub(crate) width: f64,
    pub(crate) skewed: bool,
}

impl Correction {
    fn moved(self, value: f64, (median, mean): (f64, f64)) -> f64 {
        let wide = median + self.width * (value - median);
        if self.skewed {
            wide * (1.0 + self.share)
        } else {
            wide + self.share * mean + self.shift
        }
    }

    /// Median and mean of what is corrected.
    fn middle(levels: &[f64; KEPT]) -> (f64, f64) {
        (levels[MEDIAN], drift::mean(levels))
    }
}

/// Corrections of one quantity: shifts and widths by band of leads, block of the day and class of day, and what forecasts were off by as
/// a share of what they said.
#[derive(Debug, Clone)]
pub(crate) struct Calibration {
    /// Shift and width, by cell.
    cells: Vec<(f64, f64)>,
    drift: Drift,
    skewed: bool,
    /// Part of all that is taken.
    believed: f64,
}

fn cell(lead: usize, hour: usize, off: bool) -> usize {
    (band(lead) * BLOCKS + hour * BLOCKS / 24) * CLASSES + usize::from(off)
}

impl Calibration {
    /// Learns from forecasts of `quantity` whose outcome is known, of which the part `believed` is taken.
    pub(crate) fn learn(past: &[Past], quantity: Quantity, believed: f64) -> Self {
        let mut cells: Vec<Vec<&Past>> = vec![Vec::new(); BANDS.len() * BLOCKS * CLASSES];
        for one in past {
            cells[cell(one.lead, one.hour, one.off)].push(one);
        }
        // Energy is skewed: its mean lies above its median without any fault of the forecast.
        let skewed = quantity == Quantity::EnergyNeeded;
        let whole = quantity == Quantity::PluggedIn;
        let drift = Drift::learn(past);
        let [count, power, energy] = PRIOR_DAYS;
        let (promised, prior) = match quantity {
            Quantity::PluggedIn => (BANDS_OF_COUNT, count),
            Quantity::PowerUp | Quantity::PowerDown => (BANDS_OF_POWER, power),
            Quantity::EnergyNeeded => (BANDS_OF_ENERGY, energy),
        };
        let judged = cells.iter().map(|past| {
            let shift = if skewed { 0.0 } else { shift(past) };
            let as_drawn = |p: &Past| Correction {
                share: drift.at(p.lead, p.hour, p.off),
                shift,
                width: 1.0,
                skewed,
            };
            (shift, Inside::of(past, whole, as_drawn))
        });
        let judged: Vec<(f64, Inside)> = judged.collect();
        // What is not believed of a cell is left to its band.
        let prior = prior / believed.max(1e-6);
        let by_band = judged.chunks_exact(BLOCKS * CLASSES);
        let by_band = by_band.zip(cells.chunks_exact(BLOCKS * CLASSES));
        let corrections = by_band.flat_map(|(judged, cells)| {
            let band = Inside::pooled(judged.iter().map(|j| &j.1));
            let width = move |(past, (shift, inside)): (&Vec<&Past>, &(f64, Inside))| {
                if past.is_empty() {
                    (0.0, 1.0)
                } else {
                    (*shift, inside.width((days(past), prior), &band, promised))
                }
            };
            cells.iter().zip(judged).map(width)
        });
        Self {
            cells: corrections.collect(),
            drift,
            skewed,
            believed,
        }
    }

    pub(crate) fn at(&self, lead: usize, hour: usize, off: bool) -> Correction {
        let cell = self.cells.get(cell(lead, hour, off));
        let (shift, width) = cell.copied().unwrap_or((0.0, 1.0));
        // Bands of energy stray more: some of their width is believed of a few vehicles, too.
        let believed_width = if self.skewed {
            self.believed.max(WIDTH_OF_ENERGY)
        } else {
            self.believed
        };
        Correction {
            share: self.believed * self.drift.at(lead, hour, off),
            shift: self.believed * shift,
            width: 1.0 + believed_width * (width - 1.0),
            skewed: self.skewed,
        }
    }
}

/// Days that outcomes come from: errors of one day go together, so days are what is counted.
fn days(past: &[&Past]) -> f64 {
    let mut days: Vec<i64> = past.iter().map(|p| floor(p.age)).collect();
    days.sort_unstable();
    days.dedup();
    size(days.len())
}

/// Weighted mean error, shrunk by its own uncertainty and by the prior; the part of it that is taken.
fn shift(past: &[&Past]) -> f64 {
    let weight = |p: &Past| (-p.age / SHIFT_HALF_LIFE).exp2();
    let error = |p: &Past| p.outcome - f64::from(p.levels[MEDIAN]);
    let total: f64 = past.iter().map(|p| weight(p)).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let mean = past.iter().map(|p| weight(p) * error(p)).sum::<f64>() / total;
    let var = past
        .iter()
        .map(|p| weight(p) * (error(p) - mean).powi(2))
        .sum::<f64>()
        / total;
    let days = days(past);
    let effective = days.min(1.44 * SHIFT_HALF_LIFE);
    let sure = 1.0 - var / effective / (mean * mean).max(1e-9);
    SHIFT_TAKEN * mean * sure.max(0.0) * days / (days + SHIFT_PRIOR_DAYS)
}

/// How many outcomes lay inside the 80 % and the 90 % band, had it been so wide, for every width tried.
#[derive(Debug, Clone, Copy, Default)]
struct Inside {
    counts: [[f64; 2]; WIDTHS.len()],
    of: f64,
}

impl Inside {
    fn of(past: &[&Past], whole: bool, as_drawn: impl Fn(&Past) -> Correction) -> Self {
        // Places of the ends of both bands among the levels, inner one first.
        const ENDS: [(usize, usize); 2] = [(1, 5), (0, 6)];
        let mut inside = Self {
            of: size(past.len()),
            ..Self::default()
        };
        for (width, counts) in WIDTHS.iter().zip(&mut inside.counts) {
            for p in past {
                let how = Correction {
                    width: *width,
                    ..as_drawn(p)
                };
                let levels = p.levels.map(f64::from);
                let middle = Correction::middle(&levels);
                let levels = levels.map(|l| {
                    let moved = how.moved(l, middle).max(0.0);
                    if whole { moved.round() } else { moved }
                });
                for (count, ends) in counts.iter_mut().zip(ENDS) {
                    *count += within(&levels, p.outcome, ends);
                }
            }
        }
        inside
    }

    fn pooled<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.of += one.of;
            for (total, counts) in sum.counts.iter_mut().zip(&one.counts) {
                total[0] += counts[0];
                total[1] += counts[1];
            }
        }
        sum
    }

    /// The width whose bands would have kept their promise best; what all cells together say counts as the prior's days.
    fn width(&self, (days, prior): (f64, f64), whole: &Self, promised: [f64; 2]) -> f64 {
        let share =
            |inside: &Self, w: usize, band: usize| inside.counts[w][band] / inside.of.max(1.0);
        let missed = |w: usize| -> f64 {
            promised
                .iter()
                .enumerate()
                .map(|(band, promised)| {
                    let own = days * share(self, w, band) + prior * share(whole, w, band);
                    (own / (days + prior) - promised).abs()
                })
                .sum()
        };
        (0..WIDTHS.len())
            .map(|w| (missed(w) + 0.01 * WIDTHS[w].ln().abs(), WIDTHS[w]))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or(1.0, |best| best.1)
    }
}

/// Shares that the learned 80 % and 90 % bands hold of what they were learned from. The days to come are a little stranger than those
/// learned from, and errors of vehicles go together through a block, whose sum is promised too: for vehicles three percent are added, for power half a
/// percent.
const BANDS_OF_ENERGY: [f64; 2] = [0.80, 0.90];
const BANDS_OF_POWER: [f64; 2] = [0.805, 0.905];
const BANDS_OF_COUNT: [f64; 2] = [0.83, 0.93];

/// Share of the randomised probability integral transform of `outcome` that lies between two of [`LEVELS`]: 1 inside and 0
/// outside, and in part where levels meet the outcome, as whole numbers and zeros do.
pub(crate) fn within(levels: &[f64; KEPT], outcome: f64, (low, high): (usize, usize)) -> f64 {
    const SAME: f64 = 1e-6;
    let below = levels.partition_point(|l| *l < outcome - SAME);
    let upto = levels.partition_point(|l| *l <= outcome + SAME);
    if below == upto {
        return if below > low && below <= high {
            1.0
        } else {
            0.0
        };
    }
    // The distribution jumps at the outcome, from somewhere below the first level that meets it to somewhere above the last.
    let between = |place: usize| {
        let under = place.checked_sub(1).map_or(0.0, |i| LEVELS[i]);
        let over = LEVELS.get(place).copied().unwrap_or(1.0);
        f64::midpoint(under, over)
    };
    let (from, to) = (between(below), between(upto));
    let inside = to.min(LEVELS[high]) - from.max(LEVELS[low]);
    (inside / (to - from)).clamp(0.0, 1.0)
}

/// Mean pinball loss of values at [`LEVELS`].
pub(crate) fn pinball(values: &[f64; KEPT], outcome: f64) -> f64 {
    LEVELS
        .iter()
        .zip(values)
        .map(|(level, value)| {
            let above = outcome - value;
            (level * above).max((level - 1.0) * above)
        })
        .sum::<f64>()
        / size(KEPT)
}

/// Applies a correction to the values of one step of all paths. Vehicles stay whole and nothing goes below zero.
pub(crate) fn correct(values: &mut [f32], sorted: &[f32], how: Correction, quantity: Quantity) {
    let middle = Correction::middle(&LEVELS.map(|l| f64::from(at(sorted, l))));
    for value in values {
        let moved = how.moved(f64::from(*value), middle);
        let moved = if quantity == Quantity::PluggedIn {
            moved.round()
        } else {
            moved
        };
        *value = narrow(moved.max(0.0));
    }
}

/// The smallest value whose share of the sorted sample reaches `level` (inverse of the distribution function): whole counts stay whole.
pub(crate) fn at(sorted: &[f32], level: f64) -> f32 {
    let last = sorted.len().saturating_sub(1);
    let place = index((level * size(sorted.len()) - 1e-9).max(0.0)).min(last);
    sorted.get(place).copied().unwrap_or(0.0)
}

/// Age in days of `at` seen from `until`.
pub(crate) fn age(until: i64, at: i64) -> f64 {
    real(until - at) / 86_400.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty days of forecasts with medians of 10 and quartiles two away; `outcome` says what came on a day.
    fn past(outcome: impl Fn(u32) -> f64) -> Vec<Past> {
        (0..40)
            .map(|day| Past {
                lead: 6,
                hour: 12,
                off: false,
                age: f64::from(day),
                levels: [5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 15.0],
                outcome: outcome(day),
            })
            .collect()
    }

    #[test]
    fn a_forecast_that_is_always_too_low_is_lifted_in_part_and_only_where_it_was() {
        let calibration = Calibration::learn(
            &past(|day| 13.0 + f64::from(day % 2)),
            Quantity::PluggedIn,
            1.0,
        );
        let here = calibration.at(6, 12, false);
        assert!((0.5..1.1).contains(&here.shift), "{here:?}");
        for elsewhere in [calibration.at(6, 12, true), calibration.at(30, 12, false)] {
            assert!(elsewhere.shift.abs() < 1e-12 && (elsewhere.width - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn errors_of_few_vehicles_are_chance_and_of_some_are_taken_in_part() {
        let (always, part) = (past(|day| 14.0 + f64::from(day % 2)), believed(4.5));
        let [none, some, whole] = [0.0, part, 1.0]
            .map(|part| Calibration::learn(&always, Quantity::PluggedIn, part).at(6, 12, false));
        assert!((part - 0.5).abs() < 1e-12 && believed(2.0) < 1e-12);
        assert!((believed(100.0) - 1.0).abs() < 1e-12);
        let as_drawn = |c: Correction| c.share.abs() + c.shift.abs() + (c.width - 1.0).abs();
        assert!(as_drawn(none) < 1e-12);
        assert!(as_drawn(whole) > 0.1, "{whole:?}");
        assert!((as_drawn(some) - 0.5 * as_drawn(whole)).abs() < 1e-9);
        let wider = past(|day| 10.0 + 12.0 * (f64::from(day * 7 % 40) / 20.0 - 0.975));
        let energy = Calibration::learn(&wider, Quantity::EnergyNeeded, 0.0).at(6, 12, false);
        assert!(
            energy.width > 1.1 && energy.share.abs() < 1e-12,
            "{energy:?}"
        );
    }

    #[test]
    fn bands_that_are_too_narrow_widen_and_too_wide_ones_narrow() {
        let spread = |far: f64| {
            let past = past(|day| 10.0 + far * (f64::from(day * 7 % 40) / 20.0 - 0.975));
            Calibration::learn(&past, Quantity::PluggedIn, 1.0)
                .at(6, 12, false)
                .width
        };
        assert!(spread(12.0) > 1.4, "{}", spread(12.0));
        assert!(spread(3.5) < 0.8, "{}", spread(3.5));
    }

    #[test]
    fn vehicles_are_judged_whole_as_they_are_published() {
        let mut past = past(|_| 10.0);
        for one in &mut past {
            one.levels = [10.1, 10.2, 10.2, 10.3, 10.3, 10.4, 10.4];
        }
        let width = |q| Calibration::learn(&past, q, 1.0).at(6, 12, false).width;
        assert!((width(Quantity::PluggedIn) - 1.0).abs() < 1e-9);
        assert!(width(Quantity::PowerUp) > 1.3);
    }

    #[test]
    fn a_jump_counts_for_the_part_of_it_that_lies_in_the_band() {
        // Empty with a chance between 50 and 75 %: most of the jump lies above the lowest twentieth.
        let mostly_empty = [0.0, 0.0, 0.0, 0.0, 2.0, 5.0, 7.0];
        let inside = within(&mostly_empty, 0.0, (0, 6));
        assert!((0.9..1.0).contains(&inside), "{inside}");
        assert!((within(&mostly_empty, 3.0, (0, 6)) - 1.0).abs() < 1e-12);
        assert!(within(&mostly_empty, 8.0, (0, 6)).abs() < 1e-12);
        let always_empty = [0.0; KEPT];
        let inside = within(&always_empty, 0.0, (0, 6));
        assert!((0.9..0.95).contains(&inside), "{inside}");
    }

    #[test]
    fn energy_is_not_lifted_for_being_skewed() {
        let past = past(|day| if day % 4 == 0 { 40.0 } else { 8.0 });
        let shift = |q| Calibration::learn(&past, q, 1.0).at(6, 12, false).shift;
        assert!(shift(Quantity::EnergyNeeded).abs() < 1e-12);
    }

    #[test]
    fn a_correction_keeps_the_order_of_the_paths_and_vehicles_whole() {
        let mut values = [3.0, 9.0, 5.0, 12.0];
        let mut sorted = values;
        sorted.sort_by(f32::total_cmp);
        let how = Correction {
            share: 0.1,
            shift: 0.6,
            width: 1.5,
            skewed: false,
        };
        correct(&mut values, &sorted, how, Quantity::PluggedIn);
        assert!(values[0] <= values[2] && values[2] <= values[1] && values[1] <= values[3]);
        assert!(values.iter().all(|v| v.fract() < 1e-6 && *v >= 0.0));
    }
}
