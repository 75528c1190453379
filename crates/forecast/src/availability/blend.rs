//! Several ways to forecast, each with the weight that the past gives it.

use super::calibrate::{BANDS, KEPT, band};
use super::num::size;
use super::usual::{Between, USUAL};
use crate::LEVELS;

/// Ways of drawing paths; after them comes what is usual.
pub(crate) const WAYS: usize = 3;
/// Those that are blended, in this order.
pub(crate) const EXPERTS: usize = WAYS + USUAL;

/// Weights before anything is known: paths are believed, what is usual at the present level half as much, past weeks a little; what is
/// there now by [`NOW`].
const PRIOR: [f64; EXPERTS - 1] = [0.2, 0.2, 0.2, 0.05, 0.05, 0.15, 0.15];
/// The same where few vehicles come: all past weeks say most of what there is to say.
const PRIOR_OF_FEW: [f64; EXPERTS - 1] = [0.15, 0.15, 0.15, 0.05, 0.3, 0.1, 0.1];
/// Weight, by band of leads, of what is there now with its usual change beside all others.
const NOW: [f64; BANDS.len()] = [0.08, 0.08, 0.06, 0.03, 0.03];
/// Steps away from the prior: few, so that chance does not choose.
const STEPS: usize = 12;
/// Length of a step.
const PACE: f64 = 3.0;
/// Age at which an outcome counts half, days.
const HALF_LIFE: f64 = 14.0;

/// Levels that each said; `None` where one said nothing.
pub(crate) type Said = [Option<[f32; KEPT]>; EXPERTS];

/// What was said of one hour, and what came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) lead: usize,
    /// Local hour of the target.
    pub(crate) hour: usize,
    /// Whether the target lies on a day off.
    pub(crate) off: bool,
    /// Days ago.
    pub(crate) age: f64,
    pub(crate) said: Said,
    pub(crate) outcome: f64,
}

/// Weights for a band of leads before anything is known, adding to 1, where many or `few` vehicles come.
fn prior(band: usize, few: bool) -> [f64; EXPERTS] {
    let prior = if few { PRIOR_OF_FEW } else { PRIOR };
    let own = |i: usize| prior.get(i).copied().unwrap_or(NOW[band]);
    among(&std::array::from_fn(own), [true; EXPERTS])
}

/// Weights by band of leads, each adding to 1.
#[derive(Debug, Clone)]
pub(crate) struct Blend {
    weights: [[f64; EXPERTS]; BANDS.len()],
}

/// What is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The values at each level: a distribution keeps the shape that all give it.
    Values,
    /// The chances of each value. Of a few vehicles each says a number, and between two numbers lies none.
    Chances,
}

/// Values in order, each with the share of all that is reached with it.
struct Mixed(Vec<(f64, f64)>);

impl Mixed {
    fn new(shares: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut all: Vec<(f64, f64)> = shares.collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut reached = 0.0;
        for (_, share) in &mut all {
            reached += *share;
            *share = reached;
        }
        Self(all)
    }

    /// The smallest value whose share reaches `level`.
    fn at(&self, level: f64) -> f64 {
        let place = self.0.partition_point(|(_, reached)| *reached < level);
        let place = place.min(self.0.len().saturating_sub(1));
        self.0.get(place).map_or(0.0, |(value, _)| *value)
    }
}

impl Default for Blend {
    fn default() -> Self {
        Self {
            weights: std::array::from_fn(|band| prior(band, false)),
        }
    }
}

impl Blend {
    /// Exponentiated gradient (Kivinen and Warmuth 1997) on the pinball loss of blended levels, where many or `few` vehicles come.
    pub(crate) fn learn(told: &[Told], few: bool) -> Self {
        let mut by_band: [Vec<&Told>; BANDS.len()] = Default::default();
        for one in told {
            by_band[band(one.lead)].push(one);
        }
        Self {
            weights: std::array::from_fn(|band| weights(&by_band[band], prior(band, few))),
        }
    }

