//! Which sessions a site's limits join, and for how long.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::build::{Unit, plugged_in};
use super::site::Limit;

/// Vehicles without a limit that are looked at together.
const WITHOUT_LIMIT: usize = 8;

/// Sessions joined by limits that could bind, site by site and stretch by stretch; every other session with a few of its
/// like. In order of the time they are plugged in, so that neighbours share their lanes well.
pub(super) fn units(asked: &Asked<'_>) -> Vec<Unit> {
    let problem = asked.problem;
    let mut rows: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, limit) in asked.limits.iter().enumerate() {
        rows.entry(limit.site).or_default().push(row);
    }
    for rows in rows.values_mut() {
        rows.sort_by_key(|row| (asked.limits[*row].step, !asked.limits[*row].import));
    }
    let mut by_site: BTreeMap<usize, Vec<(usize, usize, usize)>> = BTreeMap::new();
    let (mut units, mut alone) = (Vec::new(), Vec::new());
    for index in asked.sessions {
        let session = &problem.sessions[*index];
        let window = plugged_in(session);
        // First and last limited step in which the session is plugged in.
        let touched = session.site.and_then(|site| {
            let rows = rows.get(&site)?;
            let step = |row: &usize| asked.limits[*row].step;
            let from = rows.partition_point(|row| step(row) < window.start);
            let to = rows.partition_point(|row| step(row) < window.end);
            (from < to).then(|| (site, step(&rows[from]), step(&rows[to - 1])))
        });
        match touched {
            Some((site, first, last)) => {
                by_site.entry(site).or_default().push((first, last, *index));
            }
            None => alone.push(*index),
        }
    }
    for (site, mut members) in by_site {
        members.sort_unstable();
        let mut waiting = rows.get(&site).into_iter().flatten().copied().peekable();
        let mut end = None;
        for (first, last, index) in members {
            if end.is_none_or(|end| first > end) {
                units.push(Unit::default());
            }
            end = end.max(Some(last));
            let Some(unit) = units.last_mut() else {
                continue;
            };
            unit.sessions.push(index);
            while let Some(row) =
                waiting.next_if(|row| end.is_some_and(|end| asked.limits[*row].step <= end))
            {
                let limit = &asked.limits[row];
                if limit.step < first {
                    // Nobody of these sessions is plugged in there.
                    continue;
                }
                unit.limits.push(Limit {
                    step: limit.step,
                    import: limit.import,
                    room: limit.room,
                });
                unit.rows.push(row);
            }
        }
    }
    alone.sort_by_cached_key(|index| {
        let window = plugged_in(&problem.sessions[*index]);
        (window.start, window.end, *index)
    });
    // Only limits bind the vehicles of a site to each other.
    units.extend(alone.chunks(WITHOUT_LIMIT).map(|sessions| Unit {
        sessions: sessions.to_vec(),
        ..Unit::default()
    }));
    units.sort_by_cached_key(|unit| {
        let windows = unit
            .sessions
            .iter()
            .map(|index| plugged_in(&problem.sessions[*index]));
        let several = unit.sessions.len().max(1);
        let first: usize = windows.clone().map(|window| window.start).sum();
        let length: usize = windows.map(|window| window.len()).sum();
        (
            unit.limits.is_empty(),
            first / several / 4,
            length / several,
            unit.sessions.first().copied(),
        )
    });
    units
}
