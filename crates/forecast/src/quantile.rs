//! Quantiles of samples.

/// Values at `levels` (each 0 to 1) of `samples`, linear between order statistics (Hyndman and Fan 1996, definition 7);
/// `None` without a finite sample. Order of the samples does not matter.
#[must_use]
pub fn quantiles(samples: &[f64], levels: &[f64]) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|s| s.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(
        levels
            .iter()
            .map(|level| at(&sorted, last, *level))
            .collect(),
    )
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a level from 0 to 1 of a sample count far below 2^52 is a small index"
)]
fn at(sorted: &[f64], last: usize, level: f64) -> f64 {
    let place = level.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_linear_between_the_order_statistics() {
        let q = quantiles(&[4.0, 1.0, 3.0, 2.0], &[0.0, 0.5, 1.0]).unwrap();
        assert_eq!(q, vec![1.0, 2.5, 4.0]);
        assert_eq!(quantiles(&[7.0], &[0.05, 0.95]).unwrap(), vec![7.0, 7.0]);
        assert_eq!(quantiles(&[f64::NAN], &[0.5]), None);
    }
}
