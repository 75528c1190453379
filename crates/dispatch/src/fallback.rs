//! What happens without a plan: every vehicle charges until it has what it needs, and none is discharged.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::schedule::{Schedule, Step};
use market::Plan;
use units::Power;

use crate::Envelope;

/// True if a plan was solved longer than `oldest` ago, or reaches no further than `now`.
#[must_use]
pub fn is_stale(plan: &Plan, now: DateTime<Utc>, oldest: TimeDelta) -> bool {
    let covers = plan.steps.iter().any(|s| s.interval.contains(now));
    now - plan.solved_at > oldest || !covers
}

/// Safe charging: as fast as allowed while energy is needed, then nothing. Holds no reserve.
#[must_use]
pub fn safe(envelope: &Envelope) -> Step {
    let power = if envelope.needs_energy {
        envelope.high
    } else {
        Power::ZERO
    };
    Step {
        power: power.clamp(envelope.low, envelope.high.max(envelope.low)),
        up: Power::ZERO,
        down: Power::ZERO,
    }
}

/// The step of `schedule` at `now`; `None` outside it.
#[must_use]
pub fn step_at(schedule: &Schedule, now: DateTime<Utc>) -> Option<Step> {
    let since = (now - schedule.start).num_seconds();
    if now < schedule.start || schedule.step_seconds == 0 {
        return None;
    }
    let index = usize::try_from(since / i64::from(schedule.step_seconds)).ok()?;
    schedule.steps.get(index).copied()
}
