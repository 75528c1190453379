//! From numbers to the schedule of one EVSE.

use fleet::schedule::{Schedule, Step};
use units::Power;

use super::reserve::{Lane, Way};
use super::{Grid, Plain, STEP, Vehicle};

/// What a vehicle that is plugged in was planned to do; `None` for one that is only expected.
pub(super) fn steered(
    grid: &Grid,
    vehicle: &Vehicle,
    lane: &Lane,
    reason: String,
) -> Option<Schedule> {
    let steps = (0..vehicle.len())
        .map(|j| Step {
            power: Power::from_kw(
                (lane.net[j] / vehicle.share[j].max(1e-6))
                    .clamp(-vehicle.discharge_kw, vehicle.charge_kw),
            ),
            up: Power::from_kw(lane.share.callable(Way::Up, j)),
            down: Power::from_kw(lane.share.callable(Way::Down, j)),
        })
        .collect();
    of(grid, vehicle, steps, reason)
}

/// A schedule of `steps` for a vehicle that is plugged in; `None` for one that is only expected.
pub(super) fn of(
    grid: &Grid,
    vehicle: &Vehicle,
    steps: Vec<Step>,
    reason: String,
) -> Option<Schedule> {
    Some(Schedule {
        evse: vehicle.evse.clone()?,
        session: vehicle.session.clone(),
        start: grid.at(vehicle.first),
        step_seconds: step_seconds(),
        steps,
        reason,
    })
}

/// The schedule of a vehicle of which nobody knows what it needs.
pub(super) fn plain(grid: &Grid, plain: &Plain) -> Schedule {
    Schedule {
        evse: plain.evse.clone(),
        session: Some(plain.session.clone()),
        start: grid.start(),
        step_seconds: step_seconds(),
        steps: vec![
            Step {
                power: Power::from_kw(plain.allowed_kw),
                ..Step::default()
            };
            grid.len()
        ],
        reason: "needs unknown: charges unsteered".to_owned(),
    }
}

fn step_seconds() -> u32 {
    u32::try_from(STEP.num_seconds()).unwrap_or(900)
}
