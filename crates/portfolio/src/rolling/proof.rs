//! The last word on reserve: every full call is played against the finished schedules, and what a vehicle could not deliver is
//! not counted on.
//!
//! ```text
//! schedule  |---- plan ----|== full call ==|---- plan, recovery ----|---- full power ----| leaves
//! ```

use super::grid::Grid;
use super::reserve::{Call, Lane, RECOVERY, Way};
use super::vehicle::{Envelope, Vehicle};

/// Energy by which the band or the promise may be missed before it counts, kWh.
const EXACT: f64 = 1e-6;

/// Takes back the reserve of every window whose full call a vehicle could not deliver.
pub(super) fn withdraw(
    calls: &[Call],
    vehicles: &[Vehicle],
    envelopes: &[Envelope],
    lanes: &mut [Lane],
    grid: &Grid,
) {
    for ((vehicle, envelope), lane) in vehicles.iter().zip(envelopes).zip(lanes) {
        // Each round takes a window to zero, so there are at most as many as windows.
        while let Some((k, way, from)) = undeliverable(calls, vehicle, envelope, lane, grid) {
            let to = (from + calls[k].window).min(lane.net.len());
            lane.share.of_mut(way)[k][from..to].fill(0.0);
        }
    }
}

/// The first call, way and window start that breaks the battery's band or the promise.
fn undeliverable(
    calls: &[Call],
    vehicle: &Vehicle,
    envelope: &Envelope,
    lane: &Lane,
    grid: &Grid,
) -> Option<(usize, Way, usize)> {
    for (k, call) in calls.iter().enumerate() {
        for way in [Way::Up, Way::Down] {
            let kw = &lane.share.of(way)[k];
            for from in 0..kw.len() {
                let to = (from + call.window).min(kw.len());
                if kw[from..to].iter().all(|kw| *kw == 0.0) {
                    continue;
                }
                if !delivers(vehicle, envelope, lane, grid, (way, kw, from..to)) {
                    return Some((k, way, from));
                }
            }
        }
    }
    None
}

/// Plays one full call: within the band while the old schedule runs, and gone with what was promised.
fn delivers(
    vehicle: &Vehicle,
    envelope: &Envelope,
    lane: &Lane,
    grid: &Grid,
    (way, kw, window): (Way, &[f64], std::ops::Range<usize>),
) -> bool {
    let lowest = vehicle.floor.min(vehicle.arrival);
    let top = vehicle.capacity.max(vehicle.arrival);
    let mut level = vehicle.arrival;
    for (j, (plan, called)) in lane.net.iter().zip(kw).enumerate() {
        let planned = j < window.end + RECOVERY;
        let net = if window.contains(&j) {
            match way {
                Way::Up => plan - called,
                Way::Down => plan + called,
            }
        } else if planned {
            *plan
        } else {
            vehicle.charge_kw * vehicle.share[j]
        };
        let factor = if net >= 0.0 {
            vehicle.charge_efficiency
        } else {
            1.0 / vehicle.discharge_efficiency
        };
        let wanted = level + grid.hours(vehicle.first + j) * net * factor;
        if wanted < lowest - EXACT || (planned && wanted > top + EXACT) {
            return false;
        }
        level = wanted.min(top);
    }
    let leaving = lane.energy.last().copied().unwrap_or(vehicle.arrival);
    vehicle.hours_beyond > 0.0 || level >= envelope.goal.min(leaving) - EXACT
}
