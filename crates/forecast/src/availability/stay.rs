//! How long a vehicle that is plugged in stays, and what it needs: past visits like it that lasted longer.

use std::collections::BTreeMap;

use super::kind::Days;
use super::leaving::{Leaving, Signs};
use super::log::View;
use super::num::{floor, real, size};
use super::visit::{Present, Seen};

/// Age at which a past visit counts half, days.
const HALF_LIFE: f64 = 60.0;
/// Width of the kernel over the clock of arrival, hours.
const CLOCK_HOURS: f64 = 1.0;
/// Width of the kernel over the stay the driver stated, hours.
const SAID_HOURS: f64 = 0.75;
/// Width of the kernel over the logarithm of the energy asked for.
const SAID_ENERGY: f64 = 0.35;
/// A user's own visit counts this many times.
const OWN: f64 = 40.0;
/// Drivers repeat themselves: a visit with the very energy asked for counts this many times, and again as many times if the
/// stated stay is the same to the minute.
const SAME_WISH: f64 = 4.0;
/// Drivers have their places: a visit at the same outlet counts this many times.
const SAME_OUTLET: f64 = 4.0;
/// Who comes later stays shorter by this share of the difference, and who stated more stays longer by that of theirs; both
/// differences count up to [`APART`] seconds.
const LATER: f64 = 0.6;
const STATED_MORE: f64 = 0.3;
const APART: i64 = 7200;
/// What a kernel leaves of a visit that is not alike at all, so that the tail keeps its weight.
const FLOOR: f64 = 0.003;
/// A visit in the same group counts this many times: drivers of one place are alike.
const SAME_GROUP: f64 = 4.0;
/// Visits of a class looked at: the newest, or where those are of the last few days only, as many spread over [`SPREAD`] days.
const MOST: usize = 3000;
const FEW_DAYS: i64 = 28;
const SPREAD: i64 = 56;
/// Odds for or against past visits that lasted longer than is usual for one like this, at most.
const ODDS: f64 = 5.0;
/// Where no past visit lasted as long: so much longer.
const BEYOND_HOURS: f64 = 4.0;

/// A past visit to compare with, the weight of its age, and the kind of its day.
type Past = (Seen, f64, usize);

/// Past visits to compare with, by class.
#[derive(Debug)]
pub(crate) struct Stays<'a> {
    classes: BTreeMap<u32, Vec<Past>>,
    view: View<'a>,
    kinds: &'a Days,
    /// Says how long a stay usually is; `None` where that was not learned.
    leaving: Option<&'a Leaving>,
}

/// A past visit beside one that lasts: how long it was, carried over, and how alike the two are.
pub(super) struct Alike<'p> {
    pub(super) past: &'p Seen,
    pub(super) kind: usize,
    /// Weight of its age.
    pub(super) recent: f64,
    /// Seconds.
    pub(super) length: i64,
    pub(super) weight: f64,
}

/// What may become of a visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rest {
    /// Seconds from plug-in to plug-out.
    pub(crate) length: i64,
    /// kWh over the whole visit.
    pub(crate) energy: f64,
    /// kW.
    pub(crate) charge: f64,
    /// kWh that the battery could take and give beside; `None` where its state was unknown.
    pub(crate) slack: Option<(f64, f64)>,
}

/// A weighted sample of what may become of one visit, shortest stay first.
#[derive(Debug, Clone)]
pub(crate) struct Rests {
    rests: Vec<Rest>,
    cumulative: Vec<f64>,
}

