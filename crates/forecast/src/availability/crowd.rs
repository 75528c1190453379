//! Car parks that fill up: who finds no outlet waits or goes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::log::{LONGEST, View};
use super::num::{index, real};
use super::paths::Trip;

/// Longest wait for an outlet, seconds.
const PATIENCE: i64 = 7200;

/// Lets no more vehicles in than there are outlets: who finds none waits for the next to leave, or goes.
pub(crate) fn admit(trips: &mut Vec<Trip>, standing: usize, capacity: usize) {
    let mut new = trips.split_off(standing);
    new.sort_by_key(|t| t.start);
    let mut leaving: BinaryHeap<Reverse<i64>> = trips.iter().map(|t| Reverse(t.end)).collect();
    for mut trip in new {
        while leaving
            .peek()
            .is_some_and(|Reverse(end)| *end <= trip.start)
        {
            leaving.pop();
        }
        if leaving.len() >= capacity {
            let Some(Reverse(free)) = leaving.peek().copied() else {
                continue;
            };
            if free > trip.start + PATIENCE || free >= trip.end {
                continue;
            }
            leaving.pop();
            trip.start = free;
        }
        leaving.push(Reverse(trip.end));
        trips.push(trip);
    }
}

/// Hours looked back on for outlets.
const HOURS: i64 = 60 * 24;
/// Visits within that time from which on drivers are not followed one by one: a pool of thousands of places is not one queue.
const MOST_VISITS: usize = 300_000;

/// Outlets of every group that were seen in the last 60 days; `None` for one that never nearly fills up, and where a visit names no
/// outlet.
pub(crate) fn capacities(view: &View<'_>) -> Vec<Option<usize>> {
    let groups = usize::try_from(view.log().groups()).unwrap_or(0);
    let from = view.until - HOURS * 3600;
    if view.begun_since(from) > MOST_VISITS {
        return vec![None; groups];
    }
    let mut outlets: Vec<Option<BTreeSet<u32>>> = vec![Some(BTreeSet::new()); groups];
    for visit in view.ended(from) {
        let Some(seen) = place(visit.group).and_then(|g| outlets.get_mut(g)) else {
            continue;
        };
        match (visit.outlet, seen.as_mut()) {
            (Some(outlet), Some(seen)) => {
                seen.insert(outlet);
            }
            _ => *seen = None,
        }
    }
    outlets
        .into_iter()
        .zip(most(view, groups))
        .map(|(outlets, most)| {
            let outlets = outlets?.len();
            (most > 0 && most * 10 >= outlets * 8).then_some(outlets.max(most))
        })
        .collect()
}

fn place(group: u32) -> Option<usize> {
    usize::try_from(group).ok()
}

/// Most vehicles of every group that were plugged in together at a full hour.
fn most(view: &View<'_>, groups: usize) -> Vec<usize> {
    let hours = usize::try_from(HOURS).unwrap_or(0);
    // Hour 0 is the origin, and later ones lie before it.
    let ago = |at: i64| index(real((view.until - at).max(0)) / 3600.0);
    let mut change = vec![vec![0_i64; hours + 1]; groups];
    let spans = view
        .ended(view.until - HOURS * 3600 - LONGEST)
        .map(|v| (v.start, v.end, v.group));
    let lasting = view
        .present()
        .into_iter()
        .map(|p| (p.start, view.until + 1, p.group));
    for (start, end, group) in spans.chain(lasting) {
        let Some(change) = place(group).and_then(|g| change.get_mut(g)) else {
            continue;
        };
        // Plugged in `h` hours ago: start <= until - 3600 h < end.
        let first = if end > view.until { 0 } else { ago(end) + 1 };
        let last = ago(start);
        if first <= last && first < hours {
            change[first] += 1;
            change[last.min(hours - 1) + 1] -= 1;
        }
    }
    change
        .into_iter()
        .map(|change| {
            let mut now = 0;
            let counts = change.into_iter().map(|c| {
                now += c;
                now
            });
            usize::try_from(counts.max().unwrap_or(0)).unwrap_or(0)
        })
        .collect()
}
