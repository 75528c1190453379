//! Whole past days that a day ahead may resemble.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::kind::{Days, OFF};
use super::log::View;
use super::num::size;

/// Age at which a past day counts half, days.
pub(crate) const HALF_LIFE: f64 = 24.0;
/// Width of the kernel over today so far, in standard deviations of like days.
const TODAY_WIDTH: f64 = 0.6;
/// Days that a draw for the rest of today must effectively come from.
const FEWEST_DAYS: f64 = 12.0;

/// A past day that may be repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Donor {
    pub(crate) day: i32,
    pub(crate) weight: f64,
    /// Factor that growth since then puts on its plug-ins.
    pub(crate) scale: f64,
}

/// Growth of plug-ins per day (logarithm), shrunk by its own error (James and Stein 1961).
pub(crate) fn growth(days: &Days, today: i32) -> f64 {
    const WINDOW: i32 = 70;
    const FASTEST: f64 = 0.02;
    let recent: Vec<_> = days
        .days
        .iter()
        .filter(|d| d.day >= today - WINDOW && d.kind < OFF)
        .collect();
    let (mut top, mut bottom, mut chi, mut free) = (0.0, 0.0, 0.0, 0.0);
    for kind in 0..OFF {
        let of: Vec<_> = recent.iter().filter(|d| d.kind == kind).collect();
        if of.len() < 3 {
            continue;
        }
        let n = size(of.len());
        let mean = of.iter().map(|d| d.arrivals).sum::<f64>() / n;
        let centre = of.iter().map(|d| f64::from(d.day - today)).sum::<f64>() / n;
        for d in &of {
            let x = f64::from(d.day - today) - centre;
            top += (d.arrivals - mean) * x;
            bottom += mean * x * x;
            chi += (d.arrivals - mean).powi(2) / mean.max(0.5);
        }
        free += n - 1.0;
    }
    if bottom <= 0.0 || free < 10.0 {
        return 0.0;
    }
    let slope = top / bottom;
    let variance = (chi / free).max(1.0) / bottom;
    let shrunk = slope * (1.0 - variance / (slope * slope)).max(0.0);
    shrunk.clamp(-FASTEST, FASTEST)
}

/// Past days for `day`, each with its weight and the factor that growth puts on its plug-ins; after `half_life` days one counts half.
pub(crate) fn donors(
    days: &Days,
    kind: usize,
    (today, day): (i32, i32),
    growth: f64,
    half_life: f64,
) -> Vec<Donor> {
    let mut donors: Vec<Donor> = days
        .days
        .iter()
        .map(|d| Donor {
            day: d.day,
            weight: (-f64::from(today - d.day) / half_life).exp2() * days.alike(kind, d.kind),
            scale: (growth * f64::from(day - d.day)).exp().clamp(0.5, 2.5),
        })
        .collect();
    likely(&mut donors);
    donors
}

/// Weighs past days for the rest of today by the likeness of today so far, unless the log is down.
pub(crate) fn like_so_far(view: &View<'_>, donors: &mut Vec<Donor>, (today, clock): (i32, i64)) {
    if view.in_hole(view.until) {
        return;
    }
    let seen = today_so_far(view, today, clock);
    let past: Vec<[f64; 2]> = donors
        .iter()
        .map(|d| today_so_far(view, d.day, clock).map(|x| x * d.scale))
        .collect();
    alike_today(donors, &past, seen);
    likely(donors);
}

/// Makes weights relative to the largest, and leaves out what is too light to be drawn. How old the newest day is, and how unlike all
/// days are, does not matter.
fn likely(donors: &mut Vec<Donor>) {
    let most = donors.iter().map(|d| d.weight).fold(0.0, f64::max);
    donors.retain_mut(|d| {
        d.weight /= most;
        d.weight > 1e-9
    });
}

/// Plug-ins until `clock` and vehicles plugged in at the full hour before it.
fn today_so_far(view: &View<'_>, day: i32, clock: i64) -> [f64; 2] {
    let arrivals = view.arrived(day, clock);
    let count = view
        .count(view.log().instant(day, clock / 3600 * 3600))
        .unwrap_or(0);
    [size(arrivals), f64::from(count)]
}

/// Weighs by the likeness of today so far: the kernel widens until enough days are left.
fn alike_today(donors: &mut [Donor], past: &[[f64; 2]], seen: [f64; 2]) {
    let base: Vec<f64> = donors.iter().map(|d| d.weight).collect();
    let total: f64 = base.iter().sum();
    if total <= 0.0 {
        return;
    }
    let spread = [0, 1].map(|i| {
        let weighed = |f: &dyn Fn(f64) -> f64| {
            base.iter().zip(past).map(|(w, p)| w * f(p[i])).sum::<f64>() / total
        };
        let mean = weighed(&|x| x);
        // Half a vehicle: the rounding of a count.
        weighed(&|x| (x - mean).powi(2)).sqrt() + 0.5
    });
    let fewest = FEWEST_DAYS.min(0.5 * effective(&base));
    let mut width = TODAY_WIDTH;
    let weights = loop {
        let far = |p: &[f64; 2]| -> f64 {
            let parts = (0..2).map(|i| ((p[i] - seen[i]) / (width * spread[i])).powi(2));
            0.5 * parts.sum::<f64>()
        };
        // Relative to the likest day, or all would vanish on a day like none before.
        let nearest = past.iter().map(far).fold(f64::INFINITY, f64::min);
        let kernel = |p: &[f64; 2]| (nearest - far(p)).exp();
        let weights: Vec<f64> = base.iter().zip(past).map(|(w, p)| w * kernel(p)).collect();
        if effective(&weights) >= fewest || width > 50.0 {
            break weights;
        }
        width *= 1.3;
    };
    for (donor, weight) in donors.iter_mut().zip(weights) {
        donor.weight = weight;
    }
}

/// Effective number of samples (Kish 1965).
fn effective(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    if squares > 0.0 {
        sum * sum / squares
    } else {
        0.0
    }
}

/// A donor day for every path: systematic, so that each day comes as often as its weight says, in random order. None without
/// any day to draw.
pub(crate) fn draw(donors: &[Donor], paths: usize, rng: &mut ChaCha8Rng) -> Vec<Donor> {
    let total: f64 = donors.iter().map(|d| d.weight).sum();
    let Some(first) = donors.first().filter(|_| total > 0.0) else {
        return Vec::new();
    };
    let offset: f64 = rng.random();
    let mut drawn = Vec::with_capacity(paths);
    let (mut place, mut sum) = (0, first.weight);
    for path in 0..paths {
        let level = (size(path) + offset) / size(paths) * total;
        while sum < level && place + 1 < donors.len() {
            place += 1;
            sum += donors[place].weight;
        }
        drawn.push(donors[place]);
    }
    for i in (1..drawn.len()).rev() {
        drawn.swap(i, rng.random_range(0..=i));
    }
    drawn
}