    /// Moves the values of one step on all paths to the blended distribution: each keeps its rank among the paths drawn in its `way`.
    /// `usual` gives the values of what is usual by level, where something is. `how` is whether values are blended or chances.
    pub(crate) fn apply(
        &self,
        values: &mut [f32],
        (hours, how): (usize, How),
        way: impl Fn(usize) -> usize,
        usual: &[Option<Between<'_>>; USUAL],
    ) {
        let mut by_way: [Vec<(f32, usize)>; WAYS] = Default::default();
        for (path, value) in values.iter().enumerate() {
            by_way[way(path)].push((*value, path));
        }
        by_way
            .iter_mut()
            .for_each(|w| w.sort_by(|a, b| a.0.total_cmp(&b.0)));
        let says = std::array::from_fn(|i| match i.checked_sub(WAYS) {
            None => !by_way[i].is_empty(),
            Some(place) => usual[place].is_some(),
        });
        let weights = self.at(hours, says);
        let said = || usual.iter().zip(&weights[WAYS..]);
        let said = || said().filter_map(|(f, weight)| Some((f.as_ref()?, *weight)));
        let drawn = || by_way.iter().zip(weights).filter(|(w, _)| !w.is_empty());
        let mixed = match how {
            How::Values => None,
            How::Chances => {
                let drawn = drawn().flat_map(|(w, weight)| {
                    let part = weight / size(w.len());
                    w.iter().map(move |(value, _)| (f64::from(*value), part))
                });
                let said = said().flat_map(|(f, weight)| f.spread(weight));
                Some(Mixed::new(drawn.chain(said)))
            }
        };
        let at = |level: f64| match &mixed {
            Some(mixed) => mixed.at(level),
            None => {
                let drawn = drawn().map(|(w, weight)| weight * middle(w, level));
                drawn.sum::<f64>() + said().map(|(f, weight)| weight * f.at(level)).sum::<f64>()
            }
        };
        let ways = size(by_way.iter().filter(|w| !w.is_empty()).count());
        for (turn, own) in by_way.iter().enumerate() {
            for (rank, (_, path)) in own.iter().enumerate() {
                let level = (size(rank) + (size(turn) + 0.5) / ways) / size(own.len());
                values[*path] = super::num::narrow(at(level));
            }
        }
    }

    /// Weights for a lead of `hours` of those that say something.
    pub(crate) fn at(&self, hours: usize, says: [bool; EXPERTS]) -> [f64; EXPERTS] {
        among(&self.weights[band(hours)], says)
    }

    /// Levels blended.
    pub(crate) fn levels(&self, hours: usize, said: &Said) -> [f32; KEPT] {
        let weights = self.at(hours, said.map(|s| s.is_some()));
        blended(&weights, said).map(super::num::narrow)
    }
}

/// The smallest value whose share of the sorted sample reaches `level`.
fn middle(sorted: &[(f32, usize)], level: f64) -> f64 {
    let place = super::num::index(level * size(sorted.len())).min(sorted.len() - 1);
    f64::from(sorted[place].0)
}

/// Weights of those that say something, adding to 1.
fn among(weights: &[f64; EXPERTS], says: [bool; EXPERTS]) -> [f64; EXPERTS] {
    let mut left = *weights;
    for (weight, says) in left.iter_mut().zip(says) {
        if !says {
            *weight = 0.0;
        }
    }
    let total: f64 = left.iter().sum();
    left.map(|w| w / total.max(f64::MIN_POSITIVE))
}

fn blended(weights: &[f64; EXPERTS], said: &Said) -> [f64; KEPT] {
    let mut levels = [0.0; KEPT];
    for (weight, said) in weights.iter().zip(said) {
        for (level, said) in levels.iter_mut().zip(said.iter().flatten()) {
            *level += weight * f64::from(*said);
        }
    }
    levels
}

fn weights(told: &[&Told], prior: [f64; EXPERTS]) -> [f64; EXPERTS] {
    let mut weights = prior;
    for _ in 0..STEPS {
        let (mut slope, mut loss) = ([0.0; EXPERTS], 0.0);
        for one in told {
            let recent = (-one.age / HALF_LIFE).exp2();
            let own = among(&weights, one.said.map(|s| s.is_some()));
            let levels = blended(&own, &one.said);
            // By how much the loss grows with each level.
            let mut slopes = [0.0; KEPT];
            for ((slope, level), value) in slopes.iter_mut().zip(LEVELS).zip(levels) {
                let above = one.outcome - value;
                *slope = if above > 0.0 { -level } else { 1.0 - level };
                loss += recent * (level * above).max((level - 1.0) * above) / size(KEPT);
            }
            for (sum, said) in slope.iter_mut().zip(&one.said) {
                for ((slope, said), value) in slopes.iter().zip(said.iter().flatten()).zip(levels) {
                    *sum += recent * slope * (f64::from(*said) - value) / size(KEPT);
                }
            }
        }
        if loss <= 0.0 {
            break;
        }
        for (weight, slope) in weights.iter_mut().zip(slope) {
            *weight *= (-PACE * slope / loss).exp();
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::super::num::narrow;
    use super::*;
    use proptest::prelude::*;

    /// Sixty hours over ten days: one way is right, one far off, one says nothing, and what is usual is a little off.
    fn told() -> Vec<Told> {
        let around = |middle: f32| [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0].map(|d| middle + d);
        (0..60_u8)
            .map(|i| {
                let outcome = 20.0 + f32::from(i % 5) - 2.0;
                Told {
                    lead: 6,
                    hour: 12,
                    off: false,
                    age: f64::from(i) / 6.0,
                    said: [
                        Some(around(20.0)),
                        Some(around(40.0)),
                        None,
                        Some(around(23.0)),
                        None,
                        None,
                        None,
                        None,
                    ],
                    outcome: f64::from(outcome),
                }
            })
            .collect()
    }

    #[test]
    fn who_was_right_gains_weight_and_who_says_nothing_has_none() {
        let told = told();
        let blend = Blend::learn(&told, false);
        let weights = blend.at(6, told[0].said.map(|s| s.is_some()));
        assert!(weights[0] > 0.6 && weights[1] < 0.2, "{weights:?}");
        assert!(weights[2].abs() < 1e-12 && weights[4].abs() < 1e-12);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // Nothing was heard of other leads: there the prior holds.
        let elsewhere = blend.at(30, [true; EXPERTS]);
        assert!(
            elsewhere
                .iter()
                .zip(prior(4, false))
                .all(|(a, b)| (a - b).abs() < 1e-9)
        );
    }

    #[test]
    fn mixed_chances_make_no_value_that_nobody_said() {
        let mut values: Vec<f32> = (0..60_u8).map(|path| f32::from(path % 3) * 4.0).collect();
        let before = values.clone();
        let none = [None; USUAL];
        Blend::default().apply(&mut values, (6, How::Chances), |path| path % 3, &none);
        // A third each says 0, 4 and 8: so does what is mixed, within each way.
        for way in 0..3 {
            let mut own: Vec<f32> = values.iter().skip(way).step_by(3).copied().collect();
            own.sort_by(f32::total_cmp);
            let thirds =
                [0.0, 4.0, 8.0].map(|v| own.iter().filter(|o| (**o - v).abs() < 1e-6).count());
            assert_eq!(thirds.iter().sum::<usize>(), 20);
            assert!(thirds.iter().all(|n| (6..=7).contains(n)), "{thirds:?}");
        }
        Blend::default().apply(&mut values, (6, How::Values), |path| path % 3, &none);
        assert!(before != values);
    }

    proptest! {
        #[test]
        fn blended_values_keep_their_order_within_a_way_and_lie_between_what_is_said(
            drawn in prop::collection::vec(0_u16..50, 2..60), ways in 1_usize..4, usual in 0.0_f64..50.0,
            how in prop::sample::select(vec![How::Values, How::Chances]),
        ) {
            let before: Vec<f32> = drawn.iter().map(|v| f32::from(*v)).collect();
            let mut after = before.clone();
            let one = [narrow(usual)];
            let always = Between { before: &one, after: &one, part: 0.0 };
            let says = [Some(always), None, None, None, None];
            Blend::default().apply(&mut after, (6, how), |path| path % ways, &says);
            for a in 0..before.len() {
                for b in (a % ways..before.len()).step_by(ways) {
                    prop_assert!(before[a] >= before[b] || after[a] <= after[b]);
                }
            }
            let low = before.iter().copied().fold(f32::INFINITY, f32::min);
            let high = before.iter().copied().fold(0.0, f32::max);
            let (low, high) = (f64::from(low).min(usual), f64::from(high).max(usual));
            prop_assert!(after.iter().all(|v| (low - 1e-3..=high + 1e-3).contains(&f64::from(*v))));
        }
    }
}
