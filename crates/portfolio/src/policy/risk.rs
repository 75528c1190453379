//! The mean-risk objective: the mean of what may come, with more weight on its dear tail.

use crate::case::Risk;

/// Probabilities under which the mean of `costs` is `(1 - beta)` times their mean plus `beta` times the mean of the
/// dearest `1 - alpha` (`optimisation.md` 6.2; Rockafellar and Uryasev 2000): the dual form of the conditional value
/// at risk. `odds` are the probabilities of `costs`, adding to 1.
pub(crate) fn weighed(risk: Risk, costs: &[f64], odds: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..costs.len().min(odds.len())).collect();
    order.sort_by(|a, b| costs[*b].total_cmp(&costs[*a]));
    let size = (1.0 - risk.cvar_alpha).max(1e-9);
    let (mut left, mut weighed) = (size, odds.to_vec());
    for k in order {
        let tail = odds[k].min(left);
        left -= tail;
        weighed[k] = (1.0 - risk.beta) * odds[k] + risk.beta * tail / size;
    }
    weighed
}

/// The mean-risk of `costs`, currency.
pub(crate) fn judged(risk: Risk, costs: &[f64], odds: &[f64]) -> f64 {
    let weighed = weighed(risk, costs, odds);
    costs.iter().zip(weighed).map(|(c, w)| c * w).sum()
}

/// The value with at least half of the probability on either side; where one of two would do, their middle. Zero
/// without any.
pub(crate) fn median(values: impl Iterator<Item = f64>, odds: &[f64]) -> f64 {
    let mut sorted: Vec<(f64, f64)> = values.zip(odds.iter().copied()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = 0.5 * sorted.iter().map(|s| s.1).sum::<f64>();
    let mut below = 0.0;
    for (k, (value, odds)) in sorted.iter().enumerate() {
        below += odds;
        if below > half + 1e-9 {
            return *value;
        }
        if below > half - 1e-9 {
            return sorted
                .get(k + 1)
                .map_or(*value, |next| f64::midpoint(*value, next.0));
        }
    }
    sorted.last().map_or(0.0, |s| s.0)
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of costs are far below 2^53"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::outcome::dear_tail;

    fn risk(beta: f64, cvar_alpha: f64) -> Risk {
        Risk {
            beta,
            cvar_alpha,
            ..Risk::default()
        }
    }

    proptest! {
        #[test]
        fn the_mean_risk_is_the_mean_and_the_dear_tail_by_beta(
            costs in prop::collection::vec(-100.0_f64..100.0, 1..20), beta in 0.0_f64..1.0, alpha in 0.0_f64..0.99,
        ) {
            let odds = vec![1.0 / costs.len() as f64; costs.len()];
            let mean = costs.iter().sum::<f64>() / costs.len() as f64;
            let expected = (1.0 - beta) * mean + beta * dear_tail(costs.iter().copied(), alpha);
            prop_assert!((judged(risk(beta, alpha), &costs, &odds) - expected).abs() < 1e-6);
            let sum: f64 = weighed(risk(beta, alpha), &costs, &odds).iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }

        #[test]
        fn with_beta_the_mean_of_the_choice_gets_dearer_and_its_tail_cheaper(
            options in prop::collection::vec(prop::collection::vec(-50.0_f64..50.0, 8), 2..12),
        ) {
            let odds = [0.125; 8];
            let best = |beta: f64| {
                let judge = |o: &Vec<f64>| judged(risk(beta, 0.75), o, &odds);
                let chosen = options.iter().min_by(|a, b| judge(a).total_cmp(&judge(b))).unwrap();
                (chosen.iter().sum::<f64>() / 8.0, dear_tail(chosen.iter().copied(), 0.75))
            };
            let path: Vec<_> = [0.0, 0.25, 0.5, 0.75, 1.0].map(best).to_vec();
            for pair in path.windows(2) {
                prop_assert!(pair[1].0 >= pair[0].0 - 1e-9, "mean {} after {}", pair[1].0, pair[0].0);
                prop_assert!(pair[1].1 <= pair[0].1 + 1e-9, "tail {} after {}", pair[1].1, pair[0].1);
            }
        }

        #[test]
        fn no_position_costs_less_than_the_median(
            loads in prop::collection::vec(-20.0_f64..20.0, 1..12), other in -20.0_f64..20.0,
        ) {
            let odds = vec![1.0 / loads.len() as f64; loads.len()];
            let cost = |q: f64| loads.iter().map(|l| (l - q).abs()).sum::<f64>();
            prop_assert!(cost(median(loads.iter().copied(), &odds)) <= cost(other) + 1e-9);
        }
    }
}
