//! Kinds of days: weekday, holiday, work days beside days off, and the 14-day rhythm where the data show one; and how alike two kinds are.

use std::collections::BTreeSet;

use super::log::View;
use super::num::size;

/// Kinds by the week alone: seven weekdays in two phases each, and days off.
const BASES: usize = 15;
/// All kinds: those by the week, and those of work days again for days beside days off.
pub(crate) const KINDS: usize = BASES + SATURDAY;
/// The kind of a day off. Kinds below it are of days as the week brings them.
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
/// What a day beside days off and one that is not count for each other, times how alike their weekdays are: people stay at home, leave
/// early, or go away, and the few days of this sort that a year has are too few to learn how much so.
const APART: f64 = 0.15;

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
    /// `BASES × BASES`, 0 to 1.
    likeness: Vec<f64>,
}

/// Furthest look back, days.
const FURTHEST: i32 = 400;

/// The kind by the week alone.
pub(crate) const fn by_week(kind: usize) -> usize {
    kind % BASES
}

/// Whether days of `kind` are work days beside days off.
const fn is_beside(kind: usize) -> bool {
    kind >= BASES
}

/// 1 for weekends and days off, 0 for work days, half for those beside days off.
pub(crate) fn without_work(kind: usize) -> f64 {
    match kind {
        k if is_beside(k) => 0.5,
        SATURDAY.. => 1.0,
        _ => 0.0,
    }
}

fn weekday(day: i32) -> usize {
    usize::try_from((day - 1).rem_euclid(7)).unwrap_or(0)
}

fn weekend(day: i32) -> bool {
    weekday(day) >= 5
}

/// The Sunday of the week of `day`.
pub(crate) const fn sunday(day: i32) -> i32 {
    monday(day) + 6
}

/// The Monday of the week of `day`.
pub(crate) const fn monday(day: i32) -> i32 {
    day - (day - 1).rem_euclid(7)
}

/// Whether `day` is no work day: a weekend or a day off.
pub(crate) fn rests(day: i32, off: &BTreeSet<i32>) -> bool {
    weekend(day) || off.contains(&day)
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
        let by_week = self.likeness[by_week(a) * BASES + by_week(b)];
        match (is_beside(a), is_beside(b)) {
            (false, false) => by_week,
            // What they have in common is more than that of two weekdays.
            (true, true) => by_week.sqrt(),
            _ if a == OFF || b == OFF => by_week,
            _ => APART * by_week,
        }
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
    let by_week = 2 * weekday + usize::from(rhythm[weekday]) * phase(day);
    by_week + BASES * usize::from(beside(day, off))
}

