//! A large pool from a seed, and what a measurement of it takes: shared by the benches.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use forecast::availability::Visit;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use units::{Energy, Interval, Power};

/// Zone of the pool.
pub(crate) const ZONE: Tz = Tz::Europe__Amsterdam;
/// 2024-06-12 (a Wednesday) 06:00 UTC.
pub(crate) const ORIGIN: i64 = 1_718_172_000;
/// Network areas.
pub(crate) const AREAS: u32 = 12;

/// A class of places.
struct Class {
    /// Share of the vehicles.
    share: f64,
    /// Plug-ins per day and vehicle, on working days and days off.
    chance: [f64; 2],
    /// Usual clock of plug-in and its spread, hours.
    clock: [f64; 2],
    /// Usual stay and its spread, hours.
    stay: [f64; 2],
    kwh: f64,
    kw: f64,
}

const fn class(
    share: f64,
    chance: [f64; 2],
    clock: [f64; 2],
    stay: [f64; 2],
    [kwh, kw]: [f64; 2],
) -> Class {
    Class {
        share,
        chance,
        clock,
        stay,
        kwh,
        kw,
    }
}

/// Home, work, public, depot.
const CLASSES: [Class; 4] = [
    class(0.70, [0.42, 0.45], [18.0, 2.5], [13.0, 3.0], [14.0, 7.4]),
    class(0.20, [0.60, 0.03], [8.5, 1.0], [8.5, 1.5], [12.0, 11.0]),
    class(0.08, [0.50, 0.60], [14.0, 4.0], [3.0, 1.5], [18.0, 22.0]),
    class(0.02, [0.95, 0.50], [20.0, 1.0], [9.5, 1.0], [180.0, 60.0]),
];

/// Visits up to a day past the origin, day by day; some days are busier than others.
pub(crate) fn visits(vehicles: f64, days: i64) -> impl Iterator<Item = Visit> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut rest: Vec<Visit> = Vec::new();
    let midnight = ORIGIN - 6 * 3600;
    let mut day = -days;
    std::iter::from_fn(move || {
        while rest.is_empty() && day <= 0 {
            rest = of_day(vehicles, midnight + 86_400 * day, &mut rng);
            day += 1;
        }
        rest.pop()
    })
}

fn of_day(vehicles: f64, midnight: i64, rng: &mut ChaCha8Rng) -> Vec<Visit> {
    let off = (midnight.div_euclid(86_400) + 3).rem_euclid(7) >= 5;
    let busy = 1.0 + 0.06 * normal(rng);
    let mut visits = Vec::new();
    for (number, class) in (0..).zip(&CLASSES) {
        let count = vehicles * class.share * class.chance[usize::from(off)] * busy;
        for _ in 0..count as i64 {
            let clock = class.clock[0] + class.clock[1] * normal(rng);
            let hours = (class.stay[0] + class.stay[1] * normal(rng)).max(0.2);
            let vehicle = rng.random_range(0..(vehicles * class.share) as u32);
            let kwh = class.kwh * (0.3 + 1.4 * rng.random::<f64>());
            let start = midnight + (clock * 3600.0) as i64;
            let who = (number, vehicle % AREAS, vehicle);
            visits.extend(visit(start, hours, kwh, class.kw, who));
        }
    }
    visits
}

fn visit(
    start: i64,
    hours: f64,
    kwh: f64,
    kw: f64,
    (class, area, vehicle): (u32, u32, u32),
) -> Option<Visit> {
    let begin: DateTime<Utc> = DateTime::from_timestamp(start, 0)?;
    let end = begin + TimeDelta::seconds((hours * 3600.0) as i64);
    Some(Visit {
        span: Interval::try_new(begin, end).ok()?,
        energy: Energy::from_kwh(kwh),
        charge: Power::from_kw(kw),
        rating: Some(Power::from_kw(kw)),
        discharge: Power::ZERO,
        outlet: None,
        user: Some(class * 10_000_000 + vehicle),
        group: AREAS * class + area,
        class,
        metered: None,
        slack: None,
        said: None,
    })
}

/// Twelve uniform numbers make a normal one, near enough for traffic.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// Wall and processor seconds since an instant, and the most memory used so far.
pub(crate) struct Began(Instant, f64);

impl Began {
    pub(crate) fn now() -> Self {
        Self(Instant::now(), processor_seconds())
    }
}

impl std::fmt::Display for Began {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (wall, cpu) = (self.0.elapsed().as_secs_f64(), processor_seconds() - self.1);
        write!(
            f,
            "{wall:.2} s, processor {cpu:.2} s, most memory {:.2} GiB",
            most_gib()
        )
    }
}

fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn most_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0 / 1024.0
}
