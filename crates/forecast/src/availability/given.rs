//! Power where few vehicles are: what so many vehicles had on the paths drawn.
//!
//! The power of a handful of vehicles takes few values: nothing, that of one vehicle, of one that charges, of two. A value between them,
//! which blends and widths make, is never what comes; nor is one beside that of so many vehicles, where nearly nobody comes or goes. So
//! where few are there, or nearly the same number on all paths, a path has the power that paths drawn with as many vehicles had.

use std::collections::BTreeMap;

use super::calibrate::at;
use super::joint::Paths;
use super::num::{index, narrow, size};
use crate::Quantity;

/// Vehicles on the mean below which few are there.
pub(crate) const FEW: f64 = 3.0;
/// Vehicles between the twentieth and the last twentieth of the paths, up to which their number takes few values.
const NARROW: f32 = 2.0;

/// Whether few vehicles are there on the mean of the paths, by what each path has.
pub(crate) fn few(counts: &[f32]) -> bool {
    let sum: f64 = counts.iter().map(|c| f64::from(*c)).sum();
    sum < FEW * size(counts.len())
}

/// Whether the paths have nearly the same number of vehicles.
fn nearly_same(counts: &[f32]) -> bool {
    let mut sorted = counts.to_vec();
    sorted.sort_by(f32::total_cmp);
    at(&sorted, 0.95) - at(&sorted, 0.05) <= NARROW
}

/// Takes the power `quantity` at steps with few vehicles, or nearly as many on all paths, from the paths `drawn`, given the vehicles that `paths` have; the order among
/// paths with as many vehicles is that of what was drawn.
pub(crate) fn follow(paths: &mut Paths, drawn: &Paths, quantity: Quantity) {
    let steps = paths.steps();
    for step in 0..steps {
        let counts: Vec<f32> = paths.column(Quantity::PluggedIn, step).collect();
        if !few(&counts) && !nearly_same(&counts) {
            continue;
        }
        let power: Vec<f32> = drawn.column(quantity, step).collect();
        let mut had: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        for (count, power) in drawn.column(Quantity::PluggedIn, step).zip(&power) {
            had.entry(vehicles(count)).or_default().push(*power);
        }
        had.values_mut().for_each(|v| v.sort_by(f32::total_cmp));
        let mut now: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (path, count) in counts.iter().enumerate() {
            now.entry(vehicles(*count)).or_default().push(path);
        }
        for (count, mut of) in now {
            of.sort_by(|a, b| power[*a].total_cmp(&power[*b]).then(a.cmp(b)));
            let Some((other, had)) = nearest(&had, count) else {
                continue;
            };
            let scale = narrow(size(count) / size(other.max(1)));
            for (rank, path) in of.iter().enumerate() {
                let place = (2 * rank + 1) * had.len() / (2 * of.len());
                paths.of_mut(quantity)[path * steps + step] = scale * had[place];
            }
        }
    }
}

fn vehicles(count: f32) -> usize {
    index(f64::from(count.round()))
}

/// What paths with `count` vehicles had, or those with the nearest number of vehicles; nothing where no path had any vehicle.
fn nearest(had: &BTreeMap<usize, Vec<f32>>, count: usize) -> Option<(usize, &Vec<f32>)> {
    let some = had.iter().filter(|(c, _)| **c > 0 || count == 0);
    some.min_by_key(|(c, _)| c.abs_diff(count))
        .map(|(c, v)| (*c, v))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Paths of one step: vehicles and power up of each.
    fn paths(of: &[(u8, f32)]) -> Paths {
        let mut paths = Paths::new(of.len(), 1);
        let fill = |values: &mut [f32], of: &mut dyn Iterator<Item = f32>| {
            values.iter_mut().zip(of).for_each(|(v, new)| *v = new);
        };
        let counts = &mut of.iter().map(|p| f32::from(p.0));
        fill(paths.of_mut(Quantity::PluggedIn), counts);
        fill(paths.of_mut(Quantity::PowerUp), &mut of.iter().map(|p| p.1));
        paths
    }

    #[test]
    fn a_vehicle_more_brings_the_power_of_paths_with_as_many() {
        let drawn = paths(&[(0, 0.0), (1, 11.0), (1, 17.0), (2, 28.0)]);
        // One path has a vehicle that was not drawn, one has lost one of two; values between were blended.
        let mut now = paths(&[(1, 5.0), (1, 9.0), (1, 14.0), (1, 20.0)]);
        follow(&mut now, &drawn, Quantity::PowerUp);
        assert_eq!(now.of(Quantity::PowerUp), [11.0, 11.0, 17.0, 17.0]);
    }

    #[test]
    fn as_many_as_were_never_drawn_have_the_power_of_the_nearest_in_proportion() {
        let drawn = paths(&[(0, 0.0), (1, 11.0)]);
        let mut now = paths(&[(0, 0.0), (3, 5.0)]);
        follow(&mut now, &drawn, Quantity::PowerUp);
        assert_eq!(now.of(Quantity::PowerUp), [0.0, 33.0]);
    }

    #[test]
    fn where_many_are_there_nothing_is_touched() {
        let drawn = paths(&[(5, 55.0), (6, 66.0)]);
        let mut now = paths(&[(5, 56.0), (9, 90.0)]);
        let before = now.clone();
        follow(&mut now, &drawn, Quantity::PowerUp);
        assert_eq!(now, before);
    }

    #[test]
    fn as_many_on_all_paths_have_no_power_between_two_of_what_so_many_had() {
        let drawn = paths(&[(7, 77.0), (7, 77.0), (8, 88.0)]);
        let mut now = paths(&[(7, 76.4), (7, 77.3), (8, 87.1)]);
        follow(&mut now, &drawn, Quantity::PowerUp);
        assert_eq!(now, drawn);
    }

    proptest! {
        #[test]
        fn power_is_what_so_many_had_and_more_was_drawn_more_is_had(
            of in prop::collection::vec((0_u8..4, 0_u8..4, 0.0_f32..20.0), 1..40),
        ) {
            let drawn: Vec<_> = of.iter().map(|(c, _, p)| (*c, if *c > 0 { 11.0 * f32::from(*c) + p } else { 0.0 })).collect();
            let now: Vec<_> = of.iter().map(|(_, c, _)| (*c, -1.0)).collect();
            let (drawn, mut now) = (paths(&drawn), paths(&now));
            let mean = of.iter().map(|o| f64::from(o.1)).sum::<f64>() / size(of.len());
            prop_assume!(mean < FEW && of.iter().any(|o| o.0 > 0));
            follow(&mut now, &drawn, Quantity::PowerUp);
            let (was, power) = (drawn.of(Quantity::PowerUp), now.of(Quantity::PowerUp));
            for (a, one) in of.iter().enumerate() {
                let had = || (0..of.len()).filter(|p| of[*p].0 == one.1).map(|p| was[p]);
                prop_assert!(had().next().is_none() || had().any(|p| (p - power[a]).abs() < 1e-6));
                prop_assert!(one.1 > 0 || power[a] == 0.0);
                for b in 0..of.len() {
                    prop_assert!(one.1 != of[b].1 || was[a] >= was[b] || power[a] <= power[b]);
                }
            }
        }
    }
}
