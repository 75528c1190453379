//! Kinds of days: weekday, holiday, and the 14-day rhythm where the data show one; and how alike two kinds are.

use std::collections::BTreeSet;

use super::log::View;
use super::num::size;

/// Kinds: seven weekdays in two phases each, and days off.
pub(crate) const KINDS: usize = 15;
/// The kind of a day off.
pub(crate) const OFF: usize = 14;
/// Saturday and Sunday in their first phase.
const SATURDAY: usize = 10;
const SUNDAY: usize = 12;

/// Days of each phase, and Student's t above which a fortnight is believed rather than chance where there are as many: seven
/// weekdays are tried at every origin. Two days of each say little of their spread, so they must differ more.
const RHYTHM: [(usize, f64); 2] = [(4, 4.0), (2, 5.0)];
/// Effective number of days of a kind below which it may still be like its class: fewer do not tell how much its days differ among
/// themselves.
const FEW_DAYS: f64 = 2.5;
/// Days after which the first day, which may have begun before the data do, is left out.
const FIRST_COUNTS: i32 = 14;

/// How fast likeness falls with the distance of two kinds.
const SHARPNESS: f64 = 1.5;

/// A day of the past, complete.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    pub(crate) day: i32,
    pub(crate) kind: usize,
    /// Plugged in at the full local hours.
    pub(crate) profile: [f64; 24],
    /// Plug-ins.
    pub(crate) arrivals: f64,
}

/// The complete days before an origin with their kinds and likeness.
#[derive(Debug, Clone)]
pub(crate) struct Days {
    pub(crate) days: Vec<Day>,
    rhythm: [bool; 7],
    /// `KINDS × KINDS`, 0 to 1.
    likeness: Vec<f64>,
}

/// Furthest look back, days.
const FURTHEST: i32 = 400;

fn weekday(day: i32) -> usize {
    usize::try_from((day - 1).rem_euclid(7)).unwrap_or(0)
}

fn phase(day: i32) -> usize {
    usize::try_from((day - 1).div_euclid(7).rem_euclid(2)).unwrap_or(0)
}

impl Days {
    /// Days before local day `today`; days in `off` are days off.
    pub(crate) fn new(view: &View<'_>, today: i32, off: &BTreeSet<i32>, half_life: f64) -> Self {
        let mut days = days(view, today);
        let rhythm = rhythm(&days, off);
        for day in &mut days {
            day.kind = kind(day.day, off, rhythm);
        }
        let likeness = likeness(&days, today, half_life);
        Self {
            days,
            rhythm,
            likeness,
        }
    }

    /// Kind of any day.
    pub(crate) fn kind(&self, day: i32, off: &BTreeSet<i32>) -> usize {
        kind(day, off, self.rhythm)
    }

    /// Likeness of two kinds, 0 to 1.
    pub(crate) fn alike(&self, a: usize, b: usize) -> f64 {
        self.likeness[a * KINDS + b]
    }

    /// Weekdays (Monday first) with a 14-day rhythm.
    pub(crate) const fn rhythm(&self) -> [bool; 7] {
        self.rhythm
    }
}

fn kind(day: i32, off: &BTreeSet<i32>, rhythm: [bool; 7]) -> usize {
    if off.contains(&day) {
        return OFF;
    }
    let weekday = weekday(day);
    2 * weekday + usize::from(rhythm[weekday]) * phase(day)
}

fn days(view: &View<'_>, today: i32) -> Vec<Day> {
    let Some(first) = view.first_day() else {
        return Vec::new();
    };
    let whole = first + i32::from(today - first > FIRST_COUNTS);
    let past = whole.max(today - FURTHEST)..today;
    past.filter_map(|day| {
        let mut profile = [0.0; 24];
        for (hour, value) in (0_i64..).zip(&mut profile) {
            let at = view.log().instant(day, 3600 * hour);
            // A day with a hole in it says too little; before the first visit nobody was there, as far as is known.
            let count = view.count(at).or((at <= view.first_start()?).then_some(0));
            *value = f64::from(count?);
        }
        Some(Day {
            day,
            kind: 0,
            profile,
            arrivals: size(view.arrivals_of(day)),
        })
    })
    .collect()
}

