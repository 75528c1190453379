//! What the forecast is measured against, as the project's definitions say.

use std::collections::BTreeMap;

use super::super::log::Log;
use super::super::num::{floor, size};
use super::super::observed::Observed;
use super::LEADS;
use super::score::linear;
use crate::Quantity;

/// Weeks of the naive model and of the short climatology; the long one takes all.
pub(super) const WEEKS: [usize; 3] = [8, usize::MAX, 13];

/// Sorted samples of the naive model and the two climatologies for `target`, from what was observed until `until`: same weekday and
/// local clock.
pub(super) fn same_weekday(
    log: &Log,
    observed: &Observed,
    quantity: Quantity,
    (target, until): (i64, i64),
) -> [Vec<f64>; 3] {
    let (day, clock) = log.clock(target);
    let first = log.clock(observed.start()).0;
    let samples: Vec<f64> = (1..)
        .map(|week| day - 7 * week)
        .take_while(|d| *d >= first)
        .map(|d| log.instant(d, clock))
        .filter(|at| *at <= until)
        .filter_map(|at| observed.at(quantity, at))
        .collect();
    WEEKS.map(|weeks| {
        let mut some: Vec<f64> = samples.iter().copied().take(weeks).collect();
        some.sort_by(f64::total_cmp);
        some
    })
}

/// Value at the origin plus residuals by lead and local hour of the origin, learned before the test.
#[derive(Debug)]
pub(super) struct Persistence {
    residuals: BTreeMap<(i64, usize), Vec<f64>>,
}

impl Persistence {
    /// Learns from `origins`, all of which with their leads lie before the test at `before`.
    pub(super) fn learn(
        log: &Log,
        observed: &Observed,
        quantity: Quantity,
        origins: &[i64],
        before: i64,
    ) -> Self {
        let mut residuals: BTreeMap<(i64, usize), Vec<f64>> = BTreeMap::new();
        for origin in origins {
            let Some(now) = observed.at(quantity, *origin) else {
                continue;
            };
            let hour = log.clock(*origin).1 / 3600;
            for lead in 1..=LEADS {
                let target = origin + 3600 * i64::try_from(lead).unwrap_or(0);
                if target >= before {
                    break;
                }
                if let Some(then) = observed.at(quantity, target) {
                    residuals.entry((hour, lead)).or_default().push(then - now);
                }
            }
        }
        for values in residuals.values_mut() {
            values.sort_by(f64::total_cmp);
        }
        Self { residuals }
    }

    /// Value at a level, at least zero; `None` where nothing was learned.
    pub(super) fn quantile(&self, now: f64, hour: i64, lead: usize, level: f64) -> Option<f64> {
        let residuals = self.residuals.get(&(hour, lead))?;
        Some((now + linear(residuals, level)).max(0.0))
    }
}

/// Median stay by local hour of plug-in, of visits that ended before `before`; hours without any take the median of all.
pub(super) fn median_stays(log: &Log, before: i64) -> [f64; 24] {
    let ended = || log.visits().filter(move |v| v.end < before);
    let median = |mut hours: Vec<f64>| {
        hours.sort_by(f64::total_cmp);
        (!hours.is_empty()).then(|| linear(&hours, 0.5))
    };
    let all = median(ended().map(|v| v.hours()).collect()).unwrap_or(0.0);
    std::array::from_fn(|hour| {
        let of = ended().filter(|v| usize::try_from(v.clock / 3600) == Ok(hour));
        median(of.map(|v| v.hours()).collect()).unwrap_or(all)
    })
}

/// A number from 0 to 1 fixed by what it is for: the chance of a randomised transform (`SplitMix64` finaliser, Steele, Lea and Flood
/// 2014).
pub(super) fn chance(seed: u64, at: i64, place: usize) -> f64 {
    let mut z = seed
        .wrapping_add(at.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((place as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let bits = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0);
    (f64::from(bits) + 0.5) / (f64::from(u32::MAX) + 1.0)
}

/// Places of `count` things spread evenly over `of`.
pub(super) fn spread(count: usize, of: usize) -> impl Iterator<Item = usize> {
    (0..count.min(of)).map(move |i| {
        usize::try_from(floor(size(of) * (size(i) + 0.5) / size(count.min(of)))).unwrap_or(0)
    })
}
