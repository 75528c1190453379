//! Plug-ins one by one: each at about the clock of a past visit, as often as days like the past one come.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::donor::Donor;
use super::log::View;
use super::num::size;
use super::visit::Arrival;

/// Largest spread (standard deviation of the logarithm) of the plug-ins that days alike have in common.
const WIDEST: f64 = 0.5;

/// Plug-ins that are expected on a day ahead.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    visits: Vec<Arrival>,
    /// Plug-ins expected of the visits up to each.
    upto: Vec<f64>,
    /// Variance of the logarithm of what a day brings, beyond chance.
    spread: f64,
}

impl Rates {
    /// Visits of `donors` from clock `from` on; `donors` weigh whole days.
    pub(crate) fn new(view: &View<'_>, donors: &[Donor], from: i64) -> Self {
        let total: f64 = donors.iter().map(|d| d.weight).sum();
        let mut rates = Self {
            spread: spread(view, donors, total),
            ..Self::default()
        };
        let mut sum = 0.0;
        for donor in donors {
            let each = donor.weight / total * donor.scale;
            let later = view.arrivals(donor.day).filter(|a| a.clock >= from);
            for arrival in later {
                sum += each;
                rates.visits.push(arrival);
                rates.upto.push(sum);
            }
        }
        rates
    }

    /// Visits that happen to come: a Poisson process along the visits, at a pace drawn for the day.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<&Arrival> {
        let normal: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let pace = (self.spread.sqrt() * normal - 0.5 * self.spread).exp();
        let mut drawn = Vec::new();
        let mut at = 0.0;
        loop {
            // From zero to less than one: its complement has a logarithm.
            at -= (1.0 - rng.random::<f64>()).ln() / pace;
            let place = self.upto.partition_point(|u| *u <= at);
            match self.visits.get(place) {
                Some(visit) => drawn.push(visit),
                None => return drawn,
            }
        }
    }
}

/// By how much days alike differ, beyond the chance of a Poisson count.
fn spread(view: &View<'_>, donors: &[Donor], total: f64) -> f64 {
    let of = |d: &Donor| d.scale * size(view.arrivals_of(d.day));
    let mean = donors.iter().map(|d| d.weight * of(d)).sum::<f64>() / total;
    let squares = donors.iter().map(|d| d.weight * (of(d) - mean).powi(2));
    let beyond = squares.sum::<f64>() / total - mean;
    if beyond > 0.0 && mean > 0.0 {
        (beyond / (mean * mean)).ln_1p().min(WIDEST * WIDEST)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Two visits a second, `each` expected of each.
    fn rates(each: f64, spread: f64) -> Rates {
        let visit = |clock: i64| Arrival {
            start: 0,
            clock,
            group: 0,
            discharge: 11.0,
            source: 0,
            rest: None,
        };
        Rates {
            visits: (0..100).map(visit).collect(),
            upto: (1..=100).map(|i| each * size(i)).collect(),
            spread,
        }
    }

    /// Mean and variance of the number drawn.
    fn moments(rates: &Rates) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let counts: Vec<f64> = (0..4000)
            .map(|_| size(rates.draw(&mut rng).len()))
            .collect();
        let mean = counts.iter().sum::<f64>() / size(counts.len());
        let squares = counts.iter().map(|c| (c - mean).powi(2));
        (mean, squares.sum::<f64>() / size(counts.len()))
    }

    #[test]
    fn as_many_come_as_expected_with_the_spread_of_a_count_and_of_days() {
        let (mean, variance) = moments(&rates(0.3, 0.0));
        assert!((29.5..30.5).contains(&mean), "{mean}");
        assert!((27.0..33.0).contains(&variance), "{variance}");
        // Days that differ by a fifth: 30 + (0.2 x 30)^2 = 66.
        let (mean, variance) = moments(&rates(0.3, 0.04));
        assert!((29.0..31.0).contains(&mean), "{mean}");
        assert!((58.0..75.0).contains(&variance), "{variance}");
    }

    #[test]
    fn without_past_visits_nobody_comes() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        assert!(Rates::default().draw(&mut rng).is_empty());
    }
}
