//! Ways the time ahead may go, visit by visit.

use chrono::{DateTime, TimeDelta, Utc};
use units::{Energy, Interval};

use super::num::size;
use super::paths::{COUNT, Grid, NEED, Sums, Trip, VALUES};

/// One way the time ahead may go, visit by visit.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Probability; those of all ways add to 1.
    pub weight: f64,
    /// The visits.
    pub stays: Vec<Coming>,
}

/// A visit that may happen, or goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coming {
    /// Which of the visits that the log was made of it repeats or goes on with.
    pub source: usize,
    /// Whether it lasts already.
    pub lasts: bool,
    /// From plug-in to plug-out.
    pub span: Interval,
    /// Energy over the whole visit.
    pub energy: Energy,
}

impl Coming {
    /// `None` for a visit that would be over by `until`.
    pub(crate) fn of(trip: &Trip, until: DateTime<Utc>) -> Option<Self> {
        let start = DateTime::from_timestamp(trip.start, 0)?;
        let end = DateTime::from_timestamp(trip.end, 0)?;
        let later = end.max(until + TimeDelta::minutes(1));
        let lasts = start <= until;
        Some(Self {
            source: usize::try_from(trip.source).ok()?,
            lasts,
            span: Interval::try_new(start, if lasts { later } else { end }).ok()?,
            energy: Energy::from_kwh(trip.energy),
        })
    }
}

/// Vehicles and energy needed of every path, hour by hour, each in units of its mean.
pub(crate) fn profiles(paths: &[Vec<Trip>], grid: Grid) -> Vec<Vec<f64>> {
    let mut sums = Sums::new(grid);
    let mut profiles: Vec<Vec<f64>> = paths
        .iter()
        .map(|trips| {
            trips.iter().for_each(|t| sums.add(t));
            let mut values = vec![0.0; VALUES * grid.count];
            sums.take(&mut values);
            let rows = [COUNT, NEED].map(|row| &values[row * grid.count..(row + 1) * grid.count]);
            rows.concat().into_iter().map(f64::from).collect()
        })
        .collect();
    for row in 0..2 {
        let part = row * grid.count..(row + 1) * grid.count;
        let all = profiles.iter().flat_map(|p| &p[part.clone()]);
        let mean = all.sum::<f64>() / size(profiles.len().max(1) * grid.count);
        for profile in &mut profiles {
            for value in &mut profile[part.clone()] {
                *value /= mean.max(1e-9);
            }
        }
    }
    profiles
}