/// Welch's t-test of alternate weeks, weekday by weekday, on plug-ins of ordinary days.
fn rhythm(days: &[Day], off: &BTreeSet<i32>) -> [bool; 7] {
    let mut found = [false; 7];
    for (w, found) in found.iter_mut().enumerate() {
        let of = |p: usize| -> Vec<f64> {
            days.iter()
                .rev()
                .filter(|d| weekday(d.day) == w && phase(d.day) == p && !off.contains(&d.day))
                .map(|d| d.arrivals)
                .take(13)
                .collect()
        };
        let (a, b) = (of(0), of(1));
        let least = RHYTHM
            .iter()
            .find(|(days, _)| a.len().min(b.len()) >= *days);
        *found = least.is_some_and(|(_, least)| differ(&a, &b).is_some_and(|t| t > *least));
    }
    found
}

/// |t| of the difference of two means; the variance of a count is at least its mean.
fn differ(a: &[f64], b: &[f64]) -> Option<f64> {
    let moments = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / size(x.len());
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / size(x.len() - 1);
        (mean, var.max(mean) / size(x.len()))
    };
    let ((ma, va), (mb, vb)) = (moments(a), moments(b));
    let error = (va + vb).sqrt();
    (error > 0.0).then(|| (ma - mb).abs() / error)
}

/// Likeness of kinds from the distance of their mean profiles in units of the spread within kinds, less what chance would give.
fn likeness(days: &[Day], today: i32, half_life: f64) -> Vec<f64> {
    let mut weight = [0.0; KINDS];
    let mut square = [0.0; KINDS];
    let mut mean = [[0.0; 24]; KINDS];
    let age = |d: &Day| (-f64::from(today - d.day) / (2.0 * half_life)).exp2();
    for day in days {
        let w = age(day);
        weight[day.kind] += w;
        square[day.kind] += w * w;
        for (mean, hour) in mean[day.kind].iter_mut().zip(&day.profile) {
            *mean += w * hour;
        }
    }
    for k in 0..KINDS {
        if weight[k] > 0.0 {
            mean[k].iter_mut().for_each(|m| *m /= weight[k]);
        }
    }
    let mut spread = [0.0; 24];
    let mut total = 0.0;
    for day in days {
        let w = age(day);
        total += w;
        for h in 0..24 {
            spread[h] += w * (day.profile[h] - mean[day.kind][h]).powi(2);
        }
    }
    // A mean of few days has fitted its own noise; at least a count's own chance is left.
    let level: f64 = mean.iter().flatten().sum::<f64>() / size(24 * KINDS);
    let spread: f64 =
        spread.iter().map(|s| s / f64::max(total, 1.0)).sum::<f64>() / 24.0 + 0.25 * level + 0.25;
    let effective = |k: usize| {
        if square[k] > 0.0 {
            weight[k] * weight[k] / square[k]
        } else {
            0.0
        }
    };
    let mut alike = vec![0.0; KINDS * KINDS];
    for a in 0..KINDS {
        for b in 0..KINDS {
            let (na, nb) = (effective(a), effective(b));
            alike[a * KINDS + b] = if a == b {
                1.0
            } else if na > 0.0 && nb > 0.0 {
                let far: f64 = (0..24).map(|h| (mean[a][h] - mean[b][h]).powi(2)).sum();
                let chance = 1.0 / na + 1.0 / nb;
                let measured = (-SHARPNESS * (far / 24.0 / spread - chance).max(0.0)).exp();
                if na.min(nb) < FEW_DAYS {
                    measured.max(unseen(a, b))
                } else {
                    measured
                }
            } else {
                unseen(a, b)
            };
        }
    }
    alike
}

/// Likeness where one kind was hardly ever seen: a day off is like a Sunday, a work day like the others, a new phase like its weekday.
fn unseen(a: usize, b: usize) -> f64 {
    let class = |k: usize| match k {
        OFF | SUNDAY | 13 => 2,
        SATURDAY | 11 => 1,
        _ => 0,
    };
    match (class(a), class(b)) {
        (x, y) if x == y => 1.0,
        (0, _) | (_, 0) => 0.02,
        _ => 0.5,
    }
}
