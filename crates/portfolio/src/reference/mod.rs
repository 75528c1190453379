//! The reference problem R: its numbers, its solver and its independent checker.
//!
//! ```text
//! Problem ── each session alone: dynamic programme ──────────────┬── within every limit ──> schedule, exact bound
//!    └── joined by binding limits and blocks: interior point ────┴── repaired ───────────> schedule, proven bound
//! ```

mod check;
mod columns;
mod coupling;
pub(crate) mod interior;
mod problem;
pub(crate) mod program;
mod repair;
mod solve;
mod structured;
#[cfg(test)]
mod tests;
mod together;
mod valid;

pub use check::{Row, Violation, Violations, check, net_cost, objective};
pub(crate) use problem::window_steps;
pub use problem::{
    Answer, Block, Direction, Duals, Headroom, Held, Infeasible, Outcome, Problem, Reserve,
    Schedule, Session, SessionSchedule, Site,
};
pub use solve::{Effort, solve, solve_on, solve_with};
pub use valid::ProblemError;
