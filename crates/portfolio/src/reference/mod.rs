//! The reference problem R: its numbers, its solver and its independent checker.

mod problem;

pub use problem::{
    Answer, Block, Direction, Duals, Headroom, Held, Infeasible, Outcome, Problem, Reserve,
    Schedule, Session, SessionSchedule, Site,
};
