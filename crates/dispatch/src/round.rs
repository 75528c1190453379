//! From real shares to whole watts: largest remainder, ties by order.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "watts of a pool are far below 2^53"
)]

/// Whole numbers within `low..=high` that add up to `total` and are within one of `values`, as far as the limits allow. `values` lie within the limits,
/// which are whole, and add up to `total` within one per entry. Largest fractions are rounded up first, ties by position.
pub(crate) fn round(total: i64, values: &[f64], low: &[f64], high: &[f64]) -> Vec<i64> {
    let mut parts: Vec<i64> = values
        .iter()
        .zip(low.iter().zip(high))
        .map(|(v, (l, h))| v.clamp(*l, *h).floor() as i64)
        .collect();
    let mut left = total - parts.iter().sum::<i64>();
    // One round is enough when the values add up; more only mend what floating point lost.
    for _ in 0..4 {
        if left == 0 {
            break;
        }
        left = nudge(left, &mut parts, values, low, high);
    }
    parts
}

/// Moves up to `left.abs()` entries by one towards `left`; says what is still left.
fn nudge(left: i64, parts: &mut [i64], values: &[f64], low: &[f64], high: &[f64]) -> i64 {
    let step = left.signum();
    let room = |i: usize| {
        let next = (parts[i] + step) as f64;
        low[i] <= next && next <= high[i]
    };
    let mut order: Vec<(f64, usize)> = (0..parts.len())
        .filter(|i| room(*i))
        .map(|i| (step as f64 * (values[i] - parts[i] as f64), i))
        .collect();
    let count = usize::try_from(left.abs())
        .unwrap_or(usize::MAX)
        .min(order.len());
    if count == 0 {
        return left;
    }
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    }
    for (_, i) in &order[..count] {
        parts[*i] += step;
    }
    left - step * count as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_fractions_are_rounded_up_and_ties_go_to_the_first() {
        let (low, high) = ([-10.0; 3], [10.0; 3]);
        assert_eq!(round(6, &[1.2, 2.5, 2.3], &low, &high), vec![1, 3, 2]);
        assert_eq!(round(4, &[1.5, 1.5, 1.0], &low, &high), vec![2, 1, 1]);
        assert_eq!(
            round(-4, &[-1.5, -1.5, -1.0], &low, &high),
            vec![-1, -2, -1]
        );
    }

    #[test]
    fn limits_hold() {
        assert_eq!(round(3, &[1.0, 1.9], &[0.0, 0.0], &[1.0, 5.0]), vec![1, 2]);
        assert_eq!(round(9, &[1.0, 1.0], &[0.0, 0.0], &[1.0, 1.0]), vec![1, 1]);
    }
}