impl<'a> Stays<'a> {
    pub(crate) fn new(
        view: &View<'a>,
        kinds: &'a Days,
        off: &std::collections::BTreeSet<i32>,
        leaving: Option<&'a Leaving>,
    ) -> Self {
        let from = view.until - SPREAD * 86_400;
        let many = view.begun_since(from) > MOST;
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, class) in view.ended_places(if many { from } else { i64::MIN }) {
            classes.entry(class).or_default().push(place);
        }
        let until = view.until;
        let weighted = |v: Seen| {
            let age = real(until - v.start) / 86_400.0;
            (v, (-age / HALF_LIFE).exp2(), kinds.kind(v.day, off))
        };
        Self {
            classes: classes
                .into_iter()
                .map(|(class, past)| (class, some(view, &past).map(weighted).collect()))
                .collect(),
            view: *view,
            kinds,
            leaving,
        }
    }

    /// Past visits of a class; of all where it is new.
    fn past(&self, class: u32) -> impl Iterator<Item = &Past> {
        let own = self.classes.get(&class);
        let others = self.classes.values().filter(move |_| own.is_none());
        own.into_iter().chain(others).flatten()
    }

    /// Past visits beside `visit`, which arrived on a day of kind `kind`.
    fn alike(&self, visit: &Present, kind: usize) -> impl Iterator<Item = Alike<'_>> {
        let visit = *visit;
        let said = visit.said_end.map(|e| real(e - visit.start) / 3600.0);
        self.past(visit.class)
            .map(move |(past, recent, past_kind)| {
                let mut weight = recent * (FLOOR + self.kinds.alike(kind, *past_kind));
                weight *= FLOOR + clock_kernel(visit.clock, past.clock);
                weight *= said_kernel(said, past);
                weight *= wish_kernel(visit.said_energy, said, past);
                if visit.user.is_some() && visit.user == past.user {
                    weight *= OWN;
                }
                if visit.outlet.is_some() && visit.outlet == past.outlet {
                    weight *= SAME_OUTLET;
                }
                if visit.group == past.group {
                    weight *= SAME_GROUP;
                }
                Alike {
                    past,
                    kind: *past_kind,
                    recent: *recent,
                    length: carried_over(past, &visit),
                    weight,
                }
            })
    }

    /// Vehicles plugged in when `visit` had just plugged in, it among them.
    fn plugged(&self, visit: &Present) -> usize {
        self.view.log().view(visit.start).plugged()
    }

    /// What past visits say of the length of `visit`; `None` where too few are known.
    pub(super) fn signs(&self, visit: &Present, kind: usize) -> Option<Signs> {
        let all: Vec<_> = self.alike(visit, kind).collect();
        Signs::of(visit, kind, self.plugged(visit), &all)
    }

    /// What may become of `visit`, which arrived on a day of kind `kind` and has lasted until now.
    pub(crate) fn of(&self, visit: &Present, kind: usize) -> Rests {
        let so_far = self.view.until - visit.start;
        let all: Vec<_> = self.alike(visit, kind).collect();
        let usual = self.leaving.and_then(|leaving| {
            let signs = Signs::of(visit, kind, self.plugged(visit), &all)?;
            Some(leaving.usual(&signs))
        });
        let odds = usual.map_or(1.0, |usual| odds(&all, usual));
        let chance = |a: &Alike<'_>| {
            let longer = usual.is_some_and(|usual| a.length >= usual);
            a.weight * if longer { odds } else { 1.0 }
        };
        let longer = all.iter().filter(|a| a.length > so_far);
        let mut found: Vec<(Rest, f64)> = longer
            .map(|a| {
                let rest = Rest {
                    length: a.length,
                    energy: a.past.energy,
                    charge: visit.rating.unwrap_or(a.past.charge),
                    slack: visit.slack.or(a.past.slack),
                };
                (rest, chance(a))
            })
            .collect();
        if found.is_empty() {
            found = self.beyond(visit, so_far);
        }
        Rests::new(found)
    }

    /// No past visit lasted as long: an even spread over the hours ahead, with the energy of past visits.
    fn beyond(&self, visit: &Present, so_far: i64) -> Vec<(Rest, f64)> {
        let past = || self.past(visit.class).map(|p| &p.0);
        let count = size(past().count().max(1));
        let energy = past().map(|v| v.energy).sum::<f64>() / count;
        let charge = past().map(|v| v.charge).sum::<f64>() / count;
        (1..=20)
            .map(|i| {
                let rest = Rest {
                    length: so_far + floor(real(i) / 10.0 * BEYOND_HOURS * 3600.0),
                    energy,
                    charge: visit.rating.unwrap_or(charge.max(0.1)),
                    slack: visit.slack,
                };
                (rest, 1.0)
            })
            .collect()
    }
}