/// Whether `day` is a work day before a day off, weekends between them left out, or alone between a day off and the weekend.
pub(crate) fn beside(day: i32, off: &BTreeSet<i32>) -> bool {
    if rests(day, off) {
        return false;
    }
    let next = (day + 1..).find(|d| !weekend(*d));
    next.is_some_and(|next| off.contains(&next)) || weekend(day + 1) && off.contains(&(day - 1))
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

/// Likeness of kinds by the week from the distance of their mean profiles in units of the spread within kinds, less what chance would give.
fn likeness(days: &[Day], today: i32, half_life: f64) -> Vec<f64> {
    // Those beside days off say nothing of their weekday.
    let usual = || days.iter().filter(|d| !is_beside(d.kind));
    let mut weight = [0.0; BASES];
    let mut square = [0.0; BASES];
    let mut mean = [[0.0; 24]; BASES];
    let age = |d: &Day| (-f64::from(today - d.day) / (2.0 * half_life)).exp2();
    for day in usual() {
        let w = age(day);
        weight[day.kind] += w;
        square[day.kind] += w * w;
        for (mean, hour) in mean[day.kind].iter_mut().zip(&day.profile) {
            *mean += w * hour;
        }
    }
    for k in 0..BASES {
        if weight[k] > 0.0 {
            mean[k].iter_mut().for_each(|m| *m /= weight[k]);
        }
    }
    let mut spread = [0.0; 24];
    let mut total = 0.0;
    for day in usual() {
        let w = age(day);
        total += w;
        for h in 0..24 {
            spread[h] += w * (day.profile[h] - mean[day.kind][h]).powi(2);
        }
    }
    // A mean of few days has fitted its own noise; at least a count's own chance is left.
    let level: f64 = mean.iter().flatten().sum::<f64>() / size(24 * BASES);
    let spread: f64 =
        spread.iter().map(|s| s / f64::max(total, 1.0)).sum::<f64>() / 24.0 + 0.25 * level + 0.25;
    let effective = |k: usize| {
        if square[k] > 0.0 {
            weight[k] * weight[k] / square[k]
        } else {
            0.0
        }
    };
    let mut alike = vec![0.0; BASES * BASES];
    for a in 0..BASES {
        for b in 0..BASES {
            let (na, nb) = (effective(a), effective(b));
            alike[a * BASES + b] = if a == b {
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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::super::donor::{HALF_LIFE, donors};
    use super::super::log::Log;
    use super::super::visit::Visit;
    use super::*;

    fn day(date: &str) -> i32 {
        let date: NaiveDate = date.parse().unwrap();
        date.num_days_from_ce()
    }

    fn off(dates: &[&str]) -> BTreeSet<i32> {
        dates.iter().map(|d| day(d)).collect()
    }

    #[test]
    fn work_days_before_days_off_and_alone_between_them_are_beside_days_off() {
        // Thanksgiving on a Thursday, Labor Day on a Monday, Christmas on a Wednesday and a Thursday.
        let off = off(&[
            "2019-09-02",
            "2019-11-28",
            "2019-11-29",
            "2019-12-25",
            "2019-12-26",
        ]);
        let beside = |date| beside(day(date), &off);
        assert!(
            ["2019-08-30", "2019-11-27", "2019-12-24", "2019-12-27"]
                .into_iter()
                .all(beside)
        );
        // Days off, weekends, and work days that others work, too.
        assert!(
            ![
                "2019-09-01",
                "2019-09-02",
                "2019-09-03",
                "2019-11-26",
                "2019-11-28",
                "2019-11-30",
                "2019-12-02",
                "2019-12-23"
            ]
            .into_iter()
            .any(beside)
        );
    }

    /// Ten cars on work days, one on others and on the day before each day off.
    fn office(first: DateTime<Utc>, days: i64, off: &BTreeSet<i32>) -> Log {
        let visits = (0..days).flat_map(|d| {
            let morning = first + TimeDelta::days(d) + TimeDelta::hours(8);
            let date = morning.date_naive().num_days_from_ce();
            // Were nobody there, the log might be down.
            let quiet = rests(date, off) || beside(date, off);
            let cars = if quiet { 1 } else { 10 };
            (0..cars).map(move |_| Visit::made(morning, TimeDelta::hours(8), 5.0))
        });
        Log::new(Tz::UTC, visits.collect::<Vec<_>>())
    }

    #[test]
    fn a_quiet_day_before_a_holiday_says_little_of_the_next_weeks_and_much_of_the_next_holiday() {
        let off = off(&["2019-11-28", "2019-11-29", "2019-12-25"]);
        let log = office("2019-09-02T00:00:00Z".parse().unwrap(), 98, &off);
        let (today, quiet) = (day("2019-12-09"), day("2019-11-27"));
        let days = Days::new(&log.view(log.instant(today, 0)), today, &off, HALF_LIFE);
        let share = |date: &str| {
            let ahead = day(date);
            let donors = donors(
                &days,
                days.kind(ahead, &off),
                (today, ahead),
                0.0,
                HALF_LIFE,
            );
            let of = |some: &dyn Fn(i32) -> bool| -> f64 {
                donors
                    .iter()
                    .filter(|d| some(d.day))
                    .map(|d| d.weight)
                    .sum()
            };
            of(&|d| d == quiet) / of(&|_| true)
        };
        let [usual, eve] = ["2019-12-11", "2019-12-24"].map(share);
        assert!(usual < 0.01, "{usual}");
        assert!((0.15..0.6).contains(&eve), "{eve}");
    }
}
