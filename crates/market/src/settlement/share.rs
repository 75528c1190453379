//! Sharing whole numbers so that nothing is lost: largest remainder, ties by order.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Decimals that amounts of a statement carry. Prices have two, energies are joules: eight keep a hundred-millionth of the currency.
pub(super) const DECIMALS: u32 = 8;

/// Splits `total` in proportion to `weights`, which may have signs as long as they do not add up to zero; then the split is even. The
/// parts add up to `total` exactly; each is within one of its exact share.
pub(super) fn split(total: i64, weights: &[i64]) -> Vec<i64> {
    if weights.is_empty() {
        return Vec::new();
    }
    let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
    if sum == 0 {
        return split(total, &vec![1; weights.len()]);
    }
    let sign = sum.signum();
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (i, weight) in weights.iter().enumerate() {
        let product = i128::from(total) * i128::from(*weight) * sign;
        parts.push(product.div_euclid(sum.abs()));
        remainders.push((product.rem_euclid(sum.abs()), i));
    }
    let left = i128::from(total) - parts.iter().sum::<i128>();
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = usize::try_from(left).unwrap_or(0);
    for (_, i) in remainders.into_iter().take(left) {
        parts[i] += 1;
    }
    parts
        .into_iter()
        .map(|p| i64::try_from(p).unwrap_or(0))
        .collect()
}

/// [`split`] for an amount with [`DECIMALS`] decimals.
pub(super) fn split_amount(total: Decimal, weights: &[i64]) -> Vec<Decimal> {
    let scale = Decimal::from(10_i64.pow(DECIMALS));
    let units = (total * scale).to_i64().unwrap_or(0);
    split(units, weights)
        .into_iter()
        .map(|part| (Decimal::from(part) / scale).normalize())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole_and_are_within_one_of_their_share(
            total in -1_000_000_000_000_i64..1_000_000_000_000,
            weights in prop::collection::vec(0_i64..1_000_000_000, 1..40),
        ) {
            let parts = split(total, &weights);
            prop_assert_eq!(parts.iter().sum::<i64>(), total);
            let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
            if sum > 0 {
                for (part, weight) in parts.iter().zip(&weights) {
                    let off = i128::from(*part) * sum - i128::from(total) * i128::from(*weight);
                    prop_assert!(off.abs() < sum);
                }
            }
        }

        #[test]
        fn signed_weights_add_up_too(
            total in -1_000_000_i64..1_000_000,
            weights in prop::collection::vec(-1_000_000_i64..1_000_000, 1..20),
        ) {
            prop_assert_eq!(split(total, &weights).iter().sum::<i64>(), total);
        }
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(split(10, &[1, 1, 1]), vec![4, 3, 3]);
        assert_eq!(split(-10, &[1, 1, 1]), vec![-3, -3, -4]);
        assert_eq!(split(5, &[0, 0]), vec![3, 2]);
        assert_eq!(split(5, &[]), Vec::<i64>::new());
    }
}
