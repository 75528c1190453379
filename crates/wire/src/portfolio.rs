//! `shoal.portfolio.v1`: plans with the schedules of the EVSEs.

use fleet::schedule::{Schedule, Step};
use market::plan::{Held, Plan, PlanStatus, PlanStep};
use units::{Currency, Power};

use crate::market::{PRODUCTS, product};
use crate::proto::portfolio::v1 as proto;
use crate::{WireError, field};

const STATUSES: [(PlanStatus, &str); 3] = [
    (PlanStatus::Optimal, "optimal"),
    (PlanStatus::Feasible, "feasible"),
    (PlanStatus::Fallback, "fallback"),
];

const fn status(status: PlanStatus) -> &'static str {
    match status {
        PlanStatus::Optimal => STATUSES[0].1,
        PlanStatus::Feasible => STATUSES[1].1,
        PlanStatus::Fallback => STATUSES[2].1,
    }
}

/// A plan with its schedules as they travel together.
#[must_use]
pub fn plan_message(plan: &Plan, schedules: &[Schedule]) -> proto::Plan {
    proto::Plan {
        id: plan.id.to_string(),
        area: plan.area.to_string(),
        solved_at_micros: plan.solved_at.timestamp_micros(),
        data_until_micros: plan.data_until.timestamp_micros(),
        status: status(plan.status).to_owned(),
        relative_gap: plan.relative_gap,
        expected_amount: plan.expected.map(|m| m.amount().to_string()),
        currency: plan
            .expected
            .map_or_else(|| plan.area.currency(), units::Money::currency)
            .code()
            .to_owned(),
        steps: plan.steps.iter().map(Into::into).collect(),
        schedules: schedules.iter().map(Into::into).collect(),
    }
}

/// The plan and the schedules of a message.
///
/// # Errors
/// [`WireError`] naming the field that is wrong.
pub fn plan_from_message(wire: proto::Plan) -> Result<(Plan, Vec<Schedule>), WireError> {
    let currency: Currency = field::text("currency", &wire.currency)?;
    let plan = Plan {
        id: field::text("id", &wire.id)?,
        area: field::text("area", &wire.area)?,
        solved_at: field::instant("solved_at_micros", wire.solved_at_micros)?,
        data_until: field::instant("data_until_micros", wire.data_until_micros)?,
        status: field::word("status", &wire.status, &STATUSES)?,
        relative_gap: field::optional_finite("relative_gap", wire.relative_gap)?,
        expected: wire
            .expected_amount
            .as_deref()
            .map(|a| field::money("expected_amount", a, currency))
            .transpose()?,
        steps: field::list("steps", wire.steps)?,
    };
    Ok((plan, field::list("schedules", wire.schedules)?))
}

impl From<(&Plan, &[Schedule])> for proto::Plan {
    fn from((plan, schedules): (&Plan, &[Schedule])) -> Self {
        plan_message(plan, schedules)
    }
}

impl TryFrom<proto::Plan> for (Plan, Vec<Schedule>) {
    type Error = WireError;
    fn try_from(wire: proto::Plan) -> Result<Self, WireError> {
        plan_from_message(wire)
    }
}

impl From<&PlanStep> for proto::PlanStep {
    fn from(step: &PlanStep) -> Self {
        Self {
            start_micros: step.interval.start().timestamp_micros(),
            end_micros: step.interval.end().timestamp_micros(),
            baseline_watts: step.baseline.watts(),
            low_watts: step.low.watts(),
            high_watts: step.high.watts(),
            held: step.held.iter().map(Into::into).collect(),
            reason: step.reason.clone(),
        }
    }
}

impl TryFrom<proto::PlanStep> for PlanStep {
    type Error = WireError;
    fn try_from(wire: proto::PlanStep) -> Result<Self, WireError> {
        Ok(Self {
            interval: field::interval(wire.start_micros, wire.end_micros)?,
            baseline: Power::from_watts(wire.baseline_watts),
            low: Power::from_watts(wire.low_watts),
            high: Power::from_watts(wire.high_watts),
            held: field::list("held", wire.held)?,
            reason: wire.reason,
        })
    }
}

impl From<&Held> for proto::Held {
    fn from(held: &Held) -> Self {
        Self {
            product: product(held.product).to_owned(),
            volume_watts: held.volume.watts(),
        }
    }
}

impl TryFrom<proto::Held> for Held {
    type Error = WireError;
    fn try_from(wire: proto::Held) -> Result<Self, WireError> {
        Ok(Self {
            product: field::word("product", &wire.product, &PRODUCTS)?,
            volume: field::size("volume_watts", wire.volume_watts)?,
        })
    }
}

impl From<&Schedule> for proto::Schedule {
    fn from(schedule: &Schedule) -> Self {
        Self {
            evse_id: schedule.evse.to_string(),
            session_id: schedule.session.as_ref().map(ToString::to_string),
            start_micros: schedule.start.timestamp_micros(),
            step_seconds: schedule.step_seconds,
            steps: schedule.steps.iter().map(Into::into).collect(),
            reason: schedule.reason.clone(),
        }
    }
}

impl TryFrom<proto::Schedule> for Schedule {
    type Error = WireError;
    fn try_from(wire: proto::Schedule) -> Result<Self, WireError> {
        Ok(Self {
            evse: field::text("evse_id", &wire.evse_id)?,
            session: field::optional_text("session_id", wire.session_id.as_deref())?,
            start: field::instant("start_micros", wire.start_micros)?,
            step_seconds: field::step("step_seconds", wire.step_seconds)?,
            steps: field::list("steps", wire.steps)?,
            reason: wire.reason,
        })
    }
}

impl From<&Step> for proto::ScheduleStep {
    fn from(step: &Step) -> Self {
        Self {
            power_watts: step.power.watts(),
            up_watts: step.up.watts(),
            down_watts: step.down.watts(),
        }
    }
}

impl TryFrom<proto::ScheduleStep> for Step {
    type Error = WireError;
    fn try_from(wire: proto::ScheduleStep) -> Result<Self, WireError> {
        Ok(Self {
            power: Power::from_watts(wire.power_watts),
            up: field::size("up_watts", wire.up_watts)?,
            down: field::size("down_watts", wire.down_watts)?,
        })
    }
}
