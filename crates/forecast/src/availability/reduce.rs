//! A few paths that stand for many.

/// Chooses `count` of `paths` so that the others lie close to a chosen one, with the share of the paths that each stands for: fast
/// forward selection (Heitsch and Roemisch 2003). Distances are sums of absolute differences. Likeliest first.
pub(crate) fn reduce(paths: &[Vec<f64>], count: usize) -> Vec<(usize, f64)> {
    let distance = |a: usize, b: usize| -> f64 {
        let pairs = paths[a].iter().zip(&paths[b]);
        pairs.map(|(a, b)| (a - b).abs()).sum()
    };
    let mut nearest = vec![f64::INFINITY; paths.len()];
    let mut stands: Vec<usize> = vec![0; paths.len()];
    let mut chosen: Vec<usize> = Vec::new();
    while chosen.len() < count.min(paths.len()) {
        let left = |new: usize| -> f64 {
            let kept = (0..paths.len()).map(|p| nearest[p].min(distance(p, new)));
            kept.sum()
        };
        let waiting = (0..paths.len()).filter(|p| !chosen.contains(p));
        let costs = waiting.map(|p| (p, left(p)));
        let Some((new, _)) = costs.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))) else {
            break;
        };
        for path in 0..paths.len() {
            let far = distance(path, new);
            if far < nearest[path] || path == new {
                nearest[path] = far;
                stands[path] = chosen.len();
            }
        }
        chosen.push(new);
    }
    let total = super::num::size(paths.len().max(1));
    let mut weighed: Vec<(usize, f64)> = chosen
        .iter()
        .enumerate()
        .map(|(place, path)| {
            let alike = stands.iter().filter(|s| **s == place).count();
            (*path, super::num::size(alike) / total)
        })
        .collect();
    weighed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    weighed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_crowds_are_each_stood_for_by_one_of_them() {
        let paths: Vec<Vec<f64>> = (0..10)
            .map(|i| {
                vec![if i < 7 {
                    f64::from(i)
                } else {
                    100.0 + f64::from(i)
                }]
            })
            .collect();
        let chosen = reduce(&paths, 2);
        assert_eq!(chosen.len(), 2);
        assert!(
            chosen[0].0 < 7 && (chosen[0].1 - 0.7).abs() < 1e-12,
            "{chosen:?}"
        );
        assert!(
            chosen[1].0 >= 7 && (chosen[1].1 - 0.3).abs() < 1e-12,
            "{chosen:?}"
        );
    }

    proptest! {
        #[test]
        fn shares_add_to_one_and_no_path_is_chosen_twice(
            values in prop::collection::vec(0.0_f64..9.0, 1..30), count in 1_usize..12,
        ) {
            let paths: Vec<Vec<f64>> = values.iter().map(|v| vec![v.floor()]).collect();
            let chosen = reduce(&paths, count);
            prop_assert_eq!(chosen.len(), count.min(paths.len()));
            prop_assert!((chosen.iter().map(|c| c.1).sum::<f64>() - 1.0).abs() < 1e-9);
            let mut places: Vec<usize> = chosen.iter().map(|c| c.0).collect();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), chosen.len());
        }
    }
}