/// Odds for past visits that lasted at least `usual` seconds against shorter ones, so that half last as long; within [`ODDS`].
fn odds(all: &[Alike<'_>], usual: i64) -> f64 {
    let weight = |a: &Alike<'_>| a.weight;
    let total: f64 = all.iter().map(weight).sum();
    let longer = all.iter().filter(|a| a.length >= usual);
    let longer: f64 = longer.map(weight).sum();
    if longer > 0.0 {
        ((total - longer) / longer).clamp(1.0 / ODDS, ODDS)
    } else {
        1.0
    }
}

/// The newest of the visits at `places`, or as many spread evenly over the last days where those are of a few days only.
fn some<'a>(view: &View<'a>, places: &'a [usize]) -> impl Iterator<Item = Seen> + use<'a> {
    let view = *view;
    let newest = &places[places.len().saturating_sub(MOST)..];
    let start = |place: Option<&usize>| place.and_then(|p| view.at(*p)).map_or(0, |v| v.start);
    let enough = start(newest.last()) - start(newest.first()) >= FEW_DAYS * 86_400;
    let (from, count) = if enough || newest.len() == places.len() {
        (newest, newest.len())
    } else {
        (places, MOST)
    };
    (0..count).filter_map(move |i| view.at(from[i * from.len() / count]))
}

/// Stay of a past visit, seconds, had it begun when `visit` did and been stated as long: people leave by the clock as well as
/// after so many hours.
fn carried_over(past: &Seen, visit: &Present) -> i64 {
    let later = clock_after(past.clock, visit.clock);
    let stated = visit.said_end.zip(past.said_end);
    let more = stated.map_or(0, |(now, then)| (now - visit.start) - (then - past.start));
    let moved =
        LATER * real(later.clamp(-APART, APART)) + STATED_MORE * real(more.clamp(-APART, APART));
    (past.end - past.start + floor(moved)).max(60)
}

fn kernel(distance: f64, width: f64) -> f64 {
    (-0.5 * (distance / width).powi(2)).exp()
}

fn clock_kernel(a: i64, b: i64) -> f64 {
    kernel(real(clock_after(a, b).abs()) / 3600.0, CLOCK_HOURS)
}

/// Seconds by which the clock `a` is after `b`, the shorter way round: negative where it is before.
pub(super) const fn clock_after(a: i64, b: i64) -> i64 {
    const HALF_DAY: i64 = 43_200;
    (a - b + HALF_DAY).rem_euclid(2 * HALF_DAY) - HALF_DAY
}

fn said_kernel(said: Option<f64>, past: &Seen) -> f64 {
    let past_said = past.said_end.map(|e| real(e - past.start) / 3600.0);
    match (said, past_said) {
        (Some(a), Some(b)) => FLOOR + kernel(a - b, SAID_HOURS),
        (Some(_), None) => 0.05,
        (None, Some(_)) => 0.3,
        (None, None) => 1.0,
    }
}

/// Likeness of the energy asked for; the very same wish is most likely the same driver's.
fn wish_kernel(energy: Option<f64>, said: Option<f64>, past: &Seen) -> f64 {
    /// Hours: a minute and a half.
    const SAME_STAY: f64 = 0.025;
    let (Some(a), Some(b)) = (energy, past.said_energy) else {
        return 1.0;
    };
    let alike = 0.05 + kernel((a.max(1.0) / b.max(1.0)).ln(), SAID_ENERGY);
    if (a - b).abs() > 1e-3 {
        return alike;
    }
    let past_said = past.said_end.map(|e| real(e - past.start) / 3600.0);
    let same = said
        .zip(past_said)
        .is_some_and(|(a, b)| (a - b).abs() < SAME_STAY);
    alike * SAME_WISH * if same { SAME_WISH } else { 1.0 }
}

impl Rests {
    fn new(mut found: Vec<(Rest, f64)>) -> Self {
        found.sort_by_key(|f| f.0.length);
        let total: f64 = found.iter().map(|f| f.1).sum();
        let mut sum = 0.0;
        let cumulative = found
            .iter()
            .map(|f| {
                sum += f.1 / total;
                sum
            })
            .collect();
        Self {
            rests: found.into_iter().map(|f| f.0).collect(),
            cumulative,
        }
    }

    /// So many rests of equal weight in place of all.
    pub(crate) fn evenly(&self, count: usize) -> Vec<Rest> {
        (0..count)
            .map(|i| self.at((size(i) + 0.5) / size(count)))
            .collect()
    }

    /// The rest at level `level` of the length of stay.
    pub(crate) fn at(&self, level: f64) -> Rest {
        let place = self.cumulative.partition_point(|c| *c < level);
        self.rests[place.min(self.rests.len() - 1)]
    }
}
